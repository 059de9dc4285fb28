"""Responsible for the demo's one setting: how long it runs."""

from __future__ import annotations

from collections.abc import Mapping

_LONGEST_S = 86_400


class SettingError(ValueError):
    """A setting has a value that is not accepted; the message names it, its value and the accepted values."""


def run_seconds(environment: Mapping[str, str]) -> int | None:
    """Reads DEMO_SECONDS.

    Args:
        environment: The environment variables.

    Returns:
        How long to send requests, in seconds; None where the variable is unset or empty: until interrupted.

    Raises:
        SettingError: The value is not a whole number from 1 to 86400.
    """
    value = environment.get("DEMO_SECONDS", "")
    if not value:
        return None
    # The length is looked at first because int() is slow on, and since Python 3.11 refuses, thousands of digits.
    if value.isascii() and value.isdigit() and len(value) <= 9 and 1 <= int(value) <= _LONGEST_S:
        return int(value)
    raise SettingError(
        f"DEMO_SECONDS={value!r} is not accepted: "
        f"expected a whole number of seconds from 1 to {_LONGEST_S}, or nothing to run until Ctrl-C"
    )
