"""The same calls on the stock SDK's provider and on ours export the same points."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import product
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

from tests.conformance.calls import (
    AMOUNTS,
    ATTRIBUTES,
    CREATE,
    OBSERVED,
    RECORD,
    RECORDED,
    WRONG_AMOUNTS,
    Instrument,
)
from tests.conformance.harness import TEMPORALITIES, Scenario, Session, both, compare

Collect = Callable[[], None]


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


DELTA_SUMS = [("delta", "counter"), ("delta", "up-down counter"), ("low memory", "counter")]
WANTED = {
    *((*sums, amounts) for sums in DELTA_SUMS for amounts in AMOUNTS if "zero" in amounts),
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


@pytest.mark.parametrize("amount", WRONG_AMOUNTS)
@pytest.mark.parametrize("kind", RECORDED)
def test_wrong_amounts_raise_what_the_sdk_raises(kind: str, amount: str) -> None:
    """An amount that is no number raises the SDK's exception and records nothing, on every kind."""

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        running.note(lambda: instrument.record(WRONG_AMOUNTS[amount]))
        instrument.record(3)
        running.collect()

    stock, ours = compare(act)
    assert ours == stock
    assert isinstance(stock[0], type)


def generator(_: CallbackOptions = CallbackOptions()) -> Iterator[Any]:  # noqa: B008 - the default is for the caller's type.
    """A callback that is a generator, in the style of the API's documentation."""
    yield []
    yield [Observation(1, {"from": "generator"})]
    yield [Observation(2, {"from": "generator"})]


def failing(_: CallbackOptions) -> Iterable[Observation]:
    """A callback that reports once and then raises."""
    yield Observation(1, {"from": "failing"})
    raise ZeroDivisionError


def raising(_: CallbackOptions) -> Iterable[Observation]:
    """A callback that raises at once."""
    raise ZeroDivisionError


CALLBACKS: dict[str, Callable[[], Any]] = {
    "a generator": generator,
    "fails after an observation": lambda: failing,
    "fails at once": lambda: raising,
    "numbers": lambda: lambda _: [1, 2],
    "nothing": lambda: lambda _: None,
    "a number": lambda: lambda _: 5,
    "one observation": lambda: lambda _: Observation(1),
    "no value": lambda: lambda _: [Observation(None)],  # type: ignore[arg-type]
    "a text as value": lambda: lambda _: [Observation("1")],  # type: ignore[arg-type]
    "a wrong value among others": lambda: lambda _: [Observation(1), Observation("1"), Observation(2)],  # type: ignore[arg-type]
    "a series of another callback": lambda: lambda _: [Observation(7, {"from": "good"})],
    "attributes that are no mapping": lambda: lambda _: [Observation(7, 5)],  # type: ignore[arg-type]
}


def good(_: CallbackOptions) -> Iterable[Observation]:
    """A callback that works."""
    return (Observation(5, {"from": "good"}),)


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("kind", CREATE)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_several_callbacks_are_the_sdks(callback: str, kind: str, temporality: str) -> None:
    """Generators, and callbacks that fail or report what another reports, leave the SDK's points beside one that works."""

    def run(meter: Meter, collect: Collect) -> None:
        CREATE[kind](meter, [CALLBACKS[callback](), good])
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
