"""An OTLP receiver of metrics that can be told to go wrong, gRPC and HTTP, true to the protocol otherwise; what it accepts is counted exactly.

What goes wrong with the connection is in `tests.peers.gate`, which stands before the receiver; what the receiver answers is here.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc

from tests.peers.gate import Gate, State, gate
from tests.peers.otlp import flatten
from tests.peers.serving import QuietHandler, serving

Answer = Literal[
    "accept", "slow", "bad_request", "too_large", "throttled", "unavailable", "partial", "huge", "bomb", "nonsense"
]
"""How requests are answered: accepted; accepted once `release` is called; refused for good, by 400 and by 413; to be tried again, by 429 with a time and
by 503; accepted but for some points; accepted with an answer of 300 MiB, with one that unpacks to that, and with one that is no message."""

ANSWERS: tuple[Answer, ...] = get_args(Answer)
STATUS: dict[Answer, int] = {"bad_request": 400, "too_large": 413, "throttled": 429, "unavailable": 503}
CODES: dict[Answer, grpc.StatusCode] = {
    "bad_request": grpc.StatusCode.INVALID_ARGUMENT,
    "too_large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "throttled": grpc.StatusCode.UNAVAILABLE,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
}
_Partial = metrics_service_pb2.ExportMetricsPartialSuccess
MEBIBYTE = bytes(1 << 20)
HUGE = 300
"""Mebibytes of a huge answer over HTTP."""
HUGE_GRPC = 5
"""Mebibytes of one over gRPC, whose clients take four: it is made in memory."""


@dataclass
class Faulty:
    """The receiver.

    Attributes:
        protocol: ``grpc`` or ``http/protobuf``.
        endpoint: URL to export to: of the gate.
        answer: How requests are answered now.
        rejects: Points that ``partial`` rejects of each request.
        retry_after: Seconds that ``throttled`` asks to wait.
        arrived: Requests that have arrived whole.
        times: When each of them did, on the monotonic clock.
        points: Data points in them.
        accepted: Data points that were accepted: neither refused nor rejected.
        rejected: Data points that were rejected of requests that were accepted in part.
        kept: The requests that were accepted, wholly or in part.
        sent: Bytes of huge answers that could be sent.
    """

    protocol: str
    endpoint: str = ""
    answer: Answer = "accept"
    rejects: int = 1
    retry_after: int = 1
    arrived: int = 0
    times: list[float] = field(default_factory=list)
    points: int = 0
    accepted: int = 0
    rejected: int = 0
    kept: list[Any] = field(default_factory=list)
    sent: int = 0
    _gate: Gate | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _released: threading.Event = field(default_factory=threading.Event)

    def turn(self, to: Answer | State) -> None:
        """Has something go wrong from now on; ``accept`` and ``open`` mend everything."""
        assert self._gate is not None
        if to in ANSWERS:
            self.answer = to
        if (state := "open" if to in ANSWERS else to) != self._gate.state:
            self._gate.turn(state)  # type: ignore[arg-type]

    def wait_for_connection(self) -> None:
        """Waits until somebody has connected since something was turned; fails after ten seconds."""
        assert self._gate is not None
        self._gate.wait_for_connection()

    def release(self) -> None:
        """Has the answers that ``slow`` holds back sent."""
        self._released.set()

    def wait_for(self, predicate: Callable[[], object], timeout: float = 10.0) -> bool:
        """Waits until a predicate holds, looking again at every request; tells whether it does after so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(predicate()), timeout)

    def sum(self, name: str) -> int:
        """Sum of the integer points of a metric in the requests that were accepted, wholly or in part."""
        return sum(sum_of(request, name) for request in self.kept)

    def take(self, request: Any) -> Answer:
        """Counts a request that has arrived whole, and tells how to answer it."""
        count, answer = len(flatten(request)), self.answer
        with self._changed:
            self.arrived += 1
            self.times.append(time.monotonic())
            self.points += count
            self._changed.notify_all()
        if answer == "slow":
            self._released.wait(30)
        if answer in STATUS:
            return answer
        with self._changed:
            rejected = min(self.rejects, count) if answer == "partial" else 0
            self.accepted += count - rejected
            self.rejected += rejected
            self.kept.append(request)
            self._changed.notify_all()
        return answer


