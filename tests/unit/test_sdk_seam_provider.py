"""What the SDK's provider, meters, readers and proxies do beneath their public face, where ours stand in for them."""

from __future__ import annotations

import importlib
import inspect
import re
from collections import deque
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.context import get_current
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes.otel_attributes import OtelComponentTypeValues
from prometheus_client import CollectorRegistry

from otel_perf.metrics._readers import _SDK_LIMIT, SDK_TYPES
from tests.conformance.harness import LIMITS

METRICS = "opentelemetry.sdk.metrics._internal"


def imported(module: str, name: str) -> Any:
    """A thing by module and name."""
    return getattr(importlib.import_module(module), name)


PROVIDER = [
    "_sdk_config",
    "_metric_readers",
    "_measurement_consumer",
    "_disabled",
    "_shutdown",
    "_lock",
    "_meter_lock",
    "_meters",
    "_all_metric_readers_lock",
]


@pytest.mark.parametrize("name", PROVIDER)
def test_the_provider_has_the_attribute(name: str) -> None:
    """The SDK's provider keeps its state under the names that ours reads or replaces."""
    provider = sdk.MeterProvider(shutdown_on_exit=False)

    assert hasattr(provider, name), f"MeterProvider.{name} has moved: see metrics/_provider.py"
    provider.shutdown()


def test_the_provider_hands_readers_a_callback_and_itself() -> None:
    """The constructor gives each reader the consumer's `collect` and then the provider, which ours does over again."""
    seen: list[Any] = []

    class Reader(InMemoryMetricReader):
        def _set_collect_callback(self, func: Any) -> None:  # type: ignore[misc]
            seen.append(func)

        def _set_meter_provider(self, meter_provider: Any) -> None:
            seen.append(meter_provider)

    provider = sdk.MeterProvider([Reader()], shutdown_on_exit=False)

    assert seen == [provider._measurement_consumer.collect, provider]


def test_the_configuration_has_a_resource() -> None:
    """The provider's configuration has the resource that is exported."""
    provider = sdk.MeterProvider(shutdown_on_exit=False)

    assert provider._sdk_config.resource is not None


def test_the_meter_configuration_says_whether_it_is_enabled() -> None:
    """What the meter configurator answers has `is_enabled`."""
    provider = sdk.MeterProvider(shutdown_on_exit=False)

    assert provider._apply_meter_configurator(InstrumentationScope("m")).is_enabled is True


METER = ["_instrument_registration_lock", "_instrument_ids_lock", "_instrument_id_instrument", "_instrumentation_scope"]


@pytest.mark.parametrize("name", METER)
def test_the_meter_has_the_attribute(name: str) -> None:
    """The SDK's meter keeps its state under the names that ours reads or replaces."""
    meter = sdk.MeterProvider(shutdown_on_exit=False).get_meter("m")

    assert hasattr(meter, name), f"Meter.{name} has moved: see metrics/_meter.py"


def test_registration_answers_an_identity_and_whether_it_conflicts() -> None:
    """Registering twice answers one identity, a conflict only for other advice."""
    meter: Any = sdk.MeterProvider(shutdown_on_exit=False).get_meter("m")
    first, second, other = (
        meter._register_instrument("h", sdk.Histogram, "", "", advice) for advice in (None, None, [1])
    )

    assert first.instrument_id == second.instrument_id == other.instrument_id
    assert (first.conflict, second.conflict, other.conflict) == (False, False, True)


def test_the_meter_hands_observables_to_its_consumer() -> None:
    """An observable instrument reaches `register_asynchronous_instrument` of the consumer, whose reports have value and attributes."""
    registered: list[Any] = []

    class Consumer:
        def register_asynchronous_instrument(self, instrument: Any) -> None:
            registered.append(instrument)

    consumer: Any = Consumer()
    meter = sdk.Meter(InstrumentationScope("m"), consumer)
    meter.create_observable_gauge("G", [lambda _: [Observation(1, {"a": 1})]], "By", "text")
    (instrument,) = registered
    (measurement,) = instrument.callback(CallbackOptions())

    assert (instrument.name, instrument.unit, instrument.description) == ("g", "By", "text")
    assert instrument.instrumentation_scope == InstrumentationScope("m")
    assert (measurement.value, measurement.attributes) == (1, {"a": 1})
    assert measurement.context == get_current()


def test_readers_state_temporality_and_aggregation_for_all_kinds() -> None:
    """A reader has a temporality and an aggregation for each of the seven classes by which ours are named."""
    reader = InMemoryMetricReader()
    kinds = {
        "Counter",
        "UpDownCounter",
        "Histogram",
        "Gauge",
        "ObservableCounter",
        "ObservableUpDownCounter",
        "ObservableGauge",
    }

    assert set(SDK_TYPES) == kinds
    assert set(reader._instrument_class_temporality) == set(SDK_TYPES.values())
    assert set(reader._instrument_class_aggregation) == set(SDK_TYPES.values())


