"""The table of calls: instruments of every kind, amounts, attributes and observations, as data that the tests combine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

KINDS: dict[str, tuple[str, str | None]] = {
    "Counter": ("create_counter", "add"),
    "UpDownCounter": ("create_up_down_counter", "add"),
    "Histogram": ("create_histogram", "record"),
    "Gauge": ("create_gauge", "set"),
    "ObservableCounter": ("create_observable_counter", None),
    "ObservableUpDownCounter": ("create_observable_up_down_counter", None),
    "ObservableGauge": ("create_observable_gauge", None),
}
"""By name of the class: what creates it, and its recording method if it has one."""
RECORDED = [kind for kind, (_, method) in KINDS.items() if method]
OBSERVED_KINDS = [kind for kind, (_, method) in KINDS.items() if not method]
TAKES_NEGATIVE = ["UpDownCounter", "Gauge", "ObservableCounter", "ObservableUpDownCounter", "ObservableGauge"]


@dataclass
class Instrument:
    """An instrument of any kind whose recordings, or observations at the next collections, are made with one method.

    Args:
        meter: Where it is created.
        kind: Name of its class.
        name: Its name; the kind in lower case if not given.
        unit: Its unit.
        description: Its description.
    """

    meter: Meter
    kind: str
    name: str = ""
    unit: str = ""
    description: str = ""
    observations: list[Observation] = field(default_factory=list)

    def __post_init__(self) -> None:
        create, method = KINDS[self.kind]
        self.name = self.name or self.kind.lower()
        named = {"unit": self.unit, "description": self.description}
        if method is None:
            self.native: Any = getattr(self.meter, create)(self.name, [self._callback], **named)
            self.record = self._observe
        else:
            self.native = getattr(self.meter, create)(self.name, **named)
            self.record = getattr(self.native, method)

    def _callback(self, _: CallbackOptions) -> Iterable[Observation]:
        return list(self.observations)

    def _observe(self, amount: Any, attributes: Any = None, context: Any = None) -> None:
        self.observations.append(Observation(amount, attributes, context))


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

WRONG_AMOUNTS: dict[str, Any] = {
    "a text": "1",
    "none": None,
    "bytes": b"1",
    "a list": [1],
    "complex": 1j,
    "an object": Opaque(),
    "a class": int,
    "an integer without a float": 10**400,
    "a decimal that is not a number": Decimal("sNaN"),
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
    "a series twice": [[(3, None), (4, None)], [(5, None), (4, None)]],
    "a series twice among others": [[(3, {"a": 1}), (9, None), (4, {"a": 1})], [(9, None), (1, {"a": 1})]],
    "a series twice, of two types": [[(3, {"a": 1}), (0.5, {"a": 1})], [(0.5, {"a": 1}), (3, {"a": 1})]],
    "a series twice in another order": [[(3, {"a": 1, "b": 2}), (4, {"b": 2, "a": 1})], [(8, {"b": 2, "a": 1})]],
    "nothing": [[], [(1, None)], []],
    "not finite": [[(float("nan"), None), (2, {"a": 1})], [(float("inf"), None)]],
    "negative": [[(-2, None)], [(-1, None)]],
}
CREATE: dict[str, Callable[[Meter, list[Any]], Any]] = {
    "counter": lambda meter, callbacks: meter.create_observable_counter("oc", callbacks, "1", "text"),
    "up-down counter": lambda meter, callbacks: meter.create_observable_up_down_counter("ou", callbacks, "By"),
    "gauge": lambda meter, callbacks: meter.create_observable_gauge("og", callbacks),
}

NAMES = ["a", "A.b-c_d/e", "x" * 255, "x" * 256, "", "9a", "_a", "a b", "a%", "é", "a\n", ".a", "a:b", "a*", "a?"]
UNITS = ["", "s", "{token}", "By/s", "u" * 63, "u" * 64, "µs", "a b", "\x00"]
