"""What leaves through each kind of reader: several on one provider, the periodic one, Prometheus' text, OTLP's messages."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

from tests.conformance.calls import KINDS, TAKES_NEGATIVE, Instrument
from tests.conformance.harness import (
    DELTA,
    LOW_MEMORY,
    MakeReading,
    Reading,
    Session,
    Temporality,
    compare,
    in_memory,
    plain,
)
from tests.conformance.spans import active, remote, within


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged is compared elsewhere."""
    caplog.set_level(logging.CRITICAL)


class Collecting(MetricExporter):
    """Keeps what is exported, in a form that compares, and notes what else is asked of it."""

    def __init__(self, **preferred: Any) -> None:
        super().__init__(**preferred)
        self.calls: list[Any] = []

    def export(self, metrics_data: MetricsData, *_: Any, **__: Any) -> MetricExportResult:
        self.calls.append(plain(metrics_data))
        return MetricExportResult.SUCCESS

    def force_flush(self, *_: Any, **__: Any) -> bool:
        self.calls.append("flushed")
        return True

    def shutdown(self, *_: Any, **__: Any) -> None:
        self.calls.append("shut down")


def periodic(interval: float = math.inf, **preferred: Any) -> MakeReading:
    """A periodic reader that is made to export by hand; reading answers everything so far."""

    def make() -> Reading:
        exporter = Collecting(**preferred)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=interval)

        def read() -> list[Any]:
            reader.force_flush()
            return list(exporter.calls)

        return Reading(reader, read)

    return make


def prometheus(**options: Any) -> MakeReading:
    """The stock Prometheus reader with a registry of its own; reading scrapes. The order of families and series is left out."""

    def make() -> Reading:
        registry = CollectorRegistry()
        reader = PrometheusMetricReader(registry=registry, **options)
        return Reading(reader, lambda: sorted(generate_latest(registry).decode().splitlines()))

    return make


NOTHING = {"bucket_counts": ["0"]}
"""A side of an exponential histogram in which nothing is, see test_wanted_differences.py."""


def without_times(message: Any) -> Any:
    """A decoded message without times and empty sides, its lists in an order that does not depend on the side."""
    if isinstance(message, dict):
        return {
            key: without_times(value)
            for key, value in sorted(message.items())
            if not key.endswith("time_unix_nano") and value != NOTHING
        }
    if isinstance(message, list) and message and isinstance(message[0], dict):
        return sorted(map(without_times, message), key=repr)
    return message


def otlp_form(data: MetricsData | None) -> Any:
    """What the stock encoder makes of the data, decoded again from its bytes."""
    if data is None:
        return None
    encoded = encode_metrics(data)
    decoded = type(encoded).FromString(encoded.SerializeToString())
    return without_times(MessageToDict(decoded, preserving_proto_field_name=True))


def otlp(temporality: Any = None, aggregation: Any = None) -> MakeReading:
    """A reader whose data goes through the OTLP encoder."""
    return in_memory(temporality, aggregation, form=otlp_form)


EXPLICIT: dict[type, Aggregation] = {sdk.Histogram: ExplicitBucketHistogramAggregation([2.0, 5.5])}
EXPONENTIAL: dict[type, Aggregation] = {
    sdk.Histogram: ExponentialBucketHistogramAggregation(),
    sdk.Counter: LastValueAggregation(),
}
# At a scale that both sides have, because the encoded message has the buckets as they are.
COARSE: dict[type, Aggregation] = {sdk.Histogram: ExponentialBucketHistogramAggregation(max_scale=3)}
COUNTERS_DELTA: Temporality = {
    sdk.Counter: AggregationTemporality.DELTA,
    sdk.ObservableCounter: AggregationTemporality.DELTA,
}

READERS: dict[str, tuple[MakeReading, ...]] = {
    "cumulative and delta": (in_memory(), in_memory(DELTA)),
    "delta and delta": (in_memory(DELTA), in_memory(DELTA)),
    "low memory and mixed": (in_memory(LOW_MEMORY), in_memory(COUNTERS_DELTA)),
    "other boundaries": (in_memory({}, EXPLICIT), in_memory(), in_memory(DELTA, EXPONENTIAL)),
    "periodic": (periodic(),),
    "periodic, delta": (periodic(preferred_temporality=DELTA, preferred_aggregation=EXPONENTIAL),),
    "periodic with a thread": (periodic(3_600_000),),
    "periodic and in memory": (periodic(), in_memory(DELTA)),
    "Prometheus": (prometheus(),),
    "Prometheus without target and scope": (prometheus(disable_target_info=True, scope_info_enabled=False),),
    "Prometheus with a prefix": (prometheus(prefix="shop"),),
    "Prometheus and delta": (prometheus(), in_memory(DELTA)),
    "OTLP": (otlp(),),
    "OTLP, delta": (otlp(DELTA),),
    "OTLP, low memory": (otlp(LOW_MEMORY, EXPLICIT),),
    "OTLP, exponential": (otlp({}, COARSE),),
    "OTLP and Prometheus": (otlp(DELTA, COARSE), prometheus()),
}
VIEWS: dict[str, list[View]] = {
    "no views": [],
    "views": [
        View(instrument_name="counter", name="renamed", description="other"),
        View(instrument_name="*gauge", attribute_keys={"a"}),
        View(instrument_name="histogram", aggregation=ExplicitBucketHistogramAggregation([0.5, 5.5])),
    ],
}


