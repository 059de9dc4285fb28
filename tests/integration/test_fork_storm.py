"""A thousand forks while threads record: no child hangs, nothing counts twice, and no child keeps the port."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.peers.program import BIN, environment
from tests.peers.prometheus import endpoint_at, free_port, scrape

FORKS = 5000 if os.environ.get("CHAOS") else 1000


@pytest.mark.timeout(900)
@pytest.mark.parametrize("observer", ["thread", "process"])
def test_a_thousand_children_record_once_each(observer: str) -> None:
    """Forked at any moment, each child records and ends; the endpoint says exactly what was recorded, and the next start of the program has the same port."""
    port = free_port()
    env = environment(
        OTEL_SERVICE_NAME="storm",
        **endpoint_at(port),
        OTEL_PERF_OBSERVER=observer,
    )
    for forks in (FORKS, 10):
        process = subprocess.Popen(
            [
                str(BIN / "opentelemetry-instrument"),
                str(BIN / "python"),
                "-m",
                "tests.integration.apps.storm",
                str(forks),
            ],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline() or "{}")
            page = scrape(f"http://127.0.0.1:{port}/metrics") if said else None
        finally:
            _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert page is not None
        assert said["ends"] == {"0": forks}
        assert page.total("storm_events_total") == said["recorded"]
        assert page.total("storm_size_bytes_count") == said["recorded"]
