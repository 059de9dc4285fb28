"""Programs that the tests run and that are kept outside the tree: ``$XDG_CACHE_HOME/otel_perf``, made once and then whole.

It needs the standard library only, because `make` asks for these programs before anything is installed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class NotHad(Exception):  # noqa: N818 - it is an answer, not a fault of the program.
    """A program cannot be had here; the text is one line that says why."""


def folder() -> Path:
    """Where programs are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel_perf"


def say(text: str) -> None:
    """Prints a line of progress at once."""
    print(text, flush=True)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Holds the right to make what is kept at a place; who comes later waits. The kernel takes it back from a process that ends."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def keep(place: Path, make: Callable[[Path], None]) -> bool:
    """Makes a folder unless it is there.

    It appears under its name only when it is complete, so that an interrupted run leaves nothing that looks ready.

    Args:
        place: The folder.
        make: Fills an empty folder that is given.

    Returns:
        Whether it was made now.

    Raises:
        NotHad: It cannot be made here.
    """
    if place.exists():
        return False
    with _alone(place):
        if place.exists():
            return False
        # What killed runs have left: nobody else makes this place now.
        for left in place.parent.glob(f".{place.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            make(unfinished)
            unfinished.chmod(0o755)
            unfinished.rename(place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return True


def run(command: list[str], log: Path, cwd: Path, step: str, env: Mapping[str, str] | None = None) -> None:
    """Runs a command and tells every half minute that it still does.

    Args:
        command: The command.
        log: What it prints is added to this file.
        cwd: Where it runs.
        step: What it does, for the lines of progress.
        env: Variables beside those of this process.

    Raises:
        NotHad: It failed; the text ends with its last line.
    """
    say(f"  {step} ...")
    began = time.monotonic()
    with log.open("a") as out:
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        except FileNotFoundError:
            raise NotHad(f"{command[0]} is not installed") from None
        try:
            while True:
                try:
                    code = process.wait(30)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  {step}: {time.monotonic() - began:.0f} s, {last_line(log)[:100]}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code != 0:
        raise NotHad(f"{Path(command[0]).name} ended with {code} ({step}): {last_line(log)}")


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def main(name: str, make: Callable[[], str]) -> int:
    """Body of a program that has something made.

    Args:
        name: The target of `make`, for what it prints.
        make: Has it made and tells what there is now.

    Returns:
        The exit status: 1 where it cannot be had.
    """
    try:
        say(make())
    except NotHad as error:
        print(f"make {name}: {error}", file=sys.stderr)
        return 1
    return 0
