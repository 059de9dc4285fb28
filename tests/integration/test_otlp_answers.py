"""What servers answer to OTLP requests, over HTTP and gRPC: partial successes, answers without end, and failures, with the stock exporters."""

from __future__ import annotations

import gzip
import shutil
import ssl
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest
import requests
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otel_perf.exporters import otlp
from otel_perf.exporters._http_answers import MAX_ANSWER
from tests.conformance.harness import DELTA
from tests.peers.otlp import flatten
from tests.peers.scripted import Connection, response, scripted, scripted_grpc

NONE = {"ok": 0, "failed": 0, "exported": 0, "rejected": 0, "dropped": 0}


@pytest.fixture
def recorded(make_provider: Any) -> Callable[..., Any]:
    """Makes a reader of an exporter, and a counter of two series of it, of deltas."""

    def make(exporter: Any) -> tuple[otlp.OtlpMetricReader, Callable[[], None]]:
        reader = otlp.reader(exporter, export_interval_millis=float("inf"))
        assert isinstance(reader, otlp.OtlpMetricReader)
        counter = make_provider(reader).get_meter("m").create_counter("c")

        def record() -> None:
            counter.add(1)
            counter.add(2, {"a": 1})

        record()
        return reader, record

    return make


def http(address: str, timeout: float = 5, **options: Any) -> HttpExporter:
    """An exporter over HTTP."""
    return HttpExporter(
        endpoint=f"http://{address}/v1/metrics", timeout=timeout, preferred_temporality=DELTA, **options
    )


def over_grpc(address: str, timeout: float = 5, **options: Any) -> GrpcExporter:
    """An exporter over gRPC."""
    return GrpcExporter(
        endpoint=f"http://{address}", insecure=True, timeout=timeout, preferred_temporality=DELTA, **options
    )


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
def test_partial_success_over_http_is_counted(recorded: Any, caplog: Any, encoding: str) -> None:
    """Points that an HTTP server rejects are counted and reported, however its answer is compressed, and the request is not sent again."""
    bodies: list[bytes] = []
    compress: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}
    partial = compress[encoding](response(1, "out of range").SerializeToString())

    def answer(connection: Connection) -> None:
        while True:
            bodies.append(connection.request())
            connection.answer(partial, "200 OK", None, f"Content-Encoding: {encoding}")

    with scripted(answer) as address:
        reader, record = recorded(http(address))
        reader.force_flush()
        record()
        reader.force_flush()

    assert len(bodies) == 2
    assert reader.results() == {**NONE, "ok": 2, "exported": 2, "rejected": 2}
    assert caplog.text.count("out of range") == 1


def test_partial_success_over_grpc_is_counted(recorded: Any, caplog: Any) -> None:
    """Points that a gRPC server rejects are counted and reported, and the request is not sent again."""
    found: list[Any] = []

    def answer(request: Any, _context: Any) -> Any:
        found.append(request)
        return response(2, "out of range")

    with scripted_grpc(answer) as address:
        reader, _ = recorded(over_grpc(address))
        reader.force_flush()
        reader.force_flush()

    assert len(found) == 1
    assert reader.results() == {**NONE, "ok": 1, "exported": 0, "rejected": 2}
    assert caplog.text.count("out of range") == 1


@pytest.mark.parametrize("body", [b"", b"<html>fine</html>", b"\xff" * 10])
def test_any_answer_of_success_is_one(recorded: Any, body: bytes) -> None:
    """A success whose body is no OTLP, or is not what its encoding says, is a success."""

    def answer(connection: Connection) -> None:
        for headers in ([], ["Content-Encoding: gzip"], ["Content-Encoding: br"]):
            connection.request()
            connection.answer(body, "200 OK", None, *headers)

    with scripted(answer) as address:
        reader, record = recorded(http(address))
        for _ in range(3):
            reader.force_flush()
            record()

    assert reader.results() == {**NONE, "ok": 3, "exported": 6}


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request"])
def test_an_answer_without_end_is_cut_off(recorded: Any, status: str) -> None:
    """Of an answer of 300 MiB at most 4 are read, and the export has failed."""
    sent: list[int] = []

    def answer(connection: Connection) -> None:
        connection.request()
        connection.answer(b"", status, 300 << 20)
        sent.append(connection.flood(300 << 20))

    with scripted(answer) as address:
        reader, _ = recorded(http(address))
        reader.force_flush()

    assert reader.results() == {**NONE, "failed": 1, "dropped": 2}
    # And what the buffers of the connection take.
    assert sent[0] < 64 << 20


