"""Describes the machine and the versions that a result was measured with."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("otel-perf", "opentelemetry-sdk", "opentelemetry-distro", "prometheus-client", "hdrhistogram")


def description() -> dict[str, Any]:
    """Versions, processor and kernel."""
    versions = {"python": platform.python_version(), "kernel": platform.release(), "rustc": _first_line("rustc", "--version")}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {"command": " ".join(["python", "-m", *_module(), *sys.argv[1:]]), "versions": versions, "cpu": _cpu()}


def write(path: str | None, result: dict[str, Any]) -> None:
    """Writes a result as JSON if a path is given."""
    if path is not None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(result, indent=1) + "\n")


def _module() -> list[str]:
    spec = sys.modules["__main__"].__spec__
    return [spec.name] if spec is not None else []


def _first_line(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
