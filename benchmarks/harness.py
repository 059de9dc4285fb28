"""Measures nanoseconds per call of statements, all of them interleaved in one run, in CPU time of the thread.

Each statement becomes a function with a loop around it. A round runs every function once, so that a change of the machine's speed hits all
of them; the figure is the median over the rounds. The empty loop is a statement like the others and is subtracted.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_TARGET_NS = 2_000_000
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
        check: Called before timing; raises if the call does not do what it should.
        label: What the result is reported under.
    """

    source: str
    names: dict[str, Any] = field(default_factory=dict)
    check: Callable[[], None] | None = None
    label: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Cost of one statement.

    Attributes:
        ns: Median nanoseconds per call without the loop.
        raw_ns: The same with the loop.
        spread: Half the distance between the 10th and the 90th percentile of the rounds, relative to the raw median.
        checked: Whether a check ran.
    """

    ns: float
    raw_ns: float
    spread: float
    checked: bool


def _compile(statement: Statement) -> Callable[[Iterator[None]], int]:
    names = {"now": time.thread_time_ns, **statement.names}
    source = _LOOP.format(names=", ".join(names), statement=statement.source)
    space: dict[str, Any] = {}
    exec(compile(source, f"<{statement.source}>", "exec"), space)  # noqa: S102 - the statements are this package's own.
    timed = space["timed"]
    return lambda it: timed(it, *names.values())


def _calls(timed: Callable[[Iterator[None]], int]) -> int:
    """Number of calls that take about two milliseconds."""
    calls = 100
    while True:
        taken = timed(itertools.repeat(None, calls))
        if taken > _TARGET_NS / 10 or calls >= 1_000_000:
            return max(100, min(1_000_000, int(calls * _TARGET_NS / max(taken, 1))))
        calls *= 4


def measure(statements: list[Statement], rounds: int) -> list[Result]:
    """Times statements.

    Args:
        statements: What to time; checks run first.
        rounds: Number of rounds, at least 3.

    Returns:
        One result for each statement.
    """
    for statement in statements:
        if statement.check is not None:
            statement.check()
    timed = [_compile(statement) for statement in [Statement("pass"), *statements]]
    calls = [_calls(function) for function in timed]
    samples: list[list[float]] = [[] for _ in timed]
    for number in range(rounds):
        print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
        for function, count, into in zip(timed, calls, samples, strict=True):
            into.append(function(itertools.repeat(None, count)) / count)
    print(file=sys.stderr)
    empty = statistics.median(samples[0])
    return [
        _result(statement, taken, empty) for statement, taken in zip(statements, samples[1:], strict=True)
    ]


def _result(statement: Statement, taken: list[float], empty: float) -> Result:
    deciles = statistics.quantiles(taken, n=10)
    median = statistics.median(taken)
    return Result(
        ns=median - empty,
        raw_ns=median,
        spread=(deciles[-1] - deciles[0]) / 2 / median,
        checked=statement.check is not None,
    )
