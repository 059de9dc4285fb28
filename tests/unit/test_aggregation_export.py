"""HDR percentiles on the stock SDK: exporters, exemplars, locks, and SDKs that are not as expected."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics._internal._view_instrument_match import _ViewInstrumentMatch
from opentelemetry.sdk.metrics._internal.view import _default_reservoir_factory
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from prometheus_client import CollectorRegistry, generate_latest

from otel_perf.metrics import EwmaAggregation, _quantiles
from tests.conftest import points_of
from tests.peers.prometheus import Scrape
from tests.unit.stock import MEDIAN, Clock, Stock, hdr, metrics_of, stock_provider, values_of


def test_exemplars_of_the_histogram_stay(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """The histogram keeps the last recording of each bucket with the attributes that the view took off, as the SDK does."""
    view = View(instrument_name="h", attribute_keys=set(), aggregation=hdr(clock))
    provider = stock([reader], [view], exemplar_filter=sdk.AlwaysOnExemplarFilter())
    histogram = provider.get_meter("m").create_histogram("h", explicit_bucket_boundaries_advisory=[10])
    for value in (1, 2, 30):
        histogram.record(value, {"user": value})
    (point,) = metrics_of(reader)["h"].data.data_points

    assert [(exemplar.value, exemplar.filtered_attributes) for exemplar in point.exemplars] == [
        (2, {"user": 2}),
        (30, {"user": 30}),
    ]


def test_a_name_too_long_for_a_gauge_is_logged(
    stock: Stock, reader: InMemoryMetricReader, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the gauge's name would be longer than the SDK accepts, the histogram is there and one line of the log says what is not."""
    name = "h" * 250
    view = View(instrument_name="h*", aggregation=hdr(clock))
    histogram = stock([reader], [view]).get_meter("m").create_histogram(name)
    histogram.record(1)
    histogram.record(1, {"a": 1})

    assert set(metrics_of(reader)) == {name}
    assert [record.message.split(":")[0] for record in caplog.records] == [f"There are no quantiles of {name}"]


