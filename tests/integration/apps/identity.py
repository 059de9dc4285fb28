"""Counts in a process and in children of its own; each says who it is by a span.

The argument is how the child is made that exports when the parent has been killed: 1 is added in the parent and 10 in the child. With ``services`` the
child is of another service and adds 10, its own child adds 100.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry import metrics, trace

from otel_perf.segment import default_segment


def record(amount: int, name: str) -> None:
    """Adds, makes a span, and exports both."""
    metrics.get_meter("app").create_counter("app.count").add(amount)
    trace.get_tracer("app").start_span(name).end()
    for provider in (metrics.get_meter_provider(), trace.get_tracer_provider()):
        flush: Any = provider
        flush.force_flush()


def child(parent: int) -> None:
    """Records when the parent is gone, as a worker does that takes over.

    Of a process that is killed the children may get another parent before its last thread has given back the lock of who leads.
    """
    segment = default_segment()
    assert segment is not None
    Path(os.environ["READY"]).touch()
    while os.getppid() == parent or not segment.lead():
        time.sleep(0.01)
    record(10, "child")
    os._exit(0)


def fork() -> None:
    """A forked child."""
    parent = os.getpid()
    if os.fork() == 0:
        child(parent)


def spawn() -> None:
    """A program of its own."""
    subprocess.Popen([sys.executable, "-m", __spec__.name, "child", str(os.getpid())])


def process() -> None:
    """A child of multiprocessing's spawn method."""
    multiprocessing.get_context("spawn").Process(target=child, args=(os.getpid(),)).start()


def run(role: str, **env: str) -> None:
    """Runs a child to its end."""
    subprocess.run([sys.executable, "-m", __spec__.name, role], env={**os.environ, **env}, check=True)


def services() -> None:
    """Records after a child of another service."""
    run("other", OTEL_SERVICE_NAME="other")
    record(1, "parent")


def other() -> None:
    """Records before and after a child of the same service."""
    record(10, "child")
    run("grandchild")
    record(0, "child")


def taken_over(way: str) -> None:
    """Records and dies, once there is a child."""
    WAYS[way]()
    while not Path(os.environ["READY"]).exists():
        time.sleep(0.01)
    record(1, "parent")
    os.kill(os.getpid(), signal.SIGKILL)


WAYS: dict[str, Callable[[], None]] = {"fork": fork, "spawn": spawn, "multiprocessing": process}

ROLES: dict[str, Callable[[], None]] = {
    "child": lambda: child(int(sys.argv[2])),
    "grandchild": lambda: record(100, "grandchild"),
    "other": other,
    "services": services,
}

if __name__ == "__main__":
    ROLES.get(sys.argv[1], lambda: taken_over(sys.argv[1]))()
