"""Builds the OpenTelemetry Collector of ``collector-config/builder.yaml`` with the Collector's own builder, once; `make collector` runs it."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

from tests.peers.kept import NotHad, folder, keep, main, run, say

CONFIGS = Path(__file__).parents[2] / "collector-config"
MANIFEST = CONFIGS / "builder.yaml"
BUILDER = "go.opentelemetry.io/collector/cmd/builder"
GO = "https://go.dev/dl"


def _version() -> str:
    """The version in the manifest. Read without a YAML parser, because none is installed yet where `make` runs this."""
    found = re.search(r"^  version: (\S+)$", MANIFEST.read_text(), re.MULTILINE)
    assert found, f"{MANIFEST} has no version"
    return found[1]


def _place() -> Path:
    """Where this manifest's Collector is kept. Another manifest is another place."""
    return folder() / "collector" / f"{_version()}-{hashlib.sha256(MANIFEST.read_bytes()).hexdigest()[:12]}"


def binary() -> Path | None:
    """The Collector, or none if it is not built."""
    found = _place() / "otelcol"
    return found if found.exists() else None


def _build(into: Path) -> None:
    """Builds into an empty folder.

    Raises:
        NotHad: There is no Go, or modules cannot be fetched.
    """
    if shutil.which("go") is None:
        raise NotHad(f"Go is not installed, so the Collector is not built; install Go 1.26 or newer from {GO}")
    say(f"Building the OpenTelemetry Collector {_version()} (once; about six minutes on two cores) ...")
    log, sources = folder() / "collector" / "build.log", into / "sources"
    log.unlink(missing_ok=True)
    # Static, so that it does not depend on the C library that it was built with, and without what its tracing page would need.
    env = {"GOBIN": str(into), "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -tags=grpcnotrace"}
    try:
        run(["go", "install", f"{BUILDER}@v{_version()}"], log, into, "fetching and building the builder", env)
        run([str(into / "builder"), f"--config={MANIFEST}"], log, into, "fetching modules and building", env)
    except NotHad as error:
        raise NotHad(f"the Collector is not built: {error}; the whole log is {log}") from None
    (sources / "otelcol").rename(into / "otelcol")
    (into / "builder").unlink()
    shutil.rmtree(sources)


def make() -> str:
    """Builds it unless it is there, and tells where it is.

    Raises:
        NotHad: It cannot be built here.
    """
    keep(_place(), _build)
    return f"OpenTelemetry Collector {_version()}: {_place() / 'otelcol'}"


if __name__ == "__main__":
    sys.exit(main("collector", make))
