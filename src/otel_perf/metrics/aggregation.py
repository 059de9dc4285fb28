"""Aggregations for views: percentiles of an HDR histogram, and exponentially weighted moving averages.

Both are for `View(aggregation=...)` of the stock SDK and of `otel_perf.MeterProvider`.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Asynchronous
from opentelemetry.sdk.metrics._internal.aggregation import _ExplicitBucketHistogramAggregation, _LastValueAggregation
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import Aggregation, DefaultAggregation

from otel_perf.metrics._averages import AverageGauge, ReleasedAverages, average_for
from otel_perf.metrics._quantiles import QuantileHistogram, family_of, is_quantile_gauge, series_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.metrics._internal.aggregation import _Aggregation
    from opentelemetry.sdk.metrics._internal.exemplar import ExemplarReservoirBuilder
    from opentelemetry.util.types import Attributes

__all__ = ["EwmaAggregation", "HdrHistogramAggregation"]

_logger = logging.getLogger(__name__)

_SIGNIFICANT_DIGITS = (1, 2, 3)


class HdrHistogramAggregation(Aggregation):
    """A histogram, and beside it a gauge `<name>.quantile` with percentiles of the last seconds.

    The stream itself is the histogram that it would be anyway, which can be merged over hosts. The gauge has one point for each attribute
    set and quantile, which the attribute `quantile` states ("0.99"); its unit is that of the instrument. A value is the largest one that
    shares its HdrHistogram slot, but not beyond the largest recording. What has recorded nothing in the window has no point.

    With the stock SDK the buckets are explicit, those of the instrument's advice or the default ones. The gauge is then named after the
    instrument, also if the view renames the stream; a view whose `instrument_name` is exactly the gauge's name renames the gauge, views by
    pattern leave it alone. Recordings are seen for `window` seconds and up to a sixth longer. A recording costs 2 to 3 microseconds more, and the window
    of a series up to some 2 MB at three digits, 0.5 MB at two, where values spread over a decade or two.

    Negative values, which only Gauge and UpDownCounter have, count in the buckets, but with the stock SDK not in the quantiles. Observable
    instruments keep their default aggregation, with a warning.

    Args:
        significant_digits: Precision of the quantiles: 3 for 0.1 %, 2 for 0.8 %, 1 for 3.2 %.
        quantiles: Which quantiles, 0 to 1; none for no gauge.
        window: Seconds that the quantiles look back.
        clock: Monotonic time in seconds, for the stock SDK.

    Raises:
        ValueError: An argument is not accepted.
    """

    def __init__(
        self,
        significant_digits: int = 3,
        quantiles: Sequence[float] = (0.5, 0.9, 0.95, 0.99, 0.999),
        window: float = 60.0,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not _is_number(significant_digits) or significant_digits not in _SIGNIFICANT_DIGITS:
            raise ValueError(f"significant_digits is {significant_digits!r}; accepted are 1, 2 and 3")
        self._significant_digits = int(significant_digits)
        self._quantiles = _checked_quantiles(quantiles)
        self._window = _checked_seconds("window", window)
        self._clock = clock

    @property
    def significant_digits(self) -> int:
        """Precision of the quantiles in decimal digits, 1, 2 or 3."""
        return self._significant_digits

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles, 0 to 1, ascending and without repetition."""
        return self._quantiles

    @property
    def window(self) -> float:
        """Seconds that the quantiles look back."""
        return self._window

    def _create_aggregation(
        self,
        instrument: Any,
        attributes: Attributes,
        reservoir_factory: Callable[[type[_Aggregation[Any]]], ExemplarReservoirBuilder],
        start_time_unix_nano: int,
    ) -> _Aggregation[Any]:
        observable = isinstance(instrument, Asynchronous)
        if observable:
            if attributes is None and not is_quantile_gauge(instrument):
                _logger.warning("%r is not applied to %s, which is observable", self, instrument.name)
            return DefaultAggregation()._create_aggregation(
                instrument, attributes, reservoir_factory, start_time_unix_nano
            )
        advisory = getattr(instrument, "_advisory", None)
        histogram = QuantileHistogram(
            attributes,
            AggregationTemporality.DELTA,
            start_time_unix_nano,
            reservoir_factory(_ExplicitBucketHistogramAggregation),
            None if advisory is None else advisory.explicit_bucket_boundaries,
        )
        # The SDK makes one without attributes only to see its type.
        if attributes is not None and self._quantiles:
            family = family_of(instrument, self._quantiles, self._window)
            if family is not None:
                histogram.feed(
                    family.series(
                        attributes, self._significant_digits, self._quantiles, self._window, self._clock, histogram
                    )
                )
        return histogram

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(significant_digits={self._significant_digits}, "
            f"quantiles={self._quantiles}, window={self._window})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HdrHistogramAggregation):
            return NotImplemented
        return self._value() == other._value()

    def __hash__(self) -> int:
        return hash(self._value())

    def _value(self) -> tuple[object, ...]:
        return (HdrHistogramAggregation, self._significant_digits, self._quantiles, self._window)


class EwmaAggregation(Aggregation):
    """An exponentially weighted moving average, exported as a gauge: of the rate per second of counters, of the values of the others.

    It moves at each collection, by what happened since the one before: after `dt` seconds of real time
    `ewma += (1 - exp(-dt / tau)) * (x - ewma)`. This is the average for irregular intervals in which the value `x` held for the whole
    interval (A. Eckner, "Algorithms for Unevenly Spaced Time Series: Moving Averages and Other Rolling Operators", 2019, EMA with next-point
    interpolation), and for regular ones the load average of Linux (`kernel/sched/loadavg.c`). The first interval sets it, for a rate
    from the first recording of the series on, so that the first rates of a series that began just before a collection are rough.

    - Counter, UpDownCounter: `x` is the sum of the interval divided by `dt`, zero if there was nothing.
    - ObservableCounter, ObservableUpDownCounter: the difference of two totals divided by `dt`, so that the first point comes with the
      second collection. A total that is not reported is waited for; a counter that has become smaller has begun again at zero.
    - Histogram, Gauge, ObservableGauge: the mean of the values; an interval without values leaves the average as it is.

    Once there is an average there is a point at each collection, whatever the temporality. The exception are synchronous instruments
    with delta temporality on SDKs that forget series after a delta collection (1.45.2 and later): an interval without recordings has no
    point, and the average goes on with the next recording. Each reader has its own average.

    Args:
        tau: Time constant in seconds: after `tau` a change has come through to 63 %.
        clock: Monotonic time in seconds, for the stock SDK.

    Raises:
        ValueError: `tau` is not a positive finite number.
    """

    def __init__(self, tau: float = 60.0, *, clock: Callable[[], float] = monotonic) -> None:
        self._tau = _checked_seconds("tau", tau)
        self._clock = clock
        self._released = ReleasedAverages(self._tau)

    @property
    def tau(self) -> float:
        """Time constant in seconds."""
        return self._tau

    def _create_aggregation(
        self,
        instrument: Any,
        attributes: Attributes,
        reservoir_factory: Callable[[type[_Aggregation[Any]]], ExemplarReservoirBuilder],
        start_time_unix_nano: int,  # noqa: ARG002 - A gauge has no start.
    ) -> _Aggregation[Any]:
        key = series_key(attributes or {})
        average = self._released.take(instrument, key)
        observable = isinstance(instrument, Asynchronous)
        return AverageGauge(
            attributes,
            reservoir_factory(_LastValueAggregation),
            not observable,
            average=average or average_for(instrument, self._tau, self._clock()),
            clock=self._clock,
            release=None if observable else partial(self._released.offer, instrument, key),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(tau={self._tau})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EwmaAggregation):
            return NotImplemented
        return self._tau == other._tau

    def __hash__(self) -> int:
        return hash((EwmaAggregation, self._tau))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _checked_quantiles(quantiles: Sequence[float]) -> tuple[float, ...]:
    accepted = "accepted are numbers from 0 to 1"
    if isinstance(quantiles, (str, bytes)):
        raise ValueError(f"quantiles is {quantiles!r}; {accepted}")  # noqa: TRY004 - Wrong settings are one kind of error.
    try:
        wanted = list(quantiles)
    except TypeError:
        raise ValueError(f"quantiles is {quantiles!r}; {accepted}") from None
    for quantile in wanted:
        if not _is_number(quantile) or not 0 <= quantile <= 1:
            raise ValueError(f"quantiles has {quantile!r}; {accepted}")
    # Adding zero makes -0.0, which would be another label, 0.0.
    return tuple(sorted({float(quantile) + 0.0 for quantile in wanted}))


def _checked_seconds(name: str, seconds: float) -> float:
    if not _is_number(seconds) or not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"{name} is {seconds!r}; accepted are seconds greater than 0, not infinite")
    return float(seconds)
