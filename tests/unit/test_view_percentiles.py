"""HDR percentiles and moving averages on our provider, against the same views on the stock SDK's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import Gauge, Histogram, InMemoryMetricReader, Sum
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExponentialBucketHistogramAggregation,
    View,
)

from otel_perf import MeterProvider
from otel_perf.metrics import HdrHistogramAggregation
from tests.conformance.harness import TEMPORALITIES, Temporality
from tests.unit.instrumented import KINDS, Instrumented
from tests.unit.stock import Clock, Stock, hdr, metrics_of, values_of

Make = Callable[..., MeterProvider]
QUANTILES = (0, 0.25, 0.5, 0.9, 0.99, 0.999, 1)
NO_ATTRIBUTES: frozenset[Any] = frozenset()
AMOUNTS = [0.0001 * 1.03**number for number in range(400)]
"""Four decades and a half, so that every step of precision has slots of several widths."""
STEPS = {1: 0.032, 2: 0.008, 3: 0.001}
CLASSES: dict[str, type] = {
    "Counter": sdk.Counter,
    "UpDownCounter": sdk.UpDownCounter,
    "Histogram": sdk.Histogram,
    "Gauge": sdk._Gauge,
}
OBSERVABLES: dict[str, tuple[str, type]] = {
    "create_observable_counter": ("ObservableCounter", Sum),
    "create_observable_up_down_counter": ("ObservableUpDownCounter", Sum),
    "create_observable_gauge": ("ObservableGauge", Gauge),
}
Provide = Callable[[InMemoryMetricReader, list[View]], sdk.MeterProvider]


@pytest.fixture
def both(make_provider: Make, stock: Stock) -> dict[str, Provide]:
    """Makes providers of either side."""
    return {
        "ours": lambda reader, views: make_provider(reader, views=views),
        "stock": lambda reader, views: stock([reader], views),
    }


def by_quantile(reader: InMemoryMetricReader) -> dict[frozenset[Any], Any]:
    """Quantiles by attributes."""
    return values_of(reader, "i.quantile")


@pytest.mark.parametrize("digits", STEPS)
@pytest.mark.parametrize("by", ["view", "reader"])
@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_are_those_of_the_stock_provider(
    kind: str, by: str, digits: int, both: dict[str, Provide], clock: Clock
) -> None:
    """The same recordings have the same quantiles within the step of precision, by view and by reader, for each kind of instrument."""
    found = {}
    for side, provide in both.items():
        aggregation = hdr(clock, QUANTILES, significant_digits=digits)
        preferred: dict[type, Aggregation] = {CLASSES[kind]: aggregation} if by == "reader" else {}
        reader = InMemoryMetricReader(preferred_aggregation=preferred)
        views = [View(instrument_name="i", aggregation=aggregation)] if by == "view" else []
        instrument = Instrumented(provide(reader, views), reader, kind)
        for number, amount in enumerate(AMOUNTS):
            instrument.record(amount, {"part": number % 2})
        found[side] = by_quantile(reader)

    assert len(found["ours"]) == 2 * len(QUANTILES)
    assert found["ours"].keys() == found["stock"].keys()
    if by == "view":
        # The same arithmetic in two languages.
        assert found["ours"] == pytest.approx(found["stock"], rel=1e-9)
    else:
        # Slots of a stream that other readers may share are as fine as can be.
        assert found["ours"] == pytest.approx(found["stock"], rel=STEPS[digits])


@pytest.mark.parametrize("kind", KINDS)
def test_the_histogram_beside_is_that_of_the_stock_provider(kind: str, both: dict[str, Provide], clock: Clock) -> None:
    """Count, sum, buckets, minimum and maximum are the same, and so are the gauge's unit and description."""
    found: dict[str, Any] = {}
    for side, provide in both.items():
        reader = InMemoryMetricReader()
        view = View(instrument_name="i", attribute_keys={"a"}, aggregation=hdr(clock, window=30))
        instrument = Instrumented(provide(reader, [view]), reader, kind)
        for amount in (3, 7, 40, 900):
            instrument.record(amount, {"a": 1, "b": amount})
        metrics: dict[str, Any] = metrics_of(reader)
        (point,) = metrics["i"].data.data_points
        gauge = metrics["i.quantile"]
        (quantile,) = gauge.data.data_points
        assert quantile.start_time_unix_nano is None
        found[side] = (
            (type(metrics["i"].data), point.attributes, point.count, point.sum, tuple(point.bucket_counts)),
            (tuple(point.explicit_bounds), point.min, point.max),
            (type(gauge.data), gauge.unit, gauge.description, quantile.attributes),
        )

    assert found["ours"] == found["stock"]


