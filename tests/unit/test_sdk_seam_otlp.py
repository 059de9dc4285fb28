"""What the stock OTLP exporters and the periodic reader do beneath their public face, where bytes are handed to them."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.exporter.http.transport._requests import RequestsHTTPTransport
from opentelemetry.exporter.http.transport._urllib3 import Urllib3HTTPTransport
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import _count_data_points
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExportResult, PeriodicExportingMetricReader

from otel_perf.exporters._otlp_transport import Encoded, GrpcTransport, HttpTransport, transport_of
from tests.unit.test_sdk_seam import parameters

WHERE = "has moved: see exporters/_otlp_transport.py"
BOTH = [
    "_shutdown",
    "_max_export_batch_size",
    "_client",
    "_metrics",
    "_preferred_temporality",
    "_preferred_aggregation",
]


@pytest.fixture
def exporters() -> Iterator[tuple[Any, Any]]:
    """A stock exporter of each protocol, whose server is not there."""
    made: tuple[Any, Any] = (
        GrpcExporter(endpoint="http://127.0.0.1:9", insecure=True, timeout=0.1),
        HttpExporter(endpoint="http://127.0.0.1:9/v1/metrics", timeout=0.1),
    )
    yield made
    for exporter in made:
        exporter.shutdown()


def test_the_stock_exporters_are_known_by_name(exporters: tuple[Any, Any]) -> None:
    """Exactly the stock classes have a transport, by the names that are compared."""
    assert [type(transport_of(exporter)) for exporter in exporters] == [GrpcTransport, HttpTransport]
    assert transport_of(ConsoleMetricExporter()) is None


def test_the_exporters_have_the_attributes(exporters: tuple[Any, Any]) -> None:
    """State is kept under the names that are read or replaced."""
    over_grpc, over_http = exporters
    for exporter, names in (
        (over_grpc, [*BOTH, "_stub", "_channel", "_translate_data", "_export", "_retryable_error_codes"]),
        (over_http, [*BOTH, "_export_batch"]),
        (over_http._client, ["_transport"]),
        (RequestsHTTPTransport(), ["_session"]),
        (Urllib3HTTPTransport(), ["_pool"]),
    ):
        for name in names:
            assert hasattr(exporter, name), f"{type(exporter).__name__}.{name} {WHERE}"
    assert type(over_http._client._transport) in (RequestsHTTPTransport, Urllib3HTTPTransport)
    assert "session" in inspect.signature(HttpExporter.__init__).parameters


SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (GrpcExporter._translate_data, ["data"]),
    (GrpcExporter._export, ["data"]),
    (HttpExporter._export_batch, ["export_request"]),
    (RequestsHTTPTransport.request, ["method", "url", "headers", "timeout", "data"]),
    (RequestsHTTPTransport.is_connection_error, ["exception"]),
    (RequestsHTTPTransport.close, []),
    (Urllib3HTTPTransport.request, ["method", "url", "headers", "timeout", "data"]),
    (Urllib3HTTPTransport.is_connection_error, ["exception"]),
    (Urllib3HTTPTransport.close, []),
    (PeriodicExportingMetricReader._ticker, []),
    (PeriodicExportingMetricReader._at_fork_reinit, []),
    (PeriodicExportingMetricReader._receive_metrics, ["metrics_data", "timeout_millis", "kwargs"]),
    (PeriodicExportingMetricReader.force_flush, ["timeout_millis"]),
    (PeriodicExportingMetricReader.shutdown, ["timeout_millis", "kwargs"]),
]


@pytest.mark.parametrize(("function", "names"), SIGNATURES, ids=[function.__qualname__ for function, _ in SIGNATURES])
def test_the_arguments_are_those(function: Callable[..., Any], names: list[str]) -> None:
    """What is replaced or called takes the arguments that ours take or give."""
    assert parameters(function) == names


def test_a_request_in_bytes_looks_like_one_to_the_exporters(exporters: tuple[Any, Any]) -> None:
    """Both exporters count the points of a request in bytes, for their internal metrics, and one of them asks it for its bytes."""
    request: Any = Encoded(b"bytes", 7, 3)

    assert exporters[0]._count_data(request) == 7
    assert _count_data_points(request) == 7
    assert request.SerializeToString() == b"bytes"


def test_the_grpc_exporter_makes_its_stub_anew_when_it_connects_again(exporters: tuple[Any, Any]) -> None:
    """After a new channel the client is made by the stub that was replaced, and called with three named arguments."""
    exporter, _ = exporters
    seen: list[Any] = []

    class Channel:
        def unary_unary(self, method: str, **options: Any) -> Any:
            seen.extend([method, options["request_serializer"](Encoded(b"bytes", 1, 0))])
            return lambda **arguments: seen.append(sorted(arguments))

    GrpcTransport(exporter)
    exporter._channel.close()
    exporter._client = exporter._stub(Channel())
    assert "self._client = self._stub(self._channel)" in inspect.getsource(type(exporter)._initialize_channel_and_stub)

    assert exporter._export(Encoded(b"bytes", 1, 0)) is MetricExportResult.SUCCESS
    assert seen == [
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        b"bytes",
        ["metadata", "request", "timeout"],
    ]


def test_the_http_client_asks_of_its_transport_what_ours_answers() -> None:
    """The client calls no method of its transport but those that stand in between, and the transports none of session and pool but those."""
    client: Any = type(HttpExporter(endpoint="http://127.0.0.1:9", timeout=0.1)._client)

    assert set(re.findall(r"_transport\.(\w+)", inspect.getsource(client))) == {
        "request",
        "is_connection_error",
        "close",
    }
    used = set(re.findall(r"_session\.(\w+)", inspect.getsource(RequestsHTTPTransport)))
    # Verification and certificate are set when the transport is made, before its session is replaced.
    assert used == {"request", "close", "verify", "cert"}
    assert set(re.findall(r"_pool\.(\w+)", inspect.getsource(Urllib3HTTPTransport))) == {"request", "clear"}


def test_the_periodic_reader_has_the_attributes() -> None:
    """The reader's state is under the names that are read; its thread exists only with a finite interval."""
    reader: Any = PeriodicExportingMetricReader(ConsoleMetricExporter(), export_interval_millis=float("inf"))

    assert reader._daemon_thread is None
    assert reader._shutdown is False
    assert isinstance(reader._shutdown_event, threading.Event)
    for name in ("_export_lock", "_export_interval_millis", "_export_timeout_millis", "_exporter"):
        assert hasattr(reader, name), f"PeriodicExportingMetricReader.{name} has moved: see exporters/otlp.py"
