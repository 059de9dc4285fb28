"""Servers with four workers: all requests are counted, on one endpoint, whichever worker has answered them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

from tests.peers.observers import until
from tests.peers.prometheus import Scrape, scrape_when
from tests.peers.servers import Load, Server, needs, server

WSGI = "tests.integration.apps.served:application"
ASGI = "tests.integration.apps.served:asgi"
REQUESTS = 300
GUNICORN = ("gunicorn", "--workers", "4", "--bind", "127.0.0.1:{port}")


UWSGI = (
    "pyuwsgi",
    *("--http-socket", "127.0.0.1:{port}", "--processes", "4", "--listen", "64"),
    *("--master", "--enable-threads", "--need-app", "--die-on-term", "--disable-logging"),
)


@dataclass(frozen=True)
class Started:
    """How a server is started, and how many processes of it have callbacks at least: uWSGI's workers from their first request on."""

    command: tuple[str, ...]
    processes: int = 4


SERVERS = {
    "gunicorn sync": Started((*GUNICORN, WSGI)),
    "gunicorn sync preloaded": Started((*GUNICORN, "--preload", WSGI), 5),
    "gunicorn gthread": Started((*GUNICORN, "--worker-class", "gthread", "--threads", "4", WSGI)),
    "gunicorn gthread preloaded": Started(
        (*GUNICORN, "--worker-class", "gthread", "--threads", "4", "--preload", WSGI), 5
    ),
    "gunicorn gevent": Started((*GUNICORN, "--worker-class", "gevent", WSGI)),
    "gunicorn gevent preloaded": Started((*GUNICORN, "--worker-class", "gevent", "--preload", WSGI), 5),
    "gunicorn uvicorn": Started((*GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker", ASGI)),
    "gunicorn uvicorn preloaded": Started(
        (*GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker", "--preload", ASGI), 5
    ),
    "uwsgi": Started((*UWSGI, "--module", WSGI), 1),
    "uwsgi lazy": Started((*UWSGI, "--lazy-apps", "--module", WSGI), 1),
    "uvicorn": Started(("uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--workers", "4", ASGI)),
}


def check(running: Server, load: Load, before: float) -> None:
    """What was sent is what was counted, and no scrape has said less than the one before."""
    counts = load.counts
    assert counts == sorted(counts), counts
    for _ in range(5):
        page = running.scrape()
        assert page.total("served_requests_total", route="/") == before + load.sent, running.output()
        assert page.total("served_size_bytes_count") == before + load.sent
        assert page.total("served_size_bytes_sum") == 100 * (before + load.sent)
        assert page.total("served_active") == 0
        assert page.total("served_last") == 7
        assert sum(name == "target_info" for name, _ in page.samples) == 1


@pytest.mark.parametrize("name", ["gunicorn sync", "gunicorn gthread preloaded", "uvicorn"])
def test_an_observer_process_counts_for_all_workers(name: str) -> None:
    """With a process that exports for the group there is one endpoint as well, with the same counts."""
    started = SERVERS[name]
    service = f"observed-{name.replace(' ', '-')}"
    with server(*started.command, service=service, workers=started.processes, OTEL_PERF_OBSERVER="process") as running:
        before = running.count()
        check(running, running.load(REQUESTS), before)


@pytest.mark.parametrize("name", SERVERS)
def test_all_requests_are_counted_on_one_endpoint(name: str) -> None:
    """Under load from four clients every scrape says at least as much as the one before, and in the end exactly what was sent."""
    started = SERVERS[name]
    needs(started.command[0])
    service = name.replace(" ", "-")
    with server(*started.command, service=service, workers=started.processes) as running:
        before = running.count()
        load = running.load(REQUESTS)
        check(running, load, before)
        page = running.scrape()
        own = [dict(labels) for found, labels in page.samples if found == "process_served"]
        assert len({labels["otel_perf_worker"] for labels in own}) == len(own) == page.total("served_workers")
        assert started.processes in (1, len(own))
        assert len(load.answers) > 1, "one worker has answered everything"
        assert "Traceback" not in running.output()


def test_a_rolling_restart_loses_no_count() -> None:
    """Gunicorn replaces all workers at SIGHUP, twice under load: requests are answered and counted all the same."""
    with server(*GUNICORN, WSGI, service="gunicorn-hup") as running:
        before = running.count()
        load = running.load(50)
        for _ in range(2):
            old = set(load.answers)
            os.kill(running.process.pid, signal.SIGHUP)
            # Until all that answer are new ones; each of the loads takes some tenths of a second.
            while old & set((more := running.load(40)).answers):
                load.add(more)
            load.add(more)
        assert len(load.answers) > 8
        assert settled(running, partial(has_workers, 4)).total("served_workers") == 4
        check(running, load, before)


def test_recycled_workers_leave_their_counts_behind() -> None:
    """Gunicorn replaces each worker after 20 requests; 300 requests are answered by more than 10 processes and counted exactly."""
    command = (*GUNICORN, "--max-requests", "20", WSGI)
    with server(*command, service="gunicorn-recycled", workers=1) as running:
        before = running.count()
        load = running.load(REQUESTS)
        assert len(load.answers) > 10
        check(running, load, before)


def test_more_and_fewer_workers_count_as_one_service() -> None:
    """Workers that gunicorn adds at SIGTTIN are counted, and those that it takes away at SIGTTOU leave their counts behind and their gauges not."""
    with server(*GUNICORN, WSGI, service="gunicorn-scaled") as running:
        before = running.count()
        load = running.load(50)
        for workers in (5, 6, 5, 4, 3, 2):
            # One after the other, because the kernel delivers one of several signals that wait.
            grows = workers > running.scrape().total("served_workers")
            os.kill(running.process.pid, signal.SIGTTIN if grows else signal.SIGTTOU)
            assert settled(running, partial(has_workers, workers)).total("served_workers") == workers
            load.add(running.load(50))
        check(running, load, before)


def has_workers(number: int, page: Scrape) -> bool:
    """Whether so many workers report."""
    return page.total("served_workers") == number


def settled(running: Server, holds: Callable[[Scrape], bool]) -> Scrape:
    """The first scrape of which something holds."""
    return scrape_when(f"http://127.0.0.1:{running.metrics_port}/metrics", holds, 20)


def test_uwsgi_without_threads_says_that_nothing_is_exported() -> None:
    """Its workers answer, and one warning in each names the option that is missing."""
    needs(UWSGI[0])
    command = (*(option for option in UWSGI if option != "--enable-threads"), "--module", WSGI)
    with server(*command, service="uwsgi-without-threads", workers=0) as running:
        running.load(20)
        until(lambda: "start it with --enable-threads" in running.output())
        assert "Traceback" not in running.output()
