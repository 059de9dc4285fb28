"""The observer as a process of its own: real programs whose metrics arrive although they export nothing themselves."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.peers.observers import Application, application, descriptors, observers, until
from tests.peers.otlp import RECEIVERS, Receiver
from tests.peers.program import run
from tests.peers.prometheus import Scrape, free_port, scrape

COUNT = ("app", "app.count", frozenset({("kind", "x")}))
ENDED = "otel_perf.application.ended"


def to(receiver: Receiver, protocol: str = "http/protobuf") -> dict[str, Any]:
    """The variables that name a receiver."""
    return {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": _url(receiver, protocol), "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}


def _url(receiver: Receiver, protocol: str) -> str:
    return receiver.endpoint if protocol == "grpc" else f"{receiver.endpoint}/v1/metrics"


def ended(receiver: Receiver, reason: str) -> bool:
    """Whether the last export has told how the application ended."""
    key = ("otel_perf.observer", ENDED, frozenset({("reason", reason)}))
    return bool(receiver.requests) and key in receiver.points()


def scraped(port: int, running: Application) -> Scrape:
    """The first scrape that is answered."""
    found: list[Scrape] = []

    def is_answered() -> bool:
        assert running.process.poll() is None
        try:
            found.append(scrape(f"http://localhost:{port}/metrics"))
        except OSError:
            return False
        return True

    until(is_answered)
    return found[-1]


@pytest.mark.parametrize("protocol", sorted(RECEIVERS))
def test_what_was_recorded_arrives_after_the_end(protocol: str) -> None:
    """Counts, distributions, gauges, up-down counters and what callbacks report are exact in the last export, which tells of an orderly end."""
    with RECEIVERS[protocol]() as receiver, application("lives", **to(receiver, protocol)) as running:
        assert running.end() == ""
        assert running.process.returncode == 0
        receiver.wait_for(lambda: ended(receiver, "exit"))
        points = receiver.points()

        assert points[COUNT].as_int == 3
        assert (points["app", "app.size", frozenset()].count, points["app", "app.size", frozenset()].sum) == (1, 7)
        assert (points["app", "app.open", frozenset()].as_int, points["app", "app.set", frozenset()].as_int) == (2, 5)
        assert points["app", "app.calls", frozenset({("series", "always")})].as_int >= 1
        running.nothing_is_left()


def test_the_resource_is_that_of_the_application() -> None:
    """Attributes from the environment and those that are detected arrive, and the application's own instance id."""
    with RECEIVERS["grpc"]() as receiver:
        env = {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
        with application("lives", **env, **to(receiver, "grpc"), OTEL_METRIC_EXPORT_INTERVAL="200") as running:
            receiver.wait_for(lambda: len(receiver.requests) >= 2)
            running.end()
        sent = [request.resource_metrics[0].resource for request in receiver.requests]

        (attributes,) = {frozenset((item.key, str(item.value.string_value)) for item in one.attributes) for one in sent}
        assert {("service.name", "shop"), ("deployment.environment.name", "test")} <= attributes
        assert {"service.instance.id", "telemetry.auto.version"} <= {name for name, _ in attributes}


def test_a_scrape_is_exact_and_fresh() -> None:
    """Each scrape has the callbacks run: their values are new, and a series that they no longer report is gone."""
    port = free_port()
    with application("lives", OTEL_EXPORTER_PROMETHEUS_PORT=str(port)) as running:
        scrapes = [scraped(port, running) for _ in range(4)]
        running.end()

    assert {found.value("app_count_total", kind="x") for found in scrapes} == {3}
    calls = [found.value("app_calls", series="always") for found in scrapes]
    assert calls == [calls[0] + number for number in range(4)]
    odd = [found.total("app_calls", series="odd") for found in scrapes]
    assert odd == [number if number % 2 else 0 for number in calls]


def test_the_application_loads_no_exporter() -> None:
    """None of what exporters, the endpoint and their transports consist of is in the application."""
    with application("modules") as running:
        assert running.lines[0] == "loaded"


def test_the_application_has_no_child() -> None:
    """Waiting for any child is an error, as in a program without children."""
    with application("waits", OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port())) as running:
        assert running.lines[0] == "no child"
        running.observer()


