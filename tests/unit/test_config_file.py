"""OTEL_CONFIG_FILE: what is honoured reaches the providers, everything else is refused with its line, and nothing is half set up."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.view import View

from otel_perf import distro
from otel_perf.config import Settings
from otel_perf.config_file import ConfigurationFileError
from otel_perf.config_file import sdk as config_sdk
from otel_perf.distro import OtelPerfConfigurator
from otel_perf.metrics._noop import NoOpMeterProvider
from tests.peers.program import Finished, run
from tests.peers.prometheus import free_port

HEAD = 'file_format: "1.0"\n'
METRICS = "meter_provider: {readers: [{periodic: {exporter: {console: }}}]}\n"


def refused(tmp_path: Path, text: str, **arguments: Any) -> list[str]:
    """The problems of a configuration, without the name of its file."""
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationFileError) as caught:
        config_sdk.configure(str(file), Settings(), arguments)
    return [line.removeprefix(f"{file}:").strip() for line in caught.value.problems]


def traces(exporter: str = "{console: }", more: str = "") -> str:
    """A file whose only section is that of traces."""
    return f"{HEAD}tracer_provider:\n  processors: [{{batch: {{exporter: {exporter}}}}}]\n  {more}\n"


def reader(text: str) -> str:
    """A file whose only section is that of metrics, with one reader."""
    return f"{HEAD}meter_provider:\n  readers:\n  - {text}\n"


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
        f"{HEAD}instrumentation/development: {{python: {{flask: {{enabled: 5}}}}}}",
        "2: instrumentation/development.python",
        "flask.enabled is 5",
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


def test_a_disabled_file_sets_meters_that_do_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `disabled: true` meters can be used and bound and do nothing, and nothing else is set."""
    found: list[object] = []
    monkeypatch.setattr(config_sdk, "set_meter_provider", found.append)
    file = tmp_path / "c.yaml"
    file.write_text(f"{HEAD}disabled: true\n{METRICS}")
    config_sdk.configure(str(file), Settings(), {})

    assert [type(provider) for provider in found] == [NoOpMeterProvider]


def test_our_aggregations_are_read_although_the_schema_lacks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views of a configuration file take otel_perf's aggregations and reach the setup."""
    found: list[View] = []
    monkeypatch.setattr(config_sdk._Setup, "run", lambda _self, views: found.extend(views))
    file = tmp_path / "c.yaml"
    stream = "{aggregation: {hdr_histogram/otel_perf: }, attribute_keys: {excluded: [a]}}"
    file.write_text(HEAD + METRICS.replace("readers", f"views: [{{selector: {{unit: s}}, stream: {stream}}}], readers"))
    config_sdk.configure(str(file), Settings(), {})

    assert [type(view._aggregation).__name__ for view in found] == ["HdrHistogramAggregation"]


def test_a_refused_file_is_one_log_line_under_the_wrapper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The configurator logs one line with all problems, or raises if it is asked to; the file of views is not read."""
    file = tmp_path / "c.yaml"
    file.write_text(f"{HEAD}a: 1\nb: 2\n")
    monkeypatch.setenv("OTEL_CONFIG_FILE", str(file))
    monkeypatch.setattr(OtelPerfConfigurator, "_has_run", False)
    monkeypatch.setattr(distro, "_Parts", None)
    OtelPerfConfigurator().configure(auto_instrumentation_version="1")

    (message,) = caplog.messages
    assert message.startswith(f"No telemetry: ConfigurationFileError: {file}:2: a: is not known; ")
    assert f" | {file}:3: b: is not known; " in message
    monkeypatch.setenv("OTEL_PERF_VIEWS_FILE", "v.yaml")
    with pytest.raises(ConfigurationFileError):
        OtelPerfConfigurator().configure(raise_errors=True)
    assert caplog.messages[-1] == "OTEL_PERF_VIEWS_FILE is not read: the views are those of OTEL_CONFIG_FILE"


def script(tmp_path: Path, text: str, code: str, **env: Any) -> Finished:
    """Runs a script that is configured by a file."""
    file = tmp_path / "c.yaml"
    file.write_text(textwrap.dedent(text).lstrip())
    return run("-c", textwrap.dedent(code), wrapper=False, OTEL_CONFIG_FILE=str(file), **env)


FULL = """
    file_format: "1.0"
    log_level: error
    resource:
      attributes: [{name: service.name, value: "${SERVICE:-shop}"}, {name: gone, value: }, {name: n, value: 5, type: int}]
      attributes_list: region=here
    propagator: {composite: [{baggage: }]}
    attribute_limits: {attribute_count_limit: 3}
    meter_provider:
      readers:
      - periodic: {timeout: 0, exporter: {console: {temporality_preference: delta}}, cardinality_limits: {default: 9, gauge: 8}}
      - pull:
          exporter:
            prometheus/development:
              port: ${PORT}
              scope_info_enabled: false
              target_info_enabled/development: false
              resource_constant_labels: {included: [service.*], excluded: ["*.instance.*"]}
          cardinality_limits: {counter: 7}
      exemplar_filter: always_off
      meter_configurator/development: {meters: [{name: "off*", config: {enabled: false}}]}
    tracer_provider:
      processors: [{simple: {exporter: {console: }}}, {batch: {exporter: {console: }}}]
      sampler: {always_off: }
    logger_provider:
      processors: [{simple: {exporter: {console: }}}, {batch: {schedule_delay: 5000, exporter: {console: }}}]