def test_quantile_labels_are_those_of_the_stock_provider(both: dict[str, Provide], clock: Clock) -> None:
    """Each quantile is written in the same way, so that a series keeps its identity when the provider changes."""
    quantiles = [0, 1, 0.1, 0.5, 1 / 3, 0.9999, 0.99999, 1e-5, 1e-7, 0.30000000000000004]
    labels = {}
    for side, provide in both.items():
        reader = InMemoryMetricReader()
        view = View(instrument_name="i", aggregation=hdr(clock, quantiles))
        Instrumented(provide(reader, [view]), reader, "Histogram").record(1)
        labels[side] = sorted(dict(key)["quantile"] for key in by_quantile(reader))

    assert len(labels["ours"]) == len(quantiles)
    assert labels["ours"] == labels["stock"]


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
def test_a_short_window_is_the_time_between_collections(temporality: Temporality, make_provider: Make) -> None:
    """Quantiles of a window that is over at every collection are those since the last one, whatever the temporality; none of an idle series."""
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    view = View(instrument_name="i", aggregation=HdrHistogramAggregation(quantiles=[0, 1], window=1e-9))
    instrument = Instrumented(make_provider(reader, views=[view]), reader, "Histogram")
    for amounts in ((1, 2), (3, 4, 5), (), (6,)):
        for amount in amounts:
            instrument.record(amount)
        found = sorted(by_quantile(reader).values())
        assert found == pytest.approx([min(amounts), max(amounts)] if amounts else [], rel=0.001)


def test_a_long_window_is_everything_so_far(make_provider: Make) -> None:
    """Quantiles of a window that is longer than the program has run are those of all recordings, also for a delta reader."""
    reader = InMemoryMetricReader(preferred_temporality=TEMPORALITIES["delta"])
    view = View(instrument_name="i", aggregation=HdrHistogramAggregation(quantiles=[0, 1], window=86_400))
    instrument = Instrumented(make_provider(reader, views=[view]), reader, "Histogram")
    for amount in (5, 1, 3):
        instrument.record(amount)
        found = sorted(by_quantile(reader).values())
    assert found == pytest.approx([1, 5], rel=0.001)


def test_every_reader_has_its_own_window(make_provider: Make) -> None:
    """What one reader has collected another one still has to come, in windows of its own."""
    readers = [InMemoryMetricReader() for _ in range(2)]
    view = View(instrument_name="i", aggregation=HdrHistogramAggregation(quantiles=[0.5], window=1e-9))
    instrument = Instrumented(make_provider(*readers, views=[view]), readers[0], "Histogram")
    instrument.record(1)
    assert list(by_quantile(readers[0]).values()) == [1]
    instrument.record(3)
    instrument.record(3)

    assert list(by_quantile(readers[0]).values()) == [3]
    assert list(by_quantile(readers[1]).values()) == [3]
    assert by_quantile(readers[0]) == by_quantile(readers[1]) == {}


@pytest.mark.parametrize("kind", ["UpDownCounter", "Gauge"])
def test_negative_values_count_natively_in_quantiles_too(kind: str, both: dict[str, Provide], clock: Clock) -> None:
    """Negative values are in the buckets on both sides, and in quantiles on ours, where they are no more exact than positive ones."""
    found: dict[str, list[float]] = {}
    for side, provide in both.items():
        reader = InMemoryMetricReader()
        view = View(instrument_name="i", aggregation=hdr(clock, [0, 1]))
        instrument = Instrumented(provide(reader, [view]), reader, kind)
        for amount in (-5, -0.5, 3, 1):
            instrument.record(amount)
        metrics: dict[str, Any] = metrics_of(reader)
        assert [point.count for point in metrics["i"].data.data_points] == [4]
        found[side] = sorted(point.value for point in metrics["i.quantile"].data.data_points)

    assert found["stock"] == pytest.approx([1, 3], rel=0.001)
    assert found["ours"] == pytest.approx([-5, 3], rel=0.001)


