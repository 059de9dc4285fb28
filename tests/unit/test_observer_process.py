"""The application's side of an observer process, with a test in the observer's place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from select import select
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from otel_perf import MeterProvider
from otel_perf.config import Settings
from otel_perf.metrics._readers import ReaderOptions
from otel_perf.observer import _launch, _process
from otel_perf.observer._channel import Channel, read
from otel_perf.observer._process import ObserverProcess
from tests.conftest import points_of
from tests.peers.program import run

SETTINGS = Settings(observer="process")
LEADS = "import sys; from otel_perf import Segment; print(Segment.attach(sys.argv[1]).lead())"


class Peer:
    """Stands where the observer process is.

    Attributes:
        channel: Its end of the newest channel.
        starts: How often one was started.
    """

    def __init__(self) -> None:
        self.channel: Channel
        self.starts = 0
        self._ends: list[Channel] = []

    def launch(self, _path: Path, _env: Mapping[str, str], ours: Channel, theirs: Channel) -> None:
        """Takes the end that a process would get."""
        self.channel = theirs
        self.starts += 1
        self._ends += [ours, theirs]

    def close(self) -> None:
        """Closes everything."""
        for end in self._ends:
            end.close()


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    """The peer that is started instead of a process."""
    peer = Peer()
    monkeypatch.setattr(_launch, "launch", peer.launch)
    yield peer
    peer.close()


@pytest.fixture
def provider(make_provider: Callable[..., MeterProvider]) -> MeterProvider:
    """A provider without readers of its own."""
    attributes: dict[str, Any] = {"service.name": "shop", "tags": ["a", "b"], "raw": b"\x00", "deep": {"n": 1.5}}
    return make_provider(resource=Resource(attributes, "https://schema"), _settings=SETTINGS)


@pytest.fixture
def process(provider: MeterProvider, peer: Peer) -> Iterator[ObserverProcess]:
    """The application's side, with an observer that was started."""
    process = ObserverProcess(provider, ["otlp_proto_grpc"], SETTINGS)
    process._start()
    yield process
    # Nobody else will remove it.
    provider.segment.keep_file(False)


