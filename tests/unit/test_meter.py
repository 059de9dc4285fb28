"""Meters: scopes, validation of names and units, and one instrument for each identity."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import MeterProvider as StockProvider
from opentelemetry.sdk.metrics._internal import _default_meter_configurator, _disable_meter_configurator
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_perf import MeterProvider
from otel_perf.metrics import Meter
from tests.conftest import points_of
from tests.unit.instrumented import KINDS, Instrumented

SYNCHRONOUS = ("create_counter", "create_up_down_counter", "create_histogram", "create_gauge")
OBSERVABLE = ("create_observable_counter", "create_observable_up_down_counter", "create_observable_gauge")
creates = pytest.mark.parametrize("create", [*SYNCHRONOUS, *OBSERVABLE])


@pytest.fixture
def meter(provider: MeterProvider) -> Any:
    """A meter."""
    return provider.get_meter("m")


@pytest.fixture
def stock() -> Any:
    """A meter of the stock SDK."""
    return StockProvider(shutdown_on_exit=False).get_meter("m")


NAMES = ["a", "a.b-c_d/e", "A9", "x" * 255, "x" * 256, "", "9a", "_a", "a b", "a%", "é", "a\n", ".a", "a:b"]
UNITS = ["", "s", "{token}", "By/s", "u" * 63, "u" * 64, "µs", "a b", "\x00"]


def outcome(create: Callable[..., Any], *arguments: Any) -> Any:
    """Name and unit of what is created, or class and text of what is raised."""
    try:
        instrument = create(*arguments)
    except Exception as error:
        return type(error), str(error)
    return instrument.name, instrument.unit


@creates
@pytest.mark.parametrize("name", NAMES)
def test_names_are_validated_as_by_the_sdk(create: str, name: str, meter: Any, stock: Any) -> None:
    """A name is accepted, lower-cased or refused with the same exception."""
    assert outcome(getattr(meter, create), name) == outcome(getattr(stock, create), name)


@creates
@pytest.mark.parametrize("unit", UNITS)
def test_units_are_validated_as_by_the_sdk(create: str, unit: str, meter: Any, stock: Any) -> None:
    """A unit is accepted or refused with the same exception."""
    arguments = ("i", None, unit) if create in OBSERVABLE else ("i", unit)
    assert outcome(getattr(meter, create), *arguments) == outcome(getattr(stock, create), *arguments)


@pytest.mark.parametrize("create", SYNCHRONOUS)
def test_a_wrong_name_is_refused_every_time(create: str, meter: Any) -> None:
    """The second creation with a wrong name raises what the first did (the SDK raises KeyError there)."""
    for _ in range(2):
        with pytest.raises(Exception, match="Expected ASCII string"):
            getattr(meter, create)("9a")


@pytest.mark.parametrize("create", SYNCHRONOUS)
def test_none_as_unit_and_description_is_empty(create: str, meter: Any) -> None:
    """None instead of a unit or description is no reason to fail (the SDK raises TypeError)."""
    instrument = getattr(meter, create)("i", None, None)

    assert (instrument.unit, instrument.description) == ("", "")


@creates
def test_identical_creation_returns_the_identical_object(create: str, meter: Any, caplog: Any) -> None:
    """Equal name, in whatever case, unit and description make one object, without a warning."""
    options = {"unit": "By", "description": "text"}
    first = getattr(meter, create)("Name", **options)

    assert getattr(meter, create)("Name", **options) is first
    assert getattr(meter, create)("nAME", **options) is first
    assert caplog.messages == []


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "another kind": ("create_up_down_counter", {"unit": "By", "description": "text"}),
    "another unit": ("create_counter", {"unit": "s", "description": "text"}),
    "another description": ("create_counter", {"unit": "By", "description": "other"}),
    "observable": ("create_observable_counter", {"unit": "By", "description": "text"}),
}


@pytest.mark.parametrize("other", OTHERS)
def test_same_name_with_another_identity_is_another_instrument(
    other: str, meter: Any, stock: Any, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """An instrument of another kind, unit or description under the same name is its own; the log lines are the SDK's, which has none."""
    create, options = OTHERS[other]
    lines = []
    for found in (stock, meter):
        first = found.create_counter("name", "By", "text")
        second = getattr(found, create)("name", **options)
        first.add(1)
        assert second is not first
        if hasattr(second, "add"):
            second.add(2)
        lines.append(caplog.messages[:])
        caplog.clear()
    data: Any = reader.get_metrics_data()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics

    assert [point.value for metric in metrics for point in metric.data.data_points] == [1, 2][: len(metrics)]
    assert len(metrics) == (1 if other == "observable" else 2)
    assert lines[1] == lines[0]


