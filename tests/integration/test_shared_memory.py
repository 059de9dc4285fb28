"""Shared memory that is full, missing or shared with others: workers count on one endpoint all the same, and nobody takes what is another's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import pytest

from otel_perf.segment import Segment, find
from tests.peers.observers import until
from tests.peers.program import BIN, environment
from tests.peers.prometheus import Scrape, endpoint_at, free_port, scrape_when

APP = "tests.integration.apps.children"
TASKS = 25 * 4
PRIVATE = "Metrics are kept in private memory"

PLACES = {
    "full": "mount -t tmpfs -o size=64k,mode=1777 tmpfs /dev/shm",
    "read-only": "mount -t tmpfs -o ro tmpfs /dev/shm",
    "missing": "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9",
}


@cache
def may_unshare() -> bool:
    """Whether this user may make namespaces."""
    return (
        subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False).returncode
        == 0
    )


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if not may_unshare():
        pytest.skip("this user may not make namespaces (unshare)")


@contextmanager
def program(service: str, port: int, *around: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A program that has counted in a child, forked by hand, of each kind; `around` is what it runs in."""
    process = subprocess.Popen(
        [*around, str(BIN / "opentelemetry-instrument"), str(BIN / "python"), "-m", APP, "by_hand"],
        env=environment(
            **{
                "OTEL_SERVICE_NAME": service,
                **endpoint_at(port),
                **env,
            }
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"done {TASKS}\n", process.communicate()[1]
        yield process
    finally:
        if process.poll() is None:
            with suppress(BrokenPipeError):
                process.communicate(timeout=30)


def page(port: int) -> Scrape:
    """What the endpoint says when all tasks are counted."""
    return scrape_when(f"http://127.0.0.1:{port}/metrics", lambda found: found.total("children_tasks_total") >= TASKS)


@pytest.mark.parametrize("place", PLACES)
def test_without_shared_memory_forked_workers_count_in_private_memory(place: str) -> None:
    """One warning names the reason; what forked workers count is on the endpoint, exactly."""
    port = free_port()
    inside = ("unshare", "--mount", "sh", "-c", f'{PLACES[place]} && exec "$@"', "sh")
    with program(f"shm-{place}", port, *inside) as process:
        assert page(port).total("children_tasks_total") == TASKS
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    (line,) = err.splitlines()
    assert PRIVATE in line
    assert "/dev/shm" in line


def test_two_services_and_two_instances_of_one_are_counted_apart() -> None:
    """Each of three programs that run at once has a segment and an endpoint of its own, with what it has counted and no more."""
    ports = [free_port() for _ in range(3)]
    one, other, another = ports
    with program("apart-a", one), program("apart-b", other), program("apart-b", another):
        assert len(find("apart-a")) == 1
        assert len(find("apart-b")) == 2
        for port in ports:
            assert page(port).total("children_tasks_total") == TASKS


def test_who_finds_the_port_taken_goes_on_and_serves_when_it_is_free() -> None:
    """The second instance on a port warns and works; when the first one ends, it serves there."""
    port = free_port()
    with program("port-first", port) as first, program("port-second", port) as second:
        assert page(port).total("children_tasks_total") == TASKS
        first.communicate(timeout=30)
        found = scrape_when(
            f"http://127.0.0.1:{port}/metrics", lambda found: 'service_name="port-second"' in found.text, timeout=20
        )
        assert 'service_name="port-second"' in found.text
        assert found.total("children_tasks_total") == TASKS
        _, err = second.communicate(timeout=30)
    taken, had = err.splitlines()
    assert f"127.0.0.1:{port} cannot be used" in taken
    assert f"is at 127.0.0.1:{port} now" in had


def test_a_segment_of_another_pid_namespace_lives_as_long_as_its_processes() -> None:
    """Who shares /dev/shm but no process ids neither removes a segment that is used nor takes one of dead processes for one."""
    port = free_port()
    inside = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with program("in-a-container", port, *inside) as process:
        (path,) = find("in-a-container")
        # The file is older than the time that one may take to be made.
        until(lambda: time.time() - path.stat().st_mtime > 1.5)
        Segment.create(service_name="outside").close()
        assert path.exists()
        assert page(port).total("children_tasks_total") == TASKS
        (group,) = json.loads(doctor("in-a-container"))
        assert group["leader"] is not None
        assert len(group["workers"]) == 1
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        until(lambda: not find("in-a-container"))
        assert path.exists()
        Segment.create(service_name="outside").close()
        assert not path.exists()


def test_a_segment_outside_is_left_alone_by_those_in_another_pid_namespace() -> None:
    """A program that starts in a pid namespace of its own reaps nothing that is used outside, although no such process ids are seen there."""
    inside = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    ports = free_port(), free_port()
    with program("outside", ports[0]):
        (path,) = find("outside")
        until(lambda: time.time() - path.stat().st_mtime > 1.5)
        with program("inside", ports[1], *inside):
            assert path.exists()
            for port in ports:
                assert page(port).total("children_tasks_total") == TASKS


def doctor(service: str) -> str:
    """What ``otel-perf doctor`` says."""
    command = [sys.executable, "-m", "otel_perf.cli", "doctor", "--json", "--service", service]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30, check=False).stdout
