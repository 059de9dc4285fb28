"""Every aggregation on every kind of instrument, asked for by a view, by a reader, or by both."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    DefaultAggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)

from tests.conformance.calls import KINDS, OBSERVED_KINDS, TAKES_NEGATIVE, Instrument
from tests.conformance.harness import (
    OBSERVABLE,
    OURS,
    STOCK,
    SYNCHRONOUS,
    TEMPORALITIES,
    Session,
    compare,
    in_memory,
    seen,
)

AGGREGATIONS: dict[str, Aggregation] = {
    "default": DefaultAggregation(),
    "drop": DropAggregation(),
    "sum": SumAggregation(),
    "last value": LastValueAggregation(),
    "explicit, default boundaries": ExplicitBucketHistogramAggregation(),
    "explicit, boundaries": ExplicitBucketHistogramAggregation([2, 5.5, 50.0]),
    "explicit, negative boundaries": ExplicitBucketHistogramAggregation([-20.0, -2.5, 0.0, 5.5]),
    "explicit, one boundary": ExplicitBucketHistogramAggregation((6,)),
    "explicit, no boundaries": ExplicitBucketHistogramAggregation([]),
    "explicit, without minimum and maximum": ExplicitBucketHistogramAggregation([5.5], record_min_max=False),
    "exponential": ExponentialBucketHistogramAggregation(),
    "exponential, few buckets": ExponentialBucketHistogramAggregation(max_size=4),
    "exponential, fewest buckets": ExponentialBucketHistogramAggregation(max_size=2),
    "exponential, coarse": ExponentialBucketHistogramAggregation(max_size=20, max_scale=1),
    "exponential, coarser than octaves": ExponentialBucketHistogramAggregation(max_scale=-2),
    "exponential, without minimum and maximum": ExponentialBucketHistogramAggregation(record_min_max=False),
}
HISTOGRAMS = [name for name in AGGREGATIONS if name.startswith("ex")]
CLASSES: dict[str, type] = {cls.__name__: cls for cls in (*SYNCHRONOUS, *OBSERVABLE)}

AMOUNTS: dict[str, list[Any]] = {
    "integers": [3, 7, 7, 300],
    "floats": [0.3, 5.25, 7.75, 0.3],
    "with a zero": [0, 3, 12],
    "negative": [-3, -7, -300],
    "on both sides of zero": [-12.5, -3, 0, 3, 7.75],
}
"""No amount is within a thousandth of a boundary, or of one of exponential buckets at the scale that is compared."""
NEGATIVE = ["negative", "on both sides of zero"]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What is warned of is compared in test_views.py."""
    caplog.set_level(logging.CRITICAL)


def rounds(kind: str, amounts: list[Any]) -> Any:
    """Records the amounts in two series, collects, does it again, and collects once more without recordings."""

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        for repetition in range(3):
            instrument.observations.clear()
            for amount in amounts if repetition < 2 else ():
                instrument.record(amount, {"a": 1})
                instrument.record(amount)
            running.collect()

    return act


CASES = [
    (kind, aggregation, amounts)
    for kind in KINDS
    for aggregation in AGGREGATIONS
    for amounts in AMOUNTS
    if amounts not in NEGATIVE or kind in TAKES_NEGATIVE
]


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize(("kind", "aggregation", "amounts"), CASES)
def test_a_view_aggregates_as_the_sdk(kind: str, aggregation: str, amounts: str, temporality: str) -> None:
    """A view's aggregation gives the SDK's points on every kind, also for amounts that such a histogram is not made for."""
    view = View(instrument_name="*", aggregation=AGGREGATIONS[aggregation])
    stock, ours = compare(rounds(kind, AMOUNTS[amounts]), in_memory(TEMPORALITIES[temporality]), views=[view])

    assert ours == stock


READERS = [
    (kind, aggregation)
    for kind in KINDS
    for aggregation in AGGREGATIONS
    if not (kind in OBSERVED_KINDS and aggregation in HISTOGRAMS)
]
"""What a reader may prefer: histograms of observables lose their points, see the test below."""


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize(("kind", "aggregation"), READERS)
def test_a_reader_aggregates_as_the_sdk(kind: str, aggregation: str, temporality: str) -> None:
    """A reader's preferred aggregation gives the SDK's points on every kind."""
    preferred = {CLASSES[kind]: AGGREGATIONS[aggregation]}
    stock, ours = compare(rounds(kind, AMOUNTS["integers"]), in_memory(TEMPORALITIES[temporality], preferred))

    assert ours == stock


