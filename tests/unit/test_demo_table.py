"""Checks the shop demo's table, its bookkeeping of the load and its setting, with fake snapshots and no servers."""

from __future__ import annotations

import asyncio
import math
import socket
from collections import Counter

import pytest

from examples.shop.load import generate
from examples.shop.settings import SettingError, run_seconds
from examples.shop.table import Reading, collate, counts, render, rows
from examples.shop.tally import Difference, RouteKey, Tally, closing_line, differences

LIST = RouteKey("/products", "GET")
ORDER = RouteKey("/orders", "POST")


class FakeSnapshot:
    """Keeps the values themselves, so that what is expected can be counted by hand."""

    def __init__(self, *values: float) -> None:
        self.values = sorted(values)

    @property
    def count(self) -> int:
        return len(self.values)

    def percentiles(self, quantiles: list[float], /) -> list[float]:
        return [self.values[max(0, math.ceil(quantile / 100 * self.count) - 1)] for quantile in quantiles]

    def minus(self, earlier: FakeSnapshot, /) -> FakeSnapshot:
        return FakeSnapshot(*(Counter(self.values) - Counter(earlier.values)).elements())

    def merge(self, other: FakeSnapshot, /) -> FakeSnapshot:
        return FakeSnapshot(*self.values, *other.values)


def reading(*series: tuple[RouteKey, int, FakeSnapshot]) -> Reading:
    """A reading from route, status and durations in seconds."""
    return collate(series)


def test_series_of_one_route_are_merged() -> None:
    """All statuses of a route make one entry, whose histogram holds the requests of all."""
    merged = reading((LIST, 200, FakeSnapshot(0.1, 0.3)), (LIST, 404, FakeSnapshot(0.2)))

    assert counts(merged) == {LIST: 3}
    assert merged[LIST].durations.percentiles([50.0]) == [0.2]


def test_one_path_with_two_methods_is_two_routes() -> None:
    """The method is part of what names a route."""
    post = RouteKey("/products", "POST")

    assert counts(reading((LIST, 200, FakeSnapshot(0.1)), (post, 201, FakeSnapshot(0.1)))) == {LIST: 1, post: 1}


@pytest.mark.parametrize(
    ("status", "client_errors", "server_errors"),
    [(0, 0, 0), (200, 0, 0), (399, 0, 0), (400, 1, 0), (499, 1, 0), (500, 0, 1), (599, 0, 1)],
)
def test_errors_are_told_apart_by_status(status: int, client_errors: int, server_errors: int) -> None:
    """4xx and 5xx are counted separately and nothing else is an error."""
    route = reading((LIST, status, FakeSnapshot(0.1)))[LIST]

    assert (route.client_errors, route.server_errors) == (client_errors, server_errors)


def test_a_window_holds_only_what_happened_in_it() -> None:
    """Rates and percentiles are those of the difference of two readings, the count is that of the whole run."""
    before = reading((LIST, 200, FakeSnapshot(0.9, 0.9)), (LIST, 500, FakeSnapshot(0.9)))
    after = reading((LIST, 200, FakeSnapshot(0.9, 0.9, 0.001, 0.002)), (LIST, 500, FakeSnapshot(0.9, 0.003)))

    row = rows(after, before, 2.0)[0]

    assert row.key == LIST
    assert row.requests_per_s == 1.5
    assert row.server_errors_per_s == 0.5
    assert row.client_errors_per_s == 0.0
    assert row.percentiles_ms == pytest.approx((2.0, 3.0, 3.0, 3.0))
    assert row.count == 6


def test_a_status_seen_for_the_first_time_counts_fully() -> None:
    """A series that appears between two readings belongs to the window."""
    before = reading((LIST, 200, FakeSnapshot(0.1)))
    after = reading((LIST, 200, FakeSnapshot(0.1)), (LIST, 404, FakeSnapshot(0.2)))

    row = rows(after, before, 1.0)[0]

    assert (row.requests_per_s, row.client_errors_per_s) == (1.0, 1.0)


def test_a_route_seen_for_the_first_time_counts_fully() -> None:
    """A route without an earlier reading is measured from nothing."""
    row = rows(reading((LIST, 200, FakeSnapshot(0.1, 0.2))), {}, 1.0)[0]

    assert (row.requests_per_s, row.count) == (2.0, 2)


def test_a_quiet_route_stays_without_percentiles() -> None:
    """A route without requests in the window keeps its line and shows no percentiles of nothing."""
    same = reading((LIST, 200, FakeSnapshot(0.1)))

    row = rows(same, same, 2.0)[0]

    assert (row.requests_per_s, row.percentiles_ms, row.count) == (0.0, None, 1)


def test_the_last_row_is_that_of_all_routes() -> None:
    """The closing row merges the histograms of all routes and adds their errors; it averages nothing."""
    current = reading(
        (LIST, 200, FakeSnapshot(*[0.001] * 98)), (ORDER, 500, FakeSnapshot(0.5)), (ORDER, 404, FakeSnapshot(0.7))
    )

    total = rows(current, {}, 1.0)[-1]

    assert total.key.route == "all routes"
    assert total.percentiles_ms == pytest.approx((1.0, 1.0, 500.0, 700.0))
    assert (total.requests_per_s, total.server_errors_per_s, total.client_errors_per_s) == (100.0, 1.0, 1.0)
    assert total.count == 100


