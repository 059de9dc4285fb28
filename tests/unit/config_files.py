"""Files that OTEL_CONFIG_FILE names, what is wrong with them, and scripts that they configure."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from otel_perf.config import Settings
from otel_perf.config_file import ConfigurationFileError
from otel_perf.config_file import sdk as config_sdk
from tests.peers.program import Finished, run

HEAD = 'file_format: "1.0"\n'
METRICS = "meter_provider: {readers: [{periodic: {exporter: {console: }}}]}\n"


def refused(tmp_path: Path, text: str, **arguments: Any) -> list[str]:
    """The problems of a configuration, without the name of its file."""
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationFileError) as caught:
        config_sdk.configure(str(file), Settings(), arguments)
    return [line.removeprefix(f"{file}:").strip() for line in caught.value.problems]


def traces(exporter: str = "{console: }", more: str = "") -> str:
    """A file whose only section is that of traces."""
    return f"{HEAD}tracer_provider:\n  processors: [{{batch: {{exporter: {exporter}}}}}]\n  {more}\n"


def reader(text: str) -> str:
    """A file whose only section is that of metrics, with one reader."""
    return f"{HEAD}meter_provider:\n  readers:\n  - {text}\n"


def script(tmp_path: Path, text: str, code: str, **env: Any) -> Finished:
    """Runs a script that is configured by a file."""
    file = tmp_path / "c.yaml"
    file.write_text(textwrap.dedent(text).lstrip())
    return run("-c", textwrap.dedent(code), wrapper=False, OTEL_CONFIG_FILE=str(file), **env)
