"""A group of processes that record without end, any of which may be killed: whoever is told to by SIGUSR1 forks another one.

The arguments are a file for the truth and the number of processes. Each process writes the number of events that it has finished recording into the file,
as 8 bytes at 8 times its process id, after each event: so that the truth about one that is killed is known but for the one event that it was recording.
The 8 bytes at 0 stop the recording, but for 1, which all start with. Each process prints its id when it begins.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import time
from pathlib import Path

from opentelemetry import metrics

_meter = metrics.get_meter("prefork")
_events = _meter.create_counter("prefork.events")
_sizes = _meter.create_histogram("prefork.size", "By")
_active = _meter.create_up_down_counter("prefork.active")

BURST = 50


class Forks:
    """Whether this process is to fork."""

    wanted = 0


def want(_number: int, _frame: object) -> None:
    """Notes that a process is wanted."""
    Forks.wanted += 1


def say(own: int) -> None:
    """Prints a line in one piece, because several processes print at once."""
    os.write(1, f"{own}\n".encode())


def work(truth: memoryview) -> None:
    """Records until it is told to stop, and then does nothing until the end."""
    own = os.getpid()
    say(own)
    _active.add(1)
    done = 0
    while True:
        for _ in range(BURST):
            if truth[0] != 1:
                break
            _events.add(1)
            _sizes.record(done)
            done += 1
            truth[own] = done
        if Forks.wanted:
            Forks.wanted -= 1
            if os.fork() == 0:
                Forks.wanted = 0
                own, done = os.getpid(), 0
                say(own)
                _active.add(1)
        time.sleep(0.001)


def main() -> None:
    """Starts the group, of which this process is one."""
    size = 8 * (int(Path("/proc/sys/kernel/pid_max").read_text()) + 1)
    with Path(sys.argv[1]).open("r+b") as file:
        truth = memoryview(mmap.mmap(file.fileno(), size)).cast("Q")
    signal.signal(signal.SIGUSR1, want)
    # Nobody waits for those that end.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(int(sys.argv[2]) - 1):
        if os.fork() == 0:
            break
    work(truth)


if __name__ == "__main__":
    main()
