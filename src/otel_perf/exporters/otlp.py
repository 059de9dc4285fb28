"""OTLP: metrics encoded natively and sent by the stock exporters, and what becomes of them when the server does not answer."""

from __future__ import annotations

import logging
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader

from otel_perf.exporters._otlp_transport import Encoded, Outcome, transport_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader, MetricsData

    from otel_perf.exporters._otlp_transport import Transport

__all__ = ["OtlpMetricReader", "reader"]

_logger = logging.getLogger(__name__)

_RETRY_S = (1.0, 2.0, 4.0, 5.0)
"""Pauses after the first failed exports in a row, the last one also after all others."""
_WAITING_BYTES = 1024 * 1024
"""Most bytes of the requests that wait to be sent again."""
_WARN_S = 60.0


def reader(exporter: MetricExporter, **options: Any) -> MetricReader:
    """Makes a reader that exports periodically.

    Args:
        exporter: An exporter. A stock OTLP exporter, which is then this reader's alone, gets bytes where the meter provider is ours.
        **options: Arguments of `PeriodicExportingMetricReader`.

    Returns:
        An `OtlpMetricReader` for exactly the stock OTLP exporters, else the stock periodic reader.
    """
    transport = transport_of(exporter)
    if transport is None:
        return PeriodicExportingMetricReader(exporter, **options)
    return OtlpMetricReader(exporter, transport, **options)


