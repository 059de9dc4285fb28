"""From the tuples of native collection to the SDK's data points."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.sdk.metrics import Exemplar
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
    from otel_perf.metrics._exemplars import CustomExemplars


class PointBuilder:
    """Builds `MetricsData` for the streams of one segment, also for those that only other processes have made.

    Args:
        segment: The segment that describes the streams.
        exemplars: Those of reservoirs in Python.
        version: Our version, for the scope of what is not recorded.
    """

    def __init__(self, segment: Segment, exemplars: CustomExemplars, version: str) -> None:
        self._version = version
        self._segment = segment
        self._exemplars = exemplars
        self._scopes: dict[int | None, InstrumentationScope] = {}

    def build(self, resource: Resource, time_ns: int, metrics: list[Any], reader: int) -> MetricsData | None:
        """Turns collected tuples into data points.

        Args:
            resource: Resource of the provider.
            time_ns: Time of collection, nanoseconds since the epoch.
            metrics: What `_core.Collector.collect` answered.
            reader: Number of the reader.

        Returns:
            The data, or None if there is no point.
        """
        scopes: dict[InstrumentationScope, list[Metric]] = {}
        collect = partial(self._exemplars.collect, reader) if self._exemplars.in_use else None
        for stream, shape, name, description, unit, monotonic, delta, points in metrics:
            temporality = AggregationTemporality.DELTA if delta else AggregationTemporality.CUMULATIVE
            data = _SHAPES[shape](points, time_ns, temporality, monotonic, collect)
            metric = Metric(name=name, description=description, unit=unit, data=data)
            scopes.setdefault(self._scope(stream), []).append(metric)
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

    def _scope(self, stream: int | None) -> InstrumentationScope:
        known = self._scopes.get(stream)
        if known is None:
            known = self._scopes[stream] = (
                InstrumentationScope("otel_perf", self._version) if stream is None else self._scope_of(stream)
            )
        return known

    def _scope_of(self, stream: int) -> InstrumentationScope:
        descriptor = self._segment.descriptor(stream)
        if descriptor is None:
            raise LookupError(f"the segment does not describe stream {stream}")
        return InstrumentationScope(
            descriptor["scope_name"],
            descriptor["scope_version"],
            descriptor["scope_schema_url"],
            descriptor["scope_attributes"] or None,
        )


def _exemplars(
    native: list[Any] | None, series: int | None, attributes: dict[str, Any], collect: _Collect | None
) -> list[Exemplar]:
    if collect is not None and series is not None:
        custom = collect(series, attributes)
        if custom:
            return custom
    if native is None:
        return []
    return [Exemplar(dropped, value, time_ns, span, trace) for dropped, value, time_ns, span, trace in native]


def _numbers(points: list[Any], time_ns: int, collect: _Collect | None, *, start: bool) -> list[NumberDataPoint]:
    return [
        NumberDataPoint(
            attributes=attributes,
            # A gauge has no interval, so the SDK gives its points no start.
            start_time_unix_nano=start_ns if start else None,  # type: ignore[arg-type]
            time_unix_nano=time_ns,
            value=value,
            exemplars=_exemplars(native, series, attributes, collect),
        )
        for attributes, start_ns, value, native, series in points
    ]


def _sum(
    points: list[Any], time_ns: int, temporality: AggregationTemporality, monotonic: bool, collect: _Collect | None
) -> Sum:
    return Sum(
        data_points=_numbers(points, time_ns, collect, start=True),
        aggregation_temporality=temporality,
        is_monotonic=monotonic,
    )


def _gauge(
    points: list[Any], time_ns: int, _temporality: AggregationTemporality, _monotonic: bool, collect: _Collect | None
) -> Gauge:
    return Gauge(data_points=_numbers(points, time_ns, collect, start=False))


def _explicit(
    points: list[Any], time_ns: int, temporality: AggregationTemporality, _monotonic: bool, collect: _Collect | None
) -> Histogram:
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
                exemplars=_exemplars(native, series, attributes, collect),
            )
            for attributes, start, count, total, counts, bounds, low, high, native, series in points
        ],
        aggregation_temporality=temporality,
    )


def _exponential(
    points: list[Any], time_ns: int, temporality: AggregationTemporality, _monotonic: bool, collect: _Collect | None
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
                positive=Buckets(*positive),
                negative=Buckets(*negative),
                flags=0,
                min=low,
                max=high,
                exemplars=_exemplars(native, series, attributes, collect),
            )
            for attributes, start, count, total, (
                scale,
                zero_count,
                positive,
                negative,
            ), low, high, native, series in points
        ],
        aggregation_temporality=temporality,
    )


_Collect: TypeAlias = "Callable[[int, dict[str, Any]], list[Exemplar]]"
_Builder: TypeAlias = "Callable[[list[Any], int, AggregationTemporality, bool, _Collect | None], DataT]"
_SHAPES: dict[str, _Builder] = {
    "sum": _sum,
    "gauge": _gauge,
    "explicit": _explicit,
    "exponential": _exponential,
}
