"""Streams follow the readers: those that come and go at run time, and those that want different things of one view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)

from otel_perf import MeterProvider
from otel_perf.metrics import EwmaAggregation, HdrHistogramAggregation
from tests.conformance.harness import DELTA, LIMITS, STOCK, points
from tests.conformance.spans import remote, within
from tests.unit.instrumented import KINDS, Instrumented
from tests.unit.stock import metrics_of

Make = Callable[..., MeterProvider]
CLASSES: dict[str, type] = {
    "Counter": sdk.Counter,
    "UpDownCounter": sdk.UpDownCounter,
    "Histogram": sdk.Histogram,
    "Gauge": sdk._Gauge,
}
ON = sdk.AlwaysOnExemplarFilter()


def preferring(kind: str, aggregation: Aggregation, temporality: Any = None) -> InMemoryMetricReader:
    """A reader that prefers an aggregation for one kind."""
    return InMemoryMetricReader(preferred_temporality=temporality, preferred_aggregation={CLASSES[kind]: aggregation})


def shapes(reader: InMemoryMetricReader) -> list[tuple[str, Any]]:
    """Class of the data and number, count or sum of each metric's points."""
    return [
        (type(metric.data).__name__, [getattr(p, "count", getattr(p, "value", None)) for p in metric.data.data_points])
        for metric in metrics_of(reader).values()
    ]


SHAPES: dict[str, tuple[Aggregation, str]] = {
    "sum": (SumAggregation(), "Sum"),
    "last value": (LastValueAggregation(), "Gauge"),
    "explicit": (ExplicitBucketHistogramAggregation([5.0]), "Histogram"),
    "exponential": (ExponentialBucketHistogramAggregation(), "ExponentialHistogram"),
}


