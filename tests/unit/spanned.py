"""A tracer provider whose spans are measured, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from otel_perf import MeterProvider, SpanMetricsProcessor, measure_all_spans

MS = 1_000_000
"""A millisecond in nanoseconds."""


class Spanned:
    """Providers of spans and metrics, with a processor between them.

    Args:
        sampler: Sampler of the tracer provider.
        natively: Whether the spans that the sampler drops are measured without being recorded.
        **arguments: Further arguments of the processor.
    """

    def __init__(self, sampler: Sampler = ALWAYS_ON, *, natively: bool = False, **arguments: Any) -> None:
        resource = Resource({"service.name": "shop"})
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], resource, shutdown_on_exit=False)
        self.processor = SpanMetricsProcessor(self.meters, **arguments)
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler, resource, shutdown_on_exit=False)
        if natively:
            measure_all_spans(self.tracers, self.processor)
        else:
            self.tracers.add_span_processor(self.processor)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def segment(self) -> Any:
        """Where the spans are kept."""
        return self.meters.segment

    def tracer(self, scope: str = "test") -> Any:
        """A tracer of a scope."""
        return self.tracers.get_tracer(scope)

    def points(self) -> dict[str, list[Any]]:
        """Data points by metric, without what is said of otel_perf itself."""
        data = self.reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found.setdefault(metric.name, []).extend(metric.data.data_points)
        return found

    def attributes(self) -> dict[str, list[dict[str, Any]]]:
        """Attributes of the data points by metric."""
        return {name: [dict(point.attributes) for point in points] for name, points in self.points().items()}

    def close(self) -> None:
        """Shuts both providers down."""
        self.tracers.shutdown()
        self.meters.shutdown()


@contextmanager
def spanned(sampler: Sampler = ALWAYS_ON, **arguments: Any) -> Iterator[Spanned]:
    """As `Spanned`, closed at the end."""
    made = Spanned(sampler, **arguments)
    try:
        yield made
    finally:
        made.close()
