"""Forks with our provider or the SDK's, given by the first argument, and prints a line of JSON.

``busy N``: forks up to N times while threads record and collect, and records in each child; stops at the first that hangs. ``collecting``: forks while a
thread is in the middle of a collection, and records and collects in the child. ``counted``: records before and after a fork, and collects in both processes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.metrics import Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_perf

THREADS = 4
HANGS_AFTER_S = {"ours": 20, "stock": 2}
"""Seconds after which a child counts as hanging; ours must not, however busy the machine is."""
PROVIDERS: dict[str, Any] = {"ours": otel_perf.MeterProvider, "stock": sdk.MeterProvider}

which = sys.argv[1]
reader = InMemoryMetricReader()
provider = PROVIDERS[which]([reader], shutdown_on_exit=False)
meter = provider.get_meter("app")
counter = meter.create_counter("c")


def total() -> int:
    """Sum of the counter's points."""
    data = reader.get_metrics_data()
    metrics = [m for r in (data.resource_metrics if data else ()) for s in r.scope_metrics for m in s.metrics]
    return sum(point.value for metric in metrics for point in metric.data.data_points)  # type: ignore[union-attr, misc]


def forked(child: Callable[[], None]) -> int:
    """Exit status of a child; that of an alarm if it hangs."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(HANGS_AFTER_S[which])
        child()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def busy() -> dict[str, Any]:
    """Forks while threads record the same series and another collects."""
    stop = threading.Event()

    def repeat(work: Callable[[], object]) -> None:
        while not stop.is_set():
            work()

    work: list[Callable[[], object]] = [lambda: counter.add(1, {"k": "v"})] * THREADS
    threads = [threading.Thread(target=repeat, args=(one,)) for one in (*work, reader.get_metrics_data)]
    for thread in threads:
        thread.start()
    codes: list[int] = []
    while len(codes) < int(sys.argv[3]) and not any(codes):
        codes.append(forked(lambda: counter.add(1, {"k": "v"})))
    stop.set()
    for thread in threads:
        thread.join()
    return {"forks": len(codes), "last": codes[-1]}


def collecting() -> dict[str, Any]:
    """Forks while a callback runs that ends after the child has. The reader's own lock, which the SDK does not renew, is left out."""
    began, may_end, parent = threading.Event(), threading.Event(), os.getpid()

    def callback(_: object) -> list[Observation]:
        if os.getpid() == parent:
            began.set()
            may_end.wait()
        return []

    def child() -> None:
        counter.add(1)
        reader.collect()

    meter.create_observable_gauge("g", [callback])
    collects = threading.Thread(target=reader.collect)
    collects.start()
    began.wait()
    code = forked(child)
    may_end.set()
    collects.join()
    return {"code": code}


def counted() -> dict[str, Any]:
    """What parent and child export."""
    read, write = os.pipe()
    counter.add(5)

    def child() -> None:
        counter.add(1)
        os.write(write, str(total()).encode())

    code = forked(child)
    return {"code": code, "child": int(os.read(read, 20)), "parent": total()}


print(json.dumps({"busy": busy, "collecting": collecting, "counted": counted}[sys.argv[2]]()))
