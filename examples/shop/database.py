"""Responsible for the shop's SQLite file: its creation by whichever worker comes first, and every query on it."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PRODUCT_COUNT = 40
"""Products are numbered from 1 to this."""

_SEED_ORDERS = 8_000
_CUSTOMERS = 400
_REPORT_ORDERS = 6_000
_BUSY_TIMEOUT_S = 5.0

_SCHEMA = """
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    product_id INTEGER NOT NULL REFERENCES products (id),
    customer_id INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    created_at REAL NOT NULL
);
"""

# Only the newest orders are looked at: the report must not get slower as the load generator adds orders.
_REPORT = """
WITH recent AS (SELECT customer_id, product_id, quantity FROM orders ORDER BY id DESC LIMIT ?)
SELECT p.name, q.name, count(*) AS together, sum(a.quantity * p.price_cents + b.quantity * q.price_cents)
FROM recent a
JOIN recent b ON a.customer_id = b.customer_id AND a.product_id < b.product_id
JOIN products p ON p.id = a.product_id
JOIN products q ON q.id = b.product_id
GROUP BY a.product_id, b.product_id
ORDER BY together DESC, a.product_id, b.product_id
LIMIT 10
"""

_ADJECTIVES = ("Blue", "Quiet", "Folding", "Round", "Light", "Tall", "Woven", "Plain")
_NOUNS = ("Lamp", "Chair", "Kettle", "Basket", "Desk")


class ProductRow(NamedTuple):
    """One product as it is stored; the price is in cents."""

    id: int
    name: str
    price_cents: int


class PairRow(NamedTuple):
    """Two products bought by the same customers; the revenue is in cents."""

    first: str
    second: str
    together: int
    revenue_cents: int


def create(path: Path) -> None:
    """Creates and fills the database unless another worker has done so.

    Several workers call this at the same moment. Each fills a draft of its own and the first to link it under the
    final name wins, so that nobody ever opens a half-filled file.

    Args:
        path: Where the database file belongs; its directory exists.

    Raises:
        OSError: The directory cannot be written.
        sqlite3.Error: The draft cannot be filled.
    """
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.draft-{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        _fill(draft)
        os.link(draft, path)
    except FileExistsError:
        pass  # Another worker was first, and its file has the same content.
    finally:
        draft.unlink(missing_ok=True)


def _fill(path: Path) -> None:
    products = [
        (number + 1, f"{_ADJECTIVES[number % 8]} {_NOUNS[number // 8]}", 900 + 175 * number)
        for number in range(PRODUCT_COUNT)
    ]
    now = time.time()
    generator = random.Random(_SEED_ORDERS)  # Seeded, so that every shop starts with the same orders.
    orders = [
        (generator.randint(1, PRODUCT_COUNT), generator.randint(1, _CUSTOMERS), generator.randint(1, 4), now - age)
        for age in range(_SEED_ORDERS, 0, -1)
    ]
    with _connection(path) as connection:
        # The journal mode is stored in the file. Setting it here, before the file has its final name, spares the
        # workers a switch that fails when two of them try it at once.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
        with connection:
            connection.executemany("INSERT INTO products VALUES (?, ?, ?)", products)
            connection.executemany(
                "INSERT INTO orders (product_id, customer_id, quantity, created_at) VALUES (?, ?, ?, ?)", orders
            )


@contextmanager
def _connection(path: Path) -> Iterator[sqlite3.Connection]:
    # A connection for each call keeps the requests of the thread pool independent, at the price of 0.1 to 0.3 ms.
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        yield connection
    finally:
        connection.close()


def list_products(path: Path) -> list[ProductRow]:
    """Returns every product, in the order of their numbers."""
    with _connection(path) as connection:
        return [
            ProductRow(*row) for row in connection.execute("SELECT id, name, price_cents FROM products ORDER BY id")
        ]


def find_product(path: Path, product_id: int) -> ProductRow | None:
    """Returns one product, or None where no product has that number."""
    with _connection(path) as connection:
        row = connection.execute("SELECT id, name, price_cents FROM products WHERE id = ?", (product_id,)).fetchone()
    return None if row is None else ProductRow(*row)


def place_order(path: Path, product_id: int, customer_id: int, quantity: int) -> int:
    """Stores one order and returns its number.

    Raises:
        sqlite3.OperationalError: The write lock was not free for 5 s.
    """
    with _connection(path) as connection, connection:
        cursor = connection.execute(
            "INSERT INTO orders (product_id, customer_id, quantity, created_at) VALUES (?, ?, ?, ?)",
            (product_id, customer_id, quantity, time.time()),
        )
    if cursor.lastrowid is None:
        raise sqlite3.OperationalError("the order was stored without a number")
    return cursor.lastrowid


def bought_together(path: Path) -> list[PairRow]:
    """Returns the ten pairs of products most often bought by the same customers: a join of orders with themselves."""
    with _connection(path) as connection:
        return [PairRow(*row) for row in connection.execute(_REPORT, (_REPORT_ORDERS,))]
