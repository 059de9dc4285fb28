"""What the stock Prometheus reader is given so that it shows everything, and shows it right."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter
from opentelemetry.sdk.metrics._internal.point import Buckets, ExponentialHistogram, ExponentialHistogramDataPoint
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, Metric, MetricsData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

from otel_perf import MeterProvider
from otel_perf.metrics._prometheus import _explicit, for_prometheus
from tests.peers.prometheus import Scrape

EXPONENTIAL = ExponentialBucketHistogramAggregation()


class Endpoint:
    """A stock reader with our provider, scraped without a server.

    Attributes:
        provider: The provider.
        reader: The reader.
    """

    def __init__(self, make_provider: Callable[..., MeterProvider], views: Sequence[View] = (), **options: Any) -> None:
        self._registry = CollectorRegistry()
        self.reader = PrometheusMetricReader(registry=self._registry, **options)
        resource = Resource({"service.name": "shop", "region": "eu"})
        self.provider = make_provider(self.reader, resource=resource, views=views)

    def text(self) -> str:
        """What a scrape answers."""
        return generate_latest(self._registry).decode()

    def scrape(self) -> Scrape:
        """The answer, parsed."""
        return Scrape(self.text())


MakeEndpoint = Callable[..., Endpoint]


@pytest.fixture
def endpoint(make_provider: Callable[..., MeterProvider]) -> MakeEndpoint:
    """Makes endpoints."""
    return lambda *views, **options: Endpoint(make_provider, views, **options)


def test_labels_stay_right_without_those_of_scopes(endpoint: MakeEndpoint) -> None:
    """A reader that shows no scopes shows no label of a scope either, and each sample has its own."""
    shop = endpoint(scope_info_enabled=False)
    for name, attributes, labels in (("one", {"team": "a"}, {"a": "A"}), ("two", None, {"b": "B", "c": "C"})):
        shop.provider.get_meter(name, attributes=attributes).create_counter("x").add(1, labels)

    samples = [line for line in shop.text().splitlines() if line.startswith("x_total")]
    assert samples == ['x_total{a="A",b="",c=""} 1.0', 'x_total{a="",b="B",c="C"} 1.0']


def test_what_the_reader_adds_is_not_hidden(endpoint: MakeEndpoint) -> None:
    """Where one scope has an attribute that the reader adds of resource or scope, the other's samples keep the reader's."""
    shop = endpoint(resource_attribute_filter="region".__eq__)
    shop.provider.get_meter("one").create_counter("x").add(1, {"region": "own", "otel_scope_name": "own"})
    shop.provider.get_meter("two").create_counter("x").add(2)

    assert shop.scrape().value("x_total", region="own") == 1
    assert shop.scrape().value("x_total", region="eu") == 2
    assert shop.scrape().scopes["x_total"]["otel_scope_name"] == "two"


def test_gauges_and_sums_that_go_down_are_one_family(endpoint: MakeEndpoint) -> None:
    """A gauge and an up-down counter of the same name in two scopes are samples of one family of gauges."""
    shop = endpoint()
    shop.provider.get_meter("one").create_gauge("x", description="First.").set(-3, {"a": "A"})
    shop.provider.get_meter("two").create_up_down_counter("x").add(-4, {"b": "B"})
    text = shop.text()

    assert [line for line in text.splitlines() if line.startswith("# ") and " x" in line] == [
        "# HELP x First.",
        "# TYPE x gauge",
    ]
    assert Scrape(text).value("x", a="A", b="") == -3
    assert Scrape(text).value("x", a="", b="B") == -4


def test_histograms_of_several_scopes_are_one_family(endpoint: MakeEndpoint) -> None:
    """An explicit and an exponential histogram of the same name in two scopes are one family, with labels and counts of each."""
    shop = endpoint(View(meter_name="two", instrument_name="x", aggregation=EXPONENTIAL))
    shop.provider.get_meter("one").create_histogram("x").record(3, {"a": "A"})
    shop.provider.get_meter("two").create_histogram("x").record(3, {"b": "B"})
    text = shop.text()

    assert text.count("# TYPE x histogram") == 1
    assert Scrape(text).value("x_bucket", a="A", b="", le="5.0") == 1
    assert Scrape(text).value("x_bucket", a="", b="B", le="4.0") == 1


def test_values_below_zero_are_counted_at_zero(endpoint: MakeEndpoint) -> None:
    """The buckets of a histogram with values on both sides of zero begin at zero, which has all that are not above it."""
    shop = endpoint(View(instrument_name="x", aggregation=EXPONENTIAL))
    counter = shop.provider.get_meter("m").create_up_down_counter("x")
    for value in (-5, -1, 0, 3):
        counter.add(value)
    found = shop.scrape()

    assert found.value("x_bucket", le="0.0") == 3
    assert found.value("x_bucket", le="4.0") == found.value("x_bucket", le="+Inf") == found.value("x_count") == 4
    assert found.value("x_sum") == -3


def test_exemplars_do_not_disturb_a_scrape(endpoint: MakeEndpoint, make_provider: Callable[..., MeterProvider]) -> None:
    """Points with exemplars, which the stock reader does not show, are scraped as those without."""
    texts = []
    for options in ({}, {"exemplar_filter": AlwaysOnExemplarFilter()}):
        registry = CollectorRegistry()
        reader, memory = PrometheusMetricReader(registry=registry), InMemoryMetricReader()
        views = [View(instrument_name="e", aggregation=EXPONENTIAL)]
        meter = make_provider(reader, memory, views=views, **options).get_meter("m")
        for name in ("h", "e"):
            meter.create_histogram(name).record(3, {"k": "v"})
        meter.create_counter("c").add(1, {"k": "v"})
        texts.append(generate_latest(registry).decode())
        data: Any = memory.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        assert all(bool(metric.data.data_points[0].exemplars) == bool(options) for metric in metrics)

    without = [line for line in texts[0].splitlines() if "_created" not in line]
    assert [line for line in texts[1].splitlines() if "_created" not in line] == without
    assert any(line.startswith("e_bucket") for line in without)


def collected(endpoint: Endpoint) -> tuple[MetricsData, MetricsData]:
    """What the provider collects for a reader, and what the reader gets."""
    memory = InMemoryMetricReader()
    endpoint.provider.add_metric_reader(memory)
    data: Any = memory.get_metrics_data()
    return data, for_prometheus(data, endpoint.reader._collector)


def metrics_of(data: MetricsData) -> list[Metric]:
    """All metrics."""
    return [metric for scope in data.resource_metrics[0].scope_metrics for metric in scope.metrics]


def test_what_can_be_shown_is_not_copied(endpoint: MakeEndpoint) -> None:
    """A metric that is alone, or whose family has the same labels and description everywhere, is the very same afterwards."""
    shop = endpoint()
    for name in ("one", "two"):
        shop.provider.get_meter(name).create_counter("same", description="d").add(1, {"a": name})
    shop.provider.get_meter("one").create_histogram("alone").record(1, {"b": 1})
    before, after = collected(shop)

    assert len(metrics_of(before)) == 3
    assert all(one is other for one, other in zip(metrics_of(before), metrics_of(after), strict=True))


def test_one_point_is_copied_where_labels_are_missing(endpoint: MakeEndpoint) -> None:
    """Of a metric that lacks labels of its family one point is made anew, whatever the number of points, and what was collected is unchanged."""
    shop = endpoint()
    first = shop.provider.get_meter("one").create_counter("x")
    for number in range(5):
        first.add(1, {"n": number})
    shop.provider.get_meter("two").create_counter("x").add(1, {"m": 1})
    before, after = collected(shop)
    pairs: list[tuple[Any, Any]] = [
        (one, other)
        for metric, shown in zip(metrics_of(before), metrics_of(after), strict=True)
        for one, other in zip(metric.data.data_points, shown.data.data_points, strict=True)
    ]

    assert sum(one is not other for one, other in pairs) == 2
    assert all(len(one.attributes or ()) == 1 for one, _ in pairs)


def test_a_flush_is_not_shown_by_a_scrape_that_has_nothing(
    endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a thread has flushed is not the answer of its next scrape when there is nothing to collect then."""
    shop = endpoint()
    shop.provider.get_meter("m").create_counter("c").add(1)
    shop.provider.force_flush()
    monkeypatch.setattr(shop.provider._consumer._builder, "build", lambda *_: None)

    assert shop.text() == ""


