"""What an observer process does, in a thread of the test: asking for fresh values, answering, logging."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_perf import MeterProvider, Segment
from otel_perf.observer import _observing
from otel_perf.observer._channel import Channel
from otel_perf.observer._observing import Observation, _ToTheApplication


@pytest.fixture
def application() -> Iterator[tuple[Channel, Channel]]:
    """The application's end of a channel, and the observer's."""
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def observation(application: tuple[Channel, Channel]) -> Iterator[Observation]:
    """An observer of a segment of this process, which hears what the application says."""
    segment = Segment.create(131_072, "observing")
    assert segment.path is not None
    observation = Observation(segment.path, application[1])
    thread = threading.Thread(target=observation._hear)
    thread.start()
    yield observation
    application[0].close()
    thread.join()
    observation.close()
    segment.close()


def heard(application: tuple[Channel, Channel]) -> dict[str, Any]:
    """What the observer said."""
    message = application[0].hear()
    assert message is not None
    return message


def refreshing(observation: Observation) -> threading.Thread:
    """Asks for fresh values in another thread."""
    thread = threading.Thread(target=observation._refresh, args=(20.0,))
    thread.start()
    return thread


def test_fresh_values_are_waited_for(observation: Observation, application: tuple[Channel, Channel]) -> None:
    """The collection goes on as soon as the application has answered, each time with a number of its own."""
    for number in (1, 2):
        thread = refreshing(observation)
        assert heard(application) == {"collect": number}
        application[0].say(collected=number)
        thread.join()


def test_an_application_that_does_not_answer_is_waited_for_once(
    observation: Observation,
    application: tuple[Channel, Channel],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a bounded wait the last values are taken, with one line; it is waited for again when it has answered the newest question."""
    monkeypatch.setattr(_observing, "_ANSWER_S", 0.01)
    observation._refresh(20.0)
    assert len(caplog.messages) == 1
    monkeypatch.setattr(_observing, "_ANSWER_S", 1000.0)
    observation._refresh(20.0)
    assert len(caplog.messages) == 1
    for number in (1, 2):
        assert heard(application) == {"collect": number}
        application[0].say(collected=number)
    application[0].say(ask=1, method="status")
    heard(application)
    thread = refreshing(observation)
    assert heard(application) == {"collect": 3}
    application[0].say(collected=3)
    thread.join()


def test_an_application_that_ends_is_not_waited_for(
    observation: Observation, application: tuple[Channel, Channel]
) -> None:
    """Neither a collection that waits nor a later one."""
    thread = refreshing(observation)
    heard(application)
    application[0].close()
    thread.join()
    observation._refresh(1000.0)


def test_a_collection_asks_first(make_provider: Callable[..., MeterProvider], reader: InMemoryMetricReader) -> None:
    """What is to be fresh is asked for before each collection, with the time that it may take."""
    provider = make_provider(reader)
    asked: list[float] = []
    provider._consumer.refresh_by(asked.append)
    reader.collect(5_000)
    reader.collect(2_500)

    assert asked == [5, 2.5]


def test_questions_are_answered(observation: Observation, application: tuple[Channel, Channel]) -> None:
    """The answer has the number of the question, and an error its type and text."""
    application[0].say(ask=5, method="status")
    status = heard(application)
    application[0].say(ask=6, method="nonsense")
    error = heard(application)

    assert (status["answer"], error["answer"]) == (5, 6)
    assert json.loads(status["piece"]) == json.loads(json.dumps(observation.segment.status()))
    assert status["left"] == 0
    assert error["error"] == "KeyError: 'nonsense'"


def test_a_long_answer_comes_in_pieces(
    observation: Observation, application: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a packet of its own, whatever the text, so that what others say between them is heard as well."""
    text = '"\\' * _observing._PIECE
    monkeypatch.setitem(_observing.METHODS, "long", lambda _observation: text)
    application[0].say(ask=1, method="long")
    answers = [heard(application)]
    observation._channel.say(collect=7)
    others: list[dict[str, Any]] = []
    while answers[-1]["left"]:
        message = heard(application)
        (answers if "answer" in message else others).append(message)

    assert others in ([], [{"collect": 7}])
    assert others or heard(application) == {"collect": 7}
    assert json.loads("".join(answer["piece"] for answer in answers)) == text
    assert max(len(json.dumps(answer)) for answer in answers) < 65_536


def test_windows_that_are_not_there_yet_are_an_error(
    observation: Observation, application: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks before the observer observes is told so, after a short wait."""
    monkeypatch.setattr(_observing, "_ANSWER_ROOM_S", 0.01)
    application[0].say(ask=1, method="snapshot", arguments={"percentiles": [50.0]})

    assert heard(application)["error"] == "RuntimeError: the observer process does not observe yet"


def test_a_goodbye_is_an_orderly_end(observation: Observation, application: tuple[Channel, Channel]) -> None:
    """It is known once the channel has ended."""
    application[0].say(bye=True)
    application[0].close()

    assert observation._over.wait(20)
    assert observation._goodbye


def test_log_lines_go_to_the_application(application: tuple[Channel, Channel]) -> None:
    """Warnings with the name of their logger and what was raised, shortened where they are endless; below that nothing."""
    logger = logging.getLogger("test.observing")
    logger.propagate = False
    handler = _ToTheApplication(application[1])
    logger.addHandler(handler)
    try:
        logger.info("unheard")
        logger.warning("port %d is taken", 9464)
        try:
            [].pop()
        except IndexError:
            logger.exception("failed")
        logger.error("x" * 100_000)
    finally:
        logger.removeHandler(handler)
        logger.propagate = True

    assert heard(application) == {"log": [logging.WARNING, "test.observing: port 9464 is taken"]}
    level, text = heard(application)["log"]
    assert level == logging.ERROR
    assert "IndexError" in text
    (_, text) = heard(application)["log"]
    assert len(text) == _observing._LINE_MAX


def test_started_by_hand_it_says_who_starts_it() -> None:
    """Without a channel there is one line and a status that is not zero."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_perf.observer", "/dev/shm/x"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "OTEL_PERF_OBSERVER=process" in done.stderr
    assert len(done.stderr.splitlines()) == 1
