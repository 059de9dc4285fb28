"""Runs programs under ``opentelemetry-instrument`` and talks to them, each ended by its own process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

BIN = Path(sys.prefix) / "bin"
ROOT = Path(__file__).parents[2]
DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"


CLIENT_INSTRUMENTATIONS = ",".join(
    sorted(
        {entry_point.name for entry_point in entry_points(group="opentelemetry_instrumentor")}
        - {"asgi", "fastapi", "flask", "httpx", "requests", "sqlite3", "wsgi"}
    )
)
"""Instrumentations that are installed for tests of their own: the wrapper would start them in all programs, and load their libraries, some of which warn."""


def environment(**extra: str) -> dict[str, str]:
    """The environment of this process without its OpenTelemetry variables and without `CLIENT_INSTRUMENTATIONS`, with the project importable; a ``PYTHONPATH`` is added to it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    # What the tests were told to import comes along, for example the sources of another checkout.
    paths = [str(ROOT), *filter(None, [env.get("PYTHONPATH"), extra.pop("PYTHONPATH", "")])]
    return {
        **env,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        DISABLED: CLIENT_INSTRUMENTATIONS,
        **extra,
    }


@dataclass
class Finished:
    """A program that has ended.

    Attributes:
        code: Exit status.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str


def run(*command: str, timeout: float = 60, wrapper: bool = True, **env: str) -> Finished:
    """Runs a Python program to its end, under the wrapper unless stated otherwise; one that does not end in time fails with what its threads are doing."""
    prefix = [str(BIN / "opentelemetry-instrument")] if wrapper else []
    process = subprocess.Popen(
        [*prefix, str(BIN / "python"), *command],
        env=environment(**{"PYTHONFAULTHANDLER": "1", **env}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        try:
            out, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            # Somebody else has its output.
            process.kill()
            out = err = "unknown"
        raise AssertionError(f"the program has not ended within {timeout} s:\n{out}\n{err}") from None
    return Finished(process.returncode, out, err)


@dataclass
class Running:
    """A program that runs.

    Attributes:
        pid: Its process id.
        err: Standard error, complete once it has ended.
    """

    pid: int
    err: list[str] = field(default_factory=list)


@contextmanager
def started(*command: str, ready: str | None = None, timeout: float = 30, **env: str) -> Iterator[Running]:
    """Starts a program under the wrapper, waits until a URL answers, and ends it by SIGTERM."""
    process = subprocess.Popen(
        [str(BIN / "opentelemetry-instrument"), *command],
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Running(process.pid)
    try:
        if ready is not None:
            _wait(ready, process, time.monotonic() + timeout)
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            out, _ = process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        running.err.append(out)


def _wait(url: str, process: subprocess.Popen[str], deadline: float) -> None:
    while time.monotonic() < deadline:
        if process.poll() is not None:
            out, _ = process.communicate()
            raise AssertionError(f"the program ended with {process.returncode}:\n{out}")
        try:
            get(url)
        except OSError:
            # Not listening yet: the kernel refuses at once, so the loop is paced by a short wait for the process itself.
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    raise AssertionError(f"{url} did not answer")


def get(url: str) -> int:
    """Status of a GET request."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
