"""Seconds that the end of a program is held up by a receiver that does not answer, with otel_perf beside the stock distribution.

Run as ``python -m benchmarks.exit [--rounds N] [--environments DIR] [--json PATH]``. The program emits a point, a span and a log record, exported over OTLP, and
says when the first of its exit handlers runs; what is measured is the time from then until the kernel has ended the process. Each round runs every
variant once, in an order that changes from round to round; the control exports nothing. Where an observer process exports, it exports the metrics, and
nobody traces and logs. Receivers are on loopback: ``refused`` has nobody who
listens, ``black hole`` answers no connection, ``silent`` accepts connections and nothing more.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.harness import at_least, progress
from benchmarks.startup import pythons

ROUNDS_MIN = 1
ROUNDS_DEFAULT = 5
TARGET_S = 1.0
PROCESS_TARGET_S = 0.02
"""What exits differ by without any receiver."""
CONTROL = "none"
_PROTOCOLS = ("grpc", "http/protobuf")
_PROCESS = "otel_perf, process"
_IMPLEMENTATIONS = ("otel_perf", _PROCESS, "stock")
_PROVIDERS = {
    "otel_perf": "otel_perf.metrics",
    _PROCESS: "otel_perf.metrics",
    "stock": "opentelemetry.sdk.metrics",
}
_PATIENCE_S = 120
_PROGRAM = """
import atexit, time
from opentelemetry import _logs, metrics, trace
metrics.get_meter("exit").create_counter("orders").add(1)
with trace.get_tracer("exit").start_as_current_span("order"):
    _logs.get_logger("exit").emit(body="order")
print(type(metrics.get_meter_provider()).__module__, flush=True)
atexit.register(lambda: print(time.monotonic_ns(), flush=True))
"""


def _bound() -> socket.socket:
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    return found


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def _refused() -> Iterator[str]:
    with closing(_bound()) as taken:
        yield _url(taken)


@contextmanager
def _black_hole() -> Iterator[str]:
    with ExitStack() as stack:
        listener = stack.enter_context(closing(_bound()))
        listener.listen(0)
        # The queue of those that wait to be accepted is full, so that the kernel drops who comes after them.
        for _ in range(4):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield _url(listener)


@contextmanager
def _silent() -> Iterator[str]:
    accepted: list[socket.socket] = []
    with closing(_bound()) as listener:
        listener.listen(128)

        def accept() -> None:
            # Ends when the listener is shut down.
            with suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield _url(listener)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in accepted:
                connection.close()


@contextmanager
def _nobody() -> Iterator[str]:
    yield ""


_RECEIVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    CONTROL: _nobody,
    "refused": _refused,
    "black hole": _black_hole,
    "silent": _silent,
}


@dataclass
class _Variant:
    """One way to end the program."""

    impl: str
    receiver: str
    protocol: str
    python: Path
    delays_s: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.impl, self.receiver, self.protocol)))

    def environment(self, endpoint: str) -> dict[str, str]:
        # Nothing that the caller's shell says about OpenTelemetry may reach the program.
        chosen = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        exporter = "otlp" if endpoint else "none"
        chosen |= {f"OTEL_{signal}_EXPORTER": exporter for signal in ("METRICS", "TRACES", "LOGS")}
        if self.impl == _PROCESS:
            chosen |= {"OTEL_PERF_OBSERVER": "process", "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
        if endpoint:
            chosen |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol}
        return chosen


def _run(variant: _Variant) -> float:
    """Runs the program once, checks that it was what the variant says, and returns the seconds of its end."""
    wrapper = variant.python.with_name("opentelemetry-instrument")
    with _RECEIVERS[variant.receiver]() as endpoint:
        done = subprocess.run(
            [str(wrapper), str(variant.python), "-c", _PROGRAM],
            env=variant.environment(endpoint),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        ended_ns = time.monotonic_ns()
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"benchmarks: '{variant.name}' ended with status {done.returncode}; the lines above say why")
    provider, began_ns = done.stdout.split()
    if not provider.startswith(_PROVIDERS[variant.impl]):
        sys.stderr.write(done.stderr)
        raise SystemExit(
            f"benchmarks: '{variant.name}' used a provider of {provider}; run 'make bench-exit', which installs both distributions"
        )
    return (ended_ns - int(began_ns)) / 1e9


def measure(rounds: int, environments: Path) -> dict[str, Any]:
    """Runs all variants in turn.

    Args:
        rounds: How often each is run.
        environments: Folder with an environment for each distribution.

    Returns:
        What is written as JSON.
    """
    found = pythons(environments)
    variants = [
        _Variant(impl, receiver, protocol, found["otel_perf" if impl == _PROCESS else impl])
        for receiver in _RECEIVERS
        for protocol in (_PROTOCOLS if receiver != CONTROL else ("",))
        for impl in _IMPLEMENTATIONS
    ]
    # Seeded, so that two runs have the same order.
    order = random.Random(1)
    try:
        for number in range(rounds):
            for variant in order.sample(variants, len(variants)):
                progress(f"round {number + 1} of {rounds}: {variant.name}")
                variant.delays_s.append(_run(variant))
    finally:
        progress(None)
    return {"rounds": rounds, "variants": [_summary(variant) for variant in variants], "figures": _figures(variants)}


def _summary(variant: _Variant) -> dict[str, Any]:
    delays = variant.delays_s
    return {
        "variant": variant.name,
        "impl": variant.impl,
        "receiver": variant.receiver,
        "protocol": variant.protocol,
        "seconds": {
            "median": round(statistics.median(delays), 3),
            "min": round(min(delays), 3),
            "max": round(max(delays), 3),
        },
    }


def _figures(variants: list[_Variant]) -> list[dict[str, Any]]:
    """Our median of each receiver, without that of the control, which is what the interpreter takes to end."""
    medians = {(one.impl, one.receiver, one.protocol): statistics.median(one.delays_s) for one in variants}
    found = []
    for (impl, receiver, protocol), delay in medians.items():
        if impl == "stock" or receiver == CONTROL:
            continue
        target = PROCESS_TARGET_S if impl == _PROCESS else TARGET_S
        delayed = delay - medians[impl, CONTROL, ""]
        found.append(
            {
                "figure": f"exit delayed by, {impl}, {receiver}, {protocol}, s",
                "value": round(delayed, 3),
                "target": f"<= {target:g}",
                "met": delayed <= target,
            }
        )
    return found


def show(result: dict[str, Any]) -> None:
    """Prints the results."""
    print(f"{'variant':<40}{'median s':>10}{'min':>10}{'max':>10}")
    for one in result["variants"]:
        print(f"{one['variant']:<40}" + "".join(f"{one['seconds'][key]:>10.3f}" for key in ("median", "min", "max")))
    print()
    for figure in result["figures"]:
        met = "met   " if figure["met"] else "MISSED"
        print(f"{met} {figure['figure']:<64} {figure['value']:>8.3f}  {figure['target']}")


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exit", description="Delay of an exit.")
    parser.add_argument("--rounds", type=at_least(ROUNDS_MIN), default=ROUNDS_DEFAULT, help="ends of each variant")
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
