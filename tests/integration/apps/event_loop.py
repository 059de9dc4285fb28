"""Counts in tasks and executor threads of an event loop, asyncio's or uvloop's, and scrapes its own endpoint from within."""

from __future__ import annotations

import asyncio
import os
import sys
import urllib.request

import uvloop
from opentelemetry import metrics, trace

TASKS = 50
ROUNDS = 40
meter = metrics.get_meter("app")
counter, histogram = meter.create_counter("c"), meter.create_histogram("h", "s")


def record(attributes: dict[str, str]) -> None:
    """Records once."""
    counter.add(1, attributes)
    histogram.record(0.01, attributes)


async def task() -> None:
    """Records in a task that gives way, and in threads."""
    loop = asyncio.get_running_loop()
    with trace.get_tracer("app").start_as_current_span("work"):
        for number in range(ROUNDS):
            record({"where": "task"})
            await asyncio.sleep(0)
            if number % 4 == 0:
                await loop.run_in_executor(None, record, {"where": "thread"})


def scrape() -> str:
    """The endpoint's answer."""
    port = os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"]
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


async def main() -> None:
    """Runs the tasks."""
    print("loop", type(asyncio.get_running_loop()).__module__)
    await asyncio.gather(*(task() for _ in range(TASKS)))
    print(await asyncio.to_thread(scrape))


if __name__ == "__main__":
    (uvloop if sys.argv[1] == "uvloop" else asyncio).run(main())
