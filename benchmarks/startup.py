"""CPU time and resident size of starting a small instrumented program, with otel_perf beside the stock distribution.

Run as ``python -m benchmarks.startup [--rounds N] [--environments DIR] [--json PATH]``. Each round starts every variant once, in an order that changes from round to round.
CPU time is user and system time of the whole child as the kernel counts it (``os.wait4``): wrapper, program, all threads, and exit with its last
export. ``end_bytes`` is the resident size that the program reads in /proc/self/status as its last act, before exit; ``max_bytes`` is the largest that
the kernel saw until the process was gone (``ru_maxrss``; for the control, which is small, it may be the size of this process, which started it).
Each distribution is installed in an environment of its own: where both are, the wrapper loads parts of both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.harness import at_least, progress, spread

ROUNDS_MIN = 15
ROUNDS_DEFAULT = 25
EXPORTERS = ("none", "prometheus", "otlp")
CONTROL = "plain python"
_RECORDINGS = 1000
_MEASURED = ("cpu_ms", "user_ms", "system_ms", "wall_ms", "end_bytes", "max_bytes", "modules")
_IMPLEMENTATIONS = ("otel_perf", "stock")
_PROVIDERS = {"otel_perf": "otel_perf.metrics", "stock": "opentelemetry.sdk.metrics", None: "opentelemetry.metrics"}
_PROGRAM = f"""
import json, sys
from opentelemetry import metrics
meter = metrics.get_meter("startup")
counter, histogram = meter.create_counter("orders"), meter.create_histogram("duration", "s")
for _ in range({_RECORDINGS}):
    counter.add(1, {{"method": "GET", "status": 200}})
    histogram.record(0.0123, {{"method": "GET", "status": 200}})
found = {{"provider": type(metrics.get_meter_provider()).__module__, "modules": len(sys.modules)}}
with open("/proc/self/status") as status:
    sizes = dict(line.split(":", 1) for line in status)
