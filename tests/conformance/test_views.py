"""Views select and shape streams as in the SDK: selectors, names, attribute keys, several views on one instrument."""

from __future__ import annotations

import logging
from collections.abc import Container
from typing import Any, cast

import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)

from tests.conformance.calls import KINDS, Instrument
from tests.conformance.harness import OURS, STOCK, TEMPORALITIES, Session, compare, in_memory, seen


class WithoutB(Container[str]):
    """Attribute keys that are no set: all but one."""

    def __contains__(self, key: object) -> bool:
        return key != "b"


def keys(container: Container[str]) -> set[str]:
    """A container where the signature of View says set; the SDK only asks what is in it."""
    return cast("set[str]", container)


SELECTORS: dict[str, dict[str, Any]] = {
    **{f"type {kind}": {"instrument_type": getattr(sdk, kind)} for kind in KINDS if kind != "Gauge"},
    "type Gauge": {"instrument_type": sdk._Gauge},
    "type of the API": {"instrument_type": api.Histogram},
    "gauge type of the API": {"instrument_type": api._Gauge},
    "any observable type": {"instrument_type": api.Asynchronous},
    "any synchronous type": {"instrument_type": api.Synchronous},
    "name": {"instrument_name": "counter"},
    "name in another case": {"instrument_name": "CounTer"},
    "all names": {"instrument_name": "*"},
    "names by their end": {"instrument_name": "*counter"},
    "names by their beginning": {"instrument_name": "obs*"},
    "names by one letter": {"instrument_name": "gau?e"},
    "names by one letter that is not there": {"instrument_name": "gauge?"},
    "names by a set of letters": {"instrument_name": "[ch]*"},
    "no such name": {"instrument_name": "counte"},
    "an empty name": {"instrument_name": ""},
    "unit": {"instrument_unit": "ms"},
    "unit in another case": {"instrument_unit": "MS"},
    "units by pattern": {"instrument_unit": "?s"},
    "no unit": {"instrument_unit": ""},
    "meter": {"meter_name": "other"},
    "meters have no patterns": {"meter_name": "oth*"},
    "version": {"meter_version": "1.0"},
    "no such version": {"meter_version": "1"},
    "an empty version": {"meter_version": ""},
    "schema URL": {"meter_schema_url": "https://schema"},
    "an empty schema URL": {"meter_schema_url": ""},
}
EVERY = {
    "instrument_type": sdk.Counter,
    "instrument_name": "c*",
    "instrument_unit": "ms",
    "meter_name": "scope",
    "meter_version": "1.0",
    "meter_schema_url": "https://schema",
}
ANOTHER: dict[str, Any] = {
    "instrument_type": sdk.Histogram,
    "instrument_name": "d*",
    "instrument_unit": "s",
    "meter_name": "other",
    "meter_version": "2.0",
    "meter_schema_url": "https://other",
}
SELECTORS["all at once"] = EVERY
SELECTORS.update({f"all but {selector}": {**EVERY, selector: other} for selector, other in ANOTHER.items()})
SELECTORS.update(
    {
        f"{first} and {second}": {first: EVERY[first], second: EVERY[second]}
        for first in EVERY
        for second in EVERY
        if first < second
    }
)

STREAMS: dict[str, dict[str, Any]] = {
    "name": {"name": "renamed"},
    "name in capitals": {"name": "ReNamed"},
    "a name that no instrument may have": {"name": "9 % é"},
    "an empty name": {"name": ""},
    "the instrument's own name": {"name": "counter"},
    "description": {"description": "other text"},
    "an empty description": {"description": ""},
    "name and description": {"name": "renamed", "description": "other text"},
    "all attributes": {"attribute_keys": None},
    "no attributes": {"attribute_keys": set()},
    "one attribute": {"attribute_keys": {"a"}},
    "two attributes": {"attribute_keys": {"a", "b"}},
    "an attribute that nobody has": {"attribute_keys": {"z"}},
    "an attribute that some have": {"attribute_keys": {"b", "z"}},
    "an attribute that was a number": {"attribute_keys": {"5"}},
    "an empty key": {"attribute_keys": {""}},
    "attributes in a list": {"attribute_keys": keys(["a"])},
    "attributes in a text": {"attribute_keys": keys("abc")},
    "attributes in a container": {"attribute_keys": keys(WithoutB())},
    "attributes and everything else": {
        "name": "renamed",
        "description": "other text",
        "attribute_keys": {"a"},
        "aggregation": LastValueAggregation(),
    },
}

