"""What we send and serve arrives in the real Collector, counted exactly, and the configurations that users begin with run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from otel_perf import MeterProvider
from otel_perf.config import Settings
from otel_perf.exporters.prometheus import serve
from tests.peers.collector import SAMPLES, Written, collector, listening, needed, number, validate
from tests.peers.collector_build import CONFIGS
from tests.peers.exporting import PROTOCOLS, TEMPORALITY, exporter, reader_of
from tests.peers.program import run
from tests.peers.prometheus import free_port, scrape_when

needed()

TO_FILE: dict[str, Any] = {
    "service": {"pipelines": {"metrics": {"receivers": ["otlp"], "processors": [], "exporters": ["file"]}}}
}


def writing(path: Path) -> dict[str, Any]:
    """A configuration of a file exporter that writes soon."""
    return {"exporters": {"file": {"path": str(path), "flush_interval": "50ms"}}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Written]]:
    """A Collector that writes what it gets by OTLP to a file: its endpoints by protocol, and the file."""
    path = tmp_path_factory.mktemp("collector") / "metrics.jsonl"
    grpc, http = free_port(), free_port()
    with collector(listening(grpc, http), writing(path), TO_FILE):
        yield {"grpc": f"http://127.0.0.1:{grpc}", "http/protobuf": f"http://127.0.0.1:{http}"}, Written(path)


def name_of(name: str, *parts: str) -> str:
    """A metric name of one case, so that cases share a file."""
    return "_".join((name, *parts)).replace("/", "_")


@pytest.mark.parametrize("temporality", sorted(TEMPORALITY))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_recording_arrives_once(
    shared: Any, make_provider: Callable[..., MeterProvider], protocol: str, temporality: str
) -> None:
    """Over three exports sums and histograms arrive with their exact totals: as intervals if delta, as running totals if cumulative."""
    endpoints, written = shared
    sent = exporter(
        protocol, endpoints[protocol], preferred_temporality=TEMPORALITY[temporality], timeout=10, compression=None
    )
    provider = make_provider(reader_of(sent))
    meter = provider.get_meter("scope", "1.2")
    count, level, time = (name_of(name, protocol, temporality) for name in ("count", "level", "time"))
    counter, up_down = meter.create_counter(count), meter.create_up_down_counter(level)
    histogram = meter.create_histogram(time, "s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
    meter.create_observable_gauge(name_of("depth", protocol, temporality), [lambda _: [Observation(1.5, {"q": "x"})]])
    for amount in (1, 2, 3):
        counter.add(amount, {"route": "/a"})
        counter.add(0.5, {"route": "/b"})
        up_down.add(-amount)
        for value in (0.05, 0.1, 0.5, 3)[:amount]:
            histogram.record(value, {"route": "/a"})
        provider.force_flush()
    written.wait_for(lambda: len(written.points(time)) == 3)

    delta = temporality == "delta"
    assert [number(p) for p in written.points(count) if p["attributes"] == {"route": "/a"}] == (
        [1, 2, 3] if delta else [1, 3, 6]
    )
    assert [number(p) for p in written.points(count) if p["attributes"] == {"route": "/b"}] == (
        [0.5, 0.5, 0.5] if delta else [0.5, 1, 1.5]
    )
    assert [number(p) for p in written.points(level)] == ([-1, -2, -3] if delta else [-1, -3, -6])
    assert written.total(name_of("depth", protocol, temporality), q="x") == 4.5
    points = written.points(time)
    assert [p["shape"] for p in points] == ["histogram"] * 3
    assert [number(p) for p in points] == ([1, 2, 3] if delta else [1, 3, 6])
    buckets = [[int(found) for found in p["bucketCounts"]] for p in points]
    assert buckets == ([[1, 0, 0], [2, 0, 0], [2, 1, 0]] if delta else [[1, 0, 0], [3, 0, 0], [5, 1, 0]])
    assert points[-1]["sum"] == pytest.approx(0.65 if delta else 0.85)


@pytest.mark.parametrize("temporality", sorted(TEMPORALITY))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exponential_histograms_arrive(
    shared: Any, make_provider: Callable[..., MeterProvider], protocol: str, temporality: str
) -> None:
    """Counts, zero counts, minima and maxima of exponential histograms are exact, and every value lies in the bucket that it is counted in."""
    endpoints, written = shared
    sent = exporter(
        protocol,
        endpoints[protocol],
        preferred_temporality=TEMPORALITY[temporality],
        preferred_aggregation={sdk.Histogram: ExponentialBucketHistogramAggregation()},
        timeout=10,
    )
    provider = make_provider(reader_of(sent))
    name = name_of("exponential", protocol, temporality)
    histogram = provider.get_meter("scope").create_histogram(name, "s")
    values = [0.0, 0.001, 0.0025, 0.07, 1.3, 1.31, 9.75]
    for _ in range(2):
        for value in values:
            histogram.record(value)
        provider.force_flush()
    written.wait_for(lambda: len(written.points(name)) == 2)

    times = [1, 1] if temporality == "delta" else [1, 2]
    for times_recorded, point in zip(times, written.points(name), strict=True):
        assert point["shape"] == "exponentialHistogram"
        assert number(point) == times_recorded * len(values)
        assert int(point["zeroCount"]) == times_recorded
        assert (point["min"], point["max"]) == (0.0, 9.75)
        base, offset = 2.0 ** (2.0 ** -point["scale"]), point["positive"].get("offset", 0)
        for index, count in enumerate(point["positive"]["bucketCounts"], offset):
            assert int(count) == times_recorded * sum(base**index < value <= base ** (index + 1) for value in values)


@pytest.fixture
def served(make_provider: Callable[..., MeterProvider]) -> Iterator[tuple[MeterProvider, int]]:
    """A provider behind our Prometheus endpoint, and its port."""
    port = free_port()
    reader = serve(Settings(prometheus_host="127.0.0.1", prometheus_port=port))
    assert reader is not None
    yield make_provider(reader), port
    reader.shutdown()


def scraping(port: int) -> dict[str, Any]:
    """A configuration of the Prometheus receiver that scrapes a port of loopback every second."""
    job = {
        "job_name": "otel_perf",
        "scrape_interval": "1s",
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }
    return {"receivers": {"prometheus": {"config": {"scrape_configs": [job]}}}}


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_samples_are_valid(sample: str) -> None:
    """The Collector finds nothing wrong with a configuration in the folder, and does find something wrong with another."""
    assert validate(CONFIGS / sample) == ""
    assert "nobody" in validate(CONFIGS / sample, {"receivers": {"nobody": {}}})


def test_minimal_sample_shows_all_signals() -> None:
    """Metrics, traces and logs of a program under the wrapper are shown by the Collector that runs the smallest configuration."""
    grpc, http = free_port(), free_port()
    with collector(CONFIGS / "minimal.yaml", listening(grpc, http)) as found:
        done = run(
            "-m",
            "tests.integration.apps.signals",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{grpc}",
            OTEL_SERVICE_NAME="shop",
        )
        assert done.code == 0, done.err
        shown = [found.wait_for_line(line) for line in ("app.count", '"resource spans": 1', '"resource logs": 1')]
    assert shown


def test_prometheus_sample_offers_what_it_gets(make_provider: Callable[..., MeterProvider]) -> None:
    """What is sent by OTLP to the Collector with the Prometheus exporter is scraped from it with exact counts."""
    grpc, http, metrics = free_port(), free_port(), free_port()
    offering = {"exporters": {"prometheus": {"endpoint": f"127.0.0.1:{metrics}"}}}
    with collector(CONFIGS / "prometheus.yaml", listening(grpc, http), offering):
        provider = make_provider(reader_of(exporter("grpc", f"http://127.0.0.1:{grpc}", timeout=10)))
        meter = provider.get_meter("scope")
        meter.create_counter("orders").add(7, {"payment": "card"})
        histogram = meter.create_histogram("time", "s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
        for value in (0.05, 0.1, 0.5, 3):
            histogram.record(value)
        provider.force_flush()
        found = scrape_when(f"http://127.0.0.1:{metrics}/metrics", lambda found: found.total("time_seconds_count") == 4)
        # While somebody listens: the last export would be tried again and again.
        provider.shutdown()

    assert found.total("orders_total", payment="card") == 7
    assert [found.total("time_seconds_bucket", le=le) for le in ("0.1", "1", "+Inf")] == [2, 3, 4]
    assert found.total("time_seconds_sum") == pytest.approx(3.65)


def test_scrape_sample_scrapes_our_endpoint(served: tuple[MeterProvider, int], tmp_path: Path) -> None:
    """The Collector's Prometheus receiver scrapes our endpoint without an error, and gets exact counts and buckets."""
    provider, port = served
    meter = provider.get_meter("scope")
    meter.create_counter("orders").add(7, {"payment": "card"})
    histogram = meter.create_histogram("time", "s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
    for value in (0.05, 0.1, 0.5, 3):
        histogram.record(value)
    written = Written(tmp_path / "metrics.jsonl")
    to_file = {"service": {"pipelines": {"metrics": {"exporters": ["file"]}}}}
    with collector(CONFIGS / "scrape.yaml", scraping(port), writing(tmp_path / "metrics.jsonl"), to_file):
        written.wait_for(lambda: written.points("time_seconds"))

    orders, times = written.points("orders_total")[0], written.points("time_seconds")[0]
    assert (number(orders), orders["attributes"]["payment"]) == (7, "card")
    assert [int(count) for count in times["bucketCounts"]] == [2, 1, 1]
    assert times["sum"] == pytest.approx(3.65)
    assert {number(point) for point in written.points("up")} == {1}
