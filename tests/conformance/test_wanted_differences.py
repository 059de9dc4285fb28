"""Where we differ from the stock SDK on purpose, as a table; each entry has its reasons in docs/differences.md."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.view import Aggregation, ExponentialBucketHistogramAggregation, View
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_perf import MeterProvider
from tests.conformance.acts import (
    Act,
    Raising,
    a_context_that_is_none,
    a_filter_that_raises,
    a_wrong_name_twice,
    after_shutdown,
    counter,
    end_of_a_removed_reader,
    end_of_an_added_reader,
    ended,
    gauge,
    histogram,
    labelled,
    no_unit,
    out_of_time,
    reader_in_between,
    rounds,
    within_contexts,
    wrong_advice,
)
from tests.conformance.harness import (
    DELTA,
    LIMITS,
    STOCK,
    MakeReading,
    in_memory,
    points,
    seen,
    typed,
)
from tests.conformance.spans import ON, remote, within


class Level(IntEnum):
    """An integer of a class of its own."""

    HIGH = 3


class Text(str):
    """A string of a class of its own."""

    __slots__ = ()


def values(collections: list[Any]) -> list[list[Any]]:
    """Typed values by collection."""
    return [[typed(point.value) for point in found] for found in collections]


def attributes(collections: list[Any]) -> list[Any]:
    """Typed attributes of the first collection."""
    return [typed(dict(point.attributes)) for point in collections[0]]


def each(*names: str) -> Callable[[list[Any]], list[Any]]:
    """The named fields of the first point, by collection."""

    def look(collections: list[Any]) -> list[Any]:
        return [tuple(getattr(point, name) for name in names) for point, *_ in collections]

    return look


def types(*names: str) -> Callable[[list[Any]], list[Any]]:
    """Types of the named fields of the first point, of their items if they are sequences."""

    def look(collections: list[Any]) -> list[Any]:
        found = [getattr(collections[0][0], name) for name in names]
        return [type(value[0] if isinstance(value, (list, tuple)) else value) for value in found]

    return look


def exemplars(collections: list[Any]) -> list[list[Any]]:
    """Values of the exemplars, by collection."""
    return [sorted(exemplar.value for point in found for exemplar in point.exemplars) for found in collections]


def as_noted(found: list[Any]) -> list[Any]:
    """What was noted."""
    return found


def filtered(collections: list[Any]) -> list[Any]:
    """Keys of the filtered attributes of the exemplars."""
    return [sorted(exemplar.filtered_attributes or {}) for (point,) in collections for exemplar in point.exemplars]


@dataclass(frozen=True)
class Difference:
    """What is done, what is looked at, and what the SDK and we make of it.

    Attributes:
        act: What is done with a provider.
        look: What of that which was seen is compared.
        stock: What the SDK makes of it.
        ours: What we make of it.
        readers: The readers; one in memory unless stated.
        options: Further arguments of the provider.
    """

    act: Act
    look: Callable[[list[Any]], Any]
    stock: Any
    ours: Any
    readers: tuple[MakeReading, ...] = (in_memory(form=points),)
    options: dict[str, Any] = field(default_factory=dict)


def exponential(temporality: Any = None) -> tuple[MakeReading, ...]:
    """A reader that prefers exponential histograms."""
    preferred: dict[type, Aggregation] = {sdk.Histogram: ExponentialBucketHistogramAggregation()}
    return (in_memory(temporality, preferred, form=points),)


DELTAS = (in_memory(DELTA, form=points),)
WITHOUT_TRACE = within(NonRecordingSpan(SpanContext(0, 5, is_remote=False, trace_flags=TraceFlags(1))))
NAN = {"k": float("nan")}
OTHER_NAN = {"k": float("nan")}

DIFFERENCES = {
    "an interval of zeros": Difference(
        counter(0, rounds=2), values, [[("int", 0)], [("int", 0)]], [[("int", 0)], []], DELTAS
    ),
    "an integer after an interval of floats": Difference(
        rounds((0.5,), (1,)),
        values,
        [[("float", 0.5)], [("int", 1)]],
        [[("float", 0.5)], [("float", 1.0)]],
        DELTAS,
    ),
    "a delta of floats": Difference(
        rounds((3, 7, 300), (7.75, 0.3)),
        lambda collections: [point.value for found in collections for point in found],
        [310, 8.05],
        [310, 8.050000000000011],
        DELTAS,
    ),
    "an integer minimum": Difference(histogram([1, 2]), types("min", "max"), [int, int], [float, float]),
    "an integer boundary": Difference(histogram([1], advice=[1, 2]), types("explicit_bounds"), [int], [float]),
    "a boundary inside a slot": Difference(
        histogram([10_001], advice=[10_000]),
        each("explicit_bounds", "bucket_counts"),
        [((10_000,), (0, 1))],
        [((10_000,), (1, 0))],
    ),
    "a fraction of a byte": Difference(
        histogram([5.25], advice=[5], unit="By"), each("bucket_counts", "sum"), [((0, 1), 5.25)], [((1, 0), 5.25)]
    ),
    "a boolean on a gauge": Difference(gauge(True), values, [[("bool", True)]], [[("int", 1)]]),
    "an integer of its own class on a gauge": Difference(gauge(Level.HIGH), values, [[("Level", 3)]], [[("int", 3)]]),
    "a decimal": Difference(counter(Decimal("1.5")), values, [[("Decimal", Decimal("1.5"))]], [[("float", 1.5)]]),
    "a fraction": Difference(counter(Fraction(1, 2)), values, [[("Fraction", Fraction(1, 2))]], [[("float", 0.5)]]),
    "an integer from 2^60": Difference(counter(2**60), values, [[("int", 2**60)]], [[("float", 2.0**60)]]),
    "an integer beyond 64 bits": Difference(counter(2**70), values, [[("int", 2**70)]], [[("float", 2.0**70)]]),
    "a string of its own class": Difference(
        labelled({"k": Text("v")}, {"k": "v"}, {Text("k"): "v"}),
        attributes,
        [{"k": ("Text", "v")}, {"k": ("str", "v")}],
        [{"k": ("str", "v")}],
    ),
    "an attribute of an integer's own class": Difference(
        labelled({"k": Level.HIGH}, {"k": 3}),
        attributes,
        [{"k": ("Level", 3)}, {"k": ("int", 3)}],
        [{"k": ("int", 3)}],
    ),
    "an attribute beyond 64 bits": Difference(
        labelled({"k": 2**64}), attributes, [{"k": ("int", 2**64)}], [{"k": ("str", str(2**64))}]
    ),
    "two NaN objects": Difference(labelled(NAN, OTHER_NAN), lambda collections: len(collections[0]), 2, 1),
    "more than fourteen levels": Difference(
        labelled({"k": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}),
        lambda collections: list(collections[0][0].attributes),
        ["k"],
        ["otel.metric.overflow"],
    ),
    "the finest scale": Difference(histogram([3]), each("scale"), [(20,)], [(8,)], exponential()),
    "the scale after a wide interval": Difference(
        histogram([0.01, 10_000], [3]),
        each("scale"),
        [(2,), (20,) if LIMITS else (2,)],
        [(2,), (8,)],
        exponential(DELTA),
    ),
    "negative buckets of positive values": Difference(
        histogram([3]),
        lambda collections: [list(point.negative.bucket_counts) for point in collections[0]],
        [[0]],
        [[]],
        exponential(),
    ),
    "the first exemplar of a bucket": Difference(histogram([3, 4, 7]), exemplars, [[4, 7]], [[3, 7]], options=ON),
    "one exemplar in an octave": Difference(
        histogram([3, 3.5, 5]), exemplars, [[3, 3.5, 5]], [[3, 5]], exponential(), options=ON
    ),
    "a thousand recordings outside of spans": Difference(
        within_contexts(*[(1, Context())] * 2000, (7, within(remote(1)))), exemplars, [[7]], [[]]
    ),
    "long attributes of an exemplar": Difference(
        within_contexts((1, None), attributes={"a": 1, "b": "x" * 200}),
        filtered,
        [["a", "b"]],
        [["a"]],
        options={**ON, "views": [View(instrument_name="c", attribute_keys=set())]},
    ),
    "a span without a trace": Difference(within_contexts((1, WITHOUT_TRACE)), exemplars, [[1]], [[]]),
    "a context that is none": Difference(a_context_that_is_none, as_noted, [AttributeError], [None]),
    "a filter or reservoir that raises": Difference(
        a_filter_that_raises, as_noted, [ZeroDivisionError], [None], options={"exemplar_filter": Raising()}
    ),
    "what was recorded before a reader came": Difference(reader_in_between, as_noted, [[4]], [[7]]),
    "the end of an added reader": Difference(end_of_an_added_reader, as_noted, [[]], [["flushed", "shut down"]]),
    "the end of a removed reader": Difference(
        end_of_a_removed_reader, as_noted, [["shut down", "flushed", "shut down"]], [["shut down"]], (ended(),)
    ),
    "a collection out of time": Difference(out_of_time, as_noted, [sdk.MetricsTimeoutError], [None]),
    "values that go with their provider": Difference(after_shutdown, values, [[("int", 3)]], [[("int", 0)]]),
    "a wrong name for the second time": Difference(
        a_wrong_name_twice, as_noted, [Exception, KeyError], [Exception, Exception]
    ),
    "no unit": Difference(no_unit, as_noted, [TypeError], ["c"]),
    "advice that is no boundaries": Difference(wrong_advice, as_noted, [ValueError], [None]),
}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings are compared in tests/unit."""
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_it_differs_as_described(name: str) -> None:
    """The SDK and we do what the table says of each; an entry that no longer differs has to leave the table."""
    case = DIFFERENCES[name]
    # Not the harness' own provider: with the stock SDK on both sides nothing would differ.
    stock, ours = (seen(side, case.act, *case.readers, **case.options) for side in (STOCK, MeterProvider))

    assert case.look(stock) == case.stock
    assert case.look(ours) == case.ours
    assert case.stock != case.ours