# No amount is a power of two, where exponential buckets have a boundary.
CALLS: list[tuple[Any, Any]] = [
    (3, {"a": 1, "b": "x"}),
    (7, {"b": "x", "a": 1}),
    (2.5, {"a": 1, "b": "y"}),
    (9, {"a": 1}),
    (5, {"b": True, "c": [1, 2]}),
    (6, {5: "number", "": "empty", "a": 1}),
    (11, None),
]
SCOPES: dict[str, tuple[Any, ...]] = {
    "scope": ("1.0", "https://schema"),
    "other": ("2.0", "https://other"),
    "bare": (None, None),
}


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Most tests are not about what is logged."""
    caplog.set_level(logging.CRITICAL)


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for all streams of all tests here; what happens without is the business of other tests."""
    monkeypatch.setenv("OTEL_PERF_MEMORY_LIMIT", str(8 << 20))


def shop(running: Session) -> None:
    """Two instruments of each kind, with and without unit, in three scopes; collects twice with recordings and once without."""
    instruments = [
        Instrument(running.meter(scope, *identity), kind, kind.lower() + ending, unit, "text")
        for scope, identity in SCOPES.items()
        for kind in KINDS
        for unit, ending in (("ms", ""), ("", ".plain"))
    ]
    for repetition in range(3):
        for instrument in instruments:
            instrument.observations.clear()
            for amount, attributes in CALLS if repetition < 2 else ():
                instrument.record(amount, attributes)
        running.collect()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("selector", SELECTORS)
def test_a_view_selects_what_the_sdk_selects(selector: str) -> None:
    """Each selector, alone and with others, renames the streams that it renames in the SDK."""
    stock, ours = compare(shop, views=[View(**SELECTORS[selector], description="selected")])

    assert ours == stock


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("stream", STREAMS)
def test_a_view_shapes_its_stream_as_the_sdk(stream: str, temporality: str) -> None:
    """Name, description and attribute keys of a view have the SDK's effect on every kind of instrument."""
    name = "counter" if "name" in STREAMS[stream] else None
    views = [
        View(instrument_name=name, instrument_unit="ms", **STREAMS[stream]),
        View(instrument_type=sdk.Histogram, **STREAMS[stream]),
        View(instrument_type=sdk._Gauge, **STREAMS[stream]),
        View(instrument_type=api.Asynchronous, **STREAMS[stream]),
    ]
    stock, ours = compare(shop, in_memory(TEMPORALITIES[temporality]), views=views)

    assert ours == stock


