"""An application with an observer process: counts, prints its segment, and lives until its standard input ends."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

import otel_perf
from otel_perf.segment import default_segment

METER = metrics.get_meter("app")
MODULES = ("grpc", "requests", "opentelemetry.exporter", "prometheus_client", "http.server")


def count(times: int = 3) -> None:
    """Records on a counter, a histogram and an up-down counter."""
    METER.create_counter("app.count").add(times, {"kind": "x"})
    METER.create_histogram("app.size", "By").record(7)
    METER.create_up_down_counter("app.open").add(2)
    METER.create_gauge("app.set").set(5)


def until_the_input_ends() -> None:
    """Says that everything is recorded, and waits."""
    print("segment", os.environ.get("OTEL_PERF_SEGMENT"), flush=True)
    sys.stdin.read()


def lives() -> None:
    """Counts and lives; a callback reports how often it was called, another one a series that is there every other time."""
    count()
    calls = itertools.count(1)

    def report(_: CallbackOptions) -> Iterator[Observation]:
        number = next(calls)
        yield Observation(number, {"series": "always"})
        if number % 2:
            yield Observation(number, {"series": "odd"})

    METER.create_observable_gauge("app.calls", [report])
    until_the_input_ends()


def modules() -> None:
    """Says which modules that only exporters need are loaded."""
    count()
    print("loaded", *(name for name in sys.modules if name.startswith(MODULES)))
    until_the_input_ends()


def logs() -> None:
    """Says which modules are loaded that only an interval log needs."""
    count()
    print("loaded", *(name for name in sys.modules if name.startswith(("otel_perf.hdr", "otel_perf.exporters.hdr"))))
    until_the_input_ends()


def pulses() -> None:
    """Records again and again, so that the last seconds are never empty."""

    def record() -> None:
        while True:
            count()
            time.sleep(0.1)

    threading.Thread(target=record, daemon=True).start()
    until_the_input_ends()


def waits() -> None:
    """Waits for any child."""
    count()
    try:
        print("child", os.wait())
    except ChildProcessError:
        print("no child")
    until_the_input_ends()


def forks() -> None:
    """Has three forked children count, and counts what callbacks report in another one that lives as long as this process."""

    def total(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(10)

    METER.create_observable_up_down_counter("app.total", [total])
    parent = os.getpid()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            count()
            os._exit(0)
        os.waitpid(pid, 0)
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.02)
        os._exit(0)
    until_the_input_ends()


def orphans() -> None:
    """Leaves a forked child alone that counts and lives, as a program does that goes into the background."""
    if os.fork() == 0:
        lives()
        return
    segment = default_segment()
    while segment is None or not segment.is_observed():
        time.sleep(0.02)
    os._exit(0)


def starts() -> None:
    """Has another program count that is started by this one."""
    count()
    command = [sys.executable, "-c", "from tests.integration.apps import observed; observed.count()"]
    subprocess.run(command, check=True)
    until_the_input_ends()


def executes() -> None:
    """Replaces itself by another program that counts and lives."""
    count(1)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "tests.integration.apps.observed", "lives"])


def flushes() -> None:
    """Counts, has everything exported, and says whether it was."""
    count()
    provider: Any = metrics.get_meter_provider()
    print("flushed", provider.force_flush(20_000))
    until_the_input_ends()


def asks() -> None:
    """Records until that is in a window, and says what it is told of it, also of 600 series; or says the error if nobody observes."""
    size = METER.create_histogram("app.size", "By")
    many = METER.create_counter("app.many")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        size.record(7, {"a": 1, "raw": b"\x00"})
        for number in range(600):
            many.add(1, {"number": number})
        time.sleep(0.05)
        try:
            found = otel_perf.percentiles("app.size", {"a": 1, "raw": b"\x00"})
        except LookupError:
            continue
        except RuntimeError as error:
            if "does not observe yet" in str(error):
                continue
            print(error)
            break
        if found.count:
            print(json.dumps(_told(found), default=str))
            break
    until_the_input_ends()


def _told(one: otel_perf.Percentiles) -> dict[str, Any]:
    snapshot = otel_perf.snapshot()
    try:
        otel_perf.ewma("app.nothing")
    except LookupError as error:
        unknown = f"{type(error).__name__}: {error}"
    else:
        unknown = "known"
    return {
        "one": asdict(one),
        "rate": otel_perf.ewma("app.size", tau=10),
        "mean": otel_perf.ewma("app.size", tau=10, of="mean"),
        "snapshot": asdict(snapshot),
        "many": sum(series.name == "app.many" for series in snapshot.series),
        "unknown": unknown,
    }


def aborts() -> None:
    """Ends with neither exit handlers nor a goodbye."""
    count()
    print("segment", os.environ.get("OTEL_PERF_SEGMENT"), flush=True)
    os._exit(3)


PROGRAMS: dict[str, Callable[[], Any]] = {
    "lives": lives,
    "modules": modules,
    "logs": logs,
    "pulses": pulses,
    "waits": waits,
    "forks": forks,
    "orphans": orphans,
    "starts": starts,
    "executes": executes,
    "flushes": flushes,
    "asks": asks,
    "aborts": aborts,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]]()
