"""What an observer process does: attach, lead, read for the exporters, see the application's end, and export for the last time."""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.resources import Resource

from otel_perf.config import Settings
from otel_perf.metrics import MeterProvider
from otel_perf.observer._asked import ANSWERS
from otel_perf.observer._channel import Channel, read
from otel_perf.observer._default import quantiles, start
from otel_perf.observer._default import self_metrics as of_the_observer
from otel_perf.observer._leading import Leading
from otel_perf.observer._readers import endpoints, export_results, readers
from otel_perf.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from opentelemetry.sdk.metrics.export import MetricReader

    from otel_perf.exporters.hdr_log import HdrLog
    from otel_perf.observer._seen import Source
    from otel_perf.observer._windows import Observer

_logger = logging.getLogger("otel_perf.observer")

_LEAD_S = 5.0
_LOOK_S = 0.5
_SOON_S = 0.02
_ANSWER_S = 5.0
_ANSWER_ROOM_S = 1.0
_LAST_EXPORT_S = 10.0
_UNSEEN_MAX = 4
_LINE_MAX = 8_192
# Short enough for one packet also if each character is escaped.
_PIECE = 30_000


class Observation:
    """An observer of one segment.

    Args:
        path: File of the segment.
        channel: The channel to the application that started the observer.
    """

    def __init__(self, path: Path, channel: Channel) -> None:
        self._channel = channel
        self._over = threading.Event()
        self._goodbye = False
        self._collections = count(1)
        self._collected = threading.Condition()
        self._last_asked = self._last_answered = 0
        self._readers: list[MetricReader] = []
        self._provider: MeterProvider | None = None
        self._leading: Leading | None = None
        self._observer: Observer | None = None
        self._ready = threading.Event()
        self.segment = Segment.attach(path)

    def run(self, hello: Mapping[str, Any], settings: Settings) -> None:
        """Observes until no worker lives, and exports what there is then.

        Args:
            hello: The application's first message.
            settings: The settings, those of the application.
        """
        self.segment.observe()
        self._channel.say(attached=True)
        threading.Thread(target=self._hear, name="otel_perf channel", daemon=True).start()
        if not self._lead():
            _logger.info("Nothing to observe: another process leads")
            return
        resource = Resource({name: read(value) for name, value in hello["resource"].items()}, hello["schema_url"])
        self._readers = self._make_readers(hello["exporters"])
        # Of this process the threads read.
        own = replace(settings, observer="thread")
        provider = MeterProvider(self._readers, resource, shutdown_on_exit=False, segment=self.segment, _settings=own)
        self._provider = provider
        provider.serve_by(endpoints(settings, hello["exporters"]))
        self._leading = Leading(provider)
        self._leading.turn()
        provider._consumer.refresh_by(self._refresh)
        self._observer = start(self.segment, own)
        quantiles(provider, own)
        if settings.self_metrics:
            self_metrics = provider.report_on_itself()
            self_metrics.add(of_the_observer)
            self_metrics.add(partial(export_results, self._readers))
        set_meter_provider(provider)
        log = self._start_hdr_log(settings, from_start=hello["first"])
        self._ready.set()
        self._channel.say(readers=[options.preferences() for options in provider._consumer._readers.values()])
        _logger.info("Observing %s", self.segment.path)
        lanes = self._wait_for_the_end(hello["lane"])
        is_orderly = self._is_orderly(hello["lane"], lanes)
        reason = "exit" if is_orderly else "killed"
        how = "" if is_orderly else " without saying so, as when it is killed"
        level = logging.INFO if is_orderly else logging.WARNING
        _logger.log(level, "The application has ended%s; its last metrics are exported", how)
        # What it had set last is of its last moment, and no longer counts once a worker is gone.
        self.segment.mourn(lanes)
        counter = provider.get_meter("otel_perf.observer").create_counter(
            "otel_perf.application.ended", "{application}", "Applications whose end the observer process has seen."
        )
        counter.add(1, {"reason": reason})
        if log is not None:
            log.stop()
        self._end_readers()

    def flush(self, within_s: float) -> bool:
        """Has all readers collect and export, as soon as there are any."""
        deadline = monotonic() + within_s
        self._ready.wait(within_s)
        return self._provider is not None and self._provider.force_flush((deadline - monotonic()) * 1000)

    def windows(self) -> Source:
        """The windows, as soon as there are any.

        Raises:
            RuntimeError: There are none yet.
        """
        self._ready.wait(_ANSWER_ROOM_S)
        if self._observer is None:
            raise RuntimeError("the observer process does not observe yet")
        return self._observer._source()

    def close(self) -> None:
        """Gives leadership back and removes the segment's file if nobody else uses it."""
        self.segment.close()

    def _make_readers(self, exporters: list[str]) -> list[MetricReader]:
        try:
            return readers(exporters, {})
        except Exception as error:
            # Another start would end in the same way.
            _logger.error("No metrics: %s: %s", type(error).__name__, error)  # noqa: TRY400 - one line.
            return []

    def _start_hdr_log(self, settings: Settings, *, from_start: bool) -> HdrLog | None:
        if settings.hdr_log is None:
            return None
        from otel_perf.exporters import hdr_log  # noqa: PLC0415 - only who names a file pays for it.

        return hdr_log.start(settings, self.segment, from_start=from_start)

    def _lead(self) -> bool:
        """Waits until the application has given leadership up; false if another observer has it, or all end before."""
        deadline = monotonic() + _LEAD_S
        while not self.segment.lead():
            if monotonic() >= deadline or (self._over.is_set() and not self.segment.others()):
                return False
            sleep(_SOON_S / 10)
        return True

    def _hear(self) -> None:
        while (message := self._channel.hear()) is not None:
            if "collected" in message:
                with self._collected:
                    self._last_answered = message["collected"]
                    self._collected.notify_all()
            elif "ask" in message:
                # In a thread of its own, because an answer may need fresh values, which are heard here.
                threading.Thread(target=self._answer, args=(message,), daemon=True).start()
            elif "bye" in message:
                self._goodbye = True
        with self._collected:
            self._over.set()
            self._collected.notify_all()

    def _answer(self, question: dict[str, Any]) -> None:
        number = question["ask"]
        try:
            value = METHODS[question["method"]](self, **question.get("arguments", {}))
        except Exception as error:
            self._channel.say(answer=number, error=f"{type(error).__name__}: {error}")
        else:
            self._say_in_pieces(number, json.dumps(value, default=str))

    def _say_in_pieces(self, number: int, text: str) -> None:
        """Says an answer in messages of one packet each, between which other threads may say something."""
        for at in range(0, len(text), _PIECE):
            left = (len(text) - at - 1) // _PIECE
            piece = text[at : at + _PIECE]
            if not self._channel.say(wait_s=_ANSWER_ROOM_S, answer=number, piece=piece, left=left):
                return

    def _refresh(self, timeout_s: float) -> None:
        """Has the application run its callbacks, and waits for it. One that did not answer is not waited for again until it does."""
        with self._collected:
            if self._over.is_set():
                return
            is_waited_for = self._last_answered == self._last_asked
            self._last_asked = number = next(self._collections)
            if not self._channel.say(collect=number) or not is_waited_for:
                return
            answered = self._collected.wait_for(
                lambda: self._over.is_set() or self._last_answered >= number, min(timeout_s, _ANSWER_S)
            )
        if not answered:
            _logger.warning(
                "The application has not run its callbacks within %g s: their last values are exported", _ANSWER_S
            )

    def _wait_for_the_end(self, first: int) -> list[int]:
        """Returns when no worker lives, with the lanes that the last of them had; `first` is the lane of the application."""
        last = [first]
        unseen = 0
        while True:
            if self._leading is not None:
                self._leading.turn()
            lanes = self.segment.others()
            if lanes:
                last, unseen = lanes, 0
            else:
                unseen += 1
                # Somebody who is no worker may still have the other end of the channel.
                if (self._over.is_set() or unseen >= _UNSEEN_MAX) and self.segment.end():
                    return last
            if self._over.is_set():
                sleep(_LOOK_S)
            else:
                # At the end of the channel at once: the worker that had it is about to go, or gone.
                self._over.wait(_LOOK_S)
                sleep(_SOON_S)

    def _is_orderly(self, first: int, lanes: list[int]) -> bool:
        """Whether the application was not killed, by what it said or by what the segment has of its lane."""
        if first in lanes:
            return self._goodbye or self.segment.has_left(first)
        # It ended before the others, as a program does that goes into the background.
        return any(self.segment.has_left(lane) for lane in lanes)

    def _all_readers(self) -> Sequence[MetricReader]:
        return () if self._provider is None else self._provider._metric_readers

    def _end_readers(self) -> None:
        """Ends all readers at the same time, each with a last collection and export, and waits for them for ten seconds together."""
        deadline = monotonic() + _LAST_EXPORT_S
        threads = [threading.Thread(target=_end, args=(reader,), daemon=True) for reader in self._all_readers()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        if any(thread.is_alive() for thread in threads):
            _logger.warning("The last metrics are not exported within %g s", _LAST_EXPORT_S)


def _asks(question: str) -> Callable[..., Any]:
    return lambda observation, **arguments: ANSWERS[question](observation.windows(), **arguments)


METHODS: dict[str, Callable[..., Any]] = {
    **{question: _asks(question) for question in ANSWERS},
    "status": lambda observation: observation.segment.status(),
    "flush": Observation.flush,
}
"""What the application may ask: functions of the `Observation` and the arguments of the question, whose answers are JSON."""


def _end(reader: MetricReader) -> None:
    try:
        reader.shutdown(timeout_millis=_LAST_EXPORT_S * 1000)
    except Exception as error:
        _logger.warning("The last metrics are not exported: %s: %s", type(error).__name__, error)


class _ToTheApplication(logging.Handler):
    """Sends log lines to the application, which logs them where its own are."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.WARNING)
        self._channel = channel
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._channel.say(log=[record.levelno, text[:_LINE_MAX]])


def observe(path: Path, channel: Channel) -> None:
    """Observes a segment from the application's first message to its end.

    Args:
        path: File of the segment.
        channel: The channel to the application.
    """
    message = channel.hear()
    if message is None or "hello" not in message:
        return
    hello = message["hello"]
    logging.basicConfig(level=logging.WARNING, handlers=[_ToTheApplication(channel)])
    logging.captureWarnings(capture=True)
    _logger.setLevel(logging.INFO)
    with suppress(OSError):
        os.chdir(hello["directory"])
    # The application has reported what is wrong in the environment.
    judge = logging.getLogger("otel_perf.config")
    judge.disabled = True
    settings = Settings.from_environment()
    judge.disabled = False
    _log_to(settings.observer_log)
    try:
        observation = Observation(path, channel)
        try:
            observation.run(hello, settings)
        finally:
            observation.close()
    except Exception:
        _logger.exception("The observer process has failed")


def _log_to(file: Path | None) -> None:
    if file is None:
        return
    try:
        handler = logging.FileHandler(file)
    except OSError as error:
        _logger.warning("No log of the observer process in %s: %s", file, error)
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
