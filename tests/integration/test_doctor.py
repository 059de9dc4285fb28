"""``otel-perf doctor`` beside a real group of workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

from tests.peers.observers import until
from tests.peers.program import BIN, environment, get
from tests.peers.servers import Server, server

WSGI = "tests.integration.apps.served:application"
GUNICORN = ("gunicorn", "--workers", "3", "--bind", "127.0.0.1:{port}", WSGI)


def doctor(*options: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a program of its own."""
    command = [str(BIN / "otel-perf"), "doctor", *options]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30, check=False)


def examined(running: Server) -> dict[str, Any]:
    """What it says of a server."""
    (group,) = json.loads(doctor("--json", "--service", running.service).stdout)
    found: dict[str, Any] = group
    return found


def test_a_running_group_is_shown_and_not_touched() -> None:
    """Master and workers are listed with their lanes, the master leads, the endpoint answers, and looking twice changes nothing."""
    with server(*GUNICORN, service="doctor-group", workers=3) as running:
        running.load(30)
        until(lambda: len(examined(running)["workers"]) == 4)
        group = examined(running)
        assert group["leader"] == running.process.pid
        assert {worker["pid"] for worker in group["workers"] if worker["is_leader"]} == {running.process.pid}
        assert len({worker["lane"] for worker in group["workers"]}) == 4
        assert all("gunicorn" in worker["command"] for worker in group["workers"])
        assert get(group["endpoint"]) == 200
        assert group["findings"] == []

        shown = doctor("--service", running.service)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert group["endpoint"] in shown.stdout
        assert shown.stdout.count("gunicorn") == 4
        assert examined(running)["workers"][0]["lane"] == group["workers"][0]["lane"]
        assert running.count() == running.count()


def test_a_group_whose_leader_was_killed_is_said_to_export_nothing() -> None:
    """As long as no worker has taken over, here because all are stopped, there is neither leader nor endpoint, and a finding says so."""
    with server(*GUNICORN, service="doctor-takeover", workers=3) as running:
        until(lambda: len(examined(running)["workers"]) == 4)
        before = examined(running)
        workers = {worker["pid"] for worker in before["workers"]} - {running.process.pid}
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        until(lambda: examined(running)["leader"] is None)
        group = examined(running)
        assert group["endpoint"] is None
        assert "nobody exports" in group["findings"][0]
        assert {worker["pid"] for worker in group["workers"]} == workers
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
