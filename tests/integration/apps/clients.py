"""Talks to a server with one client library, with its instrumentation, and prints what came of the spans.

Started as ``python -m tests.integration.apps.clients <client> <address> <how>``; prints ``{"spans": [name and kind], "metrics": {scope: {metric:
[[attributes, count]]}}}``. Spans are not sampled, so that what is measured does not depend on it: they are ``recorded`` by the SDK, or ``dropped`` and measured
natively, which no other processor sees.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from contextlib import suppress
from typing import Any

from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import set_tracer_provider

from otel_perf import MeterProvider, RecordAllSampler, SpanMetricsProcessor, measure_all_spans

TIMES = 3
"""How often each client does what it does."""


def asyncpg(address: str) -> None:
    """Selects, and fails once."""
    import asyncpg as library

    async def main() -> None:
        connection = await library.connect(f"postgresql://postgres@{address}/postgres")
        for _ in range(TIMES):
            await connection.fetch("SELECT 1")
        with suppress(library.PostgresError):
            await connection.fetch("SELECT nothing FROM nowhere")
        await connection.close()

    asyncio.run(main())


def psycopg(address: str) -> None:
    """Selects, and fails once."""
    import psycopg as library

    with library.connect(f"postgresql://postgres@{address}/postgres", autocommit=True) as connection:
        for _ in range(TIMES):
            connection.execute("SELECT 1").fetchall()
        with suppress(library.Error):
            connection.execute("SELECT nothing FROM nowhere")


def redis(address: str) -> None:
    """Sets, and fails once."""
    import redis as library

    host, port = address.split(":")
    with library.Redis(host, int(port)) as client:
        for number in range(TIMES):
            client.set("key", number)
        with suppress(library.RedisError):
            client.lpush("key", 1)


def pymongo(address: str) -> None:
    """Inserts, and fails once."""
    from pymongo import MongoClient
    from pymongo.errors import OperationFailure

    host, port = address.split(":")
    client: Any = MongoClient(host, int(port))
    for number in range(TIMES):
        client.shop.items.insert_one({"number": number})
    with suppress(OperationFailure):
        client.shop.command("nonsense")
    client.close()


def pymemcache(address: str) -> None:
    """Sets, and fails once."""
    from pymemcache.client.base import Client
    from pymemcache.exceptions import MemcacheClientError

    host, port = address.split(":")
    client = Client((host, int(port)))
    for _ in range(TIMES):
        client.set("key", "value")
    with suppress(MemcacheClientError):
        client.incr("key", 1)
    client.close()


def cassandra(address: str) -> None:
    """Selects, and fails once."""
    from cassandra.cluster import Cluster

    host, port = address.split(":")
    cluster = Cluster([host], port=int(port), protocol_version=4)
    session = cluster.connect()
    for _ in range(TIMES):
        list(session.execute("SELECT value FROM items"))
    with suppress(Exception):
        session.execute("FAIL")
    cluster.shutdown()


def _mock_cluster() -> tuple[Any, str]:
    """A producer with a cluster of librdkafka's own, which speaks Kafka's protocol, and its address."""
    from confluent_kafka import Producer

    producer = Producer({"test.mock.num.brokers": "1", "log_level": 0})
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    return producer, f"{broker.host}:{broker.port}"


def kafka(address: str) -> None:
    """Sends and receives."""
    del address
    cluster, broker = _mock_cluster()
    from kafka import KafkaConsumer, KafkaProducer

    version = (0, 11)
    producer = KafkaProducer(bootstrap_servers=[broker], api_version=version)
    for _ in range(TIMES):
        producer.send("orders", b"1").get(10)
    # One that waits without an end has once waited for ever for a partition that it did not know yet.
    consumer = KafkaConsumer(
        "orders",
        bootstrap_servers=[broker],
        auto_offset_reset="earliest",
        group_id=None,
        api_version=version,
        metadata_max_age_ms=500,
        consumer_timeout_ms=1_000,
    )
    got = 0
    while got < TIMES:
        with suppress(StopIteration):
            next(consumer)
            got += 1
    consumer.close()
    producer.close()
    del cluster


def aiokafka(address: str) -> None:
    """Sends and receives."""
    del address
    cluster, broker = _mock_cluster()
    import aiokafka as library

    async def main() -> None:
        producer = library.AIOKafkaProducer(bootstrap_servers=broker)
        await producer.start()
        for _ in range(TIMES):
            await producer.send_and_wait("orders", b"1")
        await producer.stop()
        consumer = library.AIOKafkaConsumer("orders", bootstrap_servers=broker, auto_offset_reset="earliest")
        await consumer.start()
        for _ in range(TIMES):
            await consumer.getone()
        await consumer.stop()

    asyncio.run(main())
    del cluster


def confluent_kafka(address: str) -> None:
    """Sends and receives."""
    del address
    cluster, broker = _mock_cluster()
    from confluent_kafka import Consumer, Producer

    producer = Producer({"bootstrap.servers": broker})
    for _ in range(TIMES):
        producer.produce("orders", b"1")
    producer.flush(10)
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "group", "auto.offset.reset": "earliest"})
    consumer.subscribe(["orders"])
    got = 0
    while got < TIMES:
        got += consumer.poll(10) is not None
    consumer.close()
    del cluster


def pika(address: str) -> None:
    """Publishes and consumes."""
    import pika as library

    host, port = address.split(":")
    connection = library.BlockingConnection(library.ConnectionParameters(host, int(port)))
    channel = connection.channel()
    channel.queue_declare("orders")
    got = []

    def take(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        del properties
        got.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(got) == TIMES:
            channel.stop_consuming()

    channel.basic_consume("orders", take)
    for _ in range(TIMES):
        channel.basic_publish("", "orders", b"1")
    channel.start_consuming()
    connection.close()


def aio_pika(address: str) -> None:
    """Publishes and consumes."""
    import aio_pika as library

    async def main() -> None:
        connection = await library.connect(f"amqp://guest:guest@{address}/")
        channel = await connection.channel()
        queue = await channel.declare_queue("orders")
        for _ in range(TIMES):
            await channel.default_exchange.publish(library.Message(b"1"), "orders")
        got = asyncio.Queue[Any]()

        async def take(message: Any) -> None:
            async with message.process():
                await got.put(message)

        await queue.consume(take)
        for _ in range(TIMES):
            await asyncio.wait_for(got.get(), 10)
        await connection.close()

    asyncio.run(main())


def grpc(address: str) -> None:
    """Calls a server of this process, and fails once."""
    del address
    from concurrent.futures import ThreadPoolExecutor

    import grpc as library

    def add(request: bytes, context: Any) -> bytes:
        if request == b"bad":
            context.abort(library.StatusCode.NOT_FOUND, "no such cart")
        return request

    handler = library.method_handlers_generic_handler("shop.Cart", {"Add": library.unary_unary_rpc_method_handler(add)})
    server = library.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with library.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/shop.Cart/Add")
        for _ in range(TIMES):
            call(b"1")
        with suppress(library.RpcError):
            call(b"bad")
    server.stop(None).wait()


def boto3sqs(address: str) -> None:
    """Sends, receives and processes."""
    del address
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "sqs",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    queue = client.create_queue(QueueName="orders")["QueueUrl"]
    for _ in range(TIMES):
        client.send_message(QueueUrl=queue, MessageBody="1")
    got = 0
    while got < TIMES:
        for message in client.receive_message(QueueUrl=queue, MaxNumberOfMessages=1).get("Messages", []):
            got += 1
            client.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    server.stop()


def celery(address: str) -> None:
    """Sends tasks to a worker in a thread of this process, one of which fails."""
    del address
    from celery import Celery
    from celery.contrib.testing.worker import start_worker

    app = Celery("tasks", broker="memory://", backend="cache+memory://")

    @app.task(name="add")  # type: ignore[untyped-decorator]
    def add(number: int) -> int:
        return 10 // number

    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="CRITICAL"):
        for _ in range(TIMES):
            assert add.delay(1).get(timeout=20) == 10
        with suppress(ZeroDivisionError):
            add.delay(0).get(timeout=20)


def requests(address: str) -> None:
    """Gets what is there, and what is not."""
    import requests as library

    for _ in range(TIMES):
        library.get(f"http://{address}/", timeout=10)
    library.get(f"http://{address}/gone", timeout=10)


def httpx(address: str) -> None:
    """Gets what is there, and what is not."""
    import httpx as library

    with library.Client() as client:
        for _ in range(TIMES):
            client.get(f"http://{address}/")
        client.get(f"http://{address}/gone")


INSTRUMENTORS = {
    "asyncpg": ("asyncpg", ["AsyncPGInstrumentor"]),
    "psycopg": ("psycopg", ["PsycopgInstrumentor"]),
    "redis": ("redis", ["RedisInstrumentor"]),
    "pymongo": ("pymongo", ["PymongoInstrumentor"]),
    "pymemcache": ("pymemcache", ["PymemcacheInstrumentor"]),
    "cassandra": ("cassandra", ["CassandraInstrumentor"]),
    "kafka": ("kafka", ["KafkaInstrumentor"]),
    "aiokafka": ("aiokafka", ["AIOKafkaInstrumentor"]),
    "confluent_kafka": ("confluent_kafka", ["ConfluentKafkaInstrumentor"]),
    "pika": ("pika", ["PikaInstrumentor"]),
    "aio_pika": ("aio_pika", ["AioPikaInstrumentor"]),
    "grpc": ("grpc", ["GrpcInstrumentorClient", "GrpcInstrumentorServer"]),
    "boto3sqs": ("boto3sqs", ["Boto3SQSInstrumentor"]),
    "celery": ("celery", ["CeleryInstrumentor"]),
    "requests": ("requests", ["RequestsInstrumentor"]),
    "httpx": ("httpx", ["HTTPXClientInstrumentor"]),
}


class _Names(SpanProcessor):
    """Keeps name and kind of all spans."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.all.append((span.name, span.kind.name))


