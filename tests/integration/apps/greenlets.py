"""Counts in green threads of gevent or eventlet, patched as the program's first act, and prints what it sees and how it is patched.

Arguments: ``gevent`` or ``eventlet``; then ``scrape`` to scrape its own endpoint from three greenlets at once, ``collect`` to collect from several
at once, ``fork`` to record in a forked child as well, or a file to wait for; then ``locked`` if a thread that eventlet knows nothing of is to keep the lock of the log.
"""

from __future__ import annotations

import importlib
import sys
import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    green = importlib.import_module(sys.argv[1])
    if sys.argv[1] == "gevent":
        importlib.import_module("gevent.monkey").patch_all()
    else:
        green.monkey_patch()

import logging
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

GREENLETS = 20
ROUNDS = 100
meter = metrics.get_meter("app")


def all_of(work: Callable[[], Any], number: int) -> list[Any]:
    """What some greenlets answer that run at once."""
    running = [green.spawn(work) for _ in range(number)]
    return [one.wait() if hasattr(one, "wait") else one.get() for one in running]


def record() -> None:
    """Records, gives way now and then, and makes a span."""
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h", "s")
    with trace.get_tracer("app").start_as_current_span("work"):
        for number in range(ROUNDS):
            counter.add(1)
            histogram.record(0.01)
            if number % 10 == 0:
                green.sleep(0)


def observe(_: CallbackOptions) -> Iterator[Observation]:
    """Gives way in the middle of a collection, and makes an instrument."""
    green.sleep(0.01)
    meter.create_observable_gauge("late", [])
    yield Observation(3)


def scrape() -> str:
    """The endpoint's answer."""
    port = os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"]
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


def collect() -> str:
    """Values by name of a collection."""
    found = reader.get_metrics_data()
    return " ".join(
        f"{metric.name}={getattr(point, 'value', getattr(point, 'count', None))}"
        for resource in (found.resource_metrics if found else ())
        for scope in resource.scope_metrics
        for metric in sorted(scope.metrics, key=lambda metric: metric.name)
        for point in metric.data.data_points
    )


def fork() -> int:
    """Exit status of a forked child in which greenlets record."""
    pid = os.fork()
    if pid == 0:
        all_of(record, GREENLETS)
        provider.force_flush()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lock_log() -> None:
    """Takes the lock of the log in a native thread, and keeps it: nobody wakes who waits for it."""
    taken = []

    def take() -> None:
        logging.lastResort.acquire()  # type: ignore[union-attr]
        taken.append(True)
        native.sleep(3600)

    native = green.patcher.original("time")
    threading = green.patcher.original("threading")
    threading.Thread(target=take, daemon=True).start()
    while not taken:
        native.sleep(0.001)


def wait() -> str:
    """Waits for the file."""
    while not Path(sys.argv[2]).exists():
        green.sleep(0.01)
    print("ending", time.monotonic_ns())
    return "seen"


print("warned", *(str(warning.message) for warning in caught if "onkey" in str(warning.message)))
all_of(record, GREENLETS)
meter.create_observable_gauge("g", [observe])
provider: Any = metrics.get_meter_provider()
if sys.argv[2] == "scrape":
    print("\n".join(all_of(scrape, 3)))
elif sys.argv[2] == "fork":
    print("child", fork())
    print(scrape())
elif sys.argv[2] == "collect":
    reader = importlib.import_module("opentelemetry.sdk.metrics.export").InMemoryMetricReader()
    provider.add_metric_reader(reader)
    print("\n".join(all_of(collect, 3)))
else:
    print(wait())
    all_of(record, GREENLETS)
    if sys.argv[3:]:
        lock_log()