def sum_of(request: Any, name: str) -> int:
    """Sum of the integer points of a metric in a request."""
    return sum(point.as_int for (_, found, _), point in flatten(request).items() if found == name)


def _response(faulty: Faulty, answer: Answer) -> Any:
    """The message of an answer that accepts."""
    if answer != "partial":
        return metrics_service_pb2.ExportMetricsServiceResponse()
    return metrics_service_pb2.ExportMetricsServiceResponse(
        partial_success=_Partial(rejected_data_points=faulty.rejects, error_message="too old")
    )


@cache
def _bomb() -> bytes:
    """A mebibyte of zeros, compressed; members of gzip may follow one another."""
    return gzip.compress(MEBIBYTE)


class _Service(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, faulty: Faulty) -> None:
        self._faulty = faulty

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the RPC.
        faulty = self._faulty
        answer = faulty.take(request)
        if answer in CODES:
            if answer == "throttled":
                delay = RetryInfo(retry_delay=Duration(seconds=faulty.retry_after))
                context.set_trailing_metadata((("google.rpc.retryinfo-bin", delay.SerializeToString()),))
            context.abort(CODES[answer], answer)
        if answer in ("huge", "bomb"):
            if answer == "bomb":
                context.set_compression(grpc.Compression.Gzip)
            text = "0" * (HUGE_GRPC << 20)
            return metrics_service_pb2.ExportMetricsServiceResponse(partial_success=_Partial(error_message=text))
        return _response(faulty, answer)


@contextmanager
def _grpc(faulty: Faulty) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(4))
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Service(faulty), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        faulty.release()
        server.stop(None).wait()


class _Handler(QuietHandler):
    faulty: Faulty
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls.
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        # The client may have gone meanwhile, or goes while a huge answer is sent.
        with suppress(ConnectionError):
            self.answer(self.faulty.take(metrics_service_pb2.ExportMetricsServiceRequest.FromString(body)))

    def answer(self, answer: Answer) -> None:
        if answer == "huge":
            self.send([MEBIBYTE] * HUGE)
        elif answer == "bomb":
            self.send([_bomb()] * HUGE, ("Content-Encoding", "gzip"))
        elif answer == "nonsense":
            self.send([b"<html>captive portal</html>"])
        elif answer == "throttled":
            self.send([], ("Retry-After", str(self.faulty.retry_after)), status=429)
        elif answer in STATUS:
            self.send([answer.encode()], status=STATUS[answer])
        else:
            self.send([_response(self.faulty, answer).SerializeToString()])

    def send(self, parts: list[bytes], *headers: tuple[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", "application/x-protobuf"), *headers):
            self.send_header(name, value)
        self.send_header("Content-Length", str(sum(map(len, parts))))
        self.end_headers()
        for part in parts:
            self.wfile.write(part)
            self.faulty.sent += len(part)


@contextmanager
def _http(faulty: Faulty) -> Iterator[int]:
    with serving(type("Handler", (_Handler,), {"faulty": faulty})) as port:
        yield port
        faulty.release()


@contextmanager
def faulty_receiver(protocol: str) -> Iterator[Faulty]:
    """A receiver of a protocol behind a gate; both work until told otherwise.

    Args:
        protocol: ``grpc`` or ``http/protobuf``.
    """
    faulty = Faulty(protocol)
    with {"grpc": _grpc, "http/protobuf": _http}[protocol](faulty) as port, gate(port) as found:
        faulty._gate = found
        faulty.endpoint = f"http://127.0.0.1:{found.port}"
        yield faulty
