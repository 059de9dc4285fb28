"""Who observes: what is asked for, and a thread where a process cannot be; each with one line that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_wrapper import SERVERS, STABLE
from tests.peers.contrib import needs
from tests.peers.observers import ENVIRONMENT, observers, until
from tests.peers.program import BIN, Finished, get, run, started
from tests.peers.prometheus import free_port, scrape, scrape_when

COUNT = """
import os, sys, otel_perf
from opentelemetry import metrics
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
{before}
otel_perf.configure({arguments})
metrics.get_meter("app").create_counter("app.count").add(3)
segment = otel_perf.segment.default_segment()
"""


def program(before: str = "", arguments: str = "", after: str = "", **env: str) -> Finished:
    """Runs a program that configures from code and counts."""
    given: dict[str, Any] = {**ENVIRONMENT, "OTEL_METRICS_EXPORTER": "console", **env}
    return run("-c", COUNT.format(before=before, arguments=arguments) + after, wrapper=False, **given)


WHY_NOT: dict[str, tuple[dict[str, str], str]] = {
    "arguments by code": ({"arguments": "exporter_args_map={ConsoleMetricExporter: {}}"}, "exporter_args_map"),
    "an exporter to the application's output": ({}, "the console is the application's"),
}


@pytest.mark.parametrize("case", WHY_NOT)
def test_where_a_process_cannot_observe_a_thread_does(case: str) -> None:
    """There is one line with the variable, its value and the reason, and the metrics are exported all the same."""
    given, reason = WHY_NOT[case]
    done = program(**given)

    assert done.code == 0
    (line,) = done.err.splitlines()
    assert line.startswith("OTEL_PERF_OBSERVER=process is not used: ")
    assert reason in line
    assert line.endswith("; using thread")
    assert '"app.count"' in done.out


@pytest.mark.parametrize("mode", ["process", "off"])
def test_a_configuration_file_has_its_own_readers(mode: str, tmp_path: Path) -> None:
    """Modes other than a thread are one line beside a configuration file, which is honoured."""
    file = tmp_path / "otel.json"
    file.write_text(
        '{"file_format": "1.0", "meter_provider": {"readers": [{"periodic": {"exporter": {"console": {}}}}]}}'
    )
    done = program(OTEL_CONFIG_FILE=str(file), OTEL_PERF_OBSERVER=mode)

    assert done.err.startswith(f"OTEL_PERF_OBSERVER={mode} is not used: the readers are those of OTEL_CONFIG_FILE")
    assert len(done.err.splitlines()) == 1
    assert '"app.count"' in done.out


def test_an_embedded_interpreter_exports_by_itself() -> None:
    """Where there is no Python to start, the endpoint is the application's."""
    port = free_port()
    after = f'import urllib.request; print(urllib.request.urlopen("http://localhost:{port}/metrics").read().decode())'
    env = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    done = program(before="sys.executable = ''", after=after, **env)

    assert "app_count_total{" in done.out
    assert len(done.err.splitlines()) == 1
    assert "sys.executable is ''" in done.err


def test_an_exporter_that_is_not_installed_is_known_at_once() -> None:
    """The application says so, as with a thread, although it does not load it."""
    done = program(arguments="metric_exporter_names=['nonsense']")

    assert done.code == 1
    assert "'nonsense' is not installed" in done.err


def test_exporters_that_are_named_by_code_are_the_observers_too() -> None:
    """The endpoint that only the code asks for is served, for a resource of the code's own."""
    port = free_port()
    after = f"""
import time, urllib.request
for _ in range(1000):
    try:
        print(urllib.request.urlopen("http://localhost:{port}/metrics").read().decode())
        break
    except OSError:
        time.sleep(0.02)
"""
    done = program(
        arguments="metric_exporter_names=['prometheus'], resource_attributes={'by.code': ('a', 'b')}",
        after=after,
        OTEL_METRICS_EXPORTER="none",
        OTEL_EXPORTER_PROMETHEUS_PORT=str(port),
    )

    assert "app_count_total{" in done.out
    (target,) = (line for line in done.out.splitlines() if line.startswith("target_info{"))
    assert 'by_code="' in target
    assert done.err == ""


def test_a_wrong_mode_is_one_line_and_a_thread() -> None:
    """As every wrong value."""
    done = program(OTEL_PERF_OBSERVER="fork")

    assert len(done.err.splitlines()) == 1
    assert "thread, process, off" in done.err
    assert '"app.count"' in done.out


@pytest.mark.parametrize(
    "server", [pytest.param(name, marks=needs(name.split()[0])) for name in SERVERS if "two" in name]
)
def test_workers_of_a_server_are_counted_by_one_observer(server: str) -> None:
    """Every request of both workers is counted on one endpoint, and the server ends as it does without an observer."""
    port, metrics = free_port(), free_port()
    name = "http_server_request_duration_seconds_count"
    program_, *arguments = SERVERS[server]
    url = f"http://127.0.0.1:{port}"
    env: dict[str, Any] = {**STABLE, "OTEL_EXPORTER_PROMETHEUS_PORT": str(metrics), "OTEL_PERF_OBSERVER": "process"}
    with started(str(BIN / program_), *arguments, f"127.0.0.1:{port}", ready=f"{url}/health", **env) as running:
        answers = [get(f"{url}/items/{number}") for number in range(60, 120)]
        endpoint = f"http://localhost:{metrics}/metrics"
        until(lambda: get(endpoint) == 200)
        found = scrape_when(endpoint, lambda found: found.total(name) >= len(answers))
        (segment,) = map(str, Path("/dev/shm").glob(f"otel_perf-*-{running.pid}-*"))
        assert len(observers(segment)) == 1

    assert found.total(name, http_response_status_code="200") == answers.count(200) == 41
    assert "Exception" not in running.err[0], running.err[0]
    until(lambda: not observers(segment))
    assert not Path(segment).exists()
    with pytest.raises(OSError, match="refused"):
        scrape(endpoint)
