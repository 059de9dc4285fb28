"""The reader that exports over OTLP: when it comes back after a failure, what waits, what is dropped, and what is counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricsData

from otel_perf import MeterProvider
from otel_perf.exporters import otlp
from otel_perf.exporters._otlp_transport import Encoded, Outcome
from tests.conformance.harness import DELTA
from tests.peers.otlp import flatten
from tests.unit.stock import Clock

OK = Outcome(ok=True)
LATER = Outcome(ok=False, retryable=True)
NEVER = Outcome(ok=False)
INTERVAL_S = 60.0
NONE = {"ok": 0, "failed": 0, "exported": 0, "rejected": 0, "dropped": 0}


class Transport:
    """Answers with outcomes in their order, the last one again and again, and keeps what was sent.

    Attributes:
        sent: Decoded requests, or the data that was exported in the stock way.
        outcomes: What is answered next; an exception is raised.
        takes_bytes: Whether requests are not to be split.
    """

    def __init__(self, outcomes: Iterable[Outcome | Exception]) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[Any] = []
        self.takes_bytes = True

    def send(self, request: Encoded) -> Outcome:
        return self._answer(ExportMetricsServiceRequest.FromString(request.body))

    def export(self, data: MetricsData, timeout_millis: float) -> Outcome:
        assert timeout_millis > 0
        return self._answer(data)

    def _answer(self, sent: Any) -> Outcome:
        self.sent.append(sent)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def values(self) -> list[int]:
        """The value of the one point of each request."""
        return [point.as_int for request in self.sent for point in flatten(request).values()]


class Driven:
    """A reader on a clock of the test, whose thread runs so many rounds when it is told to.

    Attributes:
        pauses: For how long the thread has waited, each time.
        transport: What it sends with.
        reader: The reader.
        counter: A counter of its provider.
    """

    def __init__(self, transport: Transport, make_provider: Callable[..., MeterProvider], **options: Any) -> None:
        self.transport = transport
        self.pauses: list[float] = []
        self.before: Callable[[], object] = lambda: None
        self.clock = Clock()
        self._rounds = 0
        self._go = threading.Event()
        self._done = threading.Event()
        exporter = ConsoleMetricExporter(preferred_temporality=options.pop("temporality", None))
        made: Any = transport
        options.setdefault("export_interval_millis", INTERVAL_S * 1000)
        self.reader = otlp.OtlpMetricReader(exporter, made, _clock=self.clock, _wait=self._wait, **options)
        self.provider = make_provider(self.reader)
        self.counter = self.provider.get_meter("m").create_counter("c")

    def _wait(self, seconds: float) -> bool:
        if not self._rounds:
            self._done.set()
            assert self._go.wait(20), "nobody has ended the test"
            self._go.clear()
        self._rounds -= 1
        if self._rounds < 0:
            return True
        self.pauses.append(seconds)
        self.clock.now += seconds
        self.before()
        return False

    def run(self, rounds: int) -> None:
        """Lets the thread wait and export so many times."""
        assert self._done.wait(20)
        self._done.clear()
        self._rounds = rounds
        self._go.set()
        assert self._done.wait(20), "the thread has ended"

    def end(self) -> None:
        """Shuts the provider down, if that was not done yet, after which the thread does not wait any more."""
        if self.provider._shutdown:
            return
        assert self._done.wait(20)
        self._rounds = 0
        self._go.set()
        self.provider.shutdown()


Drive = Callable[..., Driven]


def request_of(number: int, size: int) -> bytes:
    """A request with a number, of some more than so many bytes."""
    return ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(schema_url=str(number).zfill(size))]
    ).SerializeToString()


@pytest.fixture
def drive(make_provider: Callable[..., MeterProvider]) -> Iterator[Drive]:
    """Makes driven readers, which are ended with the test."""
    with ExitStack() as stack:

        def make(*outcomes: Outcome | Exception, **options: Any) -> Driven:
            driven = Driven(Transport(outcomes), make_provider, **options)
            stack.callback(driven.end)
            return driven

        yield make


def test_attempts_after_a_failure_come_sooner_than_the_interval(drive: Drive) -> None:
    """After failures the pauses are 1, 2, 4, 5 and 5 seconds, and the interval again after a success."""
    driven = drive(LATER, NEVER, LATER, LATER, LATER, OK)
    driven.counter.add(1)
    driven.run(8)

    assert driven.pauses == [INTERVAL_S, 1, 2, 4, 5, 5, INTERVAL_S, INTERVAL_S]
    assert driven.reader.results() == {**NONE, "ok": 3, "failed": 5, "exported": 3}


def test_an_interval_that_is_shorter_stays(drive: Drive) -> None:
    """No pause is longer than the interval."""
    driven = drive(LATER, export_interval_millis=1500)
    driven.counter.add(1)
    driven.run(4)

    assert driven.pauses == [1.5, 1, 1.5, 1.5]


def test_the_server_is_left_alone_for_as_long_as_it_asks(drive: Drive) -> None:
    """A time that the server states is kept where it is longer than ours, up to the interval."""
    asks = [Outcome(ok=False, retryable=True, retry_after=seconds) for seconds in (0.5, 30, 1e9)]
    driven = drive(*asks, LATER)
    driven.counter.add(1)
    driven.run(5)

    assert driven.pauses == [INTERVAL_S, 1, 30, INTERVAL_S, 5]


def test_cumulative_attempts_have_the_newest_values(drive: Drive) -> None:
    """Every attempt collects anew, and nothing of before waits or is sent again."""
    driven = drive(LATER, LATER, OK)
    driven.before = lambda: driven.counter.add(1)
    driven.run(4)

    assert driven.transport.values() == [1, 2, 3, 4]
    assert driven.reader.results() == {**NONE, "ok": 2, "failed": 2, "exported": 2}


def test_deltas_wait_and_are_sent_in_their_order(drive: Drive) -> None:
    """Between two intervals only what waits is sent again; once the server is back, each recording has arrived once."""
    driven = drive(LATER, temporality=DELTA, export_interval_millis=4000)
    driven.before = lambda: driven.counter.add(1)
    driven.run(4)

    assert driven.pauses == [4, 1, 2, 1]
    assert driven.transport.values() == [1, 1, 1, 1]
    driven.transport.outcomes = [OK]
    driven.transport.sent.clear()
    driven.run(2)
    assert driven.pauses[4:] == [4, 4]
    assert driven.transport.values() == [1, 3, 1, 1]
    assert driven.reader.results() == {**NONE, "ok": 4, "failed": 4, "exported": 4}


def test_what_waits_is_at_most_a_mebibyte(drive: Drive) -> None:
    """Of more than 1 MiB the oldest requests are dropped, and their points counted, each of which would otherwise have arrived."""
    driven = drive(LATER, temporality=DELTA)
    for number in range(5):
        driven.reader._receive_metrics((request_of(number, 300_000), 10, 7))

    assert driven.reader.results()["dropped"] == 2 * 7
    driven.transport.sent.clear()
    driven.transport.outcomes = [OK]
    driven.reader.force_flush()
    assert [request.resource_metrics[0].schema_url[-1] for request in driven.transport.sent] == ["2", "3", "4"]
    assert driven.reader.results()["exported"] == 30


def test_a_request_that_is_larger_than_what_may_wait_does_not_wait(drive: Drive) -> None:
    """Deltas of a request of more than 1 MiB are dropped when it cannot be sent at once."""
    driven = drive(LATER, temporality=DELTA)
    driven.reader._receive_metrics((request_of(0, 1024 * 1024), 10, 10))

    assert driven.reader.results() == {**NONE, "failed": 1, "dropped": 10}


def test_deltas_that_the_server_will_never_take_are_dropped(drive: Drive) -> None:
    """A failure that is not to be retried costs its deltas, which are counted, and leaves those that come later."""
    driven = drive(NEVER, OK, temporality=DELTA)
    driven.counter.add(1, {"a": 1})
    driven.counter.add(1)
    driven.reader.force_flush()
    driven.counter.add(5)
    driven.reader.force_flush()

    assert driven.transport.values()[2:] == [5]
    assert driven.reader.results() == {**NONE, "ok": 1, "failed": 1, "exported": 1, "dropped": 2}


def test_a_waiting_request_that_is_refused_is_dropped(drive: Drive) -> None:
    """What waits and is refused at last is dropped, and the next attempt sends what came after it."""
    driven = drive(LATER, NEVER, OK, temporality=DELTA)
    for amount in (1, 2, 3):
        driven.counter.add(amount)
        driven.reader.force_flush()

    assert driven.transport.values() == [1, 1, 2, 3]
    assert driven.reader.results() == {**NONE, "ok": 2, "failed": 2, "exported": 2, "dropped": 1}


def test_rejected_points_are_counted_and_warned_of_once_a_minute(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    """Points that the server did not take are not exported ones, are never sent again, and are one line in the log per minute."""
    driven = drive(Outcome(ok=True, rejected=1, message="too many"), temporality=DELTA)
    driven.before = lambda: [driven.counter.add(1), driven.counter.add(1, {"a": 1})]
    for pause in (0.0, 59.0, 1.0):
        driven.clock.now += pause
        driven.before()
        driven.reader.force_flush()

    assert driven.reader.results() == {**NONE, "ok": 3, "exported": 3, "rejected": 3}
    assert len(driven.transport.sent) == 3
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"The OTLP server rejected 1 data points, {so_far} so far: too many" for so_far in (1, 3)]


def test_a_message_alone_is_a_warning(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    """A server that takes everything and has something to say is quoted."""
    driven = drive(Outcome(ok=True, message="this endpoint goes away"))
    driven.counter.add(1)
    driven.reader.force_flush()

    assert "this endpoint goes away" in caplog.text
    assert driven.reader.results() == {**NONE, "ok": 1, "exported": 1}


def test_no_exception_ends_the_thread(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever collection or exporter raise, the thread goes on, and the next attempt comes soon."""
    driven = drive(RuntimeError("of the exporter"), OK)
    driven.counter.add(1)
    driven.run(2)
    collect: Any = driven.reader._collect

    def fails(*_arguments: Any, **_kwargs: Any) -> None:
        raise RuntimeError("of the collection")

    driven.reader._set_collect_callback(fails)  # type: ignore[arg-type]
    driven.run(1)
    driven.reader._set_collect_callback(collect)
    driven.run(1)

    assert driven.pauses == [INTERVAL_S, 1, INTERVAL_S, INTERVAL_S]
    assert driven.reader.results() == {**NONE, "ok": 2, "failed": 1, "exported": 2}
    assert "of the exporter" in caplog.text
    assert "of the collection" in caplog.text