found["end_bytes"] = int(sizes["VmRSS"].split()[0]) * 1024
print(json.dumps(found))
"""


@dataclass
class _Variant:
    """One way to start the program; `impl` is None for the control."""

    impl: str | None
    exporter: str | None
    python: Path
    runs: list[dict[str, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return CONTROL if self.impl is None else f"{self.impl}, {self.exporter}"

    def command(self) -> list[str]:
        plain = [str(self.python), "-c", _PROGRAM]
        return plain if self.impl is None else [str(self.python.with_name("opentelemetry-instrument")), *plain]

    def environment(self, collector: str) -> dict[str, str]:
        # Nothing that the caller's shell says about OpenTelemetry may reach the program.
        chosen = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        if self.impl is not None and self.exporter is not None:
            # The Prometheus exporter is for metrics only.
            others = "none" if self.exporter == "prometheus" else self.exporter
            chosen |= {
                "OTEL_METRICS_EXPORTER": self.exporter,
                "OTEL_TRACES_EXPORTER": others,
                "OTEL_LOGS_EXPORTER": others,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
                "OTEL_EXPORTER_PROMETHEUS_PORT": str(_free_port()),
            }
        return chosen


class _Collector:
    """An OTLP receiver over HTTP that accepts everything and counts the metrics requests; a dead one would make the exit wait."""

    def __init__(self) -> None:
        self.requests = 0
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                collector.requests += self.path == "/v1/metrics"
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(variant: _Variant, collector: _Collector) -> dict[str, float]:
    """Starts the program once and checks that it was what the variant says."""
    before = collector.requests
    begin = time.monotonic()
    process = subprocess.Popen(
        variant.command(), env=variant.environment(collector.address), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    # One after the other: what a start writes to stderr fits into the pipe.
    out, err = (stream.read() if stream is not None else b"" for stream in (process.stdout, process.stderr))
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    if process.returncode:
        sys.stderr.write(err.decode())
        raise SystemExit(
            f"benchmarks: '{variant.name}' ended with status {process.returncode}; the lines above say why"
        )
    found = json.loads(out)
    if not found["provider"].startswith(_PROVIDERS[variant.impl]):
        sys.stderr.write(err.decode())
        raise SystemExit(
            f"benchmarks: '{variant.name}' used a provider of {found['provider']}; run 'make bench-startup', which installs both distributions"
        )
    if variant.exporter == "otlp" and collector.requests == before:
        raise SystemExit(
            f"benchmarks: '{variant.name}' exported nothing; check that nothing blocks {collector.address}"
        )
    user, system = usage.ru_utime * 1e3, usage.ru_stime * 1e3
    return {
        "cpu_ms": user + system,
        "user_ms": user,
        "system_ms": system,
        "wall_ms": wall * 1e3,
        "end_bytes": found["end_bytes"],
        "max_bytes": usage.ru_maxrss * 1024,
        "modules": found["modules"],
    }


def pythons(environments: Path) -> dict[str, Path]:
    """The interpreter of each distribution's environment.

    Raises:
        SystemExit: One is missing, has both distributions, or has otel_perf without bytecode, which each start would compile anew.
    """
    found = {impl: environments / impl / "bin" / "python" for impl in _IMPLEMENTATIONS}
    for impl, python in found.items():
        installed = {path.name for path in python.parents[1].glob("lib/python*/site-packages/*")}
        if not python.exists() or ("otel_perf" in installed) is not (impl == "otel_perf"):
            raise SystemExit(
                f"benchmarks: {python} is not that of an environment with {impl} alone; run 'make bench-startup'"
            )
    if not list(found["otel_perf"].parents[1].glob("lib/python*/site-packages/otel_perf/__pycache__/distro.*.pyc")):
        raise SystemExit("benchmarks: otel_perf is not installed with bytecode; run 'make bench-startup'")
    return found


def measure(rounds: int, environments: Path) -> dict[str, Any]:
    """Starts all variants in turn.

    Args:
        rounds: How often each is started.
        environments: Folder with an environment for each distribution.

    Returns:
        What is written as JSON.
    """
    found = pythons(environments)
    variants = [_Variant(None, None, found["stock"])]
    variants += [_Variant(impl, exporter, found[impl]) for exporter in EXPORTERS for impl in _IMPLEMENTATIONS]
    collector = _Collector()
    # Seeded, so that two runs have the same order.
    order = random.Random(1)
    try:
        for variant in variants:
            progress(f"warming up: {variant.name}")
            _run(variant, collector)
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for variant in order.sample(variants, len(variants)):
                variant.runs.append(_run(variant, collector))
    finally:
        progress(None)
        collector.close()
    result: dict[str, Any] = {
        "rounds": rounds,
        "recordings": 2 * _RECORDINGS,
        "variants": [_summary(variant) for variant in variants],
    }
    result["figures"] = _figures(variants)
    return result


def _summary(variant: _Variant) -> dict[str, Any]:
    found: dict[str, Any] = {"variant": variant.name, "impl": variant.impl, "exporter": variant.exporter}
    for key in _MEASURED:
        samples = [run[key] for run in variant.runs]
        found[key] = {"median": round(statistics.median(samples), 2), "spread": round(spread(samples), 4)}
    return found


def _figures(variants: list[_Variant]) -> list[dict[str, Any]]:
    """Ours by stock's for each exporter, with whether it is at most one; also the quotient within each round, which a slow machine cancels out of."""
    found = []
    runs = {(variant.exporter, variant.impl): variant.runs for variant in variants}
    for exporter in EXPORTERS:
        for key in ("cpu_ms", "end_bytes", "max_bytes"):
            ours, stock = ([run[key] for run in runs[exporter, impl]] for impl in ("otel_perf", "stock"))
            value = statistics.median(ours) / statistics.median(stock)
            paired = sorted(a / b for a, b in zip(ours, stock, strict=True))
            deciles = statistics.quantiles(paired, n=10, method="inclusive")
            found.append(
                {
                    "figure": f"otel_perf / stock, {key}, {exporter}",
                    "value": round(value, 4),
                    "by_round": {
                        "p10": round(deciles[0], 4),
                        "median": round(statistics.median(paired), 4),
                        "p90": round(deciles[-1], 4),
                    },
                    "rounds_below_one": sum(quotient < 1 for quotient in paired),
                    "target": "<= 1",
                    "met": value <= 1,
                }
            )
    return found


def show(result: dict[str, Any]) -> None:
    """Prints the results."""
    print(f"{'variant':<24}" + "".join(f"{key:>14} {'spread':>7}" for key in _MEASURED))
    for one in result["variants"]:
        cells = "".join(f"{one[key]['median']:>14,} {one[key]['spread']:>7.1%}" for key in _MEASURED)
        print(f"{one['variant']:<24}{cells}")
    print()
    for figure in result["figures"]:
        met = "met   " if figure["met"] else "MISSED"
        by_round = ", ".join(f"{name} {value}" for name, value in figure["by_round"].items())
        by_round += f", below 1 in {figure['rounds_below_one']} of {result['rounds']}"
        print(f"{met} {figure['figure']:<48} {figure['value']:>8.4f}  {figure['target']}   by round: {by_round}")


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description="Cost of a start.")
    parser.add_argument("--rounds", type=at_least(ROUNDS_MIN), default=ROUNDS_DEFAULT, help="starts of each variant")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(".venv-bench/alone"),
        help="folder with the virtual environments otel_perf and stock",
    )
    parser.add_argument("--json", metavar="PATH", help="where to write the results")
    options = parser.parse_args()
    machine.require_release_build()
    result = measure(options.rounds, options.environments)
    show(result)
    machine.write(options.json, {**result, **machine.description()})


if __name__ == "__main__":
    main()
