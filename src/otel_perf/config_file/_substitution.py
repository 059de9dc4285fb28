"""Environment variables in the values of a configuration file, as the OpenTelemetry configuration specification has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ANY = re.compile(r"\$\{([^}]*)\}")
_VALID = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^\n]*))?")

ACCEPTED = "${NAME}, ${NAME:-default}, $$ for a dollar sign"


def is_reference(text: str) -> bool:
    """Whether a value is one reference and nothing else, so that its type is that of what it stands for."""
    return _ANY.fullmatch(text) is not None


def substitute(text: str, env: Mapping[str, str]) -> str:
    """Puts the values of environment variables in place of the references to them.

    Args:
        text: The value as it is in the file.
        env: The environment. What it says is not searched for references again.

    Returns:
        The value; a variable that is not set and has no default leaves nothing.

    Raises:
        ValueError: There is a reference that is none of the accepted ones.
    """

    def value_of(reference: re.Match[str]) -> str:
        valid = _VALID.fullmatch(reference[1])
        if valid is None:
            raise ValueError(reference[0])
        # An empty variable is as one that is not set, if there is a default.
        return env.get(valid[1]) or valid[2] or ""

    # A doubled dollar sign ends what may be a reference, wherever it stands.
    return "$".join(_ANY.sub(value_of, part) for part in text.split("$$"))
