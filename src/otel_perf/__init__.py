"""otel_perf: an OpenTelemetry distribution with a native metrics core.

Names are imported when they are first used: ``opentelemetry-instrument`` imports this package in its launcher only to learn
which environment variables there are.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_perf.distro import configure
    from otel_perf.metrics import MeterProvider, memory_usage
    from otel_perf.observer import Observer, Percentiles, Snapshot, ewma, percentiles, snapshot
    from otel_perf.segment import HistogramSeries, HistogramSnapshot, Segment, SegmentError, find
    from otel_perf.trace import (
        RecordAllSampler,
        SpanMetricsProcessor,
        active_spans,
        measure_all_spans,
        slowest_spans,
    )

__all__ = [
    "HistogramSeries",
    "HistogramSnapshot",
    "MeterProvider",
    "Observer",
    "Percentiles",
    "RecordAllSampler",
    "Segment",
    "SegmentError",
    "Snapshot",
    "SpanMetricsProcessor",
    "active_spans",
    "configure",
    "ewma",
    "find",
    "measure_all_spans",
    "memory_usage",
    "percentiles",
    "slowest_spans",
    "snapshot",
]

_HOMES = {
    "HistogramSeries": "otel_perf.segment",
    "HistogramSnapshot": "otel_perf.segment",
    "MeterProvider": "otel_perf.metrics",
    "Observer": "otel_perf.observer",
    "Percentiles": "otel_perf.observer",
    "RecordAllSampler": "otel_perf.trace",
    "Segment": "otel_perf.segment",
    "SegmentError": "otel_perf.segment",
    "Snapshot": "otel_perf.observer",
    "SpanMetricsProcessor": "otel_perf.trace",
    "active_spans": "otel_perf.trace",
    "configure": "otel_perf.distro",
    "ewma": "otel_perf.observer",
    "find": "otel_perf.segment",
    "measure_all_spans": "otel_perf.trace",
    "memory_usage": "otel_perf.metrics",
    "percentiles": "otel_perf.observer",
    "slowest_spans": "otel_perf.trace",
    "snapshot": "otel_perf.observer",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
