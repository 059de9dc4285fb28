"""Instruments that libraries make before there is a provider: the API's proxies, which our provider turns into the fast ones."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_perf import MeterProvider, metrics
from tests.conftest import points_of
from tests.peers.program import run
from tests.unit.instrumented import KINDS

kinds = pytest.mark.parametrize("kind", KINDS)


class Early:
    """An instrument that was made before the provider was set.

    Args:
        kind: Its class in the API.
    """

    def __init__(self, kind: str) -> None:
        create, self.method = KINDS[kind]
        self._api = _ProxyMeterProvider()
        self.meter = self._api.get_meter("early", "1")
        self.proxy: Any = getattr(self.meter, create)("i", "s", "text")

    def record(self, *arguments: Any) -> None:
        """Records through the proxy."""
        getattr(self.proxy, self.method)(*arguments)

    def set_provider(self, provider: api.MeterProvider) -> None:
        """Does to the proxies what `set_meter_provider` does."""
        self._api.on_set_meter_provider(provider)


def values(reader: InMemoryMetricReader) -> dict[frozenset[Any], Any]:
    """Value or sum by attributes."""
    found = points_of(reader.get_metrics_data())
    return {key[1]: getattr(point, "value", getattr(point, "sum", None)) for key, point in found.items()}


@kinds
def test_its_method_becomes_the_native_one(kind: str, provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """Once the provider is set, the proxy's recording method is the native instrument's own, without a Python function between."""
    early = Early(kind)
    early.record(5, {"k": "lost"})
    early.set_provider(provider)
    early.record(3, {"k": "v"})

    native = early.proxy._real_instrument
    assert type(native) is getattr(metrics, kind)
    assert getattr(early.proxy, early.method).__self__ is native
    assert early.proxy.bind.__self__ is native
    assert type(early.proxy.bind()) is getattr(metrics, f"Bound{kind}")
    assert values(reader) == {frozenset({("k", "v")}): 3}


@kinds
def test_it_is_still_what_it_was(kind: str, provider: MeterProvider) -> None:
    """The instrument stays an instance of the API's class, and can be copied."""
    early = Early(kind)
    early.set_provider(provider)
    native, again = early.proxy._real_instrument, copy.copy(early.proxy)

    assert again._real_instrument is native
    assert isinstance(early.proxy, getattr(api, kind, None) or api._Gauge)


@kinds
def test_it_can_be_pickled_as_with_the_api_alone(kind: str, provider: MeterProvider) -> None:
    """Before there is a provider the proxy can be pickled; afterwards not, as the SDK's instruments cannot."""
    early, stock = Early(kind), Early(kind)
    again = pickle.loads(pickle.dumps(early.proxy))
    getattr(again, early.method)(1)
    again.bind({"k": "v"})
    early.set_provider(provider)
    stock.set_provider(sdk.MeterProvider(shutdown_on_exit=False))

    assert type(again) is type(early.proxy)
    for instrument in (early, stock):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(instrument.proxy)


@kinds
def test_what_was_bound_early_records_once_there_is_a_provider(
    kind: str, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """A series that was bound before the provider was set does nothing until then, and is the native series afterwards."""
    early = Early(kind)
    given = {"k": "v"}
    bound: Any = early.proxy.bind(given)
    given["k"] = "changed"
    getattr(bound, early.method)(5)
    early.set_provider(provider)
    getattr(bound, early.method)(3)
    getattr(bound, early.method)(amount=4)

    expected = 4 if kind == "Gauge" else 7
    assert values(reader) == {frozenset({("k", "v")}): expected}
    assert getattr(bound, early.method).__self__.instrument is early.proxy._real_instrument
    assert bound.instrument is early.proxy


@kinds
def test_binding_to_what_is_no_mapping_is_as_with_the_native_instruments(
    kind: str, provider: MeterProvider, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """Attributes that are none are warned about when the series is found, and recordings go to the series without attributes."""
    early = Early(kind)
    bounds = [early.proxy.bind(given) for given in ("text", None)]
    early.set_provider(provider)
    for bound in bounds:
        getattr(bound, early.method)(1)

    assert values(reader) == {frozenset(): 1 if kind == "Gauge" else 2}
    assert caplog.messages == ["Invalid type '<class 'str'>' for attributes. Expected a Mapping or None."]


@kinds
def test_with_the_stock_sdk_bound_series_record_too(kind: str) -> None:
    """If the provider turns out to be another's, the proxy is as the API made it, and what was bound records through it."""
    reader = InMemoryMetricReader()
    early = Early(kind)
    bound = early.proxy.bind({"k": "v"})
    early.set_provider(sdk.MeterProvider([reader], shutdown_on_exit=False))
    later = early.proxy.bind({"k": "v"})
    for series in (bound, later):
        getattr(series, early.method)(2)

    assert early.method not in vars(early.proxy)
    assert values(reader) == {frozenset({("k", "v")}): 2 if kind == "Gauge" else 4}


@kinds
def test_with_the_api_alone_bound_series_do_nothing(kind: str) -> None:
    """With the API's own provider, whose instruments do nothing, bound series do nothing either."""
    early = Early(kind)
    bound = early.proxy.bind()
    early.set_provider(api.NoOpMeterProvider())

    getattr(bound, early.method)(2)
    getattr(early.proxy.bind(), early.method)(2)


def test_observable_ones_are_asked(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """Callbacks that were registered before the provider was set are asked at each collection, each once."""
    early = Early("Counter")
    observed = lambda _: [api.Observation(7)]  # noqa: E731
    early.meter.create_observable_counter("o", [observed])
    early.meter.create_observable_gauge("g", [observed])
    early.set_provider(provider)

    assert values(reader) == {frozenset(): 7}
    assert {name for name, _ in points_of(reader.get_metrics_data())} == {"o", "g"}


BEFORE = "from opentelemetry import metrics; early = metrics.get_meter('m').create_counter('c'); kind = type(early)\n"
AFTER = (
    "early.add(2)\n"
    "from otel_perf.metrics import Counter\n"
    "print(type(early.add.__self__) is Counter, type(early) is kind, type(early.bind()).__name__)\n"
)
WAYS = {
    "otel_perf.configure": "import otel_perf; otel_perf.configure()\n",
    "set_meter_provider": "import otel_perf; metrics.set_meter_provider(otel_perf.MeterProvider())\n",
    "otel_perf is imported first": "import otel_perf.metrics; early.bind().add(1); import otel_perf; otel_perf.configure()\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_set_the_provider_turns_them(way: str) -> None:
    """Instruments that were made before otel_perf was imported become native ones, however the provider is set."""
    done = run("-c", BEFORE + WAYS[way] + AFTER, wrapper=False, OTEL_METRICS_EXPORTER="none")

    assert (done.out, done.err) == ("True True BoundCounter\n", "")


def test_a_disabled_sdk_leaves_instruments_that_do_nothing_and_can_be_bound() -> None:
    """With OTEL_SDK_DISABLED instruments made early and late can be bound and do nothing."""
    code = f"{BEFORE}import otel_perf; otel_perf.configure(); early.bind().add(1); metrics.get_meter('m').create_counter('c').bind().add(1)"
    done = run("-c", code, wrapper=False, OTEL_SDK_DISABLED="true")

    assert (done.code, done.out, done.err) == (0, "", "")
