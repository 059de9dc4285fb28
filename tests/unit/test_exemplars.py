"""Exemplars of native instruments: which recording is kept, what of it, how many, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    SumAggregation,
    View,
)

from otel_perf import MeterProvider
from otel_perf.metrics import HdrHistogramAggregation
from tests.conformance.harness import TEMPORALITIES, Temporality, points, typed
from tests.conformance.spans import ON, active, remote, within
from tests.unit.instrumented import KINDS, Instrumented

Make = Callable[..., MeterProvider]
MOST_ASKING = 1024
"""Recordings of a series and window among which exemplars are looked for."""
PATIENCE = 32
RARELY = 8
"""After so many recordings in a row that could not become one, one in eight is looked at."""
ATTRIBUTES_MAX = 128
"""Bytes that an exemplar has for filtered attributes."""


def exemplars(reader: InMemoryMetricReader) -> list[Exemplar]:
    """Collects, and answers all exemplars in the order of their points."""
    return [exemplar for point in points(reader.get_metrics_data()) for exemplar in point.exemplars]


def values(reader: InMemoryMetricReader) -> list[Any]:
    """Values of all exemplars."""
    return [exemplar.value for exemplar in exemplars(reader)]


def filtered(reader: InMemoryMetricReader) -> list[Any]:
    """Filtered attributes of all exemplars, with types."""
    return [typed(dict(exemplar.filtered_attributes or {})) for exemplar in exemplars(reader)]


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_bound_series_has_exemplars(kind: str, temporality: Temporality, make_provider: Make) -> None:
    """A recording of a bound series is an exemplar like any other: its span, its value, and what the view takes off its attributes."""
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    view = View(instrument_name="i", attribute_keys={"a"})
    instrument = Instrumented(make_provider(reader, views=[view]), reader, kind)
    bound = instrument.bound({"a": 1, "b": "x"})
    bound(1)
    assert exemplars(reader) == []
    for number in (1, 2):
        with active(within(remote(number))):
            bound(number)
        (found,) = exemplars(reader)
        span = remote(number).get_span_context()
        assert (found.value, found.span_id, found.trace_id) == (number, span.span_id, span.trace_id)
        assert found.filtered_attributes == {"b": "x"}
    assert exemplars(reader) == []


@pytest.mark.parametrize("way", ["bound", "bound, by name", "unbound, by name", "unbound"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_context_that_is_given_goes_before_the_active_one(
    kind: str, way: str, make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """A context argument says which span counts, by position and by name, bound and not; an unsampled one in it refuses."""
    instrument = Instrumented(make_provider(reader), reader, kind)
    bound = instrument.bound({"a": 1})

    def record(amount: float, context: Context) -> None:
        if way == "bound":
            bound(amount, context)
        elif way == "bound, by name":
            bound(amount, context=context)
        elif way == "unbound":
            instrument.record(amount, {"a": 1}, context)
        else:
            instrument.record(amount, attributes={"a": 1}, context=context)

    with active(within(remote(1))):
        record(3, within(remote(9, sampled=False)))
        record(4, within(remote(2)))
    (found,) = exemplars(reader)

    assert (found.value, found.span_id) == (4, remote(2).get_span_context().span_id)


BUCKETS: dict[str, tuple[Any, Sequence[float], list[float]]] = {
    "a sum": (SumAggregation(), [3, 4, 500], [3]),
    "explicit": (ExplicitBucketHistogramAggregation([5.0, 50.0]), [3, 4, 7, 8, 500, 5, 600], [3, 7, 500]),
    "exponential": (ExponentialBucketHistogramAggregation(), [3, 3.1, 5, 0, 500, 5.5], [3, 5, 500]),
    # Octaves are those of ten-thousandths here; each has one exemplar, wherever boundaries are.
    "percentiles": (HdrHistogramAggregation(), [3, 3.1, 9, 500], [3, 9, 500]),
}


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
@pytest.mark.parametrize("case", BUCKETS)
def test_the_first_of_each_bucket_and_window_is_kept(case: str, temporality: Temporality, make_provider: Make) -> None:
    """Of the eligible recordings of a bucket the first is kept, and again after each collection; there is none without a recording."""
    aggregation, amounts, expected = BUCKETS[case]
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    view = View(instrument_name="i", aggregation=aggregation)
    instrument = Instrumented(make_provider(reader, views=[view], **ON), reader, "Histogram")
    for _ in range(3):
        for amount in amounts:
            instrument.record(amount)
        assert sorted(values(reader)) == expected
        assert values(reader) == []


def test_what_is_not_eligible_takes_no_place(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A few recordings outside of sampled spans do not use up the window's exemplar, and the first one in a span gets it."""
    instrument = Instrumented(make_provider(reader), reader, "Counter")
    for _ in range(PATIENCE // 2 - 1):
        instrument.record(1, None, within(remote(9, sampled=False)))
        instrument.record(2)
    instrument.record(3, None, within(remote(1)))
    instrument.record(4, None, within(remote(2)))

    assert values(reader) == [3]


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_recordings_are_looked_at_and_then_none(
    kind: str, make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """Outside of sampled spans a series looks at each recording, then at one in eight, and after a thousand at none until the next window."""
    instrument = Instrumented(make_provider(reader), reader, kind)
    for before, expected in ((0, 1), (PATIENCE, 1), (MOST_ASKING - 2 * RARELY, 1), (MOST_ASKING, 0), (PATIENCE, 1)):
        for _ in range(before):
            instrument.record(1)
        # In one octave, so that they compete for one exemplar whatever the kind.
        amounts = [7 + number / 100 for number in range(RARELY)]
        for amount in amounts:
            instrument.record(amount, None, within(remote(1)))
        found = values(reader)
        assert len(found) == expected
        assert set(found) <= set(amounts)


def test_the_limit_of_asking_is_for_each_series(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A busy series that asks no more takes nothing from the others of its instrument."""
    instrument = Instrumented(make_provider(reader), reader, "Histogram")
    for _ in range(2 * MOST_ASKING):
        instrument.record(1, {"a": "busy"})
    for name in ("busy", "idle"):
        instrument.record(7, {"a": name}, within(remote(1)))

    assert [(dict(p.attributes)["a"], len(p.exemplars)) for p in points(reader.get_metrics_data())] == [
        ("busy", 0),
        ("idle", 1),
    ]


TYPES: dict[str, Any] = {
    "text": "x",
    "unicode": "é☃😀",
    "a lone surrogate": "\ud800",
    "empty": "",
    "true": True,
    "integer": -(2**63),
    "float": 1.5,
    "infinite": float("-inf"),
    "bytes": b"\x00\xff",
    "none": None,
    "a list": [1, "x", None, 2.5],
    "a mapping": {"k": {"l": [True]}},
    "a large integer": 2**70,
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("way", ["bound", "unbound"])
def test_filtered_attributes_keep_their_type(
    name: str, way: str, make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """Each type of value comes back as the attributes of a series would have it, sequences as tuples, too large integers as text."""
    views = [View(instrument_name="i", name="none", attribute_keys=set()), View(instrument_name="i", name="all")]
    instrument = Instrumented(make_provider(reader, views=views, **ON), reader, "Counter")
    attributes = {"v": TYPES[name]}
    (instrument.bound(attributes) if way == "bound" else lambda amount: instrument.record(amount, attributes))(1)
    found = {bool(point.attributes): point for point in points(reader.get_metrics_data())}

    assert typed(dict(found[False].exemplars[0].filtered_attributes)) == typed(dict(found[True].attributes))
    assert dict(found[True].exemplars[0].filtered_attributes) == {}


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        ({"a": "x" * 90, "b": "y" * 90}, ["a"]),
        ({"b": "y" * 90, "a": "x" * 90}, ["a"]),
        ({"a": "x" * 90, "b": "y" * 90, "c": 1}, ["a"]),
        ({"a": 1, "b": "y" * ATTRIBUTES_MAX, "c": 2}, ["a"]),
        ({"a": "x" * ATTRIBUTES_MAX, "b": 1}, []),
        ({"é" * 40: 1, "z": 2}, ["z", "é" * 40]),
        ({f"k{number:02}": number for number in range(50)}, [f"k{number:02}" for number in range(9)]),
    ],
    ids=["two", "in another order", "a third", "in the middle", "the first", "unicode", "many"],
)
def test_filtered_attributes_are_kept_up_to_some_bytes(
    attributes: dict[str, Any], kept: list[str], make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """What is more than an exemplar has room for is left out, the last keys first, and the rest is whole; nothing else of it is lost."""
    view = View(instrument_name="i", attribute_keys=set())
    instrument = Instrumented(make_provider(reader, views=[view], **ON), reader, "Counter")
    instrument.record(1, attributes, within(remote(1)))
    (found,) = exemplars(reader)

    assert found.filtered_attributes == {key: attributes[key] for key in kept}
    assert (found.value, found.span_id) == (1, remote(1).get_span_context().span_id)


def test_the_overflow_series_has_exemplars_with_all_attributes(
    make_provider: Make, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exemplar of what found no series has all attributes of its recording, also those that the view keeps."""
    monkeypatch.setenv("OTEL_PERF_CARDINALITY_LIMIT", "1")
    view = View(instrument_name="i", attribute_keys={"a"})
    instrument = Instrumented(make_provider(reader, views=[view], **ON), reader, "Counter")
    instrument.record(1, {"a": 1, "b": 1})
    instrument.record(2, {"a": 2, "b": 2})
    instrument.bound({"a": 3, "b": 3})(3)
    found = {len(point.attributes): point for point in points(reader.get_metrics_data()) if "a" not in point.attributes}

    assert [(e.value, e.filtered_attributes) for e in found[1].exemplars] == [(2, {"a": 2, "b": 2})]


def test_each_stream_has_its_own_exemplar(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """Each view's stream keeps what it takes off, one of them all and one nothing, of one recording."""
    views = [View(instrument_name="i", name=keys or "none", attribute_keys=set(keys)) for keys in ("", "a", "b", "ab")]
    instrument = Instrumented(make_provider(reader, views=views), reader, "Histogram")
    instrument.record(3, {"a": 1, "b": 2}, within(remote(1)))
    found = {tuple(point.attributes): point.exemplars for point in points(reader.get_metrics_data())}

    assert {keys: [e.filtered_attributes for e in of] for keys, of in found.items()} == {
        (): [{"a": 1, "b": 2}],
        ("a",): [{"b": 2}],
        ("b",): [{"a": 1}],
        ("a", "b"): [{}],
    }
    assert {e.span_id for of in found.values() for e in of} == {remote(1).get_span_context().span_id}


def test_several_readers_get_what_is_new_to_them(make_provider: Make) -> None:
    """A reader that collects seldom gets an exemplar of every bucket since its last collection, the newest where others collected between."""
    often, seldom = InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=TEMPORALITIES["delta"])
    provider = make_provider(often, seldom, **ON)
    histogram = provider.get_meter("m").create_histogram("h", explicit_bucket_boundaries_advisory=[5.0, 50.0])
    for amounts in ((1, 2, 10), (3, 4), (100,)):
        for amount in amounts:
            histogram.record(amount)
        assert values(often) == [amounts[0], *amounts[2:]]

    assert values(seldom) == [3, 10, 100]
    assert values(seldom) == values(often) == []


def test_a_reader_that_comes_later_gets_no_older_ones_twice(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A reader that is added gets the exemplars that are kept, once."""
    provider = make_provider(reader, **ON)
    Instrumented(provider, reader, "Counter").record(3)
    late = InMemoryMetricReader()
    provider.add_metric_reader(late)

    assert values(late) == [3]
    assert values(late) == []
    assert values(reader) == [3]


@pytest.mark.parametrize("chosen", ["always_off", "trace_based"])
def test_without_exemplars_there_is_no_table(
    chosen: str, make_provider: Make, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no exemplar was ever kept, because they are off or nothing was sampled, they take no memory."""
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", chosen)
    provider = make_provider(reader)
    instrument = Instrumented(provider, reader, "Histogram")
    for number in range(100):
        instrument.record(1, {"a": number}, within(remote(1, sampled=chosen == "always_off")))
    reader.collect()

    assert provider.segment.memory_usage().get("exemplars", 0) == 0


def test_the_table_is_taken_once_and_does_not_grow(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """The first exemplar takes a sixteenth of the segment at most; many more replace the oldest, which are counted, and do not grow it."""
    provider = make_provider(reader, **ON)
    instrument = Instrumented(provider, reader, "Counter")
    instrument.record(1, {"a": 0})
    taken = provider.segment.memory_usage()["exemplars"]
    for number in range(1500):
        instrument.record(number, {"a": number})
    found = values(reader)

    assert 0 < taken <= provider.segment.size / 16
    assert provider.segment.memory_usage()["exemplars"] == taken
    assert 0 < len(found) <= taken / 192
    assert instrument.drops() == {"no_exemplar": 1500 - len(found)}
    instrument.record(7, {"a": 3})
    assert values(reader) == [7]


def test_a_segment_without_room_counts_what_it_cannot_keep(
    make_provider: Make, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the pool is used up before the first exemplar, recordings go on, and exemplars that have no place are counted."""
    monkeypatch.setenv("OTEL_PERF_MEMORY_LIMIT", str(131_072))
    provider = make_provider(reader)
    instrument = Instrumented(provider, reader, "Histogram")
    for number in range(2000):
        instrument.record(1.7 ** (number % 40), {"a": number})
    instrument.record(3, {"a": 1}, within(remote(1)))
    recorded = sum(point.count for point in points(reader.get_metrics_data()))

    assert recorded == 2001
    assert provider.segment.memory_usage().get("exemplars", 0) > 0 or instrument.drops()["no_exemplar"] > 0


def test_what_is_dropped_keeps_no_exemplars(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """What is dropped by a view has no exemplar either, and takes no table."""
    view = View(instrument_name="i", aggregation=sdk.view.DropAggregation())
    provider = make_provider(reader, views=[view], **ON)
    instrument = Instrumented(provider, reader, "Counter")
    instrument.record(3)
    instrument.bound()(3)

    assert exemplars(reader) == []
    assert provider.segment.memory_usage().get("exemplars", 0) == 0
