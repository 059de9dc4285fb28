"""Which process of the group exports in thread mode: the first one, and when it has ended another one within a second.

Each process has a thread that asks for leadership twice a second. In the one that leads it starts what only a leader has: the endpoint and the windows. In
the others it has callbacks report when somebody has collected, so that a scrape finds values of all workers that are no older than the one before,
and lets delta intervals begin where those of the leader do.
"""

from __future__ import annotations

import atexit
import logging
import os
from _thread import start_new_thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

from otel_perf import segment as segments
from otel_perf.observer import _default

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_perf.metrics import MeterProvider

# As in `_process`, the thread is of the kind that there was at import.

_logger = logging.getLogger("otel_perf.observer")

INTERVAL_S = 0.5
"""Seconds between two questions for leadership: half of what a takeover takes at most."""
_RETRY_S = 5.0


class Leading:
    """Has the process that leads the group export.

    Args:
        provider: The provider whose readers export, and that knows what makes those that only the leader has.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        provider: MeterProvider,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._provider = provider
        self._consumer = provider._consumer
        self._segment = provider.segment
        self._clock = clock
        self._is_over = False
        self._reset()

    def _reset(self) -> None:
        self._missing = list(self._provider.endpoints)
        self._addresses: list[str] = []
        self._due = 0.0

    def begin(self) -> None:
        """Leads if nobody does, and goes on asking from a thread."""
        segments.let_lead_where_threads_run(self._segment)
        self.turn()
        segments.after_fork_in_child(self._after_fork_in_child)
        atexit.register(self._end)
        start_new_thread(self._live, ())

    def turn(self) -> None:
        """Does what is to be done now: exports from now on, or follows the process that does."""
        leads = self._segment.lead()
        self._consumer.heed_exports(leads=leads)
        if leads:
            _default.look()
            if self._missing and self._clock() >= self._due:
                self._serve()

    def _serve(self) -> None:
        self._due = self._clock() + _RETRY_S
        for endpoint in tuple(self._missing):
            reader = endpoint()
            if reader is not None:
                self._missing.remove(endpoint)
                self._provider.add_metric_reader(reader)
                self._addresses.append(str(getattr(reader, "address", "")))
                self._segment.serve_at(" ".join(self._addresses))

    def _live(self) -> None:
        while True:
            sleep(INTERVAL_S)
            if self._is_over or self._provider._shutdown:
                return
            try:
                segments.let_lead_where_threads_run(self._segment)
                self.turn()
            except Exception:
                _logger.exception("It is not known who exports")

    def _end(self) -> None:
        self._is_over = True

    def _after_fork_in_child(self) -> None:
        self._reset()
        segments.let_lead_where_threads_run(self._segment)
        try:
            start_new_thread(self._live, ())
        except RuntimeError as error:
            # A fork at the very end of the interpreter.
            _logger.debug("Process %d does not take over: %s", os.getpid(), error)