def everything(running: Session) -> None:
    """Every kind in two scopes, recorded in spans, collected three times by each reader, the last time after nothing."""
    scopes = (running.meter(), running.meter("bare", None, None, attributes=None))
    instruments = [
        Instrument(meter, kind, unit=unit) for meter, unit in zip(scopes, ("s", "ms"), strict=True) for kind in KINDS
    ]
    for repetition in range(3):
        for instrument in instruments:
            if repetition == 2:
                continue
            instrument.observations.clear()
            negative = -1 if instrument.kind in TAKES_NEGATIVE else 1
            with active(within(remote(repetition))):
                instrument.record(3 + repetition, {"a": 1, "b": "x"})
                instrument.record(2.25 * negative, {"a": True})
                instrument.record(7)
        running.collect()


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("readers", READERS)
def test_readers_export_as_with_the_sdk(readers: str, views: str) -> None:
    """Each reader of a provider gets what it would get from the SDK, in its temporality, aggregation and format."""
    resource = Resource({"service.name": "shop", "n": 1}, "https://resource")
    stock, ours = compare(everything, *READERS[readers], resource=resource, views=VIEWS[views])

    assert ours == stock


def at_different_moments(running: Session) -> None:
    """Two readers that collect at different moments."""
    often, seldom = (reading.read for reading in running.readings)
    instruments = [Instrument(running.meter(), kind) for kind in KINDS]
    for number in range(1, 5):
        for instrument in instruments:
            instrument.observations.clear()
            instrument.record(number * 3, {"number": number % 2})
        running.note(often)
        if not number % 2:
            running.note(seldom)
            running.note(seldom)


@pytest.mark.parametrize("seldom", [{}, DELTA, LOW_MEMORY], ids=["cumulative", "delta", "low memory"])
@pytest.mark.parametrize("often", [{}, DELTA, LOW_MEMORY], ids=["cumulative", "delta", "low memory"])
def test_readers_do_not_disturb_each_other(often: Any, seldom: Any) -> None:
    """A reader's intervals are its own, whatever another reader does meanwhile, and callbacks run for each."""
    stock, ours = compare(at_different_moments, in_memory(often), in_memory(seldom))

    assert ours == stock


def flush_and_end(running: Session) -> None:
    """Records, flushes, records again and shuts down."""
    instrument = Instrument(running.meter(), "Counter")
    instrument.record(1)
    running.note(running.provider.force_flush)
    instrument.record(2)
    running.note(running.provider.shutdown)
    exporter: Any = running.readings[0].reader
    running.note(lambda: list(exporter._exporter.calls))


@pytest.mark.parametrize("interval", [math.inf, 3_600_000], ids=["without a thread", "with a thread"])
def test_a_periodic_reader_ends_as_with_the_sdk(interval: float) -> None:
    """Flushing exports and flushes; shutting down exports once more, where there is a thread, and shuts the exporter down."""
    stock, ours = compare(flush_and_end, periodic(interval))

    assert ours == stock
    assert stock[-1][-1] == "shut down"


FAILURES: dict[str, type[Exception]] = {"an error": OSError, "a wrong value": ValueError}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_exporter_that_raises_is_asked_again(failure: str) -> None:
    """An exporter's exception is logged by the reader and takes nothing from the next export, on both sides."""

    def act(running: Session) -> None:
        exporter: Any = running.readings[0].reader
        good = exporter._exporter.export

        def raising(*_: Any, **__: Any) -> Any:
            raise FAILURES[failure]

        instrument = Instrument(running.meter(), "Counter")
        for broken in (True, False, True, False):
            instrument.record(1)
            exporter._exporter.export = raising if broken else good
            running.note(running.provider.force_flush)
        running.note(lambda: list(exporter._exporter.calls))

    stock, ours = compare(act, periodic(preferred_temporality=DELTA))
    assert ours == stock
