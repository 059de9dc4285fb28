"""What the endpoint shows where the stock exporter is wrong or has nothing: conflicts, collisions, exemplars, OpenMetrics and native histograms."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_perf import MeterProvider
from otel_perf.metrics import HdrHistogramAggregation
from tests.peers.prometheus_messages import buckets_of, labels_of
from tests.unit.scraped import OPENMETRICS, Scraped, samples_of, value

MakeScraped = Callable[..., Scraped]
TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7


@pytest.fixture
def endpoint(make_provider: Callable[..., MeterProvider]) -> MakeScraped:
    """Makes endpoints."""
    return lambda *views, **kwargs: Scraped(make_provider, views, **kwargs)


def in_span(work: Callable[[], Any]) -> None:
    """Records in a sampled span."""
    context = SpanContext(TRACE, SPAN, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with trace.use_span(NonRecordingSpan(context)):
        work()


def test_metrics_of_several_scopes_are_one_family(endpoint: MakeScraped) -> None:
    """Metrics of one name in two scopes have one HELP, that of the first with a description, and one TYPE, and each sample has its own labels."""
    shop = endpoint()
    for scope, description, labels in (
        ("one", "", {"a": "A"}),
        ("two", "Second.", {"b": "B"}),
        ("three", "Third.", {}),
    ):
        shop.provider.get_meter(scope).create_counter("x", description=description).add(1, labels)

    assert [line for line in shop.text().splitlines() if " x_total" in line] == [
        "# HELP x_total Second.",
        "# TYPE x_total counter",
    ]
    found = {tuple(sorted(sample.labels.items())) for sample in shop.families()["x"].samples}
    scopes = {
        name: (("otel_scope_name", name), ("otel_scope_schema_url", ""), ("otel_scope_version", ""))
        for name in ("one", "two", "three")
    }
    assert found == {(("a", "A"), *scopes["one"]), (("b", "B"), *scopes["two"]), scopes["three"]}


def test_of_two_types_the_first_is_shown(endpoint: MakeScraped, caplog: pytest.LogCaptureFixture) -> None:
    """Of metrics that have one name and two types the later one is left out of every format, and one warning in all says which."""
    shop = endpoint()
    shop.provider.get_meter("one").create_histogram("x", "s").record(1)
    shop.provider.get_meter("two").create_gauge("x.seconds").set(7)
    with caplog.at_level(logging.WARNING):
        families = [shop.families()["x_seconds"], shop.openmetrics()["x_seconds"]]
        message = shop.messages()["x_seconds"]

    assert {family.type for family in families} == {"histogram"}
    assert message.metric[0].HasField("histogram")
    assert len(message.metric) == 1
    assert [record.getMessage() for record in caplog.records] == [
        'Not shown to Prometheus: metric "x.seconds" of scope "two": it would be the gauge x_seconds, which is a histogram already'
    ]


def test_units_that_differ_leave_the_samples(endpoint: MakeScraped) -> None:
    """A metric whose name has its unit and one whose unit is stated are one family with that unit."""
    shop = endpoint()
    shop.provider.get_meter("one").create_gauge("x.seconds").set(1)
    shop.provider.get_meter("two").create_gauge("x", "s").set(2)

    family = shop.openmetrics()["x_seconds"]
    assert (family.unit, sorted(sample.value for sample in family.samples)) == ("seconds", [1, 2])


def test_series_with_the_same_labels_are_shown_once(endpoint: MakeScraped, caplog: pytest.LogCaptureFixture) -> None:
    """Where labels of scopes are not shown, of two series with the same labels the first is, and one warning says so."""
    shop = endpoint(scope_info_enabled=False)
    for scope, amount in (("one", 1), ("two", 2)):
        shop.provider.get_meter(scope).create_counter("x").add(amount, {"k": "v"})
    with caplog.at_level(logging.WARNING):
        texts = [shop.text(), shop.text()]

    assert [line for line in texts[0].splitlines() if line.startswith("x_")] == ['x_total{k="v"} 1.0']
    assert len(shop.messages()["x_total"].metric) == 1
    assert [record.getMessage() for record in caplog.records] == [
        'Not shown to Prometheus: series of metric "x" of scope "two": others have the same name and labels'
    ]


def test_an_empty_label_is_none(endpoint: MakeScraped) -> None:
    """Of a series with an empty label and one without it, which are one to Prometheus, the first is shown."""
    shop = endpoint(scope_info_enabled=False)
    counter = shop.provider.get_meter("m").create_counter("x")
    for labels in ({"k": ""}, {}, {"k": "v"}):
        counter.add(1, labels)

    assert [line for line in shop.text().splitlines() if line.startswith("x_")] == [
        'x_total{k=""} 1.0',
        'x_total{k="v"} 1.0',
    ]


def test_keys_that_become_one_label_are_joined(endpoint: MakeScraped) -> None:
    """The values of keys that become one label are joined with a semicolon in the order of the keys, in points, scopes and the resource."""
    joined: dict[str, Any] = {"a_b": "3", "a.b": 2, "a-b": "1"}
    shop = endpoint(resource=Resource(joined))
    shop.provider.get_meter("m", attributes=joined).create_counter("x").add(1, {**joined, "a": "alone"})
    families = shop.families()

    (sample,) = families["x"].samples
    assert (sample.labels["a_b"], sample.labels["otel_scope_a_b"], sample.labels["a"]) == ("1;2;3", "1;2;3", "alone")
    assert value(families["target_info"], "target_info", a_b="1;2;3") == 1


def test_the_nearest_attribute_wins(endpoint: MakeScraped) -> None:
    """A label that point, scope and resource all give is that of the point, and what names a scope is not an attribute of it."""
    shop = endpoint(resource_attribute_filter=lambda key: key in ("region", "otel_scope_team"))
    scope = {"name": "other", "version": "9", "team": "a"}
    counter = shop.provider.get_meter("m", "1", attributes=scope).create_counter("x")
    counter.add(1, {"region": "own", "otel.scope.name": "own"})
    counter.add(2)
    own, others = (sample.labels for sample in shop.families()["x"].samples)

    assert (own["region"], own["otel_scope_name"], own["otel_scope_version"]) == ("own", "own", "1")
    assert (others["region"], others["otel_scope_name"], others["otel_scope_team"]) == ("eu", "m", "a")


def test_an_attribute_le_is_not_a_bound(endpoint: MakeScraped) -> None:
    """An attribute with the name of the label of bounds is renamed for histograms, as a scraper does, and left alone elsewhere."""
    shop = endpoint()
    meter = shop.provider.get_meter("m")
    meter.create_histogram("h").record(3, {"le": "own"})
    meter.create_counter("c").add(3, {"le": "own"})
    families = shop.families()

    assert value(families["h"], "h_bucket", le="5.0", exported_le="own") == 1
    assert value(families["h"], "h_sum", exported_le="own") == 3
    assert value(families["c"], "c_total", le="own") == 3


def test_what_is_no_utf8_is_shown_all_the_same(endpoint: MakeScraped) -> None:
    """Lone surrogates, which have no UTF-8 form, become replacement characters in all formats, and the scrape succeeds."""
    shop = endpoint()
    shop.provider.get_meter("m").create_counter("c").add(1, {"k": "a\udc80b"})

    (sample,) = shop.families()["c"].samples
    assert re.fullmatch("a\ufffd+b", sample.labels["k"])
    assert shop.openmetrics()["c"].samples[0].labels["k"] == sample.labels["k"]
    assert labels_of(shop.messages()["c_total"].metric[0])["k"] == sample.labels["k"]


def test_openmetrics_has_the_same_samples(endpoint: MakeScraped) -> None:
    """OpenMetrics has the samples of the text format, with units, families named without suffix, an info type, and its end."""
    shop = endpoint()
    meter = shop.provider.get_meter("m")
    meter.create_counter("c", "By", 'A "quoted" \\ help\nof two lines.').add(3, {"k": 'v"\\\n'})
    meter.create_histogram("h", "s").record(3)
    meter.create_up_down_counter("u").add(-1)
    text, openmetrics = shop.families(), shop.openmetrics()

    assert shop.text(OPENMETRICS).endswith("\n# EOF\n")
    assert "_created" not in shop.text(OPENMETRICS)
    assert {name: (family.type, family.unit) for name, family in openmetrics.items()} == {
        "target": ("info", ""),
        "c_bytes": ("counter", "bytes"),
        "h_seconds": ("histogram", "seconds"),
        "u": ("gauge", ""),
    }
    assert openmetrics["c_bytes"].documentation == text["c_bytes"].documentation
    for name, family in openmetrics.items():
        assert samples_of(family) == samples_of(text["target_info" if name == "target" else name])


def test_a_counter_beside_a_gauge_of_its_name_keeps_its_samples(endpoint: MakeScraped) -> None:
    """A counter and a gauge of one name, two families but in OpenMetrics, are both shown there, the counter without type under its whole name."""
    shop = endpoint()
    meter = shop.provider.get_meter("m")
    meter.create_counter("x", "s").add(3)
    shop.provider.get_meter("n").create_gauge("x", "s").set(4)
    found = shop.openmetrics()

    assert (found["x_seconds"].type, value(found["x_seconds"], "x_seconds")) == ("gauge", 4)
    assert (found["x_seconds_total"].type, value(found["x_seconds_total"], "x_seconds_total")) == ("unknown", 3)
    assert {line for line in shop.text().splitlines() if line.startswith("# TYPE x")} == {
        "# TYPE x_seconds_total counter",
        "# TYPE x_seconds gauge",
    }
    assert {"x_seconds", "x_seconds_total"} <= set(shop.messages())


def test_exemplars_are_in_openmetrics(endpoint: MakeScraped) -> None:
    """Counters and the buckets that hold them have exemplars with span, filtered attributes and time; gauges and other buckets have none."""
    shop = endpoint(View(instrument_name="*", attribute_keys={"k"}))
    meter = shop.provider.get_meter("m")

    def record() -> None:
        meter.create_counter("c").add(2, {"k": "v", "user.id": "u"})
        meter.create_up_down_counter("u").add(2, {"k": "v", "user.id": "u"})
        meter.create_histogram("h").record(7, {"k": "v", "user.id": 5})

    in_span(record)
    found = shop.openmetrics()

    ids = {"trace_id": f"{TRACE:032x}", "span_id": f"{SPAN:016x}"}
    counter: Any
    (counter,) = found["c"].samples
    assert (counter.exemplar.labels, counter.exemplar.value) == ({**ids, "user_id": "u"}, 2)
    assert float(counter.exemplar.timestamp) > 1.6e9
    with_exemplar: list[Any] = [sample for sample in found["h"].samples if sample.exemplar]
    assert [(s.name, s.labels["le"], s.exemplar.labels) for s in with_exemplar] == [
        ("h_bucket", "10.0", {**ids, "user_id": "5"})
    ]
    assert found["u"].samples[0].exemplar is None
    assert " # {" not in shop.text()


def test_exemplars_need_no_span(endpoint: MakeScraped) -> None:
    """An exemplar of a recording outside of spans has its filtered attributes alone."""
    shop = endpoint(View(instrument_name="*", attribute_keys=set()), exemplar_filter=AlwaysOnExemplarFilter())
    shop.provider.get_meter("m").create_counter("c").add(1, {"a": "x, y"})
    sample: Any
    (sample,) = shop.openmetrics()["c"].samples

    assert (sample.exemplar.labels, sample.exemplar.value) == ({"a": "x, y"}, 1)


def native(shop: Scraped, name: str) -> Any:
    """The histogram of the one series of a family."""
    (metric,) = shop.messages()[name].metric
    return metric.histogram


def upper(index: int, schema: int) -> float:
    """Upper bound of a native bucket."""
    return float(2.0 ** (index * 2.0**-schema))


VIEWS: dict[str, Sequence[View]] = {
    "explicit": (),
    "exponential": (View(instrument_name="h", aggregation=ExponentialBucketHistogramAggregation()),),
    "few buckets": (View(instrument_name="h", aggregation=ExponentialBucketHistogramAggregation(max_size=20)),),
    "coarse": (View(instrument_name="h", aggregation=ExponentialBucketHistogramAggregation(max_scale=-2)),),
    "hdr": (View(instrument_name="h", aggregation=HdrHistogramAggregation()),),
}


@pytest.mark.parametrize("name", VIEWS)
def test_histograms_are_native_and_classic_at_once(name: str, endpoint: MakeScraped) -> None:
    """A histogram has native buckets that hold all values of their range, whatever its aggregation, and the classic ones of the text formats."""
    shop = endpoint(*VIEWS[name])
    histogram = shop.provider.get_meter("m").create_histogram("h", "s", "Help.")
    values = [0.0, 0.0, 0.001, 0.0042, 0.0043, 0.25, 0.26, 1.0, 3.7, 90.0]
    for of in values:
        histogram.record(of, {"k": "v"})
    family = shop.messages()["h_seconds"]
    found = native(shop, "h_seconds")

    assert (family.help, family.type, family.unit) == ("Help.", 4, "seconds")
    assert labels_of(family.metric[0])["k"] == "v"
    assert (found.sample_count, found.sample_sum) == (10, pytest.approx(sum(values)))
    assert (found.zero_count, found.zero_threshold) == (2, 5e-10)
    assert -4 <= found.schema <= 8
    buckets = buckets_of(found.positive_span, found.positive_delta)
    expected: dict[int, int] = {}
    for of in values[2:]:
        index = math.ceil(math.log2(of) * 2.0**found.schema - 1e-9)
        expected[index] = expected.get(index, 0) + 1
    # A slot counts in the bucket of its middle: a value at the edge of one may be in its neighbour.
    assert sum(buckets.values()) == 8
    assert all(any(abs(index - known) <= 1 for known in expected) for index in buckets)
    assert len(found.negative_span) == len(found.negative_delta) == 0
    classic = [(bucket.upper_bound, float(bucket.cumulative_count)) for bucket in found.bucket]
    of_text = [(float(s.labels["le"]), s.value) for s in shop.families()["h_seconds"].samples if "le" in s.labels]
    assert classic == of_text
    assert classic[-1][1] == 10
    assert found.created.seconds > 1.6e9


def test_the_finest_schema_is_that_of_the_precision(endpoint: MakeScraped) -> None:
    """A few values at full precision have schema 8, whose buckets are 0.27 % wide, and each is in the bucket that holds it."""
    shop = endpoint()
    histogram = shop.provider.get_meter("m").create_histogram("h", "s")
    histogram.record(0.3)
    found = native(shop, "h_seconds")

    assert found.schema == 8
    ((index, count),) = buckets_of(found.positive_span, found.positive_delta).items()
    assert (upper(index - 1, 8) < 0.3 <= upper(index, 8), count) == (True, 1)


def test_values_below_zero_are_native_buckets_too(endpoint: MakeScraped) -> None:
    """An exponential histogram with values on both sides of zero has native buckets on both, and counts those below zero at zero in classic ones."""
    shop = endpoint(View(instrument_name="x", aggregation=ExponentialBucketHistogramAggregation()))
    counter = shop.provider.get_meter("m").create_up_down_counter("x")
    for of in (-5, -1, 0, 3):
        counter.add(of)
    found = native(shop, "x")

    assert sum(buckets_of(found.negative_span, found.negative_delta).values()) == 2
    assert sum(buckets_of(found.positive_span, found.positive_delta).values()) == found.zero_count == 1
    assert found.sample_sum == -3
    text = shop.families()["x"]
    assert (value(text, "x_bucket", le="0.0"), value(text, "x_bucket", le="4.0"), value(text, "x_count")) == (3, 4, 4)


def test_buckets_that_prometheus_does_not_have_are_only_classic(endpoint: MakeScraped) -> None:
    """An exponential histogram that is coarser than schema -4 is shown with classic buckets alone."""
    shop = endpoint(View(instrument_name="h", aggregation=ExponentialBucketHistogramAggregation(max_scale=-6)))
    shop.provider.get_meter("m").create_histogram("h", "s").record(0.3)
    found = native(shop, "h_seconds")

    assert not found.HasField("schema")
    assert len(found.positive_span) == 0
    assert found.bucket[-1].cumulative_count == found.sample_count == 1


def test_exemplars_are_in_protobuf(endpoint: MakeScraped) -> None:
    """Counters, classic buckets and native histograms have exemplars with span, value and time."""
    shop = endpoint()
    meter = shop.provider.get_meter("m")

    def record() -> None:
        meter.create_counter("c").add(2)
        meter.create_histogram("h").record(7)

    in_span(record)
    found = shop.messages()

    histogram = found["h"].metric[0].histogram
    (of_bucket,) = (bucket.exemplar for bucket in histogram.bucket if bucket.HasField("exemplar"))
    for exemplar, of in ((found["c_total"].metric[0].counter.exemplar, 2), (of_bucket, 7), (histogram.exemplars[0], 7)):
        assert labels_of(exemplar) == {"trace_id": f"{TRACE:032x}", "span_id": f"{SPAN:016x}"}
        assert exemplar.value == of
        assert exemplar.timestamp.seconds > 1.6e9


def test_protobuf_has_the_same_families(endpoint: MakeScraped) -> None:
    """Counters, gauges and what the resource has are in the protobuf format what they are as text."""
    shop = endpoint(prefix="shop")
    meter = shop.provider.get_meter("m", "1", "https://schema", {"team": "a"})
    meter.create_counter("c", "By").add(3, {"k": 'v"\\\n', "n": 1})
    meter.create_up_down_counter("u").add(-1.5)
    messages, text = shop.messages(), shop.families()

    assert {name: (f.type, f.unit) for name, f in messages.items()} == {
        "target_info": (1, ""),
        "shop_c_bytes_total": (0, "bytes"),
        "shop_u": (1, ""),
    }
    for name, family in (("target_info", "target_info"), ("shop_c_bytes_total", "shop_c_bytes"), ("shop_u", "shop_u")):
        (metric,), (sample,) = messages[name].metric, text[family].samples
        assert labels_of(metric) == sample.labels
        assert (metric.counter if metric.HasField("counter") else metric.gauge).value == sample.value


def test_quantiles_of_a_view_are_a_family_of_gauges(endpoint: MakeScraped) -> None:
    """The quantiles that a view asks for are gauges beside the histogram, in every format."""
    shop = endpoint(View(instrument_name="h", aggregation=HdrHistogramAggregation(quantiles=[0.5, 0.99])))
    shop.provider.get_meter("m").create_histogram("h", "s").record(2)

    assert value(shop.families()["h_quantile_seconds"], "h_quantile_seconds", quantile="0.5") == 2
    assert len(shop.openmetrics()["h_quantile_seconds"].samples) == 2
    assert [labels_of(m)["quantile"] for m in shop.messages()["h_quantile_seconds"].metric] == ["0.5", "0.99"]


def test_labels_are_kept_from_scrape_to_scrape(endpoint: MakeScraped) -> None:
    """The encoder keeps the labels of the series of the last scrape, follows a resource that changes, and answers the same again."""
    shop = endpoint(resource_attribute_filter="region".__eq__)
    counter = shop.provider.get_meter("m").create_counter("c")
    for number in range(10):
        counter.add(1, {"n": number})
    first = shop.text()
    assert shop.text() == first
    assert shop.reader._encoder.kept == 10

    shop.provider._sdk_config.resource = Resource({"region": "us"})
    assert shop.text() == first.replace('region="eu"', 'region="us"').replace('cores="4",', "").replace(
        ',service_name="shop"', ""
    )


def test_nothing_recorded_is_an_empty_answer(endpoint: MakeScraped) -> None:
    """Without a metric the answer is empty but for what the format must have."""
    shop = endpoint()

    assert (shop.text(), shop.text(OPENMETRICS), shop.messages()) == ("", "# EOF\n", {})