def test_rows_are_in_alphabetical_order() -> None:
    """The order does not depend on which route was asked first, so that lines keep their places."""
    current = reading((LIST, 200, FakeSnapshot(0.1)), (ORDER, 201, FakeSnapshot(0.1)))

    assert [row.key for row in rows(current, {}, 1.0)][:-1] == [ORDER, LIST]


def test_no_routes_make_no_rows() -> None:
    """Before the first request there is nothing to show, not even a total."""
    assert rows({}, {}, 1.0) == []


def test_rendered_lines_are_aligned() -> None:
    """Every line has the same width, names begin at the left and numbers end at the right of their columns."""
    current = reading((LIST, 200, FakeSnapshot(12.3456)), (ORDER, 201, FakeSnapshot(0.001)))

    lines = render(rows(current, {}, 1.0)).splitlines()

    assert len({len(line) for line in lines}) == 1
    assert lines[0].split("  ")[0] == "route"
    assert lines[1].startswith("/orders     POST ")
    assert lines[2].startswith("/products   GET  ")
    assert all(line.endswith(end) for line, end in zip(lines[1:], (" 1", " 1", " 2"), strict=True))


def test_rendered_numbers_have_fixed_decimals() -> None:
    """Rates have one decimal, milliseconds two, and a missing percentile is a dash."""
    first = reading((LIST, 200, FakeSnapshot(0.0123456)))

    busy = render(rows(first, {}, 3.0)).splitlines()[1].split()
    quiet = render(rows(first, first, 3.0)).splitlines()[1].split()

    assert busy == ["/products", "GET", "0.3", "0.0", "0.0", "12.35", "12.35", "12.35", "12.35", "1"]
    assert quiet == ["/products", "GET", "0.0", "0.0", "0.0", "-", "-", "-", "-", "1"]


def test_headings_alone_are_rendered_without_rows() -> None:
    """An empty table is its headings."""
    assert render([]).splitlines()[0].split()[:2] == ["route", "method"]
    assert len(render([]).splitlines()) == 1


def test_in_flight_is_what_has_not_ended() -> None:
    """A request is in flight from its sending to its answer or its failure."""
    tally = Tally()
    for _ in range(3):
        tally.send(LIST)
    tally.answer(LIST)
    tally.fail(LIST, "ConnectionResetError")

    assert tally.in_flight == 1


def test_failures_are_counted_by_reason() -> None:
    """A failed request stays a sent one, and its reason is kept."""
    tally = Tally()
    tally.send(ORDER)
    tally.fail(ORDER, "TimeoutError")

    assert tally.sent == {ORDER: 1}
    assert tally.answered == {}
    assert tally.failures == {"TimeoutError": 1}


def test_equal_counts_have_no_differences() -> None:
    """A tally and a reading that agree on every route are equal."""
    assert differences(Counter({LIST: 2}), counts(reading((LIST, 200, FakeSnapshot(0.1, 0.1))))) == []


def test_differences_are_found_on_both_sides() -> None:
    """A route that only one side knows is a difference, also where the totals are equal."""
    assert differences({LIST: 1}, {ORDER: 1}) == [Difference(ORDER, 0, 1), Difference(LIST, 1, 0)]


def test_the_closing_line_says_equal() -> None:
    """With equal counts the line has both totals and says so."""
    line = closing_line({LIST: 2, ORDER: 1}, {ORDER: 1, LIST: 2})

    assert line == "Requests sent by the load generator: 3; counted by otel_perf: 3: equal, on every route."


def test_the_closing_line_names_the_routes_that_differ() -> None:
    """With different counts the line has both totals and each route that differs."""
    line = closing_line({LIST: 2, ORDER: 1}, {LIST: 1, ORDER: 1})

    assert "generator: 3; counted by otel_perf: 2: DIFFERENT" in line
    assert "(GET /products sent 2 counted 1)" in line


def test_the_load_keeps_its_books_when_nobody_answers() -> None:
    """Against a port that refuses, every request sent is a failure with its reason and none stays in flight."""

    async def send_until_refused(port: int, tally: Tally) -> None:
        stop = asyncio.Event()
        sending = asyncio.create_task(generate("127.0.0.1", port, tally, stop))
        deadline = asyncio.get_running_loop().time() + 10.0
        while tally.failed.total() < 3 and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.wait_for(sending, 10.0)

    tally = Tally()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # Bound and never listening, so that nobody else can answer on it.
        asyncio.run(send_until_refused(closed.getsockname()[1], tally))

    assert tally.sent.total() >= 3
    assert tally.failed == tally.sent
    assert tally.in_flight == 0
    assert set(tally.failures) == {"ConnectionRefusedError"}


@pytest.mark.parametrize("environment", [{}, {"DEMO_SECONDS": ""}])
def test_without_a_setting_the_demo_has_no_end(environment: dict[str, str]) -> None:
    """Unset and empty mean the same: until interrupted."""
    assert run_seconds(environment) is None


@pytest.mark.parametrize(("value", "seconds"), [("1", 1), ("30", 30), ("86400", 86_400)])
def test_whole_seconds_are_accepted(value: str, seconds: int) -> None:
    """Every whole number of the range is accepted, with its limits."""
    assert run_seconds({"DEMO_SECONDS": value}) == seconds


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "ten", " 5", "1_0", "\u0663", "86401", "9" * 5_000])
def test_other_values_are_refused_by_name(value: str) -> None:
    """The error names the variable, its value and what is accepted."""
    with pytest.raises(SettingError) as error:
        run_seconds({"DEMO_SECONDS": value})

    assert f"DEMO_SECONDS={value!r}" in str(error.value)
    assert "from 1 to 86400" in str(error.value)
