"""What the stock Prometheus reader needs so that each scrape is answered, and answered right; for the one of `serve` and for those of the user.

The reader fails the whole scrape at an exponential histogram, gives the metrics of all scopes that share a name the label names of the first of them, and
queues what is collected for whoever scrapes next. So it gets explicit histograms, points with equal label names, and a place for
what is collected that each thread has for itself.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.sdk.metrics._internal.point import ExponentialHistogram, ExponentialHistogramDataPoint
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, Metric, MetricsData, Sum

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_Member: TypeAlias = "tuple[list[Metric], int, InstrumentationScope]"
"""A metric of a family: the list that it is in, where, and its scope."""

_MODULE = "opentelemetry.exporter.prometheus"
_EXPONENT_MAX = 1023


def is_prometheus(reader: MetricReader) -> bool:
    """Whether a reader is the stock Prometheus reader, or derived from it; loads nothing."""
    return any(kind.__module__ == _MODULE for kind in type(reader).__mro__)


def adapt(reader: Any, collect: Callable[..., MetricsData | None]) -> Callable[..., MetricsData | None]:
    """Prepares a Prometheus reader.

    Args:
        reader: The reader.
        collect: What it would collect with.

    Returns:
        What it has to collect with.
    """
    collector = reader._collector
    latest = collector._metrics_datas = _Latest()

    def collect_for_prometheus(*arguments: Any, **kwargs: Any) -> MetricsData | None:
        data = collect(*arguments, **kwargs)
        if data is None:
            # What this thread has flushed before would be shown again.
            latest.clear()
            return None
        return for_prometheus(data, collector)

    return collect_for_prometheus


class _Latest(threading.local):
    """Stands where the reader has its queue: what this thread has collected last.

    A queue that all share gives a scrape also what another scrape or a flush has collected, so that series appear twice, or nothing.
    """

    def __init__(self) -> None:
        self._data: deque[MetricsData] = deque(maxlen=1)
        self.append = self._data.append
        self.popleft = self._data.popleft
        self.clear = self._data.clear

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> MetricsData:
        return self._data[index]


def for_prometheus(data: MetricsData, collector: Any) -> MetricsData:
    """The same data as the stock reader can show it.

    Args:
        data: What was collected.
        collector: What the reader translates it with.

    Returns:
        Data without exponential histograms, in which all metrics of one family have one description and the same label names. What can be shown as
        it is is not copied.
    """
    resources = []
    for resource in data.resource_metrics:
        scopes = [(scope, [_explicit(metric) for metric in scope.metrics]) for scope in resource.scope_metrics]
        families: dict[tuple[str, str, str], list[_Member]] = {}
        for scope, metrics in scopes:
            for index, metric in enumerate(metrics):
                families.setdefault(_family(metric), []).append((metrics, index, scope.scope))
        for members in families.values():
            if len(members) > 1:
                _make_uniform(members, collector, resource.resource)
        made = [replace(scope, metrics=metrics) for scope, metrics in scopes]
        resources.append(replace(resource, scope_metrics=made))
    return MetricsData(resource_metrics=resources)


def _family(metric: Metric) -> tuple[str, str, str]:
    """What the stock reader tells families apart by, but for the description."""
    # Loaded with the reader.
    from opentelemetry.exporter.prometheus._mapping import map_unit, sanitize_full_name  # noqa: PLC0415

    kind = type(metric.data).__name__
    if isinstance(metric.data, Sum):
        kind = "Sum" if metric.data.is_monotonic else "Gauge"
    return sanitize_full_name(metric.name), map_unit(metric.unit or ""), kind


def _make_uniform(members: list[_Member], collector: Any, resource: Resource) -> None:
    """Gives the metrics of one family the description of the first that has one, and all of them the same label names."""
    from opentelemetry.exporter.prometheus._mapping import sanitize_attribute  # noqa: PLC0415 - as above.

    description = next((found for metrics, at, _ in members if (found := metrics[at].description)), "")
    of_resource = collector._build_resource_attrs(resource)
    labels: list[set[str]] = []
    for metrics, at, scope in members:
        # Also what the reader adds itself, which an empty label would hide.
        keys = {*of_resource, *collector._build_scope_attrs(scope)}
        keys.update(*(point.attributes or () for point in metrics[at].data.data_points))
        labels.append({sanitize_attribute(key) for key in keys})
    everywhere = set().union(*labels)
    for (metrics, at, _), own in zip(members, labels, strict=True):
        missing = dict.fromkeys(sorted(everywhere - own), "")
        metric = metrics[at]
        data: Any = metric.data
        if missing:
            # The reader gives the labels of one point to all points of the metric, empty, which to Prometheus is the same as none.
            first, *others = data.data_points
            first = replace(first, attributes={**missing, **(first.attributes or {})})
            data = replace(data, data_points=[first, *others])
        if missing or metric.description != description:
            metrics[at] = replace(metric, description=description, data=data)


def _explicit(metric: Metric) -> Metric:
    """The metric, an exponential histogram as an explicit one."""
    if not isinstance(metric.data, ExponentialHistogram):
        return metric
    points = [_explicit_point(point) for point in metric.data.data_points]
    data = Histogram(data_points=points, aggregation_temporality=metric.data.aggregation_temporality)
    return replace(metric, data=data)


def _explicit_point(point: ExponentialHistogramDataPoint) -> HistogramDataPoint:
    """The point with buckets that end at powers of two, all of which are bounds of exponential buckets at scale 0 and above, so that counts are exact.

    At lower scales they are those powers that are bounds. Values below zero are counted at zero, the lowest bound.
    """
    counts: dict[int, int] = {}
    step = 1 << max(-point.scale, 0)
    finer = max(point.scale, 0)
    for index, count in enumerate(point.positive.bucket_counts, point.positive.offset):
        if count:
            exponent = ((index >> finer) + 1) * step
            counts[exponent] = counts.get(exponent, 0) + count
    # What is above the largest power that is a number is left to the last bucket, which has no end.
    exponents = range(min(counts), min(max(counts), _EXPONENT_MAX) + 1, step) if counts else range(0)
    at_zero = point.zero_count + sum(point.negative.bucket_counts)
    below = [at_zero, *(counts.get(exponent, 0) for exponent in exponents)]
    return HistogramDataPoint(
        attributes=point.attributes,
        start_time_unix_nano=point.start_time_unix_nano,
        time_unix_nano=point.time_unix_nano,
        count=point.count,
        sum=point.sum,
        bucket_counts=[*below, point.count - sum(below)],
        explicit_bounds=[0.0, *(math.ldexp(1.0, exponent) for exponent in exponents)],
        min=point.min,
        max=point.max,
        exemplars=point.exemplars,
    )
