"""The application's side of an observer process: starts it, runs callbacks when it asks, logs what it says, and starts another if it dies.

Each process of the group has one thread for that. One of them has the channel: that of the process that found nobody observing, as a rule the one that
made the segment. The others have their callbacks report when the observer has collected, so that their values are in the segment.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
from _thread import allocate_lock, start_new_thread
from itertools import count
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from otel_perf.metrics._readers import ReaderOptions
from otel_perf.observer import _launch
from otel_perf.observer._asked import AskedWindows
from otel_perf.observer._channel import Channel, written
from otel_perf.observer._leading import INTERVAL_S
from otel_perf.segment import after_fork_in_child

if TYPE_CHECKING:
    from otel_perf.config import Settings
    from otel_perf.metrics import MeterProvider

# Threads, locks and sockets are of the kind that there was at import: of gevent or eventlet where they have patched before, and native ones,
# whose thread waits in the kernel, where they patch later.

_logger = logging.getLogger("otel_perf.observer")

_RESTARTS_MAX = 3
_RESTARTS_WITHIN_S = 60.0
_CALLBACKS_MS = 10_000.0
_LAST_CALLBACKS_MS = 1_000.0
_HANDOVER_S = 2.0
_SOON_S = 0.01

_current: ObserverProcess | None = None


def begin(provider: MeterProvider, exporters: list[str], settings: Settings) -> ObserverProcess:
    """Has a process of its own read the provider's segment: starts it unless the group of this process has one.

    Args:
        provider: The provider whose callbacks run when the observer asks for them.
        exporters: Entry point names of the metrics exporters.
        settings: The settings of the application.

    Returns:
        The application's side.
    """
    global _current  # noqa: PLW0603 - one segment a process, one observer a segment.
    _current = ObserverProcess(provider, exporters, settings)
    _current.begin()
    return _current


def current() -> ObserverProcess | None:
    """The application's side of the observer process, or None in the other modes."""
    return _current


