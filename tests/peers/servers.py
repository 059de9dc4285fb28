"""Real servers with several workers under ``opentelemetry-instrument``, and clients that load them while somebody scrapes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from otel_perf.segment import find
from tests.peers.observers import until
from tests.peers.program import BIN, CLIENT_INSTRUMENTATIONS, environment
from tests.peers.prometheus import Scrape, endpoint_at, free_port, scrape

CLIENTS = 4
DIRECTORY = "/dev/shm"
SCRAPE_EVERY_S = 0.02


def needs(program: str) -> None:
    """Skips the test, with a line, where a server is not installed."""
    if not (BIN / program).exists():
        pytest.skip(f"{program} is not installed")


@dataclass
class Load:
    """What was sent, and what scrapes said meanwhile.

    Attributes:
        answers: Answers that arrived whole, by process id of the worker.
        failures: Requests without a whole answer, which the application may have counted or not.
        counts: What each scrape said.
    """

    answers: Counter[int] = field(default_factory=Counter)
    failures: int = 0
    counts: list[float] = field(default_factory=list)

    def add(self, other: Load) -> None:
        """Adds what was sent and scraped later."""
        self.answers += other.answers
        self.failures += other.failures
        self.counts += other.counts

    @property
    def sent(self) -> int:
        """Number of answers."""
        return self.answers.total()


@dataclass
class Server:
    """A server that runs.

    Attributes:
        process: The process that was started, as a rule the master.
        service: Name of the service.
        port: Where it answers requests.
        metrics_port: Where the endpoint is.
        log: Its output.
    """

    process: subprocess.Popen[bytes]
    service: str
    port: int
    metrics_port: int
    log: IO[str]

    def get(self) -> int:
        """Sends a request and answers the worker's process id."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/")
            return int(connection.getresponse().read())
        finally:
            connection.close()

    def scrape(self) -> Scrape:
        """Scrapes the endpoint."""
        return scrape(f"http://127.0.0.1:{self.metrics_port}/metrics")

    def count(self) -> float:
        """What the endpoint says of requests."""
        return self.scrape().total("served_requests_total")

    def output(self) -> str:
        """What the server has printed so far."""
        self.log.seek(0)
        return self.log.read()

    def load(self, requests: int, *, lossless: bool = True) -> Load:
        """Sends so many requests from some clients at once and scrapes all the time.

        Args:
            requests: Their number.
            lossless: Whether a request that is not answered is a failure of the test; otherwise it is sent again.
        """
        load = Load()
        lock = threading.Lock()
        left = iter(range(requests))
        problems: list[BaseException] = []

        def send() -> None:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                while True:
                    try:
                        pid = self.get()
                    except (OSError, http.client.HTTPException, ValueError) as error:
                        with lock:
                            load.failures += 1
                            if lossless:
                                problems.append(error)
                                return
                        time.sleep(0.01)
                        continue
                    with lock:
                        load.answers[pid] += 1
                    break

        clients = [threading.Thread(target=send) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            # Between two leaders nobody listens.
            with suppress(OSError, http.client.HTTPException):
                load.counts.append(self.count())
            clients[0].join(SCRAPE_EVERY_S)
        for client in clients:
            client.join()
        assert not problems, f"{problems}\n{self.output()}"
        return load

    def is_over(self) -> bool:
        """Whether the server has ended."""
        return self.process.poll() is not None


@contextmanager
def server(*command: str, service: str, workers: int = 4, timeout: float = 40, **env: str) -> Iterator[Server]:
    """Starts a server, waits until all workers and the endpoint answer, ends it by SIGTERM, and looks at what is left.

    Args:
        *command: Program in the environment and its arguments; ``{port}`` stands for the port.
        service: Name of the service, one for each test.
        workers: Number of workers that are waited for; 0 if there will be no endpoint.
        timeout: Seconds until they answer.
        **env: Further variables.
    """
    port, metrics_port = free_port(), free_port()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [str(BIN / "opentelemetry-instrument"), str(BIN / command[0]), *(c.format(port=port) for c in command[1:])],
            env=environment(
                **{
                    "OTEL_SERVICE_NAME": service,
                    **endpoint_at(metrics_port),
                    # What is measured of the servers themselves is not what the tests are about.
                    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": f"flask,fastapi,asgi,wsgi,system_metrics,{CLIENT_INSTRUMENTATIONS}",
                    **env,
                }
            ),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        running = Server(process, service, port, metrics_port, log)
        try:
            _wait(running, workers, time.monotonic() + timeout)
            yield running
        finally:
            _end(running)
    # A second start must find its port free, and nothing of the first.
    until(lambda: not find(service))
    if process.returncode != -signal.SIGKILL:
        until(lambda: not list(Path(DIRECTORY).glob(f"otel_perf-*-{process.pid}-*")))
    socket.create_server(("127.0.0.1", metrics_port)).close()


def _wait(running: Server, workers: int, deadline: float) -> None:
    while time.monotonic() < deadline:
        assert not running.is_over(), running.output()
        try:
            running.get()
            if workers == 0 or running.scrape().total("served_workers") >= workers:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise AssertionError(f"the server is not ready:\n{running.output()}")


def _end(running: Server) -> None:
    process = running.process
    if not running.is_over():
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise AssertionError(f"the server does not end:\n{running.output()}") from None
    finally:
        # A worker that outlives its master keeps the group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
