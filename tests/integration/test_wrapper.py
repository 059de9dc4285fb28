"""Real programs under ``opentelemetry-instrument`` with contrib's instrumentations."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.peers.contrib import needs
from tests.peers.otlp import RECEIVERS
from tests.peers.program import BIN, get, run, started
from tests.peers.prometheus import Scrape, free_port, scrape_when

COUNT = ("-m", "tests.integration.apps.count")
STABLE: dict[str, Any] = {"OTEL_SEMCONV_STABILITY_OPT_IN": "http", "OTEL_PYTHON_EXCLUDED_URLS": "health"}

SERVERS = {
    "flask": ("gunicorn", "-w", "1", "--no-control-socket", "tests.integration.apps.flask_app:app", "-b"),
    "flask with two workers": (
        "gunicorn",
        "-w",
        "2",
        "--no-control-socket",
        "tests.integration.apps.flask_app:app",
        "-b",
    ),
    "fastapi": ("uvicorn", "--host", "127.0.0.1", "tests.integration.apps.fastapi_app:app", "--port"),
    "fastapi with two workers": (
        "gunicorn",
        *(
            "-k",
            "uvicorn_worker.UvicornWorker",
            "-w",
            "2",
            "--no-control-socket",
            "tests.integration.apps.fastapi_app:app",
            "-b",
        ),
    ),
}


def output_scrape(out: str) -> Scrape:
    """The scrape in a program's output."""
    return Scrape(out[out.index("# HELP") :])


@pytest.mark.parametrize("server", [pytest.param(name, marks=needs(name.split()[0])) for name in SERVERS])
def test_requests_sent_are_requests_counted(server: str) -> None:
    """Every request of a server is counted by route and status on one endpoint, whichever worker answered it."""
    port, metrics = free_port(), free_port()
    name = "http_server_request_duration_seconds_count"
    route = "/items/<int:number>" if "flask" in server else "/items/{number}"
    program, *arguments = SERVERS[server]
    address = f"127.0.0.1:{port}" if program == "gunicorn" else str(port)
    url = f"http://127.0.0.1:{port}"
    env: dict[str, Any] = {**STABLE, "OTEL_EXPORTER_PROMETHEUS_PORT": str(metrics)}
    with started(str(BIN / program), *arguments, address, ready=f"{url}/health", **env):
        answers = [get(f"{url}/items/{number}") for number in range(60, 120)]
        # The instrumentation records after the answer went out, so that the last one may be counted after it was read.
        found = scrape_when(
            f"http://localhost:{metrics}/metrics", lambda found: found.total(name, http_route=route) >= len(answers)
        )

    assert (answers.count(200), answers.count(404)) == (41, 19)
    assert found.total(name, http_response_status_code="200", http_route=route) == 41
    assert found.total(name, http_response_status_code="404", http_route=route) == 19


def test_outgoing_requests_are_counted() -> None:
    """The requests library's calls are counted by status."""
    done = run("-m", "tests.integration.apps.requests_client", **STABLE, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    found = output_scrape(done.out)
    name = "http_client_request_duration_seconds_count"
    assert found.total(name, http_response_status_code="200") == 7
    assert found.total(name, http_response_status_code="503") == 3


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A listener that accepts nothing, to see whether anybody connects."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            pytest.skip(f"port {port} is taken by another program")
        listener.listen()
        listener.setblocking(False)
        yield listener


def test_nothing_configured_means_an_endpoint_and_no_collector() -> None:
    """Without any setting there is a Prometheus endpoint on localhost:9464 and nobody connects to a collector."""
    with listening(9464):
        pass
    with listening(4317) as grpc, listening(4318) as http:
        done = run(*COUNT)
        for collector in (grpc, http):
            with pytest.raises(BlockingIOError):
                collector.accept()

    assert done.err == ""
    assert "provider otel_perf.metrics" in done.out
    assert output_scrape(done.out).value("app_count_total", kind="x") == 3


@pytest.mark.parametrize("protocol", sorted(RECEIVERS))
def test_a_named_collector_gets_the_metrics(protocol: str) -> None:
    """An OTLP endpoint in the environment is enough: the metrics arrive there at the latest at exit, and no port is opened."""
    with RECEIVERS[protocol]() as receiver:
        done = run(
            *COUNT,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_TRACES_EXPORTER="none",
            OTEL_SERVICE_NAME="counting",
            OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()),
        )

        assert "no endpoint" in done.out
        assert receiver.points()["app", "app.count", frozenset({("kind", "x")})].as_int == 3
        resource = receiver.requests[-1].resource_metrics[0].resource
        assert "counting" in [item.value.string_value for item in resource.attributes if item.key == "service.name"]


