"""Quantile gauges beside histograms: the same on every exporter, of the observer's window, and within the cardinality limit."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_perf import MeterProvider, Observer
from otel_perf.exporters.prometheus import PrometheusEndpoint
from tests.peers.prometheus import Scrape

SECOND = 1_000_000_000
QUANTILES = (0.5, 0.99)


@pytest.fixture
def observer(provider: MeterProvider) -> Observer:
    """An observer of the provider's segment with a clock of the test's, after its first look."""
    made = Observer(provider.segment)
    made.tick(SECOND)
    return made


def gauges(reader: InMemoryMetricReader, name: str = "h.quantile") -> dict[frozenset[tuple[str, Any]], Any]:
    """The values of a metric by attributes."""
    data = reader.get_metrics_data()
    return {
        frozenset((point.attributes or {}).items()): getattr(point, "value", None)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }


def of(quantile: float, **attributes: Any) -> frozenset[tuple[str, Any]]:
    """Attributes of a gauge."""
    return frozenset({**attributes, "quantile": str(quantile)}.items())


def test_a_histogram_has_gauges_of_the_last_seconds(
    provider: MeterProvider, observer: Observer, reader: InMemoryMetricReader
) -> None:
    """Beside the histogram, which has everything, are the quantiles of what was recorded in the window, for each series."""
    histogram = provider.get_meter("m").create_histogram("h", "s", "Durations")
    observer.quantiles(provider, QUANTILES, window=10)
    for second in range(2, 30):
        for value in range(1, 101):
            histogram.record(value * second, {"k": "a"})
        observer.tick(second * SECOND)
    histogram.record(5.0, {"k": "idle"})
    found = gauges(reader)

    exact = sorted(value * second for second in range(20, 30) for value in range(1, 101))
    assert set(found) == {of(0.5, k="a"), of(0.99, k="a")}
    assert found[of(0.5, k="a")] == pytest.approx(exact[499], rel=1e-3)
    assert found[of(0.99, k="a")] == pytest.approx(exact[989], rel=1e-3)
    assert set(gauges(reader, "h")) == {frozenset({("k", "a")}), frozenset({("k", "idle")})}


def test_name_unit_and_description_tell_of_what_they_are(
    provider: MeterProvider, observer: Observer, reader: InMemoryMetricReader
) -> None:
    """The gauge has the unit of the histogram and says how long the window is, and nothing but histograms has one."""
    meter = provider.get_meter("m")
    meter.create_histogram("h", "By").record(3)
    meter.create_counter("c").add(1)
    observer.quantiles(provider, QUANTILES)
    observer.tick(2 * SECOND)
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}

    assert set(metrics) == {"h", "h.quantile", "c"}
    assert metrics["h.quantile"].unit == "By"
    assert metrics["h.quantile"].description == "Quantiles of h over the last 60 s"


@pytest.mark.parametrize(
    ("patterns", "named"),
    [(["*"], {"a.x", "a.y", "b"}), (["a.*"], {"a.x", "a.y"}), (["A.?", "b"], {"a.x", "a.y", "b"}), (["c"], set())],
)
def test_instruments_are_chosen_by_name(
    provider: MeterProvider, observer: Observer, reader: InMemoryMetricReader, patterns: list[str], named: set[str]
) -> None:
    """`*` and `?` stand for characters, and case does not matter."""
    for name in ("a.x", "a.y", "b"):
        provider.get_meter("m").create_histogram(name).record(1)
    observer.quantiles(provider, QUANTILES, instruments=patterns)
    observer.tick(2 * SECOND)

    assert {name for name in ("a.x", "a.y", "b") if gauges(reader, f"{name}.quantile")} == named


@pytest.mark.parametrize(("limit", "series"), [(20, 10), (6, 10), (1, 10), (20, 3)])
def test_they_count_within_the_cardinality_limit(
    make_provider: Callable[..., MeterProvider],
    monkeypatch: pytest.MonkeyPatch,
    reader: InMemoryMetricReader,
    limit: int,
    series: int,
) -> None:
    """There are never more than the limit allows; one set stands for all series that find no room, whose recordings it has."""
    monkeypatch.setenv("OTEL_PERF_CARDINALITY_LIMIT", str(limit))
    provider = make_provider(reader)
    observer = Observer(provider.segment)
    observer.tick(SECOND)
    histogram = provider.get_meter("m").create_histogram("h", "s")
    observer.quantiles(provider, QUANTILES)
    for number in range(series):
        histogram.record(1000.0 + number, {"k": number})
    observer.tick(2 * SECOND)
    found = gauges(reader)

    assert len(found) <= max(limit, len(QUANTILES))
    assert min(found.values()) >= 1000
    is_full = series * len(QUANTILES) > limit
    assert any(("otel.metric.overflow", True) in attributes for attributes in found) == is_full
    if is_full:
        assert found[of(0.99, **{"otel.metric.overflow": True})] == pytest.approx(1000 + series - 1, rel=1e-3)


def test_prometheus_and_otlp_get_the_same(provider: MeterProvider, observer: Observer) -> None:
    """The native encodings have the gauges as the stock reader has them."""
    observer.quantiles(provider, QUANTILES)
    provider.get_meter("m").create_histogram("h", "s").record(0.25, {"k": "a"})
    observer.tick(2 * SECOND)
    endpoint = PrometheusEndpoint(port=0)
    provider.add_metric_reader(endpoint)
    with urllib.request.urlopen(f"http://localhost:{endpoint.port}/metrics", timeout=10) as answer:
        scraped = Scrape(answer.read().decode())
    body, *_ = provider._consumer.collect_otlp(endpoint)  # type: ignore[misc]
    request = ExportMetricsServiceRequest.FromString(body)
    endpoint.shutdown()

    value = scraped.total("h_quantile_seconds", k="a", quantile="0.5")
    assert value == pytest.approx(0.25, rel=1e-3)
    metrics = {metric.name: metric for metric in request.resource_metrics[0].scope_metrics[0].metrics}
    assert [point.as_double for point in metrics["h.quantile"].gauge.data_points] == [value, value]


def test_what_is_not_accepted_is_named(provider: MeterProvider, observer: Observer) -> None:
    """A quantile beyond 1 and a window longer than the longest raise."""
    with pytest.raises(ValueError, match=r"quantiles are \[50.0\]; accepted are numbers from 0 to 1"):
        observer.quantiles(provider, [50])
    with pytest.raises(ValueError, match=r"window=61 is not accepted \(accepted: up to 60 seconds\)"):
        observer.quantiles(provider, QUANTILES, window=61)
