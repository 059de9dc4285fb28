"""What goes wrong between threads of ours and a program that gevent or eventlet patches after they were started, and what is done about it."""

from __future__ import annotations

import logging
import sys
from _thread import RLock
from typing import Any

# Both have been replaced by then, and the native one is wanted.
_RLock = RLock


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
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None or not patcher.is_monkey_patched("thread"):
        return
    for reference in tuple(logging._handlerList):  # type: ignore[attr-defined]
        handler = reference() if callable(reference) else reference
        if getattr(handler, "lock", None) is not None:
            handler.lock = _RLock()
