"""Spans of both generations of attributes become the metrics of the semantic conventions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind, StatusCode

from otel_perf.trace._conventions import KEYS, Keys, Source, recipe
from tests.unit.spanned import MS, Spanned, spanned

Opened = Callable[[], AbstractContextManager[Spanned]]


@pytest.fixture(params=[True, False], ids=["sampled", "dropped"])
def opened(request: pytest.FixtureRequest) -> Opened:
    """Opens providers whose spans are the SDK's, or dropped by the sampler and measured all the same."""
    return partial(spanned, ALWAYS_ON if request.param else ALWAYS_OFF, natively=not request.param)


CLIENT, SERVER = SpanKind.CLIENT, SpanKind.SERVER
PRODUCER, CONSUMER, INTERNAL = SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.INTERNAL
DB, HTTP = "db.client.operation.duration", "http.client.request.duration"
OPERATION, PROCESS = "messaging.client.operation.duration", "messaging.process.duration"
SENT, CONSUMED = "messaging.client.sent.messages", "messaging.client.consumed.messages"

# Kind, name, attributes; metrics, their attributes.
CASES: dict[str, tuple[SpanKind, str, dict[str, Any], set[str], dict[str, Any]]] = {
    "database, new names": (
        CLIENT,
        "SELECT users",
        {
            "db.system.name": "postgresql",
            "db.namespace": "shop",
            "db.collection.name": "users",
            "db.operation.name": "SELECT",
            "db.query.summary": "SELECT users",
            "db.query.text": "SELECT secret FROM users",
            "server.address": "db",
            "server.port": 5432,
        },
        {DB},
        {
            "db.system.name": "postgresql",
            "db.namespace": "shop",
            "db.collection.name": "users",
            "db.operation.name": "SELECT",
            "db.query.summary": "SELECT users",
            "server.address": "db",
            "server.port": 5432,
        },
    ),
    "database, old names": (
        CLIENT,
        "SELECT",
        {
            "db.system": "mssql",
            "db.name": "shop",
            "db.user": "me",
            "db.statement": "select secret from users",
            "net.peer.name": "db",
            "net.peer.port": 1433,
        },
        {DB},
        {
            "db.system.name": "microsoft.sql_server",
            "db.namespace": "shop",
            "db.operation.name": "select",
            "server.address": "db",
            "server.port": 1433,
        },
    ),
    "a statement that does not begin with a word": (
        CLIENT,
        "?",
        {"db.system": "redis", "db.statement": "\\x00 secret"},
        {DB},
        {"db.system.name": "redis"},
    ),
    "a database in the process": (INTERNAL, "x", {"db.system": "sqlite"}, {DB}, {"db.system.name": "sqlite"}),
    "an HTTP client, new names": (
        CLIENT,
        "GET",
        {
            "http.request.method": "GET",
            "url.full": "https://user@shop:8443/secret",
            "server.address": "shop",
            "server.port": 8443,
            "http.response.status_code": 200,
            "network.protocol.version": "1.1",
        },
        {HTTP},
        {
            "http.request.method": "GET",
            "server.address": "shop",
            "server.port": 8443,
            "http.response.status_code": 200,
            "network.protocol.version": "1.1",
        },
    ),
    "an HTTP client, old names": (
        CLIENT,
        "GET",
        {"http.method": "GET", "http.url": "http://shop/secret", "http.status_code": 404},
        {HTTP},
        {
            "http.request.method": "GET",
            "server.address": "shop",
            "server.port": 80,
            "http.response.status_code": 404,
        },
    ),
    "an HTTP server, old names": (
        SERVER,
        "GET /{id}",
        {
            "http.method": "GET",
            "http.scheme": "http",
            "http.route": "/{id}",
            "http.status_code": 200,
            "http.flavor": "1.1",
            "http.target": "/secret",
            "net.peer.ip": "10.0.0.1",
        },
        {"http.server.request.duration"},
        {
            "http.request.method": "GET",
            "url.scheme": "http",
            "http.route": "/{id}",
            "http.response.status_code": 200,
            "network.protocol.version": "1.1",
        },
    ),
    "an RPC client, old names": (
        CLIENT,
        "/shop.Cart/Add",
        {
            "rpc.system": "grpc",
            "rpc.service": "shop.Cart",
            "rpc.method": "Add",
            "rpc.grpc.status_code": 0,
            "net.peer.name": "cart",
            "net.peer.port": "50051",
        },
        {"rpc.client.call.duration"},
        {
            "rpc.system.name": "grpc",
            "rpc.method": "shop.Cart/Add",
            "rpc.response.status_code": "OK",
            "server.address": "cart",
            "server.port": "50051",
        },
    ),
    "an RPC server, new names": (
        SERVER,
        "shop.Cart/Add",
        {
            "rpc.system.name": "grpc",
            "rpc.method": "shop.Cart/Add",
            "rpc.response.status_code": "NOT_FOUND",
            "client.address": "10.0.0.1",
        },
        {"rpc.server.call.duration"},
        {"rpc.system.name": "grpc", "rpc.method": "shop.Cart/Add", "rpc.response.status_code": "NOT_FOUND"},
    ),
    "a producer, new names": (
        PRODUCER,
        "send orders",
        {
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "publish",
            "messaging.destination.name": "orders",
            "messaging.destination.partition.id": "3",
            "messaging.message.id": "secret",
        },
        {OPERATION, SENT},
        {
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.system": "kafka",
            "messaging.destination.name": "orders",
            "messaging.destination.partition.id": "3",
        },
    ),
    "a producer, old names": (
        PRODUCER,
        "orders send",
        {"messaging.system": "rabbitmq", "messaging.destination": "orders", "messaging.temp_destination": True},
        {OPERATION, SENT},
        {
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.system": "rabbitmq",
            "messaging.destination.name": "orders",
        },
    ),
    "a consumer that receives, old names": (
        CONSUMER,
        "orders receive",
        {"messaging.system": "kafka", "messaging.destination": "orders", "messaging.kafka.partition": 1},
        {OPERATION, CONSUMED},
        {
            "messaging.operation.name": "receive",
            "messaging.operation.type": "receive",
            "messaging.system": "kafka",
            "messaging.destination.name": "orders",
            "messaging.destination.partition.id": "1",
        },
    ),
    "a consumer that processes, old names": (
        CONSUMER,
        "orders process",
        {"messaging.system": "kafka", "messaging.operation": "process", "messaging.destination": "orders"},
        {PROCESS},
        {
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "kafka",
            "messaging.destination.name": "orders",
        },
    ),
    "a task of celery": (
        CONSUMER,
        "run/tasks.add",
        {"celery.action": "run", "messaging.destination": "celery", "messaging.message.id": "secret"},
        {PROCESS},
        {
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "celery",
            "messaging.destination.name": "celery",
        },
    ),
    "anything else": (
        INTERNAL,
        "work",
        {"secret": "value"},
        {"traces.span.metrics.duration", "traces.span.metrics.calls"},
        {
            "service.name": "shop",
            "span.name": "work",
            "span.kind": "SPAN_KIND_INTERNAL",
            "status.code": "STATUS_CODE_UNSET",
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_span_is_measured_as_its_convention_says(opened: Opened, case: str) -> None:
    """Each span becomes one measurement of the metrics of its convention, with the new attribute names and nothing else."""
    kind, name, given, metrics, expected = CASES[case]
    with opened() as made:
        for _ in range(3):
            span = made.tracer().start_span(name, kind=kind, attributes=given, start_time=1_000 * MS)
            span.end(1_250 * MS)
        points = made.points()

        assert set(points) == metrics
        for metric, (point,) in points.items():
            assert dict(point.attributes) == expected
            if "duration" in metric:
                seconds = 250.0 if metric.startswith("traces.") else 0.25
                assert (point.count, point.sum) == (3, pytest.approx(3 * seconds))
            else:
                assert point.value == 3


BOUNDARIES = {
    DB: (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
    HTTP: (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
}


@pytest.mark.parametrize("metric", BOUNDARIES)
def test_histograms_have_the_boundaries_of_the_conventions(opened: Opened, metric: str) -> None:
    """The advised boundaries are those of the semantic conventions."""
    case = next(case for case in CASES.values() if metric in case[3])
    with opened() as made:
        made.tracer().start_span(case[1], kind=case[0], attributes=case[2]).end()

        assert made.points()[metric][0].explicit_bounds == BOUNDARIES[metric]


ERRORS: dict[str, tuple[dict[str, Any], Exception | None, str]] = {
    "the attribute": ({"error.type": "timeout"}, ValueError("secret"), "timeout"),
    "the status of HTTP": ({"http.method": "GET", "http.status_code": 503}, None, "503"),
    "the status of gRPC": ({"rpc.system": "grpc", "rpc.grpc.status_code": 14}, None, "UNAVAILABLE"),
    "the exception": ({"db.system": "redis"}, ValueError("secret"), "ValueError"),
    "nothing": ({"db.system": "redis"}, None, "_OTHER"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_span_that_failed_has_an_error_type(opened: Opened, case: str) -> None:
    """The error type is what the span says, the status of the protocol, the class of the exception, or the value for all others."""
    attributes, exception, expected = ERRORS[case]
    attributes = {"db.system": "redis", **attributes} if case == "the attribute" else attributes
    with opened() as made:
        span = made.tracer().start_span("x", kind=CLIENT, attributes=attributes)
        if exception is not None:
            span.record_exception(exception)
        span.set_status(StatusCode.ERROR)
        span.end()
        ((found,),) = made.attributes().values()

        assert found["error.type"] == expected


def test_a_batch_counts_all_of_its_messages(opened: Opened) -> None:
    """The number of messages is that of the batch."""
    with opened() as made:
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "receive",
            "messaging.destination.name": "orders",
            "messaging.batch.message_count": 17,
        }
        made.tracer().start_span("receive orders", kind=CONSUMER, attributes=attributes).end()

        assert made.points()[CONSUMED][0].value == 17


@pytest.mark.parametrize("metric", [DB, "traces.span.metrics.duration"])
def test_a_metric_that_the_instrumentation_records_is_not_recorded_again(opened: Opened, metric: str) -> None:
    """Decided by scope and name: the same spans of another scope are measured."""
    kind, name, attributes = next(case[:3] for case in CASES.values() if metric in case[3])
    with opened() as made:
        made.tracer("instrumented").start_span(name, kind=kind, attributes=attributes).end()
        assert made.points()[metric][0].count == 1
        made.meters.get_meter("instrumented").create_histogram(metric, "s")
        made.tracer("instrumented").start_span(name, kind=kind, attributes=attributes).end()
        made.tracer("another").start_span(name, kind=kind, attributes=attributes).end()

        assert made.points()[metric][0].count == 2


def test_a_clock_that_went_back_makes_no_negative_duration(opened: Opened) -> None:
    """A span that ended before it began took no time."""
    with opened() as made:
        made.tracer().start_span("x", start_time=2_000 * MS).end(1_000 * MS)
        (point,) = made.points()["traces.span.metrics.duration"]

        assert (point.count, point.sum, point.min) == (1, 0, 0)


class _Asked(Keys):
    """Keys that tell which were asked for."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(keys)
        self.asked: set[str] = set()

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def has(self, *keys: str) -> bool:
        self.asked |= set(keys)
        return super().has(*keys)

    def source(self, *keys: str) -> Source | None:
        self.asked |= set(keys)
        return super().source(*keys)

    def mapped(self, key: str, words: Any) -> Source | None:
        self.asked.add(key)
        return super().mapped(key, words)

    def verb(self, *keys: str) -> Source | None:
        self.asked |= set(keys)
        return super().verb(*keys)

    def computed(self, key: str, function: Any) -> Source | None:
        self.asked.add(key)
        return super().computed(key, function)

    def joined(self, first: str, second: str) -> Source | None:
        self.asked |= {first, second}
        return super().joined(first, second)


@pytest.mark.parametrize("scope", ["test", "opentelemetry.instrumentation.aiokafka"])
def test_all_attributes_that_are_asked_for_are_known(scope: str) -> None:
    """The processor looks at no others, so that one that is missing there would never be found."""
    asked = set()
    markers = ("db.system", "messaging.system", "rpc.system", "http.method")
    for marker, kind, status, switched in itertools.product(markers, range(1, 6), range(3), (None, ("send",))):
        keys = _Asked((marker,))
        recipe(scope, kind, status, keys, switched, "shop")
        asked |= keys.asked

    assert len(asked) > 40
    assert asked <= KEYS


def test_keys_that_programs_make_up_are_decided_once(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 spans whose keys all differ, but in none that matters, are one decision."""
    asked = []

    def decide(*arguments: Any) -> Any:
        asked.append(arguments)
        return recipe(*arguments)

    monkeypatch.setattr("otel_perf.trace._processor.recipe", decide)
    with opened() as made:
        for number in range(3_000):
            attributes = {f"key {number}": 1, "db.system": "redis", f"other {number}": 2}
            made.tracer().start_span("x", kind=CLIENT, attributes=attributes).end()

        assert made.points()[DB][0].count == 3_000
        # One more after the histogram was made, which might have been an instrumentation's.
        assert len(asked) <= 2
