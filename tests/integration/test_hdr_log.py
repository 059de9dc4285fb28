"""The interval log of real programs under ``opentelemetry-instrument``, read back by the ``hdrhistogram`` package."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.peers.hdr_log import intervals, totals
from tests.peers.observers import application, observers, until
from tests.peers.program import run

APP = ("-m", "tests.integration.apps.histogram")


@pytest.mark.parametrize("children", [0, 3])
def test_a_program_logs_every_recording(tmp_path: Path, children: int) -> None:
    """All recordings of a program and of its forked children are in the log, those of exit handlers too, in several intervals."""
    path = tmp_path / "latency.hlog"
    done = run(
        *APP,
        "3000",
        str(children),
        str(path),
        OTEL_METRICS_EXPORTER="none",
        OTEL_PERF_HDR_LOG=str(path),
        OTEL_PERF_HDR_LOG_INTERVAL="1",
    )

    assert (done.code, done.err) == (0, "")
    expected = (2 + children) * 1000
    assert totals(path) == {f"app.duration{{route=/{number}}}": expected for number in range(3)}
    assert len(intervals(path)) > 3


def test_a_short_program_logs_its_only_interval(tmp_path: Path) -> None:
    """A program that ends before the first interval is over has one line for each series, written at its end."""
    path = tmp_path / "latency.hlog"
    done = run(*APP, "300", "0", OTEL_METRICS_EXPORTER="none", OTEL_PERF_HDR_LOG=str(path))

    assert (done.code, done.err) == (0, "")
    assert [interval.get_total_count() for interval in intervals(path)] == [100, 100, 100]


def test_a_path_that_cannot_be_written_does_not_matter_to_the_program(tmp_path: Path) -> None:
    """A program whose log cannot be written runs and ends as without it, with one warning."""
    path = tmp_path / "missing" / "latency.hlog"
    done = run(*APP, "300", "0", OTEL_METRICS_EXPORTER="none", OTEL_PERF_HDR_LOG=str(path))

    assert done.code == 0
    assert done.err.count("OTEL_PERF_HDR_LOG") == 1


def test_no_log_loads_nothing() -> None:
    """Without a path neither the log nor the encoding is imported."""
    code = "import sys; print([m for m in sys.modules if m.startswith(('otel_perf.hdr', 'otel_perf.exporters.hdr', 'hdrh'))])"

    assert run("-c", code, OTEL_METRICS_EXPORTER="none").out == "[]\n"


def test_an_observer_process_logs_for_the_application(tmp_path: Path) -> None:
    """The log is the observer's: the application loads nothing of it, and has all its recordings in it after `kill -9`, those of a second observer once."""
    path = tmp_path / "latency.hlog"
    settings = {"OTEL_PERF_HDR_LOG": str(path), "OTEL_PERF_HDR_LOG_INTERVAL": "1", "OTEL_METRICS_EXPORTER": "none"}
    with application("logs", **settings) as running:
        first = running.observer()
        # The file is there before its first line.
        until(lambda: path.exists() and bool(totals(path)))
        os.kill(first, signal.SIGKILL)
        until(lambda: observers(running.segment) not in ([first], []))
        running.process.kill()
        running.nothing_is_left()

    assert "loaded" in running.lines
    assert totals(path) == {"app.size": 1}
