"""Starts an observer process that is nobody's child.

A launcher forks it and ends at once, so that the application's own `os.wait` never sees it. It has a session of its own, lest Ctrl-C in the terminal
end it before its last export, and of the application's descriptors only the channel, lest somebody who reads the application's output to its end
wait for the observer.
"""

from __future__ import annotations

import os
import re
import signal
import site
import sys
import sysconfig
from os import posix_spawn, waitpid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_perf.observer._channel import Channel
    from otel_perf.segment import Segment

CONTROL = 3
"""Descriptor of the channel in the observer."""

# The working directory would be the first place that modules are looked for in; the observer goes back to the application's once it has them.
_LAUNCHER = """
import os, sys
os.setsid()
if os.fork():
    os._exit(0)
for name in os.listdir("/proc/self/fd"):
    if int(name) > 3:
        try:
            os.close(int(name))
        except OSError:
            pass
os.chdir("/")
os.execv(sys.argv[1], sys.argv[1:])
"""
_AUTO_INSTRUMENTATION = "opentelemetry/instrumentation/auto_instrumentation"
# They end with the program that they have started (docker run --init has the last one or the first).
_INITS = ("tini", "dumb-init", "catatonit", "docker-init")
_NOT_INHERITED = ("PYTHONINSPECT", "PYTHONWARNINGS")
_DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)


def why_not(segment: Segment) -> str | None:
    """Why no process of its own can observe a segment, in words; None if one can."""
    if segment.path is None:
        return "the segment is private memory, which no other program can attach to"
    if not re.match(r"(python|pypy)", Path(sys.executable or "-").name, re.IGNORECASE):
        return f"sys.executable is {sys.executable!r}, which is no Python to start"
    if _ends_with_its_container():
        return "all processes of this container end with the application, so that an observer could not export for the last time"
    return None


def _ends_with_its_container() -> bool:
    """Whether this process is the one whose end ends the container, or an init's that goes with it."""
    if os.getpid() == 1:
        return True
    try:
        first = Path("/proc/1/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return False
    return os.getppid() == 1 and first in _INITS


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of an observer: that of the application, in which it finds otel_perf and does not instrument itself.

    Args:
        env: Environment of the application.
    """
    entries = env.get("PYTHONPATH", "").split(os.pathsep)
    paths = [
        str(Path(entry).absolute())
        for entry in entries
        if entry and not entry.rstrip("/").endswith(_AUTO_INSTRUMENTATION)
    ]
    home = str(Path(__file__).parents[2])
    # Installed packages must not come before the standard library.
    if home not in (*paths, sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()):
        paths.append(home)
    kept = {name: value for name, value in env.items() if name not in _NOT_INHERITED}
    kept["PYTHONPATH"] = os.pathsep.join(paths)
    return kept


def launch(path: Path, env: Mapping[str, str], ours: Channel, theirs: Channel) -> None:
    """Starts an observer of a segment. About 15 ms.

    Args:
        path: File of the segment.
        env: Environment of the observer.
        ours: The application's end of the channel.
        theirs: The observer's end, which is closed here.

    Raises:
        OSError: No process can be started; both ends are closed.
    """
    command = [sys.executable, "-m", "otel_perf.observer", str(path)]
    null = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in range(CONTROL)]
    try:
        launcher = posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command],
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL), *null],
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    try:
        waitpid(launcher, 0)
    except ChildProcessError:
        # The application ignores the end of its children, or waits for any of them in another thread.
        return
