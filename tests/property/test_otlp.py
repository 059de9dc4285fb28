"""OTLP requests that are encoded natively, against the stock encoder's of the same recordings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource

from otel_perf import MeterProvider
from otel_perf.metrics import HdrHistogramAggregation
from tests.conformance.harness import TEMPORALITIES
from tests.property.test_attributes import attribute_sets

AGGREGATIONS: list[Aggregation] = [
    ExplicitBucketHistogramAggregation(),
    ExplicitBucketHistogramAggregation([0.1, 1.0, 10.0], record_min_max=False),
    ExplicitBucketHistogramAggregation([]),
    ExponentialBucketHistogramAggregation(),
    ExponentialBucketHistogramAggregation(max_size=4, max_scale=2),
    HdrHistogramAggregation(quantiles=(0.5, 0.99)),
]
KINDS = ["counter", "up_down_counter", "gauge", "histogram"]

texts = st.one_of(st.none(), st.text(max_size=10))
numbers = st.one_of(st.integers(-(2**40), 2**40), st.floats(-1e12, 1e12), st.sampled_from([0, 0.0, 1, 2**62]))
sets = st.dictionaries(st.sampled_from(["a", "b", "dropped"]), st.one_of(st.integers(0, 2), st.text(max_size=2)))
recordings = st.lists(st.tuples(st.sampled_from(KINDS), numbers, st.one_of(sets, attribute_sets), st.booleans()))
scopes = st.tuples(st.text(min_size=1, max_size=5), texts, texts, attribute_sets)


def with_one_zero(value: Any) -> Any:
    """A value in which -0.0 is 0.0, as our attributes have it."""
    if isinstance(value, dict):
        return {key: with_one_zero(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_one_zero(held) for held in value]
    return value + 0.0 if isinstance(value, float) else value


class Recorder:
    """Makes the instruments of a scope and records with them, also in a span."""

    def __init__(self, provider: MeterProvider, scope: Any) -> None:
        meter = provider.get_meter(*scope)
        counter, up_down, gauge = (
            meter.create_counter("count", "1", "what is counted"),
            meter.create_up_down_counter("level"),
            meter.create_gauge("value", "Cel"),
        )
        self._record: dict[str, Any] = {
            "counter": lambda number, *rest: counter.add(abs(number), *rest),
            "up_down_counter": up_down.add,
            "gauge": gauge.set,
            "histogram": meter.create_histogram("time", "s").record,
        }
        meter.create_observable_gauge("seen", [lambda _: [Observation(1.5, {"a": 1}), Observation(2)]])

    def __call__(self, kind: str, number: float, attributes: Any, in_span: bool) -> None:
        context = trace.SpanContext(0xA1 << 64, 0xB2, is_remote=False, trace_flags=trace.TraceFlags(1))
        span = trace.NonRecordingSpan(context) if in_span else trace.INVALID_SPAN
        self._record[kind](number, attributes, trace.set_span_in_context(span))


def without_times(request: Any) -> Any:
    """The request, all times of points but whether there is one set to one; those of exemplars stay."""
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in getattr(metric, metric.WhichOneof("data")).data_points:
                    point.time_unix_nano = min(point.time_unix_nano, 1)
                    point.start_time_unix_nano = min(point.start_time_unix_nano, 1)
    return request


@contextmanager
def two_readers(temporality: Any, aggregation: Aggregation, resource: Resource) -> Iterator[tuple[Any, Any, Any]]:
    """A provider, and what answers the stock request, and ours, of one reader each."""
    readers = [InMemoryMetricReader(temporality, {sdk.Histogram: aggregation}) for _ in range(2)]
    views = [View(instrument_name="count", attribute_keys={"a", "b"})]
    provider = MeterProvider(readers, resource, views=views, shutdown_on_exit=False)

    def ours() -> Any:
        found = provider._consumer.collect_otlp(readers[1])
        if found is None:
            return None
        assert isinstance(found, tuple)
        request = ExportMetricsServiceRequest.FromString(found[0])
        assert request.SerializeToString() == found[0], "fields are not in their order or not in their shortest form"
        return without_times(request), found[1:]

    def stock() -> Any:
        data = readers[0].get_metrics_data()
        return None if data is None else without_times(encode_metrics(data))

    try:
        yield provider, stock, ours
    finally:
        provider.shutdown()


@settings(deadline=None, max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    recordings,
    recordings,
    st.lists(scopes, min_size=1, max_size=2, unique_by=repr),
    st.sampled_from(sorted(TEMPORALITIES)),
    st.sampled_from(AGGREGATIONS),
    st.tuples(attribute_sets, st.sampled_from(["", "https://schema"])),
)
def test_requests_are_those_of_the_stock_encoder(
    first: list[Any], second: list[Any], scopes: list[Any], temporality: str, aggregation: Aggregation, about: Any
) -> None:
    """Whatever is recorded, of whatever scope, resource, shape and temporality, our request says what the stock encoder's says of the same points."""
    with two_readers(TEMPORALITIES[temporality], aggregation, Resource(with_one_zero(about[0]), about[1])) as (
        provider,
        stock,
        ours,
    ):
        recorders = [Recorder(provider, scope) for scope in scopes]
        for recorded in (first, second):
            for index, recording in enumerate(recorded):
                recorders[index % len(recorders)](*recording)
            expected, (found, counts) = stock(), ours()

            assert found == expected
            metrics = [m for r in found.resource_metrics for s in r.scope_metrics for m in s.metrics]
            points = [getattr(metric, metric.WhichOneof("data")) for metric in metrics]
            assert counts == (
                sum(len(data.data_points) for data in points),
                sum(len(data.data_points) for data in points if getattr(data, "aggregation_temporality", 0) == 1),
            )


def test_a_series_with_a_lone_surrogate_leaves_without_that_attribute() -> None:
    """A string that has no UTF-8 form is left out, as the stock encoder does, and the others stay."""
    with two_readers({}, AGGREGATIONS[0], Resource({})) as (provider, stock, ours):
        provider.get_meter("m").create_gauge("g").set(1, {"a": "\ud800", "b": ["\udfff", "x"], "c": "ok"})

        assert stock() == ours()[0]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK warns of odd attributes, names and aggregations; that is not what these tests are about."""
    caplog.set_level(logging.CRITICAL)
