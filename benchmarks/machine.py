"""Describes what a result was measured with, and writes results."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = {
    "opentelemetry": "opentelemetry-sdk",
    "opentelemetry_distro": "opentelemetry-distro",
    "otel_perf": "otel-perf",
    "prometheus_client": "prometheus-client",
    "hdrhistogram": "hdrhistogram",
}


def description() -> dict[str, Any]:
    """The command and the versions, among them those of kernel and processor; None for what is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    versions.update({name: _version(package) for name, package in _PACKAGES.items()})
    versions.update(
        rustc=_first_line("rustc", "--version"),
        kernel=platform.release(),
        cpu=f"{_cpu()}, {len(os.sched_getaffinity(0))} usable",
    )
    return {"command": " ".join(["python", "-m", *_module(), *sys.argv[1:]]), "versions": versions}


def write(path: str | None, result: dict[str, Any]) -> None:
    """Writes a result as JSON if a path is given."""
    if path is not None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(result, indent=1) + "\n")


def require_release_build() -> None:
    """Exits with status 2 if the native core is a debug build, whose times mean nothing."""
    from otel_perf._core import BUILD_PROFILE  # noqa: PLC0415 - machine.py also serves reports, which need no core.

    if BUILD_PROFILE != "release":
        print("benchmarks: the native core is a debug build; run 'maturin develop --release'", file=sys.stderr)
        raise SystemExit(2)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


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
    return platform.machine()
