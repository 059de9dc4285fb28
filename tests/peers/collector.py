"""Runs the OpenTelemetry Collector that `make collector` builds, and reads what its file exporter has written."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.peers.collector_build import CONFIGS, MANIFEST, binary

SAMPLES = sorted(path.name for path in CONFIGS.glob("*.yaml") if path != MANIFEST)
"""Names of the configurations in ``collector-config`` that users may begin with."""

_READY = "Everything is ready."
_QUIET = {"telemetry": {"metrics": {"level": "none"}}}
"""The Collector's own metrics would be served on a fixed port."""


def needed() -> None:
    """Skips the module that calls it, in one line of the summary, where there is no Collector."""
    if binary() is None:
        pytest.skip("no OpenTelemetry Collector; `make collector` builds it, once", allow_module_level=True)


class Collector:
    """A Collector that runs.

    Attributes:
        pid: Its process id.
        log: Lines of its log so far.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self.log: list[str] = []
        self._process = process
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._said:
                self.log.append(line.rstrip())
                self._said.notify_all()
        with self._said:
            self.log.append("(ended)")
            self._said.notify_all()

    def wait_for_line(self, text: str, timeout: float = 20) -> str:
        """Waits until a line of the log has a text in it, and returns the line; fails after so many seconds, or when the Collector ends before."""
        with self._said:
            self._said.wait_for(lambda: any(text in line or line == "(ended)" for line in self.log), timeout)
            found = [line for line in self.log if text in line]
        assert found, f"the Collector did not say {text!r}:\n" + "\n".join(self.log)
        return found[-1]

    def end(self) -> int:
        """Ends it by SIGTERM, after which it has written everything, and returns its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        return code


def _command(configs: tuple[Path | dict[str, Any], ...], *verb: str) -> list[str]:
    """The command line; later configurations change earlier ones. JSON is YAML, and can be given in the command itself."""
    sources = (f"file:{config}" if isinstance(config, Path) else f"yaml:{json.dumps(config)}" for config in configs)
    return [str(binary()), *verb, *(f"--config={source}" for source in sources)]


def validate(*configs: Path | dict[str, Any]) -> str:
    """What the Collector finds wrong with a configuration: nothing if the text is empty."""
    done = subprocess.run(_command(configs, "validate"), capture_output=True, text=True, check=False, timeout=60)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@contextmanager
def collector(*configs: Path | dict[str, Any]) -> Iterator[Collector]:
    """Starts a Collector, waits until all its parts run, and ends it.

    Args:
        *configs: Files and documents; later ones change earlier ones.
    """
    process = subprocess.Popen(_command((*configs, {"service": _QUIET})), stderr=subprocess.PIPE, text=True)
    found = Collector(process)
    try:
        found.wait_for_line(_READY)
        yield found
    finally:
        found.end()


def listening(grpc: int, http: int) -> dict[str, Any]:
    """A configuration that has the OTLP receiver listen to these ports of loopback."""
    ports = {"grpc": grpc, "http": http}
    protocols = {name: {"endpoint": f"127.0.0.1:{port}"} for name, port in ports.items()}
    return {"receivers": {"otlp": {"protocols": protocols}}}


class Written:
    """What a file exporter has written, read again at every question.

    Args:
        path: The file, a JSON document a line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def points(self, name: str) -> list[dict[str, Any]]:
        """Points of a metric in the order of their arrival, each with its ``attributes`` as a dict and the ``shape`` that it came in."""
        return [
            {**point, "attributes": {a["key"]: _value(a["value"]) for a in point.get("attributes", [])}, "shape": shape}
            for document in self._documents()
            for resource in document["resourceMetrics"]
            for scope in resource["scopeMetrics"]
            for metric in scope["metrics"]
            if metric["name"] == name
            for shape in ("sum", "gauge", "histogram", "exponentialHistogram")
            for point in metric.get(shape, {}).get("dataPoints", [])
        ]

    def _documents(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        # The last line may be written only in part yet.
        return [json.loads(line) for line in self._path.read_text().split("\n")[:-1]]

    def total(self, name: str, **attributes: Any) -> int | float:
        """Sum over the points of a metric that have just these attributes: of their values, or of the counts of histograms."""
        return sum(number(point) for point in self.points(name) if point["attributes"] == attributes)

    def wait_for(self, predicate: Callable[[], object], timeout: float = 20) -> None:
        """Reads again and again until a predicate holds; fails after so many seconds."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while not predicate():
            assert time.monotonic() < deadline, "nothing like that was written"
            # There is no event of another process's file: the question is asked again.
            pause.wait(0.05)


def _value(value: dict[str, Any]) -> Any:
    """Python value of a JSON `AnyValue` that is no list; integers are strings in it."""
    ((kind, found),) = value.items()
    return int(found) if kind == "intValue" else found


def number(point: dict[str, Any]) -> int | float:
    """The value of a point, or the count of a histogram; integers are strings in OTLP's JSON, and zeros may be left out."""
    if "asDouble" in point:
        return float(point["asDouble"])
    return int(point.get("asInt", point.get("count", 0)))
