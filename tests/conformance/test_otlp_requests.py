"""Whole OTLP requests: what a collector gets of the stock SDK, and of us, for the same recordings."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource

from otel_perf.exporters import otlp
from tests.conformance.harness import CONTROL, OURS, STOCK, TEMPORALITIES
from tests.peers.otlp import RECEIVERS

RESOURCE = Resource(
    {"service.name": "shop", "list": ["a", "b"], "number": 1, "float": 1.5, "on": True}, "https://resource"
)
VIEWS = [
    View(instrument_name="requests", attribute_keys={"code", "x"}),
    View(instrument_name="renamed", name="other", description="of the view"),
]


def requests_of(
    provider_class: type[sdk.MeterProvider], make_reader: Any, protocol: str, temporality: Any, compressed: bool
) -> list[Any]:
    """What a collector gets in three exports, the last one at shutdown, in a form that compares."""
    options = {"preferred_temporality": temporality, "headers": {"x-token": "t"}, "timeout": 10}
    with RECEIVERS[protocol]() as receiver:
        exporter: Any
        if protocol == "grpc":
            compression = grpc.Compression.Gzip if compressed else None
            exporter = GrpcExporter(receiver.endpoint, insecure=True, compression=compression, **options)
        else:
            gzip = Compression.Gzip if compressed else None
            exporter = HttpExporter(f"{receiver.endpoint}/v1/metrics", compression=gzip, **options)
        reader = make_reader(exporter, export_interval_millis=3_600_000)
        provider = provider_class([reader], RESOURCE, views=VIEWS, shutdown_on_exit=False)
        record(provider, provider.force_flush)
        provider.shutdown()
        return [comparable(request) for request in receiver.requests]


def record(provider: sdk.MeterProvider, flush: Any) -> None:
    """Records with every instrument of two scopes, in and out of a span, and exports twice."""
    span = trace.NonRecordingSpan(
        trace.SpanContext(0xA << 64, 0xB, is_remote=False, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))
    )
    within = trace.set_span_in_context(span)
    for scope in (("first", "1.0", "https://first", {"team": "a"}), ("second",)):
        meter = provider.get_meter(*scope)
        requests = meter.create_counter("requests", "1", "what was asked")
        level, heat = meter.create_up_down_counter("level"), meter.create_gauge("heat", "Cel")
        time = meter.create_histogram("time", "s", explicit_bucket_boundaries_advisory=[0.5, 2.0, 8.0])
        meter.create_histogram("renamed", "By").record(3)
        meter.create_observable_counter("seen", [lambda _: [Observation(7, {"a": 1}), Observation(9)]])
        meter.create_observable_up_down_counter("balance", [lambda _: [Observation(-7.5)]])
        meter.create_observable_gauge("depth", [lambda _: [Observation(0)]])
        for code in (200, 404):
            requests.add(code, {"code": code, "x": (1, 2), "dropped": "d"}, within)
            time.record(code / 100, {"code": code, "bytes": b"\x00\xff"})
            time.record(code, {"code": code, "bytes": b"\x00\xff"}, within)
        level.add(-2.5)
        heat.set(21, {"empty": "", "none": None})
    flush()
    requests.add(1, {"code": 200, "x": (1, 2)})
    flush()
    level.add(1.5)


def comparable(request: Any) -> Any:
    """The request without times, points and attributes in the order of their bytes."""
    for resource in request.resource_metrics:
        sort(resource.resource.attributes)
        for scope in resource.scope_metrics:
            sort(scope.scope.attributes)
            for metric in scope.metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                for point in data.data_points:
                    assert point.time_unix_nano >= point.start_time_unix_nano
                    point.time_unix_nano = 0
                    point.start_time_unix_nano = min(point.start_time_unix_nano, 1)
                    sort(point.attributes)
                    for exemplar in point.exemplars:
                        exemplar.time_unix_nano = min(exemplar.time_unix_nano, 1)
                        sort(exemplar.filtered_attributes)
                    sort(point.exemplars)
                sort(data.data_points)
            sort(scope.metrics)
        sort(resource.scope_metrics)
    return request


def sort(messages: Any) -> None:
    """Sorts repeated messages in place."""
    messages.sort(key=lambda message: message.SerializeToString(deterministic=True))


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("temporality", TEMPORALITIES)
@pytest.mark.parametrize("protocol", RECEIVERS)
def test_a_collector_gets_the_same_requests(protocol: str, temporality: str, compressed: bool) -> None:
    """Resource, scopes, metrics, points, exemplars and number of requests are the stock SDK's, over each protocol, for each temporality."""
    ours = PeriodicExportingMetricReader if CONTROL else otlp.reader
    arguments = (protocol, TEMPORALITIES[temporality], compressed)

    expected = requests_of(STOCK, PeriodicExportingMetricReader, *arguments)
    assert len(expected) == 3
    assert requests_of(OURS, ours, *arguments) == expected
