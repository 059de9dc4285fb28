"""gevent and eventlet, which replace threads, locks and sockets after our distribution has started its own, or before.

Where a program patches as its first act, the wrapper has already set everything up. The stock distribution's endpoint does not answer then.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from tests.integration.apps import flask_app
from tests.peers.contrib import needs
from tests.peers.hdr_log import totals
from tests.peers.otlp import RECEIVERS, Receiver
from tests.peers.program import BIN, Finished, get, run, started
from tests.peers.prometheus import Scrape, free_port, scrape_when
from tests.peers.sick import SICK

APP = "tests.integration.apps.greenlets"
EARLY = {"OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH": "patch_all"}
PATCHED: dict[str, tuple[str, dict[str, Any]]] = {
    "gevent by the wrapper": ("gevent", EARLY),
    "gevent by the program": ("gevent", {}),
    "eventlet by the program": ("eventlet", {}),
}
# Instrumentations load what they instrument, for example requests, and with it ssl, before the program can patch.
NONE: dict[str, Any] = {
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(e.name for e in entry_points(group="opentelemetry_instrumentor"))
}
RECORDED = 2000

patched = pytest.mark.parametrize("how", PATCHED)


def program(how: str, *what: str, timeout: float = 60, **env: str) -> Finished:
    """Runs the program; warnings are looked at where they are the point."""
    library, given = PATCHED[how]
    arguments = ("-W", "ignore", "-m", APP, library, *what)
    return run(*arguments, timeout=timeout, **{**NONE, **given, **env})


@patched
def test_greenlets_count_exactly_and_scrapes_that_overlap_are_answered(how: str) -> None:
    """Every recording of every greenlet is counted, and three scrapes at once, whose callbacks give way, are all answered."""
    done = program(how, "scrape", OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    assert done.code == 0, done.err
    assert "took longer" not in done.err
    scrapes = [Scrape(f"# HELP target_info{text}") for text in done.out.split("# HELP target_info")[1:]]
    assert [scrape.value("c_total") for scrape in scrapes] == [RECORDED] * 3
    assert [scrape.value("h_seconds_count") for scrape in scrapes] == [RECORDED] * 3
    assert [scrape.value("g") for scrape in scrapes] == [3] * 3


@patched
def test_collections_of_one_thread_wait_for_each_other(how: str) -> None:
    """Greenlets of one thread that collect at once, with callbacks that give way and make instruments, each get everything."""
    done = program(
        how, "collect", OTEL_METRICS_EXPORTER="none", OTEL_PERF_SELF_METRICS="false", OTEL_PERF_SPAN_METRICS="off"
    )

    assert done.out.splitlines()[1:] == [f"c={RECORDED} g=3 h={RECORDED}"] * 3, done.err


@pytest.mark.parametrize("protocol", sorted(RECEIVERS))
@patched
def test_periodic_export_goes_on_and_ends_with_the_program(how: str, protocol: str, tmp_path: Path) -> None:
    """Metrics leave at every interval while greenlets run, the last ones and the spans at exit, and nothing hangs."""
    file = tmp_path / "enough"
    with RECEIVERS[protocol]() as receiver, ThreadPoolExecutor(1) as pool:
        env: dict[str, Any] = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            # Not so often that it exports while the program still patches.
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        }
        running = pool.submit(program, how, str(file), **env)
        try:
            receiver.wait_for(lambda: seen(receiver) >= 2)
        finally:
            file.touch()
        done = running.result()

        assert (done.code, done.out.splitlines()[-1]) == (0, "seen"), done.err
        last = receiver.points()
        assert last["app", "c", frozenset()].as_int == 2 * RECORDED
        assert last["app", "h", frozenset()].count == 2 * RECORDED
        scopes = [s for request in receiver.spans for r in request.resource_spans for s in r.scope_spans]
        assert sum(len(scope.spans) for scope in scopes) == 40
        assert "Given up" not in done.err


@pytest.mark.parametrize("what", ["never accepts", "silent after accept", "closed port"])
@pytest.mark.parametrize("protocol", sorted(RECEIVERS))
@patched
def test_a_sick_receiver_holds_nobody_up(how: str, protocol: str, what: str, tmp_path: Path) -> None:
    """The exit of a patched program waits a second at most for all signals, also where they are sent in green threads of one thread.

    What urllib3 and threads that were started before the patching complain of at the very end they also do without us.
    """
    file = tmp_path / "enough"
    file.touch()
    with SICK[what]() as endpoint:
        env: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        done = program(how, str(file), **env)
        ended = time.monotonic_ns()

    assert (done.code, done.out.splitlines()[-1]) == (0, "seen"), done.err
    (began,) = (int(line.split()[1]) for line in done.out.splitlines() if line.startswith("ending"))
    # What a loaded machine may take longer; without the limit it would be thirteen seconds.
    assert (ended - began) / 1e9 <= 1 + 3


def test_the_exit_needs_no_lock_that_eventlet_has_replaced(tmp_path: Path) -> None:
    """A lock of the log for which nobody is woken, as eventlet's where several threads log at once, does not keep the program from ending."""
    file = tmp_path / "enough"
    file.touch()
    with SICK["silent after accept"]() as endpoint:
        env: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none"}
        done = program("eventlet by the program", str(file), "locked", **env)

    assert (done.code, done.out.splitlines()[-1]) == (0, "seen"), done.err
    assert "Failed to export" in done.err or "Given up" in done.err


