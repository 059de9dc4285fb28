"""The recording methods: arguments, amounts, attributes, bound series, and what happens to recordings that cannot be taken."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import MeterProvider as StockProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_perf import MeterProvider, metrics
from otel_perf.metrics import _instruments
from tests.conftest import points_of
from tests.unit.instrumented import KINDS, NONE, Instrumented

kinds = pytest.mark.parametrize("kind", KINDS)


class Grown(int):
    """An integer of a class of its own."""


class Indexed:
    """An object that stands for an integer, as numpy's do."""

    def __index__(self) -> int:
        return 2


def test_instruments_are_the_apis_and_the_sdks(provider: MeterProvider) -> None:
    """isinstance() holds for the classes of the API, of the SDK and of otel_perf."""
    for kind, (create, _) in KINDS.items():
        instrument = getattr(provider.get_meter("m"), create)("i")
        private = "_Gauge" if kind == "Gauge" else kind
        assert isinstance(instrument, (getattr(api, private), getattr(sdk, private)))
        assert isinstance(instrument, getattr(api, private))
        assert isinstance(instrument, getattr(sdk, private))
        assert type(instrument) is getattr(metrics, kind)


def test_instruments_know_what_they_are(provider: MeterProvider) -> None:
    """Name, unit, description and scope are those of their creation; the name is lower-cased as the SDK does."""
    meter = provider.get_meter("scope", "1")
    for create, _ in KINDS.values():
        instrument = getattr(meter, create)("My.Name", "By", "text")
        assert (instrument.name, instrument.unit, instrument.description) == ("my.name", "By", "text")
        assert (instrument.instrumentation_scope.name, instrument.instrumentation_scope.version) == ("scope", "1")
        assert "my.name" in repr(instrument)
        assert "my.name" in repr(instrument.bind())


ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any], frozenset[Any]]] = {
    "amount": ((2,), {}, NONE),
    "amount by name": ((), {"amount": 2}, NONE),
    "attributes": ((2, {"a": 1}), {}, frozenset({("a", 1)})),
    "attributes by name": ((2,), {"attributes": {"a": 1}}, frozenset({("a", 1)})),
    "no attributes": ((2, None), {}, NONE),
    "context": ((2, {"a": 1}, Context()), {}, frozenset({("a", 1)})),
    "no context": ((2, {"a": 1}, None), {}, frozenset({("a", 1)})),
    "context by name": ((2,), {"context": Context()}, NONE),
    "all by name": ((), {"context": None, "attributes": {"a": 1}, "amount": 2}, frozenset({("a", 1)})),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_by_position_and_by_name(made: Instrumented, case: str) -> None:
    """Every argument of the API can be given by position and by name."""
    positional, named, series = ARGUMENTS[case]
    made.record(*positional, **named)

    assert made.points() == {series: 2}


WRONG_CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "nothing": ((), {}),
    "too many": ((1, None, None, None), {}),
    "twice": ((1,), {"amount": 1}),
    "attributes twice": ((1, {}), {"attributes": {}}),
    "unknown name": ((1,), {"value": 1}),
    "only attributes": ((), {"attributes": {}}),
}
WRONG_AMOUNTS: dict[str, Any] = {
    "text": "1",
    "none": None,
    "bytes": b"1",
    "a list": [1],
    "complex": 1j,
    "an object": object(),
    "a class": int,
}


@pytest.mark.parametrize("case", WRONG_CALLS)
@kinds
def test_wrong_calls_raise_type_errors_as_the_sdk(case: str, kind: str, make: Callable[[str], Instrumented]) -> None:
    """A call that the SDK's signature refuses raises TypeError here too, and records nothing."""
    reader = InMemoryMetricReader()
    stock = Instrumented(StockProvider([reader], shutdown_on_exit=False), reader, kind)
    positional, named = WRONG_CALLS[case]
    with pytest.raises(TypeError):
        stock.record(*positional, **named)

    native = make(kind)
    with pytest.raises(TypeError):
        native.record(*positional, **named)
    assert native.points() == {}


@pytest.mark.parametrize("case", WRONG_AMOUNTS)
def test_wrong_types_raise_and_are_counted(made: Instrumented, case: str) -> None:
    """An amount that is no number raises the TypeError of the SDK's `math.isfinite`, and is counted."""
    with pytest.raises(TypeError) as expected:
        math.isfinite(WRONG_AMOUNTS[case])
    for record in (made.record, made.bound()):
        with pytest.raises(TypeError) as raised:
            record(WRONG_AMOUNTS[case])
        assert str(raised.value) == str(expected.value)

    assert made.points() == {}
    assert made.drops() == {"wrong_type": 2}


