"""Instruments that were made before a provider was set: once ours is set, they record as directly as those that are made afterwards.

Such an instrument is the API's proxy, whose method looks for the real instrument at each call and passes the call on. Importing this module completes
the proxies' class, the API's own: `bind` is there from the start, and when the real instrument is native, its methods take the place of the proxy's.
Provider and proxies may come in any order, the provider from the wrapper, from `configure` or from ``set_meter_provider``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics._internal.instrument import (
    _ProxyCounter,
    _ProxyGauge,
    _ProxyHistogram,
    _ProxyInstrument,
    _ProxyUpDownCounter,
)

from otel_perf.metrics._instruments import NATIVE

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import Attributes

_set_meter = _ProxyInstrument.on_meter_set


def _on_meter_set(self: Any, meter: Any) -> None:
    """What a proxy does when there is a provider; a native instrument's methods then shadow those of the class."""
    _set_meter(self, meter)
    real = self._real_instrument
    if isinstance(real, NATIVE):
        method = _METHODS[type(real)]
        # Set one by one: to ask for the instance's `__dict__` would make each call some nanoseconds slower.
        setattr(self, method, getattr(real, method))
        self.bind = real.bind


class _EarlyBound:
    """A series that was bound before there was a provider. It does nothing until there is one, and then what the real series does.

    Args:
        proxy: The instrument.
        attributes: Attributes of the series; copied.
    """

    def __init__(self, proxy: Any, attributes: Attributes) -> None:
        self._proxy = proxy
        self._attributes = dict(attributes) if isinstance(attributes, Mapping) else attributes

    @property
    def instrument(self) -> Any:
        """The instrument."""
        return self._proxy

    def _record(self, method: str, amount: float, context: Context | None) -> None:
        real = self._proxy._real_instrument
        if real is None:
            return
        bind = getattr(real, "bind", None)
        if bind is None:
            # Another SDK's instrument.
            getattr(real, method)(amount, self._attributes, context)
            return
        record = getattr(bind(self._attributes), method)
        setattr(self, method, record)
        record(amount)


class _EarlyBoundCounter(_EarlyBound):
    """A counter's or an up-down counter's."""

    def add(self, amount: float, context: Context | None = None) -> None:
        """Adds an amount."""
        self._record("add", amount, context)


class _EarlyBoundHistogram(_EarlyBound):
    """A histogram's."""

    def record(self, amount: float, context: Context | None = None) -> None:
        """Records an amount."""
        self._record("record", amount, context)


class _EarlyBoundGauge(_EarlyBound):
    """A gauge's."""

    def set(self, amount: float, context: Context | None = None) -> None:
        """Sets the value."""
        self._record("set", amount, context)


_METHODS = dict(zip(NATIVE, ("add", "add", "record", "set"), strict=True))
_PROXIES: tuple[tuple[type, type[_EarlyBound]], ...] = (
    (_ProxyCounter, _EarlyBoundCounter),
    (_ProxyUpDownCounter, _EarlyBoundCounter),
    (_ProxyHistogram, _EarlyBoundHistogram),
    (_ProxyGauge, _EarlyBoundGauge),
)


def _complete(proxy: Any, bound: type[_EarlyBound]) -> None:
    def bind(self: Any, attributes: Attributes = None) -> _EarlyBound:
        """The instrument's series of these attributes, see `otel_perf.metrics.Counter.bind`."""
        return bound(self, attributes)

    proxy.bind = bind


for _proxy, _bound in _PROXIES:
    _complete(_proxy, _bound)
_ProxyInstrument.on_meter_set = _on_meter_set  # type: ignore[method-assign]
