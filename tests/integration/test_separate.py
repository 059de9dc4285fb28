"""OTEL_PERF_WORKERS=separate: each process of a program is a stream of metrics of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_perf.segment import find
from tests.peers.hdr_log import totals
from tests.peers.observers import until
from tests.peers.otlp import attributes_of, http_receiver, metrics_to
from tests.peers.program import BIN, environment
from tests.peers.prometheus import Scrape, endpoint_at, free_port, scrape_when

APP = "tests.integration.apps.separate"
ID = "service.instance.id"
SERVICE = "separate"
AMOUNTS = {1.0, 2.0, 3.0, 10.0}
COUNT = ("app", "app.count", frozenset[tuple[str, str]]())


@contextmanager
def program(**env: str) -> Iterator[dict[int, int]]:
    """The program when all four processes have recorded: process ids by what each has counted."""
    process = subprocess.Popen(
        [str(BIN / "opentelemetry-instrument"), str(BIN / "python"), "-m", APP],
        env=environment(**{"OTEL_SERVICE_NAME": SERVICE, "OTEL_PERF_WORKERS": "separate", **env}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    pids: dict[int, int] = {}
    try:
        for line in process.stdout:
            _, amount, pid = line.split()
            pids[int(amount)] = int(pid)
            if len(pids) == len(AMOUNTS):
                break
        yield pids
    finally:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert err == ""
    until(lambda: not find(SERVICE))


def endpoints(first: int) -> dict[float, Scrape]:
    """What the endpoints at four ports say, by count."""
    found = {}
    for port in range(first, first + 4):
        answer = scrape_when(f"http://127.0.0.1:{port}/metrics", lambda page: page.total("app_count_total") > 0)
        found[answer.total("app_count_total")] = answer
    return found


def instance(page: Scrape) -> str:
    """``service.instance.id`` of a scrape."""
    (labels,) = (dict(labels) for name, labels in page.samples if name == "target_info")
    return labels["service_instance_id"]


def four_free_ports() -> int:
    """The first of four ports that nobody has; they are not those that the kernel hands out."""
    return free_port() % 20_000 + 10_000


@pytest.mark.parametrize("observer", ["thread", "process"])
def test_each_process_has_an_endpoint_with_what_it_has_counted_itself(observer: str) -> None:
    """Parent, forked child, grandchild and spawned child serve each its own counts and its own instance id, at ports that follow each other."""
    port = four_free_ports()
    env = {
        **endpoint_at(port),
        "OTEL_PERF_OBSERVER": observer,
    }
    with program(**env):
        pages = endpoints(port)
        assert set(pages) == AMOUNTS
        assert len({instance(page) for page in pages.values()}) == len(AMOUNTS)
        assert {page.total("app_size_bytes_count") for page in pages.values()} == AMOUNTS
        assert {count: page.total("app_size_bytes_sum") for count, page in pages.items()} == {
            amount: amount * amount for amount in AMOUNTS
        }


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_each_process_exports_a_stream_with_an_instance_id_of_its_own(temporality: str) -> None:
    """An OTLP receiver gets four streams, one for each process, in either temporality."""
    with http_receiver() as receiver:
        env = {
            **metrics_to(receiver, temporality),
            "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
            "OTEL_TRACES_EXPORTER": "none",
        }
        with program(**env):
            pass
        counted: dict[str, int] = {}
        for number, request in enumerate(receiver.requests):
            (of,) = request.resource_metrics
            points = receiver.points(number)
            identity = attributes_of(of.resource)[ID]
            assert identity not in counted
            counted[identity] = points[COUNT].as_int
        assert sorted(counted.values()) == sorted(AMOUNTS)


def test_each_process_has_a_log_with_its_process_id(tmp_path: Path) -> None:
    """The interval logs of four processes are four files."""
    log = tmp_path / "intervals.hlog"
    with program(OTEL_METRICS_EXPORTER="none", OTEL_PERF_HDR_LOG=str(log)) as pids:
        pass
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {f"{log.name}.{pid}" for pid in pids.values()}
    for amount, pid in pids.items():
        assert sum(totals(f"{log}.{pid}").values()) == amount
