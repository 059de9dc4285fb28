"""Files with views, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opentelemetry.sdk.metrics import view as views

from otel_perf.config_file import ConfigurationFileError

Load = Callable[..., list[views.View]]


def refused(load: Load, text: str | bytes, name: str = "v.yaml", **env: str) -> list[str]:
    """The problems of a file, without its name."""
    with pytest.raises(ConfigurationFileError) as caught:
        load(text, name, **env)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(line.startswith(f"{name}:") and line.isprintable() for line in caught.value.problems)
    return [line.removeprefix(f"{name}:") for line in caught.value.problems]


def one(selector: str = "{instrument_name: i}", stream: str = "{}") -> str:
    """A file with one view."""
    return f"- selector: {selector}\n  stream: {stream}\n"
