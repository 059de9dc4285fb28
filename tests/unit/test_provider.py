"""MeterProvider: readers with their own intervals, flushing, shutdown, and what is refused."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import Aggregation, View
from opentelemetry.sdk.resources import Resource

from otel_perf import MeterProvider, Segment, find
from otel_perf.config import Settings
from otel_perf.metrics._noop import NoOpMeter
from tests.conformance.harness import DELTA
from tests.conftest import points_of
from tests.unit.instrumented import KINDS, values

Make = Callable[..., MeterProvider]


def test_a_provider_is_the_sdks(provider: MeterProvider) -> None:
    """It is an instance of the SDK's class, under the same class name, with the attributes that other code looks at."""
    assert isinstance(provider, sdk.MeterProvider)
    assert type(provider).__name__ == "MeterProvider"
    assert provider._sdk_config.resource == Resource({"service.name": "test"})
    assert len(provider._metric_readers) == 1


def test_every_reader_has_its_own_intervals(make_provider: Make) -> None:
    """Cumulative and delta readers that collect at different moments each see every recording once."""
    cumulative, often, seldom = (InMemoryMetricReader(preferred_temporality=wanted) for wanted in ({}, DELTA, DELTA))
    meter = make_provider(cumulative, often, seldom).get_meter("m")
    counter, level, histogram = (
        meter.create_counter("c"),
        meter.create_up_down_counter("u"),
        meter.create_histogram("h"),
    )
    totals, deltas = [], []
    for amount in (1, 2, 4):
        counter.add(amount)
        level.add(-amount)
        histogram.record(amount)
        totals.append(values(cumulative.get_metrics_data()))
        deltas.append(values(often.get_metrics_data()))

    assert totals == [{"c": n, "u": -n, "h": n} for n in (1, 3, 7)]
    assert deltas == [{"c": n, "u": -n, "h": n} for n in (1, 2, 4)]
    assert values(seldom.get_metrics_data()) == {"c": 7, "u": -7, "h": 7}
    assert often.get_metrics_data() is None


def test_intervals_of_a_delta_reader_join(make_provider: Make) -> None:
    """An interval begins where the one before ended, and cumulative points keep their start."""
    cumulative, delta = InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=DELTA)
    counter = make_provider(cumulative, delta).get_meter("m").create_counter("c")
    before = time.time_ns()
    spans: dict[InMemoryMetricReader, list[tuple[int, int]]] = {cumulative: [], delta: []}
    for _ in range(3):
        counter.add(1)
        for reader, found in spans.items():
            (point,) = points_of(reader.get_metrics_data()).values()
            found.append((point.start_time_unix_nano, point.time_unix_nano))

    assert len({start for start, _ in spans[cumulative]}) == 1
    assert [start for start, _ in spans[delta]][1:] == [end for _, end in spans[delta]][:-1]
    for found in spans.values():
        assert before - 10**9 <= found[0][0] <= found[0][1] < found[1][1] < found[2][1] <= time.time_ns() + 10**9


def test_a_reader_that_is_added_later_is_flushed_and_shut_down(make_provider: Make) -> None:
    """A late reader gets everything so far, and `force_flush` and `shutdown` reach it."""
    provider = make_provider()
    provider.get_meter("m").create_counter("c").add(3)
    done: list[str] = []

    class Late(InMemoryMetricReader):
        def shutdown(self, *_: Any, **__: Any) -> None:
            done.append("shutdown")

    late = Late()
    provider.add_metric_reader(late)
    provider.force_flush()
    assert values(late._metrics_data) == {"c": 3}
    provider.shutdown()

    assert done == ["shutdown"]


def test_a_removed_reader_is_shut_down_and_forgotten(make_provider: Make) -> None:
    """A reader that was removed is no longer collected for, and is shut down once."""
    done: list[str] = []

    class Removed(InMemoryMetricReader):
        def shutdown(self, *_: Any, **__: Any) -> None:
            done.append("shutdown")

    reader, other = Removed(), InMemoryMetricReader()
    provider = make_provider(reader, other)
    provider.get_meter("m").create_counter("c").add(1)
    provider.remove_metric_reader(reader)
    provider.force_flush()
    provider.shutdown()

    assert reader._metrics_data is None
    assert values(other._metrics_data) == {"c": 1}
    assert done == ["shutdown"]


