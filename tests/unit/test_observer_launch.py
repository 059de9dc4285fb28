"""Where an observer process can be started, and in which environment."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import otel_perf
from otel_perf.observer import _launch
from otel_perf.observer._channel import Channel

HOME = str(Path(otel_perf.__file__).parents[1])
NAMED: Any = SimpleNamespace(path=Path("/dev/shm/otel_perf-x"))


def test_a_named_segment_can_be_observed() -> None:
    """The interpreter that runs the tests is a Python, and not the first process of a container."""
    assert _launch.why_not(NAMED) is None


def test_private_memory_cannot_be_observed() -> None:
    """The reason is told in words."""
    private: Any = SimpleNamespace(path=None)

    assert "private memory" in str(_launch.why_not(private))


@pytest.mark.parametrize("executable", ["", None, "/usr/bin/uwsgi"])
def test_an_embedded_interpreter_starts_nothing(executable: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `sys.executable` is no Python the reason names it."""
    monkeypatch.setattr(sys, "executable", executable)

    assert repr(executable) in str(_launch.why_not(NAMED))


@pytest.mark.parametrize("name", ["python", "python3.13", "pypy3", "Python"])
def test_interpreters_go_by_several_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is a Python."""
    monkeypatch.setattr(sys, "executable", f"/usr/bin/{name}")

    assert _launch.why_not(NAMED) is None


@pytest.mark.parametrize(
    ("pid", "parent", "first", "starts"),
    [
        (1, 0, "python", False),
        (7, 1, "tini", False),
        (7, 1, "docker-init", False),
        (7, 1, "systemd", True),
        (7, 5, "tini", True),
    ],
)
def test_a_container_that_ends_with_the_application_has_no_observer(
    pid: int, parent: int, first: str, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All processes end with the first one of a container, so the observer would never come to its last export."""
    monkeypatch.setattr(os, "getpid", lambda: pid)
    monkeypatch.setattr(os, "getppid", lambda: parent)
    monkeypatch.setattr(Path, "read_text", lambda _, **__: f"{first}\n")

    assert (_launch.why_not(NAMED) is None) is starts


def test_the_environment_does_not_instrument_the_observer() -> None:
    """The wrapper's directory is not on the path; the others are, as they are from the application's directory."""
    wrapper = "/lib/site-packages/opentelemetry/instrumentation/auto_instrumentation"
    env = {"PYTHONPATH": os.pathsep.join([wrapper, "relative", "", "/absolute"]), "OTHER": "stays"}
    found = _launch.environment(env)

    assert found["PYTHONPATH"].split(os.pathsep)[:2] == [str(Path.cwd() / "relative"), "/absolute"]
    assert found["OTHER"] == "stays"


def test_the_environment_has_what_finds_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory is on the path once, and not at all where the interpreter looks by itself."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/elsewhere")
    assert _launch.environment({})["PYTHONPATH"] == HOME
    assert _launch.environment({"PYTHONPATH": HOME})["PYTHONPATH"] == HOME
    monkeypatch.setattr(sysconfig, "get_path", lambda _: HOME)

    assert _launch.environment({})["PYTHONPATH"] == ""


@pytest.mark.parametrize("variable", ["PYTHONINSPECT", "PYTHONWARNINGS"])
def test_what_would_keep_the_observer_from_ending_well_is_left_out(variable: str) -> None:
    """It neither becomes interactive nor fails because of a warning."""
    assert variable not in _launch.environment({variable: "error"})


def test_a_program_that_cannot_be_started_is_an_error_that_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both ends of the channel are closed."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    ours, theirs = Channel.pair()
    with pytest.raises(FileNotFoundError):
        _launch.launch(NAMED.path, {}, ours, theirs)

    assert (ours.fileno(), theirs.fileno()) == (-1, -1)
