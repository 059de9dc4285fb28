"""The exit handler, called as the interpreter would, on providers with the SDK's parts and with others."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_perf import MeterProvider, _components, _exit


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of other tests is ended, and nothing is left for the interpreter's end."""
    monkeypatch.setattr(_exit, "_providers", [])
    monkeypatch.setattr(_exit, "_timeout_ms", None)
    yield
    atexit.unregister(_exit._end)


class Blocking(SpanExporter):
    """Blocks in every export until it is shut down, or for ever."""

    def __init__(self, *, ends: bool) -> None:
        self.entered, self.released, self.shut_down = threading.Event(), threading.Event(), 0
        self._ends = ends

    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002 - the SDK's signature.
        self.entered.set()
        self.released.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.shut_down += 1
        if self._ends:
            self.released.set()


class Foreign(SpanProcessor):
    """Keeps what it is told."""

    def __init__(self, told: list[Any]) -> None:
        self.told = told

    def shutdown(self) -> None:
        self.told.append("shutdown")


class Timed(Foreign):
    """Takes a timeout."""

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        self.told.append(timeout_millis)


class Failing(Foreign):
    """Cannot be shut down."""

    def shutdown(self) -> None:
        raise RuntimeError("no")


def traces(*processors: SpanProcessor) -> TracerProvider:
    """A provider that was taken."""
    provider = TracerProvider()
    for processor in processors:
        provider.add_span_processor(processor)
    _exit.take(provider)
    return provider


def test_what_is_queued_is_sent_and_the_exporter_closed() -> None:
    """The handler flushes the queue through the processor's own thread, and a second run does nothing."""
    exporter = InMemorySpanExporter()
    provider = traces(BatchSpanProcessor(exporter))
    _exit.at_exit(2000)
    provider.get_tracer("t").start_span("s").end()
    _exit._end()
    _exit._end()

    assert [span.name for span in exporter.get_finished_spans()] == ["s"]
    assert exporter._stopped