def test_gevent_has_what_its_hubs_are_made_of_before_it_patches() -> None:
    """Two threads that make their first hubs at once import nothing, which they would wait for each other in."""
    code = (
        "import gevent.monkey; gevent.monkey.patch_all(); from gevent import config\n"
        "print([callable(config.settings[name].value) for name in ('loop', 'format_context')])"
    )
    done = run("-c", code, OTEL_METRICS_EXPORTER="none", **NONE)

    assert done.out.splitlines() == ["[True, True]"], done.err


def seen(receiver: Receiver) -> int:
    """Number of requests that have what the callback observed."""
    return sum(("app", "g", frozenset()) in receiver.points(number) for number in range(len(receiver.requests)))


@patched
def test_a_forked_child_counts_along(how: str) -> None:
    """A process that is forked with greenlets records and flushes without an error, and its parent's endpoint shows both."""
    done = program(how, "fork", OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()))

    assert done.code == 0, done.err
    # gevent's own complaint of threads that were there before it patched (gevent issue 2041), which the interpreter prints and ignores.
    assert all("assert len(active) == 1" in shown for shown in done.err.split("Traceback")[1:]), done.err
    assert "child 0" in done.out
    assert Scrape(done.out[done.out.index("# HELP") :]).value("c_total") == 2 * RECORDED


@patched
def test_the_interval_log_has_every_recording(how: str, tmp_path: Path) -> None:
    """The log's thread, which waits in the kernel, neither stops greenlets, nor a forked child, nor the end, and logs what both recorded."""
    path = tmp_path / "latency.hlog"
    env: dict[str, Any] = {
        "OTEL_PERF_HDR_LOG": str(path),
        "OTEL_PERF_HDR_LOG_INTERVAL": "1",
        "OTEL_PERF_SPAN_METRICS": "off",
    }
    done = program(how, "fork", OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port()), **env)

    assert done.code == 0, done.err
    assert totals(path) == {"h": 2 * RECORDED}


@pytest.mark.parametrize("exporter", ["none", "console", "prometheus"])
def test_nothing_is_loaded_that_should_have_been_patched_first(exporter: str) -> None:
    """Where no exporter needs ssl it is not loaded before the program patches, so gevent has nothing to warn of."""
    port = str(free_port())
    done = run(
        "-m", APP, "gevent", "collect", OTEL_METRICS_EXPORTER=exporter, OTEL_EXPORTER_PROMETHEUS_PORT=port, **NONE
    )

    assert done.out.splitlines()[0] == "warned"
    assert done.code == 0, done.err


@needs("flask")
def test_gunicorns_gevent_workers_count_together() -> None:
    """Requests to two gevent workers, which patch after they are forked, are all counted on one endpoint."""
    port, metrics = free_port(), free_port()
    name = "http_server_request_duration_seconds_count"
    url = f"http://127.0.0.1:{port}"
    command = (str(BIN / "gunicorn"), "-k", "gevent", "-w", "2", "--no-control-socket", f"{flask_app.__name__}:app")
    env: dict[str, Any] = {"OTEL_SEMCONV_STABILITY_OPT_IN": "http", "OTEL_PYTHON_EXCLUDED_URLS": "health"}
    env["OTEL_EXPORTER_PROMETHEUS_PORT"] = str(metrics)
    with started(*command, "-b", f"127.0.0.1:{port}", ready=f"{url}/health", **env):
        answers = [get(f"{url}/items/{number}") for number in range(60, 120)]
        found = scrape_when(f"http://localhost:{metrics}/metrics", lambda found: found.total(name) >= len(answers))

    assert (answers.count(200), answers.count(404)) == (41, 19)
    assert found.total(name, http_response_status_code="200") == 41
    assert found.total(name, http_response_status_code="404") == 19
