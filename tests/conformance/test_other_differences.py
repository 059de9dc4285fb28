"""Wanted differences that are no single comparison: several processes, chance, logs; each is named in docs/differences.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from opentelemetry.sdk import metrics as sdk

from otel_perf import MeterProvider
from tests.conformance.harness import DELTA, LIMITS, STOCK, Session, in_memory, points, seen
from tests.conformance.spans import ON
from tests.peers.program import run

Test = TypeVar("Test", bound=Callable[..., Any])
SHOWN: dict[str, str] = {}
"""Differences by name, each with the test that shows it."""


def shows(name: str) -> Callable[[Test], Test]:
    """Says which difference a test shows."""

    def register(test: Test) -> Test:
        SHOWN[name] = test.__name__
        return test

    return register


def forked(side: str, case: str) -> dict[str, Any]:
    """What the worker and the parent of a forking program would export."""
    done = run("-m", "tests.conformance.forking", side, case, wrapper=False)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


@shows("recordings of a forked worker")
def test_a_forked_worker_is_counted_once() -> None:
    """The SDK's worker exports what it inherited and the parent misses what the worker did; ours export one sum, once."""
    stock, ours = forked("stock", "sum"), forked("ours", "sum")

    assert (stock["worker"]["value"], stock["parent"]["value"]) == (6, 5)
    assert (ours["worker"]["value"], ours["parent"]["value"]) == (0, 6)


@shows("the instance of a forked worker")
def test_a_forked_worker_keeps_the_instance_of_its_group() -> None:
    """The SDK gives a forked worker another service.instance.id; ours belongs to the group, which is one stream."""
    stock, ours = forked("stock", "sum"), forked("ours", "sum")

    assert stock["parent"]["instance"] == ours["parent"]["instance"] == ours["worker"]["instance"] == "the parent's"
    assert stock["worker"]["instance"] != "the parent's"


@shows("a reservoir of the program's own in several processes")
def test_a_reservoir_of_the_programs_own_is_for_its_process() -> None:
    """What a worker offers to a reservoir written in Python stays there: the group's stream has the exporting process' exemplars."""
    ours = forked("ours", "reservoir")

    assert ours["parent"]["value"] == 6
    assert ours["parent"]["exemplars"] == [5]


@shows("the first exemplar of a sum")
@pytest.mark.parametrize("create", ["create_counter", "create_gauge"])
def test_a_sum_keeps_its_first_exemplar(create: str) -> None:
    """Of several eligible measurements the SDK keeps any one, we the first of the interval."""

    def act(running: Session) -> None:
        instrument: Any = getattr(running.meter(), create)("i")
        record = instrument.add if create == "create_counter" else instrument.set
        for first in (3, 30):
            for amount in range(first, first + 5):
                record(amount)
            running.collect()

    def kept(side: Any) -> list[list[Any]]:
        found = seen(side, act, in_memory(form=points), **ON)
        return [[exemplar.value for point in collection for exemplar in point.exemplars] for collection in found]

    assert [len(values) for values in kept(STOCK)] == [1, 1]
    assert kept(MeterProvider) == [[3], [30]]


def churn(running: Session) -> None:
    """Three new series in each of two intervals."""
    instrument = running.meter().create_counter("c")
    for interval in range(2):
        for number in range(3):
            instrument.add(1, {"interval": interval, "number": number})
        running.collect()


def overflows(found: list[Any]) -> list[Any]:
    """Values of the overflow series, by collection."""
    return [[point.value for point in collection if "otel.metric.overflow" in point.attributes] for collection in found]


@shows("series of a delta reader")
def test_series_of_a_delta_reader_count_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delta reader's limit is for all series so far: memory of the segment is given once and not taken back."""
    monkeypatch.setenv("OTEL_PERF_CARDINALITY_LIMIT", "4")

    assert overflows(seen(MeterProvider, churn, in_memory(DELTA, form=points))) == [[], [2]]


@pytest.mark.skipif(not LIMITS, reason="the installed opentelemetry-sdk has no cardinality limits (before 1.45.2)")
def test_series_of_the_sdks_delta_reader_count_until_it_collects() -> None:
    """The SDK begins to count anew with every collection of a delta reader, which is the other side of the difference."""
    limited = in_memory(DELTA, form=points, cardinality_limits={sdk.Counter: 4})

    assert overflows(seen(STOCK, churn, limited)) == [[], []]


@shows("lines about ignored recordings")
def test_ignored_recordings_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK logs every ignored recording, we the first of an instrument and reason within a minute."""
    lines: list[int] = []
    for side in (STOCK, MeterProvider):
        caplog.clear()

        def act(running: Session) -> None:
            instrument = running.meter().create_counter("c")
            for _ in range(5):
                instrument.add(-1)

        seen(side, act)
        lines.append(len(caplog.records))

    assert lines == [5, 1]


@shows("a callback that takes too long")
def test_callbacks_that_have_no_time_left_cost_only_their_points() -> None:
    """Where the SDK's collection raises when the time is over, ours exports what was recorded and leaves the callbacks out."""

    def act(running: Session) -> None:
        meter, reader = running.meter(), running.readings[0].reader
        meter.create_observable_gauge("g", [lambda _: []])
        meter.create_counter("c").add(3)
        running.note(lambda: reader.collect(timeout_millis=0))
        exported: Any = reader
        running.note(lambda: [point.value for point in points(exported._metrics_data)])

    assert seen(STOCK, act) == [sdk.MetricsTimeoutError, []]
    assert seen(MeterProvider, act) == [None, [3]]
