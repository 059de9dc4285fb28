"""The end of the program: everything that is left is sent at once, and the program waits for it no longer than a set time.

Each provider of the SDK has an exit handler of its own, which waits for its exporter, one after the other: ten seconds and more if the receiver does not
answer. Here one handler stands for all of them. It asks the threads of all batch processors and periodic readers to send what they have, which they
do at the same time, lets no request take longer than until then, waits for them together, and closes the exporters, so that a call that is still under
way ends. A thread that is stuck all the same is left behind: it is a daemon. No thread is started, because CPython 3.12 and newer refuse that at exit.

What the application records in exit handlers that were registered after `at_exit` was called is sent, as with the SDK's handlers: the last one that was
registered runs first.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import sys
import time
from time import monotonic
from typing import TYPE_CHECKING, Any

from otel_perf import _green
from otel_perf.environment_variables import OTEL_PERF_EXIT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Thread

_logger = logging.getLogger(__name__)

_SENDING = 0.78
"""Share of the time that requests may take; they fail by themselves then, and say why.

Of the default limit that is a little less than the 0.8 s that OTLP exporters wait at least before they try again: a receiver that refuses holds nobody up.
"""
_WAITING = 0.92
"""Share of the time after which exporters are closed; the rest is for calls to end that this ends."""
_COLLECTING = 0.5
"""Share of the time that callbacks of the last collection may take, so that some is left for sending."""
_POLL_S = 0.001
_HANDLERS = ("_atexit_handler", "_at_exit_handler")
_STOCK = {
    "_metric_readers": ("metrics", "opentelemetry.sdk.metrics.export", "PeriodicExportingMetricReader"),
    "_active_span_processor": ("traces", "opentelemetry.sdk.trace.export", "BatchSpanProcessor"),
    "_multi_log_record_processor": ("logs", "opentelemetry.sdk._logs.export", "BatchLogRecordProcessor"),
}
"""Where the provider of a signal keeps its parts, and which of them have a thread that sends."""

_timeout_ms: int | None = None
_providers: list[Any] = []


def at_exit(timeout_ms: int) -> None:
    """Registers the exit handler, once a process.

    Args:
        timeout_ms: Milliseconds that the exit may be delayed; the last call decides.
    """
    global _timeout_ms  # noqa: PLW0603 - one exit a process.
    if _timeout_ms is None:
        atexit.register(_end)
    _timeout_ms = timeout_ms


def take(provider: Any) -> None:
    """Takes a provider over from its own exit handler. Its ``shutdown`` and ``force_flush`` stay as they are.

    Args:
        provider: One of the SDK's, or derived from it, with its parts. One without an exit handler is left alone.
    """
    # Who was shut down is not kept alive, as the SDK has it.
    _providers[:] = filter(_handler, _providers)
    handler = _handler(provider)
    if handler is not None:
        atexit.unregister(handler)
        _providers.append(provider)
        for one in _senders(provider):
            _green.wake_natively(one.thread, *one.event)


def _handler(provider: Any) -> Any:
    """The provider's own handler, which it forgets as soon as it is shut down, and so tells that it was."""
    return next(filter(None, (getattr(provider, name, None) for name in _HANDLERS)), None)


class _Until(float):
    """The timeout of an exporter, which adds it to the time at which a request begins: the sum is never later than a set time.

    A number alone would do for one request of a thread of its own. But a green thread of gevent or eventlet that calls native code gives way to nobody, so
    that what several of them send, or one of them in several requests, is added up.
    """

    def __init__(self, seconds: float) -> None:
        self._at = time.time() + seconds

    def __radd__(self, now: float) -> float:
        return min(now + float(self), self._at)


def _hurry(exporter: Any, seconds: float) -> None:
    """Lets requests of an OTLP exporter, of which each may take ten seconds, end in time, and be tried again only where that is in time."""
    if not any(kind.__module__.startswith("opentelemetry.exporter.otlp.") for kind in type(exporter).__mro__):
        return
    # The exporter over gRPC keeps the timeout itself, that over HTTP has a client for it.
    holder: Any
    for holder in (exporter, getattr(exporter, "_client", None)):
        own = getattr(holder, "_timeout", None)
        if isinstance(own, (int, float)):
            holder._timeout = _Until(min(own, seconds))


class _Batches:
    """The thread of a batch processor of spans or log records."""

    def __init__(self, signal: str, processor: Any) -> None:
        self._signal = signal
        self._batches = processor._batch_processor
        self.is_open = not self._batches._shutdown
        self.thread: Thread = self._batches._worker_thread
        self.event = (self._batches, "_worker_awaken")

    def ask(self, seconds: float) -> None:
        """Lets the thread send all that is queued, and end."""
        _hurry(self._batches._exporter, seconds)
        self._batches._shutdown = True
        self._batches._worker_awaken.set()

    def close(self, remaining_ms: float) -> None:
        """Lets no further batch be sent, and closes the exporter."""
        self._batches._shutdown_timeout_exceeded = True
        _shut_down(self._batches._exporter, remaining_ms)

    @property
    def left(self) -> str:
        """What is known of what is given up."""
        return f"{self._signal} ({len(self._batches._queue)} besides those of one request)"


