"""Attributes of recordings, and series that are bound to theirs."""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict, UserDict
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pytest
from opentelemetry.context import Context

from otel_perf.config import Settings
from tests.unit.instrumented import NONE, Instrumented

Make = Callable[[str], Instrumented]


def typed(value: Any) -> Any:
    """The value as the SDK cleans it, with the types of all its parts."""
    if isinstance(value, Mapping):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(typed(item) for item in value)
    return type(value).__name__, value


@pytest.mark.parametrize("attributes", [5, "text", ["a"], {"a"}, object()])
def test_attributes_that_are_no_mapping_are_dropped_and_counted(
    made: Instrumented, attributes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The recording counts without attributes, as the SDK does with a warning, and the mistake is counted."""
    made.record(1, attributes)

    assert made.points() == {NONE: 1}
    assert made.drops() == {"wrong_type": 1}
    assert caplog.messages == [f"Invalid type '{type(attributes)}' for attributes. Expected a Mapping or None."]


MAPPINGS: list[Mapping[str, Any]] = [OrderedDict(a=1), UserDict(a=1), MappingProxyType({"a": 1})]


@pytest.mark.parametrize("attributes", MAPPINGS, ids=lambda mapping: type(mapping).__name__)
def test_any_mapping_is_the_series_of_its_content(made: Instrumented, attributes: Mapping[str, Any]) -> None:
    """Another mapping with the content of a dict names the same series."""
    for _ in range(3):
        made.record(1, attributes)
        made.record(1, {"a": 1})

    assert made.series() == [{"a": 1}]
    assert made.drops() == {}


class Failing(UserDict[str, Any]):
    """A mapping that cannot be read."""

    def items(self) -> Any:
        raise ZeroDivisionError


def test_a_mapping_that_raises_does_not_reach_the_caller(made: Instrumented) -> None:
    """A mapping whose content cannot be read does not break the application; the recording is kept."""
    made.record(1, Failing(a=1))

    assert sum(made.points().values()) == 1


CONTAINERS: list[dict[Any, Any]] = [
    {},
    {"a": 1},
    {"a": "x" * 40, "b": 2.5, "c": True, "d": None, "e": b"y"},
    {"list": [1, [2]], "map": {"x": [1]}},
    {f"k{number}": number for number in range(30)},
    {"": 1, 5: "five", "object": Fraction(1, 3)},
]


@pytest.mark.parametrize("attributes", CONTAINERS, ids=range(len(CONTAINERS)))
def test_the_callers_dict_is_neither_kept_nor_changed(made: Instrumented, attributes: dict[Any, Any]) -> None:
    """After recordings and a bind the dict and its containers have the references and contents they had before."""
    given = copy.deepcopy(attributes)
    containers = [given, *(value for value in given.values() if isinstance(value, (list, dict)))]
    before = [sys.getrefcount(container) for container in containers]
    for _ in range(20):
        made.record(1, given)
    bound = made.bound(given)
    bound(1)

    assert [sys.getrefcount(container) for container in containers] == before
    assert given == attributes


MUTATIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another value": lambda given: given.update(a=2),
    "another type": lambda given: given.update(a=1.0),
    "a boolean": lambda given: given.update(a=True),
    "one more": lambda given: given.update(b=1),
    "one less": lambda given: given.pop("a"),
    "another key": lambda given: given.update({"b": given.pop("a")}),
    "nothing": lambda given: given.clear(),
    "inside a list": lambda given: given["l"].append(3),
    "inside a mapping": lambda given: given["m"].update(y=2),
}


@pytest.mark.parametrize("repeats", [1, 20])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_changed_dict_is_another_series(made: Instrumented, mutation: str, repeats: int) -> None:
    """A dict that is changed after its recordings gives another series at the next, however often it was used before."""
    given: dict[str, Any] = {"a": 1}
    if mutation.startswith("inside"):
        given.update(l=[1], m={"x": 1})
    for _ in range(repeats):
        made.record(1, given)
    before = copy.deepcopy(given)
    MUTATIONS[mutation](given)
    made.record(1, given)

    assert sorted(map(repr, map(typed, made.series()))) == sorted(map(repr, map(typed, [before, given])))


def test_a_dict_in_turns_is_always_the_series_of_its_content(make: Make) -> None:
    """One dict that is changed between recordings counts each under what it held at that moment."""
    counter = make("Counter")
    given = {"a": 0}
    for step in range(300):
        given["a"] = step % 7
        counter.record(1, given)

    assert counter.points() == {frozenset({("a", n)}): len(range(n, 300, 7)) for n in range(7)}


@pytest.mark.parametrize("length", [12, 13, 40])
def test_large_sets_are_one_series_in_any_order(make: Make, length: int) -> None:
    """Sets beyond the size of the fast path behave like small ones."""
    counter = make("Counter")
    given = {f"k{number}": number for number in range(length)}
    for attributes in (given, dict(reversed(given.items())), dict(given)):
        counter.record(1, attributes)

    assert counter.points() == {frozenset(given.items()): 3}


def test_equal_strings_at_other_addresses_are_one_series(make: Make) -> None:
    """Strings that are built for each call find the series by content."""
    counter = make("Counter")
    for _ in range(50):
        key, value = ("".join(reversed(text)) for text in ("etuor", "smeti/"))
        counter.record(1, {key: value})

    assert counter.points() == {frozenset({("route", "/items")}): 50}


def test_too_many_series_are_counted_in_the_overflow_series(make_provider: Any, reader: Any) -> None:
    """Beyond the cardinality limit recordings are counted under otel.metric.overflow, and the number of them is known."""
    provider = make_provider(reader, _settings=Settings(cardinality_limit=3))
    counter = Instrumented(provider, reader, "Counter")
    for number in range(10):
        counter.record(1, {"n": number})
    counter.record(1, {"n": 0})

    points = counter.points()
    overflow = points.pop(frozenset({("otel.metric.overflow", True)}))
    assert sum(points.values()) + overflow == 11
    assert points[frozenset({("n", 0)})] == 2
    assert counter.drops() == {"overflow": overflow}


def test_a_set_too_long_for_a_series_is_counted_in_the_overflow_series(make: Make) -> None:
    """An attribute text beyond what a series can keep is counted as such and not lost."""
    counter = make("Counter")
    counter.record(1, {"k": "x" * 100_000})

    assert counter.points() == {frozenset({("otel.metric.overflow", True)}): 1}
    assert counter.drops() == {"long_attributes": 1}


BOUND: list[tuple[Any, ...]] = [
    (),
    (None,),
    ({},),
    ({"a": 1},),
    ({"a": [1, 2], "b": {"c": 1}},),
    ({f"k{number}": number for number in range(30)},),
    ({"": 1, "a": 1},),
    (MappingProxyType({"a": 1}),),
]


@pytest.mark.parametrize("attributes", BOUND, ids=range(len(BOUND)))
def test_a_bound_series_is_that_of_the_unbound_call(made: Instrumented, attributes: tuple[Any, ...]) -> None:
    """Recordings of a bound series and unbound ones with its attributes end in one series."""
    bound = made.bound(*attributes)
    for amount in (1, 0.5):
        bound(amount)
        made.record(amount, *attributes)

    (point,) = made.values()
    assert point == (0.5 if made.method == "set" else 3.0)


def test_binding_alone_makes_no_point(made: Instrumented) -> None:
    """A series that was bound and never recorded into is not exported."""
    made.bound({"a": 1})

    assert made.points() == {}


def test_bound_recordings_take_a_context_but_no_attributes(made: Instrumented) -> None:
    """The arguments of a bound recording are amount and context, by position or name."""
    bound = made.bound({"a": 1})
    bound(2, None)
    bound(2, context=Context())
    bound(amount=2)
    with pytest.raises(TypeError):
        bound(2, attributes={"a": 2})
    with pytest.raises(TypeError):
        bound(2, None, None)
    with pytest.raises(TypeError):
        bound()

    assert made.points() == {frozenset({("a", 1)}): 2 if made.method == "set" else 6}


def test_a_bound_series_knows_its_instrument(made: Instrumented) -> None:
    """`instrument` is the instrument that was bound, and attributes can be given by name."""
    assert made.instrument.bind({"a": 1}).instrument is made.instrument
    assert made.instrument.bind(attributes=None).instrument is made.instrument


def test_a_bound_series_stays_with_its_attributes(make: Make) -> None:
    """Changing the dict after binding does not move the series."""
    counter = make("Counter")
    given = {"a": 1}
    bound = counter.bound(given)
    given["a"] = 2
    bound(1)

    assert counter.points() == {frozenset({("a", 1)}): 1}


def test_attributes_that_are_no_longer_cached_are_given_back_at_once(make: Make) -> None:
    """A thread that only records does not gather references: of ten thousand dicts with ten contents the caches hold a few objects."""
    counter = make("Counter")
    texts = ["".join(("value ", str(number % 10))) for number in range(10_000)]
    before = sum(sys.getrefcount(text) for text in texts)
    for text in texts:
        counter.record(1, {"key": text})

    held = sum(sys.getrefcount(text) for text in texts) - before
    assert 10 <= held <= 20


class Holder:
    """An object whose attributes are used as attributes of recordings."""

    def __init__(self) -> None:
        self.key = "first"
        self.other = 1


def _set(holder: Any, value: str) -> None:
    holder.key = value


def _set_again(holder: Any, value: str) -> None:
    del holder.key
    holder.key = value


OBJECT_CHANGES: dict[str, Callable[[Any, str], object]] = {
    "an assignment": _set,
    "setattr": lambda holder, value: setattr(holder, "key", value),
    "its dict": lambda holder, value: holder.__dict__.update(key=value),
    "an item of its dict": lambda holder, value: holder.__dict__.__setitem__("key", value),
    "a deletion and an assignment": _set_again,
    "a new dict": lambda holder, value: setattr(holder, "__dict__", {"key": value, "other": 1}),
}


@pytest.mark.parametrize("change", OBJECT_CHANGES)
def test_the_dict_of_an_object_may_change_with_the_object(change: str, made: Instrumented) -> None:
    """Attributes that are an object's own are those that it has at the moment of each recording."""
    for _ in range(3):
        holder = Holder()
        for number in range(40):
            for _ in range(2):
                made.record(1, holder.__dict__)
            OBJECT_CHANGES[change](holder, f"{number}")

    last = made.method == "set"
    values = ["first", *(f"{number}" for number in range(39))]
    assert made.points() == {frozenset({("key", value), ("other", 1)}): 1 if last else 6 for value in values}
