"""Meter: validates and makes instruments; identical creation returns the identical instrument."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.metrics._internal.instrument import Instrument
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics._internal.instrument import (
    _NAME_ERROR_MESSAGE,
    _UNIT_ERROR_MESSAGE,
    _Counter,
    _Gauge,
    _Histogram,
    _UpDownCounter,
)

from otel_perf.metrics._instruments import NATIVE, remember

if TYPE_CHECKING:
    from opentelemetry import metrics as api
    from opentelemetry.sdk.metrics._internal import _MeterConfig
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from otel_perf.metrics._consumer import NativeConsumer

_logger = logging.getLogger(__name__)


class Meter(sdk.Meter):
    """A meter whose synchronous instruments are native; the observable ones are the SDK's.

    Args:
        scope: Instrumentation scope.
        consumer: Where observable instruments are registered and the segment is.
        config: The SDK's configuration of the meter, which says whether it is enabled; instruments of a disabled one do nothing.
    """

    def __init__(self, scope: InstrumentationScope, consumer: NativeConsumer, config: _MeterConfig) -> None:
        super().__init__(scope, cast("Any", consumer), _meter_config=config)
        self._consumer = consumer

    def _set_meter_config(self, meter_config: _MeterConfig) -> None:
        super()._set_meter_config(meter_config)
        # The observable ones ask the configuration at each collection; the native ones are told.
        with self._instrument_registration_lock:
            for instrument in self._instrument_id_instrument.values():
                if isinstance(instrument, NATIVE):
                    instrument._enable(meter_config.is_enabled)

    def after_fork_in_child(self) -> None:
        """Renews the locks, which another thread of the parent may have held."""
        # Locks of whichever kind the child has now: gevent and eventlet replace them.
        self._instrument_registration_lock = threading.Lock()
        self._instrument_ids_lock = threading.Lock()

    def create_counter(self, name: str, unit: str = "", description: str = "") -> api.Counter:
        """Creates a counter or returns the identical one, see `opentelemetry.metrics.Meter.create_counter`."""
        return cast("api.Counter", self._create("Counter", _Counter, name, unit, description))

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> api.UpDownCounter:
        """Creates an up-down counter or returns the identical one."""
        return cast("api.UpDownCounter", self._create("UpDownCounter", _UpDownCounter, name, unit, description))

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> api._Gauge:
        """Creates a gauge or returns the identical one."""
        return cast("api._Gauge", self._create("Gauge", _Gauge, name, unit, description))

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> api.Histogram:
        """Creates a histogram or returns the identical one.

        Args:
            name: Name of the instrument.
            unit: Unit of the recordings (UCUM). It also chooses the integer unit in which slots are kept: nanoseconds for
                times, bytes for bytes, one for annotated counts such as ``{token}``, ten-thousandths for everything else.
            description: What is measured.
            explicit_bucket_boundaries_advisory: Boundaries for readers that want explicit buckets and state none.

        Returns:
            The histogram.
        """
        boundaries = _checked_boundaries(explicit_bucket_boundaries_advisory)
        return cast("api.Histogram", self._create("Histogram", _Histogram, name, unit, description, boundaries))

    def _create(
        self,
        kind: str,
        sdk_type: type,
        name: str,
        unit: str | None,
        description: str | None,
        boundaries: list[float] | None = None,
    ) -> Any:
        checked = Instrument._check_name_unit_description(name, unit or "", description or "")
        if checked["name"] is None:
            raise Exception(_NAME_ERROR_MESSAGE.format(name))  # noqa: TRY002 - what the SDK raises.
        if checked["unit"] is None:
            raise Exception(_UNIT_ERROR_MESSAGE.format(unit))  # noqa: TRY002 - what the SDK raises.
        name, unit, description = name.lower(), checked["unit"], checked["description"] or ""
        with self._instrument_registration_lock:
            status = self._register_instrument(name, sdk_type, unit, description, cast("Any", boundaries))
            instrument: Any = self._instrument_id_instrument.get(status.instrument_id)
            is_new = False
            if instrument is None:
                instrument = self._consumer.create(
                    kind, self._instrumentation_scope, name, unit, description, boundaries
                )
                instrument._enable(self._is_enabled())
                remember(instrument)
                self._instrument_id_instrument[status.instrument_id] = instrument
                is_new = True
        if is_new:
            self._consumer.made()
        if status.conflict:
            self._log_instrument_registration_conflict(name, kind, unit, description, status)
        return instrument


def _checked_boundaries(advisory: Sequence[float] | None) -> list[float] | None:
    if advisory is None:
        return None
    if not isinstance(advisory, Sequence) or not all(isinstance(bound, (int, float)) for bound in advisory):
        _logger.warning("explicit_bucket_boundaries_advisory must be a sequence of numbers")
        return None
    boundaries = [float(bound) for bound in advisory]
    increasing = all(low < high for low, high in pairwise(boundaries))
    if not increasing or not all(math.isfinite(bound) for bound in boundaries):
        _logger.warning("explicit_bucket_boundaries_advisory must be finite and strictly increasing, got %s", advisory)
        return None
    return boundaries
