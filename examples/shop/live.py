"""Responsible for reading the shop's live metrics from outside: the only module that touches `otel_perf`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from examples.shop.table import Reading, Snapshot, collate
from examples.shop.tally import RouteKey
from otel_perf import SegmentError
from otel_perf.segment import Segment, find

_METRIC = "http.server.request.duration"


class LiveMetrics:
    """The metrics of a running shop, read by attaching to its segment; reading costs the shop nothing.

    Attributes:
        path: Path of the segment.
        size: Size of the segment in bytes.
    """

    def __init__(self, segment: Segment, path: Path) -> None:
        self._segment = segment
        self.path = path
        self.size: int = segment.size

    def read(self) -> Reading:
        """Takes a snapshot of the duration histograms of all routes, over all workers."""
        return collate(self._series())

    def close(self) -> None:
        """Detaches; the shop goes on."""
        self._segment.close()

    def _series(self) -> Iterator[tuple[RouteKey, int, Snapshot]]:
        for series in self._segment.histograms():
            if series.name != _METRIC:
                continue
            attributes = series.attributes
            if attributes.get("otel.metric.overflow"):
                key = RouteKey("(series beyond the memory limit)", "")
            else:
                route = str(attributes.get("http.route", "(no route)"))
                key = RouteKey(route, str(attributes.get("http.request.method", "")))
            status = attributes.get("http.response.status_code")
            yield key, status if isinstance(status, int) else 0, series.snapshot


def attach(service_name: str, process_id: int) -> LiveMetrics | None:
    """Attaches to the segment of one process.

    A second shop may run on the machine. Its segment has the same service name, so the one that the process has
    mapped is taken.

    Args:
        service_name: The value of OTEL_SERVICE_NAME the process was started with.
        process_id: The process that made the segment; it belongs to this user.

    Returns:
        The metrics, or None while the process has no segment yet.
    """
    try:
        mapped = Path(f"/proc/{process_id}/maps").read_text()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[5] for line in mapped.splitlines() if len(line.split(maxsplit=5)) == 6}
    for path in find(service_name):
        if os.path.realpath(path) in paths:
            try:
                return LiveMetrics(Segment.attach(path), path)
            except SegmentError:
                return None  # It is being made or removed at this moment; the caller asks again.
    return None
