"""The exit of real programs: what is left is sent, and whatever the receiver does the program is not held up by more than a second."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peers.otlp import RECEIVERS, Receiver
from tests.peers.program import BIN, Finished, environment, run
from tests.peers.sick import SICK, stuck

APP = "tests.integration.apps.exiting"
SIGNALS = ("METRICS", "TRACES", "LOGS")
LIMIT_S = 1.0
SLACK_S = 1.5
"""What a loaded machine may take longer than it took for the control; without the limit the exit would take seven seconds at least."""
DELAYS = ("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BLRP_SCHEDULE_DELAY")
COMPLAINTS = ("Exception ignored", "Fatal Python error", "terminate called", "shutdown can only", "already shutdown")

protocols = pytest.mark.parametrize("protocol", sorted(RECEIVERS))


@dataclass
class Ended:
    """A program that has ended.

    Attributes:
        finished: Exit status and output.
        delay_s: Seconds from its first exit handler to its end, None if it ran none.
    """

    finished: Finished
    delay_s: float | None


def end(how: str, endpoint: str, protocol: str = "grpc", file: Path | None = None, **env: str) -> Ended:
    """Runs the program, with all signals exported to an endpoint, if there is one; it waits for the file."""
    chosen: dict[str, Any] = {f"OTEL_{name}_EXPORTER": "otlp" if endpoint else "none" for name in SIGNALS}
    chosen |= {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    if endpoint:
        chosen["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    finished = run("-m", APP, how, *([str(file)] if file else []), **{**chosen, **env})
    now = time.monotonic_ns()
    begins = [int(line.split()[1]) for line in finished.out.splitlines() if line.startswith("ending")]
    return Ended(finished, (now - begins[-1]) / 1e9 if begins else None)


@pytest.fixture(scope="module")
def control_s() -> float:
    """How long the same program takes to end where nothing is exported."""
    ended = [end("end", "").delay_s for _ in range(3)]
    return max(delay for delay in ended if delay is not None)


def check(ended: Ended, control_s: float, code: int = 0) -> None:
    """The program was not held up, and nobody complained but those who could not send."""
    assert ended.finished.code == code, ended.finished.err
    assert ended.delay_s is not None
    assert ended.delay_s <= LIMIT_S + control_s + SLACK_S, ended.finished.err
    assert not [line for line in ended.finished.err.splitlines() if any(text in line for text in COMPLAINTS)]


@pytest.mark.parametrize("what", SICK)
@protocols
def test_no_receiver_holds_the_program_up(protocol: str, what: str, control_s: float) -> None:
    """All three signals together delay the exit by a second at most, and it is said that they were not sent."""
    with SICK[what]() as endpoint:
        ended = end("end", endpoint, protocol)

    check(ended, control_s)
    assert unsent(ended.finished.err)


@protocols
def test_a_receiver_that_refuses_is_not_tried_again(protocol: str, control_s: float) -> None:
    """Where nobody listens the exit does not wait for another try, which would be too late."""
    with SICK["closed port"]() as endpoint:
        ended = end("end", endpoint, protocol)

    check(ended, control_s - LIMIT_S)
    assert "Failed to export" in ended.finished.err
    assert "retrying" not in ended.finished.err


def unsent(err: str) -> bool:
    """Whether an exporter says that it has failed, or the exit handler that it has given up."""
    return "Failed to export" in err or "Given up" in err


@pytest.mark.parametrize("what", ["never accepts", "closed port"])
@protocols
def test_nothing_is_waited_for_where_the_limit_is_nought(protocol: str, what: str, control_s: float) -> None:
    """`OTEL_PERF_EXIT_TIMEOUT=0` ends the program at once and without a crash."""
    with SICK[what]() as endpoint:
        ended = end("end", endpoint, protocol, OTEL_PERF_EXIT_TIMEOUT="0")

    check(ended, control_s - LIMIT_S)


@protocols
def test_an_export_that_is_under_way_counts_into_the_second(protocol: str, tmp_path: Path, control_s: float) -> None:
    """A thread that is stuck in an export when the exit begins does not get its time twice."""
    often: dict[str, Any] = dict.fromkeys(DELAYS, "50")
    file = tmp_path / "stuck"
    with stuck() as (endpoint, heard), ThreadPoolExecutor(1) as pool:
        running = pool.submit(end, "end", endpoint, protocol, file, **often)
        try:
            assert heard.wait(30)
        finally:
            file.touch()
        ended = running.result()

    check(ended, control_s)


@protocols
def test_a_callback_that_blocks_does_not_hold_the_program_up(protocol: str, control_s: float) -> None:
    """The last collection does not take the whole interval, and the other signals are sent."""
    with RECEIVERS[protocol]() as receiver:
        ended = end("callback", receiver.endpoint, protocol)

        assert (spans(receiver), logs(receiver)) == (["exit", "work"], ["exit", "work"])
    check(ended, control_s)


def spans(receiver: Receiver) -> list[str]:
    """Names of the spans that arrived."""
    scopes = [s for request in receiver.spans for r in request.resource_spans for s in r.scope_spans]
    return sorted(span.name for scope in scopes for span in scope.spans)


def logs(receiver: Receiver) -> list[str]:
    """Texts of the log records that arrived."""
    scopes = [s for request in receiver.logs for r in request.resource_logs for s in r.scope_logs]
    return sorted(record.body.string_value for scope in scopes for record in scope.log_records)


def counted(receiver: Receiver) -> int | None:
    """The counter's last value that arrived."""
    return int(receiver.points()["app", "app.count", frozenset()].as_int) if receiver.requests else None


