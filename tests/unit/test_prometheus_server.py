"""The endpoint's server on its socket: what is answered, what is refused, and what bounds there are."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import prometheus_client
import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import view as views

from otel_perf import MeterProvider
from otel_perf.config import Settings
from otel_perf.exporters import _http
from otel_perf.exporters.prometheus import PrometheusEndpoint, serve
from tests.peers.prometheus import free_port
from tests.unit.scraped import OPENMETRICS, PROTOBUF, Scraped
from tests.unit.stock import stock_provider

SECONDS = 20.0


@pytest.fixture
def shop(make_provider: Callable[..., MeterProvider]) -> Scraped:
    """An endpoint with a counter."""
    made = Scraped(make_provider)
    made.provider.get_meter("m").create_counter("c").add(3)
    return made


def connected(port: int) -> socket.socket:
    """A connection to an endpoint."""
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


def rest_of(connection: socket.socket) -> bytes:
    """All that still arrives, until the other side closes."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


def sent(shop: Scraped, request: bytes) -> tuple[bytes, bytes]:
    """Status line and body of what is answered to bytes."""
    with connected(shop.reader.port) as connection:
        connection.sendall(request)
        head, _, body = rest_of(connection).partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], body


def wait_for(predicate: Callable[[], object]) -> None:
    """Waits until something holds; fails after some seconds."""
    deadline = time.monotonic() + SECONDS
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("path", ["/metrics", "/", "/metrics?name[]=x"])
def test_metrics_are_answered(path: str, shop: Scraped) -> None:
    """The metrics are at ``/metrics`` and at the root, whatever the query, with exact type and length, and the connection ends."""
    status, headers, body = shop.get(path=path)

    assert status == 200
    assert b"c_total" in body
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["content-length"] == str(len(body))
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert time.strptime(headers["date"], "%a, %d %b %Y %H:%M:%S GMT").tm_year > 2020


