"""Responsible for the load: a bounded number of keep-alive clients that together send a steady mix of requests."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from examples.shop.connection import Connection, RequestError
from examples.shop.database import PRODUCT_COUNT
from examples.shop.tally import RouteKey, Tally

CLIENTS = 12
"""Requests that can be under way at once."""

REQUESTS_PER_S = 120.0
"""The rate that all clients aim at together; they send less where the shop answers more slowly than that."""

_UNKNOWN_PRODUCT_SHARE = 0.03
_LAST_REQUEST_SHARE = 0.01


@dataclass(frozen=True)
class _Visit:
    key: RouteKey
    weight: int


_PRODUCT = RouteKey("/products/{product_id}", "GET")
_PRICE = RouteKey("/products/{product_id}/price", "GET")
_ORDERS = RouteKey("/orders", "POST")
_CHECKOUT = RouteKey("/checkout", "POST")

_MIX = (
    _Visit(RouteKey("/products", "GET"), 25),
    _Visit(_PRODUCT, 40),
    _Visit(_PRICE, 12),
    _Visit(_ORDERS, 12),
    _Visit(_CHECKOUT, 7),
    _Visit(RouteKey("/chat", "GET"), 3),
    _Visit(RouteKey("/report", "GET"), 1),
)
_KEYS = [visit.key for visit in _MIX]
_WEIGHTS = [visit.weight for visit in _MIX]


async def generate(host: str, port: int, tally: Tally, stop: asyncio.Event) -> None:
    """Sends requests until told to stop, then returns once every request under way has ended.

    Args:
        host: Address of the shop.
        port: Port of the shop.
        tally: Told of every request.
        stop: Ends the sending.
    """
    await asyncio.gather(*(_visitor(Connection(host, port), tally, stop) for _ in range(CLIENTS)))


async def _visitor(connection: Connection, tally: Tally, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    try:
        while True:
            # A client that has fallen behind starts afresh from now: making up for lost time would be a burst.
            due = max(due + random.expovariate(REQUESTS_PER_S / CLIENTS), loop.time())
            await asyncio.sleep(due - loop.time())
            if stop.is_set():
                return
            await _visit(connection, tally, random.choices(_KEYS, _WEIGHTS)[0])
    finally:
        connection.close()


async def _visit(connection: Connection, tally: Tally, key: RouteKey) -> None:
    path, body = _request(key)
    # Now and then a connection is given up, as browsers do; otherwise the worker that came up first would keep all.
    last = random.random() < _LAST_REQUEST_SHARE
    tally.send(key)
    try:
        await connection.request(key.method, path, body, last=last)
    except RequestError as error:
        tally.fail(key, str(error))
    except asyncio.CancelledError:
        tally.fail(key, "given up at the end")
        raise
    else:
        tally.answer(key)


def _request(key: RouteKey) -> tuple[str, dict[str, int] | None]:
    if key in (_PRODUCT, _PRICE):
        unknown = key == _PRODUCT and random.random() < _UNKNOWN_PRODUCT_SHARE
        product = PRODUCT_COUNT + 1 if unknown else random.randint(1, PRODUCT_COUNT)
        return key.route.format(product_id=product), None
    if key == _ORDERS:
        body = {
            "product_id": random.randint(1, PRODUCT_COUNT),
            "customer_id": random.randint(1, 400),
            "quantity": random.randint(1, 4),
        }
        return key.route, body
    if key == _CHECKOUT:
        return key.route, {"order_id": random.randint(1, 8_000)}
    return key.route, None
