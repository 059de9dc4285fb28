"""The demo of the README, run for some seconds."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.peers.contrib import needs
from tests.peers.program import BIN, ROOT, environment, run

pytestmark = needs("fastapi", "httpx", "sqlite3")


def left_behind() -> set[Path]:
    """Segments whose creators are gone; other programs may make theirs meanwhile."""
    found = Path("/dev/shm").glob("otel_perf-*")
    return {path for path in found if not Path(f"/proc/{path.name.split('-')[2]}").exists()}


def processes_of_session(session: int) -> list[str]:
    """Command names of a session's processes, see proc(5)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            head, _, rest = stat.read_text().rpartition(")")
            if int(rest.split()[3]) == session:
                found.append(head)
    return found


def test_the_demo_counts_every_request_it_sends() -> None:
    """With DEMO_SECONDS it says where the metrics are, prints tables with percentiles of every route, and ends with equal counts."""
    before = left_behind()
    done = run("-m", "examples.shop.demo", wrapper=False, DEMO_SECONDS="5")

    assert (done.code, done.err) == (0, "")
    assert "/metrics" in done.out
    assert done.out.count("p99.9 ms") >= 2
    assert all(route in done.out for route in ("/chat", "/checkout", "/products/{product_id}", "all routes"))
    assert done.out.rstrip().endswith("equal, on every route.")
    assert left_behind() <= before


def test_an_interrupted_demo_ends_in_good_order() -> None:
    """Ctrl-C ends it with the same summary, and nothing that it started is left."""
    before = left_behind()
    process = subprocess.Popen(
        [str(BIN / "python"), "-m", "examples.shop.demo"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        seen = ""
        while "p99.9 ms" not in seen:
            line = process.stdout.readline()
            assert line, f"the demo ended by itself:\n{seen}"
            seen += line
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 0
    assert out.rstrip().endswith("equal, on every route.")
    assert processes_of_session(process.pid) == []
    assert left_behind() <= before
