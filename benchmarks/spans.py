"""Cost of measuring spans: the processor's methods, the sampler's answer, and whole spans with and without them.

Run as ``python -m benchmarks.spans [--rounds N] [--json PATH]``. *The processor*: `on_start` and `on_end` of one span of a Redis client with six
attributes, called one after the other, beside a processor in Python whose methods do nothing. *The sampler*: what a sampler that drops all spans
answers, asked alone and through `RecordAllSampler`. *Spans*: begun with six attributes and ended, sampled and not, with the SDK alone and measured by us; those that are not sampled
both as `measure_all_spans` has them measured, and recorded by the SDK for `RecordAllSampler` alone. *Many*: how many of 10,000 running spans the table shows, what it takes, and
what was counted.
"""

from __future__ import annotations

import argparse
from typing import Any

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind

from benchmarks import machine
from benchmarks.harness import ROUNDS_DEFAULT, ROUNDS_MIN, Statement, at_least, measure
from otel_perf import MeterProvider, RecordAllSampler, SpanMetricsProcessor, active_spans, measure_all_spans

MANY = 10_000
PROCESSOR_TARGET_NS = 500
SAMPLER_TARGET_NS = 200
UNSAMPLED_TARGET_NS = 200
SHARE_TARGET = 0.125
ATTRIBUTES: dict[str, Any] = {
    "db.system": "redis",
    "db.name": "shop",
    "db.statement": "GET ?",
    "net.peer.name": "localhost",
    "net.peer.port": 6379,
    "db.redis.args_length": 2,
}
STOCK, OURS, RECORDED = "stock", "otel_perf", "recorded by the SDK"
METRIC = "db.client.operation.duration"


