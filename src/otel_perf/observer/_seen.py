"""What an observer answers. Loaded with the first question, because classes of data take milliseconds to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
"""The percentiles that are asked for."""


@dataclass(frozen=True)
class Percentiles:
    """What was recorded in a window. Values are in the unit of the instrument; those that do not exist are None.

    A percentile is never too small and at most one slot of the histogram too large: a thousandth of the value with three digits.

    Attributes:
        unit: Unit of the instrument (UCUM).
        window: Length of the window in seconds, as asked for.
        seconds: Seconds that were observed: up to one look more than the window has, and fewer until it has passed.
        count: Number of recordings, or what was added to a counter.
        sum: Sum of the recordings, or what was added to a counter.
        rate: `count` per second that was observed.
        mean: Mean of the recordings; None if there are none, as for a counter.
        min: Smallest recording, of which only the slot is known; None as `mean`.
        p50: Median; None as `mean`.
        p90: 90th percentile; None as `mean`.
        p95: 95th percentile; None as `mean`.
        p99: 99th percentile; None as `mean`.
        p999: 99.9th percentile; None as `mean`.
        max: Largest recording, as `min`.
        digits: Significant digits that the coarsest slot keeps: 3.0, 2.0 or 1.5; 0.0 for one slot per power of two; None for a counter.
        overflow: Whether there are recordings in it whose attributes there was no room for.
    """

    unit: str
    window: float
    seconds: float
    count: float
    sum: float
    rate: float
    mean: float | None
    min: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    max: float | None
    digits: float | None
    overflow: bool


@dataclass(frozen=True)
class Average:
    """Exponentially weighted moving averages.

    Attributes:
        tau: Time constant in seconds: what is that old weighs 1/e of what is new.
        rate: Recordings, or what was added to a counter, per second; None before the second look.
        mean: Mean of the recordings in the unit of the instrument; None if there are none, as for a counter.
    """

    tau: float
    rate: float | None
    mean: float | None


@dataclass(frozen=True)
class ObservedSeries:
    """One series.

    Attributes:
        scope: Name of the instrumentation scope.
        name: Name of the metric.
        unit: Unit (UCUM).
        kind: ``histogram`` or ``counter``.
        attributes: Attributes; a dict that nobody else has.
        windows: One for each window, shortest first.
        averages: One for each time constant, shortest first.
    """

    scope: str
    name: str
    unit: str
    kind: str
    attributes: Mapping[str, Any]
    windows: tuple[Percentiles, ...]
    averages: tuple[Average, ...]


@dataclass(frozen=True)
class Snapshot:
    """All series at one moment. `dataclasses.asdict` makes JSON of it, except for attribute values of bytes.

    Attributes:
        time: When it was taken, in seconds since the epoch.
        series: The series that were seen.
    """

    time: float
    series: tuple[ObservedSeries, ...]


class Source(Protocol):
    """Who keeps the windows: `_core.Windows`, here or in an observer process."""

    def read(
        self,
        name: str,
        attributes: Mapping[str, Any] | None,
        scope: str | None,
        window: float,
        percentiles: Sequence[float],
    ) -> dict[str, Any] | None:
        """A window of one series or of all of a metric."""

    def averages(
        self, name: str, attributes: Mapping[str, Any] | None, scope: str | None, tau: float
    ) -> tuple[float | None, float | None] | None:
        """Moving averages of rate and mean."""

    def snapshot(self, percentiles: Sequence[float]) -> list[dict[str, Any]]:
        """All series."""


def percentiles_of(unit: str, window: float, found: Mapping[str, Any]) -> Percentiles:
    """Makes an object of what `Source.read` has found."""
    digits = found["digits"]
    p50, p90, p95, p99, p999 = found["percentiles"] or (None,) * len(PERCENTILES)
    return Percentiles(
        unit=unit,
        window=window,
        seconds=found["seconds"],
        # Of a histogram it is a number of recordings, which JSON and the core have as a float.
        count=found["count"] if digits is None else int(found["count"]),
        sum=found["sum"],
        rate=found["rate"],
        mean=found["mean"],
        min=found["min"],
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        p999=p999,
        max=found["max"],
        digits=digits,
        overflow=found["overflow"],
    )


def series_of(found: Mapping[str, Any]) -> ObservedSeries:
    """Makes an object of a series that `Source.snapshot` has found."""
    # In an answer of an observer process, which is JSON, the keys are text.
    windows = sorted((float(window), values) for window, values in found["windows"].items())
    averages = sorted((float(tau), values) for tau, values in found["averages"].items())
    return ObservedSeries(
        scope=found["scope"],
        name=found["name"],
        unit=found["unit"],
        kind=found["kind"],
        attributes=dict(found["attributes"]),
        windows=tuple(percentiles_of(found["unit"], window, values) for window, values in windows),
        averages=tuple(Average(tau, rate, mean) for tau, (rate, mean) in averages),
    )
