"""Slots, percentiles, ladder steps and merges against the ``hdrhistogram`` package."""

from __future__ import annotations

import bisect
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from otel_perf import HistogramSnapshot, MeterProvider

HIGHEST = 2**49 - 1
PERCENTILES = [0.1, 25.0, 50.0, 90.0, 95.0, 99.0, 99.9, 100.0]
# Logarithmically spread, so that every octave is met.
values = st.integers(0, 48).flatmap(lambda octave: st.integers(2**octave, 2 ** (octave + 1) - 1))
samples = st.lists(values, min_size=1, max_size=200)
durations = st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=200)


def oracle(recorded: list[int], digits: int) -> Any:
    """An HdrHistogram of the recordings."""
    histogram = HdrHistogram(1, HIGHEST, digits)
    for value in recorded:
        assert histogram.record_value(value)
    return histogram


def recorded_snapshot(recorded: list[int]) -> HistogramSnapshot:
    """What a real histogram instrument in a real segment has after the recordings; bytes are kept one to one."""
    provider = MeterProvider([InMemoryMetricReader()], resource=Resource({}), shutdown_on_exit=False)
    try:
        histogram = provider.get_meter("m").create_histogram("h", "By")
        for value in recorded:
            histogram.record(value)
        (series,) = provider.segment.histograms()
        return series.snapshot
    finally:
        provider.shutdown()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(samples)
def test_recorded_slots_and_percentiles_are_hdrhistograms(recorded: list[int]) -> None:
    """An instrument counts every value in the slot that HdrHistogram has for it, and answers the same percentiles."""
    snapshot, expected = recorded_snapshot(recorded), oracle(recorded, 3)

    for low, high, count in snapshot.slots():
        assert expected.get_lowest_equivalent_value(low) == low
        assert expected.get_highest_equivalent_value(low) == high
        assert expected.get_count_at_value(low) == count
    assert (snapshot.count, snapshot.sum, snapshot.digits) == (len(recorded), sum(recorded), 3.0)
    assert (snapshot.min, snapshot.max) == (min(recorded), max(recorded))
    for percentile in PERCENTILES:
        # Ours never exceeds the exact maximum, HdrHistogram's answer is the end of the slot.
        wanted = min(expected.get_value_at_percentile(percentile), max(recorded))
        assert snapshot.percentile(percentile) == wanted


@settings(deadline=None, max_examples=100, derandomize=True)
@given(samples)
def test_a_step_down_the_ladder_is_recording_with_fewer_digits(recorded: list[int]) -> None:
    """Two digits after the fact are the same slots as two digits from the start."""
    stepped = HistogramSnapshot.of([float(value) for value in recorded], "By").coarsened(2.0)
    expected = oracle(recorded, 2)

    assert stepped.count == len(recorded)
    for low, high, count in stepped.slots():
        assert expected.get_lowest_equivalent_value(low) == low
        assert expected.get_highest_equivalent_value(low) == high
        assert expected.get_count_at_value(low) == count


@settings(deadline=None, max_examples=100, derandomize=True)
@given(samples, samples)
def test_merging_is_recording_into_one(first: list[int], second: list[int]) -> None:
    """Merging snapshots, in either order, is the snapshot of all recordings, and taking one off again leaves the other."""
    a, b = (HistogramSnapshot.of([float(v) for v in recorded], "By") for recorded in (first, second))
    both = HistogramSnapshot.of([float(value) for value in first + second], "By")

    assert a.merge(b).slots() == b.merge(a).slots() == both.slots()
    assert a.merge(b).percentiles(PERCENTILES) == both.percentiles(PERCENTILES)
    assert a.merge(b).minus(a).slots() == b.slots()
    assert a.merge(b).coarsened(1.5).slots() == a.coarsened(1.5).merge(b.coarsened(1.5)).slots()


@settings(deadline=None, max_examples=100, derandomize=True)
@given(durations)
def test_percentiles_of_durations_are_within_a_thousandth(recorded: list[float]) -> None:
    """At full precision p50 to p99.9 of durations from a microsecond up are within 0.1 % of the exact ones of the same rank."""
    snapshot = HistogramSnapshot.of(recorded, "s")
    ordered = sorted(recorded)
    for percentile in (50.0, 90.0, 99.0, 99.9):
        rank = max(1, int(percentile / 100 * len(ordered) + 0.5))
        exact = ordered[rank - 1]
        assert snapshot.percentile(percentile) == pytest.approx(exact, rel=0.001)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(durations, st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=15, unique=True))
def test_explicit_buckets_are_exact_but_for_one_slot(recorded: list[float], bounds: list[float]) -> None:
    """Cumulative counts equal the exact ones, except for recordings less than one slot above the boundary."""
    bounds = sorted(bounds)
    counts = HistogramSnapshot.of(recorded, "s").explicit(bounds)
    assert sum(counts) == len(recorded)
    for index, bound in enumerate(bounds):
        cumulative = sum(counts[: index + 1])
        exact = sum(value <= bound for value in recorded)
        above = sum(bound < value <= bound * 1.001 + 1e-9 for value in recorded)
        assert exact <= cumulative <= exact + above


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.integers(0, 14), min_size=1, max_size=50))
def test_recordings_on_boundaries_are_exact(indexes: list[int]) -> None:
    """Recordings equal to a boundary count in the bucket that ends there."""
    bounds = [0.0, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
    recorded = [bounds[index] for index in indexes]
    expected = [0] * 16
    for value in recorded:
        expected[bisect.bisect_left(bounds, value)] += 1

    assert HistogramSnapshot.of(recorded, "s").explicit(bounds) == expected
    assert HistogramSnapshot.of(recorded, "s").coarsened(1.5).count == len(recorded)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(durations, st.integers(2, 320))
def test_exponential_buckets_hold_every_recording(recorded: list[float], size: int) -> None:
    """No bucket is lost, none is more than wanted, and the buckets span the recordings."""
    scale, zeros, offset, counts = HistogramSnapshot.of(recorded, "s").exponential(size)

    assert zeros + sum(counts) == len(recorded)
    assert len(counts) <= size
    base = 2.0 ** (2.0**-scale)
    assert base**offset <= min(recorded) * 1.001
    assert max(recorded) <= base ** (offset + len(counts)) * 1.001
