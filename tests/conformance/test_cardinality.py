"""Limits of series: per view, per reader and by default, with the SDKs that have them; what is beyond is in the overflow series."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)

from tests.conformance.calls import KINDS, Instrument
from tests.conformance.harness import (
    DELTA,
    LIMITS,
    OBSERVABLE,
    OURS,
    STOCK,
    SYNCHRONOUS,
    Session,
    compare,
    in_memory,
    points,
    seen,
)

pytestmark = pytest.mark.skipif(
    not LIMITS, reason="the installed opentelemetry-sdk has no cardinality limits (before 1.45.2)"
)

CLASSES: dict[str, type] = {cls.__name__: cls for cls in (*SYNCHRONOUS, *OBSERVABLE)}
AGGREGATIONS: dict[str, Aggregation | None] = {
    "default": None,
    "sum": SumAggregation(),
    "last value": LastValueAggregation(),
    "explicit": ExplicitBucketHistogramAggregation([5.5]),
    "exponential": ExponentialBucketHistogramAggregation(),
}


def limited(**options: Any) -> View:
    """A view; untyped, because not every SDK's View has a limit."""
    return View(**options)


def many(kind: str, number: int = 6, rounds: int = 2) -> Any:
    """Records in more series than there may be, the last ones with equal attributes, and does it again."""

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        for _ in range(rounds):
            instrument.observations.clear()
            for value in range(number):
                instrument.record(3 + 3 * value, {"value": value, "same": True})
            instrument.record(7, {"value": number - 1, "same": True})
            running.collect()
        instrument.observations.clear()
        running.collect()

    return act


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_views_limit_is_the_sdks(kind: str, aggregation: str, limit: int) -> None:
    """A stream has as many series as its view says, and one more for the rest."""
    views = [limited(instrument_name="*", aggregation=AGGREGATIONS[aggregation], aggregation_cardinality_limit=limit)]
    stock, ours = compare(many(kind), views=views)

    assert ours == stock


@pytest.mark.parametrize("limit", [1, 5, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_a_readers_limit_is_the_sdks(kind: str, limit: int) -> None:
    """A reader's limit for a kind of instrument is that of its streams."""
    stock, ours = compare(many(kind), in_memory(cardinality_limits={CLASSES[kind]: limit}))

    assert ours == stock


@pytest.mark.parametrize("kind", KINDS)
def test_a_views_limit_goes_before_the_readers(kind: str) -> None:
    """Where both state a limit the view's counts; where the view states none, the reader's."""
    views = [
        limited(instrument_type=CLASSES[kind], aggregation_cardinality_limit=2),
        limited(instrument_type=CLASSES[kind], description="of the reader"),
    ]
    stock, ours = compare(many(kind), in_memory(cardinality_limits={CLASSES[kind]: 4}), views=views)

    assert ours == stock


@pytest.mark.parametrize("kind", KINDS)
def test_readers_have_limits_of_their_own(kind: str) -> None:
    """Two readers with other limits each get their own overflow series."""
    readers = [in_memory(cardinality_limits={CLASSES[kind]: limit}) for limit in (2, 4)]
    stock, ours = compare(many(kind), *readers)

    assert ours == stock


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_that_are_filtered_do_not_count(kind: str) -> None:
    """The limit is for what a view leaves of the attributes."""
    views = [limited(instrument_name="*", attribute_keys={"same"}, aggregation_cardinality_limit=1)]
    stock, ours = compare(many(kind), views=views)

    assert ours == stock


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_interval_of_a_delta_reader_is_the_sdks(kind: str) -> None:
    """Until a delta reader has collected, its limit is as for others; later see test_wanted_differences.py."""
    stock, ours = compare(many(kind, rounds=1), in_memory(DELTA, cardinality_limits={CLASSES[kind]: 3}))

    assert ours == stock


def test_the_series_without_attributes_counts() -> None:
    """A series without attributes is one of those that are limited, on both sides."""

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), "Counter")
        for attributes in (None, {"a": 1}, {"a": 2}, None, {}):
            instrument.record(3, attributes)
        running.collect()

    stock, ours = compare(act, in_memory(cardinality_limits={sdk.Counter: 1}))
    assert ours == stock


def test_the_default_limit_is_two_thousand() -> None:
    """Without any setting a stream has two thousand series and the overflow series."""
    for side in (STOCK, OURS):
        (found, _) = seen(side, many("Counter", 2005, rounds=1), in_memory(form=points))
        overflow = [point.value for point in found if point.attributes.get("otel.metric.overflow") is True]

        assert len(found) == 2001
        assert overflow == [sum(3 + 3 * value for value in range(2000, 2005)) + 7]


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "2"])
@pytest.mark.parametrize("side", [STOCK, OURS], ids=["stock", "ours"])
def test_limits_that_are_none_are_refused(side: Any, limit: Any) -> None:
    """What is no positive integer is refused by the SDK's classes before a provider sees it."""
    with pytest.raises(ValueError, match="positive integer"):
        seen(side, lambda _: None, views=[limited(instrument_name="*", aggregation_cardinality_limit=limit)])
    with pytest.raises(ValueError, match="positive integer"):
        seen(side, lambda _: None, in_memory(cardinality_limits={sdk.Counter: limit}))
