"""Creating, shutting down, adding and removing: what provider, meters and readers answer, in whatever order they are called."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics._internal import _default_meter_configurator, _disable_meter_configurator
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests.conformance.calls import KINDS, NAMES, UNITS, Instrument
from tests.conformance.harness import DELTA, OURS, STOCK, MakeReading, Reading, Session, compare, in_memory, plain, seen

Act = Callable[[Session], None]


class Noting(InMemoryMetricReader):
    """Notes how it is ended."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[str] = []

    def shutdown(self, *_: Any, **__: Any) -> None:
        self.calls.append("shut down")

    def read(self) -> Any:
        """What is collected, and the calls so far."""
        return plain(self.get_metrics_data()), list(self.calls)


def noting(**options: Any) -> MakeReading:
    """A reader that notes how it is ended."""

    def make() -> Reading:
        reader = Noting(**options)
        return Reading(reader, reader.read)

    return make


def instruments(running: Session) -> list[Instrument]:
    """One instrument of each kind."""
    return [Instrument(running.meter(), kind) for kind in KINDS]


def record_after_shutdown(running: Session) -> None:
    """Instruments of a provider that was shut down take recordings; for values that go see test_other_differences.py."""
    made = [instrument for instrument in instruments(running) if instrument.kind not in {"UpDownCounter", "Gauge"}]
    for instrument in made:
        instrument.record(3)
    running.note(running.provider.shutdown)
    for instrument in made:
        instrument.record(4, {"late": True})
    running.collect()
    running.collect()


def create_after_shutdown(running: Session) -> None:
    """A meter from before still makes instruments; new meters do nothing."""
    meter = running.meter()
    running.note(running.provider.shutdown)
    Instrument(meter, "Counter").record(3)
    late = running.provider.get_meter("late")
    running.note(lambda: isinstance(late, api.NoOpMeter))
    for kind in KINDS:
        Instrument(late, kind).record(3)
    running.collect()


def shut_down_twice(running: Session) -> None:
    """Only the first shutdown reaches the readers."""
    running.note(running.provider.shutdown)
    running.note(running.provider.shutdown)
    running.collect()


def flush_after_shutdown(running: Session) -> None:
    """Flushing a provider that was shut down."""
    Instrument(running.meter(), "Counter").record(3)
    running.note(running.provider.force_flush)
    running.note(running.provider.shutdown)
    running.note(running.provider.force_flush)
    running.collect()


def fail_to_shut_down(running: Session) -> None:
    """A reader that fails at shutdown."""
    reader: Any = running.readings[0].reader

    def failing(*_: Any, **__: Any) -> None:
        raise OSError

    reader.shutdown = failing
    running.note(running.provider.shutdown)
    running.note(running.provider.shutdown)


def remove(running: Session) -> None:
    """A reader is removed, twice, and collects no more."""
    instrument = Instrument(running.meter(), "Counter")
    instrument.record(3)
    running.collect()
    reader = running.readings[0].reader
    for _ in range(2):
        running.note(lambda: running.provider.remove_metric_reader(reader))
        instrument.record(4)
        running.collect()


def add_and_remove(running: Session) -> None:
    """A delta reader that comes before anything is recorded, and goes."""
    made = instruments(running)
    reader = Noting(preferred_temporality=DELTA)
    running.note(lambda: running.provider.add_metric_reader(reader))
    running.note(lambda: running.provider.add_metric_reader(reader))
    for number in range(3):
        for instrument in made:
            instrument.observations.clear()
            instrument.record(3 + number)
        running.collect()
        running.note(reader.read)
    running.note(lambda: running.provider.remove_metric_reader(reader))
    made[0].record(9)
    running.note(reader.read)
    running.collect()


def add_again(running: Session) -> None:
    """A reader that was removed and is added to the same provider again."""
    instrument = Instrument(running.meter(), "ObservableGauge")
    instrument.record(3)
    reader = running.readings[0].reader
    running.note(lambda: running.provider.remove_metric_reader(reader))
    running.collect()
    running.note(lambda: running.provider.add_metric_reader(reader))
    running.collect()


def share_a_reader(running: Session) -> None:
    """A reader that has a provider already."""
    running.note(lambda: type(running.provider)(metric_readers=[running.readings[0].reader], shutdown_on_exit=False))
    stranger = InMemoryMetricReader()
    running.note(lambda: running.provider.remove_metric_reader(stranger))
    Instrument(running.meter(), "Counter").record(3)
    running.collect()


def collect_without_provider(running: Session) -> None:
    """A reader that nobody has taken."""
    running.note(InMemoryMetricReader().get_metrics_data)


def collect_with_nothing(running: Session) -> None:
    """No instruments, then instruments without recordings."""
    running.collect()
    instruments(running)
    running.collect()


def ask_for_an_observable_again(running: Session) -> None:
    """The callbacks of the first creation are those that run."""
    meter = running.meter()
    Instrument(meter, "ObservableCounter").record(3)
    Instrument(meter, "ObservableCounter").record(5, {"second": True})
    running.collect()


LIFE: dict[str, Act] = {
    "ask for an observable again": ask_for_an_observable_again,
    "record after shutdown": record_after_shutdown,
    "create after shutdown": create_after_shutdown,
    "shut down twice": shut_down_twice,
    "flush after shutdown": flush_after_shutdown,
    "fail to shut down": fail_to_shut_down,
    "remove": remove,
    "add and remove": add_and_remove,
    "add again": add_again,
    "share a reader": share_a_reader,
    "collect without provider": collect_without_provider,
    "collect with nothing": collect_with_nothing,
}


