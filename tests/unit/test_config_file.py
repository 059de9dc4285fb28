"""OTEL_CONFIG_FILE: what is honoured reaches the providers, and nothing is half set up."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics.view import View

from otel_perf import distro
from otel_perf.config import Settings
from otel_perf.config_file import ConfigurationFileError
from otel_perf.config_file import sdk as config_sdk
from otel_perf.distro import OtelPerfConfigurator
from otel_perf.metrics._noop import NoOpMeterProvider
from tests.peers.prometheus import free_port
from tests.unit.config_files import HEAD, METRICS, reader, script


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
        def limits(reader): return {k.__name__: v for k, v in reader._instrument_class_cardinality_limit.items() if v != 2000}
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
        "['SimpleSpanProcessor', 'BatchSpanProcessor', 'SpanMetricsProcessor'] RecordAll{AlwaysOffSampler}",
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
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        print(FastAPIInstrumentor().is_instrumented_by_opentelemetry, os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"])
    """
    text = HEAD + "instrumentation/development: {python: {fastapi: {}, requests: {enabled: false}}}"
    done = script(tmp_path, text, code, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="redis")

    assert (done.out, done.err) == ("True redis,fastapi,requests\n", "")


@pytest.mark.parametrize(
    ("missing", "said"), [("opentelemetry.configuration", "otel-perf[file-config]"), ("yaml", "otel-perf[file-config]")]
)
def test_a_missing_package_is_named(missing: str, said: str, tmp_path: Path) -> None:
    """Without what is needed the error has the command that installs it."""
    code = f"import sys; sys.modules[{missing!r}] = None\nimport otel_perf\ntry: otel_perf.configure()\nexcept ValueError as e: print(e)"
    done = script(tmp_path, HEAD, code)

    assert f'pip install "{said}"' in done.out
    assert len(done.out.splitlines()) == 1
