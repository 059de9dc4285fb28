"""Threads that record while others collect: exact totals, and no exception anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

from otel_perf import MeterProvider
from tests.conftest import points_of

THREADS = 8
ROUNDS = 20_000


def test_eight_threads_and_a_collector_count_exactly(make_provider: Callable[..., MeterProvider]) -> None:
    """Counters, histograms and bound instruments are exact after eight threads, and never fall while a collector watches."""
    cumulative = InMemoryMetricReader()
    delta = InMemoryMetricReader(
        preferred_temporality={Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    )
    provider = make_provider(cumulative, delta)
    meter = provider.get_meter("m")
    counter, histogram, gauge = meter.create_counter("c"), meter.create_histogram("h", "s"), meter.create_gauge("g")
    done = threading.Event()
    begin = threading.Barrier(THREADS + 1)
    deltas: dict[Any, float] = {}
    seen: list[float] = []

    def record(number: int) -> None:
        own, shared = {"thread": number}, {"thread": "all"}
        bound: Any = counter.bind(shared)  # type: ignore[attr-defined]
        begin.wait()
        for step in range(ROUNDS):
            counter.add(1, own)
            bound.add(1)
            histogram.record(0.001 * (step % 100 + 1), shared)
            histogram.record(0.5, {"thread": number, "fresh": f"{step % 3}"})
            gauge.set(step, own)

    def take_deltas() -> None:
        for key, point in points_of(delta.get_metrics_data()).items():
            if key[0] != "g":
                deltas[key] = deltas.get(key, 0) + getattr(point, "count", getattr(point, "value", 0))

    def collect() -> None:
        begin.wait()
        while not done.is_set():
            take_deltas()
            key = ("c", frozenset({("thread", "all")}))
            seen.append(getattr(points_of(cumulative.get_metrics_data()).get(key), "value", 0))

    with ThreadPoolExecutor(THREADS + 1) as pool:
        collector = pool.submit(collect)
        for future in [pool.submit(record, number) for number in range(THREADS)]:
            future.result()
        done.set()
        collector.result()
    take_deltas()
    final = points_of(cumulative.get_metrics_data())

    everyone = frozenset({("thread", "all")})
    assert final["c", everyone].value == deltas["c", everyone] == THREADS * ROUNDS
    assert (
        final["h", everyone].count
        == deltas["h", everyone]
        == sum(final["h", everyone].bucket_counts)
        == THREADS * ROUNDS
    )
    for number in range(THREADS):
        own = frozenset({("thread", number)})
        assert final["c", own].value == deltas["c", own] == ROUNDS
        assert final["g", own].value == ROUNDS - 1
        fresh = [final["h", own | {("fresh", str(n))}].count for n in range(3)]
        assert sum(fresh) == ROUNDS
    assert seen == sorted(seen)


def test_racing_creators_get_one_instrument(provider: MeterProvider) -> None:
    """Threads that create the identical instrument at once all get the identical object."""
    begin = threading.Barrier(THREADS)

    def create(_: int) -> list[Any]:
        begin.wait()
        return [provider.get_meter("m").create_counter(f"c{number}") for number in range(50)]

    with ThreadPoolExecutor(THREADS) as pool:
        made = list(pool.map(create, range(THREADS)))

    assert all(len({id(row[number]) for row in made}) == 1 for number in range(50))