class _Reader:
    """The thread of a periodic reader; there is none if it never exports by itself."""

    def __init__(self, signal: str, reader: Any) -> None:
        self._signal = signal
        self._reader = reader
        self.is_open = not reader._shutdown
        self.thread: Thread | None = reader._daemon_thread
        self.event = (reader, "_shutdown_event")

    def ask(self, seconds: float) -> None:
        """Lets the thread collect and send once more, and end."""
        _hurry(self._reader._exporter, seconds)
        # That is what the last collection takes for its timeout.
        self._reader._export_interval_millis = seconds * _COLLECTING * 1000
        self._reader._shutdown_event.set()

    def close(self, remaining_ms: float) -> None:
        """Lets nothing more be collected, and closes the exporter."""
        self._reader._set_collect_callback(_nothing)
        is_stuck = self.thread is not None and self.thread.is_alive()
        # The reader joins its thread again. Not for nought: gevent takes that for no limit.
        _shut_down(self._reader, 1 if is_stuck else max(1, remaining_ms))

    @property
    def left(self) -> str:
        """What is known of what is given up."""
        return self._signal


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _end() -> None:
    """Ends all providers that are left. Raises nothing: the interpreter would print it."""
    try:
        _green.log_natively()
        _Ending([provider for provider in _providers if _handler(provider)], _timeout_ms or 0).run()
    except Exception:
        _logger.exception("Not all could be sent at exit")
    except BaseException as error:
        # Ctrl-C, for example, beside the wait, which knows what to do.
        _logger.warning("Not all was sent at exit: %r", error)
    finally:
        _providers.clear()


class _Ending:
    """One exit.

    Args:
        providers: The providers, none of which was shut down.
        timeout_ms: Milliseconds for all of them together.
    """

    def __init__(self, providers: list[Any], timeout_ms: int) -> None:
        self._providers = providers
        self._timeout_ms = timeout_ms
        self._timeout_s = timeout_ms / 1000
        self._begin = monotonic()
        self._threads: list[_Batches | _Reader] = []
        self._others: list[Any] = []
        for provider in providers:
            self._threads.extend(one for one in _senders(provider) if one.is_open)
            self._others.extend(part for _, part, is_stock in _parts(provider) if not is_stock)

    def run(self) -> None:
        """Asks all, waits for all, closes all."""
        for one in self._threads:
            one.ask(self._timeout_s * _SENDING)
        late = self._wait(self._timeout_s * _WAITING)
        if late:
            left = ", ".join(one.left for one in late)
            passed_ms = round((monotonic() - self._begin) * 1000)
            limit = f"{OTEL_PERF_EXIT_TIMEOUT}={self._timeout_ms}"
            _logger.warning("Given up %s ms after the end began (%s): %s", passed_ms, limit, left)
        for one in self._threads:
            one.close(self._remaining_ms())
        # A gRPC call ends with its channel, and its thread then: not while the interpreter goes.
        self._wait(self._timeout_s)
        for part in self._others:
            # In this thread, because there may be no other: one that blocks delays the exit.
            _shut_down(part, self._remaining_ms())
        for provider in self._providers:
            _forget_parts(provider)

    def _remaining_ms(self) -> float:
        return max(0.0, (self._begin + self._timeout_s - monotonic()) * 1000)

    def _wait(self, until_s: float) -> list[_Batches | _Reader]:
        """Waits for the threads until some seconds after the begin; returns those that have not ended."""
        late = self._alive()
        try:
            # Not by joins, which gevent replaces for threads that it finds: some have no limit, and others would not let a green thread run.
            while late and monotonic() < self._begin + until_s:
                time.sleep(_POLL_S)
                late = self._alive()
        except BaseException as error:
            # Ctrl-C, for example, means not to wait any longer; to raise would only print a traceback.
            _logger.debug("No longer waiting: %r", error)
            self._timeout_s = 0.0
        return late

    def _alive(self) -> list[_Batches | _Reader]:
        return [one for one in self._threads if one.thread is not None and one.thread.is_alive()]


def _parts(provider: Any) -> Iterator[tuple[str, Any, bool]]:
    """Readers or processors of a provider, each with its signal and whether it is one of the SDK's that have a thread, as they are."""
    for name, (signal, module, kind_name) in _STOCK.items():
        held = getattr(provider, name, ())
        several = getattr(held, "_span_processors", None) or getattr(held, "_log_record_processors", None) or held
        kind = getattr(sys.modules.get(module), kind_name, None)
        for part in several if isinstance(several, (tuple, list)) else ():
            # Whoever has a shutdown of his own does more in it.
            yield signal, part, kind is not None and isinstance(part, kind) and type(part).shutdown is kind.shutdown


def _senders(provider: Any) -> Iterator[_Batches | _Reader]:
    """The parts that have a thread."""
    for signal, part, is_stock in _parts(provider):
        if is_stock:
            yield _Reader(signal, part) if signal == "metrics" else _Batches(signal, part)


def _forget_parts(provider: Any) -> None:
    """Leaves a provider as one that was shut down, without shutting its parts down again."""
    if hasattr(provider, "_metric_readers"):
        provider._metric_readers = ()
        provider.shutdown()
    for name in _HANDLERS:
        if hasattr(provider, name):
            setattr(provider, name, None)


def _shut_down(part: Any, remaining_ms: float) -> None:
    """Shuts something down, within the remaining time if it takes one."""
    try:
        takes_timeout = "timeout_millis" in inspect.signature(part.shutdown).parameters
    except (TypeError, ValueError):
        # Native code does not tell.
        takes_timeout = False
    try:
        if takes_timeout:
            part.shutdown(timeout_millis=remaining_ms)
        else:
            part.shutdown()
    except Exception:
        _logger.exception("%s could not be shut down", type(part).__qualname__)
