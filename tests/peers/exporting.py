"""The stock OTLP exporters of metrics, and a reader of ours that exports when it is flushed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader

PROTOCOLS = ("grpc", "http/protobuf")
NEVER_MS = 3_600_000
"""An interval that no test lives to see: what is exported is exported by a flush."""

OURS = "otel_perf.exporters.otlp"
needs_own_reader = pytest.mark.skipif(find_spec(OURS) is None, reason=f"there is no {OURS} yet")

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


def reader_of(made: Any, **options: Any) -> Any:
    """Our reader that exports with a stock exporter when it is flushed; the SDK's, as long as there is none of ours.

    Args:
        made: The exporter.
        **options: Other arguments of our reader.
    """
    if find_spec(OURS) is None:
        return PeriodicExportingMetricReader(made, export_interval_millis=NEVER_MS)
    return import_module(OURS).reader(made, export_interval_millis=NEVER_MS, **options)
