"""The observer that `percentiles`, `ewma` and `snapshot` of the package ask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_perf
from otel_perf import MeterProvider, Observer, Segment, observer
from otel_perf.config import Settings
from otel_perf.observer import _default
from tests.conftest import points_of
from tests.peers.observers import until
from tests.peers.program import run

SETTINGS = Settings(windows=(1, 60))


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which nobody observes; who does at the end of the test is stopped."""
    monkeypatch.setattr(_default, "_default", None)
    yield
    if _default._default is not None:
        _default._default.stop()


QUESTIONS: list[Callable[[], object]] = [
    lambda: otel_perf.percentiles("app.size"),
    lambda: otel_perf.ewma("app.size"),
    otel_perf.snapshot,
]


@pytest.mark.parametrize("ask", QUESTIONS)
def test_where_nothing_observes_the_remedy_is_named(ask: Callable[[], object]) -> None:
    """The error says how to have an observer, by configuration and by code."""
    with pytest.raises(RuntimeError, match=r"nothing observes.*OTEL_PERF_OBSERVER.*Observer\(provider\.segment\)"):
        ask()


def test_the_package_asks_the_observer_that_was_started(provider: MeterProvider) -> None:
    """In the process that leads it looks from the start; answers have the windows of the settings."""
    size = provider.get_meter("app").create_histogram("app.size")
    started = observer.start(provider.segment, SETTINGS)
    assert started.is_running
    size.record(7, {"a": 1})
    started.tick()

    assert otel_perf.percentiles("app.size", {"a": 1}, window=1, scope="app").max == pytest.approx(7, rel=1e-3)
    assert otel_perf.ewma("app.size", {"a": 1}, tau=900, of="mean") == pytest.approx(7)
    assert [window.window for window in otel_perf.snapshot().series[0].windows] == [1, 60]
    with pytest.raises(ValueError, match="window=10 is not accepted"):
        otel_perf.percentiles("app.size", window=10)


def test_another_start_is_the_same_observer(provider: MeterProvider) -> None:
    """Unless it is to keep other windows, or those of another segment; the observer before is stopped then."""
    first = observer.start(provider.segment, SETTINGS)
    assert observer.start(provider.segment, SETTINGS) is first
    second = observer.start(provider.segment, Settings())

    assert second is not first
    assert (first.is_running, second.is_running) == (False, True)


A_WORKER = """
import sys, otel_perf
from otel_perf import Segment, observer
from otel_perf.config import Settings
worker = observer.start(Segment.attach(sys.argv[1]), Settings())
print(worker.is_running)
print(otel_perf.percentiles("app.size").count, worker.is_running)
"""


def test_who_does_not_lead_looks_when_it_is_asked(provider: MeterProvider) -> None:
    """A worker of a group that another process leads spends nothing until somebody asks it, and then knows all series of the group."""
    assert provider.segment.lead()
    provider.get_meter("app").create_histogram("app.size").record(1)
    done = run("-c", A_WORKER, str(provider.segment.path), wrapper=False)

    assert (done.out, done.err) == ("False\n0 True\n", "")


def test_who_leads_later_looks_from_then_on(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """The observer of the new leader begins with its first collection, whose metrics tell of it."""
    provider.report_on_itself().add(observer.self_metrics)
    started = observer.start(provider.segment, SETTINGS)
    started.stop()
    points = points_of(reader.get_metrics_data())

    assert started.is_running
    assert ("otel_perf.observer.lag", frozenset()) in points
    assert ("otel_perf.cpu.time", frozenset({("part", "observer")})) in points


def test_nobody_that_observes_has_no_metrics() -> None:
    """Where there is no observer there is nothing to tell of it."""
    assert observer.self_metrics() == []


def test_without_a_thread_there_is_one_line(
    provider: MeterProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the system gives no thread, the application starts without windows."""

    def fail(_self: Observer, _interval_s: float = 1.0) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Observer, "start", fail)
    monkeypatch.setattr(_default, "_has_failed", False)
    started = observer.start(provider.segment, SETTINGS)
    started.tick()

    assert otel_perf.snapshot().series == ()
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.WARNING, "No windows are kept, because there is no thread for it: can't start new thread")
    ]


A_CHILD = """
import os, time, otel_perf
otel_perf.configure()
from opentelemetry import metrics
size = metrics.get_meter("app").create_histogram("app.size")
size.record(1)
otel_perf.snapshot()
if os.fork() == 0:
    print(otel_perf.percentiles("app.size").count, flush=True)
    raise SystemExit
print(os.wait()[1], flush=True)
"""


def test_a_forked_worker_answers_too() -> None:
    """It begins anew with the first question, and ends in the ordinary way."""
    done = run("-c", A_CHILD, wrapper=False, OTEL_METRICS_EXPORTER="none")

    assert (done.out, done.err) == ("0\n0\n", "")


def test_a_stopped_observer_goes_on_with_the_next_question(provider: MeterProvider) -> None:
    """The default observer is there for whoever asks, also after somebody has stopped it."""
    size = provider.get_meter("app").create_histogram("app.size")
    size.record(1)
    started = observer.start(provider.segment, SETTINGS)
    started.stop()
    otel_perf.percentiles("app.size")
    ticks = started.statistics()["ticks"]

    assert isinstance(started.segment, Segment)
    until(lambda: started.statistics()["ticks"] > ticks)