def test_integers_too_large_for_a_float_raise_as_the_sdk(made: Instrumented) -> None:
    """An integer that has no float raises OverflowError, as the SDK's `math.isfinite` does."""
    with pytest.raises(OverflowError):
        made.record(10**400)

    assert made.points() == {}


@pytest.mark.parametrize("amount", [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("Infinity")])
def test_amounts_that_are_not_finite_are_ignored_and_counted(made: Instrumented, amount: Any) -> None:
    """NaN and infinities record nothing and are counted as not finite."""
    made.record(amount)
    made.bound()(amount)

    assert made.points() == {}
    assert made.drops() == {"non_finite": 2}


@pytest.mark.parametrize("amount", [-1, -(2**70), -0.5, Decimal(-1), Fraction(-1, 2), Grown(-1)])
@kinds
def test_negative_amounts(kind: str, amount: Any, make: Callable[[str], Instrumented]) -> None:
    """Counters and histograms ignore and count negative amounts; up-down counters and gauges take them."""
    native = make(kind)
    native.record(amount)

    if kind in ("Counter", "Histogram"):
        native.bound()(amount)
        assert native.points() == {}
        assert native.drops() == {"negative": 2}
    else:
        assert native.points() == {NONE: float(amount)}
        assert native.drops() == {}


NUMBERS: list[tuple[Any, Any]] = [
    (0, 0),
    (7, 7),
    (2**30, 2**30),
    (2**40, 2**40),
    (2**60 - 1, 2**60 - 1),
    (2**60, 2.0**60),
    (2**70, 2.0**70),
    (0.0, 0.0),
    (0.25, 0.25),
    (1e300, 1e300),
    (5e-324, 5e-324),
    (True, 1),
    (False, 0),
    (Grown(5), 5),
    (Indexed(), 2),
    (Decimal("1.5"), 1.5),
    (Fraction(1, 4), 0.25),
]


@pytest.mark.parametrize(("amount", "expected"), NUMBERS)
def test_numbers_of_all_kinds_are_recorded(made: Instrumented, amount: Any, expected: Any) -> None:
    """Integers stay integers below 2^60, everything else that has a float is one; bound calls agree."""
    made.record(amount)
    made.bound({"bound": True})(amount)

    assert made.points() == {NONE: expected, frozenset({("bound", True)}): expected}
    assert {type(value) for value in made.points().values()} == {type(expected)}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Gauge"])
def test_sums_of_integers_do_not_wrap_around(kind: str, make: Callable[[str], Instrumented]) -> None:
    """A sum beyond 64 bits is a large number, not a wrapped one."""
    native = make(kind)
    for _ in range(40):
        native.record(2**59)

    assert native.points()[NONE] == pytest.approx(40 * 2**59)


OBSERVABLES = ("create_observable_counter", "create_observable_up_down_counter", "create_observable_gauge")
observables = pytest.mark.parametrize("create", OBSERVABLES)


