"""Snapshots as HdrHistogram objects and as encoded histograms, against the ``hdrhistogram`` package."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_perf import HistogramSnapshot
from otel_perf.hdr import HIGHEST_TRACKABLE, to_hdrhistogram, to_v2

PERCENTILES = [0.1, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0]
WIDTHS = {3.0: 0.001, 2.0: 0.008, 1.5: 0.032, 0.0: 1.0}
values = st.integers(0, 48).flatmap(lambda octave: st.integers(2**octave - 1, 2 ** (octave + 1) - 1))
samples = st.lists(values, max_size=200)
digits = st.sampled_from(sorted(WIDTHS))


def recorded_directly(recorded: list[int], significant_figures: int) -> Any:
    """An HdrHistogram of the recordings."""
    histogram = HdrHistogram(1, HIGHEST_TRACKABLE, significant_figures)
    for value in recorded:
        assert histogram.record_value(value)
    return histogram


def snapshot_of(recorded: list[int], steps: float = 3.0) -> HistogramSnapshot:
    """A snapshot of the recordings; bytes are kept one to one."""
    return HistogramSnapshot.of([float(value) for value in recorded], "By", steps)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(samples, st.sampled_from([1, 2, 3]))
def test_a_snapshot_becomes_what_recording_directly_makes(recorded: list[int], significant_figures: int) -> None:
    """At full precision the object is that of the same recordings, slot by slot, with its minimum, maximum and total."""
    converted = to_hdrhistogram(snapshot_of(recorded), significant_figures=significant_figures)

    assert converted.equals(recorded_directly(recorded, significant_figures))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(samples)
def test_an_encoded_snapshot_is_what_the_package_encodes(recorded: list[int]) -> None:
    """The bytes that are compressed are decoded to the same histogram, and header and length are as the package has them."""
    encoded, expected = to_v2(snapshot_of(recorded)), recorded_directly(recorded, 3)
    decoded = HdrHistogram.decode(encoded)

    assert decoded.equals(expected)
    assert (decoded.lowest_trackable_value, decoded.highest_trackable_value) == (1, HIGHEST_TRACKABLE)
    assert b64decode(encoded)[:4] == b64decode(expected.encode())[:4]
    again = HdrHistogram.decode(decoded.encode())
    assert again.equals(expected)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(samples, digits)
def test_coarse_slots_are_encoded_as_they_are_converted(recorded: list[int], steps: float) -> None:
    """Encoding and object of a snapshot of any precision are the same histogram."""
    snapshot = snapshot_of(recorded, steps)

    assert HdrHistogram.decode(to_v2(snapshot)).equals(to_hdrhistogram(snapshot))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(samples.filter(bool), digits)
def test_percentiles_are_those_of_the_snapshot(recorded: list[int], steps: float) -> None:
    """Percentiles are within the slot of three digits in which the snapshot's own lie, and too large by at most the stated width."""
    snapshot = snapshot_of(recorded, steps)
    converted = to_hdrhistogram(snapshot)

    for percentile in PERCENTILES:
        value, own = converted.get_value_at_percentile(percentile), int(snapshot.percentile(percentile))
        assert converted.get_lowest_equivalent_value(value) <= own <= value
        exact = recorded_directly(recorded, 3).get_value_at_percentile(percentile)
        assert converted.get_lowest_equivalent_value(exact) <= value
        if exact >= 1024:
            assert value <= exact * (1 + WIDTHS[steps]) * 1.001


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.tuples(samples, digits), min_size=1, max_size=5))
def test_encoded_intervals_add_up(parts: list[tuple[list[int], float]]) -> None:
    """Histograms of one precision and another are added by the package, and no count is lost."""
    total = HdrHistogram(1, HIGHEST_TRACKABLE, 3)
    for recorded, steps in parts:
        total.decode_and_add(to_v2(snapshot_of(recorded, steps)))

    assert total.get_total_count() == sum(len(recorded) for recorded, _ in parts)


@pytest.mark.parametrize("count", [1, 63, 64, 8191, 8192, 100_000])
def test_counts_of_any_size_are_encoded(count: int) -> None:
    """Counts that need one, two and three bytes are decoded to the same number."""
    snapshot = snapshot_of([5])
    for bit in bin(count)[3:]:
        snapshot = snapshot.merge(snapshot)
        if bit == "1":
            snapshot = snapshot.merge(snapshot_of([5]))

    decoded = HdrHistogram.decode(to_v2(snapshot))
    assert (decoded.get_count_at_value(5), decoded.get_total_count()) == (count, count)