SEVERAL: dict[str, list[View]] = {
    "none": [],
    "none that matches": [View(instrument_name="nothing"), View(meter_name="nobody")],
    "the same twice": [View(instrument_name="counter"), View(instrument_name="counter")],
    "two names for one instrument": [
        View(instrument_name="histogram", name="first"),
        View(instrument_name="histogram", name="second", attribute_keys={"a"}),
    ],
    "two aggregations of one instrument": [
        View(instrument_name="histogram", aggregation=ExplicitBucketHistogramAggregation([5.5])),
        View(instrument_name="histogram", aggregation=ExplicitBucketHistogramAggregation([2.0, 6.5])),
        View(instrument_name="histogram", name="histogram.sum", aggregation=SumAggregation()),
        View(
            instrument_name="histogram",
            name="histogram.exponential",
            aggregation=ExponentialBucketHistogramAggregation(),
        ),
        View(instrument_name="histogram", name="histogram.last", aggregation=LastValueAggregation()),
    ],
    "all aggregations of all instruments": [
        View(instrument_name="*", aggregation=SumAggregation()),
        View(instrument_name="*", aggregation=LastValueAggregation()),
        View(instrument_name="*", aggregation=ExplicitBucketHistogramAggregation([5.5])),
        View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation()),
        View(instrument_name="*", aggregation=DropAggregation()),
    ],
    "two instruments under one name": [
        View(instrument_name="counter", name="one"),
        View(instrument_name="counter.plain", name="one"),
    ],
    "two kinds under one name": [
        View(instrument_name="counter", name="one"),
        View(instrument_name="histogram", name="one"),
        View(instrument_name="gauge", name="one"),
        View(instrument_name="observablecounter", name="one"),
    ],
    "one under the name of another": [View(instrument_name="counter", name="updowncounter")],
    "names that differ in case": [
        View(instrument_name="counter", name="One"),
        View(instrument_name="updowncounter", name="one"),
    ],
    "all dropped but one": [
        View(instrument_name="*", aggregation=DropAggregation()),
        View(instrument_name="histogram"),
    ],
    "one dropped": [View(instrument_name="counter", aggregation=DropAggregation())],
    "dropped and kept": [View(instrument_name="counter", aggregation=DropAggregation()), View(instrument_name="c*")],
    "a histogram of observables": [View(instrument_name="obs*", aggregation=ExplicitBucketHistogramAggregation())],
    "a histogram of observables beside a name": [
        View(instrument_name="observablegauge", name="h", aggregation=ExponentialBucketHistogramAggregation()),
        View(instrument_name="observablegauge", name="renamed"),
    ],
    "other attributes of each": [
        View(instrument_name="*", attribute_keys={"a"}),
        View(instrument_name="*", attribute_keys={"b"}),
        View(instrument_name="*", attribute_keys=set()),
    ],
    "default beside views": [View(instrument_name="counter", name="more"), View(instrument_name="*")],
}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("views", SEVERAL)
def test_several_views_are_several_streams_as_in_the_sdk(views: str, temporality: str) -> None:
    """Every matching view is a stream, also where names collide, and none that matches leaves the instrument as it is."""
    stock, ours = compare(shop, in_memory(TEMPORALITIES[temporality]), views=SEVERAL[views])

    assert ours == stock


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("views", SEVERAL)
def test_streams_of_two_readers_are_the_sdks(views: str) -> None:
    """With views each of two readers gets the streams in its own temporality and aggregation."""
    preferred: dict[type, Aggregation] = {
        sdk.Histogram: ExponentialBucketHistogramAggregation(),
        sdk.Counter: LastValueAggregation(),
    }
    readers = (in_memory(), in_memory(TEMPORALITIES["delta"], preferred))
    stock, ours = compare(shop, *readers, views=SEVERAL[views])

    assert ours == stock


WARNED: dict[str, tuple[list[View], str]] = {
    "a histogram of an observable": (
        [View(instrument_name="observablegauge", aggregation=ExplicitBucketHistogramAggregation())],
        "will produce semantic errors when matched, the view has not been applied",
    ),
    "two instruments under one name": (
        [View(instrument_name="counter", name="one"), View(instrument_name="counter2", name="one")],
        "will cause conflicting metrics identities",
    ),
}


@pytest.mark.parametrize("case", WARNED)
@pytest.mark.parametrize("side", [STOCK, OURS], ids=["stock", "ours"])
def test_views_that_do_not_work_out_are_warned_of(side: Any, case: str, caplog: pytest.LogCaptureFixture) -> None:
    """Views that are refused or that collide are a line in the log, in the SDK's words."""
    views, text = WARNED[case]

    def act(running: Session) -> None:
        for kind, name in (("Counter", ""), ("Counter", "counter2"), ("ObservableGauge", "")):
            Instrument(running.meter(), kind, name).record(1)
        running.collect()

    seen(side, act, views=views)
    assert any(text in message for message in caplog.messages)


def test_conflicts_are_only_what_the_sdk_calls_one(caplog: pytest.LogCaptureFixture) -> None:
    """Streams of one name with another unit or aggregation are no conflict and no line, on both sides."""
    views = [View(instrument_name=name, name="one") for name in ("counter", "counter.s", "histogram")]

    def act(running: Session) -> None:
        for kind, name, unit in (("Counter", "", ""), ("Counter", "counter.s", "s"), ("Histogram", "", "")):
            Instrument(running.meter(), kind, name, unit).record(1)
        running.collect()

    stock, ours = compare(act, views=views)
    assert ours == stock
    assert caplog.messages == []
