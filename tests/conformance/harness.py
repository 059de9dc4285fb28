"""Runs the same calls on the stock SDK's meter provider and on ours, and brings what is exported into a form that compares."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.metrics import Meter
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricReader, MetricsData
from opentelemetry.sdk.metrics.view import Aggregation
from opentelemetry.sdk.resources import Resource

from otel_perf import MeterProvider

CONTROL = bool(os.environ.get("CONFORMANCE_CONTROL"))
"""Whether the stock SDK stands on both sides: what then fails is a scenario that is not repeatable, not a difference."""
STOCK: type[sdk.MeterProvider] = sdk.MeterProvider
OURS: type[sdk.MeterProvider] = sdk.MeterProvider if CONTROL else MeterProvider

LIMITS = "cardinality_limits" in inspect.signature(InMemoryMetricReader).parameters
"""Whether the installed SDK limits series, from 1.45.2 on; its delta readers then forget their series at each collection."""

Scenario = Callable[[Meter, Callable[[], None]], None]
"""Makes instruments and recordings with a meter; calling the second argument collects."""

SYNCHRONOUS: tuple[type, ...] = (sdk.Counter, sdk.UpDownCounter, sdk.Histogram, sdk._Gauge)
OBSERVABLE: tuple[type, ...] = (sdk.ObservableCounter, sdk.ObservableUpDownCounter, sdk.ObservableGauge)
Temporality = dict[type, AggregationTemporality]
DELTA: Temporality = dict.fromkeys((*SYNCHRONOUS, *OBSERVABLE), AggregationTemporality.DELTA)
LOW_MEMORY: Temporality = dict.fromkeys((sdk.Counter, sdk.Histogram), AggregationTemporality.DELTA)
TEMPORALITIES: dict[str, Temporality] = {"cumulative": {}, "delta": DELTA, "low memory": LOW_MEMORY}


def typed(value: Any) -> Any:
    """The value with the types of all its parts, so that 1, 1.0 and True differ; mappings in the order of their keys."""
    if isinstance(value, dict):
        return {key: typed(value[key]) for key in sorted(value, key=repr)}
    if isinstance(value, tuple):
        return tuple(typed(item) for item in value)
    return type(value).__name__, value


_TYPED = ("value", "count", "sum", "zero_count", "flags")
_BY_VALUE = ("min", "max", "bucket_counts", "explicit_bounds")
_COARSE = 4
"""Exponential buckets are compared at this scale at most, where both sides have them, see test_wanted_differences.py."""


def plain_exemplar(exemplar: Any) -> dict[str, Any]:
    """An exemplar without its time; no filtered attributes and None are the same."""
    return {
        "value": typed(exemplar.value),
        "filtered": typed(dict(exemplar.filtered_attributes or {})),
        "span_id": exemplar.span_id,
        "trace_id": exemplar.trace_id,
    }


def _exponential(point: Any) -> dict[str, Any]:
    """Counts of exponential buckets by index, two and two merged until the scale is coarse; empty buckets are left out."""
    shift = max(point.scale - _COARSE, 0)
    found: dict[str, Any] = {}
    for side in ("positive", "negative"):
        merged: Counter[int] = Counter()
        buckets = getattr(point, side)
        for number, count in enumerate(buckets.bucket_counts, buckets.offset):
            merged[number >> shift] += count
        found[side] = {number: count for number, count in sorted(merged.items()) if count}
    if found["positive"] or found["negative"]:
        # Without a bucket the scale says nothing, and the SDK's is arbitrary.
        found["scale"] = min(point.scale, _COARSE)
    return found


def plain_point(point: Any) -> dict[str, Any]:
    """A data point without times; bounds, minimum, maximum and scale by value only, see test_wanted_differences.py."""
    found: dict[str, Any] = {"attributes": typed(dict(point.attributes or {})), "class": type(point).__name__}
    found.update({field: typed(getattr(point, field)) for field in _TYPED if hasattr(point, field)})
    for field in _BY_VALUE:
        if hasattr(point, field):
            value = getattr(point, field)
            found[field] = tuple(value) if isinstance(value, (list, tuple)) else value
    if hasattr(point, "scale"):
        found.update(_exponential(point))
    found["exemplars"] = sorted(map(plain_exemplar, point.exemplars), key=repr)
    found["has start"] = point.start_time_unix_nano is not None
    return found


def plain(data: MetricsData | None) -> dict[Any, Any]:
    """Exported metrics by scope, name, unit and kind of data; points in the order of their attributes."""
    if data is None:
        return {}
    metrics: dict[Any, Any] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                key = (scope.scope, scope.schema_url, metric.name, metric.unit, metric.description)
                kind = (
                    type(metric.data).__name__,
                    getattr(metric.data, "is_monotonic", None),
                    getattr(metric.data, "aggregation_temporality", None),
                )
                points = sorted(map(plain_point, metric.data.data_points), key=lambda point: repr(point["attributes"]))
                metrics.setdefault(key, []).append((kind, points))
    return {key: sorted(found, key=repr) for key, found in metrics.items()}


def points(data: MetricsData | None) -> list[Any]:
    """All points as the SDK's classes, in the order of their attributes."""
    found = [
        point
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    return sorted(found, key=lambda point: repr(typed(dict(point.attributes or {}))))


@dataclass(frozen=True)
class Reading:
    """A reader and what collects with it.

    Attributes:
        reader: The reader.
        read: Collects, and answers what is exported in a form that compares.
    """

    reader: MetricReader
    read: Callable[[], Any]


MakeReading = Callable[[], Reading]


def in_memory(
    temporality: Temporality | None = None,
    aggregation: dict[type, Aggregation] | None = None,
    form: Callable[[MetricsData | None], Any] = plain,
    **options: Any,
) -> MakeReading:
    """A stock in-memory reader whose data is brought into `form`."""

    def make() -> Reading:
        reader = InMemoryMetricReader(preferred_temporality=temporality, preferred_aggregation=aggregation, **options)
        return Reading(reader, lambda: form(reader.get_metrics_data()))

    return make


class Session:
    """A provider with its readers, and what was seen of it.

    Args:
        provider_class: The stock provider or ours.
        makes: Make the readers.
        options: Further arguments of the provider.

    Attributes:
        seen: What each collection exported, and what was noted, in order.
    """

    def __init__(self, provider_class: type[sdk.MeterProvider], makes: Sequence[MakeReading], options: Any) -> None:
        self.readings = [make() for make in makes]
        readers = [reading.reader for reading in self.readings]
        self.provider = provider_class(readers, **{"resource": Resource({}), "shutdown_on_exit": False, **options})
        self.seen: list[Any] = []

    def meter(
        self, name: str = "scope", version: str | None = "1.0", schema_url: str | None = "https://schema", **more: Any
    ) -> Meter:
        """The meter of a scope."""
        return self.provider.get_meter(name, version, schema_url, **{"attributes": {"team": "a"}, **more})

    def collect(self) -> None:
        """Collects with every reader; with several, one after the other."""
        found = [reading.read() for reading in self.readings]
        self.seen.append(found[0] if len(found) == 1 else found)

    def note(self, call: Callable[[], Any]) -> None:
        """Keeps what a call answers, or the class of what it raises."""
        try:
            self.seen.append(call())
        except Exception as error:
            self.seen.append(type(error))


@contextmanager
def session(provider_class: type[sdk.MeterProvider], *makes: MakeReading, **options: Any) -> Iterator[Session]:
    """A session whose provider is shut down at the end, unless that was done within."""
    running = Session(provider_class, makes, options)
    try:
        yield running
    finally:
        if not running.provider._shutdown:
            running.provider.shutdown()


def seen(
    provider_class: type[sdk.MeterProvider], act: Callable[[Session], None], *makes: MakeReading, **options: Any
) -> list[Any]:
    """What is seen of one provider; one cumulative reader in memory unless others are given."""
    with session(provider_class, *(makes or (in_memory(),)), **options) as running:
        act(running)
    return running.seen


def compare(act: Callable[[Session], None], *makes: MakeReading, **options: Any) -> tuple[list[Any], list[Any]]:
    """What is seen of the stock SDK, and of us."""
    return seen(STOCK, act, *makes, **options), seen(OURS, act, *makes, **options)


def both(
    scenario: Scenario,
    temporality: Temporality | None = None,
    aggregation: dict[type, Aggregation] | None = None,
    **options: Any,
) -> tuple[list[Any], list[Any]]:
    """What the stock SDK exports to one reader in each collection of a scenario, and what we do."""
    return compare(
        lambda running: scenario(running.meter(), running.collect), in_memory(temporality, aggregation), **options
    )
