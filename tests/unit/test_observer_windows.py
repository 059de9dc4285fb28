"""Windows and averages as they are asked for from Python, at moments that the tests choose."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict
from typing import Any

import pytest
from opentelemetry.metrics import Meter

from otel_perf import MeterProvider, Observer, Percentiles
from tests.peers.observers import until
from tests.peers.program import run

SECOND_NS = 1_000_000_000
BEGIN_NS = 5 * SECOND_NS


class Driven:
    """An observer that looks when it is told to.

    Attributes:
        observer: The observer.
        meter: Makes instruments of its segment.
    """

    def __init__(self, provider: MeterProvider) -> None:
        self.observer = Observer(provider.segment, clock=lambda: 1234.5)
        self.meter: Meter = provider.get_meter("app")
        self._now_ns = BEGIN_NS
        assert self.observer.tick(self._now_ns)

    def passes(self, seconds: float = 1.0) -> None:
        """Lets time pass, and the observer look."""
        self._now_ns += int(seconds * SECOND_NS)
        assert self.observer.tick(self._now_ns)


@pytest.fixture
def driven(provider: MeterProvider) -> Driven:
    """An observer that has looked once, at an empty segment."""
    return Driven(provider)


def test_a_window_has_what_was_recorded_in_it(driven: Driven) -> None:
    """Count, sum, mean and rate are exact, percentiles within a thousandth, and what is older than the window is not in it."""
    sizes = driven.meter.create_histogram("app.size", "By")
    sizes.record(1_000_000)
    driven.passes()
    for size in range(1, 1001):
        sizes.record(size)
    driven.passes()
    found = driven.observer.percentiles("app.size", window=1)

    assert (found.unit, found.window, found.seconds, found.overflow) == ("By", 1, 1, False)
    assert (found.count, found.sum, found.rate, found.mean) == (1000, 500_500, 1000, 500.5)
    assert [found.p50, found.p90, found.p95, found.p99, found.p999] == pytest.approx(
        [500, 900, 950, 990, 999], rel=1e-3
    )
    assert [found.min, found.max] == pytest.approx([1, 1000], rel=1e-3)
    assert found.digits == 3
    assert driven.observer.percentiles("app.size", window=10).count == 1001


def test_all_series_of_a_metric_are_merged(driven: Driven) -> None:
    """Without attributes the percentiles are those of all recordings together; with attributes of the one series that has exactly those."""
    durations = driven.meter.create_histogram("app.duration", "s")
    for _ in range(99):
        durations.record(0.010, {"route": "/", "method": "GET"})
    durations.record(2.0, {"route": "/slow"})
    driven.passes()
    together = driven.observer.percentiles("app.duration")
    one = driven.observer.percentiles("app.duration", {"method": "GET", "route": "/"}, scope="app")

    assert (together.count, one.count) == (100, 99)
    assert [together.p50, together.max, one.max] == pytest.approx([0.01, 2, 0.01], rel=1e-3)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"name": "app.nothing"}, "'app.nothing'"),
        ({"name": "app.size", "attributes": {"a": "b"}}, "{'a': 'b'}"),
        ({"name": "app.size", "attributes": {}}, "{}"),
        ({"name": "app.size", "scope": "other"}, "'other'"),
    ],
    ids=str,
)
def test_what_was_never_recorded_is_a_lookup_error(driven: Driven, asked: dict[str, Any], named: str) -> None:
    """The text has what was asked for; an attribute set that is a part of another one is another one."""
    driven.meter.create_histogram("app.size").record(1, {"a": "b", "c": "d"})
    driven.passes()

    for ask in (driven.observer.percentiles, driven.observer.ewma):
        with pytest.raises(LookupError) as raised:
            ask(**asked)
        assert named in str(raised.value)


WRONG: list[tuple[Callable[[Observer], object], str]] = [
    (
        lambda observer: observer.percentiles("x", window=5),
        "window=5 is not accepted (accepted: 1, 10, 60 seconds; see OTEL_PERF_WINDOWS)",
    ),
    (lambda observer: observer.ewma("x", tau=1), "tau=1 is not accepted (accepted: 10, 60, 300, 900 seconds)"),
    (lambda observer: observer.ewma("x", of="p99"), "of='p99' is not accepted (accepted: rate, mean)"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("ask", "text"), WRONG)
def test_wrong_questions_name_what_is_accepted(driven: Driven, ask: Callable[[Observer], object], text: str) -> None:
    """A window, a time constant or a kind of average that there is not is a `ValueError` with setting, value and accepted values."""
    with pytest.raises(ValueError, match=r"is not accepted") as raised:
        ask(driven.observer)
    assert str(raised.value) == text


def test_a_window_without_recordings_has_no_percentiles(driven: Driven) -> None:
    """Nothing is made up where nothing was recorded: values are None, count and rate are 0."""
    driven.meter.create_histogram("app.size").record(1)
    driven.passes()
    driven.passes()
    found = driven.observer.percentiles("app.size", window=1)

    assert (found.count, found.sum, found.rate) == (0, 0, 0)
    assert (found.mean, found.min, found.max, found.p50, found.p999) == (None,) * 5


def test_a_counter_has_a_rate(driven: Driven) -> None:
    """What is added per second, over the time that has really passed, and no percentiles."""
    count = driven.meter.create_counter("app.count")
    count.add(30, {"kind": "x"})
    count.add(12, {"kind": "y"})
    driven.passes(2)
    found = driven.observer.percentiles("app.count", window=10)

    assert (found.seconds, found.sum, found.rate) == (2, 42, 21)
    assert (found.mean, found.p50, found.max) == (None, None, None)
    assert driven.observer.percentiles("app.count", {"kind": "x"}).rate == 15


def test_averages_are_those_of_rate_and_mean(driven: Driven) -> None:
    """A steady load has its own rate and mean from the second look on, however the looks are spaced."""
    sizes = driven.meter.create_histogram("app.size")
    count = driven.meter.create_counter("app.count")
    for seconds in (1, 3, 2):
        for _ in range(10 * seconds):
            sizes.record(7)
        count.add(5 * seconds)
        driven.passes(seconds)

    for tau in (10, 60, 300, 900):
        assert driven.observer.ewma("app.size", tau=tau) == pytest.approx(10)
        assert driven.observer.ewma("app.size", {}, tau=tau, of="mean", scope="app") == pytest.approx(7)
        assert driven.observer.ewma("app.count", tau=tau) == pytest.approx(5)
    assert driven.observer.ewma("app.count", of="mean") is None


def test_a_snapshot_has_all_series(driven: Driven) -> None:
    """It has every window and average of every series, is JSON by `asdict`, and cannot be changed."""
    driven.meter.create_histogram("app.size", "By").record(7, {"a": 1, "b": ["x", "y"]})
    driven.meter.create_counter("app.count").add(2)
    driven.passes()
    snapshot = driven.observer.snapshot()
    sizes, count = sorted(snapshot.series, key=lambda series: series.kind, reverse=True)

    assert snapshot.time == 1234.5
    assert (sizes.scope, sizes.name, sizes.unit, sizes.kind) == ("app", "app.size", "By", "histogram")
    assert sizes.attributes == {"a": 1, "b": ("x", "y")}
    assert [window.window for window in sizes.windows] == [1, 10, 60]
    assert sizes.windows[2] == driven.observer.percentiles("app.size")
    assert [average.tau for average in sizes.averages] == [10, 60, 300, 900]
    assert (count.name, count.kind, count.windows[0].rate) == ("app.count", "counter", 2)
    assert json.loads(json.dumps(asdict(snapshot)))["series"][0]["windows"][0]["seconds"] == 1
    for frozen in (snapshot, sizes, sizes.windows[0], sizes.averages[0]):
        with pytest.raises(FrozenInstanceError):
            frozen.name = "x"  # type: ignore[misc, union-attr]


@pytest.mark.parametrize("arguments", [{"windows": ()}, {"windows": (0,)}, {"taus": (0,)}, {"memory_limit": 1}])
def test_wrong_settings_are_refused(provider: MeterProvider, arguments: dict[str, Any]) -> None:
    """Windows, time constants or a limit that cannot be are a `ValueError` that names them."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Observer(provider.segment, **arguments)


