"""From the tuples of native collection to the SDK's data points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.sdk.metrics._internal.point import Buckets, ExponentialHistogram, ExponentialHistogramDataPoint
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.metrics.export import DataT
    from opentelemetry.sdk.resources import Resource

    from otel_perf._core import Segment

_MONOTONIC = ("Counter", "ObservableCounter")


class PointBuilder:
    """Builds `MetricsData` for the instruments of one segment, also for those that only other processes have made.

    Args:
        segment: The segment that describes the instruments.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._known: dict[int, tuple[dict[str, Any], InstrumentationScope]] = {}

    def build(self, resource: Resource, time_ns: int, metrics: list[Any], delta: frozenset[str]) -> MetricsData | None:
        """Turns collected tuples into data points.

        Args:
            resource: Resource of the provider.
            time_ns: Time of collection, nanoseconds since the epoch.
            metrics: What `_core.Collector.collect` answered.
            delta: Class names of the instruments whose points are deltas.

        Returns:
            The data, or None if there is no point.
        """
        scopes: dict[InstrumentationScope, list[Metric]] = {}
        for instrument, shape, points in metrics:
            descriptor, scope = self._describe(instrument)
            temporality = (
                AggregationTemporality.DELTA if descriptor["kind"] in delta else AggregationTemporality.CUMULATIVE
            )
            data = _SHAPES[shape](points, time_ns, temporality, descriptor["kind"] in _MONOTONIC)
            metric = Metric(
                name=descriptor["name"], description=descriptor["description"], unit=descriptor["unit"], data=data
            )
            scopes.setdefault(scope, []).append(metric)
        if not scopes:
            return None
        scope_metrics = [
            ScopeMetrics(scope=scope, metrics=metrics, schema_url=scope.schema_url or "")
            for scope, metrics in scopes.items()
        ]
        return MetricsData(
            resource_metrics=[
                ResourceMetrics(resource=resource, scope_metrics=scope_metrics, schema_url=resource.schema_url)
            ]
        )

    def _describe(self, instrument: int) -> tuple[dict[str, Any], InstrumentationScope]:
        known = self._known.get(instrument)
        if known is None:
            descriptor = self._segment.descriptor(instrument)
            if descriptor is None:
                raise LookupError(f"the segment does not describe instrument {instrument}")
            scope = InstrumentationScope(
                descriptor["scope_name"],
                descriptor["scope_version"],
                descriptor["scope_schema_url"],
                descriptor["scope_attributes"] or None,
            )
            known = self._known[instrument] = (descriptor, scope)
        return known


def _numbers(points: list[Any], time_ns: int) -> list[NumberDataPoint]:
    return [
        NumberDataPoint(attributes=attributes, start_time_unix_nano=start, time_unix_nano=time_ns, value=value)
        for attributes, start, value in points
    ]


def _sum(points: list[Any], time_ns: int, temporality: AggregationTemporality, monotonic: bool) -> Sum:
    return Sum(data_points=_numbers(points, time_ns), aggregation_temporality=temporality, is_monotonic=monotonic)


def _gauge(points: list[Any], time_ns: int, _temporality: AggregationTemporality, _monotonic: bool) -> Gauge:
    return Gauge(
        data_points=[
            # A gauge has no interval, so the SDK gives its points no start.
            NumberDataPoint(attributes=attributes, start_time_unix_nano=None, time_unix_nano=time_ns, value=value)  # type: ignore[arg-type]
            for attributes, _start, value in points
        ]
    )


def _explicit(points: list[Any], time_ns: int, temporality: AggregationTemporality, _monotonic: bool) -> Histogram:
    return Histogram(
        data_points=[
            HistogramDataPoint(
                attributes=attributes,
                start_time_unix_nano=start,
                time_unix_nano=time_ns,
                count=count,
                sum=total,
                bucket_counts=counts,
                explicit_bounds=bounds,
                min=low,
                max=high,
            )
            for attributes, start, count, total, counts, bounds, low, high in points
        ],
        aggregation_temporality=temporality,
    )


def _exponential(
    points: list[Any], time_ns: int, temporality: AggregationTemporality, _monotonic: bool
) -> ExponentialHistogram:
    return ExponentialHistogram(
        data_points=[
            ExponentialHistogramDataPoint(
                attributes=attributes,
                start_time_unix_nano=start,
                time_unix_nano=time_ns,
                count=count,
                sum=total,
                scale=scale,
                zero_count=zero_count,
                positive=Buckets(offset=offset, bucket_counts=counts),
                negative=Buckets(offset=0, bucket_counts=[]),
                flags=0,
                min=low,
                max=high,
            )
            for attributes, start, count, total, (scale, zero_count, offset, counts), low, high in points
        ],
        aggregation_temporality=temporality,
    )


_Builder: TypeAlias = "Callable[[list[Any], int, AggregationTemporality, bool], DataT]"
_SHAPES: dict[str, _Builder] = {
    "sum": _sum,
    "gauge": _gauge,
    "explicit": _explicit,
    "exponential": _exponential,
}
