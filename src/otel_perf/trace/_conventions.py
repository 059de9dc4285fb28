"""What a span is measured as: the metrics of the semantic conventions, and where their attributes come from.

Semantic conventions 1.44: ``http``, ``database``, ``rpc`` and ``messaging`` metrics. Instrumentations emit the attributes of two generations, those before
and those after ``OTEL_SEMCONV_STABILITY_OPT_IN``; both are read, and only the new names leave. A span that no convention is for becomes what the
Collector's span metrics connector would make of it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CALLS", "DURATION", "KEYS", "Keys", "Metric", "Recipe", "Source", "error_type", "recipe"]

Source = tuple[Any, ...]
"""Where a value comes from, as the native recorder takes it: its name and arguments."""

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(1, 6)
"""Kinds of spans as OTLP numbers them."""
ERROR = 2
"""The status of an error as OTLP numbers it."""
KINDS = (
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
)
STATUSES = ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_DATABASE_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
# Those of the connector.
_MILLISECONDS = (2.0, 4.0, 6.0, 8.0, 10.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1e3, 1.4e3, 2e3, 5e3, 1e4, 1.5e4)


class Metric(NamedTuple):
    """An instrument: name, unit, description, and the advised boundaries of a histogram."""

    name: str
    unit: str
    description: str
    boundaries: tuple[float, ...] = ()


class Recipe(NamedTuple):
    """What a span is measured as.

    Attributes:
        metric: A histogram that its duration goes into.
        counter: A counter, or None.
        amount: What the counter is raised by, None for 1.
        attributes: Key and source of each attribute.
    """

    metric: Metric
    attributes: tuple[tuple[str, Source], ...]
    counter: Metric | None = None
    amount: Source | None = None


HTTP = {
    SERVER: Metric("http.server.request.duration", "s", "Duration of HTTP server requests.", _SECONDS),
    CLIENT: Metric("http.client.request.duration", "s", "Duration of HTTP client requests.", _SECONDS),
}
RPC = {
    SERVER: Metric("rpc.server.call.duration", "s", "Measures the duration of an incoming RPC.", _SECONDS),
    CLIENT: Metric("rpc.client.call.duration", "s", "Measures the duration of an outgoing RPC.", _SECONDS),
}
DATABASE = Metric("db.client.operation.duration", "s", "Duration of database client operations.", _DATABASE_SECONDS)
OPERATION = Metric(
    "messaging.client.operation.duration",
    "s",
    "Duration of messaging operation initiated by a producer or consumer client.",
    _SECONDS,
)
PROCESS = Metric("messaging.process.duration", "s", "Duration of processing operation.", _SECONDS)
SENT = Metric("messaging.client.sent.messages", "{message}", "Number of messages producer attempted to send.")
CONSUMED = Metric(
    "messaging.client.consumed.messages", "{message}", "Number of messages that were delivered to the application."
)
DURATION = Metric("traces.span.metrics.duration", "ms", "Duration of spans that no convention is for.", _MILLISECONDS)
CALLS = Metric("traces.span.metrics.calls", "{call}", "Number of spans that no convention is for.")

# What semantic conventions 1.31 renamed.
_DATABASES = {
    "adabas": "softwareag.adabas",
    "cache": "intersystems.cache",
    "cosmosdb": "azure.cosmosdb",
    "db2": "ibm.db2",
    "dynamodb": "aws.dynamodb",
    "firebird": "firebirdsql",
    "h2": "h2database",
    "hanadb": "sap.hana",
    "informix": "ibm.informix",
    "ingres": "actian.ingres",
    "maxdb": "sap.maxdb",
    "mssql": "microsoft.sql_server",
    "oracle": "oracle.db",
    "redshift": "aws.redshift",
    "spanner": "gcp.spanner",
}
_RPC_SYSTEMS = {"apache_dubbo": "dubbo", "connect_rpc": "connectrpc"}
_GRPC_STATUSES = dict(
    enumerate(
        (
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        )
    )
)
# Types of messaging operations by the words that attributes and span names have for them.
_OPERATIONS = {
    "create": "create",
    "publish": "send",
    "send": "send",
    "receive": "receive",
    "recv": "receive",
    "poll": "receive",
    "process": "process",
    "settle": "settle",
    "ack": "settle",
}


# Instrumentations whose spans tell of a message only when it is processed.
_PUSHED = ("opentelemetry.instrumentation.celery", "opentelemetry.instrumentation.confluent_kafka")
# It writes the list of its brokers as JSON.
_AIOKAFKA = "opentelemetry.instrumentation.aiokafka"


KEYS = frozenset(
    {
        "celery.action",
        "db.cassandra.keyspace",
        "db.cassandra.table",
        "db.collection.name",
        "db.mongodb.collection",
        "db.name",
        "db.namespace",
        "db.operation",
        "db.operation.name",
        "db.query.summary",
        "db.query.text",
        "db.redis.database_index",
        "db.response.status_code",
        "db.sql.table",
        "db.statement",
        "db.stored_procedure.name",
        "db.system",
        "db.system.name",
        "error.type",
        "http.flavor",
        "http.method",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "http.scheme",
        "http.status_code",
        "http.url",
        "messaging.batch.message_count",
        "messaging.consumer.group.name",
        "messaging.destination",
        "messaging.destination.name",
        "messaging.destination.partition.id",
        "messaging.destination.template",
        "messaging.kafka.consumer.group",
        "messaging.kafka.partition",
        "messaging.operation",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.system",
        "net.peer.ip",
        "net.peer.name",
        "net.peer.port",
        "network.protocol.name",
        "network.protocol.version",
        "rpc.grpc.status_code",
        "rpc.method",
        "rpc.response.status_code",
        "rpc.service",
        "rpc.system",
        "rpc.system.name",
        "server.address",
        "server.port",
        "url.full",
        "url.scheme",
    }
)
"""Keys of the attributes that are looked at; spans that differ in others are measured alike."""


class Keys:
    """The attribute keys of a span, by position.

    Args:
        keys: The keys in their order.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._at = {key: position for position, key in enumerate(keys)}

    def __contains__(self, key: object) -> bool:
        return key in self._at

    def has(self, *keys: str) -> bool:
        """Whether the span has one of these attributes."""
        return any(key in self._at for key in keys)

    def source(self, *keys: str) -> Source | None:
        """The first of these attributes that the span has."""
        return next((("attribute", self._at[key]) for key in keys if key in self._at), None)

    def mapped(self, key: str, words: Mapping[Any, str]) -> Source | None:
        """An attribute, in other words."""
        return ("mapped", self._at[key], dict(words)) if key in self._at else None

    def verb(self, *keys: str) -> Source | None:
        """The first word of an attribute that is text."""
        return next((("verb", self._at[key]) for key in keys if key in self._at), None)

    def computed(self, key: str, function: Callable[[Any], object]) -> Source | None:
        """What a function makes of an attribute."""
        return ("computed", self._at[key], function) if key in self._at else None

    def joined(self, first: str, second: str) -> Source | None:
        """Two attributes with a slash between them."""
        both = first in self._at and second in self._at
        return ("joined", self._at[first], self._at[second]) if both else None


