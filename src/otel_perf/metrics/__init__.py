"""Metrics: a meter provider whose instruments record into the segment, for all stock readers and exporters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_perf._core import (
    BoundCounter,
    BoundGauge,
    BoundHistogram,
    BoundUpDownCounter,
    Counter,
    Gauge,
    Histogram,
    UpDownCounter,
)
from otel_perf.metrics import _proxies as _proxies  # Completes the API's proxies.
from otel_perf.metrics._instruments import memory_usage
from otel_perf.metrics._meter import Meter
from otel_perf.metrics._provider import MeterProvider

if TYPE_CHECKING:
    from otel_perf.metrics.aggregation import EwmaAggregation, HdrHistogramAggregation

__all__ = [
    "BoundCounter",
    "BoundGauge",
    "BoundHistogram",
    "BoundUpDownCounter",
    "Counter",
    "EwmaAggregation",
    "Gauge",
    "HdrHistogramAggregation",
    "Histogram",
    "Meter",
    "MeterProvider",
    "UpDownCounter",
    "memory_usage",
]


def __getattr__(name: str) -> Any:
    # Nearly no program needs them, and every start would pay for their imports.
    if name in {"EwmaAggregation", "HdrHistogramAggregation"}:
        from otel_perf.metrics import aggregation  # noqa: PLC0415 - see above.

        return getattr(aggregation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
