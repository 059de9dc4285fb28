"""Exemplars: which measurements are eligible, and what is kept of them; never more than one eligible in a bucket and interval."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    ExemplarFilter,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)

from tests.conformance.calls import KINDS, RECORDED, Instrument
from tests.conformance.harness import (
    OURS,
    STOCK,
    TEMPORALITIES,
    Session,
    compare,
    in_memory,
    points,
    seen,
)
from tests.conformance.spans import AGGREGATIONS, ON, SPANS, active, remote, within

CONTEXTS = {
    **{f"in {name}": (make, None) for name, make in SPANS.items()},
    **{f"with the context of {name}": (Context, make) for name, make in SPANS.items()},
    "with another span than the active": (SPANS["a sampled remote parent"], SPANS["a sampled span"]),
    "with an unsampled span in a sampled one": (SPANS["a sampled span"], SPANS["an unsampled span"]),
    "with an empty context in a sampled span": (SPANS["a sampled span"], Context),
    "with a context of no span in a sampled span": (SPANS["a sampled span"], lambda: Context({"other": 1})),
}
"""The active context, and the one that is given with the recording, if any. An empty one is like none for the SDK."""


FILTERS: dict[str, ExemplarFilter | None] = {
    "always on": AlwaysOnExemplarFilter(),
    "always off": AlwaysOffExemplarFilter(),
    "trace based": TraceBasedExemplarFilter(),
    "the default": None,
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("chosen", FILTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_filter_decides_as_in_the_sdk(kind: str, chosen: str, context: str) -> None:
    """Filter, active span and given context decide on every kind what is an exemplar, and which ids it has."""
    make_active, make_given = CONTEXTS[context]
    surrounding, given = make_active(), make_given() if make_given else None

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        with active(surrounding):
            instrument.record(3, {"a": 1}, given)
            # What a callback reports is measured while the reader collects.
            running.collect()
        instrument.observations.clear()
        running.collect()

    stock, ours = compare(act, exemplar_filter=FILTERS[chosen])
    assert ours == stock


@pytest.mark.parametrize("name", ["trace_based", "always_on", "always_off"])
@pytest.mark.parametrize("context", ["in no span", "in a sampled span"])
def test_the_filter_of_the_environment_is_the_sdks(name: str, context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_METRICS_EXEMPLAR_FILTER chooses the filter where the program states none."""
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", name)

    def act(running: Session) -> None:
        with active(CONTEXTS[context][0]()):
            Instrument(running.meter(), "Histogram").record(3)
        running.collect()

    stock, ours = compare(act)
    assert ours == stock


