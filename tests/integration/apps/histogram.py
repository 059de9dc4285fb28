"""Records as many durations as it is told, in this process and in as many forked children, some of them in exit handlers."""

from __future__ import annotations

import atexit
import os
import sys
import time
from pathlib import Path

from opentelemetry import metrics

recordings, children = int(sys.argv[1]), int(sys.argv[2])
histogram = metrics.get_meter("app").create_histogram("app.duration", unit="s")


def record(times: int) -> None:
    """Records durations from a microsecond to seconds."""
    for number in range(times):
        histogram.record(1e-6 * 1.01 ** (number % 1500), {"route": f"/{number % 3}"})


pids = []
for _ in range(children):
    pid = os.fork()
    if pid == 0:
        record(recordings)
        sys.exit()
    pids.append(pid)
atexit.register(record, recordings)
if len(sys.argv) > 3:
    # Until the log has had an interval, so that it is more than one line that adds up.
    record(recordings)
    deadline = time.monotonic() + 20
    while not Path(sys.argv[3]).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
for pid in pids:
    os.waitpid(pid, 0)
