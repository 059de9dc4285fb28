"""Counts 10 in a process, 1 in a forked child, 2 in a forked grandchild and 3 in a spawned child; all live until the standard input ends."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Any

from opentelemetry import metrics


def record(amount: int) -> None:
    """Adds one so many times, each with a value for a histogram."""
    meter = metrics.get_meter("app")
    counter = meter.create_counter("app.count")
    histogram = meter.create_histogram("app.size", "By")
    for _ in range(amount):
        counter.add(1)
        histogram.record(amount)
    # In one piece, because several processes print at once.
    os.write(1, f"recorded {amount} {os.getpid()}\n".encode())


def wait() -> None:
    """Waits for the end of the standard input, which forked processes share."""
    os.read(0, 1)


def spawned(over: Any) -> None:
    """The spawned child, whose standard input is empty."""
    record(3)
    over.wait()


def forked() -> None:
    """The forked child, with a child of its own."""
    record(1)
    grandchild = os.fork()
    if grandchild == 0:
        record(2)
    wait()
    if grandchild:
        os.waitpid(grandchild, 0)
    # With the exit handlers of the interpreter, as workers end.
    sys.exit()


def main() -> None:
    """Records in all four."""
    record(10)
    child = os.fork()
    if child == 0:
        forked()
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    other = context.Process(target=spawned, args=(over,))
    other.start()
    wait()
    over.set()
    other.join()
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
