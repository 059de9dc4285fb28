"""Workers and leaders that are killed while they record: nothing is lost but the one event that each was recording, and nothing counts twice.

`make chaos` kills five times as many.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.peers.otlp import Receiver, attributes_of, http_receiver, metrics_to
from tests.peers.prefork import Group, group

SCALE = 5 if os.environ.get("CHAOS") else 1
WORKERS_KILLED = 200 * SCALE
LEADERS_KILLED = 50 * SCALE
ENDPOINT_BACK_S = 2.0
EVENTS = ("prefork", "prefork.events", frozenset[tuple[str, str]]())
SIZES = ("prefork", "prefork.size", frozenset[tuple[str, str]]())


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


def has_more(receiver: Receiver, than: int) -> bool:
    """Whether more requests have arrived."""
    return len(receiver.requests) > than


@pytest.mark.timeout(300)
@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_exports_go_on_after_each_kill_of_a_leader_and_count_nothing_twice(temporality: str, tmp_path: Path) -> None:
    """An OTLP receiver gets one stream: cumulative sums never fall and end at the truth, deltas add up to no more than it and miss little."""
    with http_receiver() as receiver:
        env = {**metrics_to(receiver, temporality), "OTEL_METRICS_EXPORTER": "prometheus,otlp"}
        env |= {"OTEL_METRIC_EXPORT_INTERVAL": "200", "OTEL_TRACES_EXPORTER": "none"}
        kills = 5
        with group(tmp_path, 4, f"killed-exporters-{temporality}", **env) as running:
            for _ in range(kills):
                before = len(receiver.requests)
                running.kill_leader()
                receiver.wait_for(partial(has_more, receiver, before + 2))
            running.stop()
            recorded = running.recorded()
            last = len(receiver.requests)
            receiver.wait_for(partial(has_more, receiver, last + 1))
        resources = [of.resource for request in receiver.requests for of in request.resource_metrics]
        assert len({attributes_of(resource)["service.instance.id"] for resource in resources}) == 1
        points = [receiver.points(number) for number in range(len(receiver.requests))]
        counts = [found[EVENTS].as_int for found in points if EVENTS in found]
        sizes = [found[SIZES].count for found in points if SIZES in found]
        for values in (counts, sizes):
            if temporality == "cumulative":
                assert values == sorted(values)
                assert recorded <= values[-1] <= recorded + kills
            else:
                # Half a second and one look at each take-over, of some that lasted at least as long as three exports each.
                assert recorded / 4 <= sum(values) <= recorded + kills
