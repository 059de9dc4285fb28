"""A group of processes that record while a test kills some of them, see `tests.integration.apps.prefork`."""

from __future__ import annotations

import mmap
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from otel_perf.segment import Segment, find
from tests.peers.observers import until
from tests.peers.program import BIN, environment
from tests.peers.prometheus import Scrape, endpoint_at, free_port, scrape

APP = "tests.integration.apps.prefork"


@dataclass
class Group:
    """A group that runs.

    Attributes:
        service: Name of the service.
        first: The process that was started.
        port: Where the endpoint is.
        pids: Processes that have begun, in that order.
        alive: Those of them that were not killed.
        counts: What the scrapes said so far.
        gaps_s: Seconds for which no scrape was answered after the end of a leader.
    """

    service: str
    first: int
    port: int
    truth: memoryview
    pids: list[int] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(6))

    def page(self) -> Scrape:
        """One scrape."""
        return scrape(f"http://127.0.0.1:{self.port}/metrics")

    def scrape(self) -> bool:
        """Scrapes once; whether somebody answered."""
        try:
            self.counts.append(self.page().total("prefork_events_total"))
        except OSError:
            return False
        return True

    def recorded(self) -> int:
        """Events that were finished."""
        return sum(self.truth[pid] for pid in self.pids)

    def leader(self) -> int:
        """The process that leads, when there is one."""
        (path,) = find(self.service)
        segment = Segment.attach(path)
        leader = 0

        def is_found() -> bool:
            nonlocal leader
            leader = segment.status()["leader"] or 0
            return leader > 0

        until(is_found, 5)
        return leader

    def kill(self, pid: int) -> None:
        """Kills a process and has one of the others fork the next."""
        before = len(self.pids)
        self.alive.remove(pid)
        os.kill(pid, signal.SIGKILL)
        os.kill(self._random.choice(self.alive), signal.SIGUSR1)
        until(lambda: len(self.pids) > before, 10)

    def kill_any(self, *, but: int) -> None:
        """Kills any process but one."""
        self.kill(self._random.choice([pid for pid in self.alive if pid != but]))

    def kill_leader(self) -> None:
        """Kills the process that leads, and measures for how long nobody answers."""
        leader = self.leader()
        began = time.monotonic()
        self.kill(leader)
        until(self.scrape, 10)
        self.gaps_s.append(time.monotonic() - began)

    def stop(self) -> None:
        """Has all processes stop recording, and waits until they have."""
        self.truth[0] = 2
        last = -1

        def is_quiet() -> bool:
            nonlocal last
            before, last = last, self.recorded()
            # Longer than a process takes from one event to the next, unless it does not run.
            time.sleep(0.1)
            return before == last

        until(is_quiet)


@contextmanager
def group(folder: Path, processes: int, service: str, **env: str) -> Iterator[Group]:
    """Starts a group and ends all of it.

    Args:
        folder: Place for the truth.
        processes: Their number.
        service: Name of the service.
        **env: Further variables.
    """
    file = folder / "truth"
    size = 8 * (int(Path("/proc/sys/kernel/pid_max").read_text()) + 1)
    with file.open("wb") as made:
        made.truncate(size)
    with file.open("r+b") as opened:
        truth = memoryview(mmap.mmap(opened.fileno(), size)).cast("Q")
    truth[0] = 1
    port = free_port()
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [str(BIN / "opentelemetry-instrument"), str(BIN / "python"), "-m", APP, str(file), str(processes)],
        env=environment(
            **{
                "OTEL_SERVICE_NAME": service,
                **endpoint_at(port),
                **env,
            }
        ),
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    running = Group(service, process.pid, port, truth)

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                running.alive.append(int(line))
                running.pids.append(int(line))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        until(lambda: len(running.pids) == processes and running.scrape())
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(10)
        log.close()
    assert (folder / "log").read_text() == ""
