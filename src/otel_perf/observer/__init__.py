"""What reads a segment and exports it: in threads of the application or, as ``python -m otel_perf.observer``, in a process of its own.

It also knows what the last seconds were like, see `percentiles`, `ewma` and `snapshot`. Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_perf.observer._default import ewma, percentiles, quantiles, self_metrics, snapshot, start
    from otel_perf.observer._seen import Average, ObservedSeries, Percentiles, Snapshot
    from otel_perf.observer._windows import Observer

__all__ = [
    "Average",
    "ObservedSeries",
    "Observer",
    "Percentiles",
    "Snapshot",
    "ewma",
    "percentiles",
    "quantiles",
    "self_metrics",
    "snapshot",
    "start",
]

_HOMES = {
    "Average": "otel_perf.observer._seen",
    "ObservedSeries": "otel_perf.observer._seen",
    "Observer": "otel_perf.observer._windows",
    "Percentiles": "otel_perf.observer._seen",
    "Snapshot": "otel_perf.observer._seen",
    "ewma": "otel_perf.observer._default",
    "percentiles": "otel_perf.observer._default",
    "quantiles": "otel_perf.observer._default",
    "self_metrics": "otel_perf.observer._default",
    "snapshot": "otel_perf.observer._default",
    "start": "otel_perf.observer._default",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
