"""The stock SDK's gauge stream with an exponentially weighted moving average in the place of the last value."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from opentelemetry.metrics import (
    Counter,
    ObservableCounter,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics._internal.aggregation import _LastValueAggregation
from opentelemetry.sdk.metrics.export import AggregationTemporality, NumberDataPoint

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from opentelemetry.sdk.metrics._internal.measurement import Measurement

_FORGOTTEN_AFTER_TAUS = 10
_SWEEP_AT = 1000


class Average(ABC):
    """A moving average that is told recordings and closes an interval at each collection. Not thread-safe.

    Args:
        tau: Time constant in seconds.
        now: Time of the first interval's start, in seconds of a monotonic clock.
    """

    def __init__(self, tau: float, now: float) -> None:
        self._tau = tau
        self.since = now
        self.value: float | None = None

    @abstractmethod
    def add(self, value: float) -> None:
        """Takes a recording of the current interval."""

    @abstractmethod
    def close(self, now: float) -> None:
        """Ends the current interval. If the clock has not gone on, the interval stays open and the average as it is."""

    def _move(self, to: float, now: float) -> None:
        if self.value is None:
            self.value = to
        else:
            self.value -= math.expm1((self.since - now) / self._tau) * (to - self.value)
        self.since = now


class AverageOfIncrements(Average):
    """Rate per second of a counter; an interval without increments has the rate zero."""

    _sum = 0.0

    def add(self, value: float) -> None:
        """Adds an increment."""
        self._sum += value

    def close(self, now: float) -> None:
        """Moves to the rate of the interval."""
        if now > self.since:
            self._move(self._sum / (now - self.since), now)
            self._sum = 0.0


class AverageOfTotals(Average):
    """Rate per second of an observable counter. The first total is where counting starts; an interval without a total stays open.

    Args:
        tau: Time constant in seconds.
        now: Time in seconds.
        monotonic: Whether a total that is lower than the one before has begun again at zero.
    """

    def __init__(self, tau: float, now: float, *, monotonic: bool) -> None:
        super().__init__(tau, now)
        self._monotonic = monotonic
        self._total: float | None = None
        self._previous: float | None = None

    def add(self, value: float) -> None:
        """Adds a total; those of several attribute sets that a view has made one are one total, as in the SDK's sum."""
        self._total = (self._total or 0.0) + value

    def close(self, now: float) -> None:
        """Moves to the rate since the total before."""
        total, self._total = self._total, None
        if total is None:
            return
        if self._previous is None:
            self._previous, self.since = total, now
        elif now > self.since:
            difference = total - self._previous
            if difference < 0 and self._monotonic:
                difference = total
            self._move(difference / (now - self.since), now)
            self._previous = total


class AverageOfValues(Average):
    """Mean of recorded or observed values; an interval without values leaves it unchanged and has no weight."""

    _sum = 0.0
    _count = 0

    def add(self, value: float) -> None:
        """Adds a value."""
        self._sum += value
        self._count += 1

    def close(self, now: float) -> None:
        """Moves to the mean of the interval."""
        if not self._count:
            self.since = max(now, self.since)
        elif self.value is None or now > self.since:
            self._move(self._sum / self._count, max(now, self.since))
            self._sum, self._count = 0.0, 0


def average_for(instrument: Any, tau: float, now: float) -> Average:
    """The average that suits the kind of an instrument."""
    if isinstance(instrument, (Counter, UpDownCounter)):
        return AverageOfIncrements(tau, now)
    if isinstance(instrument, (ObservableCounter, ObservableUpDownCounter)):
        return AverageOfTotals(tau, now, monotonic=isinstance(instrument, ObservableCounter))
    return AverageOfValues(tau, now)


class ReleasedAverages:
    """Averages of series that the SDK lets go after a delta collection, for the next aggregation of the same series.

    SDKs from 1.45.2 on do so with synchronous instruments. Entries are kept for ten time constants, after which an average would
    weigh less than a ten-thousandth.

    Args:
        tau: Time constant in seconds.
    """

    def __init__(self, tau: float) -> None:
        self._tau = tau
        self._sweep_at = _SWEEP_AT
        # Re-entrant: a finaliser that records may run while this thread is in here.
        self._lock = RLock()
        self._entries: WeakKeyDictionary[Any, dict[Hashable, list[tuple[ref[Any], Average]]]] = WeakKeyDictionary()

    def offer(self, instrument: Any, key: Hashable, stream: AverageGauge) -> None:
        """Keeps the average of a stream for the time when the stream is gone."""
        with self._lock:
            series = self._entries.setdefault(instrument, {})
            series.setdefault(key, []).append((ref(stream), stream.average))
            if len(series) >= self._sweep_at:
                self._sweep(series, stream.average.since - _FORGOTTEN_AFTER_TAUS * self._tau)

    def take(self, instrument: Any, key: Hashable) -> Average | None:
        """The average of a stream that is gone, which is then no longer kept."""
        with self._lock:
            series = self._entries.get(instrument, {})
            entries = series.get(key, [])
            for index, (stream, average) in enumerate(entries):
                if stream() is None:
                    del entries[index]
                    if not entries:
                        del series[key]
                    return average
        return None

    def _sweep(self, series: dict[Hashable, list[tuple[ref[Any], Average]]], before: float) -> None:
        for key, entries in list(series.items()):
            entries[:] = [entry for entry in entries if entry[0]() is not None or entry[1].since >= before]
            if not entries:
                del series[key]
        # Twice what is left, so that sweeping costs little for each series, however many there are.
        self._sweep_at = max(_SWEEP_AT, 2 * len(series))


class AverageGauge(_LastValueAggregation):
    """The SDK's last-value stream with a moving average as its value.

    Args:
        *args: As the SDK's stream takes them.
        average: The average to go on with.
        clock: Monotonic time in seconds.
        release: Keeps the average when the SDK may let the stream go; None if it never does.
        **kwargs: As the SDK's stream takes them.
    """

    def __init__(
        self,
        *args: Any,
        average: Average,
        clock: Callable[[], float],
        release: Callable[[AverageGauge], None] | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.average = average
        self._clock = clock
        self._release = release

    def aggregate(self, measurement: Measurement, should_sample_exemplar: bool = True) -> None:
        """Takes a measurement, and offers it to the reservoir of exemplars as the SDK does."""
        with self._lock:
            self.average.add(float(measurement.value))
        self._sample_exemplar(measurement, should_sample_exemplar)

    # The SDK's own signature has a type variable that means a histogram's point too.
    def collect(  # type: ignore[override]
        self, collection_aggregation_temporality: AggregationTemporality, collection_start_nano: int
    ) -> NumberDataPoint | None:
        """Closes the interval.

        Returns:
            The point, whatever the temporality; None as long as there is no average.
        """
        with self._lock:
            self.average.close(self._clock())
            value = self.average.value
        if self._release is not None and collection_aggregation_temporality is AggregationTemporality.DELTA:
            self._release(self)
            self._release = None
        if value is None:
            return None
        # A gauge has no interval, so the SDK gives its points no start.
        return NumberDataPoint(
            attributes=self._attributes,
            exemplars=self._collect_exemplars(),
            start_time_unix_nano=None,  # type: ignore[arg-type]
            time_unix_nano=collection_start_nano,
            value=value,
        )