def test_the_first_message_is_there_before_the_observer(
    provider: MeterProvider, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that is killed while its observer starts has told it what to do: the observer exports, and leaves no file behind."""
    waiting = []

    def launch(path: Path, env: Mapping[str, str], ours: Channel, theirs: Channel) -> None:
        waiting.append(select([theirs], [], [], 0)[0] == [theirs])
        peer.launch(path, env, ours, theirs)

    monkeypatch.setattr(_launch, "launch", launch)
    process = ObserverProcess(provider, ["otlp_proto_grpc"], SETTINGS)
    process._start()
    provider.segment.keep_file(False)

    assert waiting == [True]


def test_the_first_message_says_what_to_do(process: ObserverProcess, peer: Peer, provider: MeterProvider) -> None:
    """It has the resource with attributes of all types, the exporters, and where and what the application is."""
    message = peer.channel.hear()
    assert message is not None
    hello = message["hello"]

    assert {name: read(value) for name, value in hello["resource"].items()} == {
        "service.name": "shop",
        "tags": ["a", "b"],
        "raw": b"\x00",
        "deep": {"n": 1.5},
    }
    assert (hello["schema_url"], hello["exporters"]) == ("https://schema", ["otlp_proto_grpc"])
    assert (hello["directory"], hello["lane"]) == (str(Path.cwd()), provider.segment.lane)
    assert hello["first"]


def act(process: ObserverProcess, peer: Peer, **message: Any) -> None:
    """Has the application act on a message, as its thread does."""
    peer.channel.say(**message)
    channel = process._channel
    assert channel is not None
    heard = channel.hear()
    assert heard is not None
    process._act_on(heard, channel)


def test_callbacks_run_when_the_observer_asks(process: ObserverProcess, peer: Peer, provider: MeterProvider) -> None:
    """They have run when the answer comes, which has the number of the question."""
    seen: list[CallbackOptions] = []
    provider.get_meter("m").create_observable_gauge("g", [lambda options: seen.append(options) or []])  # type: ignore[func-returns-value]
    peer.channel.hear()
    act(process, peer, collect=7)

    assert len(seen) == 1
    assert peer.channel.hear() == {"collected": 7}


def test_log_lines_are_logged(process: ObserverProcess, peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """They keep their level and text, whatever characters it has, under the observer's name."""
    act(process, peer, log=[logging.ERROR, "100 % of exports failed"])

    assert caplog.record_tuples == [("otel_perf.observer", logging.ERROR, "100 % of exports failed")]


def test_leadership_is_given_up_when_the_observer_is_there(
    process: ObserverProcess, peer: Peer, provider: MeterProvider
) -> None:
    """Before, the application leads, so that no other worker starts an observer too."""
    path = provider.segment.path
    assert provider.segment.lead()
    done = [run("-c", LEADS, str(path), wrapper=False).out]
    act(process, peer, attached=True)
    done.append(run("-c", LEADS, str(path), wrapper=False).out)

    assert done == ["False\n", "True\n"]


def test_streams_follow_the_readers_of_the_observer(
    process: ObserverProcess, peer: Peer, provider: MeterProvider
) -> None:
    """Where a reader keeps the last value of counters, counters record it from then on."""
    counter = provider.get_meter("m").create_counter("c")
    counter.add(1)
    streams = provider.segment.status()["streams"]
    preferences = [
        (kind, delta, ("last_value",) if kind == "Counter" else aggregation, limit)
        for kind, delta, aggregation, limit in ReaderOptions(None, 2000).preferences()
    ]
    act(process, peer, readers=[preferences])
    counter.add(5)

    assert provider.segment.status()["streams"] == streams + 1


def test_readers_of_the_application_get_nothing(make_provider: Callable[..., MeterProvider]) -> None:
    """The observer exports for the group, so a reader in the application that the distribution set up is one too many."""
    reader = InMemoryMetricReader()
    provider = make_provider(reader, _settings=SETTINGS)
    provider.get_meter("m").create_counter("c").add(1)

    assert points_of(reader.get_metrics_data()) == {}


@pytest.mark.parametrize("message", [{"log": 5}, {"readers": [[1]]}, {"unknown": 1}, {}])
def test_a_message_that_is_not_understood_ends_nothing(
    message: dict[str, Any], process: ObserverProcess, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged at most, and the next one is acted on."""
    act(process, peer, **message)
    caplog.clear()
    act(process, peer, log=[logging.WARNING, "next"])

    assert caplog.messages == ["next"]


def answering(process: ObserverProcess, peer: Peer, **answer: Any) -> threading.Thread:
    """Answers the next question in another thread, and has the application's thread hear it."""

    def answer_it() -> None:
        peer.channel.hear()
        question = peer.channel.hear()
        assert question is not None
        act(process, peer, answer=question["ask"], **answer)

    thread = threading.Thread(target=answer_it)
    thread.start()
    return thread


def test_a_question_is_answered(process: ObserverProcess, peer: Peer) -> None:
    """The value of the answer comes back."""
    thread = answering(process, peer, piece='{"p99": 0.5}')

    assert process.ask("percentiles", timeout_s=20, name="x") == {"p99": 0.5}
    thread.join()


def test_an_answer_in_pieces_is_put_together(process: ObserverProcess, peer: Peer) -> None:
    """It is complete when nothing is left, also if something else is said meanwhile."""

    def answer_it() -> None:
        peer.channel.hear()
        question = peer.channel.hear()
        assert question is not None
        act(process, peer, answer=question["ask"], piece="[1, ", left=1)
        act(process, peer, log=[logging.DEBUG, "meanwhile"])
        act(process, peer, answer=question["ask"], piece="2]", left=0)

    thread = threading.Thread(target=answer_it)
    thread.start()

    assert process.ask("snapshot", timeout_s=20) == [1, 2]
    thread.join()


def test_an_answer_can_be_an_error(process: ObserverProcess, peer: Peer) -> None:
    """It is raised with the method and the observer's text."""
    thread = answering(process, peer, error="KeyError: 'nonsense'")
    with pytest.raises(RuntimeError, match=r"'nonsense'.*KeyError"):
        process.ask("nonsense", timeout_s=20)
    thread.join()


def test_a_question_without_an_answer_ends_in_time(process: ObserverProcess, peer: Peer) -> None:
    """An observer that does not answer, an answer that is late, and one to nothing do no harm."""
    with pytest.raises(RuntimeError, match="has not answered 'status' within"):
        process.ask("status", timeout_s=0.01)
    act(process, peer, answer=1, piece="5")
    process._channel = None

    with pytest.raises(RuntimeError, match="no observer process"):
        process.ask("status")


def test_a_flush_asks_the_observer(process: ObserverProcess, peer: Peer, provider: MeterProvider) -> None:
    """`force_flush` of the provider tells whether the observer has exported in time."""
    thread = answering(process, peer, piece="true")
    assert provider.force_flush(20_000)
    thread.join()

    assert not provider.force_flush(10)


def test_a_flush_without_a_channel_has_callbacks_report(process: ObserverProcess, provider: MeterProvider) -> None:
    """A worker's values are in the segment then, where the observer of its group finds them."""
    seen: list[CallbackOptions] = []
    provider.get_meter("m").create_observable_gauge("g", [lambda options: seen.append(options) or []])  # type: ignore[func-returns-value]
    process._channel = None

    assert provider.force_flush(1000)
    assert len(seen) == 1


def test_after_three_restarts_in_a_minute_there_are_no_more(
    process: ObserverProcess, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start is no restart, and those of more than a minute ago do not count."""
    now = [1000.0]
    monkeypatch.setattr(_process, "monotonic", lambda: now[0])
    for _ in range(3):
        assert not process._has_restarted_too_often()
        process._start()
    assert process._has_restarted_too_often()
    now[0] += 61

    assert not process._has_restarted_too_often()
    assert peer.starts == 4


def test_an_observer_that_cannot_be_started_is_one_line(
    provider: MeterProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The application goes on without."""

    def fail(*ends: Any) -> None:
        for end in ends[2:]:
            end.close()
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(_launch, "launch", fail)
    process = ObserverProcess(provider, [], SETTINGS)
    process._start()

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "temporarily unavailable" in caplog.text