"""


def test_everything_that_is_accepted_is_honoured(tmp_path: Path) -> None:
    """Resource, readers, endpoint, limits, filters, samplers, processors, propagators and log level are those of the file."""
    code = """
        import logging, os, urllib.request, otel_perf
        from opentelemetry import _logs, metrics, propagate, trace
        otel_perf.configure()
        provider = metrics.get_meter_provider()
        attributes = dict(provider._sdk_config.resource.attributes)
        print(type(provider).__module__, provider.segment.service_name)
        print({key: attributes.get(key) for key in ("service.name", "gone", "n", "region")})
        periodic, pull = provider._metric_readers
        def limits(reader): return {k.__name__: v for k, v in reader._instrument_class_cardinality_limit.items()}
        print(sorted(limits(periodic).items())[:2], limits(pull))
        print(periodic._export_interval_millis, periodic._export_timeout_millis)
        print(sorted({t.name for t in periodic._instrument_class_temporality.values()}))
        print(type(provider._sdk_config.exemplar_filter).__name__)
        metrics.get_meter("m").create_counter("c").add(3)
        print(metrics.get_meter("off.x").create_counter("c")._is_enabled())
        with urllib.request.urlopen(f"http://localhost:{os.environ['PORT']}/metrics") as answer:
            print([line for line in answer.read().decode().splitlines() if line.startswith(("c_total", "target_info"))])
        tracers, loggers = trace.get_tracer_provider(), _logs.get_logger_provider()
        print([type(p).__name__ for p in tracers._active_span_processor._span_processors], tracers.sampler.get_description())
        print(tracers._span_limits.max_span_attributes, tracers.resource.attributes["service.name"])
        print([type(p).__name__ for p in loggers._multi_log_record_processor._log_record_processors])
        print([type(p).__name__ for p in propagate.get_global_textmap()._propagators])
        print(logging.getLogger("opentelemetry").level, logging.getLogger("otel_perf").level, flush=True)
        os._exit(0)
    """
    done = script(
        tmp_path, FULL, code, PORT=str(free_port()), OTEL_METRIC_EXPORT_INTERVAL="5", OTEL_TRACES_SAMPLER="always_on"
    )

    assert done.err == ""
    assert done.out.splitlines() == [
        "otel_perf.metrics._provider shop",
        "{'service.name': 'shop', 'gone': None, 'n': 5, 'region': 'here'}",
        "[('_Counter', 9), ('_Gauge', 8)] {'_Counter': 7}",
        "60000 86400000",
        "['CUMULATIVE', 'DELTA']",
        "AlwaysOffExemplarFilter",
        "False",
        "['c_total{service_name=\"shop\"} 3.0']",
        "['SimpleSpanProcessor', 'BatchSpanProcessor'] AlwaysOffSampler",
        "3 shop",
        "['SimpleLogRecordProcessor', 'BatchLogRecordProcessor']",
        "['W3CBaggagePropagator']",
        "40 40",
    ]


ENDPOINT = reader(
    "pull:\n      exporter:\n        prometheus/development:\n          host: 127.0.0.1\n          port: ${PORT}"
)
GLOBALS = """
    from opentelemetry import _logs, metrics, trace
    for provider in (metrics.get_meter_provider(), trace.get_tracer_provider(), _logs.get_logger_provider()):
        print(type(provider).__name__)
    print(os.environ.get("OTEL_PERF_SEGMENT"), threading.active_count())