def test_a_compressed_bomb_is_not_unpacked(recorded: Any) -> None:
    """An answer that would have 256 MiB unpacked is a failed export, for which no such memory is taken."""
    bomb = gzip.compress(bytes(256 << 20), 9)
    assert len(bomb) < MAX_ANSWER

    def answer(connection: Connection) -> None:
        connection.request()
        connection.answer(bomb, "200 OK", None, "Content-Encoding: gzip")

    with scripted(answer) as address:
        reader, _ = recorded(http(address))
        tracemalloc.start()
        try:
            reader.force_flush()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert reader.results() == {**NONE, "failed": 1, "dropped": 2}
    assert peak < 4 * MAX_ANSWER


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("first", "drip"),
    [(HEAD + b"Content-Length: 100000\r\n\r\n", b"x"), (HEAD, b"X: y\r\n"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=["body", "headers", "nothing but continue"],
)
@pytest.mark.parametrize("way", ["direct", "proxy"])
def test_a_slow_answer_ends_at_the_timeout(
    recorded: Any, monkeypatch: pytest.MonkeyPatch, first: bytes, drip: bytes, way: str
) -> None:
    """A server that sends its answer byte by byte, each in time, is waited for no longer than the timeout of the export, also behind a proxy."""

    def answer(connection: Connection) -> None:
        connection.request()
        connection.socket.sendall(first)
        connection.drip(drip, 0.05)

    with scripted(answer) as address:
        if way == "proxy":
            monkeypatch.setenv("http_proxy", f"http://{address}")
        reader, _ = recorded(http(address if way == "direct" else "collector.invalid", timeout=0.5))
        begun = monotonic()
        reader.force_flush()

    # The stock client's way allows for two attempts; without a deadline it is hours.
    assert monotonic() - begun < 10
    assert reader.results() == {**NONE, "failed": 1}
    assert len(reader._waiting) == 1


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"HTTP/1.1 200 OK\r\n\r\n", b"\x16\x03\x03\xff\xff" + b"z" * 50])
def test_garbage_instead_of_tls_is_a_failure(recorded: Any, garbage: bytes) -> None:
    """A server that does not speak TLS where it should is a failed export."""
    with scripted(lambda connection: connection.socket.sendall(garbage)) as address:
        exporter = HttpExporter(endpoint=f"https://{address}/v1/metrics", timeout=1, preferred_temporality=DELTA)
        reader, _ = recorded(exporter)
        reader.force_flush()

    assert reader.results()["failed"] == 1


def test_deltas_arrive_after_http_failures_in_their_order(recorded: Any) -> None:
    """What an HTTP server cannot take now waits as it was sent, and arrives before what came later."""
    answers = ["503 Service Unavailable", "200 OK", "200 OK"]
    found: list[Any] = []

    def answer(connection: Connection) -> None:
        while True:
            body = connection.request()
            found.append(ExportMetricsServiceRequest.FromString(gzip.decompress(body)))
            connection.answer(b"", answers[len(found) - 1], None, "Retry-After: 7")

    with scripted(answer) as address:
        reader, record = recorded(http(address, compression=Compression.Gzip))
        reader.force_flush()
        assert reader._retry_after == 7
        record()
        reader.force_flush()

    assert found[0] == found[1]
    assert [[point.as_int for point in flatten(request).values()] for request in found] == [[1, 2]] * 3
    assert reader.results() == {**NONE, "ok": 2, "failed": 1, "exported": 4}


@pytest.mark.parametrize(("status", "waits"), [("400 Bad Request", 0), ("413 Too Large", 0), ("429 Too Many", 1)])
def test_deltas_wait_only_for_what_may_change(recorded: Any, status: str, waits: int) -> None:
    """Deltas of a request that is wrong are dropped; those of one that is too early wait."""

    def answer(connection: Connection) -> None:
        connection.request()
        connection.answer(b"", status, None, "Retry-After: 60")

    with scripted(answer) as address:
        reader, _ = recorded(http(address))
        reader.force_flush()

    assert len(reader._waiting) == waits
    assert reader.results() == {**NONE, "failed": 1, "dropped": 0 if waits else 2}


EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("code", "seconds", "waits"),
    [
        (grpc.StatusCode.UNAVAILABLE, 30, True),
        (EXHAUSTED, 30, True),
        (EXHAUSTED, None, False),
        (grpc.StatusCode.INVALID_ARGUMENT, None, False),
    ],
)
def test_deltas_wait_after_grpc_failures_that_may_pass(
    recorded: Any, code: grpc.StatusCode, seconds: int | None, waits: bool
) -> None:
    """What a gRPC server cannot take now waits for as long as it says; a request that is too large for ever does not."""
    found: list[Any] = []
    works: list[bool] = []

    def answer(request: Any, context: Any) -> Any:
        found.append(request)
        if not works:
            if seconds is not None:
                info = RetryInfo(retry_delay=Duration(seconds=seconds)).SerializeToString()
                context.set_trailing_metadata((("google.rpc.retryinfo-bin", info),))
            context.abort(code, "not now")
        return response()

    with scripted_grpc(answer) as address:
        reader, _ = recorded(over_grpc(address, timeout=0.8))
        reader.force_flush()
        assert reader._retry_after == (seconds or 0)
        works.append(True)
        reader.force_flush()

    expected = {**NONE, "failed": 1, **({"ok": 1, "exported": 2} if waits else {"dropped": 2})}
    assert reader.results() == expected
    assert found[0] == found[-1]


def test_grpc_answers_are_bounded_by_grpc(recorded: Any) -> None:
    """An answer over gRPC of more than 4 MiB is a failed export."""
    with scripted_grpc(lambda *_: response(0, "x" * (MAX_ANSWER + 1))) as address:
        reader, _ = recorded(over_grpc(address, timeout=0.8))
        reader.force_flush()

    assert reader.results() == {**NONE, "failed": 1, "dropped": 2}


def test_nobody_listens(recorded: Any) -> None:
    """Where nothing listens the export has failed, over either protocol, and deltas wait."""
    with scripted(lambda _: None) as address:
        pass
    for exporter in (http(address, timeout=0.8), over_grpc(address, timeout=0.8)):
        reader, _ = recorded(exporter)
        reader.force_flush()

        assert reader.results() == {**NONE, "failed": 1}
        assert len(reader._waiting) == 1


def test_a_session_of_the_user_is_used_and_left_alone(recorded: Any) -> None:
    """Headers and adapters of the user's session are used; what others do with it has no limits."""
    session = requests.Session()
    session.headers["X-Who"] = "me"
    seen: list[bytes] = []

    def answer(connection: Connection) -> None:
        head = connection.socket.recv(65536)
        seen.append(head)
        connection.answer(bytes(MAX_ANSWER + 1))

    with scripted(answer) as address:
        reader, _ = recorded(http(address, session=session))
        reader.force_flush()
        answered = session.get(f"http://{address}", timeout=20)

    assert len(answered.content) == MAX_ANSWER + 1
    assert reader.results()["failed"] == 1
    assert all(b"X-Who: me" in head for head in seen)


def test_a_request_that_the_exporter_refuses_is_dropped(recorded: Any) -> None:
    """The exporter's own limit of a request holds for bytes too."""
    with scripted(lambda connection: connection.answer()) as address:
        reader, _ = recorded(http(address, max_request_size=10))
        reader.force_flush()

    assert reader.results() == {**NONE, "failed": 1, "dropped": 2}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls_is_that_of_the_stock_exporter(recorded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTPS the exporter's certificate file decides: a server that has the certificate is trusted, and not without the file."""
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        # To requests they count more than the exporter's own setting.
        monkeypatch.delenv(variable, raising=False)
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject)
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def answer(connection: Connection) -> None:
        with context.wrap_socket(connection.socket, server_side=True) as secure:
            within = Connection(secure, connection.ended)
            within.request()
            within.answer(response(1, "seen").SerializeToString())

    with scripted(answer) as address:
        endpoint = f"https://{address}/v1/metrics"
        for file, expected in ((str(certificate), {"ok": 1, "exported": 1, "rejected": 1}), (None, {"failed": 1})):
            reader, _ = recorded(HttpExporter(endpoint=endpoint, certificate_file=file, timeout=0.8))
            reader.force_flush()

            assert reader.results() == {**NONE, **expected}
