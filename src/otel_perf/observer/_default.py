"""The observer of the process, and the questions that it answers: in thread mode its own, in process mode that of the observer process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from otel_perf.observer._windows import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_perf.config import Settings
    from otel_perf.metrics import MeterProvider
    from otel_perf.metrics._self_metrics import Made
    from otel_perf.observer._seen import Percentiles, Snapshot
    from otel_perf.observer._windows import Answers
    from otel_perf.segment import Segment

_logger = logging.getLogger("otel_perf.observer")

_default: Observer | None = None
_has_failed = False


def start(segment: Segment, settings: Settings) -> Observer:
    """Makes the observer that `percentiles`, `ewma` and `snapshot` ask.

    It looks every second in the process that leads the group, and in another one from the first question on.

    Args:
        segment: The segment to look at.
        settings: Windows to keep.

    Returns:
        The observer; at another call for the same segment and windows the same one.
    """
    global _default  # noqa: PLW0603 - one segment a process, one observer a segment.
    if _default is not None:
        if _default.is_like(segment, settings.windows):
            return _default
        _default.stop()
    _default = observer = Observer(segment, settings.windows, memory_limit=settings.window_memory_limit)
    if segment.lead():
        _begin(observer)
    return observer


def quantiles(provider: MeterProvider, settings: Settings) -> None:
    """Has exports of the provider carry the quantiles of the settings, if there are any.

    Args:
        provider: The provider, with the segment that `start` was called with.
        settings: Quantiles, instruments and window.
    """
    if _default is not None and settings.quantiles:
        _default.quantiles(
            provider,
            settings.quantiles,
            instruments=settings.quantile_instruments,
            window=min(settings.quantile_window_s, settings.windows[-1]),
        )


def look() -> None:
    """Has the observer of this process look, which leads from now on, if there is one and it does not yet."""
    if _default is not None and not _default.is_running:
        _begin(_default)


def _begin(observer: Observer) -> None:
    global _has_failed  # noqa: PLW0603 - as above.
    try:
        observer.start()
    except (RuntimeError, OSError) as error:
        if not _has_failed:
            _logger.warning("No windows are kept, because there is no thread for it: %s", error)
        _has_failed = True


def self_metrics() -> list[Made]:
    """The ``otel_perf.*`` metrics of the observer, a source for `SelfMetrics.add`.

    Only the process that leads collects them, so that one which leads from now on begins to look here.
    """
    if _default is None:
        return []
    look()
    return _default.self_metrics()


def _answers() -> Answers:
    """Whoever answers in this process.

    Raises:
        RuntimeError: Nobody does; the text says what to do.
    """
    if _default is not None:
        if not _default.is_running:
            _begin(_default)
        return _default
    # Sockets and what else the channel needs are there only if a process observes.
    from otel_perf.observer import _process  # noqa: PLC0415 - as above.

    process = _process.current()
    if process is None:
        raise RuntimeError(
            "nothing observes: start the program with opentelemetry-instrument or call otel_perf.configure(), with OTEL_PERF_OBSERVER=thread or "
            "process; for a provider made in code, make an otel_perf.Observer(provider.segment)"
        )
    return process.windows


def percentiles(
    name: str, attributes: Mapping[str, Any] | None = None, *, window: float | None = None, scope: str | None = None
) -> Percentiles:
    """What was recorded in the last seconds by all workers: percentiles, mean, count and rate.

    Args:
        name: Name of the metric, as it is exported.
        attributes: Attributes of one series, exactly those; if None, the histograms of all series of the metric are merged.
        window: Seconds of the window, one of ``OTEL_PERF_WINDOWS``; 60 if not given, or the longest if that is not among them.
        scope: Name of the instrumentation scope; any if None.

    Returns:
        The values, without percentiles if nothing was recorded in the window or it is a counter.

    Raises:
        LookupError: Nothing was recorded under the name, scope and attributes until the last look, at most a second ago.
        ValueError: There is no such window.
        RuntimeError: Nothing observes, or the observer process does not answer within a second.
    """
    return _answers().percentiles(name, attributes, window=window, scope=scope)


def ewma(
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    tau: float = 60,
    of: Literal["rate", "mean"] = "rate",
    scope: str | None = None,
) -> float | None:
    """An exponentially weighted moving average over all workers.

    Args:
        name: Name of the metric, as it is exported.
        attributes: Attributes of one series, exactly those; if None, all series of the metric together.
        tau: Time constant in seconds: 10, 60, 300 or 900.
        of: ``rate`` for recordings, or what was added to a counter, per second; ``mean`` for the mean of the recordings, in the metric's unit.
        scope: Name of the instrumentation scope; any if None.

    Returns:
        The average; None as long as there is nothing to average.

    Raises:
        LookupError: As `percentiles`.
        ValueError: There is no such time constant, or `of` is neither of the two.
        RuntimeError: As `percentiles`.
    """
    return _answers().ewma(name, attributes, tau=tau, of=of, scope=scope)


def snapshot() -> Snapshot:
    """All series with all their windows and averages.

    Raises:
        RuntimeError: As `percentiles`.
    """
    return _answers().snapshot()
