"""What readers ask for, in the terms of the native core."""

from __future__ import annotations

import logging
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.sdk.metrics import view as views
from opentelemetry.sdk.metrics._internal.aggregation import (
    _DEFAULT_EXPLICIT_BUCKET_HISTOGRAM_AGGREGATION_BOUNDARIES,
)
from opentelemetry.sdk.metrics._internal.instrument import (
    _Counter,
    _Gauge,
    _Histogram,
    _ObservableCounter,
    _ObservableGauge,
    _ObservableUpDownCounter,
    _UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.metrics.export import MetricReader

_logger = logging.getLogger(__name__)

SDK_TYPES: dict[str, type] = {
    "Counter": _Counter,
    "UpDownCounter": _UpDownCounter,
    "Histogram": _Histogram,
    "Gauge": _Gauge,
    "ObservableCounter": _ObservableCounter,
    "ObservableUpDownCounter": _ObservableUpDownCounter,
    "ObservableGauge": _ObservableGauge,
}
"""The SDK's class of each kind of instrument, by which views and readers select."""

Stated: TypeAlias = "tuple[Any, ...]"
"""An aggregation as native code reads it: its name and arguments."""

DEFAULT_BOUNDARIES: Sequence[float] = _DEFAULT_EXPLICIT_BUCKET_HISTOGRAM_AGGREGATION_BOUNDARIES
DEFAULT: Stated = ("default",)
_SDK_LIMIT = 2000
_MAX_SIZES = (2, 16_384)
_MAX_SCALES = (-10, 20)


def stated(aggregation: views.Aggregation) -> Stated:
    """Returns an aggregation in the terms of the native core.

    Args:
        aggregation: One of the SDK's or ours.

    Raises:
        ValueError: It is another one, or one with boundaries, a size or a scale that the SDK would refuse at the first recording.
    """
    simple = _SIMPLE.get(type(aggregation))
    if simple is not None:
        return simple
    if isinstance(aggregation, views.ExplicitBucketHistogramAggregation):
        boundaries = aggregation._boundaries
        as_floats = None if boundaries is None else [float(bound) for bound in boundaries]
        if as_floats is not None and not _are_boundaries(as_floats):
            raise ValueError(
                f"boundaries of ExplicitBucketHistogramAggregation are {boundaries!r}; accepted are finite numbers, each larger than "
                "the one before"
            )
        return ("explicit", as_floats, aggregation._record_min_max)
    if isinstance(aggregation, views.ExponentialBucketHistogramAggregation):
        for name, value, (lowest, highest) in (
            ("max_size", aggregation._max_size, _MAX_SIZES),
            ("max_scale", aggregation._max_scale, _MAX_SCALES),
        ):
            if not lowest <= value <= highest:
                raise ValueError(
                    f"{name} of ExponentialBucketHistogramAggregation is {value!r}; accepted is {lowest} to {highest}"
                )
        return ("exponential", aggregation._max_size, aggregation._max_scale, aggregation._record_min_max)
    from otel_perf.metrics.aggregation import (  # noqa: PLC0415 - only who uses ours pays for it.
        EwmaAggregation,
        HdrHistogramAggregation,
    )

    if isinstance(aggregation, HdrHistogramAggregation):
        return ("hdr", aggregation.significant_digits, list(aggregation.quantiles), aggregation.window)
    if isinstance(aggregation, EwmaAggregation):
        return ("ewma", aggregation.tau)
    raise ValueError(
        f"aggregation is {type(aggregation).__name__}; accepted are the aggregations of opentelemetry.sdk.metrics.view and "
        "HdrHistogramAggregation and EwmaAggregation of otel_perf.metrics"
    )


def _are_boundaries(numbers: Sequence[float]) -> bool:
    return all(map(math.isfinite, numbers)) and all(low < high for low, high in pairwise(numbers))


_SIMPLE: Mapping[type, Stated] = {
    views.DefaultAggregation: DEFAULT,
    views.DropAggregation: ("drop",),
    views.SumAggregation: ("sum",),
    views.LastValueAggregation: ("last_value",),
}


def with_boundaries(kind: str, aggregation: Stated, advice: Sequence[float] | None) -> Stated:
    """Returns an aggregation whose boundaries are stated where it is a histogram with explicit ones."""
    if aggregation == DEFAULT and kind == "Histogram":
        aggregation = ("explicit", None, True)
    if aggregation[0] == "explicit" and aggregation[1] is None:
        return ("explicit", list(DEFAULT_BOUNDARIES if advice is None else advice), aggregation[2])
    return aggregation


def _preferred(kind: str, aggregation: views.Aggregation) -> Stated:
    found = stated(aggregation)
    if found[0] == "hdr" and kind.startswith("Observable"):
        _logger.warning("%r is not applied to any %s, which is observable", aggregation, kind)
        return DEFAULT
    return found


class ReaderOptions:
    """What a reader asks for, by kind of instrument.

    Args:
        reader: The reader; none for one that asks for nothing in particular.
        cardinality_limit: Series of a stream where the reader does not state a limit of its own.

    Raises:
        ValueError: The reader prefers an aggregation that is neither the SDK's nor ours.
    """

    def __init__(self, reader: MetricReader | None, cardinality_limit: int) -> None:
        temporality = getattr(reader, "_instrument_class_temporality", {})
        aggregation = getattr(reader, "_instrument_class_aggregation", {})
        # Of the SDK since 1.45.2. Its default is not told from the same limit stated by hand, and gives way to our setting.
        limits = getattr(reader, "_instrument_class_cardinality_limit", {})
        # The temporality of a gauge decides only whether an unchanged value is repeated.
        self.delta: frozenset[str] = frozenset(
            kind for kind, sdk_type in SDK_TYPES.items() if temporality.get(sdk_type) is AggregationTemporality.DELTA
        )
        self.aggregation = {
            kind: _preferred(kind, aggregation[sdk_type]) if sdk_type in aggregation else DEFAULT
            for kind, sdk_type in SDK_TYPES.items()
        }
        self.limit = {
            kind: cardinality_limit if limits.get(sdk_type, _SDK_LIMIT) == _SDK_LIMIT else limits[sdk_type]
            for kind, sdk_type in SDK_TYPES.items()
        }

    @staticmethod
    def restored(preferences: Sequence[tuple[str, bool, Sequence[Any], int]]) -> ReaderOptions:
        """Returns what a reader in another process asks for.

        Args:
            preferences: What `preferences` returned there; aggregations may have become lists on the way.
        """
        options = ReaderOptions.__new__(ReaderOptions)
        options.delta = frozenset(kind for kind, delta, _, _ in preferences if delta)
        options.aggregation = {kind: tuple(aggregation) for kind, _, aggregation, _ in preferences}
        options.limit = {kind: limit for kind, _, _, limit in preferences}
        return options

    def preferences(self) -> list[tuple[str, bool, Stated, int]]:
        """Returns what `_core.Collector.add_reader` takes."""
        return [(kind, kind in self.delta, self.aggregation[kind], self.limit[kind]) for kind in SDK_TYPES]
