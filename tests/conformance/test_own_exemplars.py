"""Exemplar filters and reservoirs that a program brings along are asked as the SDK asks them."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Exemplar, ExemplarFilter, ExemplarReservoir
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)

from tests.conformance.calls import KINDS, Instrument
from tests.conformance.harness import OURS, STOCK, TEMPORALITIES, Session, compare, in_memory, seen
from tests.conformance.spans import AGGREGATIONS, ON, remote, within


class Above(ExemplarFilter):
    """A filter of the program's own: values above five, or with an attribute."""

    def should_sample(self, value: float, _time: int, attributes: Any, _context: Context) -> bool:
        return value > 5 or bool(attributes and "vip" in attributes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_of_the_programs_own_decides(kind: str) -> None:
    """A filter written in Python sees value, attributes and context, and its answer counts as in the SDK."""

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        for amount, attributes in ((3, {"a": 1}), (7, {"a": 2}), (2, {"a": 3, "vip": True}), (9, None)):
            instrument.record(amount, attributes)
        running.collect()

    views = [View(instrument_name="*", attribute_keys={"a"})]
    stock, ours = compare(act, exemplar_filter=Above(), views=views)
    assert ours == stock


class KeepAll(ExemplarReservoir):
    """A reservoir of the program's own that keeps every measurement."""

    def __init__(self, **_: Any) -> None:
        self._kept: list[tuple[Any, int, Any]] = []

    def offer(self, value: float, time_unix_nano: int, attributes: Any, _context: Context) -> None:
        self._kept.append((value, time_unix_nano, attributes))

    def collect(self, _attributes: Any) -> list[Exemplar]:
        kept, self._kept = self._kept, []
        return [Exemplar(attributes, value, moment, 1, 2) for value, moment, attributes in kept]


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("aggregation", [name for name in AGGREGATIONS if name != "drop"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_reservoir_of_the_programs_own_keeps_what_it_wants(kind: str, aggregation: str, temporality: str) -> None:
    """A view's reservoir factory decides what is kept: every eligible measurement is offered to it."""
    views = [
        View(
            instrument_name="*",
            aggregation=AGGREGATIONS[aggregation],
            attribute_keys={"a"},
            exemplar_reservoir_factory=lambda _: KeepAll,  # type: ignore[arg-type, return-value]
        )
    ]

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        for _ in range(2):
            instrument.observations.clear()
            for amount in (3, 7.5, 3):
                instrument.record(amount, {"a": 1, "b": amount}, within(remote(1)))
                instrument.record(amount, {"a": 1}, within(remote(1, sampled=False)))
            running.collect()

    stock, ours = compare(act, in_memory(TEMPORALITIES[temporality]), views=views)
    assert ours == stock


def unique(found: list[Any]) -> list[Any]:
    """What was found, without repetitions."""
    return [one for number, one in enumerate(found) if one not in found[:number]]


MADE: dict[str, tuple[str, Any, str, dict[str, Any]]] = {
    "a sum": ("counter", None, "_SumAggregation", {}),
    "a gauge": ("gauge", None, "_LastValueAggregation", {}),
    "explicit buckets": (
        "histogram",
        ExplicitBucketHistogramAggregation([1.0, 2.0]),
        "_ExplicitBucketHistogramAggregation",
        {"boundaries": (1.0, 2.0)},
    ),
    "exponential buckets": (
        "histogram",
        ExponentialBucketHistogramAggregation(),
        "_ExponentialBucketHistogramAggregation",
        {"size": 20},
    ),
    "few exponential buckets": (
        "histogram",
        ExponentialBucketHistogramAggregation(max_size=8),
        "_ExponentialBucketHistogramAggregation",
        {"size": 8},
    ),
}
"""Instrument, aggregation of the view, class that the factory is asked for, and what the reservoir is made with."""


@pytest.mark.parametrize("side", [STOCK, OURS], ids=["stock", "ours"])
@pytest.mark.parametrize("case", MADE)
def test_a_reservoir_is_made_with_what_its_aggregation_says(case: str, side: Any) -> None:
    """A reservoir of explicit buckets gets the boundaries, of exponential ones its size, of others nothing."""
    name, aggregation, asked_for, options = MADE[case]
    asked: list[str] = []
    made: list[dict[str, Any]] = []

    def factory(aggregation: type) -> Any:
        asked.append(aggregation.__name__)

        def build(**given: Any) -> KeepAll:
            made.append({key: tuple(value) if key == "boundaries" else value for key, value in given.items()})
            return KeepAll()

        return build

    def act(running: Session) -> None:
        for kind in ("Counter", "Gauge", "Histogram"):
            Instrument(running.meter(), kind).record(3)

    views = [View(instrument_name=name, aggregation=aggregation, exemplar_reservoir_factory=factory)]
    seen(side, act, views=views, **ON)

    # A stream may have several reservoirs: one for each series, and one to see what it is like.
    assert unique(made) == [options]
    assert unique(asked) == [asked_for]
