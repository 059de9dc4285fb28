"""What the SDK's views, streams, points and exemplars are made of, where ours are made from or instead of them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import view as views
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_perf.metrics._exemplars import _EXPONENTIAL_RESERVOIR, _NAMES
from tests.conformance.harness import LIMITS

METRICS = "opentelemetry.sdk.metrics._internal"


def imported(module: str, name: str) -> Any:
    """A thing by module and name."""
    return getattr(importlib.import_module(module), name)


def parameters(function: Callable[..., Any]) -> list[str]:
    """Names of a function's parameters, without self."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_a_collection_asks_the_instruments_that_were_appended() -> None:
    """The consumer keeps observable instruments in a list that a collection iterates itself, so that one can be appended without its lock."""
    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider([reader], shutdown_on_exit=False)
    consumer: Any = provider._measurement_consumer
    seen: list[str] = []

    class Late:
        def callback(self, _options: CallbackOptions) -> list[Any]:
            seen.append("late")
            return []

    def append(_options: CallbackOptions) -> list[Observation]:
        consumer._async_instruments.append(Late())
        return []

    provider.get_meter("m").create_observable_gauge("g", [append])
    reader.collect()

    assert type(consumer._async_instruments) is list
    assert seen == ["late"]
    provider.shutdown()


def test_the_storage_of_a_reader_keeps_streams_by_instrument() -> None:
    """A reader's storage has the streams of an instrument in a dict under its lock, and takes those that are there already."""
    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("m")
    counter: Any = meter.create_counter("c")
    storage: Any = counter._measurement_consumer._reader_storages[reader]
    storage._instrument_view_instrument_matches[counter] = []
    counter.add(1)

    assert reader.get_metrics_data() is None
    assert storage._lock.acquire(blocking=False)
    assert storage._sdk_config.views == ()
    assert storage._check_view_instrument_compatibility(views.View(instrument_name="c"), counter)
    assert counter._meter_config.is_enabled
    match = imported(f"{METRICS}._view_instrument_match", "_ViewInstrumentMatch")
    assert parameters(match.__init__)[:3] == ["view", "instrument", "instrument_class_aggregation"]
    assert isinstance(storage._instrument_class_aggregation, dict)
    storage._lock.release()
    provider.shutdown()


VIEW: dict[str, Any] = {
    "_instrument_type": sdk.Histogram,
    "_instrument_name": "H",
    "_instrument_unit": "s",
    "_meter_name": "m",
    "_meter_version": "1",
    "_meter_schema_url": "https://schema",
    "_name": "other",
    "_description": "text",
    "_attribute_keys": {"a"},
    "_aggregation": views.SumAggregation(),
    "_exemplar_reservoir_factory": lambda _: None,
}


@pytest.mark.parametrize("attribute", VIEW)
def test_views_keep_what_they_are_given(attribute: str) -> None:
    """Each argument of a view is an attribute of that name with an underscore, and None where it was not given."""
    made = views.View(**{name.removeprefix("_"): given for name, given in VIEW.items()})
    bare = views.View(meter_name="m") if attribute == "_instrument_name" else views.View(instrument_name="h")

    assert getattr(made, attribute) is VIEW[attribute]
    if attribute not in {"_aggregation", "_exemplar_reservoir_factory"}:
        assert getattr(bare, attribute) is None


def test_a_view_that_states_nothing_has_the_default_aggregation_and_reservoirs() -> None:
    """What a view leaves open is the default aggregation and the default factory, which are told by identity and class."""
    view = views.View(instrument_name="h")

    assert type(view._aggregation) is views.DefaultAggregation
    assert view._exemplar_reservoir_factory is imported(f"{METRICS}.view", "_default_reservoir_factory")


@pytest.mark.skipif(not LIMITS, reason="the installed opentelemetry-sdk has no cardinality limits (before 1.45.2)")
def test_a_view_keeps_its_limit() -> None:
    """An SDK whose views limit series has the limit of a view under the name that is read, None if there is none."""
    options: dict[str, Any] = {"aggregation_cardinality_limit": 5}

    assert views.View(instrument_name="h", **options)._aggregation_cardinality_limit == 5  # type: ignore[attr-defined,unused-ignore]
    assert views.View(instrument_name="h")._aggregation_cardinality_limit is None  # type: ignore[attr-defined,unused-ignore]


def test_views_select_by_their_own_rules() -> None:
    """Names are patterns in lower case and units patterns as they are: the rules that ours repeat are those of `View._match`."""
    assert parameters(views.View._match) == ["instrument"]
    counter: Any = sdk.MeterProvider(shutdown_on_exit=False).get_meter("m").create_counter("shop.orders", "By")
    selected = {
        name: views.View(instrument_name=name)._match(counter)
        for name in ("SHOP.*", "shop.order?", "[rs]hop*", "shop", "shop.orders")
    }
    assert selected == {"SHOP.*": True, "shop.order?": True, "[rs]hop*": True, "shop": False, "shop.orders": True}
    assert [views.View(instrument_unit=unit)._match(counter) for unit in ("by", "B*", "By")] == [False, True, True]


