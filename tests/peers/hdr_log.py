"""Reads an interval log with the ``hdrhistogram`` package."""

from __future__ import annotations

from collections import Counter
from os import PathLike
from typing import Any

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from otel_perf.hdr import HIGHEST_TRACKABLE


def intervals(path: str | PathLike[str]) -> list[Any]:
    """The histograms of all lines, with tag and times."""
    reader = HistogramLogReader(str(path), HdrHistogram(1, HIGHEST_TRACKABLE, 3))
    try:
        return list(iter(reader.get_next_interval_histogram, None))
    finally:
        reader.close()


def totals(path: str | PathLike[str]) -> Counter[str]:
    """Recordings by tag."""
    counted: Counter[str] = Counter()
    for interval in intervals(path):
        counted[interval.get_tag()] += interval.get_total_count()
    return counted
