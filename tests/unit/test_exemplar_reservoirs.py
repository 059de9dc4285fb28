"""Exemplar filters and reservoirs of the user's own on our provider: what they see, what they cost, and what happens when they raise."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.context import Context, get_current
from opentelemetry.metrics import Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import Exemplar, ExemplarFilter, ExemplarReservoir
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    ExponentialBucketHistogramAggregation,
    View,
)

from otel_perf import MeterProvider
from otel_perf.metrics import EwmaAggregation, HdrHistogramAggregation
from tests.conformance.harness import DELTA, points
from tests.conformance.spans import ON, active, remote, within
from tests.unit.instrumented import KINDS, Instrumented

Make = Callable[..., MeterProvider]


class KeepAll(ExemplarReservoir):
    """Keeps every measurement, with the process that offered it as span id."""

    def __init__(self, **given: Any) -> None:
        self.given = given
        self._kept: list[Exemplar] = []

    def offer(self, value: float, time_unix_nano: int, attributes: Any, context: Context) -> None:
        del context
        self._kept.append(Exemplar(attributes, value, time_unix_nano, os.getpid(), 1))

    def collect(self, point_attributes: Any) -> list[Exemplar]:
        del point_attributes
        kept, self._kept = self._kept, []
        return kept


def reservoir_of(made: Callable[..., Any]) -> Any:
    """A factory that makes such a reservoir for any aggregation."""
    return lambda _: made


class Seeing(ExemplarFilter):
    """Takes everything and notes what it was asked about."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def should_sample(self, value: float, time_unix_nano: int, attributes: Any, context: Context) -> bool:
        self.seen.append((value, time_unix_nano > 0, attributes, context))
        return True


