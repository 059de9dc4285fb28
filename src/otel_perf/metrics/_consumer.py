"""Stands where the SDK has its measurement consumer: runs callbacks, takes points out of the segment, and hands them to readers."""

from __future__ import annotations

import logging
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import view as views
from opentelemetry.sdk.metrics._internal.aggregation import (
    _DEFAULT_EXPLICIT_BUCKET_HISTOGRAM_AGGREGATION_BOUNDARIES as DEFAULT_BOUNDARIES,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality

from otel_perf import _core
from otel_perf.metrics._points import PointBuilder

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics._internal.sdk_configuration import SdkConfiguration
    from opentelemetry.sdk.metrics.export import MetricReader, MetricsData
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_logger = logging.getLogger(__name__)

_CALLBACK_TIMEOUT_S = 10.0


class NativeConsumer:
    """The native counterpart of the SDK's `SynchronousMeasurementConsumer`.

    Args:
        segment: Where instruments record.
        cardinality_limit: Series per instrument before the overflow series.
    """

    def __init__(self, segment: _core.Segment, cardinality_limit: int) -> None:
        self._segment = segment
        self._cardinality_limit = cardinality_limit
        self._sdk_config: SdkConfiguration | None = None
        self._observables: list[tuple[Any, _core.Observer]] = []
        self._readers: dict[MetricReader, _ReaderOptions] = {}
        self._reset()

    def _reset(self) -> None:
        self._lock = Lock()
        self._collector = _core.Collector(self._segment, list(DEFAULT_BOUNDARIES))
        self._builder = PointBuilder(self._segment)
        for reader, options in self._readers.items():
            options.register(self._collector, id(reader))

    def use(self, sdk_config: SdkConfiguration) -> None:
        """Takes the provider's configuration, whose resource may change later."""
        self._sdk_config = sdk_config

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
        return self._segment.instrument(kind, scope, name, unit, description, boundaries, self._cardinality_limit)

    def register_asynchronous_instrument(self, instrument: Any) -> None:
        """Takes an observable instrument of the SDK, whose callbacks run at every collection."""
        kind = type(instrument).__name__.lstrip("_")
        observer = self.create(
            kind, instrument.instrumentation_scope, instrument.name, instrument.unit or "", instrument.description or ""
        )
        with self._lock:
            self._observables.append((instrument, observer))

    def add_metric_reader(self, metric_reader: MetricReader) -> None:
        """Takes a reader with its temporalities and aggregations.

        Raises:
            ValueError: The reader wants an aggregation that its kind of instrument does not have.
        """
        options = _ReaderOptions(metric_reader)
        options.register(self._collector, id(metric_reader))
        self._readers[metric_reader] = options

    def remove_metric_reader(self, metric_reader: MetricReader) -> None:
        """Forgets a reader."""
        self._readers.pop(metric_reader, None)
        self._collector.remove_reader(id(metric_reader))

    def collect(self, metric_reader: MetricReader, timeout_millis: float = 10_000) -> MetricsData | None:
        """Collects for a reader. Never raises: an exception would end the stock periodic reader's thread for good.

        Args:
            metric_reader: A reader that was added.
            timeout_millis: Time that callbacks may take together; what they have not reported by then is not in the result.

        Returns:
            The points; None if there are none, or if another worker of the group exports.
        """
        if not self._lock.acquire(timeout=max(timeout_millis, 0) / 1000):
            _logger.warning("Metrics are not collected: another collection took longer than %s ms", timeout_millis)
            return None
        try:
            since_ns = self._collector.now_ns()
            self._run_callbacks(monotonic() + timeout_millis / 1000)
            if not self._segment.lead():
                return None
            options = self._readers[metric_reader]
            time_ns, metrics = self._collector.collect(id(metric_reader), since_ns)
            if self._sdk_config is None:
                return None
            return self._builder.build(self._sdk_config.resource, time_ns, metrics, options.delta)
        except Exception:
            _logger.exception("Metrics are not collected")
            return None
        finally:
            self._lock.release()

    def _run_callbacks(self, deadline: float) -> None:
        for instrument, observer in self._observables:
            remaining = deadline - monotonic()
            if remaining <= 0:
                _logger.warning("Callbacks took too long: %s and those after it are not collected", instrument.name)
                return
            options = CallbackOptions(timeout_millis=min(remaining, _CALLBACK_TIMEOUT_S) * 1000)
            for measurement in instrument.callback(options):
                observer.observe(measurement.value, measurement.attributes)


class _ReaderOptions:
    """What a reader asks for, in the terms of `_core.Collector`.

    Args:
        reader: The reader.

    Raises:
        ValueError: It wants an aggregation that its kind of instrument does not have.
    """

    def __init__(self, reader: MetricReader) -> None:
        temporality = {_name(kind): wanted for kind, wanted in reader._instrument_class_temporality.items()}
        aggregation = {_name(kind): wanted for kind, wanted in reader._instrument_class_aggregation.items()}
        # The temporality of a gauge decides only whether an unchanged value is repeated.
        self.delta = frozenset(kind for kind, wanted in temporality.items() if wanted is AggregationTemporality.DELTA)
        self._dropped = [kind for kind, wanted in aggregation.items() if isinstance(wanted, views.DropAggregation)]
        self._boundaries: list[float] | None = None
        self._exponential: tuple[int, int] | None = None
        self._record_min_max = True
        for kind, wanted in aggregation.items():
            self._take_aggregation(kind, wanted)

    def _take_aggregation(self, kind: str, wanted: views.Aggregation) -> None:
        if isinstance(wanted, (views.DefaultAggregation, views.DropAggregation)):
            return
        if kind == "Histogram" and isinstance(wanted, views.ExplicitBucketHistogramAggregation):
            self._boundaries = None if wanted._boundaries is None else [float(b) for b in wanted._boundaries]
            self._record_min_max = wanted._record_min_max
        elif kind == "Histogram" and isinstance(wanted, views.ExponentialBucketHistogramAggregation):
            self._exponential = (wanted._max_size, wanted._max_scale)
            self._record_min_max = wanted._record_min_max
        elif not isinstance(wanted, _OWN.get(kind, ())):
            raise ValueError(
                f"preferred_aggregation of {kind} is {type(wanted).__name__}; accepted are DefaultAggregation, "
                "DropAggregation and the aggregation that is the default of the instrument; for Histogram also "
                "ExplicitBucketHistogramAggregation and ExponentialBucketHistogramAggregation"
            )

    def register(self, collector: _core.Collector, number: int) -> None:
        collector.add_reader(
            number, sorted(self.delta), self._dropped, self._boundaries, self._exponential, self._record_min_max
        )


_OWN: dict[str, type] = {
    "Counter": views.SumAggregation,
    "UpDownCounter": views.SumAggregation,
    "ObservableCounter": views.SumAggregation,
    "ObservableUpDownCounter": views.SumAggregation,
    "Gauge": views.LastValueAggregation,
    "ObservableGauge": views.LastValueAggregation,
}


def _name(kind: type) -> str:
    return kind.__name__.lstrip("_")
