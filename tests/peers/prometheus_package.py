"""Has Debian's Prometheus, without being root: its package is unpacked where programs are kept; `make peers` runs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.peers.debian_package import apt
from tests.peers.kept import NotHad, folder, keep, main, run, say

TESTED = ((2, 40), (2, 99))
"""Versions that the scrape configuration fits: the first with native histograms, and the last before a setting must ask for them."""


def _place() -> Path:
    return folder() / "peers" / "prometheus"


def _fits(program: str) -> bool:
    """Whether a program is a Prometheus of a version that the tests are made for."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.search(r"version (\d+)\.(\d+)", done.stdout + done.stderr)
    return found is not None and TESTED[0] <= (int(found[1]), int(found[2])) <= TESTED[1]


def binaries() -> tuple[str, str] | None:
    """Prometheus and promtool: those that are kept, else those in ``PATH``; none if there is no pair that fits."""
    kept = _place() / "usr" / "bin"
    for search in (str(kept), None):
        found = shutil.which("prometheus", path=search), shutil.which("promtool", path=search)
        if found[0] and found[1] and _fits(found[0]):
            return found[0], found[1]
    return None


def _unpack(into: Path) -> None:
    """Fetches the package and unpacks it into an empty folder.

    Raises:
        NotHad: This is no Debian, or its packages cannot be fetched.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise NotHad("there is no Prometheus 2.40 to 2.x in PATH, and no apt-get to fetch Debian's with")
    say("Fetching Debian's Prometheus (once; 19 MB) ...")
    log, state = folder() / "peers" / "prometheus.log", into / "apt"
    log.unlink(missing_ok=True)
    command = apt(state)
    try:
        run([*command, "update"], log, into, "fetching the list of packages")
        run([*command, "download", "prometheus"], log, into, "fetching the package")
        (package,) = into.glob("prometheus_*.deb")
        run(["dpkg", "-x", package.name, "."], log, into, "unpacking")
    except NotHad as error:
        raise NotHad(f"no Prometheus: {error}; the whole log is {log}") from None
    package.unlink()
    shutil.rmtree(state)


def make() -> str:
    """Fetches it unless there is one, and tells where it is.

    Raises:
        NotHad: There is none and it cannot be fetched.
    """
    found = binaries()
    if found is None:
        keep(_place(), _unpack)
        found = binaries()
    if found is None:
        raise NotHad(f"the Prometheus in {_place()} does not run or is none of the tested versions, 2.40 to 2.x")
    return f"Prometheus: {found[0]}"


if __name__ == "__main__":
    sys.exit(main("peers", make))
