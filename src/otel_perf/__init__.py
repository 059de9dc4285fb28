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
    from otel_perf.segment import HistogramSeries, HistogramSnapshot, Segment, SegmentError, find

__all__ = [
    "HistogramSeries",
    "HistogramSnapshot",
    "MeterProvider",
    "Segment",
    "SegmentError",
    "configure",
    "find",
    "memory_usage",
]

_HOMES = {
    "HistogramSeries": "otel_perf.segment",
    "HistogramSnapshot": "otel_perf.segment",
    "MeterProvider": "otel_perf.metrics",
    "Segment": "otel_perf.segment",
    "SegmentError": "otel_perf.segment",
    "configure": "otel_perf.distro",
    "find": "otel_perf.segment",
    "memory_usage": "otel_perf.metrics",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
