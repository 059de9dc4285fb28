"""`_core.Windows`: what Python gets of windows and averages, with a clock of the test."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram

from otel_perf import MeterProvider, _core
from tests.peers.observers import until

SECOND = 1_000_000_000
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@pytest.fixture
def provider(make_provider: Callable[..., MeterProvider]) -> MeterProvider:
    """A provider without readers."""
    return make_provider()


@pytest.fixture
def windows(provider: MeterProvider) -> _core.Windows:
    """The windows of the provider's segment, after their first tick."""
    made = _core.Windows(provider.segment)
    made.tick(SECOND)
    return made


def test_percentiles_are_those_of_hdrhistogram(provider: MeterProvider, windows: _core.Windows) -> None:
    """Percentiles of a window are those of an HdrHistogram with three digits of the same recordings, and count, sum and mean are exact."""
    source = random.Random(1)
    histogram = provider.get_meter("m").create_histogram("h", "s")
    oracle = HdrHistogram(1, 3_600_000_000_000, 3)
    total = 0.0
    for second in range(2, 12):
        for _ in range(200):
            value = source.lognormvariate(-3, 1)
            total += value
            histogram.record(value)
            oracle.record_value(round(value * 1e9))
        windows.tick(second * SECOND)
    found = windows.read("h", None, None, 10.0, PERCENTILES)

    assert found is not None
    assert (found["kind"], found["unit"], found["seconds"], found["count"]) == ("histogram", "s", 10.0, 2000)
    assert found["sum"] == pytest.approx(total)
    assert (found["rate"], found["mean"]) == (200.0, pytest.approx(total / 2000))
    expected = [oracle.get_value_at_percentile(percentile) / 1e9 for percentile in PERCENTILES]
    assert found["percentiles"] == pytest.approx(expected, rel=1e-3)


def test_one_series_is_named_by_its_attributes(provider: MeterProvider, windows: _core.Windows) -> None:
    """Exact attributes name a series, none all of them, and what is not there is None."""
    counter = provider.get_meter("m").create_counter("c", "By")
    counter.add(3, {"a": 1, "b": "x"})
    counter.add(4, {"a": 2})
    windows.tick(2 * SECOND)

    def count(name: str, attributes: dict[str, Any] | None, scope: str | None = None) -> Any:
        found = windows.read(name, attributes, scope, 10.0, ())
        return found and (found["count"], found["percentiles"], found["mean"], found["digits"])

    assert count("c", {"b": "x", "a": 1}) == (3, None, None, None)
    assert count("c", None) == count("c", None, "m") == (7, None, None, None)
    assert [count("c", {"a": 3}), count("d", None), count("c", None, "n")] == [None] * 3
    rate, mean = windows.averages("c", None, None, 10.0) or (None, None)
    assert rate == pytest.approx(7.0)
    assert mean is None
    assert windows.averages("d", None, None, 10.0) is None


def test_a_snapshot_has_all_series(provider: MeterProvider, windows: _core.Windows) -> None:
    """Each counter and histogram is in it with its identity, all windows and all averages; gauges are not."""
    meter = provider.get_meter("m")
    meter.create_counter("c", "By").add(3, {"a": 1})
    meter.create_histogram("h", "s").record(0.5)
    meter.create_gauge("g").set(1)
    windows.tick(2 * SECOND)
    counter, histogram = windows.snapshot((50.0,))

    assert (counter["scope"], counter["name"], counter["unit"], counter["kind"]) == ("m", "c", "By", "counter")
    assert (histogram["name"], histogram["kind"], histogram["attributes"]) == ("h", "histogram", {})
    assert counter["attributes"] == {"a": 1}
    assert list(histogram["windows"]) == [1.0, 10.0, 60.0]
    assert histogram["windows"][60.0]["percentiles"] == [pytest.approx(0.5)]
    assert list(histogram["averages"]) == [10.0, 60.0, 300.0, 900.0]
    assert histogram["averages"][10.0] == (pytest.approx(1.0), pytest.approx(0.5))


def test_the_thread_ticks_without_python(provider: MeterProvider) -> None:
    """It ticks while Python waits, says what that costs, and is gone after `stop`, which may be called again."""
    windows = _core.Windows(provider.segment)
    windows.start(0.001)
    windows.start(0.001)
    until(lambda: windows.statistics()["ticks"] > 3)
    windows.stop()
    windows.stop()
    found = windows.statistics()

    assert found["cpu_seconds"] > 0
    assert found["memory_limit"] == 4 << 20
    assert found["ticks"] == windows.statistics()["ticks"]
    assert found["errors"] == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_needs_windows_of_its_own(provider: MeterProvider) -> None:
    """In a child the parent's windows raise, their thread is not waited for, and new ones work, while the parent's go on."""
    windows = _core.Windows(provider.segment)
    windows.start(0.001)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            windows.read("c", None, None, 10.0, ())
        except RuntimeError:
            windows.stop()
            own = _core.Windows(provider.segment)
            own.start()
            own.stop()
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ticks = windows.statistics()["ticks"]
    until(lambda: windows.statistics()["ticks"] > ticks)
    windows.stop()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"windows": []}, "windows"),
        ({"windows": [0.5]}, "windows"),
        ({"windows": [float("nan")]}, "windows"),
        ({"windows": [1.0] * 9}, "windows"),
        ({"taus": [0.0]}, "taus"),
        ({"memory_limit": 65_535}, "memory_limit"),
    ],
)
def test_what_is_not_accepted_is_named(provider: MeterProvider, arguments: dict[str, Any], named: str) -> None:
    """A wrong argument raises with its name, its value and what is accepted."""
    with pytest.raises(ValueError, match=rf"{named} (are|is) .*; accepted"):
        _core.Windows(provider.segment, **arguments)


def test_an_average_that_is_not_kept_and_an_interval_without_end_are_refused(windows: _core.Windows) -> None:
    """Both name what is accepted."""
    with pytest.raises(ValueError, match=r"tau is 7; accepted is one of \[10.0"):
        windows.averages("c", None, None, 7)
    with pytest.raises(ValueError, match="interval_s is inf; accepted"):
        windows.start(float("inf"))
