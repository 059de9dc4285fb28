"""CPU time of scrapes, OTLP requests and an observer's look at 1,000 histogram series, with otel_perf and with the stock SDK.

Run as ``python -m benchmarks.export [--rounds N] [--json PATH]``. A histogram has 1,000 series, one recording or several in each, and the 15 default
boundaries; the segment has the default size, or a larger one, which keeps all values with three digits. A round runs every variant once, in an order that
changes from round to round, and takes the CPU time of the thread, which does all the work; the control is one of the variants once more. What is compared: a
scrape, from the request to the bytes of the answer, with ``generate_latest`` of the stock exporter's registry; an OTLP request, from what was recorded to
bytes; and the encoding alone, of points that were collected before. A look is that of `otel_perf.Observer`, which is made once a second.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from benchmarks import machine
from benchmarks.harness import ROUNDS_MIN, at_least, progress, spread
from otel_perf import MeterProvider, Observer, Segment
from otel_perf._core import MEMORY_LIMIT_DEFAULT as DEFAULT
from otel_perf.exporters.prometheus import PrometheusEndpoint

SERIES = 1_000
ROUNDS_DEFAULT = 31
LARGE = 16 * 1024 * 1024
CASES = ((1, DEFAULT), (10, DEFAULT), (100, DEFAULT), (100, LARGE))
"""Recordings in each series, and bytes of the segment."""
SCRAPE_TARGET = 50
OTLP_TARGET = 20
LOOK_TARGET_MS = 1.0
IDLE_TARGET = 0.001
RECORDINGS = 20
"""Recordings in each series between two looks."""
LOOKS = 60
_TEXT, _OPENMETRICS, _PROTOBUF = (
    "text/plain;version=0.0.4",
    "application/openmetrics-text;version=1.0.0",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
)
_CONTROL = "otel_perf, text, again"

Variant = tuple[Callable[[], int], Callable[[], float]]
"""What is timed, which returns bytes, and the clock in milliseconds."""


def cpu_ms() -> float:
    """CPU time of the thread."""
    return time.thread_time_ns() / 1e6


def durations() -> Callable[[], float]:
    """Lognormal durations in seconds, the same every time."""
    source = random.Random(1)
    return lambda: source.lognormvariate(-4, 1)


def record(provider: Any, values: int) -> None:
    """Records so many values into each series."""
    histogram = provider.get_meter("benchmark").create_histogram("http.server.request.duration", "s")
    draw = durations()
    for _ in range(values):
        for number in range(SERIES):
            histogram.record(
                draw(), {"http.route": f"/{number % 100}", "http.response.status_code": 200 + number // 100}
            )


class Side:
    """Both implementations with the same recordings, and what is timed of them.

    Args:
        values: Recordings in each series.
        segment: Bytes of the segment.
    """

    def __init__(self, values: int, segment: int) -> None:
        endpoint = PrometheusEndpoint(port=0)
        otlp = InMemoryMetricReader()
        ours = MeterProvider([endpoint, otlp], segment=Segment.create(segment), shutdown_on_exit=False)
        registry = CollectorRegistry()
        stock_reader = InMemoryMetricReader()
        stock = SdkMeterProvider(
            [PrometheusMetricReader(registry=registry), stock_reader],
            shutdown_on_exit=False,
        )
        for provider in (ours, stock):
            record(provider, values)
        data = stock_reader.get_metrics_data()
        self.endpoint, self.providers = endpoint, (ours, stock)
        consumer = ours._consumer

        def scrape(**headers: str) -> Variant:
            return lambda: len(endpoint._answer(headers).body), cpu_ms

        def export() -> int:
            found = consumer.collect_otlp(otlp)
            assert isinstance(found, tuple)
            return len(found[0])

        def generate(function: Any) -> Variant:
            return lambda: len(function(registry)), cpu_ms

        def encode(collect: Callable[[], Any]) -> Variant:
            return lambda: len(encode_metrics(collect()).SerializeToString()), cpu_ms

        self.variants: dict[str, Variant] = {
            "otel_perf, text": scrape(accept=_TEXT),
            _CONTROL: scrape(accept=_TEXT),
            "otel_perf, text, gzip": scrape(**{"accept": _TEXT, "accept-encoding": "gzip"}),
            "otel_perf, OpenMetrics": scrape(accept=_OPENMETRICS),
            "otel_perf, protobuf": scrape(accept=_PROTOBUF),
            "stock, text": generate(generate_latest),
            "stock, OpenMetrics": generate(generate_openmetrics),
            "otel_perf, OTLP": (export, cpu_ms),
            "otel_perf, OTLP, encoding alone": (export, lambda: consumer._collector.encoding_seconds() * 1e3),
            "stock, OTLP": encode(stock_reader.get_metrics_data),
            "stock, OTLP, encoding alone": encode(lambda: data),
        }

    def close(self) -> None:
        """Ends both."""
        for provider in self.providers:
            provider.shutdown()


def exports(values: int, segment: int, rounds: int) -> list[dict[str, Any]]:
    """Times all variants with so many recordings in each series and a segment of so many bytes."""
    side = Side(values, segment)
    samples: dict[str, list[float]] = {name: [] for name in side.variants}
    sizes: dict[str, int] = {}
    order = random.Random(1)
    for number in range(rounds + 1):
        progress(f"{values} values a series: round {number} of {rounds}")
        for name in order.sample(list(samples), len(samples)):
            act, clock = side.variants[name]
            begin = clock()
            sizes[name] = act()
            taken = clock() - begin
            # The first one makes what is kept from scrape to scrape.
            if number > 0:
                samples[name].append(taken)
    progress(None)
    side.close()
    return [
        {
            "values": values,
            "segment": segment,
            "variant": name,
            "ms": round(statistics.median(taken), 3),
            "spread": round(spread(taken), 4),
            "bytes": sizes[name],
        }
        for name, taken in samples.items()
    ]


def looks(recordings: int) -> dict[str, Any]:
    """Times an observer's looks at 1,000 series in a segment of the default size, so many recordings in each since the last look."""
    provider = MeterProvider(segment=Segment.create(), shutdown_on_exit=False)
    record(provider, RECORDINGS)
    observer = Observer(provider.segment)
    second = 1_000_000_000
    observer.tick(second)
    costs, before = [], 0.0
    for number in range(LOOKS + 2):
        progress(f"{recordings} recordings a series: look {number} of {LOOKS}")
        record(provider, recordings)
        observer.tick((number + 2) * second)
        found = observer.statistics()["cpu_seconds"]
        # The first ones still see what was recorded before.
        if number > 1:
            costs.append((found - before) * 1e3)
        before = found
    progress(None)
    statistic = observer.statistics()
    provider.shutdown()
    return {
        "recordings": recordings,
        "ms": round(statistics.median(costs), 4),
        "mean_ms": round(statistics.mean(costs), 4),
        "max_ms": round(max(costs), 4),
        "spread": round(spread(costs), 4),
        "bytes": statistic["memory_bytes"],
        "known_bytes": statistic["known_bytes"],
        "digits": statistic["digits"],
    }


