"""Where what we export differs from the stock SDK on purpose, each with its reason."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest
from opentelemetry.metrics import Meter
from opentelemetry.sdk import metrics as sdk

from otel_perf import MeterProvider
from tests.conformance.harness import DELTA, exported

Collect = Callable[[], None]


class Level(IntEnum):
    """An integer of a class of its own."""

    HIGH = 3


class Text(str):
    """A string of a class of its own."""

    __slots__ = ()


def points(collection: dict[Any, Any]) -> list[dict[str, Any]]:
    """All points of a collection."""
    return [point for metrics in collection.values() for _, found in metrics for point in found]


def values(collections: list[dict[Any, Any]]) -> list[list[Any]]:
    """Typed values by collection."""
    return [[point["value"] for point in points(collection)] for collection in collections]


def attributes(collections: list[dict[Any, Any]]) -> list[Any]:
    """Typed attributes of the first collection."""
    return [point["attributes"] for point in points(collections[0])]


def buckets(collections: list[dict[Any, Any]]) -> list[Any]:
    """Bounds and counts of the first collection."""
    return [(point["explicit_bounds"], point["bucket_counts"]) for point in points(collections[0])]


def extremes(collections: list[dict[Any, Any]]) -> list[Any]:
    """Types of minimum and maximum of the first collection."""
    return [(type(point["min"]), type(point["max"])) for point in points(collections[0])]


def counter(*amounts: Any, rounds: int = 1) -> Callable[[Meter, Collect], None]:
    """Adds the amounts to a counter, in each round."""

    def run(meter: Meter, collect: Collect) -> None:
        instrument = meter.create_counter("c")
        for _ in range(rounds):
            for amount in amounts:
                instrument.add(amount)
            collect()

    return run


def one_after_the_other(meter: Meter, collect: Collect) -> None:
    """Adds a float in one interval and an integer in the next."""
    instrument = meter.create_counter("c")
    for amount in (0.5, 1):
        instrument.add(amount)
        collect()


def gauge(amount: Any) -> Callable[[Meter, Collect], None]:
    """Sets a gauge."""

    def run(meter: Meter, collect: Collect) -> None:
        meter.create_gauge("g").set(amount)
        collect()

    return run


def labelled(*sets: Any) -> Callable[[Meter, Collect], None]:
    """Adds one to a counter with each set of attributes."""

    def run(meter: Meter, collect: Collect) -> None:
        instrument = meter.create_counter("c")
        for given in sets:
            instrument.add(1, given)
        collect()

    return run


def histogram(*amounts: Any, advice: list[float] | None = None) -> Callable[[Meter, Collect], None]:
    """Records the amounts on a histogram."""

    def run(meter: Meter, collect: Collect) -> None:
        instrument = meter.create_histogram("h", "s", explicit_bucket_boundaries_advisory=advice)
        for amount in amounts:
            instrument.record(amount)
        collect()

    return run


@dataclass(frozen=True)
class Difference:
    """A scenario, what is looked at, and what the SDK and we make of it.

    Attributes:
        reason: Why it differs.
    """

    reason: str
    scenario: Callable[[Meter, Collect], None]
    look: Callable[[list[dict[Any, Any]]], Any]
    stock: Any
    ours: Any
    temporality: Any = None


NAN = {"k": float("nan")}
OTHER_NAN = {"k": float("nan")}

DIFFERENCES = {
    "an interval of zeros": Difference(
        "a cell is two sums without a mark, so an interval in which only zeros were added looks like one without recordings",
        counter(0, rounds=2),
        values,
        [[("int", 0)], [("int", 0)]],
        [[("int", 0)], []],
        DELTA,
    ),
    "an integer after an interval of floats": Difference(
        "a series that has seen a float stays a series of floats, whereas the SDK begins every interval with an integer",
        one_after_the_other,
        values,
        [[("float", 0.5)], [("int", 1)]],
        [[("float", 0.5)], [("float", 1.0)]],
        DELTA,
    ),
    "an integer minimum": Difference(
        "minimum and maximum are kept as floats; the OTLP field is a double",
        histogram(1, 2),
        extremes,
        [(int, int)],
        [(float, float)],
    ),
    "a boundary inside a slot": Difference(
        "buckets are made of slots of three digits: what is less than a thousandth above a boundary may count below it",
        histogram(10_001, advice=[10_000]),
        buckets,
        [((10_000.0,), (0, 1))],
        [((10_000.0,), (1, 0))],
    ),
    "a boolean on a gauge": Difference(
        "the data model has no boolean values", gauge(True), values, [[("bool", True)]], [[("int", 1)]]
    ),
    "an integer of its own class on a gauge": Difference(
        "shared memory holds numbers, not objects", gauge(Level.HIGH), values, [[("Level", 3)]], [[("int", 3)]]
    ),
    "a decimal": Difference(
        "shared memory holds numbers, not objects; the OTLP encoder would fail on the SDK's point",
        counter(Decimal("1.5")),
        values,
        [[("Decimal", Decimal("1.5"))]],
        [[("float", 1.5)]],
    ),
    "a fraction": Difference(
        "as a decimal", counter(Fraction(1, 2)), values, [[("Fraction", Fraction(1, 2))]], [[("float", 0.5)]]
    ),
    "an integer from 2^60": Difference(
        "it is added as a float, so that the 64 bits of a cell cannot overflow",
        counter(2**60),
        values,
        [[("int", 2**60)]],
        [[("float", 2.0**60)]],
    ),
    "an integer beyond 64 bits": Difference(
        "the data model ends at 64 bits", counter(2**70), values, [[("int", 2**70)]], [[("float", 2.0**70)]]
    ),
    "a string of its own class": Difference(
        "series are identified by content, so an equal plain string is the same series",
        labelled({"k": Text("v")}, {"k": "v"}, {Text("k"): "v"}),
        attributes,
        [{"k": ("Text", "v")}, {"k": ("str", "v")}],
        [{"k": ("str", "v")}],
    ),
    "an attribute of an integer's own class": Difference(
        "as a string of its own class",
        labelled({"k": Level.HIGH}, {"k": 3}),
        attributes,
        [{"k": ("Level", 3)}, {"k": ("int", 3)}],
        [{"k": ("int", 3)}],
    ),
    "an attribute beyond 64 bits": Difference(
        "the data model ends at 64 bits; the digits are kept as text",
        labelled({"k": 2**64}),
        attributes,
        [{"k": ("int", 2**64)}],
        [{"k": ("str", str(2**64))}],
    ),
    "two NaN objects": Difference(
        "every NaN attribute is the same series, whereas the SDK makes one for each object",
        labelled(NAN, OTHER_NAN),
        lambda collections: len(points(collections[0])),
        2,
        1,
    ),
    "more than fourteen levels": Difference(
        "a series keeps attributes of limited depth; deeper sets are counted in the overflow series",
        labelled({"k": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}),
        lambda collections: list(points(collections[0])[0]["attributes"]),
        ["k"],
        ["otel.metric.overflow"],
    ),
}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings are compared in tests/unit."""
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_it_differs_as_described(name: str) -> None:
    """The SDK and we export what the table says of each; an entry that no longer differs has to leave the table."""
    case = DIFFERENCES[name]
    stock, ours = (exported(kind, case.scenario, case.temporality or {}) for kind in (sdk.MeterProvider, MeterProvider))

    assert case.look(stock) == case.stock
    assert case.look(ours) == case.ours
    assert case.stock != case.ours


@pytest.mark.parametrize("boundaries", [[5, 1], [1, 1], [1.0, float("inf")]])
def test_boundaries_that_are_no_boundaries_do_not_break_recordings(boundaries: list[float]) -> None:
    """The SDK raises at the first recording; we warn at creation and use the default boundaries."""
    with pytest.raises(ValueError, match="boundar"):
        exported(sdk.MeterProvider, histogram(3, advice=boundaries), {})
    (((bounds, counts),),) = [buckets(exported(MeterProvider, histogram(3, advice=boundaries), {}))]

    assert (len(bounds), counts) == (15, (0, 1, *[0] * 14))
