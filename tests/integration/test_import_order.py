"""In whichever order a program imports what it uses, and whichever event loop it runs: it works, and everything is counted."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.integration.apps.event_loop import ROUNDS, TASKS
from tests.peers.program import run
from tests.peers.prometheus import Scrape, free_port

OURS = "import otel_perf; otel_perf.configure()"
MODULES = {
    "the API": "from opentelemetry import metrics, trace",
    "the SDK": "import opentelemetry.sdk.metrics, opentelemetry.sdk.trace, opentelemetry.sdk._logs",
    "the exporters": "import opentelemetry.exporter.otlp.proto.grpc.metric_exporter, opentelemetry.exporter.prometheus",
    "prometheus_client": "import prometheus_client",
    "grpc": "import grpc",
    "flask": "import flask",
    "requests": "import requests",
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
    "uvloop": "import uvloop",
    "multiprocessing": "import multiprocessing.pool, concurrent.futures",
}
COUNT = (
    "from opentelemetry import metrics\n"
    "metrics.get_meter('m').create_counter('c').add(3)\n"
    "early = globals().get('early'); early and early.add(4)\n"
    "import os, urllib.request\n"
    "print(urllib.request.urlopen(f'http://localhost:{os.environ[\"OTEL_EXPORTER_PROMETHEUS_PORT\"]}/metrics', timeout=20).read().decode())\n"
)


def scraped(*lines: str, wrapper: bool = False) -> tuple[Scrape, str]:
    """The endpoint's answer to a program of these lines that counts to three, and what it wrote to standard error."""
    env: dict[str, Any] = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(free_port())}
    done = run("-W", "ignore", "-c", "\n".join([*lines, COUNT]), wrapper=wrapper, **env)
    assert done.code == 0, done.err
    return Scrape(done.out[done.out.index("# HELP") :]), done.err


@pytest.mark.parametrize("name", MODULES)
def test_before_and_after_and_in_between(name: str) -> None:
    """A module can be imported before otel_perf, after it was imported, and after it was configured."""
    imported, configured = OURS.split("; ")
    for lines in itertools.permutations((MODULES[name], imported, configured)):
        if lines.index(imported) < lines.index(configured):
            found, err = scraped(*lines)
            assert found.value("c_total") == 3
            # eventlet says how many locks it could not replace.
            assert err == "" or name == "eventlet"


ALL = [name for name in MODULES if name != "eventlet"]
ORDERS = {"forwards": ALL, "backwards": ALL[::-1]}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("position", [0, 5, len(ALL)])
def test_everything_in_one_program(order: str, position: int) -> None:
    """All of them together, otel_perf first, in the middle or last."""
    lines = [MODULES[name] for name in ORDERS[order]]
    found, err = scraped(*lines[:position], OURS, *lines[position:])

    assert found.value("c_total") == 3
    assert err == ""


@pytest.mark.parametrize("name", MODULES)
def test_under_the_wrapper(name: str) -> None:
    """Under the wrapper everything is imported after otel_perf."""
    assert scraped(MODULES[name], wrapper=True)[0].value("c_total") == 3


def test_instruments_that_are_older_than_otel_perf() -> None:
    """An instrument that was made before otel_perf was imported counts into the same series as a later one."""
    early = "from opentelemetry import metrics; early = metrics.get_meter('m').create_counter('c')"

    assert scraped(early, OURS)[0].value("c_total") == 7


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("wrapper", [True, False])
def test_tasks_and_executor_threads_count_exactly(loop: str, wrapper: bool) -> None:
    """Every recording of every task and of every thread of the executor is counted, also on uvloop."""
    arguments = ("-m", "tests.integration.apps.event_loop", loop)
    if not wrapper:
        start = "import runpy, sys; sys.argv = ['', sys.argv[1]]"
        arguments = ("-c", f"{OURS}; {start}; runpy.run_module({arguments[1]!r}, run_name='__main__')", loop)
    done = run(*arguments, wrapper=wrapper, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].startswith(f"loop {loop}")
    found = Scrape(done.out[done.out.index("# HELP") :])
    for name in ("c_total", "h_seconds_count"):
        assert found.value(name, where="task") == TASKS * ROUNDS
        assert found.value(name, where="thread") == TASKS * ROUNDS / 4
