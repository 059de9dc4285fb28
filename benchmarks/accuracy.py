"""Percentiles against the exact ones: otel_perf at each precision step, the hdrhistogram package, and what interpolated buckets would have said.

Run as ``python -m benchmarks.accuracy [--samples N] [--json PATH]``. Samples are recorded through an instrument and read back as a `HistogramSnapshot`.
The exact percentile is the sample of HdrHistogram's rank (``int(p / 100 * n + 0.5)``, at least 1) among the sorted samples. Errors are relative to it.

Buckets are interpolated as Prometheus does (``histogram_quantile``): linearly within an explicit bucket, the last finite boundary for what is above it;
geometrically within an exponential one of 160 buckets, the SDK's default. Boundaries are those of the HTTP semantic conventions for seconds and the SDK's
default ones otherwise.
"""

from __future__ import annotations

import argparse
import bisect
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hdrh.histogram import HdrHistogram
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from benchmarks import machine, traffic
from benchmarks.harness import at_least, progress
from otel_perf import HistogramSnapshot, MeterProvider

SAMPLES_MIN = 10_000
SAMPLES_DEFAULT = 1_000_000
PERCENTILES = [50.0, 90.0, 99.0, 99.9]
LIMIT = 0.001
"""Largest relative error at full precision."""
PROMISED = {3.0: LIMIT, 2.0: 0.008, 1.5: 0.032, 0.0: 1.0}
"""Width of a slot by step, relative to the value (crates/core/src/hdr.rs)."""
_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
_DEFAULT = [0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0]
_EXPONENTIAL_SIZE = 160
_EXPONENTIAL_SCALE = 20
_HIGHEST = 2**49 - 1
# Unit of the instrument, typical value in that unit, and how the table calls it.
_SCALES = [
    ("s", 2e-6, "2 us"),
    ("s", 20e-6, "20 us"),
    ("s", 0.02, "20 ms"),
    ("s", 60.0, "1 min"),
    ("ms", 20.0, "20 ms"),
    ("By", 20_000.0, "20 kB"),
]
_LADDER_SERIES = (20, 100, 400, 1000)
_SWEEP = 101
_SWEEP_SAMPLES = 50_000


def _lognormal(chance: random.Random) -> float:
    return chance.lognormvariate(0, 0.5)


def _exponential(chance: random.Random) -> float:
    return chance.expovariate(1)


def _bimodal(chance: random.Random) -> float:
    # A cache that is hit nine times in ten, and thirty times slower when it is not.
    return chance.lognormvariate(0, 0.2) * (1 if chance.random() < 0.9 else 30)


def _pareto(chance: random.Random) -> float:
    return chance.paretovariate(2)


def _uniform(chance: random.Random) -> float:
    return chance.uniform(0, 2)


def _constant(_: random.Random) -> float:
    return 1.0


_DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    "lognormal": _lognormal,
    "exponential": _exponential,
    "bimodal": _bimodal,
    "pareto": _pareto,
    "uniform": _uniform,
    "constant": _constant,
}


@dataclass
class _Samples:
    """Sorted samples and what is asked of them."""

    ordered: list[float]

    def rank(self, percentile: float) -> int:
        return max(1, int(percentile / 100 * len(self.ordered) + 0.5))

    def exact(self, percentile: float) -> float:
        return self.ordered[self.rank(percentile) - 1]

    def explicit(self, percentile: float, boundaries: list[float]) -> float:
        """The percentile that explicit buckets answer, interpolated."""
        index = bisect.bisect_left(boundaries, self.exact(percentile))
        if index == len(boundaries):
            return boundaries[-1]
        low, high = boundaries[index - 1] if index else 0.0, boundaries[index]
        below = bisect.bisect_right(self.ordered, low) if index else 0
        count = bisect.bisect_right(self.ordered, high) - below
        return low + (high - low) * (self.rank(percentile) - below) / count

    def exponential(self, percentile: float) -> float:
        """The percentile that an exponential histogram at the finest scale that fits answers, interpolated."""
        low = next((sample for sample in self.ordered if sample > 0), 1.0)
        scale = _EXPONENTIAL_SCALE
        while _bucket(self.ordered[-1], scale) - _bucket(low, scale) >= _EXPONENTIAL_SIZE:
            scale -= 1
        exact = self.exact(percentile)
        if exact <= 0:
            return 0.0
        # Log2 is monotonic, so a bucket is a run of the sorted samples.
        bucket = _bucket(exact, scale)
        zeros = bisect.bisect_right(self.ordered, 0)
        begin = bisect.bisect_left(self.ordered, bucket, lo=zeros, key=lambda sample: _bucket(sample, scale))
        end = bisect.bisect_right(self.ordered, bucket, lo=begin, key=lambda sample: _bucket(sample, scale))
        fraction = (self.rank(percentile) - begin) / (end - begin)
        return float(2 ** ((bucket + fraction) / 2**scale))


