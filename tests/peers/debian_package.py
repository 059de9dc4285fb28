"""Has servers of Debian's, without being root: packages and what they need are unpacked where programs are kept; `make peers` runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.peers.kept import NotHad, folder, keep, main, run, say

SERVERS = {"redis-server": "redis-server", "memcached": "memcached", "postgres": "postgresql"}
"""The package of each program."""


def apt(state: Path) -> list[str]:
    """The start of an `apt-get` command with lists of its own: those of the system may be empty or old, and only root could renew them."""
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": state,
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": 10,
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
    }
    return ["apt-get", "-q", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]


def _place(program: str) -> Path:
    return folder() / "peers" / program


def found(program: str) -> Path | None:
    """Where a server is: the one that is kept, else the one in ``PATH``; none if there is neither."""
    kept = _place(program)
    names = [kept / "usr" / "bin" / program, *sorted(kept.glob(f"usr/lib/postgresql/*/bin/{program}"))]
    for path in names:
        if path.exists():
            return path
    other = shutil.which(program)
    return Path(other) if other else None


def libraries(program: Path) -> dict[str, str]:
    """Variables with which a server finds the libraries that were unpacked beside it."""
    for root in program.parents:
        if root.parent == folder() / "peers":
            folders = sorted({str(path.parent) for path in root.glob("usr/lib/*-linux-gnu/*.so*")})
            return {"LD_LIBRARY_PATH": os.pathsep.join(folders)} if folders else {}
    return {}


def _unpack(into: Path, program: str) -> None:
    log, state = folder() / "peers" / f"{program}.log", into / "apt"
    log.unlink(missing_ok=True)
    command = apt(state)
    run([*command, "update"], log, into, "fetching the list of packages")
    listed = subprocess.run(
        [*command, "-qq", "--no-install-recommends", "--print-uris", "install", SERVERS[program]],
        capture_output=True,
        text=True,
        check=False,
    )
    # What is installed need not be fetched, and what is set up by root is not needed.
    packages = sorted(set(re.findall(r" (\S+?)_\S+\.deb ", listed.stdout)))
    if not packages:
        raise NotHad(f"apt-get finds no package {SERVERS[program]}")
    run([*command, "download", *packages], log, into, f"fetching {len(packages)} packages")
    for package in into.glob("*.deb"):
        run(["dpkg", "-x", package.name, "."], log, into, f"unpacking {package.name.partition('_')[0]}")
        package.unlink()
    shutil.rmtree(state)


def make() -> str:
    """Fetches the servers that are missing, and tells where they are.

    Raises:
        NotHad: One of them cannot be fetched.
    """
    had = []
    for program, package in SERVERS.items():
        if found(program) is None:
            if not (shutil.which("apt-get") and shutil.which("dpkg")):
                raise NotHad(f"there is no {program} in PATH, and no apt-get to fetch Debian's {package} with")
            say(f"Fetching Debian's {package} (once) ...")
            try:
                keep(_place(program), lambda into, program=program: _unpack(into, program))  # type: ignore[misc]
            except NotHad as error:
                raise NotHad(f"no {program}: {error}") from None
        path = found(program)
        if path is None:
            raise NotHad(f"the packages in {_place(program)} have no {program}")
        done = subprocess.run(
            [str(path), "--version"], capture_output=True, text=True, check=False, env={**os.environ, **libraries(path)}
        )
        if done.returncode != 0:
            raise NotHad(f"{path} does not run: {done.stderr.strip()}")
        had.append(f"{program}: {path}")
    return "\n".join(had)


if __name__ == "__main__":
    sys.exit(main("peers", make))
