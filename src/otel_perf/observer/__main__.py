"""``python -m otel_perf.observer SEGMENT``: the observer process, which an application starts with `OTEL_PERF_OBSERVER=process`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from socket import socket

from otel_perf.observer._channel import Channel
from otel_perf.observer._launch import CONTROL
from otel_perf.observer._observing import observe


def main() -> None:
    """Observes until the application ends; signals that end a whole group of processes do not end it before its last export."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        connection = socket(fileno=CONTROL)
    except OSError:
        sys.exit("The observer is started by an application with OTEL_PERF_OBSERVER=process, and not by hand.")
    # A green socket of the application has made it one that never waits.
    connection.setblocking(True)
    observe(Path(sys.argv[1]), Channel(connection))
    # Not by the interpreter: an export that is stuck in a thread of an exporter must not keep the process alive.
    os._exit(0)


if __name__ == "__main__":
    main()
