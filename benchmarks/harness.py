"""Measures nanoseconds per call of statements, all of them interleaved in one run, in CPU time of the thread.

Each statement becomes a function with a loop around it. A round runs every function once, in an order that changes from round to round, so
that a change of the machine's speed hits all of them and none always follows the same neighbour. The figure is the median over the rounds. The empty
loop is a statement like the others and is subtracted. Every call is accounted for: what a statement recorded is compared with how often it ran,
after its first call and again at the end.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

ROUNDS_MIN = 3
ROUNDS_DEFAULT = 31
_ROUND_MS = 3
_CALLS_MAX = 1_000_000
_LOOP = """
def timed(it, {names}):
    begin = now()
    for _ in it:
        {statement}
    return now() - begin
"""


@dataclass
class Statement:
    """A statement to time.

    Attributes:
        source: Python source of one call.
        names: Objects that the source uses, as locals.
        arrived: Called with the number of calls so far; raises AssertionError unless exactly these have arrived.
        label: What the result is reported under.
        round_ms: CPU time that one round takes; more for statements that touch so much memory that the round's first calls would weigh in.
        surrounding: Entered before a round and left after it, untimed.
        calls_max: Most calls of a round.
    """

    source: str
    names: dict[str, Any] = field(default_factory=dict)
    arrived: Callable[[int], None] | None = None
    label: dict[str, Any] = field(default_factory=dict)
    round_ms: int = _ROUND_MS
    surrounding: Callable[[], AbstractContextManager[Any]] = nullcontext
    calls_max: int = _CALLS_MAX


@dataclass(frozen=True)
class Result:
    """Cost of one statement.

    Attributes:
        ns: Median nanoseconds per call without the loop.
        raw_ns: The same with the loop.
        spread: Half the distance between the 10th and the 90th percentile of the rounds, relative to the raw median.
        checked: Whether the first call and the total of all calls were seen to arrive.
    """

    ns: float
    raw_ns: float
    spread: float
    checked: bool


class _Timed:
    """The compiled loop of one statement, which counts its calls."""

    def __init__(self, statement: Statement) -> None:
        names = {"now": time.thread_time_ns, **statement.names}
        space: dict[str, Any] = {}
        source = _LOOP.format(names=", ".join(names), statement=statement.source)
        exec(compile(source, f"<{statement.source}>", "exec"), space)
        self._function: Callable[..., int] = space["timed"]
        self._arguments = tuple(names.values())
        self._statement = statement
        self._calls = 0
        self.samples: list[float] = []

    def run(self, calls: int) -> int:
        """Runs the loop and returns nanoseconds of CPU time."""
        self._calls += calls
        with self._statement.surrounding():
            return self._function(itertools.repeat(None, calls), *self._arguments)

    def calls_per_round(self) -> int:
        """Number of calls that take about as long as a round should; finding out also warms the interpreter's caches up."""
        target_ns = self._statement.round_ms * 1_000_000
        calls = 100
        while True:
            taken = max(self.run(calls), 1)
            if taken > target_ns / 10 or calls >= self._statement.calls_max:
                return max(1, min(self._statement.calls_max, calls * target_ns // taken))
            calls *= 4

    def check(self) -> bool:
        """Whether the statement can be checked; raises if a call is missing."""
        if self._statement.arrived is None:
            return False
        try:
            self._statement.arrived(self._calls)
        except AssertionError as error:
            raise AssertionError(f"{self._statement.label} {self._statement.source}: {error}") from error
        return True


def measure(statements: list[Statement], rounds: int) -> list[Result]:
    """Times statements.

    Args:
        statements: What to time.
        rounds: Number of rounds, at least `ROUNDS_MIN`.

    Returns:
        One result for each statement.

    Raises:
        AssertionError: A statement did not record what it should, so that its time would mean nothing.
    """
    timed = [_Timed(statement) for statement in [Statement("pass"), *statements]]
    for one in timed:
        one.run(1)
        one.check()
    plan = [(one, one.calls_per_round()) for one in timed]
    # Seeded, so that two runs have the same order.
    order = random.Random(1)
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for one, calls in order.sample(plan, len(plan)):
            one.samples.append(one.run(calls) / calls)
    progress(None)
    empty = statistics.median(timed[0].samples)
    return [_result(one, empty) for one in timed[1:]]


def _result(timed: _Timed, empty: float) -> Result:
    median = statistics.median(timed.samples)
    return Result(ns=median - empty, raw_ns=median, spread=spread(timed.samples), checked=timed.check())


def spread(samples: list[float]) -> float:
    """Half the distance between the 10th and the 90th percentile, relative to the median."""
    deciles = statistics.quantiles(samples, n=10, method="inclusive")
    return (deciles[-1] - deciles[0]) / 2 / statistics.median(samples)


def progress(text: str | None) -> None:
    """Shows one line of progress on stderr that the next one replaces; None ends it."""
    print(f"\r{text or '':<78}", end="\n" if text is None else "", file=sys.stderr, flush=True)


def at_least(minimum: int) -> Callable[[str], int]:
    """An argument type for whole numbers from `minimum` on."""

    def parse(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise ValueError(text)
        return number

    parse.__name__ = f"whole number from {minimum} on,"
    return parse
