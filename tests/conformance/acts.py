"""What is done with a provider to show where it differs from the stock SDK's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import ExemplarFilter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests.conformance.harness import MakeReading, Reading, Session, points

Act = Callable[[Session], None]


def counter(*amounts: Any, rounds: int = 1) -> Act:
    """Adds the amounts to a counter, in each round."""

    def act(running: Session) -> None:
        instrument = running.meter().create_counter("c")
        for _ in range(rounds):
            for amount in amounts:
                instrument.add(amount)
            running.collect()

    return act


def rounds(*each: tuple[Any, ...]) -> Act:
    """Adds the amounts of each round to a counter and collects."""

    def act(running: Session) -> None:
        instrument = running.meter().create_counter("c")
        for amounts in each:
            for amount in amounts:
                instrument.add(amount)
            running.collect()

    return act


def gauge(amount: Any) -> Act:
    """Sets a gauge."""

    def act(running: Session) -> None:
        running.meter().create_gauge("g").set(amount)
        running.collect()

    return act


def labelled(*sets: Any) -> Act:
    """Adds one to a counter with each set of attributes."""

    def act(running: Session) -> None:
        instrument = running.meter().create_counter("c")
        for given in sets:
            instrument.add(1, given)
        running.collect()

    return act


def histogram(*rounds: list[Any], advice: list[float] | None = None, unit: str = "s") -> Act:
    """Records the amounts of each round on a histogram and collects."""

    def act(running: Session) -> None:
        instrument = running.meter().create_histogram("h", unit, explicit_bucket_boundaries_advisory=advice)
        for amounts in rounds:
            for amount in amounts:
                instrument.record(amount)
            running.collect()

    return act


def reader_in_between(running: Session) -> None:
    """Adds a reader between two recordings."""
    instrument = running.meter().create_counter("c")
    instrument.add(3)
    late = InMemoryMetricReader()
    running.provider.add_metric_reader(late)
    instrument.add(4)
    running.note(lambda: [point.value for point in points(late.get_metrics_data())])


class Ended(InMemoryMetricReader):
    """Notes how it is flushed and ended."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def force_flush(self, *_: Any, **__: Any) -> bool:
        self.calls.append("flushed")
        return True

    def shutdown(self, *_: Any, **__: Any) -> None:
        self.calls.append("shut down")


def end_of_an_added_reader(running: Session) -> None:
    """Flushes and shuts down a provider that has got a reader at run time."""
    late = Ended()
    running.provider.add_metric_reader(late)
    running.provider.force_flush()
    running.provider.shutdown()
    running.note(lambda: late.calls)


def end_of_a_removed_reader(running: Session) -> None:
    """Flushes and shuts down a provider whose reader was removed."""
    reader: Any = running.readings[0].reader
    running.provider.remove_metric_reader(reader)
    running.provider.force_flush()
    running.provider.shutdown()
    running.note(lambda: reader.calls)


def ended() -> MakeReading:
    """A reader that notes how it is ended."""

    def make() -> Reading:
        reader = Ended()
        return Reading(reader, reader.get_metrics_data)

    return make


def out_of_time(running: Session) -> None:
    """Collects without any time for a callback."""
    running.meter().create_observable_gauge("g", [lambda _: []])
    running.note(lambda: running.readings[0].reader.collect(timeout_millis=0))


def after_shutdown(running: Session) -> None:
    """Collects from a provider that was shut down."""
    running.meter().create_up_down_counter("u").add(3)
    running.provider.shutdown()
    running.collect()


def a_wrong_name_twice(running: Session) -> None:
    """Asks for an instrument with a wrong name, twice."""
    meter = running.meter()
    for _ in range(2):
        running.note(lambda: meter.create_counter("9"))


def no_unit(running: Session) -> None:
    """None as unit."""
    meter: Any = running.meter()
    running.note(lambda: meter.create_counter("c", None).name)


def wrong_advice(running: Session) -> None:
    """Records with boundaries that fall."""
    instrument = running.meter().create_histogram("h", explicit_bucket_boundaries_advisory=[5, 1])
    running.note(lambda: instrument.record(3))


def within_contexts(*recordings: tuple[Any, Any], **more: Any) -> Act:
    """Adds amounts to a counter, each with a context, and collects."""

    def act(running: Session) -> None:
        instrument = running.meter().create_counter("c")
        for amount, context in recordings:
            instrument.add(amount, more.get("attributes"), context)
        running.collect()

    return act


def a_context_that_is_none(running: Session) -> None:
    """Adds with something else than a context."""
    instrument: Any = running.meter().create_counter("c")
    running.note(lambda: instrument.add(1, None, "context"))


def a_filter_that_raises(running: Session) -> None:
    """Adds where the filter is asked."""
    instrument = running.meter().create_counter("c")
    running.note(lambda: instrument.add(1))


class Raising(ExemplarFilter):
    """A filter that raises."""

    def should_sample(self, *_: Any) -> bool:
        raise ZeroDivisionError
