"""Responsible for the load generator's own bookkeeping, and for comparing it with what was measured from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple


class RouteKey(NamedTuple):
    """One route of the shop as telemetry names it: the template, not the path that was asked for."""

    route: str
    method: str


class Tally:
    """Counts requests from the moment they are sent; used from one event loop, without locks."""

    def __init__(self) -> None:
        self.sent: Counter[RouteKey] = Counter()
        self.answered: Counter[RouteKey] = Counter()
        self.failed: Counter[RouteKey] = Counter()
        self.failures: Counter[str] = Counter()

    def send(self, key: RouteKey) -> None:
        """Notes that a request leaves; exactly one `answer` or `fail` follows."""
        self.sent[key] += 1

    def answer(self, key: RouteKey) -> None:
        """Notes a complete answer, whatever its status."""
        self.answered[key] += 1

    def fail(self, key: RouteKey, reason: str) -> None:
        """Notes a request that got no complete answer, with the reason in a few words."""
        self.failed[key] += 1
        self.failures[reason] += 1

    @property
    def in_flight(self) -> int:
        """Requests sent that have neither been answered nor failed."""
        return self.sent.total() - self.answered.total() - self.failed.total()


class Difference(NamedTuple):
    """A route that was sent and counted a different number of times."""

    key: RouteKey
    sent: int
    counted: int


def differences(sent: Mapping[RouteKey, int], counted: Mapping[RouteKey, int]) -> list[Difference]:
    """Returns the routes on which both sides disagree, sorted; an empty list means that they are equal."""
    pairs = (Difference(key, sent.get(key, 0), counted.get(key, 0)) for key in sorted(sent.keys() | counted.keys()))
    return [pair for pair in pairs if pair.sent != pair.counted]


def closing_line(sent: Mapping[RouteKey, int], counted: Mapping[RouteKey, int]) -> str:
    """Says in one line whether both totals are equal, and where not, on which routes they differ."""
    line = f"Requests sent by the load generator: {sum(sent.values())}; counted by otel_perf: {sum(counted.values())}: "
    wrong = differences(sent, counted)
    if not wrong:
        return line + "equal, on every route."
    details = ", ".join(f"{key.method} {key.route} sent {sent} counted {counted}" for key, sent, counted in wrong)
    return f"{line}DIFFERENT ({details})."