def figures(exported: list[dict[str, Any]], looked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was promised, beside what was measured."""
    ms = {(one["values"], one["segment"], one["variant"]): one["ms"] for one in exported}
    found = []
    for values, segment in CASES:
        for what, target in (("text", SCRAPE_TARGET), ("OTLP, encoding alone", OTLP_TARGET)):
            quotient = ms[values, segment, f"stock, {what}"] / ms[values, segment, f"otel_perf, {what}"]
            text = f"stock / otel_perf, {what}, {values} values a series, {segment >> 20} MiB"
            found.append((text, quotient, f">= {target}", quotient >= target))
    by_recordings = {one["recordings"]: one for one in looked}
    active, idle = by_recordings[RECORDINGS]["ms"], by_recordings[0]["ms"]
    text = f"a look at {SERIES:,} series with {RECORDINGS} recordings each, ms"
    found.append((text, active, f"<= {LOOK_TARGET_MS:g}", active <= LOOK_TARGET_MS))
    found.append(("part of a core, nothing recorded", idle / 1e3, f"<= {IDLE_TARGET:g}", idle / 1e3 <= IDLE_TARGET))
    return [
        {"figure": text, "value": float(f"{value:.4g}"), "target": target, "met": met}
        for text, value, target, met in found
    ]


def show(result: dict[str, Any]) -> None:
    """Prints the results."""
    print(f"{'values':>6}{'MiB':>4} {'variant':<32}{'ms':>10}{'spread':>9}{'bytes':>12}")
    for one in result["exports"]:
        print(
            f"{one['values']:>6}{one['segment'] >> 20:>4} {one['variant']:<32}{one['ms']:>10.3f}{one['spread']:>9.1%}{one['bytes']:>12,}"
        )
    print()
    for one in result["looks"]:
        print(
            f"look, {one['recordings']} recordings a series: {one['ms']:.4f} ms, mean {one['mean_ms']:.4f}, largest {one['max_ms']:.4f}"
        )
    print()
    for figure in result["figures"]:
        met = "met   " if figure["met"] else "MISSED"
        print(f"{met} {figure['figure']:<72} {figure['value']:>10,.4g}  {figure['target']}")


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description="CPU time of exports and looks.")
    parser.add_argument("--rounds", type=at_least(ROUNDS_MIN), default=ROUNDS_DEFAULT, help=f"default {ROUNDS_DEFAULT}")
    parser.add_argument("--json", metavar="PATH", help="where to write the results")
    options = parser.parse_args()
    machine.require_release_build()
    exported = [one for values, segment in CASES for one in exports(values, segment, options.rounds)]
    looked = [looks(recordings) for recordings in (RECORDINGS, 1, 0)]
    result = {"rounds": options.rounds, "exports": exported, "looks": looked, "figures": figures(exported, looked)}
    show(result)
    machine.write(options.json, {**result, **machine.description()})


if __name__ == "__main__":
    main()