def test_the_resource_is_exported(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """The exported resource is that of the provider, with its schema URL."""
    resource = Resource({"service.name": "shop", "n": 1}, "https://schema")
    make_provider(reader, resource=resource).get_meter("m").create_counter("c").add(1)
    data = reader.get_metrics_data()

    assert data is not None
    assert data.resource_metrics[0].resource == resource
    assert data.resource_metrics[0].schema_url == "https://schema"


def test_a_second_shutdown_warns(make_provider: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The second shutdown is a warning and nothing else."""
    provider = make_provider(InMemoryMetricReader())
    provider.shutdown()
    assert caplog.messages == []
    provider.shutdown()

    assert caplog.messages == ["shutdown can only be called once"]


def test_after_shutdown_recordings_are_harmless(make_provider: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Instruments of a provider that was shut down still take recordings, and new meters do nothing."""
    provider = make_provider(InMemoryMetricReader())
    meter: Any = provider.get_meter("m")
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
    bound = counter.bind({"a": 1})
    provider.shutdown()
    for number in range(100):
        counter.add(1, {"n": number})
        histogram.record(number)
        bound.add(1)
    meter.create_counter("late").add(1)

    assert caplog.messages == []
    assert type(provider.get_meter("other")) is NoOpMeter
    assert caplog.messages == ["A shutdown `MeterProvider` can not provide a `Meter`"]


def test_the_providers_own_segment_is_removed_and_a_given_one_is_not(make_provider: Make) -> None:
    """Shutdown removes the segment that the provider made; one that was given belongs to its giver."""
    given = Segment.create(memory_limit=131_072)
    own = make_provider()
    with_given = make_provider(segment=given)
    paths = [own.segment.path, given.path]
    assert all(path is not None and Path(path).exists() for path in paths)
    assert with_given.segment is given
    own.shutdown()
    with_given.shutdown()

    assert [Path(path).exists() for path in paths if path is not None] == [False, True]
    given.close()


@pytest.mark.parametrize("name", ["", None])
def test_a_meter_without_a_name_does_nothing(
    name: Any, provider: MeterProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """As with the SDK an empty name gives a meter that does nothing, with a warning."""
    assert type(provider.get_meter(name)) is NoOpMeter
    assert caplog.messages == ["Meter name cannot be None or empty."]


@pytest.mark.parametrize("value", ["true", " TRUE "])
def test_a_disabled_sdk_gives_meters_that_do_nothing(
    value: str, make_provider: Make, monkeypatch: pytest.MonkeyPatch, reader: InMemoryMetricReader
) -> None:
    """With OTEL_SDK_DISABLED nothing is recorded."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", value)
    meter = make_provider(reader).get_meter("m")
    meter.create_counter("c").add(1)

    assert type(meter) is NoOpMeter
    assert reader.get_metrics_data() is None


def test_meters_that_do_nothing_can_be_used_like_those_that_do(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every instrument of a disabled SDK takes recordings and can be bound, so that a program need not know."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    meter: Any = make_provider().get_meter("m")
    for create, method in KINDS.values():
        instrument = getattr(meter, create)("i", "s", "d")
        getattr(instrument, method)(1, {"a": 1})
        getattr(instrument.bind({"a": 1}), method)(1)
        getattr(instrument.bind(), method)("no number")
    meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1, 2]).record(1)
    for create in ("create_observable_counter", "create_observable_up_down_counter", "create_observable_gauge"):
        getattr(meter, create)("o", [lambda _: []])


class Custom(Aggregation):
    """An aggregation that is neither the SDK's nor ours."""

    def _create_aggregation(self, *_args: Any, **_kwargs: Any) -> Any:
        """Never called."""


def test_an_aggregation_of_the_users_own_is_refused(make_provider: Make) -> None:
    """A view or reader with an aggregation that native code does not know is a ValueError that names it and what is accepted."""
    with pytest.raises(ValueError, match="aggregation is Custom; accepted are"):
        make_provider(views=[View(instrument_name="*", aggregation=Custom())])


def test_settings_come_from_the_environment(make_provider: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of the provider's own segment is OTEL_PERF_MEMORY_LIMIT, its service OTEL_SERVICE_NAME."""
    monkeypatch.setenv("OTEL_PERF_MEMORY_LIMIT", "262144")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    segment = make_provider().segment

    assert (segment.size, segment.service_name) == (262_144, "shop")


def test_an_exporter_that_fails_does_not_end_the_periodic_reader(make_provider: Make) -> None:
    """The stock reader's thread lives on after an exporter has raised, and `force_flush` exports again."""
    exported: list[Any] = []

    class Failing(ConsoleMetricExporter):
        def export(self, metrics_data: MetricsData, *_: Any, **__: Any) -> Any:
            exported.append(values(metrics_data))
            raise OSError

    reader = PeriodicExportingMetricReader(Failing(), export_interval_millis=3_600_000)
    provider = make_provider(reader)
    provider.get_meter("m").create_counter("c").add(1)

    assert provider.force_flush()
    assert provider.force_flush()
    assert exported == [{"c": 1}, {"c": 1}]
    thread = reader._daemon_thread
    assert thread is not None
    assert thread.is_alive()


def test_the_cardinality_limit_is_the_settings(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """An instrument has at most as many series as the settings say, and one for the rest."""
    counter = make_provider(reader, _settings=Settings(cardinality_limit=2)).get_meter("m").create_counter("c")
    for number in range(5):
        counter.add(1, {"n": number})

    points = points_of(reader.get_metrics_data())
    assert len(points) == 3
    assert points["c", frozenset({("otel.metric.overflow", True)})].value == 3


def test_a_refused_reader_leaves_no_segment_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that could not be made has removed the segment that it made for itself."""
    service = f"test-{uuid.uuid4()}"
    monkeypatch.setenv("OTEL_SERVICE_NAME", service)
    reader = InMemoryMetricReader(preferred_aggregation={sdk.Counter: Custom()})
    with pytest.raises(ValueError, match="aggregation is Custom"):
        MeterProvider([reader])

    assert find(service) == []
