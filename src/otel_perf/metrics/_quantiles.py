"""The stock SDK's histogram stream with HDR quantiles beside it, as a gauge that the stream itself registers.

A stream of the SDK carries one type of data, so that quantiles need an instrument of their own. It is registered from within a
recording, where locks of the SDK are held: nothing here takes a lock of the SDK that a collection may hold while it waits.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics._internal._view_instrument_match import _ViewInstrumentMatch
from opentelemetry.sdk.metrics._internal.aggregation import _ExplicitBucketHistogramAggregation
from opentelemetry.sdk.metrics._internal.instrument import _ObservableGauge
from opentelemetry.sdk.metrics._internal.metric_reader_storage import _DEFAULT_VIEW

from otel_perf.metrics._window import TrailingWindow
from otel_perf.segment import HistogramSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.metrics import CallbackOptions
    from opentelemetry.sdk.metrics._internal.measurement import Measurement

_logger = logging.getLogger(__name__)

QUANTILE = "quantile"
"""The attribute that says which quantile a point is."""

# Re-entrant, see `TrailingWindow`. Nothing else is locked while this is held.
_lock = RLock()
_families: WeakKeyDictionary[Any, QuantileFamily | None] = WeakKeyDictionary()
_gauges: WeakSet[Any] = WeakSet()


def is_quantile_gauge(instrument: Any) -> bool:
    """Whether the instrument is a gauge that was registered here."""
    return instrument in _gauges


def label(quantile: float) -> str:
    """A quantile as the value of its attribute, as the native core writes it: "0.99", "0.00001", and "0" and "1" for the ends."""
    return f"{Decimal(repr(quantile)):f}".removesuffix(".0")


def series_key(attributes: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Identity of an attribute set; the text of a value tells `1`, `1.0` and `True` apart."""
    return frozenset((key, repr(value)) for key, value in attributes.items())


class QuantileSeries:
    """The window of one attribute set, and the aggregations that would feed it.

    Every reader has an aggregation of its own for the attribute set and each is told every recording; only the first one that is still
    alive feeds the window. Where the SDK replaces aggregations after a delta collection, the window stays.
    """

    def __init__(self, attributes: Mapping[str, Any], quantiles: tuple[float, ...], window: TrailingWindow) -> None:
        self._quantiles = quantiles
        self._attributes = [{**attributes, QUANTILE: label(quantile)} for quantile in quantiles]
        self._window = window
        self._feeders: list[ref[Any]] = []
        self._lock = RLock()

    def join(self, aggregation: Any) -> None:
        """Takes an aggregation that will report recordings."""
        with self._lock:
            self._feeders.append(ref(aggregation))

    def record(self, aggregation: Any, value: float) -> None:
        """Counts a recording that an aggregation reports, unless another one feeds the window."""
        with self._lock:
            while self._feeders and self._feeders[0]() is None:
                del self._feeders[0]
            if not self._feeders or self._feeders[0]() is not aggregation:
                return
        self._window.record(value)

    def observe(self) -> list[Observation]:
        """One observation for each quantile; none if nothing was recorded lately."""
        values = self._window.quantiles(self._quantiles)
        return [Observation(value, attributes) for value, attributes in zip(values, self._attributes, strict=False)]

    def abandoned(self) -> bool:
        """Whether no aggregation can feed the window any more."""
        with self._lock:
            self._feeders = [feeder for feeder in self._feeders if feeder() is not None]
            return not self._feeders


