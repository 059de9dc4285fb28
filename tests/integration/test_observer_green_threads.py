"""An observer process and applications whose threads, locks and sockets gevent or eventlet have replaced, before or after it was started."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.integration.test_green_threads import APP, NONE, RECORDED, patched, program, seen
from tests.peers.observers import observers, until
from tests.peers.otlp import http_receiver
from tests.peers.program import run


def segments() -> set[str]:
    """Files of the segments that there are."""
    return {str(path) for path in Path("/dev/shm").glob("otel_perf-*")}


@patched
def test_greenlets_are_counted_and_their_callbacks_asked(how: str, tmp_path: Path) -> None:
    """Everything that greenlets record arrives, with what callbacks report that give way, also after an observer has died."""
    file = tmp_path / "enough"
    before = segments()
    with http_receiver() as receiver, ThreadPoolExecutor(1) as pool:
        env: dict[str, Any] = {
            "OTEL_PERF_OBSERVER": "process",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{receiver.endpoint}/v1/metrics",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
        }
        running = pool.submit(program, how, str(file), **env)
        try:
            receiver.wait_for(lambda: seen(receiver) >= 2)
            (segment,) = {path for path in segments() - before if observers(path)}
            for observer in observers(segment):
                os.kill(observer, signal.SIGKILL)
            since = len(receiver.requests)
            receiver.wait_for(
                lambda: ("app", "g", frozenset()) in receiver.points() and len(receiver.requests) > since + 2
            )
        finally:
            file.touch()
        done = running.result()

        assert (done.code, done.out.splitlines()[-1]) == (0, "seen"), done.err
        ended = ("otel_perf.observer", "otel_perf.application.ended", frozenset({("reason", "exit")}))
        receiver.wait_for(lambda: ended in receiver.points())
        assert receiver.points()["app", "c", frozenset()].as_int == 2 * RECORDED
        assert receiver.points()["app", "h", frozenset()].count == 2 * RECORDED
        until(lambda: not observers(segment))


def test_nothing_is_loaded_that_should_have_been_patched_first() -> None:
    """The application's side of the observer loads nothing that gevent warns of."""
    done = run("-m", APP, "gevent", "collect", OTEL_PERF_OBSERVER="process", OTEL_METRICS_EXPORTER="none", **NONE)

    assert done.out.splitlines()[0] == "warned"
    assert done.code == 0, done.err
