"""Callbacks of observable instruments: what goes wrong in one leaves everything else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
)

from otel_perf import MeterProvider
from tests.unit.instrumented import values

Make = Callable[..., MeterProvider]


def good(_: CallbackOptions) -> Iterable[Observation]:
    """A callback that works."""
    return [Observation(5)]


def raising(_: CallbackOptions) -> Iterable[Observation]:
    """A callback that raises at once."""
    raise ZeroDivisionError


def raising_later(_: CallbackOptions) -> Iterable[Observation]:
    """A callback that raises after an observation."""
    yield Observation(1, {"a": 1})
    raise ZeroDivisionError


BAD: dict[str, Callable[[CallbackOptions], Any]] = {
    "raises": raising,
    "raises later": raising_later,
    "nothing": lambda _: None,
    "a number": lambda _: 5,
    "a list of numbers": lambda _: [1, 2],
    "an observation": lambda _: Observation(1),
    "a text": lambda _: [Observation("1")],  # type: ignore[arg-type]
    "no value": lambda _: [Observation(None)],  # type: ignore[arg-type]
    "not finite": lambda _: [Observation(float("nan"))],
    "no mapping": lambda _: [Observation(0, 5)],  # type: ignore[arg-type]
    "a huge integer": lambda _: [Observation(10**400)],
}
CREATES = ("create_observable_counter", "create_observable_up_down_counter", "create_observable_gauge")


@pytest.mark.parametrize("create", CREATES)
@pytest.mark.parametrize("case", BAD)
def test_a_bad_callback_leaves_everything_else(
    case: str, create: str, provider: MeterProvider, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback that raises or returns wrong things is logged; collection does not raise and the others' points are there."""
    caplog.set_level(logging.WARNING)
    meter = provider.get_meter("m")
    getattr(meter, create)("first", [good])
    getattr(meter, create)("bad", [BAD[case], good])
    getattr(meter, create)("last", [good])
    meter.create_counter("c").add(1)
    found = values(reader.get_metrics_data())

    assert {name: found.get(name) for name in ("first", "bad", "last", "c")} == {
        "first": 5,
        "bad": 5,
        "last": 5,
        "c": 1,
    }
    assert len(caplog.records) == 1


def test_a_callback_gets_no_more_than_ten_seconds(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """The time that a callback is told is what is left of the reader's, at most ten seconds."""
    told: list[float] = []

    def callback(options: CallbackOptions) -> list[Observation]:
        told.append(options.timeout_millis)
        return []

    provider.get_meter("m").create_observable_gauge("g", [callback])
    reader.collect(timeout_millis=60_000)
    reader.collect(timeout_millis=500)

    assert told[0] == 10_000
    assert 0 < told[1] <= 500


def test_callbacks_that_take_too_long_cost_only_what_follows(
    provider: MeterProvider, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """Once the reader's time is over, callbacks that have not begun are left out with one line that names the first of them."""
    caplog.set_level(logging.WARNING)
    meter = provider.get_meter("m")

    def slow(options: CallbackOptions) -> list[Observation]:
        end = time.monotonic() + options.timeout_millis / 1000
        while time.monotonic() <= end:
            pass
        return [Observation(1)]

    meter.create_observable_gauge("slow", [slow])
    meter.create_observable_gauge("next", [good])
    meter.create_counter("c").add(1)
    reader.collect(timeout_millis=200)

    assert values(reader._metrics_data) == {"slow": 1, "c": 1}
    assert caplog.messages == ["Callbacks took too long: next and those after it are not collected"]


def test_no_time_at_all_still_exports_recordings(
    provider: MeterProvider, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader without any time left gets what was recorded, without callbacks and without an exception."""
    meter = provider.get_meter("m")
    meter.create_observable_gauge("g", [good])
    meter.create_counter("c").add(1)
    reader.collect(timeout_millis=0)

    assert values(reader._metrics_data) == {"c": 1}
    assert len(caplog.messages) == 1


def test_collecting_within_a_callback_does_not_hang(
    provider: MeterProvider, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback that collects gets nothing after its time, with a line, instead of a deadlock."""
    meter = provider.get_meter("m")
    meter.create_observable_gauge("g", [lambda _: reader.collect(timeout_millis=10) or [Observation(1)]])

    assert values(reader.get_metrics_data()) == {"g": 1}
    assert len(caplog.messages) == 1