class QuantileFamily:
    """The gauge `<name>.quantile` of one instrument, with the windows of its attribute sets.

    Args:
        instrument: A synchronous instrument of the stock SDK.
        quantiles: The quantiles of the aggregation that is the first for this instrument.
        window_s: Its window in seconds.

    Raises:
        Exception: The name of the gauge would be too long, or the SDK's consumer is not the one that is known.
    """

    def __init__(self, instrument: Any, quantiles: tuple[float, ...], window_s: float) -> None:
        self._units_per_one = HistogramSnapshot.of([], instrument.unit or "").units_per_one
        self._series: dict[frozenset[tuple[str, str]], QuantileSeries] = {}
        self._width = len(quantiles)
        consumer = instrument._measurement_consumer
        registered = consumer._async_instruments
        make: Any = _ObservableGauge
        gauge = make(
            f"{instrument.name}.quantile",
            instrument.instrumentation_scope,
            consumer,
            [self.observe],
            instrument.unit,
            f"Quantiles of {instrument.name} over the last {window_s:g} s",
            _meter_config=instrument._meter_config,
        )
        # Weak, so that a family does not keep its instrument alive, to which the consumer leads.
        self._gauge = ref(gauge)
        _gauges.add(gauge)
        # What `register_asynchronous_instrument` does, without its lock: that one is held during a whole collection, which may be waiting
        # for locks of this recording or be what this recording was made in. Appending is atomic, also while a collection iterates.
        registered.append(gauge)

    def series(
        self,
        attributes: Mapping[str, Any],
        significant_digits: int,
        quantiles: tuple[float, ...],
        window_s: float,
        clock: Callable[[], float],
        aggregation: Any,
    ) -> QuantileSeries:
        """The series of an attribute set, with an aggregation more that feeds it; the first one decides about its precision."""
        key = series_key(attributes)
        with _lock:
            found = self._series.get(key)
            if found is None:
                window = TrailingWindow(significant_digits, window_s, self._units_per_one, clock)
                found = self._series[key] = QuantileSeries(attributes, quantiles, window)
            found.join(aggregation)
        return found

    def observe(self, _options: CallbackOptions) -> Iterator[Observation]:
        """The gauge's callback, which collections run before they read streams."""
        self._exempt_from_views()
        for key, series in list(self._series.items()):
            observations = series.observe()
            if observations:
                yield from observations
                continue
            with _lock:
                if series.abandoned():
                    self._series.pop(key, None)

    def _exempt_from_views(self) -> None:
        """Keeps views by pattern off the gauge, which is the result of a view already.

        Otherwise `View(instrument_name="http.*", attribute_keys={"http.route"}, ...)` would take the attribute `quantile` off its points.
        """
        gauge: Any = self._gauge()
        if gauge is None:
            return
        for storage in gauge._measurement_consumer._reader_storages.values():
            if gauge not in storage._instrument_view_instrument_matches:
                try:
                    self._match(storage, gauge)
                except (AttributeError, TypeError):
                    _logger.warning("Views are applied to %s, because this SDK cannot be told otherwise", gauge.name)

    def _match(self, storage: Any, gauge: Any) -> None:
        # Collections come here with the lock of the consumer and take that of the storage next: the order is theirs.
        with storage._lock:
            own = [
                view
                for view in storage._sdk_config.views
                if (view._instrument_name or "").lower() == gauge.name
                and view._match(gauge)
                and storage._check_view_instrument_compatibility(view, gauge)
            ]
            matches: list[Any] = [
                _ViewInstrumentMatch(view, gauge, storage._instrument_class_aggregation)
                for view in own or [_DEFAULT_VIEW]
            ]
            for match in matches:
                # SDKs that limit the series of a stream count every quantile as one.
                if hasattr(match, "_cardinality_limit"):
                    match._cardinality_limit *= self._width
            storage._instrument_view_instrument_matches[gauge] = matches


def family_of(instrument: Any, quantiles: tuple[float, ...], window_s: float) -> QuantileFamily | None:
    """The family of an instrument, whose gauge is registered at the first call.

    Args:
        instrument: A synchronous instrument of the stock SDK.
        quantiles: Quantiles of the aggregation that asks.
        window_s: Its window in seconds.

    Returns:
        The family; None, after one line in the log, where there can be no such gauge.
    """
    with _lock:
        if instrument not in _families:
            try:
                _families[instrument] = QuantileFamily(instrument, quantiles, window_s)
            except Exception as error:  # A recording is under way, which must not raise, whatever the SDK has changed.
                _logger.warning("There are no quantiles of %s: %s", instrument.name, error)
                _families[instrument] = None
        return _families[instrument]


class QuantileHistogram(_ExplicitBucketHistogramAggregation):
    """The SDK's explicit-bucket stream, which also feeds the window of its attribute set.

    Args:
        *args: As the SDK's stream takes them.
        **kwargs: As the SDK's stream takes them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._series: QuantileSeries | None = None

    def feed(self, series: QuantileSeries) -> None:
        """Reports recordings from now on."""
        self._series = series

    def aggregate(self, measurement: Measurement, should_sample_exemplar: bool = True) -> None:
        """Aggregates as the SDK does, and counts the value in the window. Two to three microseconds more."""
        super().aggregate(measurement, should_sample_exemplar)
        if self._series is not None:
            self._series.record(self, measurement.value)