class ObserverProcess:
    """The application's side of an observer process.

    Args:
        provider: Whose segment is observed and whose callbacks run.
        exporters: Entry point names of the metrics exporters.
        settings: The settings of the application.

    Attributes:
        windows: What the observer has seen in the last seconds.
    """

    def __init__(self, provider: MeterProvider, exporters: list[str], settings: Settings) -> None:
        self._consumer = provider._consumer
        provider.flush_by(self.flush)
        self._segment = provider.segment
        # Those of now: the application may change its environment and its directory.
        self._environment = _launch.environment(os.environ)
        self._provider = provider
        self._hello = {"exporters": exporters, "directory": _directory()}
        self._channel: Channel | None = None
        self._ends: tuple[Channel, ...] = ()
        self._restarts: list[float] = []
        self._has_started = False
        # Whether no observer has logged before the next one that is started here.
        self._is_first = str(provider.segment.path) != settings.segment_path
        self._questions = count(1)
        self.windows = AskedWindows(self.ask, settings.windows)
        self._asked: dict[int, tuple[Any, list[dict[str, Any]]]] = {}

    def begin(self) -> None:
        """Starts the observer, if there is none, and the thread."""
        # Whoever has no lane yet would not be seen to live.
        _ = self._segment.lane
        # Here and not in the thread: as long as nothing else of the application runs, nobody waits for children.
        if self._is_unobserved():
            self._start()
        start_new_thread(self._live, ())
        after_fork_in_child(self._after_fork_in_child)
        atexit.register(self._at_exit)

    def ask(self, method: str, timeout_s: float = 1.0, **arguments: Any) -> Any:
        """Asks the observer something.

        Args:
            method: What to ask, see ``METHODS`` of `otel_perf.observer._observing`.
            timeout_s: Seconds to wait for the answer.
            **arguments: Arguments of the method; JSON.

        Returns:
            The answer; JSON.

        Raises:
            RuntimeError: This process has no channel to an observer, it does not answer in time, or its answer is an error.
        """
        channel = self._channel
        if channel is None:
            raise RuntimeError(
                "no observer process listens to this process: it listens to the one that started it, as a rule the first of the group"
            )
        number = next(self._questions)
        waiting = allocate_lock()
        waiting.acquire()
        answers: list[dict[str, Any]] = []
        self._asked[number] = (waiting, answers)
        try:
            said = channel.say(ask=number, method=method, arguments=arguments)
            if not (said and waiting.acquire(timeout=timeout_s)):
                raise RuntimeError(f"the observer process has not answered {method!r} within {timeout_s} s")
        finally:
            del self._asked[number]
        if "error" in answers[0]:
            raise RuntimeError(f"the observer process answered {method!r} with {answers[0]['error']}")
        return json.loads("".join(answer["piece"] for answer in answers))

    def flush(self, timeout_s: float) -> bool:
        """Has the observer collect and export now. A worker without a channel only has its callbacks report; the observer finds the rest in the segment.

        Args:
            timeout_s: Seconds that it may take.

        Returns:
            Whether that was done.
        """
        if self._channel is None:
            self._consumer.run_callbacks(timeout_s * 1000)
            return True
        try:
            return bool(self.ask("flush", timeout_s, within_s=timeout_s))
        except RuntimeError as error:
            _logger.debug("Metrics are not flushed: %s", error)
            return False

    def _is_unobserved(self) -> bool:
        """Whether nobody observes; this process leads then, until its observer does."""
        if not self._segment.lead():
            return False
        if self._segment.is_observed():
            self._segment.resign()
            return False
        return True

    def _start(self) -> None:
        if self._has_started:
            self._restarts = [at for at in self._restarts if monotonic() - at < _RESTARTS_WITHIN_S]
            self._restarts.append(monotonic())
        self._has_started = True
        is_first, self._is_first = self._is_first, False
        path = self._segment.path
        if path is None:
            return
        # Should this process end before its observer is there, the observer exports what is in the file.
        self._segment.keep_file(True)
        # That of now: it changes with a fork where workers are separate.
        resource = self._provider._sdk_config.resource
        try:
            # Known before the program starts, so that a process that is forked meanwhile closes both.
            self._ends = ours, theirs = Channel.pair()
            # Said before there is anybody to hear it: an observer that hears nothing, because this process was killed meanwhile, would export nothing.
            ours.say(
                hello={
                    **self._hello,
                    "resource": {name: written(value) for name, value in resource.attributes.items()},
                    "schema_url": resource.schema_url,
                    "lane": self._segment.lane,
                    "first": is_first,
                }
            )
            _launch.launch(path, self._environment, ours, theirs)
        except OSError as error:
            self._segment.keep_file(False)
            _logger.warning("No observer process can be started: %s", error)
            return
        self._channel = ours

    def _has_restarted_too_often(self) -> bool:
        return sum(monotonic() - at < _RESTARTS_WITHIN_S for at in self._restarts) >= _RESTARTS_MAX

    def _live(self) -> None:
        """What the thread does."""
        while True:
            if self._channel is None and self._is_unobserved():
                if self._has_restarted_too_often():
                    # Leadership is kept, so that no other worker tries again.
                    _logger.warning(
                        "The observer process has ended %d times within %g s and is not started again: no metrics are exported from now on",
                        _RESTARTS_MAX + 1,
                        _RESTARTS_WITHIN_S,
                    )
                    return
                self._start()
            channel = self._channel
            if channel is None:
                self._consumer.heed_exports(leads=False)
                sleep(INTERVAL_S)
                continue
            while (message := channel.hear()) is not None:
                self._act_on(message, channel)
            self._channel = None
            self._segment.keep_file(False)
            channel.close()
            _logger.info("The observer process has ended")
            self._wait_for_leadership()

    def _wait_for_leadership(self) -> None:
        """Waits until the observer that has ended no longer leads, or another process does."""
        deadline = monotonic() + _HANDOVER_S
        while not self._is_unobserved() and monotonic() < deadline:
            sleep(_SOON_S)

    def _act_on(self, message: dict[str, Any], channel: Channel) -> None:
        try:
            self._do(message, channel)
        except Exception:
            _logger.exception("A message of the observer process is not understood")

    def _do(self, message: dict[str, Any], channel: Channel) -> None:
        if "collect" in message:
            self._consumer.run_callbacks(_CALLBACKS_MS)
            channel.say(collected=message["collect"])
        elif "log" in message:
            level, text = message["log"]
            _logger.log(level, "%s", text)
        elif "attached" in message:
            self._segment.keep_file(False)
            self._segment.resign()
        elif "readers" in message:
            self._consumer.follow([ReaderOptions.restored(reader) for reader in message["readers"]])
        elif "answer" in message:
            waiting, answers = self._asked.get(message["answer"], (None, []))
            if waiting is not None:
                answers.append(message)
                if not message.get("left"):
                    waiting.release()

    def _after_fork_in_child(self) -> None:
        # First a lane, so that the observer sees a worker once the channel has ended.
        _ = self._segment.lane
        for end in self._ends:
            end.close()
        self._channel, self._ends = None, ()
        self._restarts, self._has_started, self._is_first = [], False, self._segment.is_separate
        self._asked = {}
        try:
            start_new_thread(self._live, ())
        except RuntimeError as error:
            # A fork at the very end of the interpreter.
            _logger.debug("Callbacks of process %d are not collected: %s", os.getpid(), error)

    def _at_exit(self) -> None:
        """Reports the last totals and says goodbye, and waits for nothing."""
        self._consumer.run_callbacks(_LAST_CALLBACKS_MS)
        channel = self._channel
        if channel is not None:
            channel.say(bye=True)


def _directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a text for JSON.
    except OSError:
        return "/"
