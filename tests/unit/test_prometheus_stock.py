"""Our endpoint shows what the stock exporter shows: names, units, types, help, labels and values of the same recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from otel_perf import MeterProvider
from tests.unit.scraped import Scraped, StockScraped, samples_of

NAMES = (
    "a",
    "a.b",
    "a..b--c/d__e_",
    "a_total",
    "a.total",
    "total",
    "a_total_total",
    "seconds",
    "a.seconds",
    "a_seconds_total",
    "a.milliseconds",
    "a_ratio",
    "x_info",
    "http.server.request.duration",
)
UNITS = (
    *(
        "",
        "s",
        "ms",
        "us",
        "ns",
        "min",
        "h",
        "d",
        "By",
        "KiBy",
        "MiBy",
        "GiBy",
        "TiBy",
        "KBy",
        "MBy",
        "GBy",
        "TBy",
        "kBy",
    ),
    *("m", "V", "A", "J", "W", "g", "Cel", "Hz", "1", "%", "{request}", "{a}{b}", "{request}/s", "By/s", "m/s", "1/s"),
    *(
        "m/m",
        "km/h",
        "a/b/c",
        "/",
        "s/",
        "/s",
        "%/s",
        "{x}/{y}",
        "}{",
        "m{a}s",
        "foo bar",
        "_x_",
        "a__b",
        "By/mo",
        "é"[:0],
        "K*m",
    ),
)


METHODS = {
    "create_counter": "add",
    "create_up_down_counter": "add",
    "create_gauge": "set",
    "create_histogram": "record",
}


@pytest.mark.parametrize("kind", METHODS)
def test_names_and_units_are_the_stock_exporters(kind: str, make_provider: Callable[..., MeterProvider]) -> None:
    """Each name with each unit becomes the name that the stock exporter gives it; descriptions tell the metrics apart."""
    for name in NAMES:
        ours, stock = Scraped(make_provider), StockScraped()
        for number, unit in enumerate(UNITS):
            for side in (ours, stock):
                # With a number before it, so that no two metrics are one family.
                create = getattr(side.provider.get_meter("m"), kind)
                getattr(create(f"n{number}.{name}", unit, f"{name} in {unit}"), METHODS[kind])(1)
        found, expected = ours.families(), stock.families()
        ours.provider.shutdown()

        assert {(f.name, f.documentation, f.type) for f in found.values()} == {
            (f.name, f.documentation, f.type) for f in expected.values()
        }
        assert len(found) == len(UNITS) + 1


@pytest.mark.parametrize("prefix", ["shop", "9", "9 é:x", "a__b", "ns:", "٣"])
def test_prefixes_are_the_stock_exporters(prefix: str, make_provider: Callable[..., MeterProvider]) -> None:
    """A prefix is before all names but `target_info`, and made valid with them."""
    sides = Scraped(make_provider, prefix=prefix), StockScraped(prefix=prefix)
    for side in sides:
        side.provider.get_meter("m").create_counter("a.b", "s").add(1)

    ours, stock = (sorted(side.families()) for side in sides)
    assert ours == stock


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no target": {"disable_target_info": True},
    "no scope": {"scope_info_enabled": False},
    "resource labels": {"resource_attribute_filter": {"region", "cores"}.__contains__},
    "prefix": {"prefix": "shop"},
}


def record(provider: Any) -> None:
    """Records into every kind of instrument, in two scopes."""
    one = provider.get_meter("one", "1.0", "https://schema", {"team": "a b", "size": 3})
    two = provider.get_meter("two")
    attributes: tuple[dict[str, Any], ...] = (
        {},
        {"k": "v"},
        {"k": 'quote " backslash \\ line\nend', "http.method": "GET"},
        {"i": 1, "f": 1.5, "t": True, "n": False, "big": 1e21, "small": 1e-7},
        {"list": ["a", "é", '"'], "ints": [1, 2], "floats": (0.5, 1e16), "none": []},
        {"9lives": "x", "a-b.c": "y", "a__b": "z", "unicode é": "ü€😀"},
        {"region": "own"},
    )
    counter, balance = one.create_counter("orders", "{order}", "Orders."), one.create_up_down_counter("balance")
    gauge, histogram = (
        two.create_gauge("level", "Cel", 'A "quoted" \\ line\nand another.'),
        two.create_histogram("d", "s"),
    )
    sizes = two.create_histogram("size", "By", "Sizes.")
    temperatures = two.create_histogram("temperature")
    for number, labels in enumerate(attributes, 1):
        counter.add(number * 1_000_003, labels)
        counter.add(0.25, {**labels, "float": "yes"})
        balance.add(-number, labels)
        gauge.set((0.1, -1.5, 1e20, 123456789.0, 1e-9, 7, -3e7)[number - 1], labels)
        for value in (0.001, 0.3, 4, 70, 20_000):
            histogram.record(value * number, labels)
        sizes.record(2**30 + number, labels)
        for value in (0, 5, 30):
            temperatures.record(value, labels)

    def observe(_: CallbackOptions) -> list[Observation]:
        return [Observation(12.5, {"k": "v"}), Observation(3, {"k": 2})]

    two.create_observable_counter("seen", [observe], "By")
    two.create_observable_up_down_counter("depth", [observe])
    two.create_observable_gauge("heat", [observe], "Cel")


@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_recordings_are_the_same_series(name: str, make_provider: Callable[..., MeterProvider]) -> None:
    """Families, their metadata, and all samples with labels and values are those of the stock exporter, also without some labels."""
    bounds = ExplicitBucketHistogramAggregation([-10.0, 0.0, 10.0])
    views = [View(instrument_name="temperature", aggregation=bounds)]
    ours, stock = Scraped(make_provider, views, **OPTIONS[name]), StockScraped(views, **OPTIONS[name])
    for side in (ours, stock):
        record(side.provider)
    found, expected = ours.families(), stock.families()

    assert list(found) == list(expected)
    for family in expected:
        assert found[family].type == expected[family].type
        assert found[family].documentation == expected[family].documentation
        assert samples_of(found[family]) == samples_of(expected[family])


def test_numbers_are_written_as_the_stock_exporter_writes_them(make_provider: Callable[..., MeterProvider]) -> None:
    """Without labels, which have another order, each line is that of the stock exporter, byte for byte."""
    views = [View(instrument_name="h", aggregation=ExplicitBucketHistogramAggregation([0.001, 2.5, 1e7, 1e16, 1e21]))]
    options = {"scope_info_enabled": False, "disable_target_info": True}
    sides = Scraped(make_provider, views, **options), StockScraped(views, **options)
    for side in sides:
        meter = side.provider.get_meter("m")
        values = (
            0,
            1,
            -1,
            0.1,
            999_999,
            1_000_000,
            1_234_567.5,
            -1_234_567.5,
            1e15,
            1e16,
            -1e16,
            1e300,
            5e-324,
            1e-4,
            1e-5,
        )
        for number, value in enumerate(values):
            meter.create_gauge(f"g{number}").set(value)
        for _ in range(3):
            meter.create_histogram("h").record(0.5)
        meter.create_counter("c").add(2**53 + 1)

    ours, stock = (side.text() for side in sides)
    assert ours == stock