def test_the_observer_has_nothing_of_the_application_open() -> None:
    """Of the application's descriptors it has the channel; its standard streams are nowhere, and its session is its own."""
    with application("lives", OTEL_METRICS_EXPORTER="none") as running:
        observer = running.observer()
        until(lambda: running.segment in descriptors(observer))
        theirs = [target for target in descriptors(observer) if target.startswith(("socket:", "pipe:"))]

        assert len(theirs) == 1
        assert set(theirs).isdisjoint(descriptors(os.getpid()))
        assert os.getsid(observer) != os.getsid(running.process.pid)


def test_after_kill_9_the_last_values_arrive() -> None:
    """Nothing that was recorded is lost, the death is reported, and neither segment nor process is left behind."""
    with RECEIVERS["grpc"]() as receiver, application("lives", **to(receiver, "grpc")) as running:
        running.observer()
        running.process.kill()
        receiver.wait_for(lambda: ended(receiver, "killed"))

        assert receiver.points()[COUNT].as_int == 3
        assert receiver.points()["app", "app.set", frozenset()].as_int == 5
        running.nothing_is_left()


def test_an_end_without_goodbye_is_a_death(tmp_path: Path) -> None:
    """A program that ends by `os._exit` exports all the same, and the observer's log tells so."""
    log = tmp_path / "observer.log"
    with (
        RECEIVERS["http/protobuf"]() as receiver,
        application("aborts", **to(receiver), OTEL_PERF_OBSERVER_LOG=str(log)) as running,
    ):
        receiver.wait_for(lambda: ended(receiver, "killed"))
        running.nothing_is_left()

    assert receiver.points()[COUNT].as_int == 3
    assert "without saying so" in log.read_text()


def test_an_observer_that_dies_is_replaced_three_times() -> None:
    """Each new one serves the same counts; after the fourth death within a minute one warning says that there is none any more."""
    port = free_port()
    with application("lives", OTEL_EXPORTER_PROMETHEUS_PORT=str(port)) as running:
        seen = set()
        for _ in range(4):
            observer = running.observer()
            assert scraped(port, running).value("app_count_total", kind="x") == 3
            seen.add(observer)
            os.kill(observer, signal.SIGKILL)
            until(lambda observer=observer: observer not in observers(running.segment))  # type: ignore[misc]
        assert running.process.stderr is not None
        warning = running.process.stderr.readline()

        assert len(seen) == 4
        assert "is not started again" in warning
        assert observers(running.segment) == []
        assert running.end() == ""


def test_signals_to_the_observer_do_not_lose_the_last_export() -> None:
    """What ends a whole group of processes at once leaves the observer the time to export."""
    with RECEIVERS["grpc"]() as receiver, application("lives", **to(receiver, "grpc")) as running:
        observer = running.observer()
        until(lambda: running.segment in descriptors(observer))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(observer, number)
        running.end()
        receiver.wait_for(lambda: ended(receiver, "exit"))

        assert receiver.points()[COUNT].as_int == 3


def test_a_silent_collector_does_not_delay_the_exit() -> None:
    """The application ends, and whoever reads its output to the end is done, while the observer still tries to export."""
    began = time.monotonic()
    run("-m", "tests.integration.apps.count", OTEL_METRICS_EXPORTER="none", OTEL_TRACES_EXPORTER="none")
    without = time.monotonic() - began
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with application("lives", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as running:
            observer = running.observer()
            until(lambda: running.segment in descriptors(observer))
            began = time.monotonic()
            running.end()
            delay = time.monotonic() - began

            assert observers(running.segment) == [observer]
            assert delay < without + 3
            running.nothing_is_left()


def test_forked_workers_are_counted() -> None:
    """What forked workers record is counted, also after their end, and what their callbacks report is added up."""
    port = free_port()
    env = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "OTEL_METRIC_EXPORT_INTERVAL": "50"}
    with application("forks", **env) as running:
        assert scraped(port, running).value("app_count_total", kind="x") == 9
        until(lambda: scraped(port, running).total("app_total") == 20)
        running.observer()
        running.end()
        running.nothing_is_left()


