"""Processes that multiprocessing spawns start instrumented, and only those that run the application."""

from __future__ import annotations

import pickle
import sys
from multiprocessing import spawn

import pytest

from otel_perf import _spawned
from otel_perf.distro import OtelPerfConfigurator


def test_what_a_spawned_process_is_prepared_with_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preparation keeps what multiprocessing puts there; unpickled, what is more in it initialises, and only where nobody has."""
    from opentelemetry.instrumentation import auto_instrumentation  # noqa: PLC0415 - patched here.

    started: list[str] = []
    before = spawn.get_preparation_data("worker")
    monkeypatch.setattr(spawn, "get_preparation_data", spawn.get_preparation_data)
    monkeypatch.setattr(auto_instrumentation, "initialize", lambda: started.append("once"))
    _spawned._follow(spawn)
    prepared = spawn.get_preparation_data("worker")
    # Another test of this process may have it followed already.
    before.pop("otel_perf", None)
    assert {name: prepared[name] for name in before} == before

    for has_run in (True, False):
        monkeypatch.setattr(OtelPerfConfigurator, "_has_run", has_run)
        pickle.loads(pickle.dumps(prepared["otel_perf"]))
    assert started == ["once"]


def test_a_spawned_process_in_which_nothing_can_be_started_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever fails there is one log entry."""

    def fail() -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(_spawned, "start", fail)
    pickle.loads(pickle.dumps(_spawned._Start()))
    assert [record.getMessage() for record in caplog.records] == ["This process is not instrumented"]


def test_the_tracker_of_multiprocessing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known by its command line, and nothing is configured in it."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "from multiprocessing.resource_tracker import main;main(5)"])
    monkeypatch.setattr(_spawned, "follow_multiprocessing", lambda: pytest.fail("it was configured"))
    assert _spawned.is_a_tracker()
    OtelPerfConfigurator().configure()

    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "shop", "multiprocessing.resource_tracker"])
    assert not _spawned.is_a_tracker()