EVERYTHING = {
    "Counter": ("sum",),
    "UpDownCounter": ("sum",),
    "Histogram": ("explicit", "exponential"),
    "Gauge": ("last value",),
}
"""Shapes that are made of what an instrument keeps without being told; of others nothing is known from before."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_exists_follows_a_reader_that_comes(
    kind: str, shape: str, make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """An instrument, and what is bound to it, also record as a later reader wants them, from when it comes, and as before for the others."""
    provider = make_provider(reader)
    instrument = Instrumented(provider, reader, kind)
    bound = instrument.bound({"a": 1})
    aggregation, expected = SHAPES[shape]
    late = preferring(kind, aggregation)
    for amount in (3, 5):
        instrument.record(amount, {"a": 1})
        bound(amount)
        if amount == 3:
            provider.add_metric_reader(late)
    everything = shape in EVERYTHING[kind]
    if "ex" in shape:
        counted = 4 if everything else 2
    elif shape == "sum":
        counted = 16 if everything else 10
    else:
        counted = 5

    assert shapes(late) == [(expected, [counted])]
    assert [value for _, (value,) in shapes(reader)] == [{"Histogram": 4, "Gauge": 5}.get(kind, 16)]


@pytest.mark.parametrize("kind", KINDS)
def test_recording_before_any_reader_is_kept(kind: str, make_provider: Make) -> None:
    """Without a reader an instrument records as its kind does, and the first reader gets all of it, from bound series too."""
    provider = make_provider()
    reader = InMemoryMetricReader()
    instrument = Instrumented(provider, reader, kind)
    bound = instrument.bound({"a": 1})
    instrument.record(3, {"a": 1})
    bound(4)
    provider.add_metric_reader(reader)
    instrument.record(5, {"a": 1})
    bound(6)

    assert instrument.values() == [6 if kind == "Gauge" else 18]


@pytest.mark.parametrize("kind", KINDS)
def test_what_all_readers_dropped_is_recorded_when_one_wants_it(kind: str, make_provider: Make) -> None:
    """Instruments and bound series of which nobody wanted anything begin to record with the first reader that does, and end with the last."""
    dropping = preferring(kind, DropAggregation())
    wanting = InMemoryMetricReader()
    provider = make_provider(dropping)
    instrument = Instrumented(provider, wanting, kind)
    bound = instrument.bound({"a": 1})

    def record() -> None:
        instrument.record(3, {"a": 1})
        bound(3)

    record()
    assert provider.segment.status()["streams"] == 0
    provider.add_metric_reader(wanting)
    record()
    assert instrument.values() == [3 if kind == "Gauge" else 6]
    assert dropping.get_metrics_data() is None

    provider.remove_metric_reader(wanting)
    series = provider.segment.status()["series"]
    for number in range(10):
        instrument.record(3, {"b": number})
    record()
    assert provider.segment.status()["series"] == series
    assert instrument.drops() == {}


def test_a_view_that_drops_stays_dropped_for_all(make_provider: Make) -> None:
    """What a view drops no reader gets, whatever it prefers and whenever it comes."""
    provider = make_provider(views=[View(instrument_name="i", aggregation=DropAggregation())])
    readers = [preferring("Counter", aggregation) for aggregation, _ in SHAPES.values()]
    instrument = Instrumented(provider, readers[0], "Counter")
    for reader in readers:
        provider.add_metric_reader(reader)
        instrument.record(1)

    assert [reader.get_metrics_data() for reader in readers] == [None] * len(readers)
    assert provider.segment.status()["streams"] == 0


def test_observables_follow_a_reader_that_comes(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """Callbacks report into the streams of all readers, also of one that came after the instrument."""
    provider = make_provider(reader)
    provider.get_meter("m").create_observable_counter("i", [lambda _: [Observation(5), Observation(7, {"a": 1})]])
    assert shapes(reader) == [("Sum", [5, 7])]
    late = InMemoryMetricReader(preferred_aggregation={sdk.ObservableCounter: LastValueAggregation()})
    provider.add_metric_reader(late)

    assert shapes(late) == [("Gauge", [5, 7])]
    assert shapes(reader) == [("Sum", [5, 7])]


def everything(kind: str) -> dict[str, InMemoryMetricReader]:
    """Readers that want different things of one kind."""
    return {
        "cumulative": InMemoryMetricReader(),
        "delta": InMemoryMetricReader(preferred_temporality=DELTA),
        "drop": preferring(kind, DropAggregation()),
        "sum": preferring(kind, SumAggregation()),
        "delta sum": preferring(kind, SumAggregation(), DELTA),
        "last": preferring(kind, LastValueAggregation()),
        "delta last": preferring(kind, LastValueAggregation(), DELTA),
        "fine": preferring(kind, ExplicitBucketHistogramAggregation([2.0, 5.5, 50.0])),
        "coarse": preferring(kind, ExplicitBucketHistogramAggregation([6.5], record_min_max=False), DELTA),
        "exponential": preferring(kind, ExponentialBucketHistogramAggregation(max_size=4)),
        "delta exponential": preferring(kind, ExponentialBucketHistogramAggregation(max_scale=1), DELTA),
    }


def told(provider: sdk.MeterProvider, readers: dict[str, InMemoryMetricReader], kind: str) -> dict[str, list[Any]]:
    """What each reader gets of three intervals, collecting in turn; without exponential scales, which differ."""
    instrument = Instrumented(provider, next(iter(readers.values())), kind)
    found: dict[str, list[Any]] = {name: [] for name in readers}
    for amounts in ((3, 7, 300), (), (7.75, 0.25)):
        for amount in amounts:
            instrument.record(amount, {"a": 1})
        for name, reader in readers.items():
            found[name].append(
                [
                    (
                        type(point).__name__,
                        getattr(point, "value", None),
                        getattr(point, "count", None),
                        getattr(point, "sum", None),
                        tuple(getattr(point, "bucket_counts", ())),
                        getattr(point, "min", None),
                        getattr(point, "max", None),
                    )
                    for point in points(reader.get_metrics_data())
                ]
            )
    return found


@pytest.mark.parametrize("view", [None, View(instrument_name="i", attribute_keys=set())], ids=["no view", "a view"])
@pytest.mark.parametrize("kind", KINDS)
def test_readers_with_other_wishes_do_not_disturb_each_other(kind: str, view: View | None, make_provider: Make) -> None:
    """Eleven readers at once, of every temporality and aggregation, each get what they get from the stock SDK."""
    options: Any = {"views": [view] if view else [], "shutdown_on_exit": False}
    mine, stocks = everything(kind), everything(kind)
    stock = STOCK(list(stocks.values()), **options)
    expected = told(stock, stocks, kind)
    stock.shutdown()

    assert told(make_provider(*mine.values(), views=options["views"]), mine, kind) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_readers_that_store_alike_share_a_stream(kind: str, make_provider: Make) -> None:
    """A stream is for a way to store, not for a reader: temporality, boundaries and buckets make no further series."""
    provider = make_provider(*everything(kind).values())
    Instrumented(provider, InMemoryMetricReader(), kind).record(1, {"a": 1})

    assert provider.segment.status()["streams"] == 3
    # Sum, last value and slots; each its own series and an overflow series.
    assert provider.segment.status()["series"] == 6


@pytest.mark.parametrize("wanted", [DELTA, {}], ids=["delta", "cumulative"])
def test_readers_of_other_exemplar_needs(wanted: Any, make_provider: Make) -> None:
    """Of one recording each reader gets the exemplar in the form of its own buckets: one for a sum, one for each bucket of a histogram."""
    readers = [
        InMemoryMetricReader(preferred_temporality=wanted, preferred_aggregation={sdk.Histogram: aggregation})
        for aggregation in (
            SumAggregation(),
            ExplicitBucketHistogramAggregation([5.0, 50.0]),
            ExponentialBucketHistogramAggregation(),
        )
    ]
    histogram = make_provider(*readers).get_meter("m").create_histogram("h")
    for number, amount in enumerate((3, 20, 90)):
        histogram.record(amount, None, within(remote(number)))
    found = [
        [
            (exemplar.value, exemplar.span_id)
            for point in points(reader.get_metrics_data())
            for exemplar in point.exemplars
        ]
        for reader in readers
    ]
    three = [(3, remote(0)), (20, remote(1)), (90, remote(2))]

    assert found[0] == [(3, remote(0).get_span_context().span_id)]
    assert found[1] == found[2] == [(value, span.get_span_context().span_id) for value, span in three]
    assert [point.exemplars for reader in readers for point in points(reader.get_metrics_data())] == (
        [] if wanted else [[], [], []]
    )


@pytest.mark.skipif(not LIMITS, reason="the installed opentelemetry-sdk has no cardinality limits (before 1.45.2)")
def test_a_late_reader_with_another_limit_has_a_stream_of_its_own(make_provider: Make) -> None:
    """A reader that comes with a lower limit gets its overflow series, and the first reader keeps its series."""
    options: dict[str, Any] = {"cardinality_limits": {sdk.Counter: 3}}
    first, late = InMemoryMetricReader(), InMemoryMetricReader(**options)
    provider = make_provider(first)
    counter = provider.get_meter("m").create_counter("c")
    provider.add_metric_reader(late)
    for number in range(10):
        counter.add(1, {"a": number})

    assert len(points(first.get_metrics_data())) == 10
    assert sorted(point.value for point in points(late.get_metrics_data())) == [1, 1, 1, 7]


@pytest.mark.parametrize("by", ["at the start", "later"])
def test_a_wrong_preference_is_refused_and_the_others_stay(by: str, make_provider: Make) -> None:
    """A reader that prefers an aggregation of the user's own is a ValueError that names the accepted ones; a provider goes on without it."""

    class Own(Aggregation):
        def _create_aggregation(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    refused, reader = preferring("Counter", Own()), InMemoryMetricReader()
    if by == "at the start":
        with pytest.raises(ValueError, match=r"aggregation is Own; accepted .*HdrHistogramAggregation"):
            make_provider(refused)
        return
    provider = make_provider(reader)
    counter = provider.get_meter("m").create_counter("c")
    with pytest.raises(ValueError, match=r"aggregation is Own; accepted .*HdrHistogramAggregation"):
        provider.add_metric_reader(refused)
    counter.add(3)

    assert [point.value for point in points(reader.get_metrics_data())] == [3]


@pytest.mark.parametrize("aggregation", [HdrHistogramAggregation(), EwmaAggregation()], ids=repr)
def test_our_aggregations_may_come_with_a_late_reader(aggregation: Aggregation, make_provider: Make) -> None:
    """A reader that is added at run time may prefer ours, and an instrument that is there already follows."""
    reader, late = InMemoryMetricReader(), preferring("Histogram", aggregation)
    provider = make_provider(reader)
    instrument = Instrumented(provider, reader, "Histogram")
    bound = instrument.bound({"a": 1})
    bound(3)
    provider.add_metric_reader(late)
    for _ in range(3):
        bound(5)
    found = metrics_of(late)

    assert set(found) == ({"i"} if isinstance(aggregation, EwmaAggregation) else {"i", "i.quantile"})
    if isinstance(aggregation, EwmaAggregation):
        assert [point.value for point in found["i"].data.data_points] == [5.0]
    else:
        assert [point.count for point in found["i"].data.data_points] == [4]
        quantiles = found["i.quantile"]
        assert quantiles.description == "Quantiles of i over the last 60 s"
        assert [point.value for point in quantiles.data.data_points] == [5.0] * 5


def test_readers_that_come_and_go_add_no_memory(make_provider: Make) -> None:
    """A reader that is added and removed again and again finds the streams that are there: nothing grows."""
    provider = make_provider()
    instrument = Instrumented(provider, InMemoryMetricReader(), "Counter")
    bound = instrument.bound({"a": 1})
    sizes: list[Any] = []
    for _ in range(5):
        late: MetricReader = preferring("Counter", ExplicitBucketHistogramAggregation([5.0]), DELTA)
        provider.add_metric_reader(late)
        instrument.record(1, {"a": 1})
        bound(1)
        late.collect()
        provider.remove_metric_reader(late)
        sizes.append((provider.segment.memory_usage(), instrument.instrument._memory))

    assert sizes[1:] == sizes[:-1]
