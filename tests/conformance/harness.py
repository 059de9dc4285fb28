"""Runs one scenario on the stock SDK's meter provider and on ours, and brings what is exported into a form that compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.metrics import Meter
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricsData
from opentelemetry.sdk.metrics.view import Aggregation
from opentelemetry.sdk.resources import Resource

from otel_perf import MeterProvider

Scenario = Callable[[Meter, Callable[[], None]], None]
"""Makes instruments and recordings with a meter; calling the second argument collects."""

DELTA: dict[type, AggregationTemporality] = dict.fromkeys(
    (
        sdk.Counter,
        sdk.UpDownCounter,
        sdk.Histogram,
        sdk.ObservableCounter,
        sdk.ObservableUpDownCounter,
        sdk._Gauge,
        sdk.ObservableGauge,
    ),
    AggregationTemporality.DELTA,
)
TEMPORALITIES: dict[str, dict[type, AggregationTemporality]] = {"cumulative": {}, "delta": DELTA}


def typed(value: Any) -> Any:
    """The value with the types of all its parts, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(typed(item) for item in value)
    return type(value).__name__, value


_TYPED = ("value", "count", "sum")
_BY_VALUE = ("min", "max", "bucket_counts", "explicit_bounds")


def plain_point(point: Any) -> dict[str, Any]:
    """A data point without times and exemplars; bounds, minimum and maximum by value only, see test_wanted_differences.py."""
    found: dict[str, Any] = {"attributes": typed(dict(point.attributes or {})), "class": type(point).__name__}
    found.update({field: typed(getattr(point, field)) for field in _TYPED if hasattr(point, field)})
    for field in _BY_VALUE:
        if hasattr(point, field):
            value = getattr(point, field)
            found[field] = tuple(value) if isinstance(value, (list, tuple)) else value
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


def exported(
    provider_class: type[sdk.MeterProvider],
    scenario: Scenario,
    temporality: dict[type, AggregationTemporality],
    aggregation: dict[type, Aggregation] | None = None,
) -> list[dict[Any, Any]]:
    """What each collection of a scenario exports from one provider."""
    reader = InMemoryMetricReader(preferred_temporality=temporality, preferred_aggregation=aggregation)
    provider = provider_class([reader], resource=Resource({}), shutdown_on_exit=False)
    collections: list[dict[Any, Any]] = []
    try:
        meter = provider.get_meter("scope", "1.0", "https://schema", {"team": "a"})
        scenario(meter, lambda: collections.append(plain(reader.get_metrics_data())))
    finally:
        provider.shutdown()
    return collections


def both(
    scenario: Scenario,
    temporality: dict[type, AggregationTemporality],
    aggregation: dict[type, Aggregation] | None = None,
) -> tuple[list[dict[Any, Any]], list[dict[Any, Any]]]:
    """What the stock SDK exports, and what we do."""
    return (
        exported(sdk.MeterProvider, scenario, temporality, aggregation),
        exported(MeterProvider, scenario, temporality, aggregation),
    )
