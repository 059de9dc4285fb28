"""Bytes of metric state and resident size, of otel_perf beside the stock SDK, each in fresh processes.

Run as ``python -m benchmarks.memory [--repeat N] [--json PATH]``. A process records a million latencies into a thousand histogram series and then adds
to a counter under a million attribute sets. Resident sizes are those of /proc/self/smaps_rollup, after a garbage collection, and are reported as the
difference to the same process right before its first recording. Unit is the byte.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import machine, traffic
from benchmarks.harness import at_least, progress

LIMIT = 1_048_576
"""Bytes that all state may take: one mebibyte."""
REPEAT_MIN = 2
REPEAT_DEFAULT = 5
IMPLEMENTATIONS = ("otel_perf", "stock", "stock_exponential")
OVERFLOW = "otel.metric.overflow"
_MOMENTS = ("histograms", "recorded", "collected")
"""After the histograms, after the attribute sets, and after a reader has then collected."""
_HISTOGRAM = "http.server.request.duration"
_COUNTER = "orders"
# Binary logarithm of the slots per power of two, and the digits that HistogramSnapshot.digits states for them.
_DIGITS = {10: "3.0", 7: "2.0", 5: "1.5", 0: "0.0"}
_LADDER = [(exponent, created_first) for created_first in (True, False) for exponent in (0.5, 1.0)]
_QUIET = {"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


class _Process:
    """A process that records into one implementation and describes itself."""

    def __init__(self, impl: str) -> None:
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415 - only children record.

        self._impl = impl
        if impl == "otel_perf":
            self._reader = InMemoryMetricReader()
            provider = _ours(self._reader)
        else:
            self._reader = InMemoryMetricReader(preferred_aggregation=_aggregation(impl))
            provider = _stock(self._reader)
        self._provider = provider
        meter = provider.get_meter("benchmark")
        self.histogram = meter.create_histogram(_HISTOGRAM, "s")
        self.counter = meter.create_counter(_COUNTER, "{order}")

    def usage(self) -> dict[str, int] | None:
        """What otel_perf says about its state, by part."""
        if self._impl != "otel_perf":
            return None
        from otel_perf import memory_usage  # noqa: PLC0415 - the stock process must not have loaded it.

        return memory_usage()

    def series(self) -> dict[str, dict[str, int]]:
        """Collects once, as a reader would: number of series and recordings in overflow, by instrument."""
        data = self._reader.get_metrics_data()
        found = {}
        for name, wanted in ((_HISTOGRAM, traffic.SAMPLES), (_COUNTER, traffic.SETS)):
            own = overflow = recorded = 0
            for attributes, count in traffic.points(data, name):
                recorded += count
                own += OVERFLOW not in attributes
                overflow += count if OVERFLOW in attributes else 0
            # Each set was counted once, so those without a series of their own must be exactly the overflow.
            if name == _COUNTER and recorded and own + overflow != wanted:
                raise AssertionError(
                    f"{name} on {self._impl}: {own} series and {overflow} in overflow are not {wanted}"
                )
            if recorded not in (0, wanted):
                raise AssertionError(f"{name} on {self._impl}: {wanted} recordings made, {recorded} arrived")
            found[name] = {"series": own, "recordings": recorded, "overflow": overflow}
        return found

    def ladder(self) -> dict[str, Any] | None:
        """How many series and recordings are at which precision step."""
        if self._impl != "otel_perf":
            return None
        series: Counter[str] = Counter()
        recordings: Counter[str] = Counter()
        overflow = 0
        for one in self._provider.segment.histograms():
            if OVERFLOW in one.attributes:
                overflow += one.snapshot.count
                continue
            series[f"{one.snapshot.digits}"] += 1
            for low, high, count in one.snapshot.slots():
                recordings[_DIGITS[low.bit_length() - (high - low + 1).bit_length()]] += count
        if sum(recordings.values()) + overflow != traffic.SAMPLES:
            raise AssertionError(f"{traffic.SAMPLES} recordings made, {sum(recordings.values())} + {overflow} arrived")
        return {
            "series_by_digits": dict(sorted(series.items(), reverse=True)),
            "recordings_by_digits": dict(sorted(recordings.items(), reverse=True)),
            "overflow": overflow,
        }


def _ours(reader: Any) -> Any:
    os.environ.update(_QUIET)
    os.environ.pop("OTEL_PERF_SEGMENT", None)
    import otel_perf  # noqa: PLC0415 - the stock process must not load it.

    machine.require_release_build()
    otel_perf.configure()
    from opentelemetry.metrics import get_meter_provider  # noqa: PLC0415 - as above.

    provider: Any = get_meter_provider()
    provider.add_metric_reader(reader)
    return provider


def _stock(reader: Any) -> Any:
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - only children record.

    return MeterProvider([reader], shutdown_on_exit=False)


def _aggregation(impl: str) -> Any:
    from opentelemetry.sdk.metrics import Histogram  # noqa: PLC0415 - only children record.
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation  # noqa: PLC0415 - as above.

    return {Histogram: ExponentialBucketHistogramAggregation()} if impl == "stock_exponential" else None


def _resident() -> dict[str, int]:
    """Resident and proportional set size of this process."""
    gc.collect()
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name.lower()] = int(rest.split()[0]) * 1024
    return found


def _child(impl: str, exponent: float, *, created_first: bool, ladder_only: bool) -> dict[str, Any]:
    """Records and describes what came of it; runs in a process of its own."""
    requests = traffic.Traffic(exponent, created_first=created_first)
    process = _Process(impl)
    process.series()
    before = _resident()
    requests.record(process.histogram)
    result: dict[str, Any] = {"before": before, "histograms": _resident(), "ladder": process.ladder()}
    result["usage_histograms"] = process.usage()
    if impl == "stock_exponential":
        # Its counter is that of the stock implementation.
        result["series"] = process.series()
    elif not ladder_only:
        traffic.count_distinct(process.counter)
        result |= {"recorded": _resident(), "usage_sets": process.usage(), "series": process.series()}
        result["collected"] = _resident()
    return result


def _sets_child() -> dict[str, Any]:
    """The counter alone, in a segment that holds nothing else."""
    process = _Process("otel_perf")
    traffic.count_distinct(process.counter)
    return {"usage": process.usage(), "series": process.series()[_COUNTER]}


def _spawn(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"benchmarks: '{' '.join(command[1:])}' failed; the lines above say why")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _total(usage: dict[str, int]) -> dict[str, int]:
    """Sums of the parts: the segment whole and without what is free, and the latter with what the process keeps beside it."""
    segment = sum(bytes_ for part, bytes_ in usage.items() if part != "process_caches")
    used = segment - usage["free"]
    return {
        "segment": segment,
        "used": used,
        "process_caches": usage["process_caches"],
        "used_and_caches": used + usage["process_caches"],
    }


def _growth(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and extremes of the resident sizes: before the recordings, and what was added to them."""
    found: dict[str, Any] = {}
    for size in ("rss", "pss"):
        for moment in ("before", *_MOMENTS):
            if moment not in runs[0]:
                continue
            sizes = [run[moment][size] - (0 if moment == "before" else run["before"][size]) for run in runs]
            found[f"{size}_{moment}"] = {
                "median": int(statistics.median(sizes)),
                "min": min(sizes),
                "max": max(sizes),
            }
    return found