@pytest.mark.parametrize("compression", ["", "none", "gzip"])
@pytest.mark.parametrize("protocol", RECEIVERS)
def test_all_three_signals_go_to_the_endpoint_that_is_named(protocol: str, compression: str) -> None:
    """With an OTLP endpoint metrics, traces and logs arrive there with one resource; the logs SDK is loaded when it is needed."""
    with RECEIVERS[protocol]() as receiver:
        done = run(
            "-m",
            "tests.integration.apps.signals",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_COMPRESSION=compression,
            OTEL_SERVICE_NAME="three",
        )

        assert (done.code, done.err) == (0, "")
        # The gRPC exporters of the other signals load the logs SDK themselves.
        assert done.out.splitlines() == [f"logs loaded {protocol == 'grpc'}", "logs loaded True"]
        resources = receiver.signals_of_one_program()
        assert all(resource == resources[0] for resource in resources)
        assert resources[0]["service.name"] == "three"


def test_a_disabled_sdk_sets_nothing_up() -> None:
    """OTEL_SDK_DISABLED leaves the program as it is: no endpoint, no segment."""
    done = run(*COUNT, OTEL_SDK_DISABLED="true", OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    assert (done.code, done.err) == (0, "")
    assert "no endpoint" in done.out
    assert "segment None" in done.out


@pytest.mark.parametrize(
    ("variable", "value", "accepted"),
    [
        ("OTEL_PERF_MEMORY_LIMIT", "abc", "131072"),
        ("OTEL_PERF_MEMORY_LIMIT", "1", "131072"),
        ("OTEL_PERF_CARDINALITY_LIMIT", "-5", "from 1 to"),
        ("OTEL_METRICS_EXPORTER", "nonsense,prometheus", "prometheus"),
        ("OTEL_TRACES_EXPORTER", "nonsense", "console"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon", "milliseconds"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "maybe", "always_on"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "sometimes", "trace_based"),
        ("OTEL_PYTHON_ID_GENERATOR", "dice", "random"),
    ],
)
def test_a_wrong_value_is_one_log_line(variable: str, value: str, accepted: str) -> None:
    """A wrong value is named in one line with what is accepted, and everything else works."""
    port = str(free_port())
    env: dict[str, Any] = {"OTEL_EXPORTER_PROMETHEUS_PORT": port, variable: value}
    done = run(*COUNT, **env)

    lines = done.err.splitlines()
    assert done.code == 0
    assert len(lines) == 1, done.err
    assert all(part in lines[0] for part in (variable, value, accepted))
    assert output_scrape(done.out).value("app_count_total", kind="x") == 3


def test_a_wrong_port_is_one_log_line() -> None:
    """A port that is no number is named in one line, and the default port is used."""
    with listening(9464):
        pass
    done = run("-c", "print('ran')", OTEL_EXPORTER_PROMETHEUS_PORT="http")

    assert done.out == "ran\n"
    assert len(done.err.splitlines()) == 1
    assert "OTEL_EXPORTER_PROMETHEUS_PORT='http'" in done.err
    assert "65535" in done.err


def test_a_taken_port_is_one_log_line() -> None:
    """The application runs without an endpoint if the port is taken."""
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        done = run("-c", "print('ran')", OTEL_EXPORTER_PROMETHEUS_PORT=str(port))

    assert done.out == "ran\n"
    assert len(done.err.splitlines()) == 1
    assert f"localhost:{port}" in done.err


def test_configure_from_code_is_the_same() -> None:
    """`otel_perf.configure()` gives a script without the wrapper the same provider and endpoint."""
    code = "import otel_perf; otel_perf.configure(); from tests.integration.apps.count import main; main()"
    done = run("-c", code, wrapper=False, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    assert (done.code, done.err) == (0, "")
    assert output_scrape(done.out).value("app_count_total", kind="x") == 3


def test_options_of_the_wrapper_are_our_variables() -> None:
    """Our documented variables are options of the wrapper."""
    shown = subprocess.run(
        [str(BIN / "opentelemetry-instrument"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "--perf_memory_limit" in shown
    assert "--perf_cardinality_limit" in shown


def test_a_child_of_the_same_service_counts_along() -> None:
    """A program started by an instrumented one records into the same segment and opens no second endpoint."""
    code = (
        "import subprocess, sys; from tests.integration.apps import count\n"
        "child = 'from opentelemetry import metrics;"
        ' metrics.get_meter("app").create_counter("app.count").add(4, {"kind": "x"})\'\n'
        "subprocess.run([sys.executable, '-c', child], check=True)\n"
        "count.main()"
    )
    done = run("-c", code, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    assert (done.code, done.err) == (0, "")
    assert output_scrape(done.out).value("app_count_total", kind="x") == 7


def test_no_segment_is_left_behind() -> None:
    """The segment's file is gone when the program has ended."""
    done = run(*COUNT, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    path = next(line.split()[1] for line in done.out.splitlines() if line.startswith("segment"))
    assert path.startswith("/dev/shm/otel_perf-")
    assert not Path(path).exists()