"""
UNSET = ["_ProxyMeterProvider", "ProxyTracerProvider", "ProxyLoggerProvider", "None 1"]


def test_a_part_that_fails_leaves_nothing_set_up(tmp_path: Path) -> None:
    """If a part cannot be made, what was made before is ended: no provider, no segment, no thread, and a line for each cause."""
    code = (
        "import os, threading, otel_perf\ntry: otel_perf.configure()\nexcept ValueError as error: print(error)\n"
        + textwrap.dedent(GLOBALS)
    )
    text = FULL.replace("{always_off: }", "{broken_sampler: }").replace(
        "composite: [{baggage: }]", "composite: [{baggage: {}}]"
    )
    (tmp_path / "broken-1.dist-info").mkdir()
    (tmp_path / "broken-1.dist-info" / "METADATA").write_text("Name: broken\nVersion: 1\n")
    (tmp_path / "broken-1.dist-info" / "entry_points.txt").write_text(
        "[opentelemetry_sampler]\nbroken_sampler = broken:Sampler\n[opentelemetry_metrics_exporter]\nbroken_exporter = broken:Exporter\n"
    )
    (tmp_path / "broken.py").write_text(
        "def Sampler(): raise RuntimeError('no sampler')\ndef Exporter(): raise OSError('no exporter')\n"
    )
    text = text.replace("{console: {temporality_preference: delta}}", "{broken_exporter: }")
    done = script(tmp_path, text, f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}", PORT=str(free_port()))
    lines = done.out.splitlines()

    assert done.err == ""
    assert [line.partition("c.yaml:")[2] for line in lines[:2]] == [
        "10: meter_provider.readers[0].periodic.exporter: OSError: no exporter",
        "21: tracer_provider: RuntimeError: no sampler",
    ]
    assert lines[2:] == UNSET


def test_a_provider_that_fails_leaves_nothing_set_up(tmp_path: Path) -> None:
    """If the meter provider refuses what it is given, readers, exporters and endpoint are ended without a word, and the port is free."""
    code = """
        import os, socket, threading, otel_perf
        from otel_perf.config_file import _metrics
        def refuse(*_, **__): raise ValueError("not this")
        _metrics.MeterProvider = refuse
        try: otel_perf.configure()
        except ValueError as error: print(error)
        with socket.create_server(("localhost", int(os.environ["PORT"]))): pass
    """
    done = script(tmp_path, FULL, textwrap.dedent(code) + textwrap.dedent(GLOBALS), PORT=str(free_port()))
    lines = done.out.splitlines()

    assert done.err == ""
    assert lines[0].endswith("c.yaml:8: meter_provider: ValueError: not this")
    assert lines[1:] == UNSET


def test_sections_that_are_not_there_set_nothing(tmp_path: Path) -> None:
    """A file without providers leaves the API's as they are."""
    done = script(tmp_path, HEAD, "import os, threading, otel_perf; otel_perf.configure()\n" + textwrap.dedent(GLOBALS))

    assert (done.out.splitlines(), done.err) == (UNSET, "")


def test_a_child_that_joins_opens_no_second_endpoint(tmp_path: Path) -> None:
    """A program started by one with the same file and service records into its segment and leaves the endpoint to it."""
    child = (
        "import otel_perf; otel_perf.configure(); from opentelemetry import metrics; "
        "metrics.get_meter('m').create_counter('c').add(4); "
        "print(len(metrics.get_meter_provider()._metric_readers))"
    )
    code = f"""
        import os, subprocess, sys, urllib.request, otel_perf
        from opentelemetry import metrics
        otel_perf.configure()
        metrics.get_meter("m").create_counter("c").add(3)
        print(subprocess.run([sys.executable, "-c", {child!r}], check=True, capture_output=True, text=True))
        with urllib.request.urlopen(f"http://127.0.0.1:{{os.environ['PORT']}}/metrics") as answer:
            print([line for line in answer.read().decode().splitlines() if line.startswith("c_total")])
    """
    lines = script(tmp_path, ENDPOINT, code, PORT=str(free_port())).out.splitlines()

    assert "stdout='0\\n', stderr=''" in lines[0]
    assert lines[1].endswith(" 7.0']")


def test_a_taken_port_is_one_log_line(tmp_path: Path) -> None:
    """An endpoint whose port is taken is a line that says where to change it, and everything else is set up."""
    code = """
        import os, socket, otel_perf
        from opentelemetry import metrics
        with socket.socket() as other:
            other.bind(("127.0.0.1", int(os.environ["PORT"]))); other.listen()
            otel_perf.configure()
        print(type(metrics.get_meter_provider()).__name__)
    """
    done = script(tmp_path, ENDPOINT, code, PORT=str(free_port()))

    assert done.out == "MeterProvider\n"
    (line,) = done.err.splitlines()
    assert "set port of prometheus/development in the configuration file to a free port" in line


def test_instrumentations_of_the_file_are_not_started_again(tmp_path: Path) -> None:
    """Those of the file are started with its options or switched off, and the wrapper leaves them alone."""
    code = """
        import os, otel_perf; otel_perf.configure()
        from opentelemetry.instrumentation.flask import FlaskInstrumentor
        print(FlaskInstrumentor().is_instrumented_by_opentelemetry, os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"])
    """
    text = HEAD + "instrumentation/development: {python: {flask: {}, requests: {enabled: false}}}"
    done = script(tmp_path, text, code, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="redis")

    assert (done.out, done.err) == ("True redis,flask,requests\n", "")


@pytest.mark.parametrize(
    ("missing", "said"), [("opentelemetry.configuration", "otel-perf[file-config]"), ("yaml", "otel-perf[file-config]")]
)
def test_a_missing_package_is_named(missing: str, said: str, tmp_path: Path) -> None:
    """Without what is needed the error has the command that installs it."""
    code = f"import sys; sys.modules[{missing!r}] = None\nimport otel_perf\ntry: otel_perf.configure()\nexcept ValueError as e: print(e)"
    done = script(tmp_path, HEAD, code)

    assert f'pip install "{said}"' in done.out
    assert len(done.out.splitlines()) == 1


def test_the_environment_is_not_changed_by_a_refused_file(tmp_path: Path) -> None:
    """A refused file leaves the list of switched off instrumentations as it was."""
    before = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS")
    refused(tmp_path, f"{HEAD}instrumentation/development: {{python: {{flask: {{}}}}}}\nnonsense: 1")

    assert os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS") == before
