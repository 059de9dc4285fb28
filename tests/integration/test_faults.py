"""Everything that goes wrong between us and a receiver: the host sees nothing of it, nothing is lost that need not be, and what is lost is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_perf import MeterProvider
from tests.peers.exporting import NEVER_MS, PROTOCOLS, TEMPORALITY, exporter, reader_of
from tests.peers.faults import ANSWERS, Faulty, faulty_receiver, sum_of
from tests.peers.gate import STATES
from tests.peers.program import run

TIMEOUT_S = 0.5
"""What an export may take: shorter than any silence here."""
RECOVERY_S = 10
"""Within this a receiver that is well again has everything, whatever the interval."""

EXPORTS, SERIES = 40, 200
"""While the receiver is gone: twice as much as may wait."""

FAULTS = (*(state for state in STATES if state != "open"), *(answer for answer in ANSWERS if answer != "accept"))
LOSES_NOTHING = ("refused", "silent", "reset", "garbage", "throttled", "unavailable")
"""Nothing has arrived, and it may be sent again."""
FOR_GOOD = ("bad_request",)
"""The receiver does not want it, and says so."""


@pytest.fixture(params=PROTOCOLS)
def faulty(request: pytest.FixtureRequest) -> Iterator[Faulty]:
    """A receiver of each protocol that can be told to go wrong."""
    with faulty_receiver(request.param) as found:
        yield found


class Sender:
    """A counter of a provider that exports to a receiver when it is flushed, one point of one a time.

    Attributes:
        reader: The reader.
        recorded: What was added so far.
    """

    def __init__(self, faulty: Faulty, make_provider: Any, temporality: str, **options: Any) -> None:
        options = {"timeout": TIMEOUT_S, **options}
        endpoint = options.pop("endpoint", faulty.endpoint)
        of_reader = {name: options.pop(name) for name in ("_wait",) if name in options}
        made = exporter(faulty.protocol, endpoint, preferred_temporality=TEMPORALITY[temporality], **options)
        self.reader = reader_of(made, **of_reader)
        self.provider: MeterProvider = make_provider(self.reader)
        self.counter = self.provider.get_meter("scope").create_counter("c")
        self.recorded = 0

    def send(self) -> None:
        """Records and exports."""
        self.counter.add(1)
        self.recorded += 1
        self.provider.force_flush()


@pytest.fixture
def sender(faulty: Faulty, make_provider: Callable[..., MeterProvider]) -> Callable[..., Sender]:
    """Makes senders to the receiver."""

    def make(temporality: str = "delta", **options: Any) -> Sender:
        return Sender(faulty, make_provider, temporality, **options)

    return make


def flush_until(sender: Sender, predicate: Callable[[], object]) -> None:
    """Exports again and again, as the interval would, until a predicate holds; fails after `RECOVERY_S`."""
    deadline = time.monotonic() + RECOVERY_S
    while not predicate():
        assert time.monotonic() < deadline, "it does not recover"
        sender.provider.force_flush()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_host_sees_nothing_and_the_totals_arrive_later(
    faulty: Faulty, sender: Callable[..., Sender], fault: Any
) -> None:
    """Recording and flushing raise nothing whatever goes wrong, and the first export that gets through has the exact total."""
    sending = sender("cumulative")
    faulty.turn(fault)
    sending.send()
    faulty.turn("accept")
    faulty.release()
    before = len(faulty.kept)
    sending.send()
    flush_until(sending, lambda: len(faulty.kept) > before)

    assert values(faulty)[-1] == sending.recorded == 2


def values(faulty: Faulty) -> list[int]:
    """Values of the counter in the requests that were accepted."""
    return [sum_of(request, "c") for request in faulty.kept]


def test_recording_does_not_wait_for_an_export(faulty: Faulty, sender: Callable[..., Sender]) -> None:
    """While an export waits for a silent receiver the host records on, and the receiver that comes back gets all of it."""
    sending = sender("cumulative", timeout=20)
    faulty.turn("silent")
    exporting = threading.Thread(target=sending.send)
    exporting.start()
    faulty.wait_for_connection()
    for _ in range(1000):
        sending.counter.add(1)
    assert exporting.is_alive()
    faulty.turn("accept")
    exporting.join(RECOVERY_S)
    assert not exporting.is_alive()
    flush_until(sending, lambda: values(faulty)[-1:] == [1001])


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_an_endpoint_that_is_wrong_is_no_fault_of_the_host(
    faulty: Faulty, sender: Callable[..., Sender], host: str, scheme: str
) -> None:
    """Neither a name that does not resolve nor a receiver that answers a TLS handshake with bytes of no protocol raises."""
    faulty.turn("garbage")
    sending = sender("delta", endpoint=faulty.endpoint.replace("http:", f"{scheme}:").replace("127.0.0.1", host))
    sending.send()
    sending.send()

    assert faulty.arrived == 0


def test_what_the_receiver_asks_to_wait_is_waited(faulty: Faulty, sender: Callable[..., Sender]) -> None:
    """A receiver that is busy and says for how long is not asked again before."""
    sending = sender("delta", timeout=1.8)
    faulty.turn("throttled")
    sending.send()

    assert len(faulty.times) >= 2
    assert min(later - earlier for earlier, later in zip(faulty.times, faulty.times[1:], strict=False)) >= 0.99


@pytest.mark.parametrize("fault", [*LOSES_NOTHING, *FOR_GOOD])
def test_drops_are_what_was_sent_and_has_not_arrived(faulty: Faulty, sender: Callable[..., Sender], fault: Any) -> None:
    """Of deltas, what the receiver has and what is counted as dropped make up what was recorded; what may be sent again is not dropped."""
    sending = sender()
    sending.send()
    faulty.turn(fault)
    sending.send()
    sending.send()
    faulty.turn("accept")
    sending.send()
    flush_until(sending, lambda: faulty.sum("c") + sending.reader.results()["dropped"] == sending.recorded)

    results = sending.reader.results()
    assert results["dropped"] == (2 if fault in FOR_GOOD else 0)
    assert results["exported"] == faulty.accepted == sending.recorded - results["dropped"]
    assert results["failed"] >= 2


def test_a_flapping_receiver_gets_everything_once(faulty: Faulty, sender: Callable[..., Sender]) -> None:
    """Over ten times gone and ten times back every delta arrives exactly once."""
    sending = sender()
    for _ in range(10):
        faulty.turn("unavailable")
        sending.send()
        faulty.turn("accept")
        sending.send()
    flush_until(sending, lambda: faulty.sum("c") == sending.recorded)

    assert sending.reader.results()["dropped"] == 0
    assert faulty.accepted == sending.reader.results()["exported"]


def test_a_receiver_that_comes_back_has_data_soon(faulty: Faulty, sender: Callable[..., Sender]) -> None:
    """A receiver that was gone at an export has what was recorded within ten seconds, though the next export is an hour away."""
    pauses: list[float] = []
    first_export, shut_down = threading.Event(), threading.Event()

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 1:
            first_export.wait(RECOVERY_S)
        return shut_down.wait(seconds if len(pauses) > 1 else 0)

    sending = sender("cumulative", _wait=wait)
    faulty.turn("unavailable")
    sending.counter.add(1)
    first_export.set()
    assert faulty.wait_for(lambda: faulty.arrived)
    faulty.turn("accept")

    assert faulty.wait_for(lambda: faulty.kept, RECOVERY_S)
    assert values(faulty)[0] == 1
    assert pauses[0] == NEVER_MS / 1000
    shut_down.set()


def test_rejected_points_are_counted_and_not_sent_again(faulty: Faulty, sender: Callable[..., Sender]) -> None:
    """Of a request that is accepted in part the rejected points are counted as such, and nothing of it is sent twice."""
    sending = sender()
    faulty.turn("partial")
    sending.send()
    sending.send()

    results = sending.reader.results()
    assert (results["rejected"], results["dropped"]) == (faulty.rejected, 0) == (2, 0)
    assert faulty.arrived == 2


def test_the_queue_is_bounded(faulty: Faulty, sender: Callable[..., Sender]) -> None:
    """While the receiver is gone deltas wait in at most a mebibyte; the oldest points beyond are dropped and counted."""
    sending = sender()
    faulty.turn("unavailable")
    for export in range(EXPORTS):
        for series in range(SERIES):
            # The value tells which export it was.
            sending.counter.add(export + 1, {"series": series, "padding": "x" * 200})
        sending.provider.force_flush()
    dropped = sending.reader.results()["dropped"]
    faulty.turn("accept")
    flush_until(sending, lambda: faulty.accepted + dropped == EXPORTS * SERIES)

    assert 0 < dropped == sending.reader.results()["dropped"]
    assert sum(len(request.SerializeToString()) for request in faulty.kept) <= 1 << 20
    assert [value // SERIES for value in values(faulty)] == list(range(dropped // SERIES + 1, EXPORTS + 1))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("fault", ["drip", "silent", "slow"])
def test_an_export_ends_in_time(faulty: Faulty, sender: Callable[..., Sender], fault: Any) -> None:
    """A receiver that is silent, slow, or answers a byte a second holds an export no longer than the timeout."""
    # Longer than the pauses between the bytes, each of which would be in time.
    sending = sender("delta", timeout=1.5)
    faulty.turn(fault)
    began = time.monotonic()
    sending.send()

    assert time.monotonic() - began < 5


@pytest.mark.parametrize("fault", ["huge", "bomb"])
def test_huge_answers_are_not_read(sender: Callable[..., Sender], faulty: Faulty, fault: Any) -> None:
    """Of an answer of 300 MiB, or one that unpacks to that, no more is read than the limit of 4 MiB and what the kernel buffers."""
    sending = sender("delta", timeout=5)
    peak = peak_memory()
    faulty.turn(fault)
    sending.send()

    assert peak_memory() - peak < 64 << 20
    if fault == "huge" and faulty.protocol != "grpc":
        assert faulty.sent < faulty.arrived * (32 << 20)


def peak_memory() -> int:
    """The most memory that this process has had, in bytes, since it was last asked."""
    found = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(found.split()[1]) << 10


@pytest.mark.parametrize("fault", ["refused", "silent", "unavailable", "garbage"])
def test_a_program_ends_as_if_there_was_no_receiver(fault: Any) -> None:
    """A program under the wrapper whose receiver is broken runs to its end, with its own exit status and no traceback."""
    with faulty_receiver("http/protobuf") as faulty:
        faulty.turn(fault)
        done = run(
            "-c",
            "import runpy, sys; runpy.run_module('tests.integration.apps.count', run_name='__main__'); sys.exit(7)",
            OTEL_EXPORTER_OTLP_ENDPOINT=faulty.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_TRACES_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
        )

    assert done.code == 7, done.err
    assert "Traceback" not in done.err
    assert faulty.accepted == 0