@pytest.mark.skipif(not LIMITS, reason="the installed opentelemetry-sdk has no cardinality limits (before 1.45.2)")
def test_readers_state_limits_for_all_kinds() -> None:
    """An SDK whose readers limit series has the limits by class, where the default is the one that gives way to our setting."""
    options: dict[str, Any] = {"cardinality_limits": {sdk.Counter: 5}}
    limits: Any = InMemoryMetricReader(**options)._instrument_class_cardinality_limit  # type: ignore[attr-defined,unused-ignore]

    assert {kind: limits[sdk_type] for kind, sdk_type in SDK_TYPES.items()} == {
        **dict.fromkeys(SDK_TYPES, _SDK_LIMIT),
        "Counter": 5,
    }


def test_the_prometheus_reader_keeps_what_it_collects_in_a_queue() -> None:
    """The reader's collector has a queue under the name that is replaced, and asks of it only what ours answers."""
    reader: Any = PrometheusMetricReader(registry=CollectorRegistry())

    assert type(reader._collector._metrics_datas) is deque
    source = inspect.getsource(type(reader._collector))
    assert set(re.findall(r"_metrics_datas\.(\w+)", source)) == {"append", "popleft"}


def test_the_prometheus_reader_says_which_labels_it_adds() -> None:
    """What the reader adds of resource and scope to each point is asked of its collector, whose methods follow the reader's arguments."""
    scope = InstrumentationScope("s", "1", attributes={"team": "a"})
    shown: Any = PrometheusMetricReader(registry=CollectorRegistry(), resource_attribute_filter="r".__eq__)
    hidden: Any = PrometheusMetricReader(registry=CollectorRegistry(), scope_info_enabled=False)

    assert "otel_scope_team" in shown._collector._build_scope_attrs(scope)
    assert hidden._collector._build_scope_attrs(scope) == {}
    assert shown._collector._build_resource_attrs(Resource({"r": 1, "q": 2})) == {"r": 1}
    assert hidden._collector._build_resource_attrs(Resource({"r": 1})) == {}


def test_readers_measure_their_collections() -> None:
    """What a reader measures of itself is under the name that the endpoint uses, which collects in a way of its own."""
    reader: Any = InMemoryMetricReader()

    reader._metrics.record_collection(0.5)
    assert OtelComponentTypeValues.PROMETHEUS_HTTP_TEXT_METRIC_EXPORTER.value == "prometheus_http_text_metric_exporter"


def test_the_periodic_reader_has_an_export_lock() -> None:
    """The lock that is renewed in a forked child is there; without it the renewal would do nothing."""
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter(), export_interval_millis=float("inf"))

    assert hasattr(reader, "_export_lock")
    assert reader._export_lock.acquire(blocking=False)


def test_error_texts_take_the_name() -> None:
    """The texts of refused names and units have one place for what was refused."""
    for name in ("_NAME_ERROR_MESSAGE", "_UNIT_ERROR_MESSAGE"):
        assert "9a" in imported(f"{METRICS}.instrument", name).format("9a")


def test_the_check_of_names_answers_none_for_what_is_wrong() -> None:
    """A wrong name or unit is None in the answer, a right one itself."""
    check = imported("opentelemetry.metrics._internal.instrument", "Instrument")._check_name_unit_description

    assert check("a", "s", "text") == {"name": "a", "unit": "s", "description": "text"}
    assert check("9", "é", "") == {"name": None, "unit": None, "description": ""}


def test_proxies_keep_the_real_instrument_and_have_no_bind_of_their_own() -> None:
    """A proxy's real instrument is under the name that is read, None before there is one, and only we give proxies `bind`."""
    proxy: Any = imported("opentelemetry.metrics._internal", "_ProxyMeterProvider")().get_meter("m").create_counter("c")

    assert proxy._real_instrument is None
    assert type(proxy).bind.__module__ == "otel_perf.metrics._proxies"
    assert not hasattr(api.NoOpCounter, "bind"), "the API has `bind` now: see metrics/_proxies.py"


@pytest.mark.parametrize("kind", ["Counter", "UpDownCounter", "Histogram", "_Gauge"])
def test_classes_take_virtual_subclasses(kind: str) -> None:
    """The SDK's and the API's classes are abstract base classes, so that native types can be registered."""

    class Native:
        pass

    getattr(sdk, kind).register(Native)
    assert issubclass(Native, getattr(sdk, kind))
    assert issubclass(Native, getattr(api, kind))
