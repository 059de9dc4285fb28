"""OTEL_PERF_GAUGE_MODE: what gauges of several processes become on the endpoint."""

from __future__ import annotations

import json

import pytest

from tests.peers.program import run
from tests.peers.prometheus import free_port

PROGRAM = """
import json, os
from opentelemetry import metrics
from tests.peers.prometheus import scrape
gauge = metrics.get_meter("m").create_gauge("queue.length")
ready, done = os.pipe(), os.pipe()
gauge.set(3)
for value in (7, 2):
    if os.fork() == 0:
        os.close(done[1])
        gauge.set(value)
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
page = scrape(f"http://localhost:{os.environ['OTEL_EXPORTER_PROMETHEUS_PORT']}/metrics")
found = [(dict(labels), value) for (name, labels), value in page.samples.items() if name == "queue_length"]
print(json.dumps(found))
"""
EXPECTED = {"mostrecent": [2], "min": [2], "max": [7], "sum": [12], "all": [2, 3, 7]}


@pytest.mark.parametrize("mode", EXPECTED)
def test_gauges_of_three_processes_become_what_the_mode_says(mode: str) -> None:
    """3, 7 and then 2 are set in three processes that live; `all` tells them apart by the worker, the other modes have one point without it."""
    done = run(
        "-c",
        PROGRAM,
        OTEL_METRICS_EXPORTER="prometheus",
        OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()),
        OTEL_PERF_GAUGE_MODE=mode,
    )
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert sorted(value for _, value in found) == EXPECTED[mode]
    assert len({labels.get("otel_perf_worker") for labels, _ in found}) == len(found)
    assert all(("otel_perf_worker" in labels) == (mode == "all") for labels, _ in found)


def test_a_mode_that_there_is_not_is_one_line_that_names_the_others() -> None:
    """The application starts with the default."""
    done = run("-c", "pass", OTEL_METRICS_EXPORTER="none", OTEL_PERF_GAUGE_MODE="average")
    assert done.code == 0
    (line,) = done.err.splitlines()
    assert "OTEL_PERF_GAUGE_MODE='average' is not accepted" in line
    assert "mostrecent, min, max, sum, all" in line