def test_a_started_observer_looks_by_itself(provider: MeterProvider) -> None:
    """It has looked when `start` returns, looks again and again, and no more once it is stopped; what it saw can still be read."""
    size = provider.get_meter("app").create_histogram("app.size")
    size.record(1)
    observer = Observer(provider.segment)
    observer.start(0.01)
    running = [observer.is_running]
    assert observer.percentiles("app.size").count == 0
    size.record(1)
    until(lambda: observer.percentiles("app.size").count == 1)
    observer.stop()
    running.append(observer.is_running)
    ticks = observer.statistics()["ticks"]

    assert running == [True, False]
    assert observer.percentiles("app.size").count == 1
    assert (observer.statistics()["ticks"], observer.segment) == (ticks, provider.segment)


IN_A_CHILD = """
import os, time
from otel_perf import MeterProvider, Observer
provider = MeterProvider(shutdown_on_exit=False)
size = provider.get_meter("app").create_histogram("app.size")
size.record(1)
observer = Observer(provider.segment)
observer.start(0.01)
if os.fork() == 0:
    print(observer.percentiles("app.size").count, flush=True)
    size.record(1)
    while observer.percentiles("app.size").count == 0:
        time.sleep(0.01)
    print(observer.is_running, observer.percentiles("app.size").count, flush=True)
    raise SystemExit
print(os.wait()[1], flush=True)
observer.stop()
"""


