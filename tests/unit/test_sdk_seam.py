"""Private and undocumented things of opentelemetry-sdk that otel_perf leans on, one test each: an SDK that moves one fails here by name."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import view as views
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_perf.metrics._readers import SDK_TYPES

METRICS = "opentelemetry.sdk.metrics._internal"
FILE = "opentelemetry.configuration"
LEANED_ON: list[tuple[str, str]] = [
    ("opentelemetry.attributes", "_clean_attribute_value"),
    ("opentelemetry.metrics", "_Gauge"),
    ("opentelemetry.metrics", "_NoOpGauge"),
    ("opentelemetry.metrics._internal.instrument", "Instrument"),
    ("opentelemetry.metrics._internal.instrument", "_ProxyCounter"),
    ("opentelemetry.metrics._internal.instrument", "_ProxyGauge"),
    ("opentelemetry.metrics._internal.instrument", "_ProxyHistogram"),
    ("opentelemetry.metrics._internal.instrument", "_ProxyInstrument"),
    ("opentelemetry.metrics._internal.instrument", "_ProxyUpDownCounter"),
    ("opentelemetry.sdk.metrics", "_Gauge"),
    (f"{METRICS}._view_instrument_match", "_ViewInstrumentMatch"),
    (f"{METRICS}.aggregation", "_DEFAULT_EXPLICIT_BUCKET_HISTOGRAM_AGGREGATION_BOUNDARIES"),
    (f"{METRICS}.aggregation", "_ExplicitBucketHistogramAggregation"),
    (f"{METRICS}.aggregation", "_LastValueAggregation"),
    (f"{METRICS}.instrument", "_NAME_ERROR_MESSAGE"),
    (f"{METRICS}.instrument", "_UNIT_ERROR_MESSAGE"),
    (f"{METRICS}.instrument", "_Counter"),
    (f"{METRICS}.instrument", "_UpDownCounter"),
    (f"{METRICS}.instrument", "_Histogram"),
    (f"{METRICS}.instrument", "_Gauge"),
    (f"{METRICS}.instrument", "_ObservableGauge"),
    (f"{METRICS}.metric_reader_storage", "_DEFAULT_VIEW"),
    (f"{METRICS}.point", "Buckets"),
    (f"{METRICS}.point", "ExponentialHistogram"),
    (f"{METRICS}.point", "ExponentialHistogramDataPoint"),
    (f"{METRICS}.sdk_configuration", "SdkConfiguration"),
    ("opentelemetry.sdk._configuration", "_OTelSDKConfigurator"),
    ("opentelemetry.sdk._configuration", "_init_logging"),
    ("opentelemetry.sdk._logs", "LoggerProvider"),
    ("opentelemetry.util._importlib_metadata", "entry_points"),
    ("opentelemetry.instrumentation.distro", "BaseDistro"),
    ("opentelemetry.instrumentation.environment_variables", "OTEL_PYTHON_CONFIGURATOR"),
    ("opentelemetry.instrumentation.environment_variables", "OTEL_PYTHON_DISTRO"),
    ("opentelemetry.sdk.environment_variables", "OTEL_CONFIG_FILE"),
    ("opentelemetry.instrumentation.environment_variables", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"),
    (f"{METRICS}.instrument", "_ObservableCounter"),
    (f"{METRICS}.instrument", "_ObservableGauge"),
    (f"{METRICS}.instrument", "_ObservableUpDownCounter"),
    ("opentelemetry.sdk._logs.export", "BatchLogRecordProcessor"),
    ("opentelemetry.sdk._logs.export", "SimpleLogRecordProcessor"),
    (f"{FILE}._resource", "create_resource"),
    (f"{FILE}._resource", "_coerce_attribute_value"),
    (f"{FILE}._propagator", "create_propagator"),
    (f"{FILE}._sdk", "_SEVERITY_TO_LOGGING_LEVEL"),
    (f"{FILE}._tracer_provider", "create_tracer_provider"),
    (f"{FILE}._tracer_provider", "_create_span_exporter"),
    (f"{FILE}._logger_provider", "create_logger_provider"),
    (f"{FILE}._logger_provider", "_create_log_record_exporter"),
    (f"{FILE}._logger_provider", "_DEFAULT_SCHEDULE_DELAY_MILLIS"),
    (f"{FILE}._logger_provider", "_DEFAULT_EXPORT_TIMEOUT_MILLIS"),
    (f"{FILE}._logger_provider", "_DEFAULT_MAX_QUEUE_SIZE"),
    (f"{FILE}._logger_provider", "_DEFAULT_MAX_EXPORT_BATCH_SIZE"),
    (f"{FILE}._meter_provider", "_create_push_metric_exporter"),
    (f"{FILE}._meter_provider", "_create_pull_metric_exporter"),
    (f"{FILE}._meter_provider", "_create_exemplar_filter"),
    (f"{FILE}._meter_provider", "_create_meter_configurator"),
    (f"{FILE}._meter_provider", "_DEFAULT_EXPORT_INTERVAL_MILLIS"),
    (f"{FILE}._meter_provider", "_DEFAULT_EXPORT_TIMEOUT_MILLIS"),
    (f"{FILE}.file._loader", "_get_schema"),
    (f"{FILE}.file._loader", "_dict_to_model"),
    (f"{FILE}.file._loader", "_validate_file_format"),
    (f"{FILE}.instrumentation", "configure_instrumentation"),
]


@pytest.mark.parametrize(("module", "name"), LEANED_ON)
def test_the_name_exists(module: str, name: str) -> None:
    """Each private name that is imported is where it is imported from."""
    assert hasattr(importlib.import_module(module), name), f"{module}.{name} has moved: see src/otel_perf"


def parameters(function: Callable[..., Any]) -> list[str]:
    """Names of a function's parameters, without self."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


