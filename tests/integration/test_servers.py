"""Servers with four workers: all requests are counted, on one endpoint, whichever worker has answered them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

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