@pytest.mark.parametrize("aggregation", HISTOGRAMS)
@pytest.mark.parametrize("kind", OBSERVED_KINDS)
def test_a_reader_that_wants_histograms_of_observables_gets_nothing(kind: str, aggregation: str) -> None:
    """A histogram that a reader prefers for an observable instrument has no points, on both sides."""
    preferred = {CLASSES[kind]: AGGREGATIONS[aggregation]}
    stock, ours = compare(rounds(kind, AMOUNTS["integers"]), in_memory({}, preferred))

    assert ours == stock == [{}, {}, {}]


@pytest.mark.parametrize("of_view", AGGREGATIONS)
@pytest.mark.parametrize("of_reader", AGGREGATIONS)
@pytest.mark.parametrize("kind", ["Counter", "Histogram", "ObservableGauge"])
def test_a_view_goes_before_a_reader_as_in_the_sdk(kind: str, of_reader: str, of_view: str) -> None:
    """A view's aggregation replaces the reader's, unless the view leaves it at the default."""
    preferred = {CLASSES[kind]: AGGREGATIONS[of_reader]}
    view = View(instrument_name="*", aggregation=AGGREGATIONS[of_view])
    stock, ours = compare(rounds(kind, AMOUNTS["integers"]), in_memory({}, preferred), views=[view])

    assert ours == stock


ADVICE: dict[str, Any] = {"none": None, "some": [4, 8.5], "empty": [], "a tuple": (6.5,)}


@pytest.mark.parametrize("advice", ADVICE)
@pytest.mark.parametrize("aggregation", ["default", "sum", *HISTOGRAMS])
@pytest.mark.parametrize("by", ["view", "reader"])
def test_advice_is_for_those_who_state_no_boundaries(by: str, aggregation: str, advice: str) -> None:
    """Boundaries that an instrument advises count as with the SDK, whoever asks for the aggregation."""

    def act(running: Session) -> None:
        histogram = running.meter().create_histogram("h", explicit_bucket_boundaries_advisory=ADVICE[advice])
        for amount in AMOUNTS["integers"]:
            histogram.record(amount)
        running.collect()

    wanted = AGGREGATIONS[aggregation]
    views = [View(instrument_name="h", aggregation=wanted)] if by == "view" else []
    preferred: dict[type, Aggregation] = {sdk.Histogram: wanted} if by == "reader" else {}
    stock, ours = compare(act, in_memory({}, preferred), views=views)

    assert ours == stock


WRONG: dict[str, Aggregation] = {
    "boundaries that fall": ExplicitBucketHistogramAggregation([5, 1]),
    "a boundary twice": ExplicitBucketHistogramAggregation([1.0, 1]),
    "an infinite boundary": ExplicitBucketHistogramAggregation([1, float("inf")]),
    "a boundary that is not a number": ExplicitBucketHistogramAggregation([float("nan")]),
    "one bucket": ExponentialBucketHistogramAggregation(max_size=1),
    "too many buckets": ExponentialBucketHistogramAggregation(max_size=16_385),
}


@pytest.mark.parametrize("by", ["view", "reader"])
@pytest.mark.parametrize("aggregation", WRONG)
def test_what_the_sdk_refuses_is_refused(aggregation: str, by: str) -> None:
    """Boundaries and sizes that the SDK refuses, at the first recording, are refused here with its exception or sooner."""

    def act(running: Session) -> None:
        running.meter().create_histogram("h").record(3)

    wanted = WRONG[aggregation]
    views = [View(instrument_name="*", aggregation=wanted)] if by == "view" else []
    reader = in_memory({}, {sdk.Histogram: wanted} if by == "reader" else {})
    for side in (STOCK, OURS):
        with pytest.raises(ValueError, match=r"(?i)boundar|size"):
            seen(side, act, reader, views=views)
