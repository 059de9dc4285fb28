"""What an observer takes from the application that it watches: CPU and elapsed time of a request while exports go on, and while nothing is exported.

Run as ``python -m benchmarks.observer [--rounds N] [--json PATH]``. The application handles requests, each with some work, a counter and a histogram, and has
1,000 histogram series. Its endpoint is scraped, ten times a second, in half of the blocks. Blocks come in groups of three in an order that changes from group
to group: scraped, not scraped, and not scraped once more, which is the null experiment: what differs there is noise. The CPU time is that of the thread
that handles the requests; the elapsed time also has what it waits for, for example for the GIL.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from benchmarks import machine
from benchmarks.harness import ROUNDS_MIN, at_least, progress

ROUNDS_DEFAULT = 31
SERIES = 1_000
BLOCK_MS = 400
PAUSE_S = 0.1
_PATIENCE_S = 30
_MODES = ("process", "thread")
_KINDS = ("scraped", "quiet", "quiet, again")
_APPLICATION = f"""
import json, sys, time
from opentelemetry import metrics
meter = metrics.get_meter("benchmark")
requests, durations = meter.create_counter("requests"), meter.create_histogram("duration", "s")
for number in range({SERIES}):
    durations.record(0.01 + number / 1e5, {{"route": number}})
attributes = {{"route": 1, "status": 200}}

def handle():
    text = json.dumps({{"items": list(range(100))}})
    requests.add(1, attributes)
    durations.record(len(text) / 1e5, {{"route": 1}})

def block(calls):
    cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
    for _ in range(calls):
        handle()
    return (time.thread_time_ns() - cpu) / calls, (time.perf_counter_ns() - wall) / calls

calls = int({BLOCK_MS} * 1e6 / block(20_000)[1])
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(block(calls)), flush=True)
"""


def free_port() -> int:
    """A port that nobody listens on."""
    import socket  # noqa: PLC0415 - only here.

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Scraper:
    """Scrapes an endpoint again and again in a thread, while it is told to.

    Args:
        url: The endpoint.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._wanted, self._over = threading.Event(), threading.Event()
        self.scrapes = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def once(self) -> int:
        """The bytes of a scrape."""
        with urllib.request.urlopen(self._url, timeout=_PATIENCE_S) as answer:
            return len(answer.read())

    def _run(self) -> None:
        while not self._over.is_set():
            if self._wanted.wait(PAUSE_S):
                self.once()
                self.scrapes += 1
                self._over.wait(PAUSE_S)

    @contextmanager
    def scraping(self, wanted: bool) -> Iterator[None]:
        """Scrapes meanwhile, if that is wanted."""
        if wanted:
            self._wanted.set()
        try:
            yield
        finally:
            self._wanted.clear()

    def close(self) -> None:
        """Ends the thread."""
        self._over.set()
        self._thread.join()


@contextmanager
def application(mode: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The application with an observer of this mode, and its endpoint."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    env |= {
        "OTEL_PERF_OBSERVER": mode,
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
        "OTEL_PYTHON_DISTRO": "otel_perf",
        "OTEL_PYTHON_CONFIGURATOR": "otel_perf",
    }
    code = f"import otel_perf; otel_perf.configure()\n{_APPLICATION}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the application has not started"
        yield process, f"http://localhost:{port}/metrics"
    finally:
        process.communicate()


def blocks(mode: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """CPU and elapsed nanoseconds of a request by kind of block."""
    samples: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _KINDS}
    order = random.Random(1)
    with application(mode) as (process, url):
        assert process.stdin is not None
        assert process.stdout is not None
        scraper = Scraper(url)
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(OSError):
                if scraper.once():
                    break
            time.sleep(PAUSE_S)
        for number in range(rounds + 1):
            progress(f"{mode}: group {number} of {rounds}")
            for kind in order.sample(_KINDS, len(_KINDS)):
                with scraper.scraping(kind == "scraped"):
                    process.stdin.write("\n")
                    process.stdin.flush()
                    cpu, wall = json.loads(process.stdout.readline())
                if number > 0:
                    samples[kind].append((cpu, wall))
        scraper.close()
        assert scraper.scrapes >= rounds, f"only {scraper.scrapes} scrapes were answered"
    progress(None)
    return samples


def compared(samples: dict[str, list[tuple[float, float]]], which: int) -> dict[str, Any]:
    """Medians in nanoseconds, and the quotients of the blocks of a group to its quiet one: median, and the middle 80 %."""
    quotients = {}
    for kind in ("scraped", "quiet, again"):
        each = [one[which] / quiet[which] for one, quiet in zip(samples[kind], samples["quiet"], strict=True)]
        deciles = statistics.quantiles(each, n=10, method="inclusive")
        quotients[kind] = {
            "median": round(statistics.median(each), 4),
            "p10": round(deciles[0], 4),
            "p90": round(deciles[-1], 4),
        }
    medians = {kind: round(statistics.median(one[which] for one in taken), 1) for kind, taken in samples.items()}
    return {"ns": medians, "to_quiet": quotients}


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.observer", description="What exports take from requests."
    )
    parser.add_argument("--rounds", type=at_least(ROUNDS_MIN), default=ROUNDS_DEFAULT, help=f"default {ROUNDS_DEFAULT}")
    parser.add_argument("--json", metavar="PATH", help="where to write the results")
    options = parser.parse_args()
    machine.require_release_build()
    modes: dict[str, Any] = {}
    for mode in _MODES:
        samples = blocks(mode, options.rounds)
        modes[mode] = {"cpu": compared(samples, 0), "elapsed": compared(samples, 1)}
    found = modes["process"]["cpu"]["to_quiet"]
    null = found["quiet, again"]
    met = null["p10"] <= found["scraped"]["median"] <= null["p90"]
    figure = {
        "figure": "CPU time of a request while a process exports / while nobody does",
        "value": found["scraped"]["median"],
        "target": f"{null['p10']:.4f} to {null['p90']:.4f}, the null experiment",
        "met": met,
    }
    result = {"rounds": options.rounds, "modes": modes, "figures": [figure]}
    for mode, times in modes.items():
        for what, one in times.items():
            print(f"{mode:<8} {what:<8} " + "  ".join(f"{kind}: {ns:,.0f} ns" for kind, ns in one["ns"].items()))
            for kind, quotient in one["to_quiet"].items():
                print(
                    f"{'':<18}{kind} / quiet: {quotient['median']:.4f} ({quotient['p10']:.4f} to {quotient['p90']:.4f})"
                )
    print(f"{'met   ' if met else 'MISSED'} {figure['figure']}: {figure['value']}  {figure['target']}")
    machine.write(options.json, {**result, **machine.description()})


if __name__ == "__main__":
    main()
