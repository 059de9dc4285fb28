"""Every instrument through the stock Prometheus reader and a real scrape that is parsed back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from prometheus_client import CollectorRegistry, start_http_server

from otel_perf import MeterProvider
from tests.peers.prometheus import Scrape, scrape


@pytest.fixture
def endpoint(make_provider: Callable[..., MeterProvider]) -> Iterator[tuple[MeterProvider, Callable[[], Scrape]]]:
    """A provider behind an endpoint, and how to scrape it."""
    registry = CollectorRegistry()
    provider = make_provider(PrometheusMetricReader(registry=registry))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    url = f"http://127.0.0.1:{server.server_port}/metrics"
    yield provider, lambda: scrape(url)
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_instrument_is_scraped_with_type_and_value(
    endpoint: tuple[MeterProvider, Callable[[], Scrape]],
) -> None:
    """Counters become counters, up-down counters and gauges become gauges, histograms become histograms."""
    provider, get = endpoint
    meter = provider.get_meter("scope", "1.2")
    meter.create_counter("requests", "1", "Requests.").add(3, {"route": "/a", "n": 1})
    meter.create_up_down_counter("active").add(-2)
    meter.create_gauge("temperature", "Cel").set(21.5)
    histogram = meter.create_histogram("latency", "s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
    for value in (0.05, 0.1, 0.5, 3):
        histogram.record(value, {"route": "/a"})
    meter.create_observable_counter("seen", [lambda _: [Observation(7, {"k": "v"})]])
    meter.create_observable_up_down_counter("balance", [lambda _: [Observation(-7)]])
    meter.create_observable_gauge("depth", [lambda _: [Observation(1.5)]])

    found = get()

    assert found.value("requests_total", route="/a", n="1") == 3
    assert found.value("active") == -2
    assert found.value("temperature_celsius") == 21.5
    assert found.value("seen_total", k="v") == 7
    assert found.value("balance") == -7
    assert found.value("depth") == 1.5
    buckets = [found.value("latency_seconds_bucket", route="/a", le=le) for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [2, 3, 4]
    assert found.value("latency_seconds_count", route="/a") == 4
    assert found.value("latency_seconds_sum", route="/a") == pytest.approx(3.65)
    expected = {
        "requests": "counter",
        "active": "gauge",
        "temperature_celsius": "gauge",
        "latency_seconds": "histogram",
    }
    assert {name: found.types[name] for name in expected} == expected
    assert found.scopes["requests_total"]["otel_scope_name"] == "scope"
    assert found.value("target_info", service_name="test") == 1


def test_later_scrapes_show_later_recordings(endpoint: tuple[MeterProvider, Callable[[], Scrape]]) -> None:
    """Counts only ever grow from scrape to scrape, by exactly what was recorded."""
    provider, get = endpoint
    meter = provider.get_meter("scope")
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h", "s")
    seen = []
    for number in range(1, 4):
        counter.add(number)
        histogram.record(0.2)
        found = get()
        seen.append((found.value("c_total"), found.value("h_seconds_count")))

    assert seen == [(1, 1), (3, 2), (6, 3)]


def test_a_full_segment_shows_its_overflow_series(
    monkeypatch: pytest.MonkeyPatch, make_provider: Callable[..., MeterProvider]
) -> None:
    """Beyond the cardinality limit recordings are counted under otel.metric.overflow, and none is lost."""
    monkeypatch.setenv("OTEL_PERF_CARDINALITY_LIMIT", "10")
    registry = CollectorRegistry()
    provider = make_provider(PrometheusMetricReader(registry=registry))
    counter = provider.get_meter("scope").create_counter("c")
    for number in range(100):
        counter.add(1, {"n": number})
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        found = scrape(f"http://127.0.0.1:{server.server_port}/metrics")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    # The stock exporter gives every series the label names of all; absent ones are empty.
    overflow = sum(
        value
        for (name, has), value in found.samples.items()
        if name == "c_total" and ("otel_metric_overflow", "true") in has
    )
    assert found.total("c_total") == 100
    assert overflow == 90
    assert provider.segment.status()["drops"]["overflow"] == 90
