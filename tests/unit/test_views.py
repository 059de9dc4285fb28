"""Views on native instruments: every way to a series leads to all streams, bound series follow views, and dropping keeps nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)

from otel_perf import MeterProvider
from otel_perf.metrics import memory_usage
from otel_perf.metrics.attribute_keys import AttributeKeys
from tests.conftest import points_of
from tests.unit.instrumented import KINDS, Instrumented

Make = Callable[..., MeterProvider]
BY_A = View(instrument_name="i", name="by.a", attribute_keys={"a"}, aggregation=SumAggregation())
BY_B = View(instrument_name="i", name="by.b", attribute_keys={"b"}, aggregation=SumAggregation())
ALL = View(instrument_name="i", name="all", attribute_keys=set(), aggregation=SumAggregation())
DROPPED = View(instrument_name="i", name="dropped", aggregation=DropAggregation())
AB: dict[str, Any] = {"a": 1, "b": "x"}
HELD = (1, "x", "y")


def sums(reader: InMemoryMetricReader) -> dict[tuple[str, tuple[Any, ...]], Any]:
    """Sums by metric and attribute values."""
    points = points_of(reader.get_metrics_data())
    return {(name, tuple(sorted(dict(found).values()))): point.value for (name, found), point in points.items()}


def literal(number: int) -> dict[str, Any]:
    """A dict that is made for the call; its values are equal, but not the same objects as those before."""
    return {"a": 1, "b": f"value {number % 2}".title()}


WAYS: dict[str, Callable[[int], dict[Any, Any]]] = {
    "the same dict": lambda _: AB,
    "a dict with the same objects": lambda number: {"a": HELD[0], "b": HELD[1 + number % 2]},
    "a dict of equal objects": literal,
    "in another order": lambda number: {"b": "x", "a": 1} if number % 2 else {"a": 1, "b": "x"},
    "more pairs than are looked up by address": lambda _: {"a": 1, "b": "x", **dict.fromkeys(map(str, range(20)), 0)},
    "with a list": lambda _: {"a": 1, "b": "x", "c": [1, 2]},
    "with a key that is no string": lambda _: {"a": 1, "b": "x", 5: None},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_a_series_leads_to_all_streams(
    kind: str, way: str, make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """However attributes are found, at the first recording or the hundredth, each stream gets each recording once, in its own series."""
    instrument = Instrumented(make_provider(reader, views=[BY_A, BY_B, ALL, DROPPED]), reader, kind)
    for number in range(100):
        instrument.record(2, WAYS[way](number))
    found = sums(reader)

    assert found["by.a", (1,)] == 200
    assert sum(value for (name, _), value in found.items() if name == "by.b") == 200
    assert found["all", ()] == 200
    assert {name for name, _ in found} == {"by.a", "by.b", "all"}


@pytest.mark.parametrize("kind", KINDS)
def test_series_that_share_a_stream_stay_apart_in_the_others(
    kind: str, make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """Attribute sets that one view makes equal are one series there and two where the difference is kept, in turns too."""
    instrument = Instrumented(make_provider(reader, views=[BY_A, BY_B, ALL]), reader, kind)
    for _ in range(50):
        for attributes in ({"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, None):
            instrument.record(1, attributes)

    assert sums(reader) == {
        ("by.a", ()): 50,
        ("by.a", (1,)): 100,
        ("by.a", (2,)): 50,
        ("by.b", ()): 50,
        ("by.b", ("x",)): 100,
        ("by.b", ("y",)): 50,
        ("all", ()): 200,
    }


@pytest.mark.parametrize("attributes", [AB, {"a": 1, "b": "x", "c": [1]}, {"b": "x", 5: 1, "a": 1}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_bound_series_have_what_views_keep(
    kind: str, attributes: Any, make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """A bound series is one of each stream: those that its attributes have in each view, whether bound early or late."""
    instrument = Instrumented(make_provider(reader, views=[BY_A, BY_B, ALL, DROPPED]), reader, kind)
    early = instrument.bound(attributes)
    early(1)
    instrument.record(10, attributes)
    instrument.bound(attributes)(100)
    early(1000)

    assert sums(reader) == {("by.a", (1,)): 1111, ("by.b", ("x",)): 1111, ("all", ()): 1111}


def test_what_is_bound_without_attributes_is_the_series_without(
    make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """Nothing bound, or None, or an empty set, or one that no view keeps, is one and the same series of each stream."""
    instrument = Instrumented(make_provider(reader, views=[BY_A, ALL]), reader, "Counter")
    for attributes in ((), (None,), ({},), ({"z": 1},)):
        instrument.bound(*attributes)(1)

    assert sums(reader) == {("by.a", ()): 4, ("all", ()): 4}


def test_bound_attributes_are_those_at_the_time_of_binding(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A dict that is changed after it was bound changes neither the series nor the filtered attributes of exemplars."""
    provider = make_provider(reader, views=[BY_A], exemplar_filter=sdk.AlwaysOnExemplarFilter())
    attributes = {"a": 1, "b": "x"}
    counter = provider.get_meter("m").create_counter("i")
    bound = counter.bind(attributes)  # type: ignore[attr-defined]
    attributes.update(a=2, b="y")
    bound.add(1)
    ((key, point),) = points_of(reader.get_metrics_data()).items()

    assert key == ("by.a", frozenset({("a", 1)}))
    assert [exemplar.filtered_attributes for exemplar in point.exemplars] == [{"b": "x"}]


