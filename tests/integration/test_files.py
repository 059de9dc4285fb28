"""Real programs under ``opentelemetry-instrument`` that are configured by files, against real receivers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_wrapper import output_scrape
from tests.peers.otlp import RECEIVERS
from tests.peers.program import run
from tests.peers.prometheus import free_port

COUNT = ("-m", "tests.integration.apps.count")
VIEWS: list[dict[str, Any]] = [
    {
        "selector": {"instrument_name": "app.count"},
        "stream": {"name": "app.renamed", "attribute_keys": {"excluded": ["kind"]}},
    }
]


@pytest.mark.parametrize("name", ["v.json", "v.yaml"])
def test_views_of_a_file_shape_what_is_exported(name: str, tmp_path: Path) -> None:
    """With OTEL_PERF_VIEWS_FILE a metric leaves under the name and with the attributes of its view."""
    file = tmp_path / name
    file.write_text(json.dumps({"views": VIEWS}))
    done = run(*COUNT, OTEL_PERF_VIEWS_FILE=str(file), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    assert (done.code, done.err) == (0, "")
    assert output_scrape(done.out).value("app_renamed_total") == 3


def test_a_refused_file_of_views_is_one_log_line(tmp_path: Path) -> None:
    """A bad file of views is one line that names its problems, and the program's metrics go on without views."""
    file = tmp_path / "v.yaml"
    file.write_text("- selector: {}\n  stream: {}\n- nonsense\n")
    done = run(*COUNT, OTEL_PERF_VIEWS_FILE=str(file), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    (line,) = done.err.splitlines()
    assert line.startswith(f"No views: ConfigurationFileError: {file}:1: [0].selector: selects nothing; ")
    assert f" | {file}:3: [1]: 'nonsense' is not accepted; " in line
    assert output_scrape(done.out).value("app_count_total", kind="x") == 3


def exporting(endpoint: str, protocol: str) -> str:
    """A configuration that sends all three signals to an endpoint."""
    kind = {"grpc": "otlp_grpc", "http/protobuf": "otlp_http"}[protocol]

    def exporter(signal: str) -> str:
        return json.dumps({kind: {"endpoint": endpoint + ("" if protocol == "grpc" else f"/v1/{signal}")}})

    return (
        'file_format: "1.0"\n'
        "resource:\n  attributes:\n  - name: service.name\n    value: ${NAME:-filed}\n"
        f"meter_provider:\n  readers: [{{periodic: {{exporter: {exporter('metrics')}}}}}]\n"
        f"tracer_provider:\n  processors: [{{batch: {{exporter: {exporter('traces')}}}}}]\n"
        f"logger_provider:\n  processors: [{{batch: {{exporter: {exporter('logs')}}}}}]\n"
    )


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_a_configuration_file_sends_all_signals(protocol: str, tmp_path: Path) -> None:
    """With OTEL_CONFIG_FILE metrics through otel_perf, traces and logs arrive at the collector of the file with its resource."""
    file = tmp_path / "c.yaml"
    with RECEIVERS[protocol]() as receiver:
        file.write_text(exporting(receiver.endpoint, protocol))
        done = run(
            "-c",
            "from tests.integration.apps import signals; from opentelemetry import metrics\n"
            "signals.main(); print(type(metrics.get_meter_provider()).__module__)",
            OTEL_CONFIG_FILE=str(file),
            OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()),
        )

        assert (done.code, done.err) == (0, "")
        assert done.out.splitlines()[-1] == "otel_perf.metrics._provider"
        assert [resource["service.name"] for resource in receiver.signals_of_one_program()] == ["filed"] * 3


def test_views_of_a_configuration_file_shape_what_is_exported(tmp_path: Path) -> None:
    """The views of a configuration file apply to what the collector gets."""
    file = tmp_path / "c.yaml"
    with RECEIVERS["grpc"]() as receiver:
        text = exporting(receiver.endpoint, "grpc")
        file.write_text(text.replace("meter_provider:\n", f"meter_provider:\n  views: {json.dumps(VIEWS)}\n"))
        done = run(*COUNT, OTEL_CONFIG_FILE=str(file), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

        assert (done.code, done.err) == (0, "")
        assert receiver.points()["app", "app.renamed", frozenset()].as_int == 3


def test_a_configuration_file_serves_prometheus(tmp_path: Path) -> None:
    """The endpoint of a file is where the file says, and nothing is sent anywhere."""
    file = tmp_path / "c.yaml"
    file.write_text(
        'file_format: "1.0"\nmeter_provider:\n  readers:\n  - pull:\n      exporter:\n        prometheus/development:\n'
        "          port: ${OTEL_EXPORTER_PROMETHEUS_PORT}\n"
    )
    done = run(*COUNT, OTEL_CONFIG_FILE=str(file), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    assert (done.code, done.err) == (0, "")
    assert output_scrape(done.out).value("app_count_total", kind="x") == 3


def test_a_refused_configuration_file_is_one_log_line(tmp_path: Path) -> None:
    """A file that is refused is one line with all problems; the program runs, and nothing is set up."""
    file = tmp_path / "c.yaml"
    file.write_text(
        'file_format: "1.0"\nmeter_provider: {readers: [{periodic: {interval: 0, exporter: {console: }}}]}\nmore: 1\n'
    )
    done = run(*COUNT, OTEL_CONFIG_FILE=str(file), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    (line,) = done.err.splitlines()
    assert line.startswith(
        f"No telemetry: ConfigurationFileError: {file}:2: meter_provider.readers[0].periodic.interval"
    )
    assert f" | {file}:3: more: is not known; " in line
    assert "segment None" in done.out
    assert "no endpoint" in done.out


def test_a_file_switches_an_instrumentation_off(tmp_path: Path) -> None:
    """An instrumentation that the file switches off is not started by the wrapper either; the others are."""
    file = tmp_path / "c.yaml"
    file.write_text('file_format: "1.0"\ninstrumentation/development: {python: {fastapi: {enabled: false}}}\n')
    code = (
        "from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor as F\n"
        "from opentelemetry.instrumentation.requests import RequestsInstrumentor as R\n"
        "print(F().is_instrumented_by_opentelemetry, R().is_instrumented_by_opentelemetry)"
    )
    done = run("-c", code, OTEL_CONFIG_FILE=str(file))

    assert (done.out, done.err) == ("False True\n", "")
