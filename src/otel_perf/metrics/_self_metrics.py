"""What otel_perf says of itself: the `otel_perf.*` metrics.

Most of it is read off the segment when a reader collects, and is not recorded, so that it takes no room in the segment and is said once for the group
of processes. What only the application's process can tell is an observable instrument like any other.
"""

from __future__ import annotations

from itertools import repeat
from time import thread_time_ns
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.metrics import Observation

from otel_perf.segment import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from opentelemetry.metrics import CallbackOptions, MeterProvider

    from otel_perf.segment import Segment

Value: TypeAlias = "tuple[Mapping[str, Any], float]"
"""Attributes and value of a point."""
Made: TypeAlias = "tuple[str, str, str, str, list[Value]]"
"""Name, description, unit, class name of the kind, and points."""

_COUNTER = "ObservableCounter"
_UP_DOWN_COUNTER = "ObservableUpDownCounter"
_GAUGE = "ObservableGauge"
_SAMPLE = 256


class SelfMetrics:
    """Reads the state of a segment, and of what was registered, at each collection.

    One call takes about 20 microseconds and a few loads for each series of the segment.

    Args:
        segment: The segment.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._sources: list[Callable[[], Iterable[Made]]] = []

    def add(self, source: Callable[[], Iterable[Made]]) -> None:
        """Adds a source of further metrics, for example the results of an exporter.

        Args:
            source: Called at each collection.
        """
        self._sources.append(source)

    def __call__(self) -> list[Made]:
        """Returns what `_core.Collector.collect` takes as `made`: each metric once, with the points of all sources that have some."""
        made = {metric[0]: metric for metric in _of(self._segment)}
        for source in self._sources:
            for name, description, unit, kind, values in source():
                known = made.get(name)
                before = known[4] if known is not None else []
                made[name] = (name, description, unit, kind, [*before, *values])
        return list(made.values())


def _of(segment: Segment) -> Iterator[Made]:
    status = segment.status()
    parts: list[Value] = [({"part": part}, size) for part, size in segment.memory_usage().items()]
    yield "otel_perf.memory.usage", "Bytes of the segment by part", "By", _UP_DOWN_COUNTER, parts
    yield "otel_perf.memory.limit", "Bytes of the segment", "By", _UP_DOWN_COUNTER, [({}, status["size"])]
    yield "otel_perf.workers", "Processes that record", "{process}", _UP_DOWN_COUNTER, [({}, len(status["workers"]))]
    yield "otel_perf.streams", "Metric streams", "{stream}", _UP_DOWN_COUNTER, [({}, status["streams"])]
    overflowing: list[Value] = [({}, status["overflowing"])]
    yield (
        "otel_perf.streams.overflowing",
        "Metric streams with recordings in their overflow series",
        "{stream}",
        _UP_DOWN_COUNTER,
        overflowing,
    )
    yield "otel_perf.series", "Series", "{series}", _UP_DOWN_COUNTER, [({}, status["series"])]
    limit: list[Value] = [({}, status["series_limit"])]
    yield "otel_perf.series.limit", "Series that the segment has room for", "{series}", _UP_DOWN_COUNTER, limit
    digits: list[Value] = [({"digits": step}, count) for step, count in status["precision"].items()]
    yield (
        "otel_perf.histogram.series",
        "Histogram series by the significant digits that their coarsest part keeps",
        "{series}",
        _UP_DOWN_COUNTER,
        digits,
    )
    drops: list[Value] = [({"reason": reason}, count) for reason, count in status["drops"].items()]
    yield (
        "otel_perf.drops",
        "Recordings that were not taken as asked, by reason",
        "{recording}",
        _COUNTER,
        drops,
    )


def observe_recordings(provider: MeterProvider) -> None:
    """Makes the gauge of what a recording costs in this process, sampled at each collection.

    Args:
        provider: Makes the instruments.
    """
    meter = provider.get_meter("otel_perf", VERSION)
    counter = meter.create_counter(
        "otel_perf.recording.samples", "{recording}", "Recordings made to measure what a recording costs"
    )
    attributes = {"otel_perf.sample": "counter"}

    def measure(_options: CallbackOptions) -> Iterator[Observation]:
        start = thread_time_ns()
        for _ in repeat(None, _SAMPLE):
            counter.add(1, attributes)
        yield Observation((thread_time_ns() - start) / _SAMPLE * 1e-9)

    meter.create_observable_gauge(
        "otel_perf.recording.duration",
        [measure],
        "s",
        f"CPU time of an addition with one attribute, the call included: mean of {_SAMPLE} just made",
    )
