"""Programs that the process tests run in an interpreter of their own; each prints one line of JSON."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry import metrics
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_perf
from tests.conftest import points_of

ROUNDS = 500


def _set_up() -> tuple[Any, InMemoryMetricReader]:
    os.environ["OTEL_METRICS_EXPORTER"] = "none"
    otel_perf.configure()
    provider: Any = metrics.get_meter_provider()
    reader = InMemoryMetricReader()
    provider.add_metric_reader(reader)
    return metrics.get_meter("m"), reader


def _values(reader: InMemoryMetricReader) -> dict[str, Any]:
    found = points_of(reader.get_metrics_data())
    return {name: point.value if hasattr(point, "value") else point.count for (name, _), point in found.items()}


def _print(reader: InMemoryMetricReader, **more: Any) -> None:
    print(json.dumps({**_values(reader), **more}))


def _record(meter: Any, rounds: int = ROUNDS) -> None:
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h", "s")
    bound = counter.bind()
    for _ in range(rounds):
        counter.add(1)
        bound.add(1)
        histogram.record(0.25)


def forks() -> None:
    """Forks 20 times while four threads record; every child records too."""
    meter, reader = _set_up()
    stop = threading.Event()
    counts = [0] * 4

    def busy(number: int) -> None:
        while not stop.is_set():
            _record(meter, 10)
            counts[number] += 10

    threads = [threading.Thread(target=busy, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    codes = []
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            # Ends the child for sure, should it hang.
            signal.alarm(10)
            _record(meter)
            # What a child collects goes nowhere: its parent leads.
            os._exit(0 if reader.get_metrics_data() is None else 3)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
    _print(reader, codes=codes, expected=sum(counts) + 20 * ROUNDS)


def _child(ready: Any = None) -> None:
    if metrics.get_meter_provider().__class__.__module__.startswith("opentelemetry"):
        _set_up()
    _record(metrics.get_meter("m"))
    if ready is not None:
        metrics.get_meter("m").create_up_down_counter("u").add(100)
        metrics.get_meter("m").create_gauge("g").set(7)
        ready.set()
        threading.Event().wait()


def children(method: str) -> None:
    """Records in four children of a start method and here."""
    meter, reader = _set_up()
    context: Any = multiprocessing.get_context(method)
    made = [context.Process(target=_child) for _ in range(4)]
    for child in made:
        child.start()
    _record(meter)
    for child in made:
        child.join()
    _print(reader, codes=[child.exitcode for child in made], expected=5 * ROUNDS)


def killed() -> None:
    """Kills a child that holds a gauge and an up-down counter; a later child takes its slot."""
    meter, reader = _set_up()
    meter.create_up_down_counter("u").add(1)
    context = multiprocessing.get_context("fork")
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for into in (before, after):
        ready = context.Event()
        child = context.Process(target=_child, args=(ready,))
        child.start()
        ready.wait()
        into["alive"] = _values(reader)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        into["dead"] = _values(reader)
    print(json.dumps({"first": before, "second": after}))


PROGRAMS: dict[str, Callable[[], None]] = {
    "forks": forks,
    "killed": killed,
    "fork": lambda: children("fork"),
    "spawn": lambda: children("spawn"),
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]]()