@pytest.mark.parametrize("side", [STOCK, OURS], ids=["stock", "ours"])
def test_an_unknown_filter_is_refused(side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name in OTEL_METRICS_EXEMPLAR_FILTER is a ValueError that has the name, on both sides."""
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "sometimes")
    with pytest.raises(ValueError, match="sometimes"):
        seen(side, lambda _: None)


SERIES: list[Any] = [
    None,
    {"a": 1},
    {"a": 1, "b": "x"},
    {"b": ["x", 2], "n": None},
    {"a": 1.0, "b": True, "n": {"k": b"v"}},
]
KEYS: dict[str, set[str] | None] = {"all kept": None, "one kept": {"a"}, "another kept": {"n"}, "none kept": set()}


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("kept", KEYS)
@pytest.mark.parametrize("kind", KINDS)
def test_exemplars_have_the_filtered_attributes(kind: str, kept: str, temporality: str) -> None:
    """Attributes that a view filters out are on the exemplar, cleaned and typed as the SDK does, and no others."""

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        for attributes in SERIES:
            instrument.observations.clear()
            instrument.record(3, attributes)
            running.collect()

    views = [View(instrument_name="*", attribute_keys=KEYS[kept])]
    stock, ours = compare(act, in_memory(TEMPORALITIES[temporality]), views=views, **ON)
    assert ours == stock


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_aggregation_keeps_exemplars_as_the_sdk(kind: str, aggregation: str, temporality: str) -> None:
    """One exemplar for each interval in which something was measured, on every kind and aggregation."""
    wanted = AGGREGATIONS[aggregation]
    views = [View(instrument_name="*", aggregation=wanted)] if wanted else []

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        for number, amount in enumerate((3, 7.5, None, 12.5, 3)):
            instrument.observations.clear()
            if amount is not None:
                with active(within(remote(number))):
                    instrument.record(amount, {"number": number % 2})
                    running.collect()
            else:
                running.collect()

    stock, ours = compare(act, in_memory(TEMPORALITIES[temporality]), views=views)
    assert ours == stock


# Of exponential buckets each amount is at least twice the one before: wherever octaves begin, no two are in one.
BUCKETS: dict[str, tuple[Aggregation, Sequence[float]]] = {
    "default boundaries": (ExplicitBucketHistogramAggregation(), [0, 3, 7.5, 20, 30.25, 80, 20_000]),
    "on boundaries": (ExplicitBucketHistogramAggregation([2.0, 5.0]), [2, 5, 7]),
    "exponential": (ExponentialBucketHistogramAggregation(), [3, 7.5, 17, 40, 100]),
    "exponential, values far apart": (ExponentialBucketHistogramAggregation(max_size=20), [0.3, 3, 300_000]),
    "exponential, a zero": (ExponentialBucketHistogramAggregation(), [0, 3]),
    "exponential, as many as are kept": (ExponentialBucketHistogramAggregation(), [3.0 * 2**n for n in range(20)]),
}


@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("case", BUCKETS)
@pytest.mark.parametrize("kind", RECORDED)
def test_each_bucket_has_an_exemplar_as_in_the_sdk(kind: str, case: str, temporality: str) -> None:
    """Each bucket of a histogram keeps its own exemplar, exponential ones also far apart, and a zero none there."""
    aggregation, amounts = BUCKETS[case]

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        numbers = count()
        for _ in range(2):
            for amount in amounts:
                instrument.record(amount, None, within(remote(next(numbers))))
            # Not eligible, and in the buckets of the others.
            instrument.record(amounts[-1], None, within(remote(99, sampled=False)))
            running.collect()
        running.collect()

    views = [View(instrument_name="*", aggregation=aggregation)]
    stock, ours = compare(act, in_memory(TEMPORALITIES[temporality]), views=views)
    assert ours == stock
    assert len(points_of(stock[0])[0]["exemplars"]) == len(amounts) - (case == "exponential, a zero")


def points_of(collection: dict[Any, Any]) -> list[dict[str, Any]]:
    """All plain points of a collection."""
    return [point for metrics in collection.values() for _, found in metrics for point in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("amount", [3, 3.0, 2**40, 0.1, 7])
def test_exemplars_keep_value_and_type(amount: float, kind: str) -> None:
    """An integer is an integer in its exemplar and a float a float, also where both were added to one series."""

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        for value in (amount, 5, 0.5):
            instrument.observations.clear()
            instrument.record(value)
            running.collect()

    stock, ours = compare(act, **ON)
    assert ours == stock


@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_gets_the_exemplar(kind: str) -> None:
    """Each of two readers gets the exemplar of a measurement once, in its own next collection."""

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        for number in range(2):
            instrument.observations.clear()
            instrument.record(3 + number, None, within(remote(number)))
            running.collect()
            running.collect()

    stock, ours = compare(act, in_memory(), in_memory(TEMPORALITIES["delta"]))
    assert ours == stock


@pytest.mark.parametrize("side", [STOCK, OURS], ids=["stock", "ours"])
@pytest.mark.parametrize("aggregation", ["default", "explicit", "exponential"])
@pytest.mark.parametrize("kind", RECORDED)
def test_the_time_of_an_exemplar_is_that_of_its_measurement(kind: str, aggregation: str, side: Any) -> None:
    """An exemplar's time is between the moments before and after the recording, and not after the end of its point."""
    wanted = AGGREGATIONS[aggregation]
    bounds: list[int] = []

    def act(running: Session) -> None:
        instrument = Instrument(running.meter(), kind)
        bounds.append(time.time_ns())
        instrument.record(3)
        bounds.append(time.time_ns())
        running.collect()

    views = [View(instrument_name="*", aggregation=wanted)] if wanted else []
    ((point,),) = seen(side, act, in_memory(form=points), views=views, **ON)
    (exemplar,) = point.exemplars

    # A clock that is read natively may be the coarse one, which is a few milliseconds behind.
    assert bounds[0] - 10**8 <= exemplar.time_unix_nano <= bounds[1]
    assert exemplar.time_unix_nano <= point.time_unix_nano
