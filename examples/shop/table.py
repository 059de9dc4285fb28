"""Responsible for the table: from histogram snapshots of the shop's routes to aligned plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from examples.shop.tally import RouteKey

if TYPE_CHECKING:
    from typing_extensions import Self  # In `typing` since Python 3.11.

PERCENTILES = [50.0, 90.0, 99.0, 99.9]

_ALL = RouteKey("all routes", "")
_HEADINGS = ("route", "method", "req/s", "5xx/s", "4xx/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "count")
_TEXT_COLUMNS = 2
_NO_VALUE = "-"


class Snapshot(Protocol):
    """The part of `otel_perf`'s histogram snapshot that a table needs; values are in seconds."""

    @property
    def count(self) -> int:
        """Recordings held."""

    def percentiles(self, quantiles: list[float], /) -> list[float]:
        """The values below which these percentages of the recordings lie."""

    def minus(self, earlier: Self, /) -> Self:
        """The recordings made since an earlier snapshot of the same series."""

    def merge(self, other: Self, /) -> Self:
        """The recordings of both."""


@dataclass(frozen=True)
class RouteReading:
    """Everything measured on one route since the shop started.

    Attributes:
        durations: The durations of all its requests, whatever their status.
        client_errors: Requests answered with a status of 400 to 499.
        server_errors: Requests answered with a status of 500 or above.
    """

    durations: Snapshot
    client_errors: int
    server_errors: int


Reading = Mapping[RouteKey, RouteReading]


@dataclass(frozen=True)
class Row:
    """One line of the table; rates are per second, percentiles in milliseconds and None where nothing happened."""

    key: RouteKey
    requests_per_s: float
    server_errors_per_s: float
    client_errors_per_s: float
    percentiles_ms: tuple[float, ...] | None
    count: int


def collate(series: Iterable[tuple[RouteKey, int, Snapshot]]) -> Reading:
    """Merges the series of each route, one of which exists for every status it has answered with.

    Args:
        series: Route, status (0 where none is known) and snapshot of each series.

    Returns:
        One entry for each route. Histograms are merged, so that a percentile is that of all the route's requests.
    """
    reading: dict[RouteKey, RouteReading] = {}
    for key, status, snapshot in series:
        client_errors = snapshot.count if 400 <= status < 500 else 0
        server_errors = snapshot.count if status >= 500 else 0
        known = reading.get(key)
        if known is None:
            reading[key] = RouteReading(snapshot, client_errors, server_errors)
        else:
            reading[key] = RouteReading(
                known.durations.merge(snapshot),
                known.client_errors + client_errors,
                known.server_errors + server_errors,
            )
    return reading


def counts(reading: Reading) -> dict[RouteKey, int]:
    """Returns how many requests each route has answered."""
    return {key: route.durations.count for key, route in reading.items()}


def rows(current: Reading, previous: Reading, seconds: float) -> list[Row]:
    """Computes the table of one window: the difference of two readings.

    Args:
        current: The newer reading.
        previous: The older one; empty for a window that starts with the shop.
        seconds: The time between them, above 0.

    Returns:
        A row for each route in alphabetical order, and one for all routes together where there is any route. The
        column `count` is the total since the shop started, everything else is that of the window.
    """
    windows = {key: _window(route, previous.get(key)) for key, route in current.items()}
    result = [_row(key, window, current[key].durations.count, seconds) for key, window in sorted(windows.items())]
    if windows:
        together = collate((_ALL, 0, window.durations) for window in windows.values())[_ALL].durations
        total = RouteReading(
            together,
            sum(window.client_errors for window in windows.values()),
            sum(window.server_errors for window in windows.values()),
        )
        result.append(_row(_ALL, total, sum(counts(current).values()), seconds))
    return result


def _window(current: RouteReading, previous: RouteReading | None) -> RouteReading:
    if previous is None:
        return current
    return RouteReading(
        current.durations.minus(previous.durations),
        current.client_errors - previous.client_errors,
        current.server_errors - previous.server_errors,
    )


def _row(key: RouteKey, window: RouteReading, count: int, seconds: float) -> Row:
    requests = window.durations.count
    percentiles = tuple(1e3 * value for value in window.durations.percentiles(PERCENTILES)) if requests else None
    return Row(
        key,
        requests / seconds,
        window.server_errors / seconds,
        window.client_errors / seconds,
        percentiles,
        count,
    )


def render(table: Sequence[Row]) -> str:
    """Formats rows as aligned plain text, headings first: names to the left, numbers to the right."""
    lines = [_HEADINGS, *(_cells(row) for row in table)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    if row.percentiles_ms is None:
        percentiles = (_NO_VALUE,) * len(PERCENTILES)
    else:
        percentiles = tuple(f"{value:.2f}" for value in row.percentiles_ms)
    rates = (row.requests_per_s, row.server_errors_per_s, row.client_errors_per_s)
    return (row.key.route, row.key.method, *(f"{rate:.1f}" for rate in rates), *percentiles, str(row.count))
