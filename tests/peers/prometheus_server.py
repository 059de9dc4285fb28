"""Runs a real Prometheus, Debian's, on loopback with native histograms and exemplars, asks it, and has promtool look at an exposition."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peers.prometheus import free_port
from tests.peers.prometheus_package import binaries
from tests.peers.serving import QuietHandler, serving

FEATURES = ("native-histograms", "exemplar-storage")
"""With the first it asks for protobuf, without for OpenMetrics."""

Labels = frozenset[tuple[str, str]]


def needed() -> None:
    """Skips the module that calls it, in one line of the summary, where there is no Prometheus."""
    if binaries() is None:
        pytest.skip("no Prometheus 2.40 to 2.x; `make peers` fetches Debian's, once", allow_module_level=True)


@dataclass
class Target:
    """What Prometheus says of a target.

    Attributes:
        health: ``up``, ``down`` or ``unknown``.
        error: What was wrong with the last scrape; empty if nothing was.
    """

    health: str
    error: str


class Prometheus:
    """A Prometheus that runs.

    Args:
        port: Where it listens.
        process: Its process.
    """

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._process = process

    def ask(self, path: str, **parameters: str) -> Any:
        """The ``data`` of an answer of its HTTP API."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> dict[Labels, float]:
        """Values of an instant query by labels, the name of the metric left out; of native histograms the counts."""
        found = self.ask("/api/v1/query", query=expression)["result"]
        return {
            frozenset((key, value) for key, value in item["metric"].items() if key != "__name__"): float(
                item["value"][1] if "value" in item else item["histogram"][1]["count"]
            )
            for item in found
        }

    def value(self, expression: str) -> float:
        """The value of an instant query that has just one."""
        (found,) = self.query(expression).values()
        return found

    def exemplars(self, expression: str) -> list[dict[str, Any]]:
        """Exemplars of the series of an expression in the last ten minutes."""
        now = time.time()
        found = self.ask("/api/v1/query_exemplars", query=expression, start=str(now - 600), end=str(now + 60))
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def targets(self) -> dict[str, Target]:
        """What it says of its targets, by job."""
        found = self.ask("/api/v1/targets")["activeTargets"]
        return {item["labels"]["job"]: Target(item["health"], item["lastError"]) for item in found}

    def wait_for(self, predicate: Callable[[], object], timeout: float = 30) -> None:
        """Asks again and again until a predicate holds; fails after so many seconds, and tells what the targets say."""
        deadline = time.monotonic() + timeout
        while not predicate():
            assert time.monotonic() < deadline, f"Prometheus does not come to that; targets: {self.targets()}"
            self.pause()

    def pause(self) -> None:
        """Waits for its end for a moment: questions are paced by that."""
        try:
            code = self._process.wait(0.05)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"Prometheus ended with {code}")

    def ready(self) -> bool:
        """Whether it takes questions."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str], features: tuple[str, ...] = FEATURES) -> Iterator[Prometheus]:
    """Starts a Prometheus, waits until it is ready, and ends it.

    It scrapes for the first time some five seconds later: so long it waits for more targets, so give all at once.

    Args:
        folder: An empty folder for its configuration, data and log.
        targets: What to scrape every second: an address by the name of the job.
        features: What to enable of what has to be enabled.
    """
    found = binaries()
    assert found is not None, "no Prometheus"
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()
        ],
    }
    # JSON is YAML.
    (folder / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    command = [
        found[0],
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--enable-feature={','.join(features)}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    running = Prometheus(port, process)
    try:
        running_until = time.monotonic() + 30
        while not running.ready():
            assert time.monotonic() < running_until, (folder / "log").read_text()
            running.pause()
        yield running
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def check_metrics(exposition: bytes) -> list[str]:
    """What ``promtool check metrics`` finds wrong with an exposition in the text format."""
    found = binaries()
    assert found is not None, "no promtool"
    done = subprocess.run(
        [found[1], "check", "metrics"], input=exposition, capture_output=True, check=False, timeout=30
    )
    lines = (done.stdout + done.stderr).decode().splitlines()
    assert done.returncode == 0 or lines, f"promtool ended with {done.returncode}"
    return lines


class Between:
    """Stands between a Prometheus and an endpoint: asks for the format that it is told to, and sees which one is answered.

    Attributes:
        address: Where Prometheus scrapes.
        asked: What Prometheus itself accepts, as its last request said.
        answered: The content type of the last answer.
    """

    def __init__(self) -> None:
        self.address = ""
        self.asked = ""
        self.answered = ""


@contextmanager
def between(url: str, accept: str | None) -> Iterator[Between]:
    """Stands before an endpoint.

    Args:
        url: The endpoint.
        accept: What to ask for instead of what Prometheus asks for.
    """
    found = Between()

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls.
            found.asked = self.headers["Accept"]
            request = urllib.request.Request(url, headers={"Accept": accept or found.asked})
            with urllib.request.urlopen(request, timeout=10) as answer:
                body = answer.read()
                found.answered = answer.headers["Content-Type"]
            self.send_response(200)
            self.send_header("Content-Type", found.answered)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as port:
        found.address = f"127.0.0.1:{port}"
        yield found