def _bucket(value: float, scale: int) -> int:
    """Index of the exponential bucket of a positive value (OpenTelemetry metrics data model)."""
    return math.ceil(math.ldexp(math.log2(value), scale)) - 1


def _error(found: float, exact: float) -> float:
    """Relative error; without a value to be relative to, any difference is infinite."""
    if exact == 0:
        return 0.0 if found == 0 else math.inf
    return abs(found - exact) / exact


def _errors(found: Callable[[float], float], samples: _Samples) -> list[float]:
    return [round(_error(found(percentile), samples.exact(percentile)), 6) for percentile in PERCENTILES]


def _recorded(values: list[float], unit: str) -> HistogramSnapshot:
    """What an instrument in a segment of its own has after the recordings."""
    provider = MeterProvider([InMemoryMetricReader()], resource=Resource({}), shutdown_on_exit=False)
    try:
        histogram = provider.get_meter("benchmark").create_histogram("h", unit)
        for value in values:
            histogram.record(value)
        (series,) = provider.segment.histograms()
        return series.snapshot
    finally:
        provider.shutdown()


def _case(name: str, unit: str, scale: float, label: str, count: int) -> dict[str, Any]:
    """Errors of one distribution in one unit."""
    chance = random.Random(f"{name} {unit} {scale}")
    draw = _DISTRIBUTIONS[name]
    values = [scale * draw(chance) for _ in range(count)]
    if unit == "By":
        values = [float(round(value)) for value in values]
    snapshot = _recorded(values, unit)
    if snapshot.count != count:
        raise AssertionError(f"{name} {label}: {count} recordings made, {snapshot.count} arrived")
    samples = _Samples(sorted(values))
    boundaries = _SECONDS if unit == "s" else _DEFAULT
    errors = {f"digits_{step}": _errors(snapshot.coarsened(step).percentile, samples) for step in PROMISED}
    return {
        "distribution": name,
        "unit": unit,
        "around": label,
        "published_digits": snapshot.digits,
        "exact": [samples.exact(percentile) for percentile in PERCENTILES],
        "recorded": _errors(snapshot.percentile, samples),
        **errors,
        "explicit": _errors(lambda percentile: samples.explicit(percentile, boundaries), samples),
        "exponential": _errors(samples.exponential, samples),
        "same_as_hdrhistogram": _is_hdrhistograms(snapshot, values),
    }


def _is_hdrhistograms(snapshot: HistogramSnapshot, values: list[float]) -> bool:
    """Whether the hdrhistogram package, given the same integers, answers the same; it reports slot ends, ours never exceeds the maximum."""
    oracle = HdrHistogram(1, _HIGHEST, 3)
    per_one = snapshot.units_per_one
    for value in values:
        oracle.record_value(round(value * per_one))
    expected = [min(oracle.get_value_at_percentile(p) / per_one, snapshot.max) for p in PERCENTILES]
    return expected == snapshot.percentiles(PERCENTILES)


def _cases(count: int) -> Iterator[dict[str, Any]]:
    for name in _DISTRIBUTIONS:
        for unit, scale, label in _SCALES:
            progress(f"{name} around {label} in {unit}")
            yield _case(name, unit, scale, label, count)


def _ladder(series: int) -> dict[str, Any]:
    """Errors of many series that share one segment, by the step that each publishes."""
    requests = traffic.Traffic(series=series)
    provider = MeterProvider([InMemoryMetricReader()], resource=Resource({}), shutdown_on_exit=False)
    values: dict[str, list[float]] = defaultdict(list)
    for route, seconds in zip(requests.routes, requests.seconds, strict=True):
        values[requests.names[route]].append(seconds)
    found: dict[float, list[float]] = defaultdict(list)
    overflow = 0
    try:
        requests.record(provider.get_meter("benchmark").create_histogram("duration", "s"))
        for one in provider.segment.histograms():
            if "otel.metric.overflow" in one.attributes:
                overflow += one.snapshot.count
                continue
            samples = _Samples(sorted(values[one.attributes["http.route"]]))
            if len(samples.ordered) == one.snapshot.count:
                found[one.snapshot.digits].append(max(_errors(one.snapshot.percentile, samples)))
    finally:
        provider.shutdown()
    steps = [
        {
            "digits": digits,
            "series": len(errors),
            "largest_error": max(errors),
            "median_error": statistics.median(errors),
            "promised": PROMISED[digits],
            "met": max(errors) <= PROMISED[digits],
        }
        for digits, errors in sorted(found.items(), reverse=True)
    ]
    return {"series": series, "overflow": overflow, "steps": steps}