def main(client: str, address: str, how: str) -> None:
    """Instruments the client, has it act, and prints what was measured."""
    reader, names = InMemoryMetricReader(), _Names()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    if how == "dropped":
        tracers = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
        measure_all_spans(tracers, SpanMetricsProcessor(meters))
    else:
        tracers = TracerProvider(RecordAllSampler(ALWAYS_OFF), shutdown_on_exit=False)
        tracers.add_span_processor(SpanMetricsProcessor(meters))
    tracers.add_span_processor(names)
    set_tracer_provider(tracers)
    # Some instrumentations take the global one, whatever they are given.
    set_meter_provider(meters)
    module, instrumentors = INSTRUMENTORS[client]
    found = importlib.import_module(f"opentelemetry.instrumentation.{module}")
    for name in instrumentors:
        getattr(found, name)().instrument(tracer_provider=tracers, meter_provider=meters)
    globals()[client](address)
    data = reader.get_metrics_data()
    metrics: dict[str, dict[str, list[Any]]] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points = [
                    [dict(point.attributes or {}), getattr(point, "count", None) or getattr(point, "value", 0)]
                    for point in metric.data.data_points
                ]
                metrics.setdefault(scope.scope.name, {})[metric.name] = points
    print(json.dumps({"spans": names.all, "metrics": metrics}), flush=True)
    # Some libraries leave threads behind that do not end.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
