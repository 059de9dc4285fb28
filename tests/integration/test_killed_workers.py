"""Workers and leaders that are killed while they record: nothing is lost but the one event that each was recording, and nothing counts twice.

`make chaos` kills five times as many.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.peers.prefork import Group, group

SCALE = 5 if os.environ.get("CHAOS") else 1
WORKERS_KILLED = 200 * SCALE
LEADERS_KILLED = 50 * SCALE
ENDPOINT_BACK_S = 2.0


def check(running: Group, killed: int) -> None:
    """The endpoint says what was recorded, and never said less than before."""
    running.stop()
    assert running.counts == sorted(running.counts)
    recorded = running.recorded()
    page = running.page()
    for counted in (page.total("prefork_events_total"), page.total("prefork_size_bytes_count")):
        assert recorded <= counted <= recorded + killed
    # What the dead held went with them.
    assert page.total("prefork_active") == len(running.alive)


@pytest.mark.timeout(900)
def test_workers_that_are_killed_lose_nothing_but_the_event_in_flight(tmp_path: Path) -> None:
    """Of four workers any but the leader is killed again and again under load, scraped in between."""
    with group(tmp_path, 4, "killed-workers") as running:
        leader = running.leader()
        for _ in range(WORKERS_KILLED):
            running.kill_any(but=leader)
            assert running.scrape()
        assert len(running.pids) == 4 + WORKERS_KILLED
        check(running, WORKERS_KILLED)


@pytest.mark.timeout(900)
def test_a_killed_leader_is_followed_by_another_one_within_two_seconds(tmp_path: Path) -> None:
    """The first leader is the process that was started; each one that is killed is followed by a worker, whose endpoint says no less than the last one."""
    with group(tmp_path, 4, "killed-leaders") as running:
        assert running.leader() == running.first
        for _ in range(LEADERS_KILLED):
            running.kill_leader()
        assert max(running.gaps_s) <= ENDPOINT_BACK_S, running.gaps_s
        check(running, LEADERS_KILLED)