def recipe(
    scope: str, kind: int, status: int, keys: Keys, switched: tuple[object] | None, service: str
) -> Recipe | Source:
    """Decides what a span is measured as.

    Args:
        scope: Name of its instrumentation scope.
        kind: Its kind.
        status: Its status.
        keys: Its attributes.
        switched: The value that decides, if an earlier call answered where it comes from.
        service: Name of the service.

    Returns:
        What it is measured as, or the source of a value that this depends on.
    """
    is_error = status == ERROR
    if kind in (CLIENT, INTERNAL) and keys.has("db.system.name", "db.system"):
        return Recipe(DATABASE, _present(_database(keys, is_error=is_error)))
    if kind in (PRODUCER, CONSUMER) and keys.has("messaging.system", "celery.action"):
        operation = _operation(keys)
        if operation is not None and switched is None:
            return operation
        stated = None if switched is None else switched[0]
        return _messaging(scope, keys, kind, stated, is_error=is_error)
    if kind in RPC and keys.has("rpc.system.name", "rpc.system"):
        return Recipe(RPC[kind], _present(_rpc(keys, kind, is_error=is_error)))
    if kind in HTTP and keys.has("http.request.method", "http.method"):
        return Recipe(HTTP[kind], _present(_http(keys, kind, is_error=is_error)))
    return Recipe(
        DURATION,
        (
            ("service.name", ("constant", service)),
            ("span.name", ("name",)),
            ("span.kind", ("constant", KINDS[kind])),
            ("status.code", ("constant", STATUSES[status])),
        ),
        CALLS,
    )


def _present(attributes: dict[str, Source | None]) -> tuple[tuple[str, Source], ...]:
    return tuple((key, source) for key, source in attributes.items() if source is not None)


def _error(keys: Keys, *, is_error: bool) -> Source | None:
    return ("error",) if is_error else keys.source("error.type")


def _server(keys: Keys) -> dict[str, Source | None]:
    return {
        "server.address": keys.source("server.address", "net.peer.name", "net.peer.ip"),
        "server.port": keys.source("server.port", "net.peer.port"),
    }


def _database(keys: Keys, *, is_error: bool) -> dict[str, Source | None]:
    return {
        "db.system.name": keys.source("db.system.name") or keys.mapped("db.system", _DATABASES),
        "db.namespace": keys.source("db.namespace", "db.name", "db.cassandra.keyspace")
        or keys.computed("db.redis.database_index", str),
        "db.collection.name": keys.source(
            "db.collection.name", "db.mongodb.collection", "db.sql.table", "db.cassandra.table"
        ),
        "db.operation.name": keys.source("db.operation.name", "db.operation")
        or keys.verb("db.query.text", "db.statement"),
        "db.query.summary": keys.source("db.query.summary"),
        "db.stored_procedure.name": keys.source("db.stored_procedure.name"),
        "db.response.status_code": keys.source("db.response.status_code"),
        "error.type": _error(keys, is_error=is_error),
        **_server(keys),
    }


