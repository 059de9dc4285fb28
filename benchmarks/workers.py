"""What several workers cost: a scrape of what four of them have recorded, the first recording after a fork, and two that record at once.

Run as ``python -m benchmarks.workers [--rounds N] [--json PATH]``.

*Scrapes*: 1,000 series of counters or histograms (15 boundaries), each recorded into by one worker or by each of four, with the same number of recordings in
all. A round scrapes every variant once, in an order that changes, in CPU time of the thread; the control is one worker once more. Beside them the same series in
prometheus_client's multi-process mode: a file for each worker and kind, merged by ``MultiProcessCollector`` at each scrape.

*Forks*: a program forks again and again; each child measures its first ``counter.add`` and ``histogram.record`` and ends. The control records with the API's
no-op meter. *Two at once*: two forked workers, on a core each, call as fast as they can, alone and together in turn; the control is one alone once more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from benchmarks import machine
from benchmarks.harness import ROUNDS_MIN, at_least, progress, spread
from otel_perf import MeterProvider, Segment
from otel_perf.exporters.prometheus import PrometheusEndpoint

SERIES = 1_000
WORKERS = 4
RECORDINGS = 8
"""Recordings in each series by all workers together."""
ROUNDS_DEFAULT = 31
FORKS = 300
BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 25.0)
SCRAPE_TARGET = 1.2
MULTIPROCESS_TARGET = 20
FIRST_TARGET_MS = 1.0
TOGETHER_TARGET = 1.8
TURN_S = 0.1
# Turns of both workers before the first round: by then the pages that they share have got stripes.
WARM_UP = 50
KINDS = ("counters", "histograms")
_ACCEPT = {"accept": "text/plain;version=0.0.4"}

Variant = Callable[[], int]
Attributes = dict[str, str | int]


def draw(seed: int) -> Callable[[], float]:
    """Lognormal durations in seconds."""
    source = random.Random(seed)
    return lambda: source.lognormvariate(-4, 1)


def record(provider: MeterProvider, kind: str, recordings: int, seed: int) -> None:
    """Records so often into each series."""
    meter = provider.get_meter("benchmark")
    value = draw(seed)
    counter = meter.create_counter("requests")
    histogram = meter.create_histogram("duration", "s", explicit_bucket_boundaries_advisory=BOUNDARIES)
    for _ in range(recordings):
        for number in range(SERIES):
            attributes: Attributes = {"route": f"/{number % 100}", "status": 200 + number // 100}
            if kind == "counters":
                counter.add(1, attributes)
            else:
                histogram.record(value(), attributes)


class Workers:
    """So many processes that have recorded the same series, of which this one is the first, and its endpoint.

    Args:
        kind: Of the series.
        workers: Number of processes.
    """

    def __init__(self, kind: str, workers: int) -> None:
        self.endpoint = PrometheusEndpoint(port=0)
        # Large enough that precision does not differ between the variants.
        self.provider = MeterProvider([self.endpoint], segment=Segment.create(16 << 20), shutdown_on_exit=False)
        read, write = os.pipe()
        ended, self._end = os.pipe()
        self._children = []
        record(self.provider, kind, RECORDINGS // workers, 0)
        for number in range(1, workers):
            child = os.fork()
            if child == 0:
                os.close(self._end)
                record(self.provider, kind, RECORDINGS // workers, number)
                os.write(write, b"x")
                # Lives until the benchmark ends.
                os.read(ended, 1)
                os._exit(0)
            self._children.append(child)
        for _ in self._children:
            os.read(read, 1)
        for descriptor in (read, write, ended):
            os.close(descriptor)

    def scrape(self) -> int:
        """Scrapes and answers the number of bytes."""
        return len(self.endpoint._answer(_ACCEPT).body)

    def total(self) -> float:
        """Recordings that a scrape shows."""
        lines = self.endpoint._answer(_ACCEPT).body.decode().splitlines()
        names = ("requests_total{", "duration_seconds_count{")
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))

    def close(self) -> None:
        """Ends all."""
        os.close(self._end)
        for child in self._children:
            os.waitpid(child, 0)
        self.provider.shutdown()


_OF_PROMETHEUS = f"""
import random, sys
from prometheus_client import Counter, Histogram
kind, recordings, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
source = random.Random(seed)
counter = Counter("requests", "", ["route", "status"])
histogram = Histogram("duration_seconds", "", ["route", "status"], buckets={BOUNDARIES})
for _ in range(recordings):
    for number in range({SERIES}):
        labels = (f"/{{number % 100}}", str(200 + number // 100))
        if kind == "counters":
            counter.labels(*labels).inc()
        else:
            histogram.labels(*labels).observe(source.lognormvariate(-4, 1))
"""


@contextmanager
def multiprocess(kind: str) -> Iterator[Variant]:
    """A scrape of what four processes have recorded in prometheus_client's multi-process mode."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for number in range(WORKERS):
            subprocess.run(
                [sys.executable, "-c", _OF_PROMETHEUS, kind, str(RECORDINGS // WORKERS), str(number)],
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder},
                check=True,
            )
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        yield lambda: len(generate_latest(registry))


def scrapes(kind: str, rounds: int) -> list[dict[str, Any]]:
    """CPU time of scrapes of one kind of series."""
    one, four, again = Workers(kind, 1), Workers(kind, WORKERS), Workers(kind, 1)
    for workers in (one, four, again):
        assert workers.total() == SERIES * RECORDINGS
    with multiprocess(kind) as of_files:
        variants: dict[str, Variant] = {
            "otel_perf, 1 worker": one.scrape,
            "otel_perf, 1 worker, again": again.scrape,
            "otel_perf, 4 workers": four.scrape,
            "prometheus_client, 4 workers": of_files,
        }
        samples: dict[str, list[float]] = {name: [] for name in variants}
        sizes: dict[str, int] = {}
        order = random.Random(1)
        for number in range(rounds + 1):
            progress(f"scrapes of {kind}: round {number} of {rounds}")
            for name in order.sample(list(variants), len(variants)):
                begin = time.thread_time_ns()
                sizes[name] = variants[name]()
                taken = (time.thread_time_ns() - begin) / 1e6
                # The first one makes what is kept from scrape to scrape.
                if number > 0:
                    samples[name].append(taken)
        progress(None)
    for workers in (one, four, again):
        workers.close()
    return [
        {
            "kind": kind,
            "variant": name,
            "ms": round(statistics.median(taken), 3),
            "spread": round(spread(taken), 4),
            "bytes": sizes[name],
        }
        for name, taken in samples.items()
    ]


_FORKING = """
import json, os, sys, time
from opentelemetry import metrics
forks, which = int(sys.argv[1]), sys.argv[2]
if which.startswith("otel_perf"):
    from otel_perf import configure
    configure()
elif which == "stock":
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
meter = metrics.get_meter("benchmark")
counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
attributes = {"route": "/", "status": 200}
counter.add(1, attributes)
histogram.record(1.0, attributes)
found = []
for _ in range(forks):
    read, write = os.pipe()
    begin = time.monotonic_ns()
    pid = os.fork()
    if pid == 0:
        forked = time.monotonic_ns()
        counter.add(1, attributes)
        added = time.monotonic_ns()
        histogram.record(1.0, attributes)
        recorded = time.monotonic_ns()
        os.write(write, json.dumps([forked - begin, added - forked, recorded - added]).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    found.append(json.loads(os.read(read, 1000)))
    os.close(read)
print(json.dumps(found))
"""


def forks(number: int) -> list[dict[str, Any]]:
    """Microseconds of a fork, as its child sees it, and of the first recordings in the child."""
    found = []
    for which in ("none", "otel_perf", "otel_perf, separate", "stock"):
        progress(f"{number} forks: {which}")
        env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        env |= {
            "OTEL_METRICS_EXPORTER": "prometheus",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
            "OTEL_TRACES_EXPORTER": "none",
        }
        if "separate" in which:
            env["OTEL_PERF_WORKERS"] = "separate"
        done = subprocess.run(
            [sys.executable, "-c", _FORKING, str(number), which], env=env, capture_output=True, text=True, check=True
        )
        columns = list(zip(*json.loads(done.stdout), strict=True))
        one: dict[str, Any] = {"variant": which}
        for name, column in zip(("fork", "add", "record"), columns, strict=True):
            ordered = sorted(column)
            one[name] = {
                "median_us": round(statistics.median(ordered) / 1e3, 1),
                "p99_us": round(ordered[int(len(ordered) * 0.99)] / 1e3, 1),
            }
        found.append(one)
    progress(None)
    return found


def calls(provider: MeterProvider, what: str) -> Callable[[int], None]:
    """What a worker calls as fast as it can: so many times, and a little more."""
    meter = provider.get_meter("benchmark")
    attributes: Attributes = {"route": "/", "status": 200}
    if what == "counter":
        add = meter.create_counter("c").add

        def count(times: int) -> None:
            for _ in range(times):
                add(1, attributes)

        return count
    call = meter.create_histogram("h", "s").record
    value = draw(os.getpid())
    values = [0.02 if what == "histogram, one value" else value() for _ in range(997)]

    def distribute(times: int) -> None:
        for _ in range(times // len(values) + 1):
            for each in values:
                call(each, attributes)

    return distribute


class Caller:
    """A forked worker on a core of its own that calls when it is told to.

    Args:
        provider: That of the parent.
        core: Number of the core.
    """

    def __init__(self, provider: MeterProvider, core: int) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._orders)
            os.sched_setaffinity(0, {core})
            self._work(provider, orders, answers)
            os._exit(0)
        os.close(orders)
        os.close(answers)

    @staticmethod
    def _work(provider: MeterProvider, orders: int, answers: int) -> None:
        made: dict[str, Callable[[int], None]] = {}
        while order := os.read(orders, 1000):
            what = order.decode()
            if what not in made:
                made[what] = calls(provider, what)
            act = made[what]
            done, begin, cpu = 0, time.perf_counter(), time.thread_time_ns()
            while (taken := time.perf_counter() - begin) < TURN_S:
                act(10_000)
                done += 10_000
            os.write(answers, json.dumps([done, taken, time.thread_time_ns() - cpu]).encode())

    def begin(self, what: str) -> None:
        """Has it call for a while."""
        os.write(self._orders, what.encode())

    def end(self) -> tuple[float, float]:
        """Calls per second of time and of CPU time."""
        done, taken, cpu_ns = json.loads(os.read(self._answers, 1000))
        return done / taken, done / cpu_ns * 1e9

    def close(self) -> None:
        """Ends it."""
        os.close(self._orders)
        os.waitpid(self._pid, 0)
        os.close(self._answers)


def together(rounds: int) -> list[dict[str, Any]]:
    """How much more two workers record than one, by time and by CPU time."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("benchmarks: two workers at once need two cores")
    provider = MeterProvider(segment=Segment.create(), shutdown_on_exit=False)
    workers = [Caller(provider, core) for core in cores]
    found = []
    for what in ("counter", "histogram", "histogram, one value"):
        quotients: dict[str, list[float]] = {"time": [], "cpu": [], "control": []}
        rates = []
        for number in range(WARM_UP):
            progress(f"two workers, {what}: warming up, {number} of {WARM_UP}")
            turn(workers, what)
        for number in range(1, rounds + 1):
            progress(f"two workers, {what}: round {number} of {rounds}")
            alone, both, again = [turn(workers[:1], what), turn(workers, what), turn(workers[:1], what)]
            rates.append(alone[0][0])
            quotients["time"].append(sum(rate for rate, _ in both) / alone[0][0])
            quotients["cpu"].append(sum(rate for _, rate in both) / alone[0][1])
            quotients["control"].append(again[0][0] / alone[0][0])
        found.append(
            {
                "what": what,
                "alone_ns": round(1e9 / statistics.median(rates), 1),
                **{
                    name: {"median": round(statistics.median(values), 4), "spread": round(spread(values), 4)}
                    for name, values in quotients.items()
                },
            }
        )
    progress(None)
    # The second one has what the first one listens to.
    for worker in reversed(workers):
        worker.close()
    provider.shutdown()
    return found


def turn(workers: list[Caller], what: str) -> list[tuple[float, float]]:
    """Has some workers call at once."""
    for worker in workers:
        worker.begin(what)
    return [worker.end() for worker in workers]


def figures(
    scraped: list[dict[str, Any]], forked: list[dict[str, Any]], called: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What was promised, beside what was measured."""
    ms = {(one["kind"], one["variant"]): one["ms"] for one in scraped}
    found = []
    for kind in KINDS:
        one, four = ms[kind, "otel_perf, 1 worker"], ms[kind, "otel_perf, 4 workers"]
        of_files = ms[kind, "prometheus_client, 4 workers"]
        found.append((f"scrape of {SERIES:,} {kind}, 4 workers / 1 worker", four / one, SCRAPE_TARGET, False))
        text = f"scrape of {SERIES:,} {kind} of 4 workers, prometheus_client / otel_perf"
        found.append((text, of_files / four, MULTIPROCESS_TARGET, True))
    (ours,) = (one for one in forked if one["variant"] == "otel_perf")
    first = (ours["add"]["p99_us"] + ours["record"]["p99_us"]) / 1e3
    found.append(("first add and first record after a fork, 99th percentiles, ms", first, FIRST_TARGET_MS, False))
    found += [
        (f"calls of two workers / those of one, {one['what']}", one["time"]["median"], TOGETHER_TARGET, True)
        for one in called
    ]
    return [
        {
            "figure": text,
            "value": float(f"{value:.4g}"),
            "target": f"{'>=' if at_least_it else '<='} {target:g}",
            "met": value >= target if at_least_it else value <= target,
        }
        for text, value, target, at_least_it in found
    ]


def show(result: dict[str, Any]) -> None:
    """Prints the results."""
    for one in result["scrapes"]:
        print(
            f"{one['kind']:<12}{one['variant']:<30}{one['ms']:>10.3f} ms{one['spread']:>9.1%}{one['bytes']:>12,} bytes"
        )
    print()
    for one in result["forks"]:
        parts = ", ".join(
            f"{name} {one[name]['median_us']:,} us (p99 {one[name]['p99_us']:,})" for name in ("fork", "add", "record")
        )
        print(f"{one['variant']:<22}{parts}")
    print()
    for one in result["together"]:
        parts = ", ".join(
            f"{name} {one[name]['median']:.3f} ({one[name]['spread']:.1%})" for name in ("time", "cpu", "control")
        )
        print(f"two / one, {one['what']:<22} {parts}; {one['alone_ns']} ns a call alone")
    print()
    for figure in result["figures"]:
        met = "met   " if figure["met"] else "MISSED"
        print(f"{met} {figure['figure']:<76} {figure['value']:>10,.4g}  {figure['target']}")


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description="What several workers cost.")
    parser.add_argument("--rounds", type=at_least(ROUNDS_MIN), default=ROUNDS_DEFAULT, help=f"default {ROUNDS_DEFAULT}")
    parser.add_argument("--json", metavar="PATH", help="where to write the results")
    options = parser.parse_args()
    machine.require_release_build()
    # Before anything here has threads.
    called = together(options.rounds)
    forked = forks(max(100, FORKS * options.rounds // ROUNDS_DEFAULT))
    scraped = [one for kind in KINDS for one in scrapes(kind, options.rounds)]
    result = {
        "rounds": options.rounds,
        "scrapes": scraped,
        "forks": forked,
        "together": called,
        "figures": figures(scraped, forked, called),
    }
    show(result)
    machine.write(options.json, {**result, **machine.description()})


if __name__ == "__main__":
    main()
