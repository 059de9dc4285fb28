"""HDR percentiles as a view of the stock SDK: the gauge beside the histogram, what it counts, and when."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import Gauge, Histogram, InMemoryMetricReader, Sum
from opentelemetry.sdk.metrics.view import Aggregation, View

from otel_perf.metrics import EwmaAggregation, HdrHistogramAggregation
from tests.conformance.harness import DELTA
from tests.unit.stock import MEDIAN, Clock, Stock, hdr, metrics_of, values_of

WRONG: list[tuple[type[Aggregation], str, Any]] = [
    *((HdrHistogramAggregation, "significant_digits", value) for value in (0, 4, 1.5, "3", None, True)),
    *(
        (HdrHistogramAggregation, "quantiles", value)
        for value in ([1.1], [-0.1], [math.nan], ["0.5"], "0.5", 0.5, [True])
    ),
    *((HdrHistogramAggregation, "window", value) for value in (0, -1, math.inf, math.nan, "60", None, True)),
    *((EwmaAggregation, "tau", value) for value in (0, -1, math.inf, math.nan, "60", None, True)),
]


@pytest.mark.parametrize(("kind", "argument", "value"), WRONG, ids=repr)
def test_a_wrong_argument_is_refused_by_name(kind: Any, argument: str, value: Any) -> None:
    """The error names the argument, the value and what is accepted."""
    shown = value[0] if isinstance(value, list) else value
    with pytest.raises(ValueError, match=f"^{argument} (is|has) .*; accepted are ") as error:
        kind(**{argument: value})

    assert repr(shown) in str(error.value)


def test_arguments_are_read_only_attributes() -> None:
    """Attributes state the arguments, quantiles in order and each once, and cannot be set."""
    aggregation: Any = HdrHistogramAggregation(2, [0.99, 1, 0.5, 0.5, -0.0], 30)

    assert aggregation.significant_digits == 2
    assert [repr(quantile) for quantile in aggregation.quantiles] == ["0.0", "0.5", "0.99", "1.0"]
    assert aggregation.window == 30.0
    assert EwmaAggregation(10).tau == 10.0
    for name in ("significant_digits", "quantiles", "window"):
        with pytest.raises(AttributeError):
            setattr(aggregation, name, 1)


def test_equal_arguments_are_equal_aggregations() -> None:
    """Aggregations are equal by value, whatever their clock, and their representation makes the same one again."""
    first = HdrHistogramAggregation(2, (0.5, 0.9), 30)
    same = HdrHistogramAggregation(2, [0.9, 0.5], 30.0, clock=Clock())

    assert first == same
    assert hash(first) == hash(same)
    assert repr(first) == "HdrHistogramAggregation(significant_digits=2, quantiles=(0.5, 0.9), window=30.0)"
    assert eval(repr(first), {"HdrHistogramAggregation": HdrHistogramAggregation}) == first
    assert first != HdrHistogramAggregation(3, (0.5, 0.9), 30)
    assert HdrHistogramAggregation() == HdrHistogramAggregation(3, (0.5, 0.9, 0.95, 0.99, 0.999), 60)
    assert EwmaAggregation(5) == EwmaAggregation(5.0)
    assert hash(EwmaAggregation(5)) == hash(EwmaAggregation(5.0))
    assert EwmaAggregation(5) != EwmaAggregation(6)
    assert EwmaAggregation() != HdrHistogramAggregation()
    assert repr(EwmaAggregation()) == "EwmaAggregation(tau=60.0)"


def test_quantiles_leave_beside_the_histogram(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """The stream is the same histogram as without the view, and a gauge of the same unit has a point for each attribute set and quantile."""
    plain = InMemoryMetricReader()
    view = View(instrument_name="h", aggregation=hdr(clock, (0, 0.5, 0.999, 1)))
    for provider in (stock([reader], [view]), stock([plain], [])):
        histogram = provider.get_meter("m").create_histogram(
            "h", "s", "text", explicit_bucket_boundaries_advisory=[0.5]
        )
        for millis in range(1, 1001):
            histogram.record(millis / 1000, {"route": "a"})
        histogram.record(7, {"route": "b"})
    found: dict[str, Any] = metrics_of(reader)
    expected = metrics_of(plain)
    shape = [(p.attributes, p.count, p.sum, p.bucket_counts, p.explicit_bounds) for p in found["h"].data.data_points]

    assert shape == [
        (p.attributes, p.count, p.sum, p.bucket_counts, p.explicit_bounds) for p in expected["h"].data.data_points
    ]
    assert (type(found["h"].data), type(found["h.quantile"].data)) == (Histogram, Gauge)
    assert set(found) == {"h", "h.quantile"}
    assert (found["h.quantile"].unit, found["h.quantile"].description) == ("s", "Quantiles of h over the last 60 s")
    values = {(p.attributes["route"], p.attributes["quantile"]): p.value for p in found["h.quantile"].data.data_points}
    assert values["a", "0.5"] == pytest.approx(0.5, rel=0.001)
    assert values["a", "0.999"] == pytest.approx(0.999, rel=0.001)
    assert values["a", "0"] == pytest.approx(0.001, rel=0.001)
    assert values["a", "1"] == 1
    assert {values["b", quantile] for quantile in ("0", "0.5", "0.999", "1")} == {7.0}


@pytest.mark.parametrize(("digits", "width"), [(1, 0.032), (2, 0.008), (3, 0.001)])
def test_digits_are_the_precision(
    digits: int, width: float, stock: Stock, reader: InMemoryMetricReader, clock: Clock
) -> None:
    """A quantile is never below its recording, and at most as much above it as the digits say."""
    view = View(instrument_name="h", aggregation=hdr(clock, significant_digits=digits))
    histogram = stock([reader], [view]).get_meter("m").create_histogram("h", "s")
    for value in (0.0123456789, 0.0123456789, 99):
        histogram.record(value)
    found = values_of(reader, "h.quantile")[MEDIAN]

    assert found >= 0.0123456789 - 1e-9
    assert width / 8 < found / 0.0123456789 - 1 <= width


def test_a_view_by_pattern_leaves_the_gauge_alone(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """Points have the attributes that the view keeps and their quantile, also where patterns would match the gauge, which gets no gauge itself."""
    views = [
        View(instrument_name="*", attribute_keys={"route"}, aggregation=hdr(clock, (0.5, 0.9))),
        View(instrument_type=sdk.ObservableGauge, attribute_keys=set()),
    ]
    histogram = stock([reader], views).get_meter("m").create_histogram("h")
    histogram.record(1, {"route": "a", "user": "x"})
    histogram.record(1, {"route": "a", "user": "y"})

    for _ in range(3):
        assert set(metrics_of(reader)) == {"h", "h.quantile"}
    assert values_of(reader, "h.quantile") == {
        frozenset({("route", "a"), ("quantile", "0.5")}): 1,
        frozenset({("route", "a"), ("quantile", "0.9")}): 1,
    }


def test_the_gauge_is_named_after_the_instrument_unless_a_view_has_its_name(
    stock: Stock, reader: InMemoryMetricReader, clock: Clock
) -> None:
    """Renaming the stream does not rename the gauge; a view for exactly the gauge does."""
    stream = View(instrument_name="h", name="latency", aggregation=hdr(clock))
    gauge = View(instrument_name="H.quantile", name="latency.quantile", aggregation=hdr(clock))
    other = InMemoryMetricReader()
    stock([reader], [stream]).get_meter("m").create_histogram("h").record(1)
    stock([other], [stream, gauge]).get_meter("m").create_histogram("h").record(1)

    assert set(metrics_of(reader)) == {"latency", "h.quantile"}
    assert set(metrics_of(other)) == {"latency", "latency.quantile"}


def test_every_recording_counts_once(stock: Stock, clock: Clock) -> None:
    """With several readers each has the quantiles, and a recording counts once; when the reader that fed them is removed another one does."""
    readers = [InMemoryMetricReader(preferred_temporality=temporality) for temporality in ({}, DELTA, {})]
    # Of two values this is the first, of the same two values counted twice the second.
    view = View(instrument_name="h", aggregation=hdr(clock, [0.74]))
    provider = stock(readers, [view])
    histogram = provider.get_meter("m").create_histogram("h", "By")
    for value in (1, 2):
        histogram.record(value)
    for reader in readers:
        assert list(values_of(reader, "h.quantile").values()) == [1]

    provider.remove_metric_reader(readers[0])
    clock.now += 1000
    for value in (3, 4):
        histogram.record(value)
    for reader in readers[1:]:
        assert list(values_of(reader, "h.quantile").values()) == [3]


def test_the_window_goes_on_over_delta_collections(stock: Stock, clock: Clock) -> None:
    """Quantiles look back the window's seconds, however often a delta reader collects in between."""
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    view = View(instrument_name="h", aggregation=hdr(clock, [0, 1]))
    histogram = stock([reader], [view]).get_meter("m").create_histogram("h", "By")
    for value in (1, 2, 3):
        histogram.record(value)
        found = values_of(reader, "h.quantile")
        assert set(found.values()) == {1, value}
        clock.now += 10


