"""Random sequences of creations, recordings and collections: after each collection both sides have exported the same.

What differs on purpose is not generated, see docs/differences.md: sums of an interval are never zero, an instrument keeps to integers or to
quarters, whose sums are exact, nothing is eligible as exemplar, readers that come at run time are compared after their first collection, and there
are fewer series than any limit.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)

from tests.conformance.calls import KINDS, TAKES_NEGATIVE, Instrument
from tests.conformance.harness import DELTA, LOW_MEMORY, OURS, STOCK, Session, in_memory, plain
from tests.conformance.spans import remote, within

VIEWS: list[View] = [
    View(instrument_name="counter.0", name="renamed"),
    View(instrument_type=sdk.Histogram, aggregation=ExplicitBucketHistogramAggregation([2.125, 9.125])),
    View(instrument_type=sdk.Histogram, name="total", instrument_name="histogram.1", aggregation=SumAggregation()),
    View(instrument_name="*gauge.*", attribute_keys={"a"}),
    View(instrument_name="updowncounter.*", attribute_keys=set()),
    View(instrument_name="*.2", aggregation=LastValueAggregation()),
    View(instrument_unit="ms", description="in milliseconds"),
    View(instrument_name="observablecounter.1", aggregation=DropAggregation()),
    View(meter_name="other", attribute_keys={"b"}),
]
ATTRIBUTES: list[Any] = [
    None,
    {},
    {"a": 1},
    {"a": 1.0},
    {"a": "x", "b": 2},
    {"b": 2, "a": "x"},
    {"b": [1, 2], "c": True},
]
INTEGERS = st.integers(1, 40)
"""None of them, nor any of them and a quarter, is less than a thousandth above a boundary."""

Pair = tuple[Instrument, Instrument]


def taken(reader: Any) -> Any:
    """What a reader in memory has got, which it then has no more."""
    data, reader._metrics_data = reader._metrics_data, None
    return plain(data)


class Sides(RuleBasedStateMachine):
    """A provider of each side, to which the same happens."""

    compared: ClassVar[tuple[type[sdk.MeterProvider], type[sdk.MeterProvider]]] = (STOCK, OURS)
    views: ClassVar[list[View]] = VIEWS
    instruments = Bundle("instruments")
    added = Bundle("added")

    def __init__(self) -> None:
        super().__init__()
        self.sides: list[Session] = []
        self.made: dict[Any, Pair] = {}
        self.late: list[list[InMemoryMetricReader]] = []

    @initialize(chosen=st.sets(st.integers(0, len(VIEWS) - 1)), spare=st.sampled_from([{}, DELTA, LOW_MEMORY]))
    def start(self, chosen: set[int], spare: Any) -> None:
        """Makes the providers with some of the views and three readers."""
        makes = (in_memory(), in_memory(DELTA), in_memory(spare))
        views = [view for number, view in enumerate(self.views) if number in chosen]
        self.sides = [Session(side, makes, {"views": views}) for side in self.compared]

    @rule(
        target=instruments,
        kind=st.sampled_from(list(KINDS)),
        number=st.integers(0, 2),
        scope=st.sampled_from(["scope", "other"]),
        unit=st.sampled_from(["", "ms"]),
    )
    def create(self, kind: str, number: int, scope: str, unit: str) -> Any:
        """Creates an instrument, or asks for one that there is."""
        key = (scope, kind, number, unit)
        if key in self.made:
            # Whose callbacks an instrument has that is asked for again is in test_lifecycle.py.
            return multiple()
        made = [Instrument(side.meter(scope), kind, f"{kind.lower()}.{number}", unit) for side in self.sides]
        self.made[key] = (made[0], made[1])
        return key

    @rule(
        key=instruments,
        integer=INTEGERS,
        attributes=st.sampled_from(ATTRIBUTES),
        unsampled=st.booleans(),
    )
    def record(self, key: Any, integer: int, attributes: Any, unsampled: bool) -> None:
        """Records or will observe one amount, negative for some instruments, without a span or in one that is not sampled."""
        _, kind, number, _ = key
        amount = (integer if number else integer + 0.25) * (-1 if kind in TAKES_NEGATIVE and number == 1 else 1)
        context = within(remote(1, sampled=False)) if unsampled else None
        for instrument in self.made[key]:
            instrument.record(amount, attributes, context)

    @rule(key=instruments)
    def forget(self, key: Any) -> None:
        """An observable instrument has nothing to observe any more."""
        for instrument in self.made[key]:
            instrument.observations.clear()

    @rule(which=st.integers(0, 2))
    def collect(self, which: int) -> None:
        """One reader collects."""
        stock, ours = (side.readings[which].read() for side in self.sides)
        assert ours == stock

    @rule(target=added)
    def add_reader(self) -> Any:
        """A delta reader comes; what it gets first differs, so that it collects once without being compared."""
        readers = [InMemoryMetricReader(preferred_temporality=DELTA) for _ in self.sides]
        for side, reader in zip(self.sides, readers, strict=True):
            side.provider.add_metric_reader(reader)
            reader.get_metrics_data()
        self.late.append(readers)
        return readers

    @rule(readers=added)
    def collect_added(self, readers: Any) -> None:
        """A reader that came collects."""
        stock, ours = (plain(reader.get_metrics_data()) for reader in readers)
        assert ours == stock

    @rule(readers=consumes(added))
    def remove_reader(self, readers: Any) -> None:
        """A reader that came goes, and gets nothing more."""
        self.late.remove(readers)
        for side, reader in zip(self.sides, readers, strict=True):
            side.provider.remove_metric_reader(reader)
            assert reader.get_metrics_data() is None

    @rule()
    def flush(self) -> None:
        """Flushes both providers, by which every reader that was there from the start collects; of those that came only ours do."""
        assert [side.provider.force_flush() for side in self.sides] == [True, True]
        stock, ours = ([taken(reading.reader) for reading in side.readings] for side in self.sides)
        assert ours == stock
        for reader in (reader for readers in self.late for reader in readers):
            reader.get_metrics_data()
            taken(reader)

    def teardown(self) -> None:
        """Ends both providers."""
        for side in self.sides:
            side.provider.shutdown()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Views that collide and readers that were removed are logged."""
    caplog.set_level(logging.CRITICAL)


class StockAlone(Sides):
    """The stock SDK compared with itself: what fails here is not repeatable and says nothing about us."""

    compared = (STOCK, STOCK)


class WithoutViews(Sides):
    """Providers without views."""

    views: ClassVar[list[View]] = []


@pytest.mark.parametrize(
    "machine", [StockAlone, WithoutViews, Sides], ids=["stock alone", "without views", "with views"]
)
def test_whatever_happens_both_sides_export_the_same(machine: type[Sides]) -> None:
    """In every sequence of creations, recordings, collections and readers that come and go, each collection is the SDK's."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            max_examples=300,
            stateful_step_count=40,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