def imported(module: str, name: str) -> Any:
    """A thing by module and name."""
    return getattr(importlib.import_module(module), name)


SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (MetricReader._set_collect_callback, ["func"]),
    (MetricReader._set_meter_provider, ["meter_provider"]),
    (MetricReader.collect, ["timeout_millis"]),
    (sdk.MeterProvider._apply_meter_configurator, ["instrumentation_scope"]),
    (sdk.MeterProvider._handle_fork, []),
    (sdk.Meter._is_enabled, []),
    (imported("opentelemetry.metrics._internal.instrument", "_ProxyInstrument").on_meter_set, ["meter"]),
    (sdk.Meter._register_instrument, ["name", "type_", "unit", "description", "advisory"]),
    (
        sdk.Meter._log_instrument_registration_conflict,
        ["name", "instrumentation_type", "unit", "description", "status"],
    ),
    (
        imported("opentelemetry.metrics._internal.instrument", "Instrument")._check_name_unit_description,
        ["name", "unit", "description"],
    ),
    (imported("opentelemetry.attributes", "_clean_attribute_value"), ["value", "max_string_value_length"]),
    (
        sdk.MeterProvider.__init__,
        ["metric_readers", "resource", "exemplar_filter", "shutdown_on_exit", "views", "_meter_configurator"],
    ),
    (
        views.View.__init__,
        [
            "instrument_type",
            "instrument_name",
            "meter_name",
            "meter_version",
            "meter_schema_url",
            "name",
            "description",
            "attribute_keys",
            "aggregation",
            "exemplar_reservoir_factory",
            "instrument_unit",
        ],
    ),
    (PeriodicExportingMetricReader.__init__, ["exporter", "export_interval_millis", "export_timeout_millis"]),
    (
        imported("opentelemetry.exporter.prometheus", "PrometheusMetricReader").__init__,
        ["disable_target_info", "prefix", "scope_info_enabled", "resource_attribute_filter", "registry"],
    ),
    (imported(f"{FILE}._tracer_provider", "create_tracer_provider"), ["config", "resource", "global_attribute_limits"]),
    (imported(f"{FILE}._logger_provider", "create_logger_provider"), ["config", "resource", "global_attribute_limits"]),
    (sdk.MeterProvider.get_meter, ["name", "version", "schema_url", "attributes"]),
    (sdk.MeterProvider.add_metric_reader, ["metric_reader"]),
    (sdk.MeterProvider.remove_metric_reader, ["metric_reader"]),
    (sdk.Meter.__init__, ["instrumentation_scope", "measurement_consumer", "_meter_config"]),
    (
        views.Aggregation._create_aggregation,
        ["instrument", "attributes", "reservoir_factory", "start_time_unix_nano"],
    ),
    (
        imported(f"{METRICS}.aggregation", "_ExplicitBucketHistogramAggregation").__init__,
        [
            "attributes",
            "instrument_aggregation_temporality",
            "start_time_unix_nano",
            "reservoir_builder",
            "boundaries",
            "record_min_max",
        ],
    ),
    (
        imported(f"{METRICS}.aggregation", "_LastValueAggregation").__init__,
        ["attributes", "reservoir_builder", "instrument_is_synchronous"],
    ),
    (
        imported(f"{METRICS}.aggregation", "_LastValueAggregation").collect,
        ["collection_aggregation_temporality", "collection_start_nano"],
    ),
    (imported(f"{METRICS}.aggregation", "_Aggregation").aggregate, ["measurement", "should_sample_exemplar"]),
    (imported(f"{METRICS}.aggregation", "_Aggregation")._sample_exemplar, ["measurement", "should_sample_exemplar"]),
    (imported(f"{METRICS}.aggregation", "_Aggregation")._collect_exemplars, []),
    (
        imported(f"{METRICS}.instrument", "_ObservableGauge").__init__,
        [
            "name",
            "instrumentation_scope",
            "measurement_consumer",
            "callbacks",
            "unit",
            "description",
            "_meter_config",
        ],
    ),
    (
        imported("opentelemetry.sdk._configuration", "_init_logging"),
        [
            "exporters",
            "resource",
            "setup_logging_handler",
            "exporter_args_map",
            "log_record_processors",
            "export_log_record_processor",
            "logger_configurator",
        ],
    ),
]