def test_the_overflow_series_has_quantiles(make_provider: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds no series is in the quantiles of the overflow series, beside those of the others."""
    monkeypatch.setenv("OTEL_PERF_CARDINALITY_LIMIT", "2")
    reader = InMemoryMetricReader()
    view = View(instrument_name="i", aggregation=HdrHistogramAggregation(quantiles=[0, 1]))
    instrument = Instrumented(make_provider(reader, views=[view]), reader, "Histogram")
    for number in range(1, 6):
        instrument.record(number, {"a": f"v{number}"})
    found = {(dict(key).get("a"), dict(key)["quantile"]): value for key, value in by_quantile(reader).items()}

    expected = {("v1", "0"): 1, ("v1", "1"): 1, ("v2", "0"): 2, ("v2", "1"): 2, (None, "0"): 3, (None, "1"): 5}
    assert found == pytest.approx(expected, rel=0.001)


def test_percentiles_leave_the_buckets_to_the_reader(make_provider: Make) -> None:
    """A reader that prefers exponential histograms gets one, with the same quantiles beside it."""
    readers = [
        InMemoryMetricReader(),
        InMemoryMetricReader(preferred_aggregation={sdk.Histogram: ExponentialBucketHistogramAggregation()}),
    ]
    view = View(instrument_name="i", name="renamed", aggregation=HdrHistogramAggregation(quantiles=[0.5]))
    instrument = Instrumented(make_provider(*readers, views=[view]), readers[0], "Histogram")
    instrument.record(3)
    found = [metrics_of(reader) for reader in readers]

    assert [type(metrics["renamed"].data).__name__ for metrics in found] == ["Histogram", "ExponentialHistogram"]
    # Unlike with the stock provider the gauge has the stream's name.
    assert [metrics["renamed.quantile"].data.data_points[0].value for metrics in found] == [3, 3]


def test_without_quantiles_there_is_the_histogram_alone(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """An aggregation with no quantiles makes no gauge."""
    view = View(instrument_name="i", aggregation=HdrHistogramAggregation(quantiles=[]))
    Instrumented(make_provider(reader, views=[view]), reader, "Histogram").record(3)

    assert {name: type(metric.data) for name, metric in metrics_of(reader).items()} == {"i": Histogram}


@pytest.mark.parametrize("create", OBSERVABLES)
def test_observables_keep_their_aggregation(
    create: str, both: dict[str, Provide], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A view with percentiles leaves an observable instrument its aggregation, which the log says once, and does all else that it says."""
    found: dict[str, Any] = {}
    for side, provide in both.items():
        caplog.clear()
        reader = InMemoryMetricReader()
        views = [
            View(instrument_name="o", name="renamed", attribute_keys={"a"}, aggregation=hdr(clock)),
            View(instrument_name="o", name="other"),
        ]
        meter = provide(reader, views).get_meter("m")
        getattr(meter, create)("o", [lambda _: [Observation(5, {"a": 1, "b": 2})]])
        for _ in range(2):
            metrics: dict[str, Any] = metrics_of(reader)
            found[side] = {
                name: (type(metric.data), [(point.attributes, point.value) for point in metric.data.data_points])
                for name, metric in metrics.items()
            }
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert caplog.messages[0].endswith(" is not applied to o, which is observable")

    assert found["ours"] == found["stock"]
    assert found["ours"]["renamed"] == (OBSERVABLES[create][1], [({"a": 1}, 5)])


@pytest.mark.parametrize("create", OBSERVABLES)
def test_a_reader_that_prefers_percentiles_of_observables(
    create: str, both: dict[str, Provide], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader's preference for percentiles of observable instruments leaves them with their own aggregation, on both sides, and is a line."""
    kind, expected = OBSERVABLES[create]
    for provide in both.values():
        caplog.clear()
        preferred: dict[type, Aggregation] = {getattr(sdk, kind): hdr(clock)}
        reader = InMemoryMetricReader(preferred_aggregation=preferred)
        getattr(provide(reader, []).get_meter("m"), create)("o", [lambda _: [Observation(5)]])
        assert {name: type(metric.data) for name, metric in metrics_of(reader).items()} == {"o": expected}
        (message,) = caplog.messages
        assert message.startswith("HdrHistogramAggregation(")
        assert message.endswith(", which is observable")
