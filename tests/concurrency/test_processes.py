"""Forked, spawned and killed processes count into one segment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.concurrency.programs import ROUNDS
from tests.peers.program import run


def program(name: str) -> dict[str, Any]:
    """Output of a program in `programs.py`."""
    done = run("-m", "tests.concurrency.programs", name, wrapper=False, timeout=60)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", ["forks", "fork", "spawn"])
def test_children_count_into_their_parents_segment(name: str) -> None:
    """Everything that parent and children record is there exactly once, also with threads recording across the forks."""
    found = program(name)

    assert set(found["codes"]) == {0}
    assert found["h"] == found["expected"]
    assert found["c"] == 2 * found["expected"]


def test_a_killed_workers_counts_stay_and_its_gauges_go() -> None:
    """After kill -9 counters and histograms keep all recordings, up-down counters and gauges lose the dead worker's share."""
    found = program("killed")

    for number, turn in enumerate(("first", "second"), start=1):
        alive, dead = found[turn]["alive"], found[turn]["dead"]
        assert (alive["c"], alive["h"], alive["u"], alive["g"]) == (2 * number * ROUNDS, number * ROUNDS, 101, 7)
        assert (dead["c"], dead["h"], dead["u"]) == (2 * number * ROUNDS, number * ROUNDS, 1)
        assert "g" not in dead