def test_a_histogram_of_the_sdk_has_its_advice() -> None:
    """The advised boundaries are where the default aggregation of the SDK looks for them."""
    provider = sdk.MeterProvider(shutdown_on_exit=False)
    histogram: Any = provider.get_meter("m").create_histogram("h", explicit_bucket_boundaries_advisory=[1, 2])

    assert histogram._advisory.explicit_bucket_boundaries == [1, 2]


AGGREGATIONS: list[tuple[views.Aggregation, dict[str, Any]]] = [
    (views.ExplicitBucketHistogramAggregation([1, 2], record_min_max=False), {"_record_min_max": False}),
    (views.ExplicitBucketHistogramAggregation(), {"_boundaries": None, "_record_min_max": True}),
    (
        views.ExponentialBucketHistogramAggregation(max_size=40, max_scale=7),
        {"_max_size": 40, "_max_scale": 7, "_record_min_max": True},
    ),
]


@pytest.mark.parametrize(("aggregation", "expected"), AGGREGATIONS, ids=lambda value: type(value).__name__)
def test_aggregations_keep_their_options(aggregation: views.Aggregation, expected: dict[str, Any]) -> None:
    """The options of a histogram aggregation are under the names that are read."""
    assert {name: getattr(aggregation, name) for name in expected} == expected


def test_boundaries_are_kept_as_given() -> None:
    """Explicit boundaries are a sequence of the numbers that were given."""
    assert list(views.ExplicitBucketHistogramAggregation([1, 2.5])._boundaries or ()) == [1, 2.5]


POINTS: list[tuple[str, list[str]]] = [
    ("Buckets", ["offset", "bucket_counts"]),
    ("ExponentialHistogram", ["data_points", "aggregation_temporality"]),
    (
        "ExponentialHistogramDataPoint",
        [
            "attributes",
            "start_time_unix_nano",
            "time_unix_nano",
            "count",
            "sum",
            "scale",
            "zero_count",
            "positive",
            "negative",
            "flags",
            "min",
            "max",
            "exemplars",
        ],
    ),
]


@pytest.mark.parametrize(("name", "fields"), POINTS)
def test_exponential_points_have_the_fields(name: str, fields: list[str]) -> None:
    """The data classes that are not exported by the SDK have the fields that are filled."""
    assert [field.name for field in dataclasses.fields(imported(f"{METRICS}.point", name))] == fields


def test_exemplars_have_the_fields() -> None:
    """An exemplar is made of the fields that are filled by position."""
    names = [field.name for field in dataclasses.fields(sdk.Exemplar)]

    assert names == ["filtered_attributes", "value", "time_unix_nano", "span_id", "trace_id"]


@pytest.mark.parametrize("name", ["always_off", "always_on", "trace_based"])
def test_the_sdk_makes_the_filters_that_are_known(name: str) -> None:
    """The filter of a name in OTEL_METRICS_EXEMPLAR_FILTER is of the class that native code knows by that name."""
    made = imported(METRICS, "_get_exemplar_filter")(name)

    assert _NAMES[type(made)] == name


RESERVOIRS = {
    "_SumAggregation": sdk.SimpleFixedSizeExemplarReservoir,
    "_LastValueAggregation": sdk.SimpleFixedSizeExemplarReservoir,
    "_ExplicitBucketHistogramAggregation": sdk.AlignedHistogramBucketExemplarReservoir,
    "_ExponentialBucketHistogramAggregation": sdk.SimpleFixedSizeExemplarReservoir,
}


@pytest.mark.parametrize("aggregation", RESERVOIRS)
def test_default_reservoirs_are_those_whose_sizes_are_kept(aggregation: str) -> None:
    """The default factory answers a reservoir of buckets for explicit histograms and one of a fixed size, one, for others."""
    factory = imported(f"{METRICS}.view", "_default_reservoir_factory")

    assert factory(imported(f"{METRICS}.aggregation", aggregation)) is RESERVOIRS[aggregation]
    assert sdk.SimpleFixedSizeExemplarReservoir()._size == 1


def test_reservoirs_of_exponential_histograms_have_twenty_places() -> None:
    """The SDK gives an exponential histogram a reservoir of as many places as buckets, twenty at most."""
    made: list[Any] = []

    def factory(_: type) -> Any:
        return lambda **given: made.append(given["size"])

    for size in (160, 8):
        aggregation = views.ExponentialBucketHistogramAggregation(max_size=size)
        counter: Any = sdk.MeterProvider(shutdown_on_exit=False).get_meter("m").create_counter("c")
        aggregation._create_aggregation(counter, {}, factory, 0)

    assert made == [_EXPONENTIAL_RESERVOIR, 8]