def test_threads_that_scrape_at_once_all_get_everything(endpoint: MakeEndpoint) -> None:
    """Each of several scrapes that collect before any of them answers has every series once."""
    shop = endpoint()
    shop.provider.get_meter("m").create_counter("c").add(1)
    collector: Any = shop.reader._collector
    collect = shop.reader.collect
    barrier = threading.Barrier(4, timeout=20)
    texts: list[str] = []

    def together() -> None:
        collect()
        barrier.wait()

    collector._callback = together
    threads = [threading.Thread(target=lambda: texts.append(shop.text())) for _ in range(barrier.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [text.count("c_total{") for text in texts] == [1] * barrier.parties


SCALES: dict[str, tuple[int, int, list[int]]] = {
    "one to four": (0, 0, [1, 2]),
    "fine": (3, -9, list(range(1, 40))),
    "as fine as can be": (20, (1 << 20) - 2, [1, 2, 3, 4]),
    "small": (0, -1075, [1, 0, 2]),
    "large": (0, 1020, [1, 2, 3, 4]),
    "coarse": (-1, -3, [1, 2, 0, 4, 5]),
    "as coarse as can be": (-10, -2, [1, 2, 3]),
    "nothing": (5, 0, []),
    "empty buckets": (2, 7, [0, 0, 0]),
}


@pytest.mark.parametrize("name", SCALES)
def test_counts_at_powers_of_two_are_exact(name: str) -> None:
    """Every bound is one of the exponential buckets or zero, bounds rise, and up to each are the counts of all buckets that end there or below."""
    scale, offset, counts = SCALES[name]
    total = 7 + sum(counts)
    given = ExponentialHistogramDataPoint(
        attributes={},
        start_time_unix_nano=1,
        time_unix_nano=2,
        count=total,
        sum=9.5,
        scale=scale,
        zero_count=3,
        positive=Buckets(offset, counts),
        negative=Buckets(0, [4]),
        flags=0,
        min=-1,
        max=8,
    )
    metric = Metric("h", "", "", ExponentialHistogram([given], AggregationTemporality.CUMULATIVE))
    point: Any = _explicit(metric).data.data_points[0]
    upper = [Fraction(offset + number + 1) / Fraction(2) ** scale for number in range(len(counts))]
    assert (point.count, point.sum, sum(point.bucket_counts)) == (total, 9.5, total)
    assert point.explicit_bounds[0] == 0.0
    assert list(point.explicit_bounds) == sorted(set(point.explicit_bounds))
    for number, bound in enumerate(point.explicit_bounds[1:], 1):
        mantissa, exponent = Fraction(bound).as_integer_ratio()
        power = mantissa.bit_length() - exponent.bit_length()
        assert bound == 2.0**power
        assert (Fraction(power) * Fraction(2) ** scale).denominator == 1
        expected = 7 + sum(count for count, end in zip(counts, upper, strict=True) if end <= power)
        assert sum(point.bucket_counts[: number + 1]) == expected
    shown = [end for end, count in zip(upper, counts, strict=True) if count]
    assert not shown or len(point.explicit_bounds) > 1
    assert len(point.explicit_bounds) <= 2 + len(counts)
