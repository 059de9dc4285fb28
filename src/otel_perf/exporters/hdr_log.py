"""Interval log: all histograms of a segment as a file in HdrHistogram's log format, version 1.3.

A line is what one series recorded in one interval. Its tag is name and attributes, its times are seconds since the epoch, and its largest value is in
milliseconds for durations and in the instrument's unit for the rest. The values of the histogram itself are integers, nanoseconds for durations;
a comment before the first line of a series says what they are. The lines of a series add up to exactly what was recorded.

The file is opened for each interval, so that it may be moved, removed or truncated at any time, and is written to in one piece, or not at all.
Whatever cannot be written is in the next interval that can.
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import stat
import time
from _thread import allocate_lock, start_new_thread
from typing import TYPE_CHECKING, Any

from otel_perf.hdr import HIGHEST_TRACKABLE, to_v2
from otel_perf.segment import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_perf.config import Settings
    from otel_perf.segment import HistogramSeries, HistogramSnapshot, Segment

__all__ = ["HdrLog", "start"]

_logger = logging.getLogger(__name__)

_running: set[HdrLog] = set()

_LEGEND = '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'
# Units that the core keeps in nanoseconds. The format's readers show those in milliseconds.
_DURATIONS = {"s", "ms", "us", "ns"}
_NS_PER_MS = 1e6
# A pipe without a reader must not be waited for.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK


class HdrLog:
    """The log of one segment. Only the leader of the segment writes; when it has died, another process goes on where it stands itself.

    What was recorded between the last line of a leader that died and the first interval of the next one is in no line. `write` is for one thread.

    Args:
        path: The file; made with mode 640 if it is missing.
        segment: Where the histograms are.
        interval_s: Seconds between intervals, for `start`.
        from_start: Whether the first line has all recordings since the segment was made. Otherwise those that were made before the first interval
            are taken as logged by another process.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        segment: Segment,
        *,
        interval_s: float = 10,
        from_start: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # The application may change its directory.
        self._named = os.path.abspath(path)  # noqa: PTH100 - pathlib has no such function that keeps links.
        self._segment = segment
        self._path = self._own_path()
        self._interval_s = interval_s
        self._clock = clock
        self._start = clock()
        # What has been logged so far, by number of the series; None while another process logs.
        self._logged: dict[int, HistogramSnapshot] | None = {} if from_start else None
        self._tags: dict[int, str] = {}
        self._taken: set[str] = set()
        # The file that has a header of this process, and the series that are described in it.
        self._file: tuple[int, int] | None = None
        self._described: set[int] = set()
        self._descriptor: int | None = None
        self._fails = False
        self._told_of_negative = False
        self._stop = self._ended = allocate_lock()

    def _own_path(self) -> str:
        return f"{self._named}.{os.getpid()}" if self._segment.is_separate else self._named

    def write(self, now: float) -> int:
        """Appends a line for each series with recordings since the last interval that could be written. Never raises.

        20 to 150 microseconds for each of them, for 10 and 700 slots in use; they are read without the GIL. What cannot be written is one warning, until it can again.

        Args:
            now: End of the interval in seconds since the epoch.

        Returns:
            The number of lines; 0 also if another process leads or the file cannot be written.
        """
        try:
            lines = self._write(now)
        except Exception as error:
            # Whatever it is, the application and the next interval go on.
            if not self._fails:
                _logger.warning(
                    "OTEL_PERF_HDR_LOG: %s cannot be written (%s); trying again every interval", self._path, error
                )
            self._fails = True
            return 0
        self._fails = False
        return lines

    def _write(self, now: float) -> int:
        if not self._segment.lead():
            self._logged = None
            return 0
        found = self._segment.histograms()
        lines = [] if self._logged is None else self._lines(found, self._logged, max(now, self._start))
        if lines:
            self._append(lines)
        self._logged = {**(self._logged or {}), **{series.number: series.snapshot for series in found}}
        self._start = now
        return len(lines)

    def _lines(
        self, found: list[HistogramSeries], logged: Mapping[int, HistogramSnapshot], now: float
    ) -> list[tuple[HistogramSeries, str]]:
        lines = []
        times = f"{self._start:.3f},{now - self._start:.3f}"
        for series in found:
            snapshot = series.snapshot
            before = logged.get(series.number)
            if before is not None:
                if snapshot.count == before.count:
                    continue
                snapshot = snapshot.minus(before)
            if snapshot.negative_count:
                self._tell_of_negative(series)
                if snapshot.count == snapshot.negative_count:
                    continue
            units = min(snapshot.max * snapshot.units_per_one, HIGHEST_TRACKABLE)
            largest = units / (_NS_PER_MS if series.unit in _DURATIONS else snapshot.units_per_one)
            histogram = to_v2(snapshot, leave_out_negative=True).decode()
            lines.append((series, f"Tag={self._tag(series)},{times},{largest:.3f},{histogram}"))
        return lines

    def _tell_of_negative(self, series: HistogramSeries) -> None:
        if not self._told_of_negative:
            self._told_of_negative = True
            _logger.warning(
                "OTEL_PERF_HDR_LOG: negative recordings, for example of %s, are left out; HdrHistogram cannot hold them",
                self._tag(series),
            )

    def _tag(self, series: HistogramSeries) -> str:
        tag = self._tags.get(series.number)
        if tag is None:
            attributes = ";".join(f"{key}={_text(value)}" for key, value in sorted(series.attributes.items()))
            tag = plain = _plain(f"{series.name}{{{attributes}}}" if attributes else series.name)
            # Series of other scopes or units and values of other types may look the same.
            same = 1
            while tag in self._taken:
                same += 1
                tag = f"{plain}~{same}"
            self._taken.add(tag)
            self._tags[series.number] = tag
        return tag

    def _append(self, lines: list[tuple[HistogramSeries, str]]) -> None:
        self._descriptor = descriptor = os.open(self._path, _FLAGS, 0o640)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            file = (status.st_dev, status.st_ino)
            is_new = file != self._file or status.st_size == 0
            described = set() if is_new else self._described
            text = self._header() if is_new else []
            for series, line in lines:
                if series.number not in described:
                    text.append(self._description(series))
                text.append(line)
            _append_whole(descriptor, "".join(f"{line}\n" for line in text).encode(), status.st_size)
        finally:
            self._descriptor = None
            os.close(descriptor)
        self._file = file
        self._described = described | {series.number for series, _ in lines}

    def _header(self) -> list[str]:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._start))
        return [
            "#[Histogram log format version 1.3]",
            f"#[StartTime: {self._start:.3f} (seconds since epoch), {at}]",
            "#[BaseTime: 0.000 (seconds since epoch)]",
            _LEGEND,
        ]

    def _description(self, series: HistogramSeries) -> str:
        largest = "ms" if series.unit in _DURATIONS else _plain(series.unit) or "1"
        return (
            f"#[Series: {self._tag(series)} of {_plain(series.scope)}, unit {_plain(series.unit) or '1'}, "
            f"values in 1/{series.snapshot.units_per_one:.0f} of it, Interval_Max in {largest}]"
        )

    def start(self) -> None:
        """Writes every interval in a thread, which forked children have as well, until `stop` or the end of the process."""
        if self in _running:
            return
        _running.add(self)
        self._start_thread()
        atexit.register(self.stop)

    def stop(self, timeout_s: float = 1.0) -> None:
        """Writes the last interval and ends the thread.

        Args:
            timeout_s: How long to wait for both.
        """
        if self not in _running:
            return
        _running.discard(self)
        atexit.unregister(self.stop)
        self._stop.release()
        self._ended.acquire(timeout=timeout_s)

    def _start_thread(self) -> None:
        # Locks and a thread of the kernel, also where gevent or eventlet patch `threading` later: a green thread would wait in the kernel for its turn.
        self._stop, self._ended = allocate_lock(), allocate_lock()
        self._stop.acquire()
        self._ended.acquire()
        start_new_thread(self._run, (self._stop, self._ended))

    def _run(self, stop: Any, ended: Any) -> None:
        stopped = False
        while not stopped:
            stopped = stop.acquire(timeout=self._interval_s)
            self.write(self._clock())
        ended.release()

    def _after_fork_in_child(self) -> None:
        # The parent logs what was recorded before. Its thread and, if it was writing, its open file are not the child's.
        self._logged = {} if self._segment.is_separate else None
        self._path = self._own_path()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._start_thread()


