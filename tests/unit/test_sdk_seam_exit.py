"""What the SDK's providers, batch processors and periodic reader are made of, where our exit handler stands in for theirs."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_perf import _components, _exit

PROVIDERS: list[tuple[type[Any], str]] = [
    (sdk.MeterProvider, "_atexit_handler"),
    (TracerProvider, "_atexit_handler"),
    (LoggerProvider, "_at_exit_handler"),
]


@pytest.mark.parametrize(("kind", "name"), PROVIDERS)
def test_the_provider_keeps_its_handler_until_it_is_shut_down(kind: type[Any], name: str) -> None:
    """The attribute has what was registered with `atexit`, and is None after `shutdown`."""
    provider = kind()

    assert getattr(provider, name) == provider.shutdown
    provider.shutdown()
    assert getattr(provider, name) is None


def batch(kind: type[Any]) -> Any:
    """A batch processor of spans or log records."""
    exporter: type[Any] = InMemorySpanExporter if kind is BatchSpanProcessor else InMemoryLogRecordExporter
    return kind(exporter())


@pytest.mark.parametrize("kind", [BatchSpanProcessor, BatchLogRecordProcessor])
def test_the_thread_of_a_batch_processor_ends_when_it_is_asked(kind: type[Any]) -> None:
    """Setting `_shutdown` and `_worker_awaken` ends `_worker_thread`; the queue, the exporter and what stops further batches have their names."""
    processor = batch(kind)
    batches = processor._batch_processor
    assert (batches._shutdown, batches._shutdown_timeout_exceeded, len(batches._queue)) == (False, False, 0)
    assert hasattr(batches._exporter, "shutdown")
    batches._shutdown = True
    batches._worker_awaken.set()

    batches._worker_thread.join(20)
    assert not batches._worker_thread.is_alive()
    # Whoever calls this afterwards finds nothing to do.
    processor.shutdown()


def test_no_further_batch_is_sent_once_the_time_is_over() -> None:
    """`_shutdown_timeout_exceeded` keeps what is queued from being exported."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    processor = BatchSpanProcessor(exporter)
    provider.add_span_processor(processor)
    processor._batch_processor._shutdown_timeout_exceeded = True
    provider.get_tracer("t").start_span("s").end()
    provider.shutdown()

    assert exporter.get_finished_spans() == ()


class Exporter(MetricExporter):
    """Keeps the timeouts it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float] = []

    def export(self, metrics_data: Any, timeout_millis: float = 0, **_: Any) -> Any:  # noqa: ARG002 - the SDK's signature.
        self.timeouts.append(timeout_millis)

    def force_flush(self, timeout_millis: float = 0) -> bool:  # noqa: ARG002 - as above.
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        """Nothing to do."""


def test_the_thread_of_a_periodic_reader_collects_once_more_and_ends() -> None:
    """`_shutdown_event` ends `_daemon_thread` after a collection with the timeout `_export_interval_millis`."""
    exporter = Exporter()
    reader = PeriodicExportingMetricReader(exporter)
    provider = sdk.MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("m").create_counter("c").add(1)
    thread = reader._daemon_thread
    assert thread is not None
    assert reader._shutdown is False
    reader._export_interval_millis = 123
    reader._shutdown_event.set()

    thread.join(20)
    assert not thread.is_alive()
    assert exporter.timeouts == [123]
    reader.shutdown()
    assert reader._shutdown is True


def test_providers_keep_their_parts_where_they_are_looked_for() -> None:
    """`_metric_readers`, `_active_span_processor._span_processors` and `_multi_log_record_processor._log_record_processors` are what was added."""
    reader, spans, logs = InMemoryMetricReader(), batch(BatchSpanProcessor), batch(BatchLogRecordProcessor)
    meters = sdk.MeterProvider([reader], shutdown_on_exit=False)
    tracers, loggers = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(spans)
    loggers.add_log_record_processor(logs)

    found = [part for provider in (meters, tracers, loggers) for part in _exit._parts(provider)]
    assert found == [("metrics", reader, False), ("traces", spans, True), ("logs", logs, True)]
    for provider in (meters, tracers, loggers):
        provider.shutdown()


@pytest.mark.parametrize("signal", ["metrics", "traces", "logs"])
@pytest.mark.parametrize(("name", "holder"), [("otlp_proto_grpc", ""), ("otlp_proto_http", "_client")])
def test_otlp_exporters_keep_their_timeout_where_it_is_looked_for(signal: str, name: str, holder: str) -> None:
    """`_timeout`, of the exporter over gRPC or the client of that over HTTP, is in seconds."""
    ((kind, arguments),) = _components.load_exporters(signal, [name], {}).items()
    exporter = kind(timeout=7, **arguments)

    assert (getattr(exporter, holder) if holder else exporter)._timeout == 7
    exporter.shutdown()


def test_logging_knows_all_handlers() -> None:
    """`logging._handlerList` has a weak reference to each handler that was made, also to the one of last resort."""
    handler = logging.NullHandler()
    known = [reference() for reference in logging._handlerList]  # type: ignore[attr-defined]

    assert handler in known
    assert logging.lastResort in known
