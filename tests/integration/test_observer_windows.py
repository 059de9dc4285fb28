"""Percentiles and averages of programs as they run: with a thread, a process, forked workers and nobody that observes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.peers.observers import ENVIRONMENT, application
from tests.peers.otlp import RECEIVERS
from tests.peers.program import run
from tests.peers.prometheus import free_port, scrape_when

NO_EXPORT = {"OTEL_METRICS_EXPORTER": "none"}


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_a_program_is_told_of_its_last_seconds(mode: str) -> None:
    """What it recorded is in the percentiles, averages and snapshot within seconds, whoever observes."""
    with application("asks", OTEL_PERF_OBSERVER=mode, OTEL_PERF_WINDOWS="5,60", **NO_EXPORT) as running:
        told: dict[str, Any] = json.loads(running.lines[0])
        assert running.end() == ""

    assert told["one"]["count"] >= 1
    assert (told["one"]["p99"], told["one"]["unit"], told["one"]["window"]) == (pytest.approx(7, rel=1e-3), "By", 60)
    assert told["mean"] == pytest.approx(7)
    assert told["rate"] > 0
    (sizes,) = (series for series in told["snapshot"]["series"] if series["name"] == "app.size")
    assert [window["window"] for window in sizes["windows"]] == [5, 60]
    assert sizes["attributes"] == {"a": 1, "raw": "b'\\x00'"}
    assert told["unknown"].startswith("LookupError: ")
    assert told["many"] >= 500


def test_where_nobody_observes_the_remedy_is_named() -> None:
    """With the mode `off` a question is an error that names the modes that answer."""
    with application("asks", OTEL_PERF_OBSERVER="off", **NO_EXPORT) as running:
        assert "OTEL_PERF_OBSERVER=thread" in running.lines[0]
        running.end()


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_the_observer_tells_of_itself(mode: str) -> None:
    """Lag, CPU time and memory of the windows, and what became of exports, are exported with the program's metrics."""
    env = {**ENVIRONMENT, "OTEL_PERF_OBSERVER": mode, "OTEL_METRIC_EXPORT_INTERVAL": "100"}
    wanted = {
        ("otel_perf.cpu.time", frozenset({("part", "observer")})),
        ("otel_perf.cpu.time", frozenset({("part", "collection")})),
        ("otel_perf.window.memory", frozenset()),
        ("otel_perf.window.lost", frozenset()),
        ("otel_perf.observer.lag", frozenset()),
        ("otel_perf.observer.lag.max", frozenset()),
        ("otel_perf.export.requests", frozenset({("exporter", "otlp_proto_http"), ("result", "ok")})),
        ("otel_perf.export.points", frozenset({("exporter", "otlp_proto_http"), ("result", "exported")})),
    }
    with RECEIVERS["http/protobuf"]() as receiver:
        env |= {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{receiver.endpoint}/v1/metrics",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        with application("lives", **env) as running:
            receiver.wait_for(lambda: len(receiver.requests) >= 2)
            points = receiver.points()
            running.end()
    found = {(name, attributes): point for (_, name, attributes), point in points.items()}

    assert wanted <= found.keys()
    assert (
        found["otel_perf.export.requests", frozenset({("exporter", "otlp_proto_http"), ("result", "ok")})].as_int >= 1
    )


CONFIGURED_BY_FILE = """
import time, otel_perf
otel_perf.configure()
from opentelemetry import metrics
size = metrics.get_meter("app").create_histogram("app.size")
deadline = time.monotonic() + 20
found = 0
while not found and time.monotonic() < deadline:
    size.record(7)
    time.sleep(0.05)
    try:
        found = otel_perf.percentiles("app.size").count
    except LookupError:
        pass
print(found > 0)
"""


def test_a_configuration_file_has_windows_too(tmp_path: Any) -> None:
    """Programs that are configured by a file answer as others do."""
    file = tmp_path / "otel.json"
    file.write_text(
        '{"file_format": "1.0", "meter_provider": {"readers": [{"pull": {"exporter": {"prometheus/development": {"port": 0}}}}]}}'
    )
    done = run("-c", CONFIGURED_BY_FILE, wrapper=False, OTEL_CONFIG_FILE=str(file))

    assert (done.out, done.err) == ("True\n", "")


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_a_program_exports_quantiles(mode: str) -> None:
    """With quantiles in the environment its endpoint has them as gauges beside the histogram, whoever observes."""
    port = free_port()
    with application(
        "pulses", OTEL_PERF_OBSERVER=mode, OTEL_EXPORTER_PROMETHEUS_PORT=str(port), OTEL_PERF_QUANTILES="0.5,0.9"
    ) as running:
        found = scrape_when(
            f"http://localhost:{port}/metrics", lambda scrape: "app_size_quantile_bytes" in scrape.text, 20
        )
        running.end()

    assert {value for (name, _), value in found.samples.items() if name == "app_size_quantile_bytes"} == {7}
    assert found.total("app_size_bytes_count") >= 1