def start(settings: Settings, segment: Segment, *, from_start: bool | None = None) -> HdrLog | None:
    """Starts the log that the settings name, once for each file.

    Args:
        settings: File and interval, and the segment that this process found.
        segment: Where the histograms are.
        from_start: See `HdrLog`; if not given, whether this process made the segment.

    Returns:
        The log; None if none is named.
    """
    if settings.hdr_log is None:
        return None
    path = os.path.abspath(settings.hdr_log)  # noqa: PTH100 - as above.
    for running in _running:
        if running._named == path and running._segment is segment:
            return running
    if from_start is None:
        from_start = segment.path is None or str(segment.path) != settings.segment_path
    log = HdrLog(path, segment, interval_s=settings.hdr_log_interval_s, from_start=from_start)
    log.start()
    return log


def _append_whole(descriptor: int, data: bytes, size: int) -> None:
    """Appends to a file of this size, in one piece or not at all."""
    written = os.write(descriptor, data)
    if written == len(data):
        return
    # The disk is full. What another process has appended since is not ours to take away.
    if os.fstat(descriptor).st_size == size + written:
        os.ftruncate(descriptor, size)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _plain(text: str) -> str:
    """The text without what separates fields and lines."""
    return "".join("_" if char == "," or char.isspace() or not char.isprintable() else char for char in text)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "|".join(_text(item) for item in value)
    return str(value)


def _after_fork_in_child() -> None:
    for log in tuple(_running):
        log._after_fork_in_child()


after_fork_in_child(_after_fork_in_child)
