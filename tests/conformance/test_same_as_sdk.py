"""The same calls on the stock SDK's provider and on ours export the same points."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from itertools import product
from types import MappingProxyType
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
)

from tests.conformance.harness import TEMPORALITIES, Scenario, both

Collect = Callable[[], None]


class Opaque:
    """An object without a text of its own."""


class Named:
    """An object with a text of its own."""

    def __str__(self) -> str:
        return "named"


RECORD: dict[str, Callable[[Meter], Callable[..., None]]] = {
    "counter": lambda meter: meter.create_counter("c", "1", "text").add,
    "up-down counter": lambda meter: meter.create_up_down_counter("u", "{thing}").add,
    "histogram": lambda meter: meter.create_histogram("h", "s").record,
    "histogram with boundaries": lambda meter: (
        meter.create_histogram("b", "By", explicit_bucket_boundaries_advisory=[1, 2.5, 10]).record
    ),
    "gauge": lambda meter: meter.create_gauge("g").set,
}

AMOUNTS: dict[str, list[Any]] = {
    "integers": [1, 2, 0, 40],
    "zero": [0],
    "float zero": [0.0],
    "floats": [0.5, 0.25, 2.5],
    "an integer, then a float": [1, 0.5, 2],
    "a float, then an integer": [1.0, 2],
    "booleans": [True, False, True],
    "not finite": [float("nan"), float("inf"), float("-inf")],
    "not finite among others": [1, float("nan"), 2],
    "negative": [-1, -0.5],
    "negative zero": [-0.0],
    "one after a tenth": [0.1, 0.2, 0.3],
    "large": [2**40, 2**52],
    "on boundaries": [1, 2.5, 5, 10, 10000, 10100],
    "small": [1e-9, 3e-9],
}

ATTRIBUTES: dict[str, list[Any]] = {
    "none given": [None],
    "empty": [{}, None],
    "a string": [{"k": "v"}],
    "not ASCII": [{"ключ": "é\U0001f600"}],
    "an empty string": [{"k": ""}],
    "a null byte": [{"k": "a\0b", "k\0": "c"}],
    "number types": [{"k": 1}, {"k": 1.0}, {"k": True}, {"k": "1"}],
    "falsy types": [{"k": 0}, {"k": 0.0}, {"k": False}, {"k": None}, {"k": ""}, {"k": b""}, {"k": ()}],
    "bytes": [{"k": b"\x00\xff"}],
    "a null value": [{"k": None}],
    "sequences": [{"k": [1, 2]}, {"k": (1, 2)}, {"k": ["1", "2"]}, {"k": [1.0, 2.0]}, {"k": [True, 2]}],
    "a range": [{"k": range(3)}],
    "sequences of sequences": [{"k": [[1], ("a", None)]}],
    "mappings": [{"k": {"a": 1, "b": [1, 2]}}, {"k": {"b": (1, 2), "a": 1}}],
    "an empty mapping": [{"k": {}}],
    "a mapping with odd keys": [{"k": {"": 1, 2: 3}}],
    "another order": [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
    "one more": [{"a": 1}, {"a": 1, "b": 2}],
    "an empty key": [{"": 1}, {"": 1, "a": 2}],
    "a number as key": [{1: "a"}, {"1": "a"}],
    "none as key": [{None: "a"}],
    "zero as key": [{0: "a"}],
    "an object as key": [{Opaque(): "a", "b": 1}, {Named(): "a"}],
    "objects": [{"k": Named()}, {"k": Opaque()}],
    "decimals": [{"k": Decimal("1.50")}, {"k": Fraction(1, 3)}],
    "a set": [{"k": {1}}],
    "a bytearray": [{"k": bytearray(b"ab")}],
    "another mapping": [MappingProxyType({"k": "v"}), {"k": "v"}],
    "no mapping": [["a", "b"], "text", 5],
    "many": [{f"k{number}": number for number in range(40)}],
    "a large integer": [{"k": 2**62}, {"k": -(2**63)}],
    "not a number": [{"k": float("inf")}, {"k": float("-inf")}],
    "a lone surrogate": [{"k": "\ud800"}],
}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings are compared in tests/unit."""
    caplog.set_level(logging.CRITICAL)