def test_without_anything_to_send_there_is_no_hurry(drive: Drive) -> None:
    """After a failure whose deltas are gone, and nothing new, the interval is kept again."""
    driven = drive(NEVER, temporality=DELTA)
    driven.counter.add(1)
    driven.run(3)

    assert driven.pauses == [INTERVAL_S, 1, INTERVAL_S]


def test_shutdown_exports_once_more_and_counts_what_is_left(drive: Drive) -> None:
    """The last collection leaves at shutdown; deltas that the server still does not take are dropped and counted."""
    driven = drive(LATER, temporality=DELTA)
    driven.counter.add(1)
    driven.run(1)
    driven.counter.add(2)
    driven.end()

    assert driven.transport.values() == [1, 1]
    assert driven.reader.results() == {**NONE, "failed": 2, "dropped": 2}


def test_shutdown_exports_once_more_to_a_server_that_is_back(drive: Drive) -> None:
    """What waits and what was recorded since leave at shutdown."""
    driven = drive(LATER, OK, temporality=DELTA)
    driven.counter.add(1)
    driven.run(1)
    driven.counter.add(2)
    driven.end()

    assert driven.transport.values() == [1, 1, 2]
    assert driven.reader.results() == {**NONE, "ok": 2, "failed": 1, "exported": 2}