def test_formats_have_their_types(shop: Scraped) -> None:
    """Each format is answered under its media type, and answers vary by what is accepted."""
    types = {accept: shop.get(Accept=accept)[1]["content-type"] for accept in ("text/html", OPENMETRICS, PROTOBUF)}

    assert types == {
        "text/html": "text/plain; version=0.0.4; charset=utf-8",
        OPENMETRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
        PROTOBUF: PROTOBUF,
    }
    assert shop.get()[1]["vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize("accept_encoding", ["gzip", "identity"])
def test_head_is_get_without_body(accept_encoding: str, shop: Scraped) -> None:
    """HEAD has the headers of GET, the length included, and no body."""
    of_get = shop.get(Accept_Encoding=accept_encoding)
    of_head = shop.get("HEAD", Accept_Encoding=accept_encoding)

    assert {**of_head[1], "date": ""} == {**of_get[1], "date": ""}
    assert (of_head[0], of_head[2]) == (200, b"")
    assert (of_get[1].get("content-encoding") == "gzip") is (accept_encoding == "gzip")


REFUSED: dict[bytes, bytes] = {
    b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc": b"405",
    b"OPTIONS /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n": b"405",
    b"get /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n": b"405",
    b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n": b"404",
    b"GET /metrics/ HTTP/1.1\r\nHost: localhost\r\n\r\n": b"404",
    b"GET /../metrics HTTP/1.1\r\nHost: localhost\r\n\r\n": b"404",
    b"GET /%6detrics HTTP/1.1\r\nHost: localhost\r\n\r\n": b"404",
    b"GET http://localhost/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n": b"400",
    b"GET metrics HTTP/1.1\r\nHost: localhost\r\n\r\n": b"400",
    b"GET  /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n": b"400",
    b"GET /metrics\r\nHost: localhost\r\n\r\n": b"400",
    b"\r\n\r\n": b"400",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n": b"400",
    b"GET /metrics HTTP/1.1\r\n\r\n": b"400",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n": b"400",
    b"GET /metrics HTTP/1.1\r\nHost : localhost\r\n\r\n": b"400",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n": b"400",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n": b"400",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nx: y\nz: w\r\n\r\n": b"400",
    b"GET /metrics HTTP/2.0\r\nHost: localhost\r\n\r\n": b"505",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * 64 + b"\r\n": b"431",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nx: " + b"y" * 8192 + b"\r\n\r\n": b"431",
    b"GET /" + b"x" * 100_000: b"431",
}


@pytest.mark.parametrize("request_bytes", REFUSED, ids=lambda request: request[:60])
def test_what_is_no_scrape_is_refused(request_bytes: bytes, shop: Scraped) -> None:
    """Other methods, other paths, and what is not HTTP/1 or too long have their status, and nothing of the metrics."""
    status, body = sent(shop, request_bytes)

    assert status.split(b" ")[:2] == [b"HTTP/1.1", REFUSED[request_bytes]]
    assert b"c_total" not in body


def test_a_refused_method_says_which_are_not(shop: Scraped) -> None:
    """The answer to another method names those that are answered."""
    assert shop.get("DELETE")[1]["allow"] == "GET, HEAD"


HOSTS: dict[bytes, bool] = {
    b"localhost": True,
    b"LocalHost:9464": True,
    b"localhost.": True,
    b"127.0.0.1": True,
    b"127.0.0.1:80": True,
    b"127.1.2.3": True,
    b"[::1]": True,
    b"[::1]:9464": True,
    b"host.docker.internal:9464": True,
    b"host.containers.internal": True,
    b"rebind.test": False,
    b"rebind.test:9464": False,
    b"localhost.rebind.test": False,
    b"127.0.0.1.rebind.test": False,
    b"rebind.test@localhost": False,
    b"localhost@rebind.test": False,
    b"10.0.0.1": False,
    b"0.0.0.0": False,
    b"128.0.0.1": False,
    b"[::2]": False,
    b"[localhost": True,
    b"": False,
    b"localhost, rebind.test": False,
}


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_a_loopback_address_is_reached_by_its_names_only(host: bytes, shop: Scraped) -> None:
    """An endpoint on a loopback address answers requests for it by name or address, and nobody whose name only resolves to it."""
    status, body = sent(shop, b"GET /metrics HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")

    assert status == (b"HTTP/1.1 200 OK" if HOSTS[host] else b"HTTP/1.1 403 Forbidden")
    assert (b"c_total" in body) is HOSTS[host]


def test_http_1_0_needs_no_host(shop: Scraped) -> None:
    """A request of HTTP/1.0, which no browser makes, needs no Host, but one that it has is looked at."""
    assert sent(shop, b"GET /metrics HTTP/1.0\r\n\r\n")[0] == b"HTTP/1.1 200 OK"
    assert sent(shop, b"GET /metrics HTTP/1.0\r\nHost: rebind.test\r\n\r\n")[0] == b"HTTP/1.1 403 Forbidden"


def test_other_addresses_have_any_name() -> None:
    """An endpoint that is bound to all addresses on purpose answers whatever it is called."""
    server = _http.Server("0.0.0.0", 0, ("/",), lambda _: _http.Answer(200, (), b"here"))
    try:
        with connected(server.port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
            assert rest_of(connection).endswith(b"\r\n\r\nhere")
    finally:
        server.close()


def test_an_ipv6_address_can_be_bound() -> None:
    """The loopback address of IPv6 is served like that of IPv4, under its own name and with the same check."""
    try:
        server = _http.Server("::1", 0, ("/",), lambda _: _http.Answer(200, (), b"here"))
    except OSError:
        pytest.skip("this machine has no IPv6")
    statuses = []
    try:
        for host in (b"[::1]:80", b"localhost", b"rebind.test"):
            with socket.create_connection(("::1", server.port), timeout=SECONDS) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
                statuses.append(rest_of(connection)[9:12])
    finally:
        server.close()

    assert statuses == [b"200", b"200", b"403"]


def test_a_request_may_arrive_in_pieces(shop: Scraped) -> None:
    """A request whose bytes arrive one by one is answered."""
    with connected(shop.reader.port) as connection:
        for byte in b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert rest_of(connection).startswith(b"HTTP/1.1 200 OK")


def test_slow_requests_end(shop: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not finish its request in time is told so and has its connection closed."""
    monkeypatch.setattr(_http, "READ_S", 0.05)
    with connected(shop.reader.port) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert rest_of(connection).startswith(b"HTTP/1.1 408 ")


def test_silent_and_broken_clients_leave_nothing(shop: Scraped) -> None:
    """Connections that end without a request, or in the middle of one, or in the middle of the answer, leave no connection behind."""
    for part in (b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with connected(shop.reader.port) as connection:
            connection.sendall(part)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    wait_for(lambda: not shop.reader._server._connections)

    assert shop.get()[0] == 200


def test_at_most_16_connections_are_answered_at_once(shop: Scraped) -> None:
    """A scrape waits while sixteen others are open that say nothing, and is answered as soon as one of them ends."""
    silent = [connected(shop.reader.port) for _ in range(_http.CONNECTIONS_MAX)]
    wait_for(lambda: len(shop.reader._server._connections) == _http.CONNECTIONS_MAX)
    with connected(shop.reader.port) as late:
        late.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        late.settimeout(0.05)
        with pytest.raises(TimeoutError):
            late.recv(1)
        assert len(shop.reader._server._connections) == _http.CONNECTIONS_MAX
        silent.pop().close()
        late.settimeout(SECONDS)
        assert rest_of(late).startswith(b"HTTP/1.1 200 OK")
    for connection in silent:
        connection.close()


def test_scrapes_are_answered_one_at_a_time(shop: Scraped) -> None:
    """Scrapes that come together are answered all, each collected alone."""
    inside: list[int] = []
    most: list[int] = []

    def observe(_: CallbackOptions) -> Iterator[Observation]:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        yield Observation(1)

    shop.provider.get_meter("m").create_observable_gauge("g", [observe])
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(shop.text())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)

    assert [text.count("\nc_total{") for text in texts] == [1] * 8
    assert (max(most), len(most)) == (1, 8)


def test_a_collection_that_fails_is_no_empty_scrape(
    shop: Scraped, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape whose collection fails has status 503, so that Prometheus shows the target as down, and the next one may succeed."""
    with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):
        broken.setattr(shop.provider._consumer, "_run_callbacks", lambda *_: 1 / 0)
        status, _, body = shop.get()

    assert (status, body) == (503, b"Metrics were not collected, see the log of the service\n")
    assert "Metrics are not collected" in caplog.text
    assert shop.get()[0] == 200


def test_a_worker_that_does_not_lead_has_an_empty_answer(shop: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another worker of the group exports, the answer is empty, so that nothing is counted twice."""
    consumer: Any = shop.provider._consumer
    monkeypatch.setattr(consumer, "_segment", type("Led", (), {"lead": staticmethod(lambda: False)}))

    assert shop.get()[::2] == (200, b"")


def test_what_prometheus_client_has_is_not_shown(shop: Scraped) -> None:
    """The default registry of `prometheus_client` has metrics of the process, which a scrape of ours does not have."""
    assert any(family.name.startswith("process_") for family in prometheus_client.REGISTRY.collect())
    _, _, body = shop.get()

    assert b"process_" not in body
    assert b"python_" not in body


def test_a_provider_of_the_sdk_has_nothing_to_show() -> None:
    """With the SDK's provider, which does not collect natively, each scrape says what is missing."""
    reader = PrometheusEndpoint("127.0.0.1", 0)
    provider = stock_provider([reader], [])
    try:
        with connected(reader.port) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            found = rest_of(connection)
    finally:
        provider.shutdown()

    assert found.startswith(b"HTTP/1.1 503 ")
    assert found.endswith(b"No otel_perf.MeterProvider has this reader\n")


def test_the_reader_is_cumulative_with_default_aggregations() -> None:
    """Whatever the variables of OTLP say, the endpoint collects cumulative values with the default aggregations."""
    reader: Any = PrometheusEndpoint("127.0.0.1", 0)
    reader.shutdown()

    assert set(reader._instrument_class_temporality.values()) == {sdk.export.AggregationTemporality.CUMULATIVE}
    assert {type(of) for of in reader._instrument_class_aggregation.values()} == {views.DefaultAggregation}


def test_a_flush_takes_nothing_from_the_next_scrape(shop: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing the provider succeeds without a collection for the endpoint."""
    collected: list[object] = []
    monkeypatch.setattr(shop.provider._consumer, "_take", lambda *_args, **_kwargs: collected.append(1))

    assert shop.provider.force_flush()
    assert collected == []


def test_shutdown_frees_the_port(make_provider: Callable[..., MeterProvider]) -> None:
    """After the provider's shutdown nobody listens, the port can be bound again, and a second shutdown of the reader does nothing."""
    shop = Scraped(make_provider)
    port = shop.reader.port
    assert shop.get()[0] == 200
    shop.provider.shutdown()
    with pytest.raises(ConnectionRefusedError):
        connected(port)

    again = PrometheusEndpoint("127.0.0.1", port)
    again.shutdown()
    again.shutdown()
    shop.reader.shutdown()


def test_a_taken_port_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A port that is taken leaves the service without endpoint and says which setting names another."""
    with socket.socket() as other, caplog.at_level(logging.WARNING):
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = Settings(prometheus_host="127.0.0.1", prometheus_port=other.getsockname()[1])
        assert serve(settings) is None

    (record,) = caplog.records
    assert "set OTEL_EXPORTER_PROMETHEUS_PORT to a free port" in record.getMessage()


def test_a_served_endpoint_ends_with_its_reader() -> None:
    """What `serve` has started listens until the reader is shut down."""
    served = serve(Settings(prometheus_host="localhost", prometheus_port=free_port()))
    assert served is not None
    socket.create_connection(("localhost", served.port), timeout=SECONDS).close()
    served.shutdown()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("localhost", served.port), timeout=SECONDS)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_has_no_endpoint(shop: Scraped) -> None:
    """A forked child closes what it inherits, also a connection that is open, and the parent goes on to answer on both."""
    server = shop.reader._server
    with connected(shop.reader.port) as connection:
        wait_for(lambda: server._connections)
        inherited = [server._listener.fileno(), *(one.fileno() for one in server._connections)]
        pid = os.fork()
        if pid == 0:
            os._exit(sum(map(is_open, inherited)))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert all(map(is_open, inherited))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert rest_of(connection).startswith(b"HTTP/1.1 200 OK")
    assert shop.get()[0] == 200


def is_open(file: int) -> bool:
    """Whether a file descriptor is open."""
    try:
        os.fstat(file)
    except OSError:
        return False
    return True
