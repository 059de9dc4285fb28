"""Celery's pre-forked workers, which are replaced after some tasks: all tasks are counted on one endpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.peers.observers import until
from tests.peers.program import BIN, environment, run
from tests.peers.prometheus import endpoint_at, free_port, scrape, scrape_when
from tests.peers.servers import needs

TASKS = 60
APP = "tests.integration.apps.tasks"


def test_tasks_of_recycled_workers_are_counted_on_one_endpoint(tmp_path: Path) -> None:
    """60 tasks in workers that do 5 each are counted once each, no scrape says less than the one before, and nothing is left behind."""
    needs("celery")
    port = free_port()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [
                *(str(BIN / "opentelemetry-instrument"), str(BIN / "celery"), "--app", APP, "worker"),
                *("--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "5"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            env=environment(
                TASKS_FOLDER=str(tmp_path),
                OTEL_SERVICE_NAME="celery",
                **endpoint_at(port),
                C_FORCE_ROOT="1",
            ),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{port}/metrics"
        try:
            done = run("-m", APP, str(TASKS), wrapper=False, TASKS_FOLDER=str(tmp_path))
            assert done.code == 0, done.err
            counts = [0.0]

            def is_done() -> bool:
                page = scrape_when(url, lambda _: True, 30)
                counts.append(page.total("tasks_done_total"))
                file = tmp_path / "done"
                return file.exists() and len(file.read_text().splitlines()) >= TASKS

            until(is_done, 60)
            assert counts == sorted(counts)
            scrape_when(url, lambda page: page.total("tasks_done_total") >= TASKS)
            for _ in range(3):
                page = scrape(url)
                assert page.total("tasks_done_total") == TASKS
                assert page.total("tasks_size_bytes_count") == TASKS
            assert len(set((tmp_path / "done").read_text().split())) >= TASKS / 5
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            log.seek(0)
            print(log.read())
    assert process.returncode == 0
    until(lambda: not list(Path("/dev/shm").glob(f"otel_perf-*-{process.pid}-*")))