def test_keys_may_be_excluded(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """`AttributeKeys` leaves keys out of every kind of recording, bound ones too."""
    keys: Any = AttributeKeys(excluded=["user.*"])
    view = View(instrument_name="i", attribute_keys=keys)
    instrument = Instrumented(make_provider(reader, views=[view]), reader, "Counter")
    for number in range(20):
        instrument.record(1, {"a": 1, "user.id": number})
        instrument.bound({"a": 1, "user.name": str(number)})(1)

    assert instrument.points() == {frozenset({("a", 1)}): 40}


class Raising(set[str]):
    """Attribute keys that cannot be asked."""

    def __contains__(self, key: object) -> bool:
        raise RuntimeError(key)


def test_keys_that_cannot_be_asked_cost_the_attributes(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """If the container of a view's keys raises, recordings do not: they are counted in the overflow series, and as a drop."""
    view = View(instrument_name="i", attribute_keys=Raising())
    instrument = Instrumented(make_provider(reader, views=[view]), reader, "Counter")
    instrument.record(1, {"a": 1})
    instrument.bound({"a": 1})(1)

    assert instrument.points() == {frozenset({("otel.metric.overflow", True)}): 2}
    assert sum(instrument.drops().values()) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dropped_leaves_nothing_behind(kind: str, make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A view that drops makes no stream and no series, takes no memory for any number of attribute sets, and counts nothing as lost."""
    provider = make_provider(reader, views=[View(instrument_name="i", aggregation=DropAggregation())])
    instrument = Instrumented(provider, reader, kind)
    segment, caches = provider.segment.memory_usage(), instrument.instrument._memory
    bound = instrument.bound({"a": "bound"})
    for number in range(1000):
        instrument.record(1, {"a": number})
        bound(1)

    assert provider.segment.memory_usage() == segment
    assert instrument.instrument._memory == caches
    assert provider.segment.status()["streams"] == provider.segment.status()["series"] == 0
    assert instrument.drops() == {}
    assert reader.get_metrics_data() is None


def test_what_is_dropped_beside_a_stream_costs_nothing_more(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """One view that keeps and one that drops have the series of the first alone."""
    provider = make_provider(reader, views=[BY_A, DROPPED])
    instrument = Instrumented(provider, reader, "Counter")
    for number in range(100):
        instrument.record(1, {"a": 1, "b": number})

    assert provider.segment.status()["streams"] == 1
    # Its own and the overflow series.
    assert provider.segment.status()["series"] == 2


def test_wrong_calls_of_what_is_dropped_raise_as_ever(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """An amount that is no number is a TypeError also where nothing is kept; a wrong value is logged and counted."""
    provider = make_provider(reader, views=[View(instrument_name="i", aggregation=DropAggregation())])
    instrument = Instrumented(provider, reader, "Counter")
    with pytest.raises(TypeError):
        instrument.record("1")
    instrument.record(-1)

    assert instrument.drops() == {"wrong_type": 1, "negative": 1}


def test_memory_by_parts_has_the_streams(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """Every view more is one stream more, and one more series for each attribute set, in the segment and in the caches."""
    one, three = InMemoryMetricReader(), reader
    few = Instrumented(make_provider(one, views=[ALL]), one, "Counter")
    many = Instrumented(make_provider(three, views=[BY_A, BY_B, ALL]), three, "Counter")
    for number in range(100):
        for instrument in (few, many):
            instrument.record(1, {"a": number, "b": number})

    assert few.instrument._memory < many.instrument._memory
    assert memory_usage()["process_caches"] >= few.instrument._memory + many.instrument._memory
    assert many._provider.segment.status()["series"] == 100 + 100 + 1 + 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_overflow_is_for_each_stream(kind: str, make_provider: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one stream has no series left the others still have theirs, and the sum of each is whole."""
    monkeypatch.setenv("OTEL_PERF_CARDINALITY_LIMIT", "3")
    reader = InMemoryMetricReader()
    instrument = Instrumented(make_provider(reader, views=[BY_A, BY_B]), reader, kind)
    for repetition in range(2):
        for number in range(10):
            instrument.record(1, {"a": f"v{number}", "b": repetition})
            instrument.bound({"a": f"v{number}", "b": repetition})(1)
    found = sums(reader)

    assert {key: value for key, value in found.items() if key[0] == "by.b"} == {("by.b", (0,)): 20, ("by.b", (1,)): 20}
    assert sum(value for (name, _), value in found.items() if name == "by.a") == 40
    assert found["by.a", (True,)] == 28


def test_a_stream_without_room_costs_only_itself(
    make_provider: Make, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the segment has no room for more streams, those that are there go on, nothing raises, and what is lost is counted."""
    monkeypatch.setenv("OTEL_PERF_MEMORY_LIMIT", str(131_072))
    views = [
        View(instrument_name="i", name=f"n{number}", aggregation=ExplicitBucketHistogramAggregation([1.0]))
        for number in range(2000)
    ]
    instrument = Instrumented(make_provider(reader, views=views), reader, "Histogram")
    instrument.record(1)
    instrument.bound({"a": 1})(1)
    counts = [point.count for point in points_of(reader.get_metrics_data()).values()]

    assert 0 < len(counts) < 2 * len(views)
    assert set(counts) <= {1, 2}


def test_the_conflict_of_two_views_is_named_once_for_each_instrument(
    make_provider: Make, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """Views that give two instruments one identity are a line that shows both views; both instruments are exported."""
    first, second = (View(instrument_name=name, name="one") for name in ("first", "second"))
    meter = make_provider(reader, views=[first, second]).get_meter("m")
    for name in ("first", "second", "FIRST"):
        meter.create_counter(name).add(1)

    assert caplog.messages == [f"Views {first} and {second} will cause conflicting metrics identities"]
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    assert [(metric.name, metric.data.data_points[0].value) for metric in metrics] == [("one", 2), ("one", 1)]  # type: ignore[union-attr]


def test_names_that_differ_in_case_are_one_instrument(
    make_provider: Make, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """An instrument asked for in another case is the same object with the same streams; another unit is another one, with a warning."""
    meter = make_provider(reader, views=[View(instrument_name="SHOP.*", attribute_keys=set())]).get_meter("m")
    first, second = meter.create_counter("Shop.Orders"), meter.create_counter("shop.orders")
    first.add(1, {"a": 1})
    second.add(1, {"a": 2})
    assert first is second
    assert caplog.messages == []
    other = meter.create_counter("shop.ORDERS", "By")

    assert other is not first
    assert points_of(reader.get_metrics_data())["shop.orders", frozenset()].value == 2


def test_a_view_without_any_selector_is_refused(make_provider: Make) -> None:
    """The SDK's own checks of a view hold: something to select by, and no pattern beside a name."""
    with pytest.raises(Exception, match="criteria must be provided"):
        make_provider(views=[View(name="x")])
    with pytest.raises(Exception, match="wildcard"):
        make_provider(views=[View(instrument_name="a*", name="x")])


def test_a_last_value_beside_a_sum_is_of_the_same_recordings(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """Streams of one instrument that store differently agree on what was recorded last and in all."""
    views = [
        View(instrument_name="i", name="sum", aggregation=SumAggregation()),
        View(instrument_name="i", name="last", aggregation=LastValueAggregation()),
    ]
    instrument = Instrumented(make_provider(reader, views=views), reader, "Gauge")
    for value in (3, -1, 2.5):
        instrument.record(value)

    assert sums(reader) == {("sum", ()): 4.5, ("last", ()): 2.5}