def recordings(kind: str, calls: list[tuple[Any, ...]]) -> Scenario:
    """Makes the calls, collects, makes them again and collects twice, the last time after nothing has happened."""

    def run(meter: Meter, collect: Collect) -> None:
        record = RECORD[kind](meter)
        for _ in range(2):
            for call in calls:
                record(*call)
            collect()
        collect()

    return run


WANTED = {
    *(("delta", kind, amounts) for kind in ("counter", "up-down counter") for amounts in AMOUNTS if "zero" in amounts),
    *((temporality, "gauge", "booleans") for temporality in TEMPORALITIES),
}
"""Combinations of the two tables that test_wanted_differences.py is about."""


@pytest.mark.parametrize(
    ("temporality", "kind", "amounts"), [case for case in product(TEMPORALITIES, RECORD, AMOUNTS) if case not in WANTED]
)
def test_amounts_are_the_sdks(temporality: str, kind: str, amounts: str) -> None:
    """Every amount leaves with the SDK's value and type, in the SDK's bucket, or not at all if the SDK ignores it."""
    stock, ours = both(recordings(kind, [(amount,) for amount in AMOUNTS[amounts]]), TEMPORALITIES[temporality])

    assert ours == stock


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("kind", ["counter", "histogram", "gauge"])
@pytest.mark.parametrize("attributes", ATTRIBUTES)
def test_attributes_are_the_sdks(kind: str, attributes: str, temporality: str) -> None:
    """Attribute sets that are one series for the SDK are one here, with the same exported attributes."""
    stock, ours = both(recordings(kind, [(1, given) for given in ATTRIBUTES[attributes]]), TEMPORALITIES[temporality])

    assert ours == stock


OBSERVED: dict[str, list[list[Any]]] = {
    "growing": [[(1, None)], [(3, None)], [(10, None)]],
    "floats": [[(0.5, None)], [(1.25, None)], [(1.5, None)]],
    "an integer, then a float": [[(1, None)], [(1.5, None)]],
    "unchanged": [[(4, {"a": 1})], [(4, {"a": 1})]],
    "falling": [[(9, None)], [(5, None)], [(-5, None)]],
    "zero": [[(0, None)], [(0, None)]],
    "several series": [[(1, {"a": 1}), (2, {"a": 2})], [(5, {"a": 1}), (2, {"a": 2})]],
    "a series that goes away": [[(1, {"a": 1}), (2, {"a": 2})], [(3, {"a": 1})], [(4, {"a": 1})]],
    "a series that comes back": [[(1, {"a": 1}), (2, {"a": 2})], [(3, {"a": 1})], [(7, {"a": 1}), (7, {"a": 2})]],
    "a series that appears": [[(1, {"a": 1})], [(2, {"a": 1}), (6, {"a": 2})]],
    "nothing": [[], [(1, None)], []],
    "not finite": [[(float("nan"), None), (2, {"a": 1})], [(float("inf"), None)]],
    "negative": [[(-2, None)], [(-1, None)]],
}
CREATE: dict[str, Callable[[Meter, list[Any]], Any]] = {
    "counter": lambda meter, callbacks: meter.create_observable_counter("oc", callbacks, "1", "text"),
    "up-down counter": lambda meter, callbacks: meter.create_observable_up_down_counter("ou", callbacks, "By"),
    "gauge": lambda meter, callbacks: meter.create_observable_gauge("og", callbacks),
}


def observations(kind: str, rounds: list[list[Any]]) -> Scenario:
    """Collects once for each round of observations."""

    def run(meter: Meter, collect: Collect) -> None:
        remaining = iter(rounds)

        def callback(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, attributes) for value, attributes in next(remaining)]

        CREATE[kind](meter, [callback])
        for _ in rounds:
            collect()

    return run


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("kind", CREATE)
@pytest.mark.parametrize("observed", OBSERVED)
def test_observations_are_the_sdks(kind: str, observed: str, temporality: str) -> None:
    """What callbacks report leaves as from the SDK, in every round."""
    stock, ours = both(observations(kind, OBSERVED[observed]), TEMPORALITIES[temporality])

    assert ours == stock