def test_what_is_older_than_the_window_is_forgotten(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """A recording is seen for the window's seconds and not for a sixth more; a series without recordings in the window has no point."""
    view = View(instrument_name="h", aggregation=hdr(clock, [0], window=60))
    histogram = stock([reader], [view]).get_meter("m").create_histogram("h", "By")
    histogram.record(1, {"a": "once"})
    histogram.record(1, {"a": "often"})
    for _ in range(6):
        clock.now += 10
        histogram.record(9, {"a": "often"})
        assert set(values_of(reader, "h.quantile").values()) == {1}
    clock.now += 10
    assert values_of(reader, "h.quantile") == {frozenset({("a", "often"), ("quantile", "0")}): 9}

    clock.now += 1e6
    assert set(metrics_of(reader)) == {"h"}
    histogram.record(2, {"a": "once"})
    assert values_of(reader, "h.quantile") == {frozenset({("a", "once"), ("quantile", "0")}): 2}


def test_types_of_attribute_values_are_told_apart(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """`1`, `1.0`, `True` and "1" are four series, as in the SDK."""
    view = View(instrument_name="h", aggregation=hdr(clock, [0.5]))
    histogram = stock([reader], [view]).get_meter("m").create_histogram("h")
    for number, value in enumerate([1, 1.0, True, "1", [1], None]):
        histogram.record(number, {"a": value})
    points = metrics_of(reader)["h.quantile"].data.data_points

    assert [point.value for point in points] == [0, 1, 2, 3, 4, 5]


def test_views_of_one_instrument_share_the_gauge(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """Two views with other attributes give one gauge with the points of both."""
    views = [
        View(instrument_name="h", name="by.a", attribute_keys={"a"}, aggregation=hdr(clock)),
        View(instrument_name="h", name="all", attribute_keys=set(), aggregation=hdr(clock)),
    ]
    histogram = stock([reader], views).get_meter("m").create_histogram("h", "By")
    for value in (1, 2, 3):
        histogram.record(value, {"a": value})

    found = values_of(reader, "h.quantile")
    assert found == {MEDIAN | {("a", value)}: value for value in (1, 2, 3)} | {MEDIAN: 2}


@pytest.mark.parametrize("create", ["create_counter", "create_up_down_counter", "create_gauge"])
def test_other_synchronous_instruments_have_quantiles(
    create: str, stock: Stock, reader: InMemoryMetricReader, clock: Clock
) -> None:
    """Counters and gauges become histograms with quantiles of what was recorded; negative values count only in the histogram."""
    view = View(instrument_name="x", aggregation=hdr(clock, [0, 1]))
    instrument: Any = getattr(stock([reader], [view]).get_meter("m"), create)("x", "By")
    record = instrument.set if create == "create_gauge" else instrument.add
    negative = [] if create == "create_counter" else [-5, -0.5]
    for value in (3, 1, 2, *negative):
        record(value)
    found = metrics_of(reader)
    (point,) = found["x"].data.data_points

    assert (point.count, point.sum) == (3 + len(negative), 6 + sum(negative))
    assert sorted(p.value for p in found["x.quantile"].data.data_points) == [1, 3]


def test_a_series_of_negative_values_has_no_quantiles(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """Where all values are negative there is a histogram and no gauge."""
    view = View(instrument_name="x", aggregation=hdr(clock))
    stock([reader], [view]).get_meter("m").create_up_down_counter("x").add(-1)

    assert set(metrics_of(reader)) == {"x"}


def test_observable_instruments_keep_their_aggregation(
    stock: Stock, reader: InMemoryMetricReader, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """An observable instrument is exported as without the view, and the log says so once."""
    meter = stock([reader], [View(instrument_name="*", aggregation=hdr(clock))]).get_meter("m")
    meter.create_observable_gauge("g", [lambda _: [Observation(-1)]])
    meter.create_observable_counter("c", [lambda _: [Observation(5)]])
    for _ in range(2):
        found = metrics_of(reader)
        assert set(found) == {"g", "c"}
        assert (type(found["g"].data), type(found["c"].data)) == (Gauge, Sum)

    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "window=60.0) is not applied to g, which is observable" in caplog.text


def test_without_quantiles_there_is_no_gauge(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """An aggregation with no quantiles is the histogram alone."""
    view = View(instrument_name="h", aggregation=hdr(clock, []))
    stock([reader], [view]).get_meter("m").create_histogram("h").record(1)

    assert set(metrics_of(reader)) == {"h"}


def test_a_reader_may_prefer_it_for_all_histograms(stock: Stock, clock: Clock) -> None:
    """As a reader's preferred aggregation it makes gauges for every histogram, and as that of observable gauges it does no harm."""
    preferred: dict[type, Aggregation] = {sdk.Histogram: hdr(clock), sdk.ObservableGauge: hdr(clock)}
    reader = InMemoryMetricReader(preferred_aggregation=preferred)
    stock([reader], []).get_meter("m").create_histogram("h").record(1)

    assert values_of(reader, "h.quantile") == {MEDIAN: 1}
