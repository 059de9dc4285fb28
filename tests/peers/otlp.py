"""An OTLP receiver on loopback, gRPC and HTTP, that keeps the decoded requests."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Receiver:
    """Keeps what arrives.

    Attributes:
        endpoint: URL to export to, of the protocol that the receiver speaks.
        requests: Decoded metrics requests in the order of arrival.
        spans: Decoded trace requests.
        logs: Decoded log requests.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: list[Any] = []
        self.spans: list[Any] = []
        self.logs: list[Any] = []
        self._arrived = threading.Condition()

    def take(self, into: list[Any], request: Any) -> None:
        """Keeps a decoded request and wakes who waits."""
        with self._arrived:
            into.append(request)
            self._arrived.notify_all()

    def wait_for(self, predicate: Callable[[], object], timeout: float = 20.0) -> None:
        """Waits until `predicate` holds, looking again at every arrival; fails after `timeout` seconds."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: bool(predicate()), timeout), "nothing like that arrived"

    def signals_of_one_program(self) -> list[dict[str, Any]]:
        """Resource attributes of metrics, traces and logs, after a look at what ``tests.integration.apps.signals`` has sent: one of each, in one trace."""
        assert self.points()["app", "app.count", frozenset()].as_int == 1
        (spans,), (logs,) = self.spans, self.logs
        (span,) = spans.resource_spans[0].scope_spans[0].spans
        (record,) = logs.resource_logs[0].scope_logs[0].log_records
        assert (span.name, record.body.string_value, record.trace_id) == ("work", "hello", span.trace_id)
        senders = (self.requests[-1].resource_metrics[0], spans.resource_spans[0], logs.resource_logs[0])
        return [attributes_of(sender.resource) for sender in senders]

    def points(self, request: int = -1) -> dict[tuple[str, str, frozenset[tuple[str, Any]]], Any]:
        """Points of one request by scope name, metric name and attributes."""
        return flatten(self.requests[request])

    def metric(self, name: str, request: int = -1) -> Any:
        """The metric message of one request."""
        found = [m for m, _ in _metrics(self.requests[request]) if m.name == name]
        assert len(found) == 1, f"{name}: {len(found)} metrics"
        return found[0]


def _metrics(request: Any) -> Iterator[tuple[Any, Any]]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield metric, scope.scope


def metrics_to(receiver: Receiver, temporality: str) -> dict[str, str]:
    """Variables of a program that sends its metrics to a receiver over HTTP."""
    return {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": temporality,
    }


def value_of(value: Any) -> Any:
    """Python value of an `AnyValue` message; sequences become tuples."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return tuple(value_of(item) for item in value.array_value.values)
    if kind == "kvlist_value":
        return frozenset((item.key, value_of(item.value)) for item in value.kvlist_value.values)
    return getattr(value, kind)


def attributes_of(message: Any) -> dict[str, Any]:
    """Attributes of a message that has them."""
    return {item.key: value_of(item.value) for item in message.attributes}


def flatten(request: Any) -> dict[tuple[str, str, frozenset[tuple[str, Any]]], Any]:
    """Points of a request by scope name, metric name and attributes."""
    found = {}
    for metric, scope in _metrics(request):
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            found[scope.name, metric.name, frozenset(attributes_of(point).items())] = point
    return found


class _Keeper:
    """Answers the export RPC of any signal: keeps the request in a list of the receiver."""

    def __init__(self, receiver: Receiver, into: list[Any], answer: Callable[[], Any]) -> None:
        self._receiver, self._into, self._answer = receiver, into, answer

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002 - the name of the RPC.
        self._receiver.take(self._into, request)
        return self._answer()


@contextmanager
def grpc_receiver(port: int = 0) -> Iterator[Receiver]:
    """A receiver that speaks OTLP over gRPC."""
    receiver = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    for add, into, answer in (
        (
            metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server,
            receiver.requests,
            metrics_service_pb2.ExportMetricsServiceResponse,
        ),
        (
            trace_service_pb2_grpc.add_TraceServiceServicer_to_server,
            receiver.spans,
            trace_service_pb2.ExportTraceServiceResponse,
        ),
        (
            logs_service_pb2_grpc.add_LogsServiceServicer_to_server,
            receiver.logs,
            logs_service_pb2.ExportLogsServiceResponse,
        ),
    ):
        add(_Keeper(receiver, into, answer), server)  # type: ignore[no-untyped-call]
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None).wait()


@contextmanager
def http_receiver(port: int = 0) -> Iterator[Receiver]:
    """A receiver that speaks OTLP over HTTP with protobuf bodies."""
    receiver = Receiver()
    signals: dict[str, tuple[Any, list[Any]]] = {
        "/v1/metrics": (metrics_service_pb2.ExportMetricsServiceRequest, receiver.requests),
        "/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, receiver.spans),
        "/v1/logs": (logs_service_pb2.ExportLogsServiceRequest, receiver.logs),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            message, into = signals[self.path]
            receiver.take(into, message.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Requests are in the receiver."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


RECEIVERS = {"grpc": grpc_receiver, "http/protobuf": http_receiver}
