"""Forks a thousand children while eight threads record, and prints what should have been counted and what went wrong.

Each child records once and ends without exit handlers; one that hangs is ended by a signal after ten seconds. Every fiftieth looks whether it has inherited a
socket that listens. At the end the program waits for the end of its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from opentelemetry import metrics

THREADS = 8
BURST = 20
GUARD_S = 10
INHERITED = 3

_meter = metrics.get_meter("storm")
_events = _meter.create_counter("storm.events")
_sizes = _meter.create_histogram("storm.size", "By")


def record(number: int) -> None:
    """Records one event."""
    _events.add(1, {"kind": str(number % 5)})
    _sizes.record(number % 1000)


def listens() -> bool:
    """Whether this process has a socket that listens."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError, ValueError), socket.socket(fileno=os.dup(int(entry.name))) as found:
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return True
    return False


def child(number: int) -> None:
    """What a child does."""
    signal.alarm(GUARD_S)
    record(number)
    os._exit(INHERITED if number % 50 == 0 and listens() else 0)


def main() -> None:
    """Forks and records."""
    forks = int(sys.argv[1])
    over = threading.Event()
    recorded = [0] * THREADS

    def work(own: int) -> None:
        while not over.is_set():
            for _ in range(BURST):
                record(recorded[own])
                recorded[own] += 1
            # Without it each fork would wait for the turns of eight threads.
            time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    ends: dict[str, int] = {}
    for number in range(forks):
        pid = os.fork()
        if pid == 0:
            child(number)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        ends[str(code)] = ends.get(str(code), 0) + 1
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"recorded": sum(recorded) + forks, "ends": ends}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
