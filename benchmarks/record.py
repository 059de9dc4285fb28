"""Cost of a recording: OpenTelemetry Python's own grid, on the no-op API, the stock SDK and otel_perf, with other libraries beside.

Run as ``python -m benchmarks.record [--rounds N] [--json PATH]``.
"""

from __future__ import annotations

import argparse
from typing import Any

import prometheus_client
from hdrh.histogram import HdrHistogram
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from benchmarks import machine
from benchmarks.harness import Result, Statement, measure
from otel_perf import MeterProvider
from otel_perf._core import BUILD_PROFILE, Noop

ATTRIBUTES = (0, 1, 2, 3, 5, 10)
RECORDED = 0.0123


def attributes(count: int) -> dict[str, str]:
    """A set of `count` attributes."""
    return {f"key_{number}": f"value_{number}" for number in range(count)}


def literal(count: int) -> tuple[str, dict[str, Any]]:
    """Source of a dict literal with `count` pairs, values in variables, and those variables."""
    pairs = attributes(count)
    source = "{" + ", ".join(f"'{key}': v{number}" for number, key in enumerate(pairs)) + "}"
    return source, {f"v{number}": value for number, value in enumerate(pairs.values())}


def reader(*, exponential: bool) -> MetricReader:
    """A reader with explicit or exponential histograms."""
    if not exponential:
        return InMemoryMetricReader()
    return InMemoryMetricReader(preferred_aggregation={SdkHistogram: ExponentialBucketHistogramAggregation()})


class Grid:
    """Collects the statements of all implementations."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self._keep: list[Any] = []
        for exponential in (False, True):
            ours, stock = reader(exponential=exponential), reader(exponential=exponential)
            self._add("noop_api", NoOpMeterProvider(), None, exponential=exponential)
            self._add("stock", SdkMeterProvider([stock], shutdown_on_exit=False), stock, exponential=exponential)
            self._add("otel_perf", MeterProvider([ours], shutdown_on_exit=False), ours, exponential=exponential)

    def _add(self, impl: str, provider: Any, its_reader: Any, *, exponential: bool) -> None:
        self._keep.append((provider, its_reader))
        meter = provider.get_meter("benchmark")
        if exponential:
            calls = [("histogram.record exponential", "record", meter.create_histogram("h", "s"), RECORDED)]
        else:
            calls = [
                ("counter.add", "add", meter.create_counter("c"), 1),
                ("histogram.record explicit", "record", meter.create_histogram("h", "s"), RECORDED),
                ("up_down_counter.add", "add", meter.create_up_down_counter("u"), 1),
                ("gauge.set", "set", meter.create_gauge("g"), 1),
            ]
        for case, verb, instrument, amount in calls:
            grid = ATTRIBUTES if case[0] in "ch" else (2,)
            for count in grid:
                self._add_calls(impl, its_reader, case, verb, instrument, amount, count)

    def _add_calls(
        self, impl: str, its_reader: Any, case: str, verb: str, instrument: Any, amount: float, count: int
    ) -> None:
        def label(kind: str) -> dict[str, Any]:
            return {"case": case, "attributes": count, "dict": kind, "impl": impl}

        names: dict[str, Any] = {"i": instrument}
        check = None if its_reader is None else _check(its_reader, instrument.name, verb, instrument, amount)
        if count == 0:
            self.statements.append(Statement(f"i.{verb}({amount})", names, check, label("none")))
        else:
            reused = {**names, "d": attributes(count)}
            self.statements.append(Statement(f"i.{verb}({amount}, d)", reused, check, label("reused")))
            source, values = literal(count)
            self.statements.append(
                Statement(f"i.{verb}({amount}, {source})", {**names, **values}, check, label("literal"))
            )
        if impl == "otel_perf":
            bound = {"b": instrument.bind(attributes(count))}
            self.statements.append(Statement(f"b.{verb}({amount})", bound, check, label("bound")))

    def add_others(self) -> None:
        """prometheus_client and the hdrhistogram package."""
        registry = prometheus_client.CollectorRegistry()
        counter = prometheus_client.Counter("c", "c", ["key_0", "key_1"], registry=registry)
        histogram = prometheus_client.Histogram("h", "h", ["key_0", "key_1"], registry=registry)
        hdr = HdrHistogram(1, 3_600_000_000, 3)
        labels = {"a": "value_0", "b": "value_1"}
        for kind, case, source, names in (
            ("bound", "counter.add", "c.inc()", {"c": counter.labels(*labels.values())}),
            ("reused", "counter.add", "c.labels(a, b).inc()", {"c": counter, **labels}),
            ("bound", "histogram.record explicit", f"h.observe({RECORDED})", {"h": histogram.labels(*labels.values())}),
            ("reused", "histogram.record explicit", f"h.labels(a, b).observe({RECORDED})", {"h": histogram, **labels}),
        ):
            label = {"case": case, "attributes": 2, "dict": kind, "impl": "prometheus_client"}
            self.statements.append(Statement(source, names, None, label))
        label = {"case": "histogram.record hdr", "attributes": 0, "dict": "none", "impl": "hdrhistogram"}
        self.statements.append(Statement("h.record_value(12300)", {"h": hdr}, None, label))

    def add_controls(self) -> None:
        """The unit, the dict literals alone, and a call that must be slower than ours because it goes through Python."""
        self.statements.append(Statement("n.call(1)", {"n": Noop()}, None, {"case": "noop"}))
        for count in ATTRIBUTES[1:]:
            source, values = literal(count)
            self.statements.append(Statement(source, values, None, {"case": "literal", "attributes": count}))
        counter = MeterProvider(shutdown_on_exit=False).get_meter("control").create_counter("control")

        def forward(amount: int, given: dict[str, str]) -> None:
            counter.add(amount, given)

        names = {"f": forward, "d": attributes(2)}
        self.statements.append(Statement("f(1, d)", names, None, {"case": "control: through a Python function"}))


def _check(its_reader: Any, name: str, verb: str, instrument: Any, amount: float) -> Any:
    """A check that a recording with attributes of its own arrives at the reader."""

    def check() -> None:
        getattr(instrument, verb)(amount, {"check": name})
        data = its_reader.get_metrics_data()
        points = [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
            if point.attributes == {"check": name}
        ]
        value = getattr(points[0], "value", None) or points[0].sum
        if value < amount:
            raise AssertionError(f"{name}: recorded {amount}, collected {value}")

    return check


def figures(noop: float, literals: dict[int, float], cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures that the project promises, with the measured values."""

    def ns(case: str, count: int, kind: str, impl: str = "otel_perf", key: str = "ns") -> float:
        found = [c for c in cases if (c["case"], c["attributes"], c["dict"], c["impl"]) == (case, count, kind, impl)]
        return float(found[0][key])

    record = "histogram.record explicit"
    reused = [
        c["ns"] for c in cases if c["impl"] == "otel_perf" and c["dict"] in ("reused", "none") and c["attributes"] <= 3
    ]
    wanted = [
        ("bound add / no-op", ns("counter.add", 2, "bound") / noop, "<=", 1.6),
        ("add(1, d), 2 attributes reused / no-op", ns("counter.add", 2, "reused") / noop, "<=", 4.0),
        ("record(x, d), 2 attributes reused / no-op", ns(record, 2, "reused") / noop, "<=", 4.0),
        ("add(1, {...}), 2 attributes, own share ns", ns("counter.add", 2, "literal") - literals[2], "<=", 40.0),
        ("slowest call with up to 3 attributes reused, ns", max(reused), "<", 100.0),
        ("stock / ours, add, 2 attributes", _ratio(ns, "counter.add"), ">=", 100.0),
        ("stock / ours, record, 2 attributes", _ratio(ns, record), ">=", 100.0),
        ("M add(1, d)/s, 2 attributes, loop included", 1e3 / ns("counter.add", 2, "reused", key="raw_ns"), ">=", 10.0),
        ("M record(x, d)/s, 2 attributes, loop included", 1e3 / ns(record, 2, "reused", key="raw_ns"), ">=", 10.0),
    ]
    compare = {"<=": float.__le__, "<": float.__lt__, ">=": float.__ge__}
    return [
        {"figure": name, "value": value, "target": f"{sign} {bound:g}", "met": compare[sign](value, bound)}
        for name, value, sign, bound in wanted
    ]