def test_a_worker_that_is_left_alone_is_observed() -> None:
    """The observer goes on after the end of the application that started it, for as long as a worker of the group lives."""
    with (
        RECEIVERS["http/protobuf"]() as receiver,
        application("orphans", **to(receiver), OTEL_METRIC_EXPORT_INTERVAL="100") as running,
    ):
        running.process.wait(20)
        arrived = len(receiver.requests)
        receiver.wait_for(lambda: len(receiver.requests) > arrived + 2)
        assert not ended(receiver, "exit")
        running.end()
        receiver.wait_for(lambda: ended(receiver, "exit"))

        assert receiver.points()[COUNT].as_int == 3
        running.nothing_is_left()


def test_a_program_that_is_started_attaches() -> None:
    """An instrumented child records into the same segment and starts no observer."""
    port = free_port()
    with application("starts", OTEL_EXPORTER_PROMETHEUS_PORT=str(port)) as running:
        assert scraped(port, running).value("app_count_total", kind="x") == 6
        running.observer()
        running.end()
        running.nothing_is_left()


def test_a_flush_is_an_export() -> None:
    """`force_flush` returns when the observer has exported what was recorded before, also right after the start."""
    with RECEIVERS["grpc"]() as receiver, application("flushes", **to(receiver, "grpc")) as running:
        assert running.lines[0] == "flushed True"
        assert receiver.points()[COUNT].as_int == 3


def test_a_program_that_replaces_itself_is_observed() -> None:
    """After `exec` everything that the new program records arrives, from the same segment or from one of its own."""
    with RECEIVERS["grpc"]() as receiver, application("executes", **to(receiver, "grpc")) as running:
        running.end()
        receiver.wait_for(
            lambda: any(points.get(COUNT) and points[COUNT].as_int in (3, 4) for points in _all(receiver))
        )


def test_a_program_that_starts_during_the_last_export_is_observed() -> None:
    """It does not join the segment that nobody reads any more: it has one of its own, and what it records arrives although it ends at once."""
    is_over = threading.Event()
    with RECEIVERS["grpc"]() as receiver, application("lives", **to(receiver, "grpc")) as first:
        keep = receiver.take

        def take(into: list[Any], request: Any) -> None:
            keep(into, request)
            is_over.wait(20)

        receiver.take = take  # type: ignore[method-assign]
        first.end()
        receiver.wait_for(lambda: ended(receiver, "exit"))
        with application("lives", OTEL_PERF_SEGMENT=first.segment, **to(receiver, "grpc")) as second:
            assert second.segment != first.segment
            assert second.end() == ""
            is_over.set()
            receiver.wait_for(lambda: len(receiver.requests) == 2 and ended(receiver, "exit"))

        assert [points[COUNT].as_int for points in _all(receiver)] == [3, 3]


def _all(receiver: Receiver) -> list[dict[Any, Any]]:
    return [receiver.points(number) for number in range(len(receiver.requests))]


def test_a_port_that_is_taken_is_one_line_in_the_application() -> None:
    """What the observer logs the application logs, under a name of its own."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        env = {"OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1", "OTEL_EXPORTER_PROMETHEUS_PORT": port}
        with application("lives", **env) as running:
            assert running.process.stderr is not None
            line = running.process.stderr.readline()

            assert "No Prometheus endpoint" in line
            assert port in line
            assert running.end() == ""


def test_off_leaves_the_segment_to_others() -> None:
    """Nothing is served or sent, and another program reads what was recorded."""
    from otel_perf import Segment  # noqa: PLC0415 - the other program is this one.

    port = free_port()
    with application("lives", OTEL_PERF_OBSERVER="off", OTEL_EXPORTER_PROMETHEUS_PORT=str(port)) as running:
        with pytest.raises(OSError, match="refused"):
            scrape(f"http://localhost:{port}/metrics")
        segment = Segment.attach(running.segment)

        assert [(found.name, found.snapshot.count) for found in segment.histograms()] == [("app.size", 1)]
        assert segment.lead()
        assert observers(running.segment) == []
        segment.close()
