"""Emits one of each signal, more of each from an exit handler, says when its end begins, and ends in the way that the argument names.

Arguments: ``end``, ``sys.exit``, ``exception``, ``thread``, ``interrupt``, ``os._exit``, ``terminate``, ``fork`` for a child that ends by itself,
``shutdown`` to shut all providers down before, ``flush`` to flush them before, ``callback`` to observe what never answers; then a file to wait for, if any.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
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


def providers() -> list[Any]:
    """The providers of all three signals."""
    return [metrics.get_meter_provider(), trace.get_tracer_provider(), _logs.get_logger_provider()]


def never(_: CallbackOptions) -> Iterator[Observation]:
    """Blocks for longer than anybody waits."""
    time.sleep(3600)
    yield Observation(1)


def at_exit() -> None:
    """The first of all exit handlers that run."""
    if how not in {"shutdown", "os._exit"}:
        emit("exit")
    print("ending", time.monotonic_ns(), os.getpid())


def fail() -> None:
    """Ends a thread, and not the program."""
    raise SystemExit(7)


def end() -> None:
    """Ends the program."""
    if how == "sys.exit":
        sys.exit(3)
    elif how == "exception":
        raise RuntimeError("of the application")
    elif how == "thread":
        threading.Thread(target=fail).start()
    elif how == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    elif how == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    elif how == "os._exit":
        os._exit(4)
    elif how == "fork":
        pid = os.fork()
        if pid == 0:
            emit("child")
            sys.exit(5)
        print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    elif how == "shutdown":
        for provider in providers():
            provider.shutdown()
    elif how == "flush":
        for provider in providers():
            provider.force_flush()


how, *files = sys.argv[1:]
logging.basicConfig()
emit("work")
if how == "callback":
    metrics.get_meter("app").create_observable_gauge("app.never", [never])
for file in files:
    while not Path(file).exists():
        time.sleep(0.01)
atexit.register(at_exit)
end()