def _ratio(ns: Any, case: str) -> float:
    return float(ns(case, 2, "reused", "stock") / ns(case, 2, "reused"))


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="rounds over all statements (default 31)")
    parser.add_argument("--json", metavar="PATH", help="where to write the results")
    options = parser.parse_args()
    if BUILD_PROFILE != "release":
        parser.error("the native core is a debug build; run 'make build'")
    grid = Grid()
    grid.add_others()
    grid.add_controls()
    results = measure(grid.statements, options.rounds)
    noop, literals, control, cases = 0.0, {}, 0.0, []
    for statement, result in zip(grid.statements, results, strict=True):
        label = statement.label
        if label["case"] == "noop":
            noop = result.ns
        elif label["case"] == "literal":
            literals[label["attributes"]] = result.ns
        elif label["case"].startswith("control"):
            control = result.ns
        else:
            cases.append(_case(label, result))
    reached = figures(noop, literals, cases)
    _print(noop, literals, control, cases, reached)
    machine.write(
        options.json,
        {
            "noop_ns": noop,
            "cases": cases,
            "literal_ns": literals,
            "control_ns": control,
            "rounds": options.rounds,
            "figures": reached,
            **machine.description(),
        },
    )


def _case(label: dict[str, Any], result: Result) -> dict[str, Any]:
    return {
        **label,
        "ns": round(result.ns, 2),
        "spread": round(result.spread, 4),
        "raw_ns": round(result.raw_ns, 2),
        "checked": result.checked,
    }


def _print(
    noop: float, literals: dict[int, float], control: float, cases: list[dict[str, Any]], reached: list[dict[str, Any]]
) -> None:
    print(f"{'case':<30} {'attributes':>10} {'dict':<8} {'impl':<18} {'ns':>9} {'spread':>7} {'x no-op':>8}")
    for case in sorted(cases, key=lambda c: (c["case"], c["attributes"], c["impl"], c["dict"])):
        print(
            f"{case['case']:<30} {case['attributes']:>10} {case['dict']:<8} {case['impl']:<18} {case['ns']:>9.1f} "
            f"{case['spread']:>7.1%} {case['ns'] / noop:>8.2f}"
        )
    print(f"\nempty native method: {noop:.1f} ns; control through a Python function: {control:.1f} ns")
    print("dict literal alone: " + ", ".join(f"{count}: {ns:.1f} ns" for count, ns in literals.items()) + "\n")
    for figure in reached:
        print(f"{'met   ' if figure['met'] else 'MISSED'} {figure['figure']:<52} {figure['value']:>9.2f}  {figure['target']}")


if __name__ == "__main__":
    main()
