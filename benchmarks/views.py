"""Cost of setting up views: 100 of them on 200 instruments, with otel_perf and with the stock SDK.

Run as ``python -m benchmarks.views [--rounds N] [--json PATH]``. A round makes a provider with the views, the instruments, and one recording into each,
once for each variant in another order. Making and recording are timed apart, because the SDK looks for an instrument's views at its first recording, and
otel_perf when the instrument is made. Every kind of selector and aggregation is among the views; each instrument matches some and none matches most.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)

from benchmarks import machine
from benchmarks.harness import ROUNDS_MIN, at_least, progress, spread
from otel_perf import MeterProvider

VIEWS = 100
INSTRUMENTS = 200
ROUNDS_DEFAULT = 51
TARGET_MS = 20
VARIANTS: dict[str, tuple[Any, int]] = {
    "otel_perf": (MeterProvider, VIEWS),
    "otel_perf, no view": (MeterProvider, 0),
    "stock": (SdkMeterProvider, VIEWS),
    "stock, no view": (SdkMeterProvider, 0),
}
_SELECTIONS: list[Callable[[int], dict[str, Any]]] = [
    lambda n: {"instrument_name": f"instrument.{n}", "name": f"renamed.{n}", "description": "Renamed."},
    lambda n: {"instrument_name": f"*.{n}", "attribute_keys": {"route", "status"}},
    lambda n: {"instrument_name": f"instrument.{n}?", "instrument_type": Counter, "attribute_keys": {"route"}},
    lambda n: {
        "instrument_type": Histogram,
        "instrument_name": f"instrument.?{n}",
        "aggregation": ExplicitBucketHistogramAggregation([1, 5, 25]),
    },
    lambda n: {"meter_name": f"scope.{n}", "aggregation": DropAggregation()},
    lambda n: {"instrument_unit": f"unit.{n}", "aggregation": ExponentialBucketHistogramAggregation()},
]


def views(number: int) -> list[View]:
    """So many views, of every kind in turn."""
    selections = itertools.islice(itertools.cycle(_SELECTIONS), number)
    return [View(**selection(n)) for n, selection in enumerate(selections)]


def once(provider_class: Any, number: int) -> tuple[float, float, int]:
    """Milliseconds of CPU time for provider and instruments, those for one recording each, and the points that came of them."""
    chosen, reader = views(number), InMemoryMetricReader()
    begin = time.thread_time_ns()
    provider = provider_class([reader], views=chosen, shutdown_on_exit=False)
    meter = provider.get_meter("benchmark")
    make = itertools.cycle(
        [
            (meter.create_counter, "add"),
            (meter.create_histogram, "record"),
            (meter.create_up_down_counter, "add"),
            (meter.create_gauge, "set"),
        ]
    )
    calls = [
        getattr(create(f"instrument.{n}"), verb) for n, (create, verb) in zip(range(INSTRUMENTS), make, strict=False)
    ]
    made = time.thread_time_ns()
    for call in calls:
        call(1, {"route": "/", "status": 200, "other": 1})
    recorded = time.thread_time_ns()
    data: Any = reader.get_metrics_data()
    provider.shutdown()
    points = [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    return (made - begin) / 1e6, (recorded - made) / 1e6, len(points)


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description="Cost of setting up views.")
    parser.add_argument("--rounds", type=at_least(ROUNDS_MIN), default=ROUNDS_DEFAULT, help=f"default {ROUNDS_DEFAULT}")
    parser.add_argument("--json", metavar="PATH", help="where to write the results")
    options = parser.parse_args()
    machine.require_release_build()
    # Both warn of views that meet in one instrument, which costs more than everything else.
    logging.disable()
    samples: dict[str, list[tuple[float, float, int]]] = {name: [] for name in VARIANTS}
    order = random.Random(1)
    for number in range(options.rounds + 1):
        progress(f"round {number} of {options.rounds}")
        for name in order.sample(list(VARIANTS), len(VARIANTS)):
            found = once(*VARIANTS[name])
            if number > 0:
                samples[name].append(found)
    progress(None)
    for suffix in ("", ", no view"):
        points = {samples[impl + suffix][0][2] for impl in ("otel_perf", "stock")}
        assert len(points) == 1, f"the implementations do not export as many points: {points}"
    variants: list[dict[str, Any]] = [
        {
            "variant": name,
            "made_ms": round(statistics.median(made for made, _, _ in taken), 3),
            "made_spread": round(spread([made for made, _, _ in taken]), 4),
            "recorded_ms": round(statistics.median(recorded for _, recorded, _ in taken), 3),
            "recorded_spread": round(spread([recorded for _, recorded, _ in taken]), 4),
            "points": taken[0][2],
        }
        for name, taken in samples.items()
    ]
    both = {one["variant"]: one["made_ms"] + one["recorded_ms"] for one in variants}
    value = round(both["otel_perf"], 3)
    figure = {
        "figure": f"{VIEWS} views and {INSTRUMENTS} instruments made, and one recording each, ms",
        "value": value,
        "target": f"<= {TARGET_MS}",
        "met": value <= TARGET_MS,
    }
    for one in variants:
        print(
            f"{one['variant']:<20} made {one['made_ms']:>7.2f} ms (+- {one['made_spread']:.1%}), first recordings "
            f"{one['recorded_ms']:>7.2f} ms (+- {one['recorded_spread']:.1%}), {one['points']} points"
        )
    print(f"\n{'met   ' if figure['met'] else 'MISSED'} {figure['figure']} {value} {figure['target']}")
    machine.write(
        options.json,
        {"variants": variants, "rounds": options.rounds, "figures": [figure], **machine.description()},
    )


if __name__ == "__main__":
    main()
