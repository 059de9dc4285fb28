"""Private and undocumented names of opentelemetry-sdk that otel_perf leans on: an SDK that moves one, or asks for other arguments, fails here by name.

How they behave is in the other `test_sdk_seam_*.py`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import view as views
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

from tests.conformance.harness import LIMITS
from tests.unit.test_layers import MODULES, SOURCE, at_run_time

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
    (f"{METRICS}.aggregation", "_ExponentialBucketHistogramAggregation"),
    (f"{METRICS}.aggregation", "_LastValueAggregation"),
    (f"{METRICS}.aggregation", "_SumAggregation"),
    (f"{METRICS}.view", "_default_reservoir_factory"),
    (METRICS, "_get_exemplar_filter"),
    ("opentelemetry.context", "_RUNTIME_CONTEXT"),
    ("opentelemetry.context.contextvars_context", "ContextVarsRuntimeContext"),
    ("opentelemetry.context", "_SUPPRESS_INSTRUMENTATION_KEY"),
    ("opentelemetry.trace.propagation", "_SPAN_KEY"),
    ("opentelemetry.sdk.trace", "_Span"),
    ("opentelemetry.sdk.trace", "_is_valid_link"),
    ("opentelemetry.sdk.trace._tracer_metrics", "NoOpTracerMetrics"),
    ("opentelemetry.semconv._incubating.attributes.otel_attributes", "OtelComponentTypeValues"),
    ("opentelemetry.exporter.http.transport._requests", "RequestsHTTPTransport"),
    ("opentelemetry.exporter.otlp.common.http", "_extract_retry_after"),
    ("opentelemetry.exporter.prometheus._mapping", "map_unit"),
    ("opentelemetry.exporter.prometheus._mapping", "sanitize_attribute"),
    ("opentelemetry.exporter.prometheus._mapping", "sanitize_full_name"),
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


GUARDS = "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_sdk_seam*.py")))


def is_private(name: str) -> bool:
    """Whether a dotted name has a part that begins with one underscore; the logs API, which is all under one, is public."""
    parts = name.replace("opentelemetry._logs", "").replace("opentelemetry.sdk._logs", "").split(".")
    return any(part.startswith("_") and not part.startswith("__") for part in parts)


def private_imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What a module takes from private modules or by private names of opentelemetry at run time."""
    for node in at_run_time(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("opentelemetry"):
            yield from (
                (str(node.module), alias.name) for alias in node.names if is_private(f"{node.module}.{alias.name}")
            )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_private_import_is_listed(path: Path) -> None:
    """What is imported from private modules of opentelemetry is in the list above, or is a whole module whose names are."""
    listed = {*LEANED_ON, *((module.rpartition(".")[0], module.rpartition(".")[2]) for module, _ in LEANED_ON)}

    assert set(private_imports(ast.parse(path.read_text()))) - listed == set()


def private_attributes(tree: ast.AST) -> set[str]:
    """Private attributes that are read or set on anything but the object itself, by name or by a string."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in {"self", "cls", "super()"}:
            found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "hasattr", "setattr"}:
            found |= {str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)}
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def own_names(tree: ast.AST) -> set[str]:
    """Names that a module defines, and attributes that its objects set on themselves."""
    nodes = list(ast.walk(tree))
    defined = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    defined |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    attributes = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }
    return defined | attributes


def test_every_private_attribute_is_guarded() -> None:
    """Each private attribute that is used on objects of the SDK is named in a test of the seam."""
    trees = [ast.parse(path.read_text()) for path in [*MODULES, SOURCE / "_core.pyi"]]
    ours = set().union(*map(own_names, trees))
    used = set().union(*map(private_attributes, trees))

    assert {name for name in used - ours if name not in GUARDS} == set()


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
    (sdk.Meter._set_meter_config, ["meter_config"]),
    (imported(METRICS, "_get_exemplar_filter"), ["exemplar_filter"]),
    (imported(f"{METRICS}.view", "_default_reservoir_factory"), ["aggregation_type"]),
    (sdk.ExemplarFilter.should_sample, ["value", "time_unix_nano", "attributes", "context"]),
    (sdk.ExemplarReservoir.offer, ["value", "time_unix_nano", "attributes", "context"]),
    (sdk.ExemplarReservoir.collect, ["point_attributes"]),
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
            *(["aggregation_cardinality_limit"] if LIMITS else []),
        ],
    ),
    (
        PeriodicExportingMetricReader.__init__,
        [
            "exporter",
            "export_interval_millis",
            "export_timeout_millis",
            *(["cardinality_limits"] if LIMITS else []),
        ],
    ),
    (
        imported("opentelemetry.exporter.prometheus", "PrometheusMetricReader").__init__,
        [
            "disable_target_info",
            "prefix",
            "scope_info_enabled",
            "resource_attribute_filter",
            "registry",
            *(["cardinality_limits"] if LIMITS else []),
        ],
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
