"""MeterProvider: the SDK's, with native instruments behind it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakMethod

from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.environment_variables import OTEL_METRICS_EXEMPLAR_FILTER
from opentelemetry.sdk.metrics._internal import _get_exemplar_filter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_perf import segment as segments
from otel_perf.config import Settings, read
from otel_perf.metrics._consumer import NativeConsumer
from otel_perf.metrics._meter import Meter
from otel_perf.metrics._prometheus import adapt, is_prometheus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.metrics import Meter as APIMeter
    from opentelemetry.sdk.metrics import ExemplarFilter
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.metrics.view import View
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import Attributes

    from otel_perf.metrics._self_metrics import SelfMetrics

_logger = logging.getLogger(__name__)


class MeterProvider(sdk.MeterProvider):
    """Provides meters whose instruments record into a segment of shared memory; stock readers and exporters work unchanged.

    Args:
        metric_readers: Readers to collect for.
        resource: Resource of the metrics; detected if not given.
        exemplar_filter: Which recordings may become exemplars; that of ``OTEL_METRICS_EXEMPLAR_FILTER`` if not given. One of the user's
            own is asked in Python for every recording.
        shutdown_on_exit: Whether to shut down when the interpreter exits.
        views: Views of the SDK, with its aggregations or `HdrHistogramAggregation` and `EwmaAggregation`.
        segment: Segment to record into; a new one of ``OTEL_PERF_MEMORY_LIMIT`` bytes, removed at shutdown, if not given.

    Raises:
        ValueError: A view or a reader states an aggregation that is neither the SDK's nor ours.
        SegmentError: No memory can be mapped.
    """

    def __init__(
        self,
        metric_readers: Sequence[MetricReader] = (),
        resource: Resource | None = None,
        exemplar_filter: ExemplarFilter | None = None,
        shutdown_on_exit: bool = True,
        views: Sequence[View] = (),
        *,
        segment: segments.Segment | None = None,
        _settings: Settings | None = None,
        **kwargs: Any,
    ) -> None:
        settings = _settings or Settings.from_environment()
        self.endpoints: tuple[Callable[[], MetricReader | None], ...] = ()
        self._owned_segment = None
        if segment is None:
            segment = self._owned_segment = segments.create(
                settings.memory_limit, settings.service_name, settings.workers
            )
        self._segment = segment
        try:
            # Before the SDK's constructor, which hands this provider to the readers, which may make instruments at once.
            exemplar_filter = exemplar_filter or _get_exemplar_filter(
                read(OTEL_METRICS_EXEMPLAR_FILTER) or "trace_based"
            )
            # The distribution says with its settings that a process of its own exports what this provider's instruments record.
            leads = _settings is None or _settings.observer != "process"
            self._consumer = NativeConsumer(
                segment,
                settings.cardinality_limit,
                views,
                exemplar_filter,
                leads=leads,
                gauge_mode=settings.gauge_mode,
            )
            for reader in metric_readers:
                self._consumer.add_metric_reader(reader)
            super().__init__(metric_readers, resource, exemplar_filter, shutdown_on_exit, views, **kwargs)
        except BaseException:
            if self._owned_segment is not None:
                segments.close(self._owned_segment)
            raise
        self._metric_readers = tuple(metric_readers)
        self._consumer.use(self._sdk_config)
        self._flush: Callable[[float], bool] | None = None
        self._measurement_consumer = cast("Any", self._consumer)
        for reader in self._metric_readers:
            _let_collect(reader, self._consumer)
        in_child = WeakMethod(self._handle_untold_fork)
        segments.after_untold_fork_in_child(lambda: (handle := in_child()) and handle())

    def tell_of_instruments(self, tell: Callable[[], object]) -> None:
        """Has `tell` called after each instrument that is made."""
        self._consumer.tell_of_instruments(tell)

    def report_on_itself(self) -> SelfMetrics:
        """Adds the ``otel_perf.*`` metrics to what all readers collect.

        Returns:
            What they are made by, to which further sources can be added.
        """
        from otel_perf.metrics._self_metrics import SelfMetrics  # noqa: PLC0415 - only who reports pays for it.

        self_metrics = SelfMetrics(self._segment)
        self._consumer.say(self_metrics)
        return self_metrics

    @property
    def segment(self) -> segments.Segment:
        """The segment that the instruments record into."""
        return self._segment

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> APIMeter:
        """Returns the meter of an instrumentation scope, see `opentelemetry.metrics.MeterProvider.get_meter`."""
        if self._shutdown:
            _logger.warning("A shutdown `MeterProvider` can not provide a `Meter`")
        elif not name:
            _logger.warning("Meter name cannot be None or empty.")
        if self._disabled or self._shutdown or not name:
            from otel_perf.metrics._noop import NoOpMeter  # noqa: PLC0415 - nearly no program needs it.

            return NoOpMeter(name, version=version, schema_url=schema_url)
        scope = InstrumentationScope(name, version, schema_url, attributes)
        with self._meter_lock:
            meter = self._meters.get(scope)
            if meter is None:
                meter = self._meters[scope] = Meter(scope, self._consumer, self._apply_meter_configurator(scope))
            return meter

    def add_metric_reader(self, metric_reader: MetricReader) -> None:
        """Adds a reader, which from now on is flushed and shut down with the provider."""
        known = metric_reader in self._metric_readers
        super().add_metric_reader(metric_reader)
        if not known:
            self._metric_readers = (*self._metric_readers, metric_reader)
            _let_collect(metric_reader, self._consumer)
            metric_reader._set_meter_provider(self)

    def remove_metric_reader(self, metric_reader: MetricReader) -> None:
        """Shuts a reader down and forgets it."""
        super().remove_metric_reader(metric_reader)
        self._metric_readers = tuple(reader for reader in self._metric_readers if reader is not metric_reader)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Has all readers collect and export now, also those of an observer process.

        Args:
            timeout_millis: Time that they may take together.

        Returns:
            Whether they have.

        Raises:
            Exception: A reader failed; the text names each.
        """
        flushed = super().force_flush(timeout_millis)
        return (self._flush is None or self._flush(timeout_millis / 1000)) and flushed

    def serve_by(self, endpoints: Sequence[Callable[[], MetricReader | None]]) -> None:
        """Takes what makes the readers that this provider gets if its process leads the group."""
        self.endpoints = tuple(endpoints)

    def flush_by(self, flush: Callable[[float], bool]) -> None:
        """Has `flush` called by `force_flush`, with the seconds that it may take, for readers in another process."""
        self._flush = flush

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Collects once more, shuts the readers down and, if the provider made its segment, removes it.

        Args:
            timeout_millis: Time that the readers may take together.

        Raises:
            Exception: A reader failed; the text names each.
        """
        try:
            super().shutdown(timeout_millis)
        finally:
            if self._owned_segment is not None:
                segments.close(self._owned_segment)
                self._owned_segment = None

    def _handle_fork(self) -> None:
        if self._segment.is_separate:
            super()._handle_fork()
        # Unlike the SDK's, the resource stays: the group of workers is one stream with one service.instance.id.
        # Locks of whichever kind the child has now: gevent and eventlet replace them.
        self._lock = threading.Lock()
        self._meter_lock = threading.Lock()
        sdk.MeterProvider._all_metric_readers_lock = threading.Lock()
        for meter in self._meters.values():
            cast("Meter", meter).after_fork_in_child()
        for reader in self._metric_readers:
            # The stock periodic reader restarts its thread but keeps this lock, which its parent may have held.
            if hasattr(reader, "_export_lock"):
                reader._export_lock = threading.Lock()
            if hasattr(reader, "after_fork_in_child"):
                reader.after_fork_in_child()
        self._consumer.after_fork_in_child()

    def _handle_untold_fork(self) -> None:
        """What the SDK and we have the interpreter do after a fork, where it is not told of it."""
        self._handle_fork()
        for reader in self._metric_readers:
            if getattr(reader, "_daemon_thread", None) is not None:
                cast("Any", reader)._at_fork_reinit()


def _let_collect(reader: MetricReader, consumer: NativeConsumer) -> None:
    """The one place that uses the SDK's seam between readers and providers; tests/unit/test_sdk_seam_provider.py guards it."""
    collect: Any = consumer.collect
    if is_prometheus(reader):
        collect = adapt(reader, collect)
    elif hasattr(reader, "collect_from"):
        # One of ours, which takes something else than the SDK's data points.
        collect = reader.collect_from(consumer)
    reader._set_collect_callback(collect)
    # Readers of ours that need no data points.
    set_scrape = getattr(reader, "_set_scrape_callback", None)
    if set_scrape is not None:
        set_scrape(consumer.scrape)
