"""Events of threads that were there before eventlet patches: who waits for them is woken whatever the locks have become."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from otel_perf import _green

LIMIT_S = 20


class Deaf:
    """A lock that nobody is woken from, as a green one that another thread gives back."""

    def acquire(self, *_: Any) -> bool:
        """Waits as long as the test may take."""
        time.sleep(LIMIT_S)
        return False

    release = locked = acquire


@pytest.fixture
def eventlet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has eventlet be installed."""
    monkeypatch.setattr(_green, "find_spec", lambda name: name == "eventlet")


class Waiting:
    """A thread that waits for the event of a holder as often as it is told to, and tells how each wait ended."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._orders: SimpleQueue[float | None] = SimpleQueue()
        self._ends: SimpleQueue[bool] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            timeout = self._orders.get()
            self._ends.put(self.event.wait(timeout))
            self.event.clear()

    def begin(self, timeout: float | None = LIMIT_S) -> None:
        """Has it wait once more."""
        self._orders.put(timeout)

    def end(self) -> bool:
        """How the wait ended."""
        return self._ends.get(timeout=LIMIT_S)


def until(is_so: Callable[[], bool]) -> None:
    """Gives other threads the processor until something is so."""
    while not is_so():
        threading.Event().wait(0.001)


@pytest.mark.usefixtures("eventlet")
def test_a_thread_is_woken_from_the_wait_it_was_in_and_from_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait that began with the event's predecessor ends, and those that begin with locks that wake nobody do, too."""
    waiting = Waiting()
    before: Any = waiting.event
    waiting.begin()
    until(lambda: bool(before._cond._waiters))
    _green.wake_natively(waiting.thread, waiting, "event")
    assert waiting.event is not before
    monkeypatch.setattr(threading, "_allocate_lock", Deaf)
    waiting.event.set()
    assert waiting.end()

    for _ in range(3):
        waiting.begin()
        waiting.event.set()
        assert waiting.end()


@pytest.mark.usefixtures("eventlet")
@pytest.mark.parametrize("timeout", [0, 0.001, -1])
def test_a_wait_ends_with_its_timeout(timeout: float) -> None:
    """Like that for any event, also one that is over before it begins; what was set before and taken back wakes nobody."""
    waiting = Waiting()
    _green.wake_natively(waiting.thread, waiting, "event")
    waiting.event.set()
    waiting.event.clear()
    waiting.begin(timeout)

    assert not waiting.end()


@pytest.mark.usefixtures("eventlet")
def test_other_threads_wait_as_for_any_event() -> None:
    """Only the one thread waits in the kernel: another may be a green one, which would stop the rest."""
    waiting = Waiting()
    _green.wake_natively(waiting.thread, waiting, "event")
    event: Any = waiting.event
    other = threading.Thread(target=event.wait)
    other.start()
    until(lambda: bool(event._cond._waiters))
    event.set()

    other.join(LIMIT_S)
    assert not other.is_alive()


def test_nothing_is_replaced_where_it_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not without a thread, not without eventlet, not if it has patched already, and not an event of somebody else's making."""
    thread = threading.Thread()

    def is_left(thread: threading.Thread | None, event: threading.Event) -> bool:
        holder = SimpleNamespace(event=event)
        _green.wake_natively(thread, holder, "event")
        return holder.event is event

    monkeypatch.setattr(_green, "find_spec", lambda _: None)
    assert is_left(thread, threading.Event())
    monkeypatch.setattr(_green, "find_spec", lambda _: object())
    assert is_left(None, threading.Event())
    assert is_left(thread, type("Own", (threading.Event,), {})())
    monkeypatch.setitem(sys.modules, "eventlet.patcher", SimpleNamespace(is_monkey_patched=lambda _: True))
    assert is_left(thread, threading.Event())