def test_an_sdk_that_keeps_streams_otherwise_gets_the_gauge_all_the_same(
    stock: Stock,
    reader: InMemoryMetricReader,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the gauge cannot be kept from views by pattern, they are applied to it, the log says so, and nothing raises."""

    def moved(*_args: Any) -> None:
        raise TypeError

    monkeypatch.setattr(_quantiles, "_ViewInstrumentMatch", moved)
    view = View(instrument_name="*", aggregation=hdr(clock))
    stock([reader], [view]).get_meter("m").create_histogram("h").record(1)

    assert values_of(reader, "h.quantile") == {MEDIAN: 1}
    assert "Views are applied to h.quantile" in caplog.text


def test_a_limit_of_series_is_one_for_each_quantile(
    stock: Stock, reader: InMemoryMetricReader, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the SDK limits the series of a stream, the gauge may have that many for each quantile."""
    made: list[Any] = []

    class Limited(_ViewInstrumentMatch):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._cardinality_limit = 7
            made.append(self)

    monkeypatch.setattr(_quantiles, "_ViewInstrumentMatch", Limited)
    view = View(instrument_name="h", aggregation=hdr(clock, (0.5, 0.9, 0.99)))
    stock([reader], [view]).get_meter("m").create_histogram("h").record(1)
    reader.collect()

    assert [match._cardinality_limit for match in made] == [21]


def test_the_stock_prometheus_endpoint_has_both(stock: Stock, clock: Clock) -> None:
    """Prometheus gets a histogram and a gauge with the label `quantile`, and averages as gauges."""
    registry = CollectorRegistry()
    views = [
        View(instrument_name="h*", aggregation=hdr(clock, (0.5, 0.99))),
        View(instrument_name="c", aggregation=EwmaAggregation(clock=clock)),
    ]
    meter = stock([PrometheusMetricReader(registry=registry)], views).get_meter("m")
    histogram, counter = meter.create_histogram("h", "s"), meter.create_counter("c")
    for value in (1, 1, 2):
        histogram.record(value, {"route": "a"})
    counter.add(30)
    clock.now += 10
    scrape = Scrape(generate_latest(registry).decode())

    assert scrape.types["h_seconds"] == "histogram"
    assert scrape.types["h_quantile_seconds"] == "gauge"
    assert scrape.value("h_seconds_count", route="a") == 3
    assert scrape.value("h_quantile_seconds", route="a", quantile="0.5") == pytest.approx(1, rel=0.001)
    assert scrape.value("h_quantile_seconds", route="a", quantile="0.99") == 2
    assert (scrape.types["c"], scrape.value("c")) == ("gauge", 3)


def test_the_otlp_encoder_takes_both(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """OTLP gets a histogram, a gauge of quantiles and a gauge of averages, all as doubles."""
    views = [
        View(instrument_name="h*", aggregation=hdr(clock)),
        View(instrument_name="c", aggregation=EwmaAggregation(clock=clock)),
    ]
    meter = stock([reader], views).get_meter("m")
    meter.create_histogram("h", "By").record(5)
    meter.create_counter("c").add(30)
    clock.now += 10
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {m.name: m for m in encode_metrics(data).resource_metrics[0].scope_metrics[0].metrics}

    assert metrics["h"].histogram.data_points[0].count == 1
    (quantile,) = metrics["h.quantile"].gauge.data_points
    assert (quantile.as_double, quantile.attributes[0].key, quantile.attributes[0].value.string_value) == (
        5,
        "quantile",
        "0.5",
    )
    assert metrics["c"].gauge.data_points[0].as_double == 3
    assert set(points_of(data)) == {("h", frozenset()), ("h.quantile", MEDIAN), ("c", frozenset())}


def in_thread(function: Callable[..., object], *arguments: object) -> threading.Thread:
    """Runs a function in a thread that does not keep a failed test from ending."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def test_a_recording_does_not_wait_for_a_collection(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """The first recording, which registers the gauge, ends while a collection holds the consumer's lock."""
    provider = stock([reader], [View(instrument_name="h", aggregation=hdr(clock))])
    histogram = provider.get_meter("m").create_histogram("h")
    consumer: Any = provider._measurement_consumer
    with consumer._lock:
        recording = in_thread(histogram.record, 1)
        recording.join(10)
        assert not recording.is_alive()

    assert values_of(reader, "h.quantile") == {MEDIAN: 1}


def test_a_callback_may_make_the_first_recording(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """A recording from within a callback, where the collection holds its lock, registers the gauge, whose points are in the same collection."""
    meter = stock([reader], [View(instrument_name="h", aggregation=hdr(clock))]).get_meter("m")
    histogram = meter.create_histogram("h")

    def observe(_options: CallbackOptions) -> list[Observation]:
        histogram.record(5)
        return []

    meter.create_observable_gauge("g", [observe])
    found: list[Any] = []
    collection = in_thread(lambda: found.append(values_of(reader, "h.quantile")))
    collection.join(10)

    assert found == [{MEDIAN: 5}]


@pytest.mark.parametrize("attempt", range(3))
def test_threads_that_record_and_collect_do_not_lock_each_other_out(attempt: int, stock: Stock, clock: Clock) -> None:
    """Threads that make instruments and series while others collect, and callbacks that record, all come to an end, and nothing is lost."""
    readers = [InMemoryMetricReader() for _ in range(2)]
    view = View(instrument_name="h*", aggregation=hdr(clock))
    meter = stock(readers, [view]).get_meter("m")
    inner = meter.create_histogram("h.inner")

    def observe(_options: CallbackOptions) -> list[Observation]:
        inner.record(1, {"from": threading.current_thread().name})
        return []

    meter.create_observable_gauge("g", [observe])

    def record(number: int) -> None:
        for name in range(20):
            histogram = meter.create_histogram(f"h.{name}")
            for series in range(5):
                histogram.record(1, {"thread": number, "series": series})

    def collect(reader: InMemoryMetricReader) -> None:
        for _ in range(20):
            reader.collect()

    threads = [in_thread(record, number) for number in range(4)]
    threads += [in_thread(collect, reader) for reader in readers * 2]
    for thread in threads:
        thread.join(60)

    assert not any(thread.is_alive() for thread in threads)
    for reader in readers:
        found = metrics_of(reader)
        assert all(len(found[f"h.{name}"].data.data_points) == 20 for name in range(20))
        assert all(len(found[f"h.{name}.quantile"].data.data_points) == 20 for name in range(20))


def test_a_provider_that_is_dropped_is_freed(clock: Clock) -> None:
    """An aggregation that outlives a provider keeps neither its instruments nor their gauges."""
    aggregation, average = hdr(clock), EwmaAggregation(clock=clock)
    reader = InMemoryMetricReader()
    provider = stock_provider(
        [reader], [View(instrument_name="h", aggregation=aggregation), View(instrument_name="c", aggregation=average)]
    )
    meter = provider.get_meter("m")
    histogram, counter = meter.create_histogram("h"), meter.create_counter("c")
    histogram.record(1)
    counter.add(1)
    reader.collect()
    before = len(_quantiles._gauges)
    provider.shutdown()
    gone: list[Any] = [weakref.ref(histogram), weakref.ref(counter)]
    del provider, meter, histogram, counter, reader
    gc.collect()

    assert [instrument() for instrument in gone] == [None, None]
    assert len(_quantiles._gauges) < before


def test_series_that_nothing_can_feed_are_forgotten(clock: Clock) -> None:
    """When the SDK has let go of a series and its window is empty, the gauge keeps nothing of it."""
    provider = stock_provider([InMemoryMetricReader()], [])
    instrument: Any = provider.get_meter("m").create_histogram("h")
    family: Any = _quantiles.family_of(instrument, (0.5,), 60)

    def stream(attributes: dict[str, Any]) -> Any:
        return hdr(clock)._create_aggregation(instrument, attributes, _default_reservoir_factory, 0)

    kept, released = stream({"a": 1}), stream({"a": 2})
    for made, value in ((kept, 1), (released, 2)):
        made._series.record(made, value)
    del made, released
    assert sorted(o.value for o in family.observe(CallbackOptions())) == [1, 2]
    again = stream({"a": 2})
    again._series.record(again, 2)
    assert sorted(o.value for o in family.observe(CallbackOptions())) == [1, 2]
    del again
    clock.now += 1000

    assert list(family.observe(CallbackOptions())) == []
    assert len(family._series) == 1
    kept._series.record(kept, 3)
    assert [o.value for o in family.observe(CallbackOptions())] == [3]
    provider.shutdown()
