"""The few figures that the project's README shows, chosen from the results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Row = tuple[str, str, str, str]
HEAD = ("", "otel_perf", "stock SDK", "stock / otel_perf")
_CALLS = [
    ("counter.add", "reused", "`counter.add(1, attributes)`"),
    ("counter.add", "literal", "`counter.add(1, {...})`, the dict made for the call"),
    ("counter.add", "bound", "`counter.bind(attributes)`, then `add(1)`"),
    ("histogram.record explicit", "reused", "`histogram.record(x, attributes)`"),
    ("histogram.record explicit", "literal", "`histogram.record(x, {...})`"),
    ("histogram.record exponential", "reused", "`histogram.record(x, attributes)`, exported with exponential buckets"),
]


def rows(results: dict[str, Any]) -> Iterator[Row]:
    """Rows of the table: what, otel_perf, stock, their quotient.

    Args:
        results: Contents of the JSON files by name.

    Returns:
        Cells as text; empty where there is nothing to compare with.
    """
    yield from _recording(results["record"])
    yield from _exporting(results["export"])
    yield from _merging(results["workers"])
    yield from _measuring(results["spans"])
    yield from _ending(results["exit"])
    yield from _setting_up(results["views"])
    yield from _starting(results["startup"])
    yield from _memory(results["memory"])
    largest = results["accuracy"]["figures"][0]
    yield "largest error of p50 to p99.9, at full precision", f"{largest['value']:.2%}", "", ""


def _recording(result: dict[str, Any]) -> Iterator[Row]:
    found = {
        (case["case"], case["dict"], case["impl"]): case["ns"] for case in result["cases"] if case["attributes"] == 2
    }
    for case, kind, text in _CALLS:
        ours, stock = found[case, kind, "otel_perf"], found.get((case, kind, "stock"))
        yield (
            f"{text}, two attributes",
            f"{ours:,.1f} ns",
            "" if stock is None else f"{stock:,.0f} ns",
            "" if stock is None else f"{stock / ours:,.0f}",
        )
    spans = {
        (one["case"], one["span"], one["when"], one["impl"]): one["ns"]
        for one in result["spans"]
        if one["dict"] == "reused"
    }
    for when, text in (("first", "the first 1,000 of a window"), ("later", "later")):
        ours, stock = (spans["histogram.record explicit", "sampled", when, impl] for impl in ("otel_perf", "stock"))
        yield (
            f"`histogram.record(x, attributes)` in a sampled span, with exemplars, {text}",
            f"{ours:,.1f} ns",
            f"{stock:,.0f} ns",
            f"{stock / ours:,.0f}",
        )


def _merging(result: dict[str, Any]) -> Iterator[Row]:
    ms = {(one["kind"], one["variant"]): one["ms"] for one in result["scrapes"]}
    for kind in ("counters", "histograms"):
        ours, files = (ms[kind, f"{whose}, 4 workers"] for whose in ("otel_perf", "prometheus_client"))
        yield (
            f"a scrape of 1,000 {kind} of four workers, beside prometheus_client's multi-process mode",
            f"{ours:.2f} ms",
            f"{files:,.1f} ms",
            f"{files / ours:,.0f}",
        )


def _measuring(result: dict[str, Any]) -> Iterator[Row]:
    ns = {(case["part"], case["variant"]): case["ns"] for case in result["cases"]}
    yield (
        "a span of a Redis client noted and measured, six attributes",
        f"{ns['processor', 'SpanMetricsProcessor']:,.0f} ns",
        "",
        "",
    )
    ours, stock = (ns["not sampled", whose] for whose in ("otel_perf", "stock"))
    yield (
        "a span that is not sampled, from begin to end, six attributes: measured, and dropped",
        f"{ours:,.0f} ns",
        f"{stock:,.0f} ns",
        f"{stock / ours:.2f}",
    )


def _exporting(result: dict[str, Any]) -> Iterator[Row]:
    ms = {one["variant"]: one["ms"] for one in result["exports"] if one["values"] == 10}
    for variant, text in (
        ("text", "a scrape of 1,000 histogram series with 15 buckets, 10 recordings each"),
        ("OTLP", "an OTLP request with the same, from what was recorded to bytes"),
        ("OTLP, encoding alone", "its encoding alone"),
    ):
        ours, stock = ms[f"otel_perf, {variant}"], ms[f"stock, {variant}"]
        yield text, f"{ours:.2f} ms", f"{stock:.1f} ms", f"{stock / ours:,.0f}"
    (active,) = (one["ms"] for one in result["looks"] if one["recordings"] == 20)
    yield (
        "an observer's look at 1,000 histogram series with 20 recordings each since the last",
        f"{active:.2f} ms",
        "",
        "",
    )


def _ending(result: dict[str, Any]) -> Iterator[Row]:
    seconds = {(one["impl"], one["receiver"], one["protocol"]): one["seconds"]["median"] for one in result["variants"]}

    def delay(impl: str) -> float:
        return float(seconds[impl, "silent", "grpc"] - seconds[impl, "none", ""])

    ours, stock = delay("otel_perf"), delay("stock")
    yield "exit held up by a silent OTLP receiver", f"{ours:.2f} s", f"{stock:.2f} s", f"{stock / ours:,.0f}"
    yield "the same with an observer process", f"{max(0.0, delay('otel_perf, process')):.2f} s", "", ""


def _setting_up(result: dict[str, Any]) -> Iterator[Row]:
    found = {one["variant"]: one["made_ms"] + one["recorded_ms"] for one in result["variants"]}
    ours, stock = found["otel_perf"], found["stock"]
    yield (
        "100 views and 200 instruments made, and one recording each",
        f"{ours:,.1f} ms",
        f"{stock:,.1f} ms",
        f"{stock / ours:,.1f}",
    )


def _starting(result: dict[str, Any]) -> Iterator[Row]:
    found = {(one["impl"], one["exporter"]): one for one in result["variants"]}
    for exporter, text in (("prometheus", "the Prometheus endpoint"), ("otlp", "OTLP for all three signals")):
        ours, stock = found["otel_perf", exporter], found["stock", exporter]
        for field, what, scale, unit in (
            ("cpu_ms", "CPU time of starting and ending", 1.0, "ms"),
            ("end_bytes", "resident size", 1e6, "MB"),
        ):
            a, b = ours[field]["median"] / scale, stock[field]["median"] / scale
            yield f"{what} with {text}", f"{a:,.1f} {unit}", f"{b:,.1f} {unit}", f"{b / a:.2f}"


def _memory(result: dict[str, Any]) -> Iterator[Row]:
    sizes = result["resident"]
    for moment, text in (
        ("rss_histograms", "resident size added by 1,000 histogram series"),
        ("rss_recorded", "the same and a million attribute sets on a counter"),
    ):
        ours, stock = (sizes[impl][moment]["median"] for impl in ("otel_perf", "stock"))
        yield text, f"{ours / 1e6:,.1f} MB", f"{stock / 1e6:,.1f} MB", f"{stock / ours:,.1f}"
