"""Percentiles, rates and moving averages of the last seconds, by an observer that looks at a segment every second.

Windows and averages are kept natively, in a thread that never takes the GIL and in a limited number of bytes besides the segment and a copy of its
slots. A question is answered from what was seen at the last look, without another one.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from otel_perf import _core
from otel_perf.config import WINDOW_MEMORY_LIMIT_DEFAULT, WINDOWS_DEFAULT
from otel_perf.segment import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otel_perf.metrics import MeterProvider
    from otel_perf.metrics._self_metrics import Made
    from otel_perf.observer._seen import Percentiles, Snapshot, Source
    from otel_perf.segment import Segment

INTERVAL_S = 1.0
"""Seconds between two looks."""
WINDOW_DEFAULT_S = 60
TAUS = (10.0, 60.0, 300.0, 900.0)
"""Time constants of the moving averages in seconds."""

_OF = ("rate", "mean")

# In a forked child the native thread is missing and a lock of it may be held for ever. Each generation has windows of its own.
_generation = 0


class Answers:
    """Answers questions from windows.

    Args:
        windows: Seconds of the windows that are kept.
        taus: Time constants of the averages in seconds.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        windows: Sequence[float] = WINDOWS_DEFAULT,
        taus: Sequence[float] = TAUS,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._windows = tuple(windows)
        self._taus = tuple(taus)
        self._clock = clock

    def _source(self) -> Source:
        raise NotImplementedError

    def percentiles(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        window: float | None = None,
        scope: str | None = None,
    ) -> Percentiles:
        """What was recorded in a window: percentiles, mean, count and rate. Some 40 microseconds, and 10 for each series that is merged, without the GIL.

        Args:
            name: Name of the metric, as it is exported.
            attributes: Attributes of one series, exactly those; if None, the histograms of all series of the metric are merged.
            window: Seconds of the window, one of those that are kept; 60 if not given, or the longest if that is not kept.
            scope: Name of the instrumentation scope; any if None.

        Returns:
            The values, without percentiles if nothing was recorded in the window or it is a counter.

        Raises:
            LookupError: Nothing was recorded under the name, scope and attributes until the last look.
            ValueError: There is no such window.
        """
        from otel_perf.observer import _seen  # noqa: PLC0415 - only who asks pays for it.

        if window is None:
            window = WINDOW_DEFAULT_S if WINDOW_DEFAULT_S in self._windows else max(self._windows)
        _require("window", window, self._windows, "; see OTEL_PERF_WINDOWS")
        found = self._source().read(name, attributes, scope, float(window), _seen.PERCENTILES)
        if found is None:
            raise _unknown(name, attributes, scope)
        return _seen.percentiles_of(found["unit"], float(window), found)

    def ewma(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        tau: float = 60,
        of: Literal["rate", "mean"] = "rate",
        scope: str | None = None,
    ) -> float | None:
        """An exponentially weighted moving average, weighted by the time that has passed and without the bias of its begin.

        Args:
            name: Name of the metric, as it is exported.
            attributes: Attributes of one series, exactly those; if None, all series of the metric together.
            tau: Time constant in seconds, one of those that are kept.
            of: ``rate`` for recordings, or what was added to a counter, per second; ``mean`` for the mean of the recordings, in the metric's unit.
            scope: Name of the instrumentation scope; any if None.

        Returns:
            The average; None as long as there is nothing to average.

        Raises:
            LookupError: Nothing was recorded under the name, scope and attributes until the last look.
            ValueError: There is no such time constant, or `of` is neither of the two.
        """
        _require("tau", tau, self._taus)
        if of not in _OF:
            raise ValueError(f"of={of!r} is not accepted (accepted: {', '.join(_OF)})")
        found = self._source().averages(name, attributes, scope, float(tau))
        if found is None:
            raise _unknown(name, attributes, scope)
        return found[_OF.index(of)]

    def snapshot(self) -> Snapshot:
        """All series with all their windows and averages. Some 60 microseconds a series, most of them without the GIL."""
        from otel_perf.observer import _seen  # noqa: PLC0415 - as above.

        found = self._source().snapshot(_seen.PERCENTILES)
        return _seen.Snapshot(self._clock(), tuple(_seen.series_of(series) for series in found))


