"""Clients of databases, brokers and services: each becomes the metrics of its convention, with its real library and a server of its protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from threading import Thread
from typing import Any

import pytest

from tests.integration.apps.clients import INSTRUMENTORS, TIMES
from tests.peers.amqp_server import amqp_server
from tests.peers.cql_server import cql_server
from tests.peers.databases import memcached_server, postgres_server, redis_server
from tests.peers.mongo_server import mongo_server
from tests.peers.program import run

OURS = "otel_perf.trace"
DB, HTTP = "db.client.operation.duration", "http.client.request.duration"
OPERATION, PROCESS = "messaging.client.operation.duration", "messaging.process.duration"
SENT, CONSUMED = "messaging.client.sent.messages", "messaging.client.consumed.messages"
OLD, NEW, DROPPED = "old names", "new names", "old names, dropped natively"
OPT_IN = {OLD: "", NEW: "http,database,rpc,messaging", DROPPED: ""}


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/gone" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        del args


@contextmanager
def _http_server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _none() -> Iterator[int]:
    """The client brings its server along."""
    yield 0


SERVERS: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "asyncpg": postgres_server,
    "psycopg": postgres_server,
    "redis": redis_server,
    "pymongo": mongo_server,
    "pymemcache": memcached_server,
    "cassandra": cql_server,
    "pika": amqp_server,
    "aio_pika": amqp_server,
    "requests": _http_server,
    "httpx": _http_server,
}


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], int]]:
    """Starts the server of a client, once for all tests."""
    running: dict[Any, tuple[AbstractContextManager[int], int]] = {}

    def port(client: str) -> int:
        serve = SERVERS.get(client, _none)
        if serve not in running:
            context = serve()
            running[serve] = (context, context.__enter__())
        return running[serve][1]

    yield port
    for context, _ in running.values():
        context.__exit__(None, None, None)


@dataclass
class Found:
    """What a program that talked to a server has measured.

    Attributes:
        metrics: Attributes and number of recordings by scope and metric.
        kinds: Kinds of its spans.
    """

    metrics: dict[str, dict[str, list[Any]]]
    kinds: list[str]


def measured(client: str, port: int, way: str) -> Found:
    """Runs a program that talks to a server."""
    module, _ = INSTRUMENTORS[client]
    # A parent of the package that is missing makes this raise.
    if find_spec("opentelemetry.instrumentation") is None or not find_spec(f"opentelemetry.instrumentation.{module}"):
        pytest.skip(f"opentelemetry-instrumentation-{module.replace('_', '-')} is not installed")
    done = run(
        *(
            "-m",
            "tests.integration.apps.clients",
            client,
            f"127.0.0.1:{port}",
            "dropped" if way == DROPPED else "recorded",
        ),
        wrapper=False,
        OTEL_SEMCONV_STABILITY_OPT_IN=OPT_IN[way],
    )
    assert done.code == 0, done.err
    found = json.loads(done.out.splitlines()[-1])
    return Found(found["metrics"], [kind for _, kind in found["spans"]])


def _total(points: list[Any], **wanted: object) -> int:
    """How many recordings there are with these attributes, whose dots are written as double underscores."""
    named = {key.replace("__", "."): value for key, value in wanted.items()}
    return sum(count for attributes, count in points if named.items() <= attributes.items())


DATABASES = {
    "asyncpg": ("postgresql", "SELECT", "SELECT"),
    "redis": ("redis", "SET", "LPUSH"),
    "pymongo": ("mongodb", "insert", "nonsense"),
    "pymemcache": ("memcached", "set", "incr"),
    # Its spans end when a statement was sent, and do not say which.
    "cassandra": ("cassandra", None, None),
}


@pytest.mark.parametrize("way", OPT_IN)
@pytest.mark.parametrize("client", DATABASES)
def test_a_database_client_without_metrics_gets_them(servers: Callable[[str], int], client: str, way: str) -> None:
    """Each operation is measured with system and operation, and the one that failed with what went wrong."""
    port = servers(client)
    metrics = measured(client, port, way).metrics
    system, operation, failing = DATABASES[client]

    assert set(metrics) == {OURS}
    assert set(metrics[OURS]) == {DB}
    points = metrics[OURS][DB]
    assert {attributes["db.system.name"] for attributes, _ in points} == {system}
    assert _total(points) == TIMES + 1
    if operation is None:
        return
    assert sum(count for attributes, count in points if "error.type" not in attributes) == TIMES
    assert _total(points, db__operation__name=operation) >= TIMES
    (failed,) = [attributes for attributes, _ in points if "error.type" in attributes]
    assert failed["db.operation.name"] == failing
    texts = [value for attributes, _ in points for value in attributes.values() if isinstance(value, str)]
    assert not [text for text in texts if "nowhere" in text or "value" in text]


MESSAGES = {
    # Receiving, processing and consumed messages that the spans tell of.
    "kafka": ("kafka", "orders", TIMES, 0, TIMES),
    "aiokafka": ("kafka", "orders", TIMES, 0, TIMES),
    "confluent_kafka": ("kafka", "orders", 0, TIMES, TIMES),
    "pika": ("rabbitmq", "orders", TIMES, 0, TIMES),
    "aio_pika": ("rabbitmq", "orders", TIMES, 0, TIMES),
    "boto3sqs": ("aws.sqs", "orders", TIMES, TIMES, TIMES),
    "celery": ("celery", "celery", 0, TIMES + 1, TIMES + 1),
}


@pytest.mark.parametrize("way", OPT_IN)
@pytest.mark.parametrize("client", MESSAGES)
def test_a_messaging_client_without_metrics_gets_them(servers: Callable[[str], int], client: str, way: str) -> None:
    """Sending, receiving and processing are measured apart, and messages are counted once."""
    found = measured(client, servers(client), way)
    metrics = found.metrics[OURS]
    system, destination, received, processed, consumed = MESSAGES[client]
    operations = metrics[OPERATION]
    # Some instrumentations make two spans of what was sent once. Of those that are dropped nobody else knows.
    sent = found.kinds.count("PRODUCER") or _total(operations, messaging__operation__type="send")

    assert sent >= TIMES
    assert _total(operations, messaging__operation__type="send") == sent
    assert {attributes["messaging.destination.name"].lstrip(",") for attributes, _ in operations} == {destination}
    assert _total(operations, messaging__operation__type="receive") == received
    assert _total(metrics.get(PROCESS, []), messaging__operation__type="process") == processed
    assert _total(metrics[SENT], messaging__system=system) == sent
    assert _total(metrics[CONSUMED], messaging__system=system) == consumed
    kinds = {type(attributes.get("messaging.destination.partition.id", "")) for attributes, _ in operations}
    assert kinds == {str}
    if client == "celery":
        assert _total(metrics[PROCESS], error__type="ZeroDivisionError") == 1


@pytest.mark.parametrize("way", OPT_IN)
def test_grpc_without_metrics_gets_them(servers: Callable[[str], int], way: str) -> None:
    """Calls are measured on both sides, with method, status, and what went wrong."""
    metrics = measured("grpc", servers("grpc"), way).metrics[OURS]
    client, server = metrics["rpc.client.call.duration"], metrics["rpc.server.call.duration"]

    for points in (client, server):
        call = {"rpc__system__name": "grpc", "rpc__method": "shop.Cart/Add"}
        assert _total(points, **call, rpc__response__status_code="OK") == TIMES
        assert _total(points, **call, rpc__response__status_code="NOT_FOUND") == 1
    assert _total(client, error__type="NOT_FOUND") == 1


@pytest.mark.parametrize(
    ("client", "metric", "own"),
    [
        ("psycopg", DB, {NEW: (DB,)}),
        ("requests", HTTP, {NEW: (HTTP,)}),
        ("httpx", HTTP, {NEW: (HTTP,)}),
    ],
    ids=["psycopg", "requests", "httpx"],
)
@pytest.mark.parametrize("way", OPT_IN)
def test_a_client_that_records_a_metric_itself_is_left_to_it(
    servers: Callable[[str], int], client: str, metric: str, own: dict[str, tuple[str, ...]], way: str
) -> None:
    """With the new names the instrumentation records the metric itself; with the old ones it is made of spans. Never both."""
    metrics = measured(client, servers(client), way).metrics
    recorded = {name for scope, found in metrics.items() if scope != OURS for name in found}
    found = {scope: found[metric] for scope, found in metrics.items() if metric in found}

    assert [name for name in (metric,) if name in recorded] == list(own.get(way, ()))
    assert len(found) == 1
    (points,) = found.values()
    assert sum(count for _, count in points) == TIMES + 1
    assert sum(count for attributes, count in points if "error.type" in attributes) == 1