WAYS = {
    "end": (0, ["exit", "work"]),
    "sys.exit": (3, ["exit", "work"]),
    "exception": (1, ["exit", "work"]),
    "thread": (0, ["exit", "work"]),
    "interrupt": (-signal.SIGINT, ["exit", "work"]),
    "flush": (0, ["exit", "work"]),
    "shutdown": (0, ["work"]),
    "terminate": (-signal.SIGTERM, []),
    "os._exit": (4, []),
}


@pytest.mark.parametrize("how", WAYS)
@protocols
def test_everything_arrives_however_the_program_ends(protocol: str, how: str) -> None:
    """What was recorded arrives, also from an exit handler of the application, the exit status stays, and nobody complains.

    Where the interpreter runs no exit handlers nothing is sent, and after an explicit shutdown nothing is done again.
    """
    code, expected = WAYS[how]
    with RECEIVERS[protocol]() as receiver:
        finished = end(how, receiver.endpoint, protocol).finished

        assert (spans(receiver), logs(receiver)) == (expected, expected), finished.err
        assert counted(receiver) == (len(expected) or None)
    assert finished.code == code
    if how in {"exception", "interrupt"}:
        assert finished.err.startswith("Traceback")
    else:
        assert finished.err == ""
    assert not [text for text in COMPLAINTS if text in finished.err]


@protocols
def test_a_forked_child_sends_its_own_and_counts_along(protocol: str) -> None:
    """A child that ends by `sys.exit` flushes its own spans and log records; what it counted is in the group's metrics."""
    with RECEIVERS[protocol]() as receiver:
        finished = end("fork", receiver.endpoint, protocol).finished

        expected = ["child", "exit", "exit", "work"]
        assert (spans(receiver), logs(receiver), counted(receiver)) == (expected, expected, 4)
    assert "child 5" in finished.out
    assert (finished.code, finished.err) == (0, "")


@contextmanager
def interrupted(endpoint: str) -> Iterator[subprocess.Popen[str]]:
    """The program, with its exit begun and held up by a receiver."""
    env: dict[str, Any] = {f"OTEL_{name}_EXPORTER": "otlp" for name in SIGNALS}
    command = [str(BIN / "opentelemetry-instrument"), str(BIN / "python"), "-m", APP, "end"]
    process = subprocess.Popen(
        command,
        env=environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_PERF_EXIT_TIMEOUT="2000", **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ending")
        yield process
    finally:
        process.kill()
        process.communicate()


def test_an_interrupt_during_the_exit_ends_the_wait() -> None:
    """Ctrl-C while the program ends makes it end at once, with neither a traceback nor another status."""
    with stuck() as (endpoint, heard), interrupted(endpoint) as process:
        # Somebody exports only once the handler has asked for it.
        assert heard.wait(30)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)

    assert process.returncode == 0, err
    assert not [text for text in (*COMPLAINTS, "Traceback") if text in err]
    found = re.search(r"Given up (\d+) ms after", err)
    assert found is not None, err
    assert int(found[1]) < 0.9 * 2000


def test_a_configuration_file_has_the_same_exit(tmp_path: Path, control_s: float) -> None:
    """Providers of a configuration file are ended together too, and what they have is sent."""
    with SICK["never accepts"]() as endpoint:
        ended = end("end", "", OTEL_CONFIG_FILE=str(configuration(tmp_path, endpoint)))
    check(ended, control_s)
    assert unsent(ended.finished.err)

    with RECEIVERS["grpc"]() as receiver:
        finished = end("end", "", OTEL_CONFIG_FILE=str(configuration(tmp_path, receiver.endpoint))).finished
        assert (spans(receiver), logs(receiver), counted(receiver)) == (["exit", "work"], ["exit", "work"], 2)
    assert finished.err == ""


def configuration(folder: Path, endpoint: str) -> Path:
    """A file with all three signals."""
    exporter = f"{{otlp_grpc: {{endpoint: '{endpoint}'}}}}"
    file = folder / "otel.yaml"
    file.write_text(f"""
file_format: "1.0"
meter_provider: {{readers: [{{periodic: {{exporter: {exporter}}}}}]}}
tracer_provider: {{processors: [{{batch: {{exporter: {exporter}}}}}]}}
logger_provider: {{processors: [{{batch: {{exporter: {exporter}}}}}]}}
""")
    return file
