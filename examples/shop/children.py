"""Responsible for the demo's child processes: starting them, noticing their death, and ending them in bounded time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

GRACE_S = 5.0
"""How long a terminated child may take before it is killed."""

_POLL_S = 0.05
_TAIL_LINES = 20


class Child:
    """One child process, whose output goes to a log file of its own.

    It is started in a process group of its own, so that a Ctrl-C in the terminal reaches the driver alone: the driver
    lets the requests under way end before it terminates anything.

    Attributes:
        name: What the user knows it as.
        process_id: The process that was started.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path
    ) -> None:
        """Starts the process.

        Args:
            name: What the user knows it as.
            command: The program and its arguments.
            environment: All environment variables of the process.
            directory: Its working directory.
            log: The file that gets its output.

        Raises:
            OSError: The program cannot be started.
        """
        self.name = name
        self._log = log
        self._asked_to_end = False
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.process_id = self._process.pid

    def failure(self) -> str | None:
        """Says what went wrong, with the end of the log; None for a child that runs or ended as it was asked to."""
        status = self._process.poll()
        if status is None or (self._asked_to_end and status in (0, -signal.SIGTERM)):
            return None
        what = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"{self.name} {what}; the end of its log:\n{self.log_tail()}"

    def log_tail(self) -> str:
        """Returns the last lines of its output."""
        with suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            return "\n".join(f"    {line}" for line in lines) or "    (empty)"
        return "    (unreadable)"

    def terminate(self) -> None:
        """Asks the process to end; does nothing where it has ended."""
        self._asked_to_end = self._asked_to_end or self._process.poll() is None
        self._process.terminate()

    def ended(self) -> bool:
        """Whether the process has ended; asks the kernel once."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kills the process with everything it started, which a master's workers would otherwise survive."""
        with suppress(ProcessLookupError):
            os.killpg(self.process_id, signal.SIGKILL)
        self._process.wait()


async def end(children: Sequence[Child]) -> list[str]:
    """Terminates children, waits for them, and kills those that have not ended after the grace of 5 s.

    Args:
        children: The processes; those that ended by themselves are reported.

    Returns:
        What went wrong, one text for each child that failed or had to be killed.
    """
    for child in children:
        child.terminate()
    deadline = time.monotonic() + GRACE_S
    while not all(child.ended() for child in children) and time.monotonic() < deadline:  # noqa: ASYNC110
        # No event tells of another process's end on every event loop, and this waits for 5 s at most.
        await asyncio.sleep(_POLL_S)
    failures = []
    for child in children:
        failure = child.failure() if child.ended() else f"{child.name} had to be killed after {GRACE_S:.0f} s"
        if failure is not None:
            child.kill()
            failures.append(failure)
    return failures


def free_ports(amount: int) -> list[int]:
    """Returns different loopback ports that were free a moment ago.

    Raises:
        OSError: The kernel has no free port.
    """
    with ExitStack() as stack:
        # All are held until the last is known, otherwise the kernel may offer the same port twice.
        sockets = [stack.enter_context(socket.socket()) for _ in range(amount)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def is_free(port: int) -> bool:
    """Whether a server could bind this loopback port now."""
    with socket.socket() as probe:
        # As servers do, so that connections of an earlier run that linger in TIME_WAIT do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
