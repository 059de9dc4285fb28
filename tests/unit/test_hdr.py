"""Snapshots as HdrHistogram objects: units, what is refused, and what is optional."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram

from otel_perf import HistogramSnapshot
from otel_perf.hdr import HIGHEST_TRACKABLE, to_hdrhistogram, to_v2

UNITS = [
    ("s", 0.005, 5_000_000),
    ("ms", 5.0, 5_000_000),
    ("us", 5.0, 5_000),
    ("By", 4096.0, 4096),
    ("{token}", 7.0, 7),
    ("1", 0.5, 5_000),
]


@pytest.mark.parametrize(("unit", "value", "expected"), UNITS)
def test_values_are_in_the_units_of_the_snapshot(unit: str, value: float, expected: int) -> None:
    """Durations are nanoseconds, bytes and counts themselves, and the rest ten-thousandths."""
    snapshot = HistogramSnapshot.of([value], unit)

    assert expected == value * snapshot.units_per_one
    for histogram in (to_hdrhistogram(snapshot), HdrHistogram.decode(to_v2(snapshot))):
        assert histogram.get_count_at_value(expected) == 1
        assert histogram.get_total_count() == 1


def test_times_and_tag_are_those_given() -> None:
    """Time stamps in milliseconds and tag are set where they are given, and are the package's defaults else."""
    snapshot = HistogramSnapshot.of([1.0], "s")
    stated = to_hdrhistogram(snapshot, start_time_ms=1000.0, end_time_ms=2000.0, tag="orders")
    plain = to_hdrhistogram(snapshot)

    assert (stated.get_start_time_stamp(), stated.get_end_time_stamp(), stated.get_tag()) == (1000.0, 2000.0, "orders")
    assert (plain.get_start_time_stamp(), plain.get_end_time_stamp(), plain.get_tag()) == (0, 0, None)


def test_nothing_recorded_is_an_empty_histogram() -> None:
    """An empty snapshot has an object and an encoding without counts."""
    snapshot = HistogramSnapshot.of([], "s")

    assert to_hdrhistogram(snapshot).get_total_count() == 0
    assert HdrHistogram.decode(to_v2(snapshot)).get_total_count() == 0


def test_recordings_beyond_the_range_count_at_its_end() -> None:
    """What is larger than the range is counted in its last slot, as in the segment."""
    snapshot = HistogramSnapshot.of([1e300], "By")

    for histogram in (to_hdrhistogram(snapshot), HdrHistogram.decode(to_v2(snapshot))):
        assert histogram.get_count_at_value(HIGHEST_TRACKABLE) == 1


@pytest.mark.parametrize("convert", [to_hdrhistogram, to_v2])
def test_negative_recordings_are_refused(convert: Any) -> None:
    """Negative recordings are an error that says how many there are and what to do instead."""
    snapshot = HistogramSnapshot.of([-1.0, -2.0, 3.0], "By")

    assert snapshot.negative_count == 2
    with pytest.raises(ValueError, match=r"2 recordings are negative.*record magnitudes"):
        convert(snapshot)


def test_negative_recordings_can_be_left_out() -> None:
    """Asked to leave negative recordings out, the encoding has the others."""
    encoded = to_v2(HistogramSnapshot.of([-1.0, -2.0, 3.0], "By"), leave_out_negative=True)

    decoded = HdrHistogram.decode(encoded)
    assert (decoded.get_total_count(), decoded.get_count_at_value(3)) == (1, 1)


@pytest.mark.parametrize("digits", [0, 6, 1.5])
def test_digits_that_are_not_accepted_are_named(digits: Any) -> None:
    """Wrong digits are an error with setting, value and accepted values."""
    with pytest.raises(ValueError, match=r"significant_figures=.* \(accepted: an integer from 1 to 5\)"):
        to_hdrhistogram(HistogramSnapshot.of([1.0]), significant_figures=digits)


def test_more_digits_keep_the_slots() -> None:
    """More digits than the snapshot has leave each value where it was, to three digits."""
    converted = to_hdrhistogram(HistogramSnapshot.of([123_456_789.0], "By"), significant_figures=4)

    assert converted.get_max_value() == pytest.approx(123_456_789, rel=0.001)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the object is an ImportError that says what to install, and the encoding still works."""
    monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
    snapshot = HistogramSnapshot.of([1.0], "s")

    with pytest.raises(ImportError, match=r"pip install otel-perf\[hdr\]"):
        to_hdrhistogram(snapshot)
    assert to_v2(snapshot).startswith(b"HISTF")