class Empty(SpanProcessor):
    """A processor whose methods do nothing."""

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        """Does nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        """Does nothing."""


class Provided:
    """Providers with a reader, and how many spans were measured.

    Args:
        sampler: Who decides.
        how: `STOCK` if nobody measures spans, `OURS` if all are measured, `RECORDED` if the SDK records all for that.
    """

    def __init__(self, sampler: Sampler, how: str) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracers = TracerProvider(RecordAllSampler(sampler) if how == RECORDED else sampler, shutdown_on_exit=False)
        self.processor = SpanMetricsProcessor(self.meters)
        if how == OURS:
            measure_all_spans(self.tracers, self.processor)
        elif how == RECORDED:
            self.tracers.add_span_processor(self.processor)
        self.tracer = self.tracers.get_tracer("benchmark")

    def arrived(self, calls: int) -> None:
        """Raises unless so many spans were measured."""
        data: Any = self.reader.get_metrics_data()
        points = [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == METRIC
            for point in metric.data.data_points
        ]
        found = sum(point.count for point in points)
        assert found == calls, f"{found} of {calls} spans were measured"


def _processor_statements() -> list[Statement]:
    provided = Provided(ALWAYS_ON, STOCK)
    span: Any = provided.tracer.start_span("GET", kind=SpanKind.CLIENT, attributes=ATTRIBUTES)
    span.end()
    readable = span._readable_span()
    statements = []
    for variant, processor in (
        ("a processor that does nothing", Empty()),
        ("SpanMetricsProcessor", provided.processor),
    ):
        names = {"start": processor.on_start, "end": processor.on_end, "span": span, "readable": readable}
        statements.append(
            Statement(
                "start(span, parent_context=None); end(readable)",
                names,
                provided.arrived if processor is provided.processor else None,
                {"part": "processor", "variant": variant},
            )
        )
    return statements


def _sampler_statements() -> list[Statement]:
    return [
        Statement(
            "ask(None, 5, 'GET', kind, attributes, ())",
            {"ask": sampler.should_sample, "kind": SpanKind.CLIENT, "attributes": ATTRIBUTES},
            None,
            {"part": "sampler", "variant": variant},
        )
        for variant, sampler in (
            ("ALWAYS_OFF", ALWAYS_OFF),
            ("RecordAllSampler(ALWAYS_OFF)", RecordAllSampler(ALWAYS_OFF)),
        )
    ]


def _span_statements() -> list[Statement]:
    statements = []
    cases = [(True, STOCK), (True, OURS), (False, STOCK), (False, OURS), (False, RECORDED)]
    for sampled, how in cases:
        provided = Provided(ALWAYS_ON if sampled else ALWAYS_OFF, how)
        statements.append(
            Statement(
                "start_span('GET', None, kind, attributes).end()",
                {"start_span": provided.tracer.start_span, "kind": SpanKind.CLIENT, "attributes": ATTRIBUTES},
                None if how == STOCK else provided.arrived,
                {"part": "sampled" if sampled else "not sampled", "variant": how},
            )
        )
    return statements


def many() -> dict[str, Any]:
    """What becomes of so many spans that run at once."""
    provided = Provided(ALWAYS_ON, OURS)
    spans = [provided.tracer.start_span("GET", kind=SpanKind.CLIENT, attributes=ATTRIBUTES) for _ in range(MANY)]
    segment = provided.meters.segment
    shown = len(active_spans(segment))
    found = {
        "spans": MANY,
        "shown": shown,
        "counted": segment.status()["drops"]["no_span"],
        "table_bytes": segment.memory_usage()["spans"],
        "segment_bytes": segment.size,
    }
    for span in spans:
        span.end()
    provided.arrived(MANY)
    provided.meters.shutdown()
    return found


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spans", description="Cost of measuring spans.")
    parser.add_argument("--rounds", type=at_least(ROUNDS_MIN), default=ROUNDS_DEFAULT, help=f"default {ROUNDS_DEFAULT}")
    parser.add_argument("--json", metavar="PATH", help="where to write the results")
    options = parser.parse_args()
    machine.require_release_build()
    statements = [*_processor_statements(), *_sampler_statements(), *_span_statements()]
    results = measure(statements, options.rounds)
    cases = [
        {**one.label, "ns": round(result.ns, 1), "spread": round(result.spread, 4)}
        for one, result in zip(statements, results, strict=True)
    ]
    ns = {(case["part"], case["variant"]): case["ns"] for case in cases}
    unsampled = ns["not sampled", OURS] - ns["not sampled", STOCK]
    added = ns["sampler", "RecordAllSampler(ALWAYS_OFF)"] - ns["sampler", "ALWAYS_OFF"]
    table = many()
    taken = round(table["table_bytes"] / table["segment_bytes"], 4)
    targets = [
        ("on_start and on_end with six attributes, ns", ns["processor", "SpanMetricsProcessor"], PROCESSOR_TARGET_NS),
        ("what RecordAllSampler adds to a sampler's answer, ns", round(added, 1), SAMPLER_TARGET_NS),
        (
            "what measuring adds to a span that is not sampled, from begin to end, ns",
            round(unsampled, 1),
            UNSAMPLED_TARGET_NS,
        ),
        (f"share of the segment that {MANY:,} running spans take", taken, SHARE_TARGET),
    ]
    figures = [
        {"figure": name, "value": value, "target": f"<= {target}", "met": value <= target}
        for name, value, target in targets
    ]
    for case in cases:
        print(f"{case['part']:<12} {case['variant']:<30} {case['ns']:>10,.1f} ns (+- {case['spread']:.1%})")
    print(f"{table['spans']:,} running spans: {table['shown']} shown, {table['counted']:,} counted\n")
    for figure in figures:
        print(f"{'met   ' if figure['met'] else 'MISSED'} {figure['figure']} {figure['value']} {figure['target']}")
    machine.write(
        options.json,
        {"rounds": options.rounds, "cases": cases, "many": table, "figures": figures, **machine.description()},
    )


if __name__ == "__main__":
    main()
