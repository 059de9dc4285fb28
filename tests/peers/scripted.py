"""Servers on loopback that answer OTLP requests with whatever a test wants: HTTP by bytes, gRPC by messages and errors."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc

Answer = Callable[["Connection"], object]


class Connection:
    """A connection of a client to a scripted server.

    Attributes:
        socket: The connection.
        ended: Set when the server ends.
    """

    def __init__(self, connection: socket.socket, ended: threading.Event) -> None:
        self.socket = connection
        self.ended = ended

    def request(self) -> bytes:
        """Reads a request; its body."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._some()
        head, _, body = received.partition(b"\r\n\r\n")
        (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < int(length.split(b":")[1]):
            body += self._some()
        return body

    def _some(self) -> bytes:
        some = self.socket.recv(65536)
        if not some:
            raise ConnectionError("the client has closed the connection")
        return some

    def answer(self, body: bytes = b"", status: str = "200 OK", length: int | None = None, *headers: str) -> None:
        """Sends an answer, of more bytes than the body has if so stated."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode() + body)

    def drip(self, data: bytes, pause: float) -> None:
        """Sends the bytes one by one with a pause between them, again and again, until the client has enough."""
        while not self.ended.is_set():
            for byte in data:
                self.socket.sendall(bytes([byte]))
                self.ended.wait(pause)

    def flood(self, size: int) -> int:
        """Sends so many bytes, or as many as the client takes; how many that were."""
        block, sent = bytes(65536), 0
        with suppress(OSError):
            while sent < size:
                self.socket.sendall(block)
                sent += len(block)
        return sent


@contextmanager
def scripted(answer: Answer) -> Iterator[str]:
    """A TCP server that gives each connection to `answer`, in a thread of its own, and ends when all have ended; its address."""
    ended = threading.Event()
    serving: list[tuple[threading.Thread, socket.socket]] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        # The client may go away at any time.
        with connection, suppress(OSError):
            connection.settimeout(20)
            answer(Connection(connection, ended))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                serving.append((threading.Thread(target=serve, args=(connection,), daemon=True), connection))
                serving[-1][0].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        # Closing alone does not wake who waits for a connection.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)
        for one, connection in serving:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            one.join(20)


@contextmanager
def scripted_grpc(answer: Callable[[Any, Any], Any]) -> Iterator[str]:
    """A gRPC server whose metrics service answers by a function of request and context; its address."""

    class Service(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the RPC.
            return answer(request, context)

    server = grpc.server(ThreadPoolExecutor(2))
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield address
    finally:
        server.stop(None).wait()


def response(rejected: int = 0, message: str = "") -> metrics_service_pb2.ExportMetricsServiceResponse:
    """The answer to an export."""
    return metrics_service_pb2.ExportMetricsServiceResponse(
        partial_success=metrics_service_pb2.ExportMetricsPartialSuccess(
            rejected_data_points=rejected, error_message=message
        )
    )
