"""OTEL_CONFIG_FILE: what is not honoured is refused, each thing with its line, all in one error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_perf.config import Settings
from otel_perf.config_file import ConfigurationFileError
from otel_perf.config_file import sdk as config_sdk
from tests.unit.config_files import HEAD, METRICS, reader, refused, traces

SCHEMA: list[tuple[str, list[str]]] = [
    ("[]", ["1: is not a configuration; accepted: a mapping with file_format"]),
    ("disabled: false", ["1: file_format is missing"]),
    ("file_format: 1.0", ["1: file_format: 1.0 is not accepted; accepted: a text"]),
    (
        "file_format: '2.0'",
        ["1: file_format: ConfigurationError: Unsupported file_format '2.0': this SDK supports schema version 1.x"],
    ),
    (f"{HEAD}disabled: maybe", ["2: disabled: 'maybe' is not accepted; accepted: true, false, null"]),
    (f"{HEAD}meter_provider: {{}}", ["2: meter_provider: readers is missing"]),
    (
        f"{HEAD}meter_provider: {{readers: []}}",
        ["2: meter_provider.readers: is empty; accepted: a list with at least one item"],
    ),
    (
        reader("{}"),
        ["4: meter_provider.readers[0]: has 0 keys; accepted: exactly one of periodic, pull"],
    ),
    (
        reader("periodic: {exporter: {console: {colour: red}}}"),
        [
            (
                "4: meter_provider.readers[0].periodic.exporter.console.colour: is not known; accepted: temporality_preference, "
                "default_histogram_aggregation"
            )
        ],
    ),
    (
        reader("periodic: {exporter: {console: {temporality_preference: both}}}"),
        [
            (
                "4: meter_provider.readers[0].periodic.exporter.console.temporality_preference: 'both' is not accepted; accepted: "
                "cumulative, delta, low_memory"
            )
        ],
    ),
    (
        traces(more="sampler: {trace_id_ratio_based: {ratio: 1.5}}"),
        ["4: tracer_provider.sampler.trace_id_ratio_based.ratio: 1.5 is not accepted; accepted: at most 1"],
    ),
    (
        traces(more="limits: {event_count_limit: 5.0}"),
        ["4: tracer_provider.limits.event_count_limit: 5.0 is not accepted; accepted: an integer, null"],
    ),
    (
        f"{HEAD}resource: {{attributes: [{{name: a, value: {{}}}}]}}",
        [
            (
                "2: resource.attributes[0].value: a mapping is not accepted; accepted: a text, a number, true, false, null, or a list "
                "of one of the first three kinds"
            )
        ],
    ),
]


@pytest.mark.parametrize(("text", "problems"), SCHEMA)
def test_what_the_schema_refuses_has_a_line(text: str, problems: list[str], tmp_path: Path) -> None:
    """An error of the schema is a line with the place in the file and what is accepted."""
    assert refused(tmp_path, text) == problems


IGNORED: list[tuple[str, str, str]] = [
    (f"{HEAD}colour: red", "2: colour", "is not known"),
    (f"{HEAD}distribution: {{otel_perf: {{a: 1}}}}", "2: distribution.otel_perf", "environment variables"),
    (
        f"{HEAD}instrumentation/development: {{general: {{}}}}",
        "2: instrumentation/development.general",
        "not supported",
    ),
    (
        f"{HEAD}instrumentation/development: {{python: {{abacus: {{}}}}}}",
        "2: instrumentation/development.python",
        "abacus",
    ),
    (
        f"{HEAD}instrumentation/development: {{python: {{fastapi: {{enabled: 5}}}}}}",
        "2: instrumentation/development.python",
        "fastapi.enabled is 5",
    ),
    (f"{HEAD}resource: {{attributes_list: 'a=b,c'}}", "2: resource.attributes_list", "'c' is not accepted"),
    (
        f"{HEAD}resource: {{attributes: [{{name: a, value: x, type: int}}]}}",
        "2: resource.attributes[0]",
        "not of type int",
    ),
    (f"{HEAD}resource: {{attributes: [{{name: a, value: [x], type: string}}]}}", "2: resource.attributes[0]", "string"),
    (f"{HEAD}resource: {{attributes: [{{name: a, value: .nan}}]}}", "2: resource.attributes[0].value", "finite"),
    (
        f"{HEAD}resource: {{detection/development: {{detectors: [{{crystal: }}]}}}}",
        "2: resource.detection/development.detectors[0]",
        "crystal is not supported or not installed; accepted: host, process, service",
    ),
    (f"{HEAD}propagator: {{composite: [{{pigeon: }}]}}", "2: propagator.composite[0]", "tracecontext, baggage"),
    (f"{HEAD}propagator: {{composite_list: 'baggage, pigeon'}}", "2: propagator.composite_list", "pigeon"),
    (traces("{carrier: }"), "3: tracer_provider.processors[0].batch.exporter", "otlp_http, otlp_grpc"),
    (traces("{otlp_file/development: }"), "3: tracer_provider.processors[0].batch.exporter", "pip install"),
    (
        traces("{otlp_http: {encoding: json}}"),
        "3: tracer_provider.processors[0].batch.exporter.otlp_http.encoding",
        "protobuf",
    ),
    (
        traces("{otlp_http: {compression: zip}}"),
        "3: tracer_provider.processors[0].batch.exporter.otlp_http.compression",
        "deflate",
    ),
    (
        traces("{otlp_grpc: {compression: deflate}}"),
        "3: tracer_provider.processors[0].batch.exporter.otlp_grpc.compression",
        "none, gzip",
    ),
    (
        traces("{otlp_grpc: {timeout: 0}}"),
        "3: tracer_provider.processors[0].batch.exporter.otlp_grpc.timeout",
        "from 1",
    ),
    (
        traces("{otlp_grpc: {headers_list: a}}"),
        "3: tracer_provider.processors[0].batch.exporter.otlp_grpc.headers_list",
        "key=value",
    ),
    (
        traces("{otlp_grpc: {tls: {ca_file: /x}}}"),
        "3: tracer_provider.processors[0].batch.exporter.otlp_grpc.tls.ca_file",
        "_CERTIFICATE",
    ),
    (
        traces("{otlp_grpc: {endpoint: 'https://x', tls: {insecure: true}}}"),
        "3: tracer_provider.processors[0].batch.exporter.otlp_grpc.tls.insecure",
        "http://",
    ),
    (f"{HEAD}tracer_provider: {{processors: [{{mine: }}]}}", "2: tracer_provider.processors[0]", "batch, simple"),
    (traces(more="sampler: {dice: }"), "4: tracer_provider.sampler", "dice"),
    (
        traces(more="sampler: {parent_based: {root: {probability/development: }}}"),
        "4: tracer_provider.sampler.parent_based.root",
        "probability/development",
    ),
    (
        traces(more="sampler: {composite/development: {parent_threshold: {root: {dice: }}}}"),
        "4: tracer_provider.sampler.composite/development.parent_threshold.root",
        "dice",
    ),
    (traces(more="id_generator: {dice: }"), "4: tracer_provider.id_generator", "random"),
    (
        f"{HEAD}tracer_provider: {{processors: [{{batch: {{schedule_delay: 0, exporter: {{console: }}}}}}]}}",
        "2: tracer_provider.processors[0].batch.schedule_delay",
        "from 1",
    ),
    (
        f"{HEAD}tracer_provider: {{processors: [{{batch: {{max_queue_size: 5, exporter: {{console: }}}}}}]}}",
        "2: tracer_provider.processors[0].batch",
        "max_export_batch_size 512 is larger than max_queue_size 5",
    ),
    (
        f"{HEAD}logger_provider: {{processors: [{{event_to_span_event_bridge/development: }}]}}",
        "2: logger_provider.processors[0]",
        "batch, simple",
    ),
    (
        (
            f"{HEAD}logger_provider: {{processors: [{{simple: {{exporter: {{console: }}}}}}], "
            "logger_configurator/development: {default_config: {minimum_severity: info}}}"
        ),
        "2: logger_provider.logger_configurator/development.default_config.minimum_severity",
        "not supported",
    ),
    (
        reader("periodic: {interval: 0, exporter: {console: }}"),
        "4: meter_provider.readers[0].periodic.interval",
        "from 1",
    ),
    (
        reader("periodic: {producers: [{opencensus: }], exporter: {console: }}"),
        "4: meter_provider.readers[0].periodic.producers",
        "not supported",
    ),
    (
        reader("periodic: {max_export_batch_size/development: 5, exporter: {console: }}"),
        "4: meter_provider.readers[0].periodic.max_export_batch_size/development",
        "not supported",
    ),
    (
        reader("periodic: {exporter: {console: }, cardinality_limits: {counter: 1000001}}"),
        "4: meter_provider.readers[0].periodic.cardinality_limits.counter",
        "from 1 to 1000000",
    ),
    (
        reader("periodic: {exporter: {prometheus: }}"),
        "4: meter_provider.readers[0].periodic.exporter",
        "is no exporter for a periodic reader",
    ),
    (reader("pull: {exporter: {statsd: }}"), "4: meter_provider.readers[0].pull.exporter", "prometheus/development"),
    (
        reader("pull: {exporter: {prometheus/development: {port: 70000}}}"),
        "4: meter_provider.readers[0].pull.exporter.prometheus/development.port",
        "65535",
    ),
    (
        reader("pull: {exporter: {prometheus/development: {translation_strategy: no_translation/development}}}"),
        "4: meter_provider.readers[0].pull.exporter.prometheus/development.translation_strategy",
        "underscore_escaping_with_suffixes",
    ),
    (
        reader("pull: {exporter: {prometheus/development: {}}}\n  - pull: {exporter: {prometheus/development: {}}}"),
        "5: meter_provider.readers[1].pull.exporter.prometheus/development",
        "second",
    ),
    (
        f"{METRICS}file_format: '1.0'\n".replace("readers", "views: [{selector: {}, stream: {}}], readers"),
        "1: meter_provider.views[0].selector",
        "selects nothing",
    ),
    (
        f"{HEAD}propagator: {{composite_list: ${{9}}}}".replace("${9}", "'${9}'"),
        "2: propagator.composite_list",
        "no reference",
    ),
]


@pytest.fixture
def no_prometheus_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class that the entry point prometheus names opens a port when it is made: one that is free."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")


@pytest.mark.usefixtures("no_prometheus_port")
@pytest.mark.parametrize(("text", "place", "said"), IGNORED, ids=[place for _, place, _ in IGNORED])
def test_what_would_be_ignored_is_refused(text: str, place: str, said: str, tmp_path: Path) -> None:
    """Whatever upstream would ignore, or find out when half is set up, is one line with its place."""
    (line,) = refused(tmp_path, text)

    assert line.startswith(f"{place}: ")
    assert said in line


def test_all_problems_of_a_file_are_in_one_error(tmp_path: Path) -> None:
    """Errors of the schema, of views and of what would be ignored are listed together in the order of the lines."""
    text = (
        f"{HEAD}nonsense: 1\nmeter_provider:\n  readers: [{{periodic: {{interval: 0, exporter: {{console: }}}}}}]\n"
        "  views: [{selector: {unit: s}, stream: {name: n}}]\n  more: 1\n"
    )

    assert [line.split(":")[0] for line in refused(tmp_path, text)] == ["2", "4", "5", "6"]


def test_arguments_cannot_be_combined_with_a_file(tmp_path: Path) -> None:
    """What the configurator is given besides the file is refused by name; what the wrapper always gives is not."""
    file = tmp_path / "c.yaml"
    file.write_text(f"{HEAD}disabled: 5")
    with pytest.raises(ConfigurationFileError) as caught:
        config_sdk.configure(
            str(file), Settings(), {"sampler": 1, "auto_instrumentation_version": "1", "id_generator": 2}
        )

    assert caught.value.problems == (f"{file}: arguments cannot be combined with a file: id_generator, sampler",)


def test_the_environment_is_not_changed_by_a_refused_file(tmp_path: Path) -> None:
    """A refused file leaves the list of switched off instrumentations as it was."""
    before = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS")
    refused(tmp_path, f"{HEAD}instrumentation/development: {{python: {{fastapi: {{}}}}}}\nnonsense: 1")

    assert os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS") == before
