"""Quantiles of the trailing window, and those on the stock SDK, against the native core and the ``hdrhistogram`` package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View

from otel_perf import HistogramSnapshot
from otel_perf.metrics import EwmaAggregation, HdrHistogramAggregation
from otel_perf.metrics._window import TrailingWindow, highest_equivalent
from tests.unit.stock import Clock, stock_provider, values_of

HIGHEST = 2**49 - 1
QUANTILES = (0.0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
LADDER = {1: (5, 1.5), 2: (7, 2.0), 3: (10, 3.0)}
"""Half bits and the core's number of digits, by significant digits."""

units = st.integers(0, 49).flatmap(lambda octave: st.integers(2**octave - 1, 2 ** (octave + 1) - 1))
amounts = st.one_of(st.integers(0, 10**15), st.floats(0, 1e12), st.floats(1e-9, 1e-3), st.just(1e300))
digits = st.sampled_from([1, 2, 3])
unit_names = st.sampled_from(["", "s", "ms", "us", "ns", "By", "min", "1", "{request}", "MiBy", "%"])


def windowed(recorded: Sequence[float], significant_digits: int, unit: str) -> TrailingWindow:
    """A window that holds the recordings."""
    per_one = HistogramSnapshot.of([], unit).units_per_one
    window = TrailingWindow(significant_digits, 60, per_one, Clock())
    for value in recorded:
        window.record(value)
    return window


@settings(deadline=None, max_examples=300, derandomize=True)
@given(units, digits)
def test_slots_are_those_of_the_core(value: int, significant_digits: int) -> None:
    """The end of a slot is the native core's at every step, and HdrHistogram's at two and three digits."""
    half_bits, ladder = LADDER[significant_digits]
    value = min(value, HIGHEST)
    ((low, high, _),) = HistogramSnapshot.of([float(value)], "By", ladder).slots()

    assert low <= value <= high
    assert highest_equivalent(value, half_bits) == high
    if significant_digits > 1 and value > 0:
        assert HdrHistogram(1, HIGHEST, significant_digits).get_highest_equivalent_value(value) == high


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.lists(amounts, min_size=1, max_size=60), digits, unit_names)
def test_quantiles_are_those_of_the_core(recorded: list[float], significant_digits: int, unit: str) -> None:
    """Whatever the unit and the precision, quantiles of a window are a snapshot's percentiles, to the last bit."""
    snapshot = HistogramSnapshot.of([float(value) for value in recorded], unit, LADDER[significant_digits][1])
    found = windowed(recorded, significant_digits, unit).quantiles(QUANTILES)

    assert found == snapshot.percentiles([quantile * 100 for quantile in QUANTILES])


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=200), st.sampled_from([2, 3]))
def test_quantiles_are_those_of_hdrhistogram(recorded: list[int], significant_digits: int) -> None:
    """A gauge of the stock SDK has the percentiles that HdrHistogram has for the same recordings, but not beyond the largest one."""
    oracle = HdrHistogram(1, HIGHEST, significant_digits)
    reader = InMemoryMetricReader()
    # At the very lowest end HdrHistogram answers the beginning of the slot, unlike anywhere else.
    quantiles = QUANTILES[1:]
    aggregation = HdrHistogramAggregation(significant_digits, quantiles, clock=Clock())
    provider = stock_provider([reader], [View(instrument_name="h", aggregation=aggregation)])
    histogram = provider.get_meter("m").create_histogram("h", "By")
    for value in recorded:
        assert oracle.record_value(value)
        histogram.record(value)
    found = {
        float(dict(attributes)["quantile"]): value for attributes, value in values_of(reader, "h.quantile").items()
    }
    provider.shutdown()

    assert found == {
        quantile: min(oracle.get_value_at_percentile(quantile * 100), max(recorded)) for quantile in quantiles
    }


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.lists(st.tuples(st.floats(0, 25), st.integers(1, 1000)), min_size=1, max_size=60))
def test_a_window_holds_its_seconds_and_at_most_a_sixth_more(steps: list[tuple[float, int]]) -> None:
    """After any sequence of pauses, what is seen is all of the last 60 seconds and nothing older than 70."""
    clock = Clock()
    window = TrailingWindow(3, 60, 1.0, clock)
    recorded: list[tuple[float, int]] = []
    for pause, value in steps:
        clock.now += pause
        window.record(value)
        recorded.append((clock.now, value))
        low, high = window.quantiles([0, 1])
        # The borders of slices are multiples of ten seconds but for the last bit.
        must = [known for at, known in recorded if at > clock.now - 60 + 1e-6]
        may = [known for at, known in recorded if at > clock.now - 70 - 1e-6]
        assert min(may) <= low <= min(must)
        assert max(must) <= high <= max(may)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    st.floats(0.1, 1000),
    st.lists(st.tuples(st.floats(0.01, 500), st.integers(0, 1000)), min_size=1, max_size=30),
)
def test_an_average_is_the_weighted_sum_of_all_rates(tau: float, intervals: list[tuple[float, int]]) -> None:
    """A rate is the sum of all intervals' rates, each weighted by its share of `exp(-age / tau)`, the first by what is left."""
    clock = Clock()
    reader = InMemoryMetricReader()
    provider = stock_provider([reader], [View(instrument_name="c", aggregation=EwmaAggregation(tau, clock=clock))])
    counter = provider.get_meter("m").create_counter("c")
    ends: list[tuple[float, float]] = []
    for seconds, increment in intervals:
        counter.add(increment)
        begun = clock.now
        clock.now += seconds
        ends.append((clock.now, increment / (clock.now - begun)))
        (found,) = values_of(reader, "c").values()
    provider.shutdown()
    expected = ends[0][1] * math.exp((ends[0][0] - clock.now) / tau)
    for (before, _), (end, rate) in pairwise(ends):
        expected += rate * (math.exp((end - clock.now) / tau) - math.exp((before - clock.now) / tau))

    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("quantile", [0.238, 0.334, 0.346, 0.438])
def test_ranks_that_end_in_a_half_are_those_of_the_core(quantile: float) -> None:
    """Where the last bit of a quantile decides between two recordings, the decision is the core's."""
    recorded = [float(value) for value in range(1, 251)]
    found = windowed(recorded, 3, "By").quantiles([quantile])

    assert found == [HistogramSnapshot.of(recorded, "By").percentile(quantile * 100)]
