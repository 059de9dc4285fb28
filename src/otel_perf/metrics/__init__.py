"""Metrics: a meter provider whose instruments record into the segment, for all stock readers and exporters."""

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
from otel_perf.metrics._instruments import memory_usage
from otel_perf.metrics._meter import Meter
from otel_perf.metrics._provider import MeterProvider
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
