"""Applications with an observer process, and the observers of a segment by what the kernel says of processes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tests.peers.program import BIN, environment

APP = "tests.integration.apps.observed"
ENVIRONMENT: dict[str, Any] = {
    "OTEL_PERF_OBSERVER": "process",
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    # Instrumentations load what they instrument, for example requests.
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(e.name for e in entry_points(group="opentelemetry_instrumentor")),
}


def until(holds: Callable[[], object], timeout: float = 20.0) -> None:
    """Waits until something holds; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.02)


def observers(segment: str) -> list[int]:
    """Process ids of the observers of a segment that run."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                arguments = (process / "cmdline").read_bytes().split(b"\0")
                if arguments[1:4] == [b"-m", b"otel_perf.observer", segment.encode()]:
                    found.append(int(process.name))
    return found


def descriptors(pid: int) -> list[str]:
    """What a process has open: the targets of its descriptors."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return found


@dataclass
class Application:
    """An application that runs.

    Attributes:
        process: The process.
        segment: Path of its segment.
        lines: What it printed before.
    """

    process: subprocess.Popen[str]
    segment: str
    lines: list[str]

    def observer(self) -> int:
        """Waits for its one observer and returns its process id."""
        until(lambda: len(observers(self.segment)) == 1)
        return observers(self.segment)[0]

    def end(self) -> str:
        """Ends its input, and so the application, and returns what it printed to standard error."""
        out, err = self.process.communicate(timeout=30)
        self.lines += out.splitlines()
        return err

    def nothing_is_left(self, timeout: float = 30.0) -> None:
        """Waits until the observer is gone, and fails if it has left the segment behind."""
        until(lambda: not observers(self.segment), timeout)
        assert not Path(self.segment).exists()


@contextmanager
def application(what: str, **env: str) -> Iterator[Application]:
    """Starts an application, waits until it has recorded everything, and leaves neither it nor an observer behind."""
    process = subprocess.Popen(
        [str(BIN / "opentelemetry-instrument"), str(BIN / "python"), "-m", APP, what],
        env=environment(**{**ENVIRONMENT, **env}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("segment "):
            break
    else:
        raise AssertionError(f"the program ended: {lines}\n{process.communicate()[1]}")
    running = Application(process, lines[-1].split()[1], lines)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
        until(lambda: not observers(running.segment), 40)