def generator(_: CallbackOptions = CallbackOptions()) -> Iterator[Any]:  # noqa: B008 - the default is for the caller's type.
    """A callback that is a generator, in the style of the API's documentation."""
    yield []
    yield [Observation(1, {"from": "generator"})]
    yield [Observation(2, {"from": "generator"})]


def failing(_: CallbackOptions) -> Iterable[Observation]:
    """A callback that reports once and then raises."""
    yield Observation(1, {"from": "failing"})
    raise ZeroDivisionError


def wrong(_: CallbackOptions) -> Any:
    """A callback that does not return observations."""
    return [1, 2]


def nothing(_: CallbackOptions) -> Any:
    """A callback that returns nothing."""
    return None


def good(_: CallbackOptions) -> Iterable[Observation]:
    """A callback that works."""
    return (Observation(5, {"from": "good"}),)


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("bad", [generator, failing, wrong, nothing])
def test_several_callbacks_are_the_sdks(bad: Callable[..., Any], temporality: str) -> None:
    """Generators, and callbacks that fail beside others that work, leave the SDK's points."""

    def run(meter: Meter, collect: Collect) -> None:
        meter.create_observable_gauge("g", [bad() if bad is generator else bad, good])
        collect()
        collect()
        collect()

    stock, ours = both(run, TEMPORALITIES[temporality])
    assert ours == stock


AGGREGATIONS: dict[str, dict[type, Aggregation]] = {
    "boundaries of the reader": {sdk.Histogram: ExplicitBucketHistogramAggregation(boundaries=[1, 2, 3])},
    "one bucket": {sdk.Histogram: ExplicitBucketHistogramAggregation(boundaries=[])},
    "advice or default": {sdk.Histogram: ExplicitBucketHistogramAggregation()},
    "without minimum and maximum": {sdk.Histogram: ExplicitBucketHistogramAggregation(record_min_max=False)},
    "dropped": {sdk.Counter: DropAggregation(), sdk.ObservableGauge: DropAggregation()},
    "stated as they are": {sdk.Counter: SumAggregation(), sdk._Gauge: LastValueAggregation()},
}


def everything(meter: Meter, collect: Collect) -> None:
    """One recording on every instrument, two collections."""
    meter.create_observable_counter("oc", [lambda _: [Observation(7)]])
    meter.create_observable_gauge("og", [lambda _: [Observation(7)]])
    for record in RECORD.values():
        record(meter)(2, {"a": "b"})
    collect()
    for record in RECORD.values():
        record(meter)(4, {"a": "b"})
    collect()


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_preferred_aggregations_are_the_sdks(aggregation: str, temporality: str) -> None:
    """A reader's preferred aggregation has the same effect on every instrument."""
    stock, ours = both(everything, TEMPORALITIES[temporality], AGGREGATIONS[aggregation])

    assert ours == stock


def same_name(meter: Meter, collect: Collect) -> None:
    """Instruments that share a name."""
    meter.create_counter("X").add(1)
    meter.create_counter("x", "s").add(2)
    meter.create_counter("x", description="text").add(3)
    meter.create_histogram("x").record(4)
    meter.create_gauge("x").set(5)
    collect()


def nothing_recorded(meter: Meter, collect: Collect) -> None:
    """A counter without recordings."""
    RECORD["counter"](meter)
    collect()


def advice(*boundaries: Any) -> Scenario:
    """A histogram that is created once with each advice."""

    def run(meter: Meter, collect: Collect) -> None:
        for advised in boundaries:
            meter.create_histogram("h", explicit_bucket_boundaries_advisory=advised).record(3)
        collect()

    return run


OTHERS: dict[str, Scenario] = {
    "same name": same_name,
    "nothing recorded": nothing_recorded,
    "advice of no boundaries": advice([]),
    "advice that is no sequence": advice(5),
    "advice of no numbers": advice(["a"]),
    "a text as advice": advice("12"),
    "other advice the second time": advice([1, 5], [2]),
    "advice only the second time": advice(None, [2]),
    "advice of booleans": advice([False, True]),
    "advice as tuple": advice((1, 5.0)),
}


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("scenario", OTHERS)
def test_creation_is_the_sdks(scenario: str, temporality: str) -> None:
    """However instruments are created, the points are the SDK's."""
    stock, ours = both(OTHERS[scenario], TEMPORALITIES[temporality])

    assert ours == stock