@pytest.mark.parametrize(("function", "expected"), SIGNATURES, ids=lambda value: getattr(value, "__qualname__", ""))
def test_the_signature_is_the_expected_one(function: Callable[..., Any], expected: list[str]) -> None:
    """What is overridden or called takes the parameters that we know; a new one has to be looked at."""
    assert parameters(function) == expected


@pytest.mark.parametrize("name", ["id_generator", "sampler", "resource", "_tracer_configurator"])
def test_the_tracer_provider_takes_what_it_is_given(name: str) -> None:
    """The tracer provider's keywords that the configurator uses exist."""
    assert name in parameters(imported("opentelemetry.sdk.trace", "TracerProvider").__init__)


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


def test_the_periodic_reader_has_an_export_lock() -> None:
    """The lock that is renewed in a forked child is there; without it the renewal would do nothing."""
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter(), export_interval_millis=float("inf"))

    assert hasattr(reader, "_export_lock")
    assert reader._export_lock.acquire(blocking=False)


def test_a_collection_asks_the_instruments_that_were_appended() -> None:
    """The consumer keeps observable instruments in a list that a collection iterates itself, so that one can be appended without its lock."""
    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider([reader], shutdown_on_exit=False)
    consumer: Any = provider._measurement_consumer
    seen: list[str] = []

    class Late:
        def callback(self, _options: CallbackOptions) -> list[Any]:
            seen.append("late")
            return []

    def append(_options: CallbackOptions) -> list[Observation]:
        consumer._async_instruments.append(Late())
        return []

    provider.get_meter("m").create_observable_gauge("g", [append])
    reader.collect()

    assert type(consumer._async_instruments) is list
    assert seen == ["late"]
    provider.shutdown()