@pytest.mark.parametrize("ends", [True, False])
def test_who_is_stuck_is_given_up_in_one_line(ends: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Two exporters that block share the time, are shut down once, and one line says what is lost."""
    exporters = [Blocking(ends=ends), Blocking(ends=ends)]
    provider = traces(*map(BatchSpanProcessor, exporters))
    _exit.at_exit(50)
    provider.get_tracer("t").start_span("s").end()
    threads = [p._batch_processor._worker_thread for p in provider._active_span_processor._span_processors]  # type: ignore[attr-defined]
    _exit._end()

    (line,) = caplog.messages
    assert "OTEL_PERF_EXIT_TIMEOUT=50" in line
    assert line.count("traces (0 besides those of one request)") == 2
    assert [exporter.shut_down for exporter in exporters] == [1, 1]
    for exporter, thread in zip(exporters, threads, strict=True):
        exporter.released.set()
        thread.join(20)
        assert not thread.is_alive()


def test_parts_of_others_are_shut_down_after_the_stock_ones(caplog: pytest.LogCaptureFixture) -> None:
    """Foreign processors are told to shut down once all was sent, with the time that is left if they take one, even if one of them fails."""
    told: list[Any] = []

    class Exporter(InMemorySpanExporter):
        def shutdown(self) -> None:
            told.append("exporter")

    traces(Foreign(told), Failing(told), Timed(told), BatchSpanProcessor(Exporter()))
    _exit.at_exit(1000)
    _exit._end()

    assert told[:2] == ["exporter", "shutdown"]
    assert 0 < told[2] <= 1000
    assert caplog.messages == ["Failing could not be shut down"]


class Own(BatchSpanProcessor):
    """Derived from the SDK's, with more to do at the end."""

    ended = False

    def shutdown(self) -> None:
        self.ended = True
        super().shutdown()  # type: ignore[no-untyped-call]


def test_a_derived_processor_with_its_own_shutdown_has_it_called() -> None:
    """Its shutdown runs as it is, and sends what is queued."""
    exporter = InMemorySpanExporter()
    processor = Own(exporter)
    provider = traces(processor)
    _exit.at_exit(1000)
    provider.get_tracer("t").start_span("s").end()
    _exit._end()

    assert processor.ended
    assert [span.name for span in exporter.get_finished_spans()] == ["s"]


PROVIDERS: list[Callable[[], Any]] = [TracerProvider, LoggerProvider, lambda: MeterProvider([InMemoryMetricReader()])]


@pytest.mark.parametrize("make", PROVIDERS)
def test_who_was_shut_down_is_not_ended_again(make: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    """After the application has called `shutdown` the handler does nothing, and the provider is not kept alive."""
    provider = make()
    _exit.take(provider)
    assert _exit._providers == [provider]
    provider.shutdown()
    _exit.take(object())

    assert _exit._providers == []
    _exit._end()
    assert caplog.messages == []


@pytest.mark.parametrize("make", PROVIDERS)
def test_the_providers_own_handler_is_gone(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`take` unregisters what the provider has registered."""
    provider = make()
    gone: list[Any] = []
    monkeypatch.setattr(atexit, "unregister", gone.append)
    _exit.take(provider)
    monkeypatch.undo()

    assert gone == [provider.shutdown]
    provider.shutdown()


def test_there_is_one_handler_however_often_it_is_asked_for() -> None:
    """The handler is registered once; the last limit counts."""
    before = atexit._ncallbacks()
    _exit.at_exit(1000)
    _exit.at_exit(500)

    assert atexit._ncallbacks() == before + 1
    assert _exit._timeout_ms == 500


class Keeping(MetricExporter):
    """Keeps how long exports may take, and how often it was shut down."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float] = []
        self.shut_down = 0

    def export(self, metrics_data: Any, timeout_millis: float = 0, **_: Any) -> Any:  # noqa: ARG002 - as above.
        self.timeouts.append(timeout_millis)

    def force_flush(self, timeout_millis: float = 0) -> bool:  # noqa: ARG002 - as above.
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:  # noqa: ARG002 - as above.
        self.shut_down += 1


@pytest.mark.parametrize("interval", [60_000, float("inf")])
def test_the_last_collection_has_half_of_the_time_for_sending(
    interval: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The periodic reader collects once more, not for a whole interval; one that never collects by itself does not, as with the SDK."""
    exporter, pulled = Keeping(), InMemoryMetricReader()
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, interval), pulled])
    _exit.take(provider)
    _exit.at_exit(1000)
    provider.get_meter("m").create_counter("c").add(1)
    _exit._end()

    assert exporter.timeouts == ([390] if interval == 60_000 else [])
    assert exporter.shut_down == 1
    assert caplog.messages == []
    provider.get_meter("m")
    assert caplog.messages == ["A shutdown `MeterProvider` can not provide a `Meter`"]


def test_a_request_that_begins_later_ends_at_the_same_time() -> None:
    """The timeout of an exporter at exit is a number; added to a time, it is never later than the end, however late that time is."""
    before = time.time()
    timeout = _exit._Until(5.0)
    after = time.time()

    assert timeout == 5.0
    assert before + 5 <= before + timeout <= after + 5
    assert before + 5 <= before + 4 + timeout <= after + 5
    assert before + 5 <= before + 9 + timeout <= after + 5


@pytest.mark.parametrize("name", ["otlp_proto_grpc", "otlp_proto_http"])
def test_requests_end_with_the_exit(name: str) -> None:
    """An OTLP exporter may take as long as its own timeout or what is left, whichever is shorter; others are not touched."""
    ((kind, arguments),) = _components.load_exporters("traces", [name], {}).items()
    holders = []
    for own in (7, 0.5):
        exporter = kind(timeout=own, **arguments)
        _exit._hurry(exporter, 2.0)
        holders.append(exporter._client if name == "otlp_proto_http" else exporter)
        exporter.shutdown()
    foreign: Any = InMemorySpanExporter()
    foreign._timeout = 7
    _exit._hurry(foreign, 2.0)

    assert [holder._timeout for holder in holders] == [2.0, 0.5]
    assert foreign._timeout == 7