def measure(repeat: int) -> dict[str, Any]:
    """Runs all processes, implementations in turn.

    Args:
        repeat: Processes of each implementation.

    Returns:
        What is written as JSON.
    """
    runs: dict[str, list[dict[str, Any]]] = {impl: [] for impl in IMPLEMENTATIONS}
    for number in range(repeat):
        for impl in IMPLEMENTATIONS:
            progress(f"repetition {number + 1} of {repeat}: {impl}")
            runs[impl].append(_spawn(impl))
    ladder = []
    for exponent, created_first in _LADDER:
        progress(f"ladder: exponent {exponent}, series {'created first' if created_first else 'as they come'}")
        flags = ["--created-first"] if created_first else []
        child = _spawn("otel_perf", "--exponent", str(exponent), "--ladder-only", *flags)
        state = _total(child["usage_histograms"])
        ladder.append({"exponent": exponent, "created_first": created_first, **child["ladder"], "state": state})
    progress("attribute sets alone")
    sets = _spawn("sets")
    progress(None)
    ours = runs["otel_perf"][0]
    states = {
        "histograms": ours["usage_histograms"],
        "histograms_and_sets": ours["usage_sets"],
        "sets_alone": sets["usage"],
    }
    result: dict[str, Any] = {
        "limit": LIMIT,
        "repeat": repeat,
        "recordings": {"series": traffic.SERIES, "samples": traffic.SAMPLES, "sets": traffic.SETS},
        "state": {name: {"parts": usage, **_total(usage)} for name, usage in states.items()},
        "ladder": ladder,
        "series": {impl: runs[impl][0]["series"] for impl in IMPLEMENTATIONS}
        | {"otel_perf_sets_alone": sets["series"]},
        "resident": {impl: _growth(runs[impl]) for impl in IMPLEMENTATIONS},
    }
    result["figures"] = _figures(result)
    return result