class Observer(Answers):
    """Looks at a segment every second and keeps windows and moving averages of all its counters and histograms, those of all workers.

    For a provider made in code: ``observer = Observer(provider.segment); observer.start()``. In a forked child it begins anew when it is first used.

    Args:
        segment: The segment.
        windows: Seconds of the windows.
        taus: Time constants of the averages in seconds.
        memory_limit: Bytes that the windows may take besides a copy of the segment's slots; 1,000 histogram series with 20 recordings a second take
            about 2.7 MB for a minute. What does not fit loses precision and then its oldest part, counted as ``otel_perf.window.lost``.
        clock: Seconds since the epoch, for snapshots.

    Raises:
        ValueError: The windows, time constants or the limit are not accepted.
    """

    def __init__(
        self,
        segment: Segment,
        windows: Sequence[float] = WINDOWS_DEFAULT,
        taus: Sequence[float] = TAUS,
        memory_limit: int = WINDOW_MEMORY_LIMIT_DEFAULT,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(windows, taus, clock=clock)
        self._segment = segment
        self._memory_limit = memory_limit
        self._interval_s: float | None = None
        # Those of a parent stay, as ending them would wait for its thread.
        self._made: dict[int, _core.Windows] = {_generation: self._make()}

    def _make(self) -> _core.Windows:
        return _core.Windows(self._segment, self._windows, self._taus, self._memory_limit)

    def _source(self) -> _core.Windows:
        made = self._made.get(_generation)
        if made is None:
            # The first one that two threads make is the one that both use.
            made = self._made.setdefault(_generation, self._make())
            interval_s, self._interval_s = self._interval_s, None
            if interval_s is not None:
                # As long as there is no thread for it, it is not running.
                with suppress(RuntimeError, OSError):
                    _start(made, interval_s)
                    self._interval_s = interval_s
        return made

    @property
    def segment(self) -> Segment:
        """The segment."""
        return self._segment

    @property
    def is_running(self) -> bool:
        """Whether it looks regularly, in a forked child from its first use on."""
        return self._interval_s is not None

    def is_like(self, segment: Segment, windows: Sequence[float]) -> bool:
        """Whether it keeps these windows of this segment."""
        return self._segment is segment and self._windows == tuple(windows)

    def start(self, interval_s: float = INTERVAL_S) -> None:
        """Looks at once and then regularly in a native thread, until `stop` or the end of the process.

        Args:
            interval_s: Seconds between two looks.

        Raises:
            OSError: No thread can be started.
        """
        _start(self._source(), interval_s)
        self._interval_s = interval_s

    def stop(self) -> None:
        """Ends the thread. What was seen stays readable."""
        self._interval_s = None
        self._source().stop()

    def tick(self, now_ns: int | None = None) -> bool:
        """Looks now, for an observer that was not started.

        Args:
            now_ns: Monotonic time in nanoseconds; that of now if not given.

        Returns:
            False, and nothing is done, if the time is not later than that of the last look.
        """
        return self._source().tick(time.monotonic_ns() if now_ns is None else now_ns)

    def statistics(self) -> dict[str, float]:
        """How the observer does.

        Returns:
            Numbers of ``ticks``, of ``ignored_ticks`` that were not later than the one before, of ``errors``, ``series`` and ``lost_slices``;
            ``cpu_seconds``; how late the last look was, ``lag_seconds``, and the latest one, ``lag_max_seconds``; ``memory_bytes`` of
            ``memory_limit``, and ``known_bytes``, a copy of the segment's slots; and the ``digits`` that the coarsest slices keep.
        """
        return self._source().statistics()

    def quantiles(
        self,
        provider: MeterProvider,
        quantiles: Sequence[float],
        *,
        instruments: Sequence[str] = ("*",),
        window: float = 60,
    ) -> None:
        """Has each export of a provider carry quantiles of the last seconds as gauges, beside the histograms.

        A gauge of `name` is called ``<name>.quantile`` and has an attribute ``quantile``. The gauges of a histogram are at most as many as its
        cardinality limit; one set of them, with the attribute ``otel.metric.overflow``, stands for all series that find no room.

        Args:
            provider: A provider with this observer's segment.
            quantiles: 0 to 1.
            instruments: Names of the histograms as they are exported, with ``*`` and ``?``; case does not matter.
            window: Seconds, up to the longest window that is kept.

        Raises:
            ValueError: A quantile or the window is not accepted.
        """
        if not 0 < window <= max(self._windows):
            raise ValueError(f"window={window!r} is not accepted (accepted: up to {max(self._windows):g} seconds)")
        made: dict[int, _core.Quantiles] = {}

        def of_now() -> _core.Quantiles:
            source = self._source()
            found = made.get(_generation)
            return found or made.setdefault(_generation, _core.Quantiles(source, quantiles, window, instruments))

        of_now()
        provider._consumer.ask_quantiles(of_now)

    def self_metrics(self) -> list[Made]:
        """The ``otel_perf.*`` metrics of the observer, a source for `SelfMetrics.add`."""
        found = self.statistics()
        return [
            (
                "otel_perf.observer.lag",
                "Seconds by which the observer's last look was late",
                "s",
                "ObservableGauge",
                [({}, found["lag_seconds"])],
            ),
            (
                "otel_perf.observer.lag.max",
                "Seconds by which the latest of the observer's looks was late",
                "s",
                "ObservableGauge",
                [({}, found["lag_max_seconds"])],
            ),
            (
                "otel_perf.cpu.time",
                "CPU time of otel_perf by part",
                "s",
                "ObservableCounter",
                [({"part": "observer"}, found["cpu_seconds"])],
            ),
            (
                "otel_perf.window.memory",
                "Bytes that the windows of the observer take, with its copy of the segment's slots",
                "By",
                "ObservableUpDownCounter",
                [({}, int(found["memory_bytes"] + found["known_bytes"]))],
            ),
            (
                "otel_perf.window.lost",
                "Slices of time that the windows of the observer have given up for want of memory",
                "{slice}",
                "ObservableCounter",
                [({}, int(found["lost_slices"]))],
            ),
        ]


def _start(made: _core.Windows, interval_s: float) -> None:
    # Here and not only in the thread, so that a question that is asked at once finds the series that there are.
    made.tick(time.monotonic_ns())
    # One that runs keeps its interval.
    made.stop()
    made.start(interval_s)


def _require(setting: str, value: float, accepted: Sequence[float], hint: str = "") -> None:
    if value not in accepted:
        known = ", ".join(f"{seconds:g}" for seconds in accepted)
        raise ValueError(f"{setting}={value!r} is not accepted (accepted: {known} seconds{hint})")


def _unknown(name: str, attributes: Mapping[str, Any] | None, scope: str | None) -> LookupError:
    of = "" if scope is None else f" of scope {scope!r}"
    with_attributes = "" if attributes is None else f" with exactly the attributes {dict(attributes)!r}"
    return LookupError(
        f"nothing is observed of {name!r}{of}{with_attributes}: no recording of such a counter or histogram was seen yet"
    )


def _after_fork_in_child() -> None:
    global _generation  # noqa: PLW0603 - a process has one.
    _generation += 1


after_fork_in_child(_after_fork_in_child)
