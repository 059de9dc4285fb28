"""The stock OTLP exporters of metrics, and a reader of ours that exports when it is flushed."""

from __future__ import annotations

from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality

from otel_perf.exporters.otlp import OtlpMetricReader, reader

PROTOCOLS = ("grpc", "http/protobuf")
NEVER_MS = 3_600_000
"""An interval that no test lives to see: what is exported is exported by a flush."""

TEMPORALITY: dict[str, dict[type, AggregationTemporality]] = {
    "cumulative": {},
    "delta": dict.fromkeys(
        (sdk.Counter, sdk.UpDownCounter, sdk.Histogram, sdk.ObservableCounter, sdk.ObservableUpDownCounter),
        AggregationTemporality.DELTA,
    ),
}


def exporter(protocol: str, endpoint: str, **kwargs: Any) -> Any:
    """The stock exporter of a protocol.

    Args:
        protocol: ``grpc`` or ``http/protobuf``.
        endpoint: URL of the receiver without a path.
        **kwargs: Other arguments of the exporter.
    """
    if protocol == "grpc":
        return GrpcExporter(endpoint=endpoint, **kwargs)
    return HttpExporter(endpoint=f"{endpoint}/v1/metrics", **kwargs)


def reader_of(made: Any, **options: Any) -> OtlpMetricReader:
    """Our reader that exports with a stock exporter when it is flushed.

    Args:
        made: The exporter.
        **options: Other arguments of the reader.
    """
    found = reader(made, export_interval_millis=NEVER_MS, **options)
    assert isinstance(found, OtlpMetricReader)
    return found