class OtlpMetricReader(PeriodicExportingMetricReader):
    """The stock periodic reader, but that it takes bytes, comes back soon after a failure, and loses no delta to a short outage.

    With our meter provider metrics go from the segment to bytes without an object of Python in between. The stock way is taken with other
    providers, where exemplars are kept in Python, and where the exporter is to split requests (`max_export_batch_size`).

    After a failed export the next attempt comes after 1, 2, 4, and then every 5 s, where the interval is longer; later if the server says so. Each
    attempt collects anew, because the newest cumulative values supersede all older ones. Deltas that the server may take later wait in a queue of
    at most 1 MiB; of more the oldest are dropped.

    Args:
        exporter: The stock exporter.
        transport: What it sends with.
        export_interval_millis: Time between exports in milliseconds; that of ``OTEL_METRIC_EXPORT_INTERVAL`` if not given.
        export_timeout_millis: Time that a collection may take; that of ``OTEL_METRIC_EXPORT_TIMEOUT`` if not given.
        **options: What else `PeriodicExportingMetricReader` takes.

    Raises:
        ValueError: The interval is not above zero.
    """

    def __init__(
        self,
        exporter: MetricExporter,
        transport: Transport,
        export_interval_millis: float | None = None,
        export_timeout_millis: float | None = None,
        *,
        _clock: Callable[[], float] = monotonic,
        _wait: Callable[[float], bool] | None = None,
        **options: Any,
    ) -> None:
        # Before the SDK's constructor, which starts the thread.
        self._transport = transport
        self._clock = _clock
        self._wait = _wait
        self._due = 0.0
        self._warned = float("-inf")
        self._reset()
        super().__init__(exporter, export_interval_millis, export_timeout_millis, **options)

    def _reset(self) -> None:
        self._waiting: deque[Encoded] = deque()
        self._failures = 0
        self._attempts = 0
        self._retry_after = 0.0
        self._results = dict.fromkeys(("ok", "failed", "exported", "rejected", "dropped"), 0)

    @property
    def exporter_name(self) -> str:
        """Entry point name of the exporter."""
        return self._transport.exporter_name

    def results(self) -> dict[str, int]:
        """What became of the exports since this process began.

        Returns:
            ``ok`` and ``failed``: exports. ``exported``: data points that the server took. ``rejected``: points that it did not take of requests
            that it took. ``dropped``: points that are lost for good, deltas all of them.
        """
        return dict(self._results)

    def collect_from(self, consumer: Any) -> Callable[..., Any]:
        """What to collect with.

        Args:
            consumer: The measurement consumer of our meter provider.

        Returns:
            Its way to bytes, or the one to the SDK's data points if the exporter has to look into them.
        """
        collect: Callable[..., Any] = consumer.collect_otlp if self._transport.takes_bytes else consumer.collect
        return collect

    def after_fork_in_child(self) -> None:
        """Leaves what waits to the parent, which sends it, and counts anew."""
        self._reset()

    def _at_fork_reinit(self) -> None:
        if self._shutdown:
            return
        self.after_fork_in_child()
        # Its lock may have been held.
        self._shutdown_event = threading.Event()
        super()._at_fork_reinit()  # type: ignore[no-untyped-call]

    def _ticker(self) -> None:
        while not self._is_shutdown_after(self._pause()):
            self._guarded(self._tick)
        self._guarded(lambda: self._collect_and_send(self._export_interval_millis))
        # Nobody will send it any more.
        self._results["dropped"] += sum(request.deltas for request in self._waiting)
        self._waiting.clear()

    def _is_shutdown_after(self, seconds: float) -> bool:
        """Waits; whether the reader is shut down by then."""
        wait = self._wait or self._shutdown_event.wait
        return wait(seconds)

    def _guarded(self, act: Callable[[], object]) -> None:
        # An exception would end the thread for good, and with it all exports.
        try:
            act()
        except Exception:
            _logger.exception("Metrics are not exported this time")

    def _pause(self) -> float:
        """Seconds until the next attempt."""
        interval = self._export_interval_millis / 1e3
        failures = self._failures
        if not failures:
            return interval
        pause = max(_RETRY_S[min(failures, len(_RETRY_S)) - 1], self._retry_after)
        if self._waiting:
            # What waits is sent again alone, so the next collection is not to be put off.
            return min(pause, max(self._due - self._clock(), 0.0))
        return min(pause, interval)

    def _tick(self) -> None:
        if self._waiting and self._clock() < self._due:
            self._exporting(self._send_waiting)
            return
        self._due = self._clock() + self._export_interval_millis / 1e3
        self._collect_and_send(self._export_timeout_millis)

    def _collect_and_send(self, timeout_millis: float) -> None:
        before = self._attempts
        self.collect(timeout_millis=timeout_millis)
        if self._attempts > before:
            return
        # There is nothing new.
        if self._waiting:
            self._exporting(self._send_waiting)
        else:
            self._failures = 0

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Exports what was recorded until now, and what waits.

        Args:
            timeout_millis: Time that the collection may take; how long the export may is the exporter's own setting.

        Returns:
            True, as the stock reader does; `results` tells more.
        """
        self._collect_and_send(timeout_millis)
        self._exporter.force_flush(timeout_millis=timeout_millis)
        return True

    def _receive_metrics(self, metrics_data: Any, timeout_millis: float = 10_000, **_kwargs: Any) -> None:
        if isinstance(metrics_data, tuple):
            request = Encoded(*metrics_data)
            self._exporting(lambda: self._send_last(request))
        else:
            self._exporting(lambda: self._export_stock(metrics_data, timeout_millis))

    def _exporting(self, act: Callable[[], object]) -> None:
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            with self._export_lock:
                act()
        except Exception:
            _logger.exception("Exception while exporting metrics")
        finally:
            detach(token)

    def _send_last(self, request: Encoded) -> None:
        """Sends a request after those that wait."""
        if not self._send_waiting():
            self._keep(request)
            return
        outcome = self._attempt(lambda: self._transport.send(request), request.points)
        if outcome.retryable:
            self._keep(request)
        elif not outcome.ok:
            self._results["dropped"] += request.deltas

    def _send_waiting(self) -> bool:
        """Sends what waits, oldest first, up to the first that fails; whether nothing waits any more."""
        while self._waiting:
            request = self._waiting[0]
            outcome = self._attempt(lambda request=request: self._transport.send(request), request.points)  # type: ignore[misc]
            if not outcome.ok and outcome.retryable:
                return False
            self._waiting.popleft()
            if not outcome.ok:
                self._results["dropped"] += request.deltas
                return False
        return True

    def _keep(self, request: Encoded) -> None:
        """Lets a request wait, if later ones do not have the same again."""
        if not request.deltas:
            return
        self._waiting.append(request)
        excess = sum(len(waiting.body) for waiting in self._waiting) - _WAITING_BYTES
        while excess > 0:
            oldest = self._waiting.popleft()
            excess -= len(oldest.body)
            self._results["dropped"] += oldest.deltas

    def _export_stock(self, data: MetricsData, timeout_millis: float) -> None:
        metrics = [metric for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics]
        points = sum(len(metric.data.data_points) for metric in metrics)
        outcome = self._attempt(lambda: self._transport.export(data, timeout_millis), points)
        if not outcome.ok:
            delta = AggregationTemporality.DELTA
            self._results["dropped"] += sum(
                len(metric.data.data_points)
                for metric in metrics
                if getattr(metric.data, "aggregation_temporality", None) is delta
            )

    def _attempt(self, act: Callable[[], Outcome], points: int) -> Outcome:
        self._attempts += 1
        try:
            outcome = act()
        except Exception:
            _logger.exception("Exception while exporting metrics")
            outcome = Outcome(ok=False)
        self._retry_after = outcome.retry_after
        if not outcome.ok:
            self._failures += 1
            self._results["failed"] += 1
            return outcome
        self._failures = 0
        rejected = min(outcome.rejected, points)
        self._results["ok"] += 1
        self._results["exported"] += points - rejected
        self._results["rejected"] += rejected
        if outcome.rejected or outcome.message:
            self._warn(outcome)
        return outcome

    def _warn(self, outcome: Outcome) -> None:
        now = self._clock()
        if now - self._warned >= _WARN_S:
            self._warned = now
            _logger.warning(
                "The OTLP server rejected %d data points, %d so far: %s",
                outcome.rejected,
                self._results["rejected"],
                outcome.message or "it does not say why",
            )
