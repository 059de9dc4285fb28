"""Emits one of each signal, more of each from an exit handler, says when its end begins, and ends in the way that the first argument names.

Files that are named after it are waited for before.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

counter = metrics.get_meter("app").create_counter("app.count")


def emit(name: str) -> None:
    """One of each."""
    counter.add(1)
    with trace.get_tracer("app").start_as_current_span(name):
        _logs.get_logger("app").emit(body=name, severity_text="INFO")


def never(_: CallbackOptions) -> Iterator[Observation]:
    """Blocks for longer than anybody waits."""
    time.sleep(3600)
    yield Observation(1)


def at_exit() -> None:
    """The first of all exit handlers that run."""
    if how not in {"shutdown", "os._exit"}:
        emit("exit")
    print("ending", time.monotonic_ns(), os.getpid())


def fail(error: BaseException) -> None:
    """Raises."""
    raise error


def send(number: int) -> None:
    """Sends this process a signal, and waits for what it does."""
    os.kill(os.getpid(), number)
    time.sleep(60)


def fork() -> None:
    """A child that ends by itself."""
    pid = os.fork()
    if pid == 0:
        emit("child")
        sys.exit(5)
    print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def all_of_them(what: str) -> None:
    """Flushes all providers, or shuts them down."""
    for provider in (metrics.get_meter_provider(), trace.get_tracer_provider(), _logs.get_logger_provider()):
        getattr(provider, what)()


WAYS: dict[str, Callable[[], Any]] = {
    "end": lambda: None,
    "sys.exit": lambda: sys.exit(3),
    "exception": lambda: fail(RuntimeError("of the application")),
    "thread": lambda: threading.Thread(target=fail, args=(SystemExit(7),)).start(),
    "interrupt": lambda: send(signal.SIGINT),
    "terminate": lambda: send(signal.SIGTERM),
    "os._exit": lambda: os._exit(4),
    "fork": fork,
    "shutdown": lambda: all_of_them("shutdown"),
    "flush": lambda: all_of_them("force_flush"),
    "callback": lambda: metrics.get_meter("app").create_observable_gauge("app.never", [never]),
}

how, *files = sys.argv[1:]
logging.basicConfig()
emit("work")
for file in files:
    while not Path(file).exists():
        time.sleep(0.01)
atexit.register(at_exit)
WAYS[how]()
