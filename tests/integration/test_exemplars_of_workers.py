"""Exemplars that several processes have kept are on the one endpoint."""

from __future__ import annotations

import re

from tests.peers.program import run
from tests.peers.prometheus import endpoint_at, free_port

PROGRAM = """
import os, urllib.request
from opentelemetry import metrics, trace
histogram = metrics.get_meter("m").create_histogram("size", "By", explicit_bucket_boundaries_advisory=[10, 100, 1000])
tracer = trace.get_tracer("m")
ready, done = os.pipe(), os.pipe()

def record(value):
    with tracer.start_as_current_span("work") as span:
        histogram.record(value)
        print(f"{span.get_span_context().span_id:016x} {value}", flush=True)

record(5)
for value in (50, 500, 5000):
    if os.fork() == 0:
        os.close(done[1])
        record(value)
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
url = f"http://127.0.0.1:{os.environ['OTEL_EXPORTER_PROMETHEUS_PORT']}/metrics"
request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text;version=1.0.0"})
print(urllib.request.urlopen(request).read().decode())
"""


def test_each_bucket_has_the_exemplar_of_the_process_that_recorded_there() -> None:
    """Four processes record into a bucket each, in a span; the scrape of one of them shows all four values with their spans."""
    done = run(
        "-c", PROGRAM, OTEL_TRACES_EXPORTER="console", OTEL_BSP_SCHEDULE_DELAY="3600000", **endpoint_at(free_port())
    )
    assert done.code == 0, done.err
    recorded = dict(re.findall(r"^([0-9a-f]{16}) (\d+)$", done.out, flags=re.MULTILINE))
    shown = re.findall(r'^size_bytes_bucket.* # \{.*span_id="([0-9a-f]{16})".*\} (\d+)', done.out, flags=re.MULTILINE)
    assert len(recorded) == 4
    assert dict(shown) == recorded