def test_a_forked_child_has_windows_of_its_own() -> None:
    """An observer that was started observes in the child as well, from its first use on, and the child ends in the ordinary way."""
    done = run("-c", IN_A_CHILD, wrapper=False)

    assert (done.out, done.err) == ("0\nTrue 1\n0\n", "")


def test_it_says_how_it_does(driven: Driven) -> None:
    """The metrics of the observer have one point each, with CPU time and memory that it has used."""
    driven.meter.create_histogram("app.size").record(1)
    driven.passes()
    made = {name: (unit, kind, values) for name, _, unit, kind, values in driven.observer.self_metrics()}
    value = {name: values[0][1] for name, (_, _, values) in made.items()}

    assert {name: (unit, kind) for name, (unit, kind, _) in made.items()} == {
        "otel_perf.observer.lag": ("s", "ObservableGauge"),
        "otel_perf.observer.lag.max": ("s", "ObservableGauge"),
        "otel_perf.cpu.time": ("s", "ObservableCounter"),
        "otel_perf.window.memory": ("By", "ObservableUpDownCounter"),
        "otel_perf.window.lost": ("{slice}", "ObservableCounter"),
    }
    assert [dict(attributes) for _, _, ((attributes, _),) in made.values()] == [{}, {}, {"part": "observer"}, {}, {}]
    assert 0 < value["otel_perf.window.memory"] <= 1 << 20
    assert value["otel_perf.cpu.time"] > 0
    assert value["otel_perf.window.lost"] == 0
    assert Percentiles.__dataclass_fields__.keys() >= {"p50", "p90", "p95", "p99", "p999", "max", "mean"}


@pytest.mark.parametrize(("kept", "length"), [((1, 10, 60), 60), ((1, 60, 300), 60), ((1, 10), 10)])
def test_the_window_is_a_minute_if_none_is_named(provider: MeterProvider, kept: tuple[int, ...], length: int) -> None:
    """Where a minute is not kept it is the longest window."""
    observer = Observer(provider.segment, kept)
    provider.get_meter("app").create_counter("app.count").add(1)
    observer.tick(BEGIN_NS)

    assert observer.percentiles("app.count").window == length
