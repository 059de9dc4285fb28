"""Responsible for the shop's routes: an ordinary FastAPI application without a line of telemetry in it.

Environment:
    SHOP_DB: Path of the SQLite file; created and filled at start-up where it is missing.
    SUPPLIER_URL: Base address of the supplier, for example http://127.0.0.1:8001.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import httpx
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from examples.shop import database

_SUPPLIER_TIMEOUT_S = 2.0
_TOKEN_DELAY_S = (0.005, 0.02)
_PAYMENT_DELAY_S = (0.004, 0.012)
_SLOW_PAYMENT_DELAY_S = (0.3, 0.7)
_SLOW_PAYMENT_SHARE = 0.03
_REFUSED_PAYMENT_SHARE = 0.04

_ANSWER = "The blue lamp is in stock and would reach you on Thursday ; shall I put one aside for you ?"


class Product(BaseModel):
    """A product; the price is in cents."""

    id: int
    name: str
    price_cents: int


class SupplierPrice(BaseModel):
    """What the supplier asks for a product at this moment, in cents."""

    product_id: int
    price_cents: int


class Order(BaseModel):
    """An order as the customer sends it."""

    product_id: int
    customer_id: int = Field(ge=1)
    quantity: int = Field(ge=1, le=100)


class OrderReceipt(BaseModel):
    """The number under which an order was stored."""

    order_id: int


class Checkout(BaseModel):
    """The order a customer wants to pay."""

    order_id: int = Field(ge=1)


class Payment(BaseModel):
    """What became of a payment."""

    order_id: int
    state: str


class Pair(BaseModel):
    """Two products bought by the same customers; the revenue is in cents."""

    first: str
    second: str
    together: int
    revenue_cents: int


def _setting(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"{name} is not set; the shop needs it (see examples/shop/README.md)")
    return value


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # This runs once in every worker, after the fork: neither the file's creation nor the client is shared by accident.
    path = Path(_setting("SHOP_DB"))
    database.create(path)
    async with httpx.AsyncClient(base_url=_setting("SUPPLIER_URL"), timeout=_SUPPLIER_TIMEOUT_S) as supplier:
        app.state.database = path
        app.state.supplier = supplier
        yield


app = FastAPI(title="shop", lifespan=_lifespan)


def _database(request: Request) -> Path:
    return cast(Path, request.app.state.database)


def _unknown_product(product_id: int) -> HTTPException:
    return HTTPException(404, f"no product has the number {product_id}")


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers as soon as the shop serves; the driver keeps this route out of the telemetry."""
    return {"state": "serving"}


@app.get("/products")
def list_products(request: Request) -> list[Product]:
    """Lists all products."""
    return [Product(**row._asdict()) for row in database.list_products(_database(request))]


@app.get("/products/{product_id}")
def get_product(product_id: int, request: Request) -> Product:
    """Returns one product, or 404."""
    row = database.find_product(_database(request), product_id)
    if row is None:
        raise _unknown_product(product_id)
    return Product(**row._asdict())


@app.get("/products/{product_id}/price")
async def get_price(product_id: int, request: Request) -> SupplierPrice:
    """Asks the supplier for the price of the moment; 502 where it does not answer."""
    supplier = cast(httpx.AsyncClient, request.app.state.supplier)
    try:
        response = await supplier.get(f"/prices/{product_id}")
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise HTTPException(502, f"the supplier did not answer: {type(error).__name__}") from error
    return SupplierPrice.model_validate_json(response.content)


@app.post("/orders", status_code=201)
def create_order(order: Order, request: Request) -> OrderReceipt:
    """Stores an order, or answers 404 where the product is unknown."""
    path = _database(request)
    if database.find_product(path, order.product_id) is None:
        raise _unknown_product(order.product_id)
    return OrderReceipt(order_id=database.place_order(path, order.product_id, order.customer_id, order.quantity))


@app.post("/checkout")
async def checkout(order: Checkout) -> Payment:
    """Plays a payment provider: some payments fail with 500 and some take long."""
    await asyncio.sleep(random.uniform(*_PAYMENT_DELAY_S))
    if random.random() < _REFUSED_PAYMENT_SHARE:
        raise HTTPException(500, "the payment provider failed")
    if random.random() < _SLOW_PAYMENT_SHARE:
        await asyncio.sleep(random.uniform(*_SLOW_PAYMENT_DELAY_S))
    return Payment(order_id=order.order_id, state="paid")


@app.get("/chat")
async def chat() -> StreamingResponse:
    """Streams an answer token by token; the request lasts until the last token has left."""

    async def tokens() -> AsyncIterator[str]:
        for token in _ANSWER.split():
            await asyncio.sleep(random.uniform(*_TOKEN_DELAY_S))
            yield f"{token} "

    return StreamingResponse(tokens(), media_type="text/plain")


@app.get("/report")
def report(request: Request) -> list[Pair]:
    """Returns the products most often bought together: the slow query of the shop."""
    return [Pair(**row._asdict()) for row in database.bought_together(_database(request))]
