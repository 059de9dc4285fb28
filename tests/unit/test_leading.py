"""The process that leads exports; the others follow it, and take over from where it has left off."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricReader

from otel_perf.config import Settings
from otel_perf.exporters.prometheus import PrometheusEndpoint, serve
from otel_perf.metrics import MeterProvider
from otel_perf.observer._leading import Leading
from otel_perf.segment import Segment
from tests.peers.prometheus import free_port, scrape

DELTA: dict[Any, Any] = dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA)


@pytest.fixture
def segment() -> Iterator[Segment]:
    """A segment that this process records into and, unless it is barred, leads."""
    made = Segment.create(service_name="leading")
    yield made
    made.close()


def provider_of(segment: Segment, *readers: MetricReader) -> MeterProvider:
    """A provider that records into a segment."""
    return MeterProvider(readers, segment=segment, shutdown_on_exit=False)


def collect_elsewhere(segment: Segment) -> None:
    """Has somebody else who leads collect, as another process does that has the segment."""
    assert segment.path is not None
    attached = Segment.attach(segment.path)
    reader = InMemoryMetricReader()
    other = provider_of(attached, reader)
    reader.get_metrics_data()
    other.shutdown()
    attached.close()


def test_a_process_serves_the_endpoint_when_it_begins_to_lead(segment: Segment) -> None:
    """As long as another process leads, nothing is served; then the reader is made once and belongs to the provider."""
    made: list[MetricReader] = []

    def endpoint() -> MetricReader:
        made.append(InMemoryMetricReader())
        return made[-1]

    provider = provider_of(segment)
    provider.serve_by([endpoint])
    leading = Leading(provider)
    segment.bar_leading(True)
    leading.turn()
    assert made == []

    segment.bar_leading(False)
    leading.turn()
    leading.turn()
    assert provider._metric_readers == (made[0],)
    assert len(made) == 1


def test_a_port_that_is_taken_is_asked_for_again_every_five_seconds(
    segment: Segment, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning says that the port is taken and one that it is had at last; in between the application goes on."""
    caplog.set_level(logging.WARNING, "otel_perf")
    now = [0.0]
    port = free_port()
    holder = PrometheusEndpoint("127.0.0.1", port)
    settings = Settings(prometheus_host="127.0.0.1", prometheus_port=port)
    provider = provider_of(segment)
    provider.serve_by([lambda: serve(settings)])
    leading = Leading(provider, clock=lambda: now[0])
    for now[0] in (0.0, 4.9, 5.1):
        leading.turn()
    assert not provider._metric_readers
    holder.shutdown()
    for now[0] in (10.0, 10.2):
        leading.turn()

    (served,) = provider._metric_readers
    provider.get_meter("m").create_counter("c").add(3)
    assert scrape(f"http://127.0.0.1:{port}/metrics").total("c_total") == 3
    first, second = (record.getMessage() for record in caplog.records)
    assert f"127.0.0.1:{port} cannot be used" in first
    assert "OTEL_EXPORTER_PROMETHEUS_PORT" in first
    assert second == f"The Prometheus endpoint is at 127.0.0.1:{port} now"
    served.shutdown()


def test_callbacks_of_a_follower_report_once_for_each_collection(segment: Segment) -> None:
    """A process that does not lead runs its callbacks when somebody has collected, and not as long as nobody has."""
    calls: list[int] = []

    def observe(_options: CallbackOptions) -> list[Observation]:
        calls.append(1)
        return [Observation(len(calls))]

    provider = provider_of(segment)
    provider.get_meter("m").create_observable_gauge("g", [observe])
    segment.bar_leading(True)
    leading = Leading(provider)
    leading.turn()
    assert len(calls) == 1
    leading.turn()
    assert len(calls) == 1
    collect_elsewhere(segment)
    leading.turn()
    assert len(calls) == 2


def test_deltas_go_on_where_the_last_leader_has_left_off(segment: Segment) -> None:
    """Who takes over reports what was recorded since the last collection that it knows of, and nothing twice."""
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    provider = provider_of(segment, reader)
    counter = provider.get_meter("m").create_counter("c")
    histogram = provider.get_meter("m").create_histogram("h")
    counter.add(5)
    histogram.record(1)
    segment.bar_leading(True)
    leading = Leading(provider)
    collect_elsewhere(segment)
    # The second look is after the end of the collection, of which the first one sees the beginning.
    leading.turn()
    counter.add(100)
    leading.turn()
    leading.turn()
    counter.add(2)
    histogram.record(3)
    segment.bar_leading(False)
    leading.turn()

    data = reader.get_metrics_data()
    assert data is not None
    metrics = {m.name: m.data.data_points[0] for s in data.resource_metrics[0].scope_metrics for m in s.metrics}
    added: Any = metrics["c"]
    recorded: Any = metrics["h"]
    assert added.value == 2
    assert (recorded.count, recorded.sum) == (1, 3)


@pytest.mark.parametrize(("mode", "expected"), [("mostrecent", 4), ("min", 4), ("max", 4), ("sum", 4), ("all", 4)])
def test_a_gauge_of_one_process_is_the_same_in_every_mode(mode: str, expected: int) -> None:
    """Where there is one worker, the mode changes no value; only ``all`` says whose it is."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False, _settings=Settings(gauge_mode=mode))
    provider.get_meter("m").create_gauge("g").set(expected, {"k": "v"})
    data = reader.get_metrics_data()
    assert data is not None
    point: Any = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
    assert point.value == expected
    lane = {"otel_perf.worker": provider.segment.lane} if mode == "all" else {}
    assert dict(point.attributes) == {"k": "v", **lane}
    provider.shutdown()


def test_who_takes_over_after_a_collection_that_it_has_not_seen_reports_nothing_twice() -> None:
    """What was recorded before the takeover may have been exported; it is left out, and what follows is exported."""
    segment = Segment.create(service_name="leading")
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    provider = provider_of(segment, reader)
    counter = provider.get_meter("m").create_counter("c")
    counter.add(5)
    collect_elsewhere(segment)
    values = []
    for amount in (1, 2, 3):
        data = reader.get_metrics_data()
        metrics = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
        points: list[Any] = [point for metric in metrics for point in metric.data.data_points]
        values.append([point.value for point in points])
        counter.add(amount)
    assert values == [[], [1], [2]]
    provider.shutdown()
    segment.close()


def test_what_is_recorded_after_a_takeover_is_exported_even_if_the_last_collection_was_not_followed(
    segment: Segment,
) -> None:
    """Delta intervals begin when the process begins to lead, not at its first collection, which may be a minute later."""
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    provider = provider_of(segment, reader)
    counter = provider.get_meter("m").create_counter("c")
    leading = Leading(provider)
    counter.add(5)
    collect_elsewhere(segment)
    leading.turn()
    counter.add(2)
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert getattr(point, "value", None) == 2
