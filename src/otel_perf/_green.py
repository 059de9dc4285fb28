"""What goes wrong between threads of ours and a program that gevent or eventlet patches after they were started, and what is done about it."""

from __future__ import annotations

import logging
import sys
from _queue import Empty, SimpleQueue
from _thread import RLock, get_ident
from importlib.util import find_spec
from threading import Event
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threading import Thread

# Both have been replaced by then, and the native one is wanted.
_RLock = RLock
_get_ident = get_ident


def make_ready(event: Any) -> None:  # noqa: ARG001 - the signature is gevent's.
    """Has gevent import what its hubs are made of before it patches; gevent calls this at the begin of `patch_all`.

    It would do so where a thread first waits. Two that do that at once, one of which is ours, wait for each other for ever: the locks of the import system
    are gevent's then, and need the hub that is being made.

    Args:
        event: The event of gevent (``gevent.events.GeventWillPatchAllEvent``).
    """
    from gevent import config  # noqa: PLC0415 - it is gevent that calls.

    for part in ("loop", "format_context"):
        getattr(config, part)


def log_natively() -> None:
    """Gives log handlers native locks where eventlet has replaced them, for the end of the program, when several threads log at once.

    A green lock wakes who waits for it by the event loop of the thread that gives it back. Where that is another thread, which may just have ended, nobody
    is woken. A native lock lets a thread in again whichever of its greenlets has it, so that it cannot stop greenlets.
    """
    if not _eventlet_has_patched():
        return
    for reference in tuple(logging._handlerList):  # type: ignore[attr-defined]
        handler = reference() if callable(reference) else reference
        if getattr(handler, "lock", None) is not None:
            handler.lock = _RLock()


def wake_natively(thread: Thread | None, holder: Any, name: str) -> None:
    """Lets a thread be woken whatever eventlet replaces later.

    A thread that was started before waits for its event with a green lock from its next wait on, and nobody can wake it from another thread then: it would
    sleep through the end of the program, and what it has to send then would be lost.

    Args:
        thread: The only thread that waits for the event; nothing is done if there is none.
        holder: What has the event, and reads it anew for each wait.
        name: Name of the attribute.
    """
    if thread is None or _eventlet_has_patched() or not find_spec("eventlet"):
        return
    event = getattr(holder, name)
    if type(event) is Event:
        setattr(holder, name, _NativeEvent(thread, event))


def _eventlet_has_patched() -> bool:
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("thread"))


class _NativeEvent(Event):
    """An event for which one thread waits in the kernel, also where locks are green.

    Args:
        thread: That thread. Any other one waits as for each event, for example the green thread that stands for it in a forked child.
        before: The event that the thread may still be waiting for.
    """

    def __init__(self, thread: Thread, before: Event) -> None:
        super().__init__()
        self._ident = thread.ident
        self._before = before
        self._wakes: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        super().set()
        self._before.set()
        self._wakes.put(None)

    def clear(self) -> None:
        super().clear()
        while self._is_woken(0):
            pass

    def wait(self, timeout: float | None = None) -> bool:
        if _get_ident() != self._ident:
            return super().wait(timeout)
        if not self.is_set():
            self._is_woken(timeout)
        return self.is_set()

    def _is_woken(self, timeout: float | None) -> bool:
        try:
            self._wakes.get(timeout=timeout and max(timeout, 0))
        except Empty:
            return False
        return True