def _rpc(keys: Keys, kind: int, *, is_error: bool) -> dict[str, Source | None]:
    return {
        "rpc.system.name": keys.source("rpc.system.name") or keys.mapped("rpc.system", _RPC_SYSTEMS),
        "rpc.method": keys.joined("rpc.service", "rpc.method") or keys.source("rpc.method"),
        "rpc.response.status_code": keys.source("rpc.response.status_code")
        or keys.mapped("rpc.grpc.status_code", _GRPC_STATUSES),
        "error.type": _error(keys, is_error=is_error),
        # Of a server these are the client's.
        **(_server(keys) if kind == CLIENT else {}),
    }


def _http(keys: Keys, kind: int, *, is_error: bool) -> dict[str, Source | None]:
    attributes = {
        "http.request.method": keys.source("http.request.method", "http.method"),
        "url.scheme": keys.source("url.scheme", "http.scheme"),
        "http.route": keys.source("http.route"),
        "http.response.status_code": keys.source("http.response.status_code", "http.status_code"),
        "error.type": _error(keys, is_error=is_error),
        "network.protocol.name": keys.source("network.protocol.name"),
        "network.protocol.version": keys.source("network.protocol.version", "http.flavor"),
    }
    if kind == SERVER:
        return attributes
    del attributes["url.scheme"], attributes["http.route"]
    url = "url.full" if "url.full" in keys else "http.url"
    found = _server(keys)
    found["server.address"] = found["server.address"] or keys.computed(url, _host)
    found["server.port"] = found["server.port"] or keys.computed(url, _port)
    return {**attributes, **found}


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


def _port(url: str) -> int | None:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme)


@lru_cache(maxsize=64)
def _first_address(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return str(found[0] if isinstance(found, list) and found else found)


def _operation(keys: Keys) -> Source | None:
    """Where it is said what a messaging client did."""
    stated = keys.source("messaging.operation.type", "messaging.operation", "messaging.operation.name", "celery.action")
    return stated or ("name",)


def _messaging(scope: str, keys: Keys, kind: int, stated: object, *, is_error: bool) -> Recipe:
    words = str(stated or "").lower().split()
    # Span names are "<destination> <operation>", or the other way round.
    known = next((_OPERATIONS[word] for word in (*words[-1:], *words[:1]) if word in _OPERATIONS), None)
    operation = known or ("send" if kind == PRODUCER else "process")
    server = _server(keys)
    if scope == _AIOKAFKA:
        server["server.address"] = keys.computed("server.address", _first_address)
    attributes = _present(
        {
            "messaging.operation.name": keys.source("messaging.operation.name") or ("constant", operation),
            "messaging.operation.type": ("constant", operation),
            "messaging.system": keys.source("messaging.system") or ("constant", "celery"),
            "messaging.destination.name": keys.source("messaging.destination.name", "messaging.destination"),
            "messaging.destination.template": keys.source("messaging.destination.template"),
            "messaging.destination.partition.id": keys.source("messaging.destination.partition.id")
            or keys.computed("messaging.kafka.partition", str),
            "messaging.consumer.group.name": keys.source(
                "messaging.consumer.group.name", "messaging.kafka.consumer.group"
            ),
            "error.type": _error(keys, is_error=is_error),
            **server,
        }
    )
    counter = None
    if operation == "send":
        counter = SENT
    elif operation == "receive" or scope in _PUSHED:
        counter = CONSUMED
    if not keys.has("messaging.destination.name", "messaging.destination"):
        # A poll of several topics has a span for all of them, and one for each.
        counter = None
    metric = PROCESS if operation == "process" else OPERATION
    return Recipe(metric, attributes, counter, keys.source("messaging.batch.message_count"))


def error_type(span: Any) -> str:
    """What went wrong in a span whose status is an error.

    Args:
        span: The span that ended.

    Returns:
        The attribute ``error.type``, the status code of the protocol, the type of the exception, or ``_OTHER``, whichever is there first.
    """
    attributes = span.attributes or {}
    stated = attributes.get("error.type")
    if stated:
        return str(stated)
    for key in ("http.response.status_code", "http.status_code"):
        code = attributes.get(key)
        if isinstance(code, int) and code >= 400:  # noqa: PLR2004 - from there on they are errors.
            return str(code)
    code = attributes.get("rpc.grpc.status_code")
    if isinstance(code, int) and code > 0:
        return _GRPC_STATUSES.get(code, str(code))
    for event in reversed(span.events):
        if event.name == "exception":
            name = (event.attributes or {}).get("exception.type")
            if name:
                return str(name)
    return "_OTHER"