def test_the_storage_of_a_reader_keeps_streams_by_instrument() -> None:
    """A reader's storage has the streams of an instrument in a dict under its lock, and takes those that are there already."""
    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("m")
    counter: Any = meter.create_counter("c")
    storage: Any = counter._measurement_consumer._reader_storages[reader]
    storage._instrument_view_instrument_matches[counter] = []
    counter.add(1)

    assert reader.get_metrics_data() is None
    assert storage._lock.acquire(blocking=False)
    assert storage._sdk_config.views == ()
    assert storage._check_view_instrument_compatibility(views.View(instrument_name="c"), counter)
    assert counter._meter_config.is_enabled
    match = imported(f"{METRICS}._view_instrument_match", "_ViewInstrumentMatch")
    assert parameters(match.__init__)[:3] == ["view", "instrument", "instrument_class_aggregation"]
    assert isinstance(storage._instrument_class_aggregation, dict)
    storage._lock.release()
    provider.shutdown()


def test_views_keep_what_they_select_by() -> None:
    """A view has its pattern under the name that is read, and says whether it matches an instrument."""
    view = views.View(instrument_name="H.*")

    assert view._instrument_name == "H.*"
    assert parameters(view._match) == ["instrument"]


def test_a_histogram_of_the_sdk_has_its_advice() -> None:
    """The advised boundaries are where the default aggregation of the SDK looks for them."""
    provider = sdk.MeterProvider(shutdown_on_exit=False)
    histogram: Any = provider.get_meter("m").create_histogram("h", explicit_bucket_boundaries_advisory=[1, 2])

    assert histogram._advisory.explicit_bucket_boundaries == [1, 2]


AGGREGATIONS: list[tuple[views.Aggregation, dict[str, Any]]] = [
    (views.ExplicitBucketHistogramAggregation([1, 2], record_min_max=False), {"_record_min_max": False}),
    (views.ExplicitBucketHistogramAggregation(), {"_boundaries": None, "_record_min_max": True}),
    (
        views.ExponentialBucketHistogramAggregation(max_size=40, max_scale=7),
        {"_max_size": 40, "_max_scale": 7, "_record_min_max": True},
    ),
]


@pytest.mark.parametrize(("aggregation", "expected"), AGGREGATIONS, ids=lambda value: type(value).__name__)
def test_aggregations_keep_their_options(aggregation: views.Aggregation, expected: dict[str, Any]) -> None:
    """The options of a histogram aggregation are under the names that are read."""
    assert {name: getattr(aggregation, name) for name in expected} == expected


def test_boundaries_are_kept_as_given() -> None:
    """Explicit boundaries are a sequence of the numbers that were given."""
    assert list(views.ExplicitBucketHistogramAggregation([1, 2.5])._boundaries or ()) == [1, 2.5]


POINTS: list[tuple[str, list[str]]] = [
    ("Buckets", ["offset", "bucket_counts"]),
    ("ExponentialHistogram", ["data_points", "aggregation_temporality"]),
    (
        "ExponentialHistogramDataPoint",
        [
            "attributes",
            "start_time_unix_nano",
            "time_unix_nano",
            "count",
            "sum",
            "scale",
            "zero_count",
            "positive",
            "negative",
            "flags",
            "min",
            "max",
            "exemplars",
        ],
    ),
]


@pytest.mark.parametrize(("name", "fields"), POINTS)
def test_exponential_points_have_the_fields(name: str, fields: list[str]) -> None:
    """The data classes that are not exported by the SDK have the fields that are filled."""
    assert [field.name for field in dataclasses.fields(imported(f"{METRICS}.point", name))] == fields


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


def without_descriptions(value: Any) -> Any:
    """A schema without its texts."""
    if isinstance(value, dict):
        return {key: without_descriptions(held) for key, held in value.items() if key != "description"}
    return [without_descriptions(held) for held in value] if isinstance(value, list) else value


def test_the_schema_of_configuration_files_is_the_one_that_was_gone_through() -> None:
    """A new schema may have keys that upstream ignores: what is refused in config_file/_refused.py has to be looked at again."""
    schema = without_descriptions(imported(f"{FILE}.file._loader", "_get_schema")())
    digest = hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()

    assert digest == "c494dce1ec2d48f93f3002f1725c9f02511e3dc6b99e2a38f37b7fa69d0dcd3a"