def test_another_advice_warns_and_the_first_stays(
    meter: Any, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """Advice is not part of the identity: the first one stays, with a warning."""
    first = meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1, 2])
    assert meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1, 2]) is first
    assert caplog.messages == []
    second = meter.create_histogram("h", explicit_bucket_boundaries_advisory=[3])
    second.record(1.5)

    assert second is first
    assert len(caplog.messages) == 1
    (point,) = points_of(reader.get_metrics_data()).values()
    assert list(point.explicit_bounds) == [1, 2]


WRONG_ADVICE: dict[str, tuple[Any, str]] = {
    "no sequence": (5, "must be a sequence of numbers"),
    "a set": ({1, 2}, "must be a sequence of numbers"),
    "texts": (["1"], "must be a sequence of numbers"),
    "a text": ("12", "must be a sequence of numbers"),
    "not increasing": ([2, 1], "must be finite and strictly increasing"),
    "equal": ([1, 1], "must be finite and strictly increasing"),
    "not finite": ([1, float("inf")], "must be finite and strictly increasing"),
    "NaN": ([float("nan")], "must be finite and strictly increasing"),
}


@pytest.mark.parametrize("case", WRONG_ADVICE)
def test_wrong_advice_is_one_warning_and_the_default(
    case: str, meter: Any, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """Boundaries that cannot be used are one warning, and the histogram has the default ones."""
    advice, text = WRONG_ADVICE[case]
    meter.create_histogram("h", explicit_bucket_boundaries_advisory=advice).record(1)

    assert len(caplog.messages) == 1
    assert text in caplog.messages[0]
    (point,) = points_of(reader.get_metrics_data()).values()
    assert len(point.explicit_bounds) == 15


def test_a_meter_is_the_sdks_and_knows_its_scope(provider: MeterProvider) -> None:
    """A meter is an instance of the SDK's class and has the name, version and schema URL it was asked for."""
    meter = provider.get_meter("name", "1.2", "https://schema", {"team": "a"})

    assert isinstance(meter, (Meter, sdk.Meter))
    assert isinstance(meter, sdk.Meter)
    assert (meter.name, meter.version, meter.schema_url) == ("name", "1.2", "https://schema")


SCOPES: list[tuple[Any, ...]] = [
    ("a",),
    ("b",),
    ("a", "1"),
    ("a", "2"),
    ("a", "1", "https://schema"),
    ("a", "1", "https://schema", {"team": "a"}),
    ("a", "1", "https://schema", {"team": "b"}),
    ("a", None, None, {"n": 1, "f": 1.5, "l": (1, 2), "t": True}),
]


def test_equal_scopes_share_a_meter(provider: MeterProvider) -> None:
    """One meter for each name, version, schema URL and attributes."""
    meters = [[provider.get_meter(*scope) for scope in SCOPES] for _ in range(2)]

    assert len({id(meter) for meter in meters[0]}) == len(SCOPES)
    assert all(first is second for first, second in zip(*meters, strict=True))


def test_equal_instruments_of_several_scopes_are_apart(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """Each scope exports its own instrument under its name, version, schema URL and attributes."""
    for number, scope in enumerate(SCOPES):
        provider.get_meter(*scope).create_counter("c").add(number)
    data: Any = reader.get_metrics_data()
    found = {}
    for exported in data.resource_metrics[0].scope_metrics:
        scope = exported.scope
        (metric,) = exported.metrics
        (point,) = metric.data.data_points
        assert exported.schema_url == (scope.schema_url or "")
        key = (scope.name, scope.version, scope.schema_url, tuple(sorted((scope.attributes or {}).items())))
        found[key] = point.value

    padded = [(*scope, *[None] * (4 - len(scope))) for scope in SCOPES]
    assert found == {
        (name, version, schema or "", tuple(sorted((attributes or {}).items()))): number
        for number, (name, version, schema, attributes) in enumerate(padded)
    }


@creates
def test_threads_that_create_at_once_get_one_object(create: str, provider: MeterProvider) -> None:
    """Eight threads that create the identical instrument at once, each with a meter of its own asking, get one object."""
    begin = threading.Barrier(8)

    def work(_: int) -> list[Any]:
        begin.wait()
        return [getattr(provider.get_meter(f"m{n % 3}"), create)(f"i{n}") for n in range(30)]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(work, range(8)))

    assert all(len({id(row[n]) for row in made}) == 1 for n in range(30))


def test_a_disabled_meter_makes_instruments_that_do_nothing(
    make_provider: Callable[..., MeterProvider], reader: InMemoryMetricReader
) -> None:
    """With a meter configurator that disables the scope nothing is recorded, as with the SDK."""
    provider = make_provider(reader, _meter_configurator=_disable_meter_configurator)
    meter: Any = provider.get_meter("m")
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
    for amount in (1, -1, float("nan"), "no number"):
        for attributes in (None, {}, {"a": 1}, {"a": object()}, 5):
            counter.add(amount, attributes)
            histogram.record(amount, attributes)
        counter.bind({"a": 1}).add(amount)
        histogram.bind().record(amount)

    assert (counter._is_enabled(), histogram._is_enabled()) == (False, False)
    assert points_of(reader.get_metrics_data()) == {}
    assert set(provider.segment.status()["drops"].values()) == {0}


@pytest.mark.parametrize("create", OBSERVABLE)
def test_callbacks_of_a_disabled_meter_are_not_run(
    create: str, make_provider: Callable[..., MeterProvider], reader: InMemoryMetricReader
) -> None:
    """With a meter configurator that disables the scope no callback runs, as with the SDK."""
    called: list[int] = []
    meter = make_provider(reader, _meter_configurator=_disable_meter_configurator).get_meter("m")

    def callback(_: CallbackOptions) -> list[Observation]:
        called.append(1)
        return [Observation(1)]

    getattr(meter, create)("i", [callback])

    assert points_of(reader.get_metrics_data()) == {}
    assert called == []


@creates
def test_a_meter_can_be_disabled_later(
    create: str, make_provider: Callable[..., MeterProvider], reader: InMemoryMetricReader
) -> None:
    """A configurator that is set later reaches meters and instruments that there are, as with the SDK."""
    provider = make_provider(reader)
    options = {"callbacks": [lambda _: [Observation(1)]]} if create in OBSERVABLE else {}
    instrument: Any = getattr(provider.get_meter("m"), create)("i", **options)
    provider._set_meter_configurator(meter_configurator=_disable_meter_configurator)
    for method in ("add", "record", "set"):
        if hasattr(instrument, method):
            getattr(instrument, method)(1)

    assert points_of(reader.get_metrics_data()) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_meter_can_be_enabled_again(
    kind: str, make_provider: Callable[..., MeterProvider], reader: InMemoryMetricReader
) -> None:
    """What is recorded while the meter is disabled is lost, also of attributes seen before and of bound series; the rest counts."""
    provider = make_provider(reader)
    made = Instrumented(provider, reader, kind)
    seen, new = {"a": 1}, {"b": 1}
    calls: list[Callable[[int], None]] = [
        made.bound(seen),
        made.record,
        *(partial(made.record, attributes=attributes) for attributes in (seen, new)),
    ]
    for number, configurator in enumerate(
        (_default_meter_configurator, _disable_meter_configurator, _default_meter_configurator)
    ):
        provider._set_meter_configurator(meter_configurator=configurator)
        for call in calls if number != 0 else calls[:3]:
            call(10**number)

    last = kind == "Gauge"
    once = {"default": 100 if last else 101, "seen": 100 if last else 202, "new": 100}
    assert made.points() == {
        frozenset(): once["default"],
        frozenset(seen.items()): once["seen"],
        frozenset(new.items()): once["new"],
    }


def test_a_configurator_that_fails_leaves_the_meter_enabled(
    make_provider: Callable[..., MeterProvider], reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """A failing meter configurator is logged and the meter works, as with the SDK."""
    caplog.set_level(logging.ERROR)
    make_provider(reader, _meter_configurator=lambda _: 1 / 0).get_meter("m").create_counter("c").add(1)

    assert len(points_of(reader.get_metrics_data())) == 1
    assert "meter configurator failed" in caplog.text
