"""Stands where the SDK has its measurement consumer: runs callbacks, takes points out of the segment, and hands them to readers."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from functools import partial
from time import monotonic, thread_time_ns
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from opentelemetry.metrics import CallbackOptions

from otel_perf import _core
from otel_perf.config import GAUGE_MODES
from otel_perf.metrics._exemplars import CustomExemplars
from otel_perf.metrics._points import PointBuilder
from otel_perf.metrics._readers import DEFAULT_BOUNDARIES, ReaderOptions
from otel_perf.metrics._views import Views
from otel_perf.segment import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.metrics import ExemplarFilter
    from opentelemetry.sdk.metrics._internal.sdk_configuration import SdkConfiguration
    from opentelemetry.sdk.metrics.export import MetricReader, MetricsData
    from opentelemetry.sdk.metrics.view import View
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from otel_perf.metrics._self_metrics import Made, SelfMetrics, Value
    from otel_perf.metrics._views import Stream

_logger = logging.getLogger(__name__)

T = TypeVar("T")

Scrape: TypeAlias = (
    "Callable[[MetricReader, _core.PrometheusEncoder, str, Callable[[str], bool] | None, float], bytes | None]"
)
"""The type of `NativeConsumer.scrape`, which readers that encode natively are given."""

_CALLBACK_TIMEOUT_S = 10.0
_TURN_S = 0.001


@dataclass
class _Made:
    """An instrument with what its streams were chosen by."""

    instrument: Any
    kind: str
    scope: InstrumentationScope
    name: str
    unit: str
    boundaries: Sequence[float] | None
    streams: list[Stream]


def _nothing() -> None:
    return None


class NativeConsumer:
    """The native counterpart of the SDK's `SynchronousMeasurementConsumer`.

    Args:
        segment: Where instruments record.
        cardinality_limit: Series of a stream before the overflow series, where neither view nor reader states it.
        views: Views in their order.
        exemplar_filter: Which recordings may become exemplars.
        leads: Whether readers of this process may export for the group.
        gauge_mode: What the workers' values of a gauge become.

    Raises:
        ValueError: A view states an aggregation that is neither the SDK's nor ours.
    """

    def __init__(
        self,
        segment: _core.Segment,
        cardinality_limit: int,
        views: Sequence[View],
        exemplar_filter: ExemplarFilter,
        *,
        leads: bool = True,
        gauge_mode: str = GAUGE_MODES[0],
    ) -> None:
        self._segment = segment
        self._leads = leads
        self._gauge_mode = gauge_mode
        self._refresh: Callable[[float], None] | None = None
        self._remote: list[ReaderOptions] = []
        self._cardinality_limit = cardinality_limit
        self._no_reader = ReaderOptions(None, cardinality_limit)
        self._exemplars = CustomExemplars(exemplar_filter)
        self._views = Views(views, self._exemplars)
        self._sdk_config: SdkConfiguration | None = None
        self._observables: list[tuple[Any, _core.Observer]] = []
        self._made: list[_Made] = []
        self._readers: dict[MetricReader, ReaderOptions] = {}
        self._readers_version = 0
        self._self_metrics: SelfMetrics | None = None
        self._quantiles: Callable[[], _core.Quantiles | None] = _nothing
        self._cpu_ns = 0
        self._told: list[Callable[[], object]] = []
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        # Collections of other processes after which intervals have begun, and the last that were seen.
        self._followed = 0
        self._seen: int | None = None
        self._exemplars.reset()
        self._collector = _core.Collector(self._segment, list(DEFAULT_BOUNDARIES), self._gauge_mode)
        self._builder = PointBuilder(self._segment, self._exemplars, VERSION)
        for reader, options in self._readers.items():
            self._collector.add_reader(id(reader), options.preferences())

    def use(self, sdk_config: SdkConfiguration) -> None:
        """Takes the provider's configuration, whose resource may change later."""
        self._sdk_config = sdk_config

    def tell_of_instruments(self, tell: Callable[[], object]) -> None:
        """Has `tell` called after each instrument that is made."""
        self._told.append(tell)

    def made(self) -> None:
        """Tells that there is an instrument that was not there before."""
        for tell in self._told:
            tell()

    def say(self, self_metrics: SelfMetrics) -> None:
        """Takes what is to be said of otel_perf itself at each collection."""
        self._self_metrics = self_metrics
        self_metrics.add(self._cpu_time)

    def ask_quantiles(self, quantiles: Callable[[], _core.Quantiles | None]) -> None:
        """Has quantiles beside the histograms that are collected; `quantiles` is called at each collection."""
        self._quantiles = quantiles

    def _of_itself(self) -> list[Made]:
        return self._self_metrics() if self._self_metrics is not None else []

    def _cpu_time(self) -> list[Made]:
        encoding = self._collector.encoding_seconds()
        values: list[Value] = [
            ({"part": "collection"}, max(0.0, self._cpu_ns * 1e-9 - encoding)),
            ({"part": "encoding"}, encoding),
        ]
        return [("otel_perf.cpu.time", "CPU time of otel_perf by part", "s", "ObservableCounter", values)]

    def refresh_by(self, refresh: Callable[[float], None]) -> None:
        """Has `refresh` called before each collection, with the seconds that it may take, so that others report what only they know."""
        self._refresh = refresh

    def follow(self, readers: list[ReaderOptions]) -> None:
        """Gives the instruments the streams that readers in another process want."""
        self._remote = readers
        self._readers_changed()

    def after_fork_in_child(self) -> None:
        """Renews everything that another thread of the parent may have been using."""
        self._reset()

    def create(
        self,
        kind: str,
        scope: InstrumentationScope,
        name: str,
        unit: str,
        description: str,
        boundaries: list[float] | None = None,
    ) -> Any:
        """Makes a native instrument, or the recording end of an observable one."""
        made = _Made(None, kind, scope, name, unit, boundaries, [])
        version = self._readers_version
        made.streams = self._streams(made)
        made.instrument = self._segment.instrument(
            kind, scope, name, unit, description, boundaries, made.streams, self._exemplars.native_filter
        )
        self._made.append(made)
        if version != self._readers_version:
            self._follow_readers(made)
        return made.instrument

    def _streams(self, made: _Made) -> list[Stream]:
        readers = [*self._readers.values(), *self._remote] or [self._no_reader]
        return self._views.streams(readers, made.kind, made.scope, made.name, made.unit, made.boundaries)

    def _readers_changed(self) -> None:
        self._readers_version += 1
        for made in tuple(self._made):
            self._follow_readers(made)

    def _follow_readers(self, made: _Made) -> None:
        """Gives an instrument the streams that the readers want now.

        Without a lock, which a log handler that makes an instrument would not get: whoever finds the version changed behind him does it again.
        """
        version = None
        while version != self._readers_version:
            version = self._readers_version
            streams = self._streams(made)
            # All but who follows them, which is made anew each time.
            if [stream[:-1] for stream in streams] != [stream[:-1] for stream in made.streams]:
                made.streams = streams
                made.instrument._change_streams(streams)

    def register_asynchronous_instrument(self, instrument: Any) -> None:
        """Takes an observable instrument of the SDK, whose callbacks run at every collection."""
        kind = type(instrument).__name__.lstrip("_")
        observer = self.create(
            kind, instrument.instrumentation_scope, instrument.name, instrument.unit or "", instrument.description or ""
        )
        # Without the lock: a callback may make an instrument, and another greenlet of this thread may be collecting.
        self._observables.append((instrument, observer))

    def add_metric_reader(self, metric_reader: MetricReader) -> None:
        """Takes a reader with its temporalities, aggregations and limits.

        Raises:
            ValueError: The reader prefers an aggregation that is neither the SDK's nor ours.
        """
        options = ReaderOptions(metric_reader, self._cardinality_limit)
        self._collector.add_reader(id(metric_reader), options.preferences())
        self._exemplars.add_reader(id(metric_reader))
        self._readers[metric_reader] = options
        self._readers_changed()

    def remove_metric_reader(self, metric_reader: MetricReader) -> None:
        """Forgets a reader."""
        self._readers.pop(metric_reader, None)
        self._collector.remove_reader(id(metric_reader))
        self._exemplars.remove_reader(id(metric_reader))
        self._readers_changed()

    def collect(self, metric_reader: MetricReader, timeout_millis: float = 10_000) -> MetricsData | None:
        """Collects for a reader. Never raises: an exception would end the stock periodic reader's thread for good.

        Args:
            metric_reader: A reader that was added.
            timeout_millis: Time that callbacks may take together; what they have not reported by then is not in the result.

        Returns:
            The points; None if there are none, or if another worker of the group exports.
        """
        return self._take(partial(self._points, id(metric_reader)), timeout_millis, of_no_leader=None)

    def collect_otlp(
        self, metric_reader: MetricReader, timeout_millis: float = 10_000
    ) -> tuple[bytes, int, int] | MetricsData | None:
        """Collects as `collect` does, into bytes.

        Args:
            metric_reader: A reader that was added.
            timeout_millis: As of `collect`.

        Returns:
            An OTLP request with the number of its points and of those that are deltas; what `collect` answers if exemplars are kept in Python.
        """
        return self._take(partial(self._otlp, id(metric_reader)), timeout_millis, of_no_leader=None)

    def scrape(
        self,
        metric_reader: MetricReader,
        encoder: _core.PrometheusEncoder,
        form: str,
        is_constant: Callable[[str], bool] | None,
        timeout_millis: float,
    ) -> bytes | None:
        """Collects for a reader that is scraped, without data points in between. Never raises.

        Args:
            metric_reader: A reader that was added.
            encoder: That of the reader.
            form: Format, see `_core.Collector.encode_prometheus`.
            is_constant: Says of each key of the resource whether all series get it as a label; None for no key.
            timeout_millis: As of `collect`.

        Returns:
            The answer, empty if another worker of the group exports; None if there can be none.
        """

        def take(since_ns: int, resource: Resource) -> bytes:
            keys = resource.attributes
            constant = {key: keys[key] for key in keys if is_constant is not None and is_constant(key)}
            return self._collector.encode_prometheus(
                id(metric_reader), since_ns, encoder, form, keys, constant, self._of_itself(), self._quantiles()
            )

        return self._take(take, timeout_millis, of_no_leader=b"")

    def _take(self, take: Callable[[int, Resource], T], timeout_millis: float, *, of_no_leader: T) -> T | None:
        """What `take` makes of the points of now, in turn and after the callbacks; None if that fails."""
        if not self._wait_for_turn(monotonic() + timeout_millis / 1000):
            _logger.warning("Metrics are not collected: another collection took longer than %s ms", timeout_millis)
            return None
        start_ns = thread_time_ns()
        try:
            if self._refresh is not None:
                self._refresh(timeout_millis / 1000)
            since_ns = self._collector.now_ns()
            self._run_callbacks(monotonic() + timeout_millis / 1000, since_ns)
            if self._sdk_config is None:
                return None
            if not self._leads or not self._segment.lead():
                return of_no_leader
            self._keep_up(leads=True)
            return take(since_ns, self._sdk_config.resource)
        except Exception:
            _logger.exception("Metrics are not collected")
            return None
        finally:
            self._cpu_ns += thread_time_ns() - start_ns
            self._lock.release()

    def _points(self, reader: int, since_ns: int, resource: Resource) -> MetricsData | None:
        time_ns, metrics = self._collector.collect(reader, since_ns, self._of_itself(), self._quantiles())
        return self._builder.build(resource, time_ns, metrics, reader)

    def _otlp(self, reader: int, since_ns: int, resource: Resource) -> tuple[bytes, int, int] | MetricsData | None:
        if self._exemplars.in_use:
            return self._points(reader, since_ns, resource)
        found = self._collector.encode_otlp(
            reader, since_ns, resource.attributes, resource.schema_url, self._of_itself(), self._quantiles()
        )
        return found if found[1] else None

    def run_callbacks(self, timeout_millis: float) -> None:
        """Has the callbacks report into the segment, for readers in another process. Never raises.

        Args:
            timeout_millis: Time that they may take together; what they have not reported by then is not there.
        """
        if not self._observables or not self._wait_for_turn(monotonic() + timeout_millis / 1000):
            return
        try:
            since_ns = self._collector.now_ns()
            self._run_callbacks(monotonic() + timeout_millis / 1000, since_ns)
            self._collector.reported(since_ns)
        except Exception:
            _logger.exception("Callbacks are not collected")
        finally:
            self._lock.release()

    def heed_exports(self, *, leads: bool) -> None:
        """Takes notice of what other processes have exported. Never raises.

        Args:
            leads: Whether this process exports now: then delta intervals begin for the last time because of others. If not, and another process has collected,
                callbacks report as well.
        """
        collections = self._segment.collections_of_others
        if collections != self._seen and not leads:
            self.run_callbacks(_CALLBACK_TIMEOUT_S * 1000)
        elif collections == self._followed:
            return
        if not self._wait_for_turn(monotonic()):
            return
        try:
            self._keep_up(leads=leads)
        except Exception:
            _logger.exception("Intervals are not kept up")
        finally:
            self._lock.release()

    def _keep_up(self, *, leads: bool) -> None:
        """Lets delta intervals begin now if another process has collected since: what that exports is not exported again.

        A collection is counted when it begins. So intervals begin once more at the next look, when it has ended, unless this process leads now.
        """
        collections = self._segment.collections_of_others
        if collections != self._followed:
            for reader, options in tuple(self._readers.items()):
                if options.delta:
                    self._collector.keep_up(id(reader))
        if leads or collections == self._seen:
            self._followed = collections
        self._seen = collections

    def _wait_for_turn(self, deadline: float) -> bool:
        # The lock is not waited for but asked for again and again: another greenlet of this thread may hold it, whose callback gave way, and only
        # a sleep, which gevent and eventlet have replaced, lets it go on. Two collections at once are rare.
        while not self._lock.acquire(blocking=False):
            if monotonic() >= deadline:
                return False
            time.sleep(_TURN_S)
        return True

    def _run_callbacks(self, deadline: float, since_ns: int) -> None:
        for instrument, observer in tuple(self._observables):
            remaining = deadline - monotonic()
            if remaining <= 0:
                _logger.warning("Callbacks took too long: %s and those after it are not collected", instrument.name)
                return
            options = CallbackOptions(timeout_millis=min(remaining, _CALLBACK_TIMEOUT_S) * 1000)
            for measurement in instrument.callback(options):
                observer.observe(measurement.value, measurement.attributes, measurement.context, since_ns)