@observables
def test_observables_take_their_arguments_by_position_and_by_name(
    create: str, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Name, callbacks, unit and description can be given either way, and callbacks are told their time."""
    told: list[float] = []

    def callback(options: CallbackOptions) -> Iterable[Observation]:
        told.append(options.timeout_millis)
        return [Observation(2, {"a": 1}), Observation(3, attributes={"a": 2}, context=Context())]

    factory = getattr(provider.get_meter("m"), create)
    factory("Positional", [callback], "By", "text")
    factory(name="named", callbacks=(callback,), unit="By", description="text")
    factory("without.callbacks")
    points = points_of(reader.get_metrics_data())

    expected = {(name, frozenset({("a", n)})): n + 1 for name in ("positional", "named") for n in (1, 2)}
    assert {key: point.value for key, point in points.items()} == expected
    assert told == [pytest.approx(10_000, rel=0.1)] * 2


@observables
def test_observables_are_the_sdks(create: str, provider: MeterProvider) -> None:
    """Observable instruments are instances of the SDK's classes, with lower-cased name, unit and description."""
    instrument: Any = getattr(provider.get_meter("m"), create)("My.Name", [], "By", "text")

    assert isinstance(instrument, (sdk.ObservableCounter, sdk.ObservableUpDownCounter, sdk.ObservableGauge))
    assert (instrument.name, instrument.unit, instrument.description) == ("my.name", "By", "text")


@observables
@pytest.mark.parametrize("value", [True, 2**70, Decimal("1.5"), Fraction(1, 4), Grown(5), 0, -3, 2.5])
def test_observed_numbers_of_all_kinds(
    create: str, value: Any, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """A callback may report whatever can be recorded."""
    getattr(provider.get_meter("m"), create)("i", [lambda _: [Observation(value)]])

    assert points_of(reader.get_metrics_data())["i", NONE].value == float(value)


IGNORED: dict[tuple[str, str], str] = {
    ("Counter", "nan"): "Add amount nan is not finite on Counter i, ignoring measurement.",
    ("UpDownCounter", "inf"): "Add amount inf is not finite on UpDownCounter i, ignoring measurement.",
    ("Histogram", "-inf"): "Record amount -inf is not finite on Histogram i, ignoring measurement.",
    ("Gauge", "nan"): "Set amount nan is not finite on Gauge i, ignoring measurement.",
    ("Counter", "-1"): "Add amount must be non-negative on Counter i.",
    ("Histogram", "-1"): "Record amount must be non-negative on Histogram i.",
}


@pytest.mark.parametrize(("kind", "amount"), IGNORED)
def test_an_ignored_recording_is_logged_once_as_the_sdk_words_it(
    kind: str, amount: str, make: Callable[[str], Instrumented], caplog: pytest.LogCaptureFixture
) -> None:
    """Any number of the same mistake on one instrument, bound or not, is one line, and that line is the SDK's."""
    stock_reader = InMemoryMetricReader()
    Instrumented(StockProvider([stock_reader], shutdown_on_exit=False), stock_reader, kind).record(float(amount))
    assert caplog.messages == [IGNORED[kind, amount]]
    caplog.clear()
    native = make(kind)
    for _ in range(5):
        native.record(float(amount), {"a": 1})
        native.bound()(float(amount))

    assert caplog.messages == [IGNORED[kind, amount]]


def test_a_later_line_says_how_many_were_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """After a minute the next mistake is logged with the number of those between."""
    for now in (0.0, 1.0, 59.0, 60.0):
        _instruments._ignored("Counter", "i", "negative", -1, now=now)

    text = "Add amount must be non-negative on Counter i."
    assert caplog.messages == [text, f"{text} (2 more like this since the last line.)"]


def test_instruments_with_mistakes_are_logged_one_by_one_up_to_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    """Each instrument has its own line, but no more than 256 of them are kept in mind."""
    for number in range(300):
        _instruments._ignored("Counter", f"i{number}", "negative", -1, now=0.0)

    assert len(caplog.messages) == 256


def test_several_reasons_are_counted_apart(make: Callable[[str], Instrumented]) -> None:
    """Each reason has its own count, and what was right beside the mistakes is recorded."""
    counter = make("Counter")
    for amount in (1, -1, -2, math.nan, 2):
        counter.record(amount)
    with pytest.raises(TypeError):
        counter.record("three")

    assert counter.points() == {NONE: 3}
    assert counter.drops() == {"negative": 2, "non_finite": 1, "wrong_type": 1}


@kinds
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_program_passes(
    exception: type[BaseException], kind: str, make: Callable[[str], Instrumented], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a signal handler raises while a recording is in Python code, such as KeyboardInterrupt, reaches the caller, and nothing is recorded."""

    class Interrupted:
        def __str__(self) -> str:
            raise exception

    class InterruptedHandler(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            raise exception

    def bind_and_record(amount: float, attributes: Any) -> None:
        native.bound(attributes)(amount)

    native = make(kind)
    for call in (native.record, bind_and_record):
        with pytest.raises(exception):
            call(1, {"key": Interrupted()})
    logger, handler = logging.getLogger("otel_perf.metrics._instruments"), InterruptedHandler()
    logger.addHandler(handler)
    for record in (native.record, native.bound()):
        _instruments._reported.clear()
        with pytest.raises(exception):
            record(float("nan"))
    logger.removeHandler(handler)

    assert native.drops() == {"non_finite": 2}
    assert native.points() == {}
