"""Snapshots as histograms of HdrHistogram, for its tools and its implementations in other languages.

Values are whole numbers of the snapshot's units, of which `HistogramSnapshot.units_per_one` make one of the instrument: a histogram in seconds,
milliseconds, microseconds or nanoseconds is in nanoseconds, one in bytes in bytes. Counts are exact, and at three digits each stays in the slot that
it was recorded in. A count of a coarser slot goes to the largest value of that slot that is not beyond the maximum, so that percentiles are those
of the snapshot: never too small, and too large by at most 0.8 % at two digits, 3.2 % at 1.5 and a factor of two at none.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from struct import pack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_perf.segment import HistogramSnapshot

__all__ = ["HIGHEST_TRACKABLE", "to_hdrhistogram", "to_v2"]

HIGHEST_TRACKABLE = (1 << 49) - 1
"""Largest value of the histograms in integer units; larger recordings are counted there, as in the segment."""

# Cookies of the encoding "V2" and of its compressed form (HdrHistogram, AbstractHistogram.java); the 1 is what newer readers expect there.
_V2 = 0x1C849303 | 0x10
_V2_COMPRESSED = 0x1C849304 | 0x10
_DIGITS = 3


def to_hdrhistogram(
    snapshot: HistogramSnapshot,
    *,
    significant_figures: int = 3,
    start_time_ms: float | None = None,
    end_time_ms: float | None = None,
    tag: str | None = None,
) -> Any:
    """The snapshot as an ``hdrh.histogram.HdrHistogram`` of the package ``hdrhistogram``, extra ``hdr``.

    It tracks 1 to `HIGHEST_TRACKABLE`, so that all of them with the same digits can be added. Minimum and maximum are those of the
    slots, as the package computes them. Some 0.3 milliseconds and one microsecond for each slot in use.

    Args:
        snapshot: The recordings.
        significant_figures: Digits of the result, 1 to 5. Fewer than those of the snapshot merge slots; more add no precision.
        start_time_ms: When the recordings began, in milliseconds since the epoch.
        end_time_ms: When they ended.
        tag: Tag of the histogram.

    Raises:
        ImportError: The package is not installed.
        ValueError: The digits are not accepted, or there are negative recordings, which HdrHistogram cannot hold.
    """
    if significant_figures not in range(1, 6):
        raise ValueError(
            f"significant_figures={significant_figures!r} is not accepted (accepted: an integer from 1 to 5)"
        )
    _refuse_negative(snapshot)
    try:
        from hdrh.histogram import HdrHistogram  # noqa: PLC0415 - an optional package.
    except ImportError as error:
        raise ImportError(
            "HdrHistogram objects need the package hdrhistogram: pip install otel-perf[hdr]", name="hdrh"
        ) from error
    histogram = HdrHistogram(1, HIGHEST_TRACKABLE, significant_figures)
    largest = snapshot.max * snapshot.units_per_one
    top = round(largest) if 0 <= largest < HIGHEST_TRACKABLE else HIGHEST_TRACKABLE
    for low, high, count in snapshot.slots():
        histogram.record_value(high if high <= top else max(low, top), count)
    if start_time_ms is not None:
        histogram.set_start_time_stamp(start_time_ms)
    if end_time_ms is not None:
        histogram.set_end_time_stamp(end_time_ms)
    if tag is not None:
        histogram.set_tag(tag)
    return histogram


def to_v2(snapshot: HistogramSnapshot, *, leave_out_negative: bool = False) -> bytes:
    """The snapshot in HdrHistogram's encoding V2, compressed and in base64, which all of its implementations read: three digits, 1 to `HIGHEST_TRACKABLE`.

    Needs no package. 5 to 100 microseconds, for 10 and 4,500 slots in use.

    Args:
        snapshot: The recordings.
        leave_out_negative: Whether negative recordings are left out. Otherwise they are refused.

    Raises:
        ValueError: There are negative recordings, which HdrHistogram cannot hold.
    """
    if not leave_out_negative:
        _refuse_negative(snapshot)
    counts = snapshot.v2_counts()
    payload = pack(">iiiiqqd", _V2, len(counts), 0, _DIGITS, 1, HIGHEST_TRACKABLE, 1.0) + counts
    compressed = zlib.compress(payload)
    return b64encode(pack(">ii", _V2_COMPRESSED, len(compressed)) + compressed)


def _refuse_negative(snapshot: HistogramSnapshot) -> None:
    negative = snapshot.negative_count
    if negative:
        raise ValueError(
            f"{negative} recordings are negative, which HdrHistogram cannot hold; record magnitudes, or ask the snapshot itself for percentiles"
        )