def exemplars(reader: InMemoryMetricReader) -> list[Exemplar]:
    """Collects, and answers all exemplars in the order of their points."""
    return [exemplar for point in points(reader.get_metrics_data()) for exemplar in point.exemplars]


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_sees_each_recording_as_it_was_made(
    kind: str, make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """A filter of one's own is asked once for each recording and stream: amount, clean attributes, and the context that counts."""
    own = Seeing()
    instrument = Instrumented(make_provider(reader, exemplar_filter=own), reader, kind)
    given = within(remote(1))
    instrument.record(3, {"a": [1, 2]}, given)
    with active(within(remote(2))):
        surrounding = get_current()
        instrument.record(4.5)
        instrument.bound({"b": 1})(5)
        instrument.bound({"b": 1})(6, given)

    assert own.seen == [
        (3, True, {"a": (1, 2)}, given),
        (4.5, True, {}, surrounding),
        (5, True, {"b": 1}, surrounding),
        (6, True, {"b": 1}, given),
    ]


def test_a_filter_is_asked_for_what_is_observed(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """Reports of callbacks are offered too, and their exemplars are in the same collection."""
    own = Seeing()
    meter = make_provider(reader, exemplar_filter=own).get_meter("m")
    meter.create_observable_gauge("g", [lambda _: [Observation(7, {"a": 1})]])

    assert [exemplar.value for exemplar in exemplars(reader)] == [7]
    assert [seen[:3] for seen in own.seen] == [(7, True, {"a": 1})]


def test_a_subclass_of_a_filter_of_the_sdk_is_asked(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A class derived from one of the SDK's filters is one of the user's own: it is asked, and can refuse what its parent takes."""

    class Large(sdk.AlwaysOnExemplarFilter):
        def should_sample(self, value: float, time_unix_nano: int, attributes: Any, context: Context) -> bool:
            return value > 5 and super().should_sample(value, time_unix_nano, attributes, context)

    instrument = Instrumented(make_provider(reader, exemplar_filter=Large()), reader, "Counter")
    for amount in (3, 7):
        instrument.record(amount)

    assert [exemplar.value for exemplar in exemplars(reader)] == [7]


@pytest.mark.parametrize("filtering", ["always_off", "trace_based", "always_on"])
def test_a_reservoir_is_offered_what_the_filter_takes(
    filtering: str, make_provider: Make, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's filters decide what a reservoir of one's own gets to see, with bound series as with others."""
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", filtering)
    view = View(instrument_name="i", exemplar_reservoir_factory=reservoir_of(KeepAll))
    instrument = Instrumented(make_provider(reader, views=[view]), reader, "Counter")
    bound = instrument.bound()
    for record in (instrument.record, bound):
        record(1)
        record(2, context=within(remote(1, sampled=False)))
        record(3, context=within(remote(1)))
    expected = {"always_off": [], "trace_based": [3, 3], "always_on": [1, 2, 3, 1, 2, 3]}

    assert [exemplar.value for exemplar in exemplars(reader)] == expected[filtering]


def test_every_reader_has_its_own_reservoirs(make_provider: Make) -> None:
    """Each reader takes out of reservoirs of its own, whatever others took before, delta and cumulative."""
    readers = [InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=DELTA), InMemoryMetricReader()]
    view = View(instrument_name="i", exemplar_reservoir_factory=reservoir_of(KeepAll))
    provider = make_provider(*readers[:2], views=[view], **ON)
    instrument = Instrumented(provider, readers[0], "Counter")
    instrument.record(1)
    assert [e.value for e in exemplars(readers[0])] == [1]
    instrument.record(2)
    provider.add_metric_reader(readers[2])
    instrument.record(3)

    assert [[e.value for e in exemplars(reader)] for reader in readers] == [[2, 3], [1, 2, 3], [3]]
    assert [exemplars(reader) for reader in readers] == [[], [], []]
    provider.remove_metric_reader(readers[2])
    instrument.record(4)
    assert [[e.value for e in exemplars(reader)] for reader in readers[:2]] == [[4], [4]]


def test_a_reservoir_beside_a_native_stream(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """Only the stream whose view states a factory is followed; the other one of the instrument keeps the first as ever."""
    views = [
        View(instrument_name="i", name="own", exemplar_reservoir_factory=reservoir_of(KeepAll)),
        View(instrument_name="i", name="native", attribute_keys=set()),
    ]
    instrument = Instrumented(make_provider(reader, views=views, **ON), reader, "Counter")
    for amount in (1, 2, 3):
        instrument.record(amount, {"a": 1})
    found = {bool(point.attributes): [e.value for e in point.exemplars] for point in points(reader.get_metrics_data())}

    assert found == {True: [1, 2, 3], False: [1]}


MADE: dict[str, tuple[Any, dict[str, Any]]] = {
    "percentiles": (HdrHistogramAggregation(), {"boundaries": (1.0, 2.0)}),
    "an average": (EwmaAggregation(), {}),
    "a few buckets": (ExponentialBucketHistogramAggregation(max_size=4), {"size": 4}),
}


@pytest.mark.parametrize("case", MADE)
def test_a_reservoir_is_made_for_our_aggregations(case: str, make_provider: Make, reader: InMemoryMetricReader) -> None:
    """Percentiles are a histogram with the instrument's boundaries, averages a stream with one value, for a reservoir too."""
    aggregation, expected = MADE[case]
    made: list[dict[str, Any]] = []

    def build(**given: Any) -> KeepAll:
        made.append({key: tuple(value) if key == "boundaries" else value for key, value in given.items()})
        return KeepAll()

    view = View(instrument_name="h", aggregation=aggregation, exemplar_reservoir_factory=reservoir_of(build))
    meter = make_provider(reader, views=[view], **ON).get_meter("m")
    meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1.0, 2.0]).record(3)

    assert made == [expected]


class BrokenError(Exception):
    """What the user's code raises."""


def broken(*_: Any, **__: Any) -> Any:
    """Raises."""
    raise BrokenError


class BrokenFilter(ExemplarFilter):
    """Raises when it is asked."""

    should_sample = broken


class BrokenOffer(KeepAll):
    """Raises when it is offered something."""

    offer = broken


class BrokenCollect(KeepAll):
    """Raises when it is asked for what it kept."""

    collect = broken


class NoList(KeepAll):
    """Answers nothing that exemplars could be in."""

    def collect(self, point_attributes: Any) -> Any:
        del point_attributes


def view_of(factory: Any) -> dict[str, Any]:
    """Options of a provider whose view has a factory."""
    return {"views": [View(instrument_name="i", exemplar_reservoir_factory=factory)], **ON}


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a filter": ({"exemplar_filter": BrokenFilter()}, "BrokenFilter.should_sample"),
    "a filter without the method": ({"exemplar_filter": object()}, "object.should_sample"),
    "a factory": (view_of(broken), "an exemplar_reservoir_factory"),
    "a factory of nothing": (view_of(lambda _: None), "an exemplar_reservoir_factory"),
    "making a reservoir": (view_of(reservoir_of(broken)), "an exemplar_reservoir_factory"),
    "offering": (view_of(reservoir_of(BrokenOffer)), "BrokenOffer.offer"),
    "collecting": (view_of(reservoir_of(BrokenCollect)), "BrokenCollect.collect"),
    "answering nothing": (view_of(reservoir_of(NoList)), "NoList.collect"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", BROKEN)
def test_what_raises_costs_only_exemplars(
    case: str, kind: str, make_provider: Make, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """A filter, factory or reservoir that raises takes nothing from recordings and collections, and is one line that names it."""
    options, who = BROKEN[case]
    second = InMemoryMetricReader()
    provider = make_provider(reader, second, **options)
    instrument = Instrumented(provider, reader, kind)
    other = provider.get_meter("m").create_counter("other")
    bound = instrument.bound({"a": 1})
    for _ in range(3):
        instrument.record(3, {"a": 1})
        bound(3)
        other.add(1)
        reader.collect()

    found = points(second.get_metrics_data())
    recorded: list[Any] = [getattr(point, "value", getattr(point, "sum", None)) for point in found]
    assert sorted(recorded) == sorted([3, 3 if kind == "Gauge" else 18])
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f"Exemplars are lost, here and from now on in silence: {who} raised")
    ]
    assert caplog.records[0].exc_info


def test_one_broken_reservoir_leaves_the_others(make_provider: Make) -> None:
    """Where the reservoir of one reader raises, that of the next one is offered the recording all the same."""
    made: list[Any] = []

    def build(**_: Any) -> Any:
        made.append(BrokenOffer() if not made else KeepAll())
        return made[-1]

    readers = [InMemoryMetricReader() for _ in range(2)]
    instrument = Instrumented(make_provider(*readers, **view_of(reservoir_of(build))), readers[0], "Counter")
    instrument.record(3)

    assert [[e.value for e in exemplars(reader)] for reader in readers] == [[], [3]]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_raised(
    ending: type[BaseException], make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """An exception that ends the program comes out of the recording during which it arrives; what was recorded counts."""

    class Ending(ExemplarFilter):
        def should_sample(self, *_: Any) -> bool:
            raise ending

    instrument = Instrumented(make_provider(reader, exemplar_filter=Ending()), reader, "Counter")
    for record in (instrument.record, instrument.bound()):
        with pytest.raises(ending):
            record(3)

    assert instrument.values() == [6]


def test_a_filter_may_record(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A filter that records on another instrument, for which it is asked too, is no deadlock and loses nothing."""

    class Recording(ExemplarFilter):
        def should_sample(self, value: float, *_: Any) -> bool:
            if value == 3:
                other.add(1)
            return True

    provider = make_provider(reader, exemplar_filter=Recording())
    other: Any = provider.get_meter("m").create_up_down_counter("other")
    instrument = Instrumented(provider, reader, "Counter")
    instrument.record(3)

    assert sorted(point.value for point in points(reader.get_metrics_data())) == [1, 3]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_worker_offers_to_its_own(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """What a worker records counts, and its exemplars stay with it: the parent exports its own, and none that it offered twice."""
    instrument = Instrumented(make_provider(reader, **view_of(reservoir_of(KeepAll))), reader, "Counter")
    reader.collect()
    instrument.record(1)
    child = os.fork()
    if not child:
        instrument.record(2)
        os._exit(0)
    os.waitpid(child, 0)
    instrument.record(3)
    ((point,)) = points(reader.get_metrics_data())

    assert point.value == 6
    assert [(e.value, e.span_id) for e in point.exemplars] == [(1, os.getpid()), (3, os.getpid())]
    assert exemplars(reader) == []
