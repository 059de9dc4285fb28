"""The stock SDK's provider and a clock, for tests of aggregations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource

from otel_perf.metrics import HdrHistogramAggregation
from tests.conftest import points_of

MEDIAN = frozenset({("quantile", "0.5")})
Stock = Callable[..., sdk.MeterProvider]


class Clock:
    """A monotonic clock that goes when it is told to; it does not begin at zero, which no real one does either."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def stock_provider(readers: Sequence[MetricReader], views: Sequence[View], **kwargs: Any) -> sdk.MeterProvider:
    """A provider of the stock SDK."""
    return sdk.MeterProvider(readers, resource=Resource({}), views=views, shutdown_on_exit=False, **kwargs)


def values_of(reader: InMemoryMetricReader, name: str) -> dict[frozenset[Any], Any]:
    """Collects, and answers the values of one metric by attributes."""
    points = points_of(reader.get_metrics_data())
    return {attributes: point.value for (found, attributes), point in points.items() if found == name}


def metrics_of(reader: InMemoryMetricReader) -> dict[str, Any]:
    """Collects, and answers all metrics by name."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def hdr(clock: Clock, quantiles: Sequence[float] = (0.5,), **kwargs: Any) -> HdrHistogramAggregation:
    """An aggregation on the clock of the test."""
    return HdrHistogramAggregation(quantiles=quantiles, clock=clock, **kwargs)