def test_a_forked_child_leaves_what_waits_to_its_parent(drive: Drive) -> None:
    """In a child nothing waits, nothing is counted, and the reader goes on."""
    driven = drive(LATER, OK, temporality=DELTA)
    driven.counter.add(1)
    driven.reader.force_flush()
    driven.provider._handle_fork()
    driven.counter.add(2)
    driven.reader.force_flush()

    assert len(driven.transport.sent) == 2
    assert driven.reader.results() == {**NONE, "ok": 1, "exported": 1}


def test_exemplars_kept_in_python_leave_in_the_stock_way(make_provider: Callable[..., MeterProvider]) -> None:
    """With an exemplar filter of the user's own the exporter gets the SDK's data points, with the exemplars."""

    class Every(sdk.ExemplarFilter):
        def should_sample(self, *_arguments: Any) -> bool:
            return True

    transport: Any = Transport([OK])
    reader = otlp.OtlpMetricReader(ConsoleMetricExporter(), transport, float("inf"))
    make_provider(reader, exemplar_filter=Every()).get_meter("m").create_counter("c").add(1)
    reader.force_flush()

    (data,) = transport.sent
    assert data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].exemplars
    assert reader.results() == {**NONE, "ok": 1, "exported": 1}


@pytest.mark.parametrize("ours", [False, True])
def test_what_takes_no_bytes_gets_data_points(ours: bool, make_provider: Callable[..., MeterProvider]) -> None:
    """An exporter that splits requests, and any exporter on a provider that is not ours, gets the SDK's data points; failed deltas are dropped."""
    transport: Any = Transport([NEVER, OK])
    transport.takes_bytes = not ours
    exporter = ConsoleMetricExporter(preferred_temporality=DELTA)
    reader = otlp.OtlpMetricReader(exporter, transport, float("inf"))
    provider = make_provider(reader) if ours else sdk.MeterProvider([reader], shutdown_on_exit=False)
    counter, gauge = provider.get_meter("m").create_counter("c"), provider.get_meter("m").create_gauge("g")
    for _ in range(2):
        counter.add(1)
        gauge.set(1)
        provider.force_flush()
    provider.shutdown()

    assert [type(data) for data in transport.sent[:2]] == [MetricsData, MetricsData]
    assert reader.results()["dropped"] == 1
    assert reader.results()["failed"] == 1


def test_other_exporters_have_the_stock_reader() -> None:
    """An exporter that is not exactly one of the stock OTLP exporters is not touched."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

    class Derived(OTLPMetricExporter):
        pass

    for exporter in (ConsoleMetricExporter(), Derived()):
        made: Any = otlp.reader(exporter, export_interval_millis=float("inf"))
        assert not isinstance(made, otlp.OtlpMetricReader)
        made._set_collect_callback(lambda *_, **_k: None)
        made.shutdown()


@pytest.fixture(autouse=True)
def only_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged below a warning is not what these tests are about."""
    caplog.set_level(logging.WARNING)