def _units() -> dict[str, Any]:
    """Decision 0002: lognormal durations whose median goes from 20 to 21 microseconds, kept as integer nanoseconds and as integer microseconds."""
    largest = {"nanoseconds": 0.0, "microseconds": 0.0}
    chance = random.Random(2)
    shapes = [chance.lognormvariate(0, 0.5) for _ in range(_SWEEP_SAMPLES)]
    for number in range(_SWEEP):
        progress(f"units: {number + 1} of {_SWEEP}")
        median = (20 + number / (_SWEEP - 1)) * 1e-6
        values = [median * shape for shape in shapes]
        samples = _Samples(sorted(values))
        for unit, per_one in (("nanoseconds", 1e9), ("microseconds", 1e6)):
            # Bytes are kept one to one, so this is a histogram of these integers.
            snapshot = HistogramSnapshot.of([float(round(value * per_one)) for value in values], "By")
            errors = [_error(snapshot.percentile(p) / per_one, samples.exact(p)) for p in PERCENTILES]
            largest[unit] = max(largest[unit], *errors)
    return {
        "median_us": [20, 21],
        "sigma": 0.5,
        "samples": _SWEEP_SAMPLES,
        "medians": _SWEEP,
        "largest_error": {unit: round(error, 6) for unit, error in largest.items()},
    }


def measure(count: int) -> dict[str, Any]:
    """Runs all cases.

    Args:
        count: Samples of each distribution in each unit.

    Returns:
        What is written as JSON.
    """
    cases = list(_cases(count))
    ladder = []
    for series in _LADDER_SERIES:
        progress(f"{series} series in one segment")
        ladder.append(_ladder(series))
    units = _units()
    progress(None)
    result = {"samples": count, "percentiles": PERCENTILES, "cases": cases, "ladder": ladder, "units": units}
    return result | {"figures": _figures(cases, ladder, units)}


def _figures(cases: list[dict[str, Any]], ladder: list[dict[str, Any]], units: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures that the project promises, with whether each is met."""
    wanted = [("largest error as recorded", max(max(case["recorded"]) for case in cases), LIMIT)]
    for digits, promised in PROMISED.items():
        largest = max(max(case[f"digits_{digits}"]) for case in cases)
        wanted.append((f"largest error coarsened to {digits} digits", largest, promised))
    for one in ladder:
        wanted += [
            (
                f"largest error of {step['series']} of {one['series']} series, publishing {step['digits']} digits",
                step["largest_error"],
                step["promised"],
            )
            for step in one["steps"]
        ]
    wanted.append(("decision 0002: in nanoseconds", units["largest_error"]["nanoseconds"], LIMIT))
    figures = [
        {"figure": name, "value": value, "target": f"<= {bound:.1%}", "met": value <= bound}
        for name, value, bound in wanted
    ]
    different = sum(not case["same_as_hdrhistogram"] for case in cases)
    coarse = sum(case["published_digits"] != 3.0 for case in cases)
    return [
        *figures,
        {"figure": "cases that differ from hdrhistogram", "value": different, "target": "<= 0", "met": different == 0},
        {"figure": "cases below three digits", "value": coarse, "target": "<= 0", "met": coarse == 0},
    ]


def show(result: dict[str, Any]) -> None:
    """Prints the results."""
    names = ["recorded", "digits_2.0", "digits_1.5", "digits_0.0", "explicit", "exponential"]
    print(
        f"{'largest error of ' + str(PERCENTILES):<52}" + "".join(f"{name:>13}" for name in names) + "  as hdrhistogram"
    )
    for case in result["cases"]:
        label = f"{case['distribution']} around {case['around']} in {case['unit']}, {case['published_digits']} digits"
        cells = "".join(f"{max(case[name]):>13.4%}" for name in names)
        print(f"{label:<52}{cells}  {'yes' if case['same_as_hdrhistogram'] else 'NO'}")
    units = result["units"]["largest_error"]
    print(
        f"\ndurations around 20 us kept in nanoseconds {units['nanoseconds']:.4%}, in microseconds {units['microseconds']:.4%}\n"
    )
    for figure in result["figures"]:
        met = "met   " if figure["met"] else "MISSED"
        print(f"{met} {figure['figure']:<64} {figure['value']:>10.6f}  {figure['target']}")


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description="Error of percentiles.")
    parser.add_argument(
        "--samples", type=at_least(SAMPLES_MIN), default=SAMPLES_DEFAULT, help="samples of each distribution"
    )
    parser.add_argument("--json", metavar="PATH", help="where to write the results")
    options = parser.parse_args()
    machine.require_release_build()
    result = measure(options.samples)
    show(result)
    machine.write(options.json, {**result, **machine.description()})


if __name__ == "__main__":
    main()
