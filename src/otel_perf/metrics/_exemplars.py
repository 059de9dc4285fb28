"""Exemplars: the filter that native code applies, and what filters and reservoirs of the user's own get to see."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.context import get_current
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics._internal.aggregation import (
    _ExplicitBucketHistogramAggregation,
    _ExponentialBucketHistogramAggregation,
    _LastValueAggregation,
    _SumAggregation,
)
from opentelemetry.sdk.metrics._internal.view import _default_reservoir_factory

from otel_perf.metrics._instruments import clean_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.metrics import Exemplar, ExemplarFilter, ExemplarReservoir
    from opentelemetry.sdk.metrics.view import View

    from otel_perf.metrics._readers import Stated

_logger = logging.getLogger(__name__)

_NAMES: Mapping[type, str] = {
    sdk.AlwaysOffExemplarFilter: "always_off",
    sdk.AlwaysOnExemplarFilter: "always_on",
    sdk.TraceBasedExemplarFilter: "trace_based",
}
_EXPONENTIAL_RESERVOIR = 20
"""Largest reservoir that the SDK gives to an exponential histogram."""


class CustomExemplars:
    """Offers recordings to reservoirs in Python, where the filter or the view's reservoir factory is not the SDK's own.

    They see the recordings of this process only, and a recording that they follow costs what a call of Python does. One that raises costs
    the exemplar and one line in the log, neither the recording nor the collection.

    Args:
        exemplar_filter: The provider's filter.
    """

    def __init__(self, exemplar_filter: ExemplarFilter) -> None:
        self._filter = exemplar_filter
        self.native_filter = _NAMES.get(type(exemplar_filter), "always_off")
        """Name of the filter that native code applies; the one that takes nothing if the filter is the user's."""
        self._is_custom = type(exemplar_filter) not in _NAMES
        self._readers: list[int] = []
        self._reservoirs: dict[int, dict[int, ExemplarReservoir]] = {}
        self._complained: set[str] = set()

    @property
    def in_use(self) -> bool:
        """Whether any recording was followed."""
        return bool(self._reservoirs)

    def add_reader(self, reader: int) -> None:
        """Gives every series a reservoir for one more reader."""
        self._readers.append(reader)

    def remove_reader(self, reader: int) -> None:
        """Forgets the reservoirs of a reader."""
        if reader in self._readers:
            self._readers.remove(reader)
        for reservoirs in list(self._reservoirs.values()):
            reservoirs.pop(reader, None)

    def reset(self) -> None:
        """Begins anew in a forked child, whose parent may have held the reservoirs' locks."""
        self._reservoirs = {}

    def follower(self, view: View, effective: Stated, kind: str) -> Callable[..., None] | None:
        """Returns what is called for every recording of a stream; None if its exemplars are native."""
        factory = view._exemplar_reservoir_factory
        if not self._is_custom and factory is _default_reservoir_factory:
            return None
        if self.native_filter == "always_off" and not self._is_custom:
            return None
        name = effective[0]
        if name == "explicit":
            builder = _builder(factory, _ExplicitBucketHistogramAggregation, boundaries=tuple(effective[1]))
        elif name == "exponential":
            builder = _builder(
                factory, _ExponentialBucketHistogramAggregation, size=min(_EXPONENTIAL_RESERVOIR, effective[1])
            )
        elif name == "last_value" or (name == "default" and "Gauge" in kind):
            builder = _builder(factory, _LastValueAggregation)
        else:
            builder = _builder(factory, _SumAggregation)
        return _Follower(self, builder, skips_zero=name == "exponential")

    def _offer(
        self,
        builder: Callable[[], ExemplarReservoir],
        series: int,
        amount: float,
        attributes: Any,
        context: Context | None,
    ) -> None:
        now = time.time_ns()
        context = get_current() if context is None else context
        cleaned = {} if attributes is None else clean_attributes(attributes)
        try:
            if not self._filter.should_sample(amount, now, cleaned, context):
                return
        except Exception as error:
            self._complain(f"{type(self._filter).__name__}.should_sample", error)
            return
        reservoirs = self._reservoirs.setdefault(series, {})
        for reader in tuple(self._readers):
            reservoir = reservoirs.get(reader)
            try:
                if reservoir is None:
                    reservoir = reservoirs.setdefault(reader, builder())
                reservoir.offer(amount, now, cleaned, context)
            except Exception as error:
                who = "an exemplar_reservoir_factory" if reservoir is None else f"{type(reservoir).__name__}.offer"
                self._complain(who, error)

    def collect(self, reader: int, series: int, attributes: dict[str, Any]) -> list[Exemplar]:
        """Takes the exemplars of a series out of a reader's reservoir."""
        reservoir = self._reservoirs.get(series, {}).get(reader)
        if reservoir is None:
            return []
        try:
            return list(reservoir.collect(attributes))
        except Exception as error:
            self._complain(f"{type(reservoir).__name__}.collect", error)
            return []

    def _complain(self, who: str, error: Exception) -> None:
        """Logs the first exception of each origin."""
        if who not in self._complained:
            self._complained.add(who)
            _logger.warning("Exemplars are lost, here and from now on in silence: %s raised", who, exc_info=error)


def _builder(factory: Any, aggregation: type, **arguments: Any) -> Callable[[], ExemplarReservoir]:
    # The factory is called for each series, as in the SDK, and not before there is a recording.
    return lambda: cast("ExemplarReservoir", factory(aggregation)(**arguments))


class _Follower:
    """Follows the recordings of one stream."""

    def __init__(
        self, exemplars: CustomExemplars, builder: Callable[[], ExemplarReservoir], *, skips_zero: bool
    ) -> None:
        self._exemplars = exemplars
        self._builder = builder
        self._skips_zero = skips_zero

    def __call__(self, series: int, amount: float, attributes: Any, context: Context | None) -> None:
        if self._skips_zero and amount == 0:
            return
        self._exemplars._offer(self._builder, series, amount, attributes, context)
