"""Wanted differences that are no single comparison: several processes, chance, logs; each is named in docs/differences.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import Aggregation, LastValueAggregation, SumAggregation, View
from opentelemetry.sdk.resources import Resource

from otel_perf import MeterProvider
from otel_perf.metrics import EwmaAggregation, HdrHistogramAggregation
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


@shows("an aggregation of the program's own")
@pytest.mark.parametrize("by", ["view", "reader"])
def test_an_aggregation_of_the_programs_own_is_refused(by: str) -> None:
    """The SDK takes a subclass of Aggregation and asks it for a stream; ours refuses it when the provider is made, and says what it accepts."""

    class Own(Aggregation):
        def _create_aggregation(self, *arguments: Any, **options: Any) -> Any:
            return SumAggregation()._create_aggregation(*arguments, **options)

    views = [View(instrument_name="c", aggregation=Own())] if by == "view" else []
    preferred: dict[type, Aggregation] = {sdk.Counter: Own()} if by == "reader" else {}
    reading = in_memory({}, preferred, form=points)

    def act(running: Session) -> None:
        running.meter().create_counter("c").add(3)
        running.collect()

    assert [point.value for point in seen(STOCK, act, reading, views=views)[0]] == [3]
    with pytest.raises(
        ValueError, match=r"aggregation is Own; accepted .* HdrHistogramAggregation and EwmaAggregation"
    ):
        seen(MeterProvider, act, reading, views=views)


@shows("readers and views of another worker")
def test_a_worker_records_as_its_own_readers_and_views_say() -> None:
    """A reader that wants another aggregation gets it of workers whose provider has such a reader; other ones record as the kind does."""
    kept = InMemoryMetricReader()
    wanting = InMemoryMetricReader(preferred_aggregation={sdk.Counter: LastValueAggregation()})
    options: dict[str, Any] = {"resource": Resource({}), "shutdown_on_exit": False}
    exporting = MeterProvider([kept, wanting], **options)
    worker = MeterProvider([], segment=exporting.segment, **options)
    for amount, provider in ((1, exporting), (10, worker)):
        provider.get_meter("m").create_counter("c").add(amount)
    found = [[point.value for point in points(reader.get_metrics_data())] for reader in (kept, wanting)]
    worker.shutdown()
    exporting.shutdown()

    assert found == [[11], [1]]


OURS_ON: dict[str, type[sdk.MeterProvider]] = {"stock": STOCK, "ours": MeterProvider}


def aggregated(side: str, aggregation: Aggregation, *amounts: float) -> dict[str, list[Any]]:
    """Points by metric of an up-down counter that leaves as `renamed`, once it has been aggregated by one of ours."""
    reader = InMemoryMetricReader()
    views = [View(instrument_name="u", name="renamed", aggregation=aggregation)]
    provider = OURS_ON[side]([reader], Resource({}), AlwaysOnExemplarFilter(), shutdown_on_exit=False, views=views)
    instrument = provider.get_meter("m").create_up_down_counter("u")
    for amount in amounts:
        instrument.add(amount)
    data = reader.get_metrics_data()
    provider.shutdown()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics if data is not None else []
    return {metric.name: list(metric.data.data_points) for metric in metrics}


@shows("negative values in percentiles")
def test_percentiles_of_negative_values() -> None:
    """With the stock provider `HdrHistogramAggregation` leaves negative values out of the percentiles, with ours they are in."""
    percentiles = HdrHistogramAggregation(quantiles=[0, 1])
    stock, ours = (
        [
            point.value
            for name, found in aggregated(side, percentiles, -5, 3).items()
            if "quantile" in name
            for point in found
        ]
        for side in OURS_ON
    )

    assert stock == pytest.approx([3, 3], rel=0.001)
    assert ours == pytest.approx([-5, 3], rel=0.001)


@shows("the name of percentiles")
def test_percentiles_of_a_renamed_stream() -> None:
    """With the stock provider the percentiles have the name of the instrument, with ours that of the stream."""
    stock, ours = (set(aggregated(side, HdrHistogramAggregation(), 3)) for side in OURS_ON)

    assert stock == {"renamed", "u.quantile"}
    assert ours == {"renamed", "renamed.quantile"}


@shows("exemplars of averages")
def test_averages_have_no_exemplars() -> None:
    """With the stock provider `EwmaAggregation` keeps exemplars, with ours it does not."""
    stock, ours = (
        [exemplar.value for (point,) in aggregated(side, EwmaAggregation(), 3).values() for exemplar in point.exemplars]
        for side in OURS_ON
    )

    assert (stock, ours) == ([3], [])


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
