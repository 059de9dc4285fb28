"""Real servers that clients in the tests talk to: Redis, memcached and PostgreSQL on loopback, each with a folder of its own, ended at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers import debian_package
from tests.peers.observers import until
from tests.peers.prometheus import free_port

_NOBODY = "nobody"


def _program(name: str) -> tuple[Path, dict[str, str]]:
    path = debian_package.found(name)
    if path is None:
        pytest.skip(f"{name} is not installed; run: make peers")
    return path, {**os.environ, **debian_package.libraries(path)}


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def _serving(command: list[str], env: dict[str, str], port: int, user: str | None = None) -> Iterator[int]:
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, user=user)
        try:
            until(lambda: _answers(port) or process.poll() is not None, 30)
            log.seek(0)
            assert process.poll() is None, log.read()
            yield port
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def redis_server() -> Iterator[int]:
    """A Redis without persistence; its port."""
    program, env = _program("redis-server")
    port = free_port()
    command = [str(program), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with tempfile.TemporaryDirectory() as folder, _serving([*command, "--dir", folder], env, port):
        yield port


@contextmanager
def memcached_server() -> Iterator[int]:
    """A memcached; its port."""
    program, env = _program("memcached")
    port = free_port()
    command = [str(program), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "8"]
    if os.geteuid() == 0:
        command += ["-u", _NOBODY]
    with _serving(command, env, port):
        yield port


@contextmanager
def postgres_server() -> Iterator[int]:
    """A PostgreSQL with a superuser ``postgres`` that needs no password; its port."""
    program, env = _program("postgres")
    # Whoever started it by a link finds initdb beside it.
    initdb = program.resolve().parent / "initdb"
    port = free_port()
    # It refuses to run as root.
    user = _NOBODY if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp())
    try:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data = folder / "data"
        done = subprocess.run(
            [str(initdb), "--pgdata", str(data), "--username", "postgres", "--auth", "trust", "--no-sync"],
            env=env,
            capture_output=True,
            text=True,
            user=user,
            cwd=folder,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        command = [str(program), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
        with _serving(command, env, port, user):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)