def _figures(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures that the project promises, with whether each is met."""
    wanted: list[tuple[str, float, float]] = []
    for name, state in result["state"].items():
        wanted.append((f"segment, {name}, bytes", state["segment"], LIMIT))
    for moment in _MOMENTS:
        grown = {impl: result["resident"][impl][f"rss_{moment}"]["median"] for impl in ("otel_perf", "stock")}
        wanted.append((f"resident growth, {moment}, otel_perf / stock", grown["otel_perf"] / grown["stock"], 1))
    return [
        {"figure": name, "value": round(value, 3), "target": f"<= {bound:,}", "met": value <= bound}
        for name, value, bound in wanted
    ]


def show(result: dict[str, Any]) -> None:
    """Prints the results."""
    for name, state in result["state"].items():
        print(f"state after {name}:")
        for part, size in state["parts"].items():
            print(f"  {part:<20} {size:>12,}")
        for key in ("segment", "used", "used_and_caches"):
            print(f"  = {key:<18} {state[key]:>12,}")
    print("\nprecision steps of the histograms")
    for one in result["ladder"]:
        created = "created first" if one["created_first"] else "as they come"
        print(
            f"  exponent {one['exponent']}, {created:<14} series {one['series_by_digits']} recordings {one['recordings_by_digits']} "
            f"overflow {one['overflow']}"
        )
    print("\nseries and recordings in overflow")
    for impl, series in result["series"].items():
        print(f"  {impl:<22} {series}")
    print(f"\n{'resident size, bytes':<20} {'':<12} {'median':>12} {'min':>12} {'max':>12}")
    for impl, sizes in result["resident"].items():
        for moment, size in sizes.items():
            print(f"{impl:<20} {moment:<15} {size['median']:>12,} {size['min']:>12,} {size['max']:>12,}")
    print()
    for figure in result["figures"]:
        met = "met   " if figure["met"] else "MISSED"
        print(f"{met} {figure['figure']:<56} {figure['value']:>14,}  {figure['target']}")


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="State and resident size.")
    parser.add_argument("--repeat", type=at_least(REPEAT_MIN), default=REPEAT_DEFAULT, help="processes of each kind")
    parser.add_argument("--json", metavar="PATH", help="where to write the results")
    parser.add_argument("--child", choices=(*IMPLEMENTATIONS, "sets"), help=argparse.SUPPRESS)
    parser.add_argument("--exponent", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--created-first", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ladder-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "sets":
        print(json.dumps(_sets_child()))
    elif options.child is not None:
        found = _child(
            options.child,
            options.exponent,
            created_first=options.created_first,
            ladder_only=options.ladder_only,
        )
        print(json.dumps(found))
    else:
        machine.require_release_build()
        result = measure(options.repeat)
        show(result)
        machine.write(options.json, {**result, **machine.description()})


if __name__ == "__main__":
    main()
