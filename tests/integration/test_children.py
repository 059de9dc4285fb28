"""Child processes of every kind: what they count is on the one endpoint of the program and in its one OTLP stream."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.apps.children import KINDS
from tests.peers.observers import until
from tests.peers.otlp import attributes_of, http_receiver, metrics_to
from tests.peers.program import BIN, environment
from tests.peers.prometheus import endpoint_at, free_port, scrape_when

APP = "tests.integration.apps.children"
TASKS = ("children", "children.tasks", frozenset[tuple[str, str]]())


@contextmanager
def program(*kinds: str, **env: str) -> Iterator[int]:
    """The program when it has done what it was asked for: number of tasks."""
    process = subprocess.Popen(
        [str(BIN / "opentelemetry-instrument"), str(BIN / "python"), "-m", APP, *kinds],
        env=environment(**{"OTEL_SERVICE_NAME": "children", **env}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline().split()
        if said[:1] == ["done"]:
            yield int(said[1])
    finally:
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    until(lambda: not list(Path("/dev/shm").glob(f"otel_perf-*-{process.pid}-*")))


@pytest.mark.parametrize("kind", KINDS)
def test_children_count_on_the_endpoint_of_the_program(kind: str) -> None:
    """Each task is counted once, whichever process did it and however it ended; of what callbacks report, that of living processes is left."""
    port = free_port()
    env = {
        **endpoint_at(port),
    }
    with program(kind, **env) as tasks:
        url = f"http://127.0.0.1:{port}/metrics"
        page = scrape_when(url, lambda page: page.total("children_processes") == 1)
        assert page.total("children_tasks_total") == tasks
        assert page.total("children_size_bytes_count") == tasks
        assert page.total("children_size_bytes_sum") == 100 * tasks
        # The fork server lives as long as the program, and has loaded what the program has.
        assert page.total("children_processes") in ((1, 2) if "forkserver" in kind else (1,))


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_children_of_all_kinds_are_one_stream(temporality: str) -> None:
    """An OTLP receiver gets one stream with one instance id, in which each task is counted once."""
    with http_receiver() as receiver:
        env = {
            **metrics_to(receiver, temporality),
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_TRACES_EXPORTER": "none",
        }
        with program(*KINDS, **env) as tasks:
            pass
        resources = [of.resource for request in receiver.requests for of in request.resource_metrics]
        assert len({attributes_of(resource)["service.instance.id"] for resource in resources}) == 1
        points = [receiver.points(number) for number in range(len(receiver.requests))]
        counted = [found[TASKS].as_int for found in points if TASKS in found]
        assert (sum(counted) if temporality == "delta" else max(counted)) == tasks
        if temporality == "cumulative":
            assert counted == sorted(counted)