@pytest.mark.parametrize("act", LIFE)
def test_providers_live_and_end_as_the_sdks(act: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is called in whatever order answers, exports, raises and logs as with the SDK."""
    caplog.set_level(logging.WARNING)
    lines: list[list[str]] = []
    found: list[list[Any]] = []
    for side in (STOCK, OURS):
        caplog.clear()
        found.append(seen(side, LIFE[act], noting()))
        # Without the arguments, which have addresses of readers.
        lines.append([record.msg for record in caplog.records])

    assert found[1] == found[0]
    assert lines[1] == lines[0]


IDENTITIES: list[tuple[str, str, str]] = [
    ("a", "", ""),
    ("A", "", ""),
    ("a", "s", ""),
    ("a", "S", ""),
    ("a", "", "text"),
    ("a", "", "Text"),
    ("b", "", ""),
]


def test_equal_instruments_are_one_object_where_they_are_in_the_sdk() -> None:
    """Which creations answer the same object, over all kinds, names, units and descriptions, is as in the SDK."""

    def act(running: Session) -> None:
        meter = running.meter()
        made = [Instrument(meter, kind, *identity).native for kind in KINDS for identity in IDENTITIES]
        running.note(lambda: [[one is other for other in made] for one in made])
        running.note(lambda: [(one.name, one.unit, one.description) for one in made])

    stock, ours = compare(act)
    assert ours == stock


SCOPES: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("m",), {}),
    (("m", None), {}),
    (("m", ""), {}),
    (("m", "1"), {}),
    (("M",), {}),
    (("m", None, ""), {}),
    (("m", None, "https://schema"), {}),
    (("m",), {"attributes": {}}),
    (("m",), {"attributes": {"a": 1}}),
    (("m",), {"attributes": {"a": 1.0}}),
    (("m",), {"attributes": {"a": [1, "x"]}}),
    (("m",), {"attributes": {"a": True}}),
    (("m", "1", "https://schema", {"a": 1}), {}),
    (("",), {}),
    ((None,), {}),
]


def test_equal_scopes_are_one_meter_where_they_are_in_the_sdk() -> None:
    """Which scopes share a meter, and under which scope an instrument of each is exported, is as in the SDK."""

    def act(running: Session) -> None:
        meters = [running.provider.get_meter(*given, **named) for given, named in SCOPES]
        running.note(lambda: [[one is other for other in meters if isinstance(other, sdk.Meter)] for one in meters])
        running.note(lambda: [(meter.name, meter.version, meter.schema_url) for meter in meters])
        for number, meter in enumerate(meters):
            Instrument(meter, "Counter").record(2**number)
        running.collect()

    stock, ours = compare(act)
    assert ours == stock


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_units_are_taken_or_refused_as_by_the_sdk(kind: str) -> None:
    """Each name is taken and lower-cased, each unit taken, or refused with the SDK's exception."""

    def create(meter: Any, name: str, unit: str) -> str:
        made: Any = getattr(meter, KINDS[kind][0])(name, unit=unit)
        return str(made.name)

    def act(running: Session) -> None:
        # Each with a meter of its own: the SDK finds what it has made before it looks at the name.
        for number, (name, unit) in enumerate([*((name, "") for name in NAMES), *(("i", unit) for unit in UNITS)]):
            meter = running.meter(f"scope {number}")
            running.note(lambda meter=meter, name=name, unit=unit: create(meter, name, unit))  # type: ignore[misc]
        running.collect()

    stock, ours = compare(act)
    assert ours == stock


CONFIGURATORS: dict[str, Any] = {
    "none": None,
    "the default one": _default_meter_configurator,
    "all disabled": _disable_meter_configurator,
}


@pytest.mark.parametrize("later", CONFIGURATORS)
@pytest.mark.parametrize("configurator", CONFIGURATORS)
def test_meters_are_enabled_as_in_the_sdk(configurator: str, later: str) -> None:
    """What a configurator says of a meter, at its creation and later, is answered by its instruments and obeyed."""

    def act(running: Session) -> None:
        meter: Any = running.meter()
        made = instruments(running)
        for number in range(2):
            running.note(meter._is_enabled)
            running.note(lambda: [instrument.native._is_enabled() for instrument in made])
            for instrument in made:
                instrument.observations.clear()
                instrument.record(3 + number)
            running.collect()
            if CONFIGURATORS[later] is not None:
                running.provider._set_meter_configurator(meter_configurator=CONFIGURATORS[later])

    stock, ours = compare(act, in_memory(DELTA), _meter_configurator=CONFIGURATORS[configurator])
    assert ours == stock


@pytest.mark.parametrize("value", ["true", "TRUE ", "false", "1"])
def test_a_disabled_sdk_does_nothing_on_both_sides(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED has the SDK's effect."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", value)

    def act(running: Session) -> None:
        for instrument in instruments(running):
            instrument.record(3)
        running.collect()

    stock, ours = compare(act)
    assert ours == stock


MISUSED: dict[str, Callable[[Any], Any]] = {
    "no arguments": lambda provider: provider.get_meter(),
    "a meter without names": lambda provider: provider.get_meter("m").create_counter(),
    "an unknown argument": lambda provider: provider.get_meter("m").create_counter("c", boundaries=[1]),
    "advice by position": lambda provider: provider.get_meter("m").create_histogram("h", "", "", [1]),
    "callbacks of a counter": lambda provider: provider.get_meter("m").create_counter("c", callbacks=[]),
}


@pytest.mark.parametrize("misuse", MISUSED)
def test_misuse_raises_what_it_raises_in_the_sdk(misuse: str) -> None:
    """Wrong calls at creation raise the SDK's class of exception."""
    stock, ours = compare(lambda running: running.note(lambda: MISUSED[misuse](running.provider)))

    assert ours == stock
    assert isinstance(stock[0], type)
