"""The statements that benchmarks.record times: OpenTelemetry Python's own grid on each implementation, with other libraries and controls beside.

Every statement has an instrument of its own, so that what it recorded can be told from what the others did.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import prometheus_client
from hdrh.histogram import HdrHistogram
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, ExponentialBucketHistogramAggregation, View

from benchmarks.harness import Statement
from otel_perf import MeterProvider
from otel_perf._core import Noop

ATTRIBUTES = (0, 1, 2, 3, 5, 10)
RECORDED = 0.0123
ROTATIONS = (16, 1000)
_ROTATION_MS = 20
EXPLICIT = "histogram.record explicit"
EXPONENTIAL = "histogram.record exponential"
NOOP = "noop"
LITERAL = "literal"
EARLY = "counter.add, made before the provider"
DROPPED = "counter.add, dropped by a view"
SPAN = "span"
SPANS = ("none", "unsampled", "sampled")
OFF = "sampled, off"
"""A sampled span while exemplars are off."""
WINDOW_CALLS = 1000
"""Recordings of a window while exemplars are still looked for, which ends after 1,024."""
CONTROL = "control"
ROTATION = "rotation"
NEXT = "next"
OVERFLOW = "otel.metric.overflow"


def attributes(count: int) -> dict[str, str]:
    """A set of `count` attributes."""
    return {f"key_{number}": f"value_{number}" for number in range(count)}


def literal(count: int) -> tuple[str, dict[str, Any]]:
    """Source of a dict literal with `count` pairs, values in variables, and those variables."""
    pairs = attributes(count)
    source = "{" + ", ".join(f"'{key}': v{number}" for number, key in enumerate(pairs)) + "}"
    return source, {f"v{number}": value for number, value in enumerate(pairs.values())}


def statements() -> list[Statement]:
    """All statements, labelled with case, attributes, dict and impl; controls with their own case only."""
    found: list[Statement] = []
    for impl, provider in (("noop_api", None), ("stock", SdkMeterProvider), ("otel_perf", MeterProvider)):
        for exponential in (False, True):
            found += _Implementation(impl, provider, exponential=exponential).statements()
        if provider is not None:
            # Each with a provider of its own, because a thousand histograms fill a segment.
            found += [
                _Implementation(impl, provider).rotation(case, series)
                for case in ("counter.add", EXPLICIT)
                for series in ROTATIONS
            ]
            found += _Implementation(impl, provider).in_spans()
            found += _Implementation(impl, provider, exemplars=False).in_spans()
    return [*found, *_other_libraries(), *_controls()]


def _verb(case: str) -> str:
    return case.split(".")[1].split(maxsplit=1)[0].rstrip(",")


class _Implementation:
    """Makes instruments of one implementation and reads back what they recorded."""

    def __init__(self, impl: str, provider: Any, *, exponential: bool = False, exemplars: bool = True) -> None:
        self._impl = impl
        self._exponential = exponential
        self._exemplars = exemplars
        aggregation = {SdkHistogram: ExponentialBucketHistogramAggregation()} if exponential else None
        self._reader: InMemoryMetricReader | None = None
        if provider is None:
            self._provider: Any = NoOpMeterProvider()
        else:
            self._reader = InMemoryMetricReader(preferred_aggregation=aggregation)  # type: ignore[arg-type]
            view = View(instrument_name="dropped*", aggregation=DropAggregation())
            chosen = TraceBasedExemplarFilter() if exemplars else AlwaysOffExemplarFilter()
            self._provider = provider([self._reader], views=[view], exemplar_filter=chosen, shutdown_on_exit=False)
        self._meter = self._provider.get_meter("benchmark")
        self._made = 0

    def statements(self) -> list[Statement]:
        """The grid of this implementation."""
        grid: list[tuple[str, tuple[int, ...]]] = [(EXPONENTIAL, ATTRIBUTES)]
        if not self._exponential:
            grid = [
                ("counter.add", ATTRIBUTES),
                (EXPLICIT, ATTRIBUTES),
                ("gauge.set", (2,)),
                ("up_down_counter.add", (2,)),
            ]
            if self._reader is not None:
                grid += [(EARLY, (2,)), (DROPPED, (2,))]
        return [
            self._call(case, count, kind) for case, counts in grid for count in counts for kind in self._kinds(count)
        ]

    def _kinds(self, count: int) -> list[str]:
        kinds = ["reused", "literal"] if count else ["none"]
        return [*kinds, "bound"] if self._impl == "otel_perf" else kinds

    def _instrument(self, case: str) -> tuple[str, Any]:
        name = f"i{self._made}"
        self._made += 1
        if case == EARLY:
            # As a library does that makes its instruments when it is imported.
            early = _ProxyMeterProvider()
            counter = early.get_meter("early").create_counter(name)
            early.on_set_meter_provider(self._provider)
            return name, counter
        if case == DROPPED:
            return name, self._meter.create_counter(f"dropped.{name}")
        if case == "counter.add":
            return name, self._meter.create_counter(name)
        if case == "up_down_counter.add":
            return name, self._meter.create_up_down_counter(name)
        if case == "gauge.set":
            return name, self._meter.create_gauge(name)
        return name, self._meter.create_histogram(name, "s")

    def _call(self, case: str, count: int, kind: str) -> Statement:
        name, instrument = self._instrument(case)
        verb = _verb(case)
        amount: float = RECORDED if verb == "record" else 1
        names: dict[str, Any] = {"i": instrument}
        source = f"i.{verb}({amount})"
        if kind == "reused":
            source, names["d"] = f"i.{verb}({amount}, d)", attributes(count)
        elif kind == "literal":
            braces, values = literal(count)
            source = f"i.{verb}({amount}, {braces})"
            names.update(values)
        elif kind == "bound":
            source, names = f"b.{verb}({amount})", {"b": instrument.bind(attributes(count))}
        label = {"case": case, "attributes": count, "dict": kind, "impl": self._impl}
        return Statement(source, names, self._arrived(case, name, amount, attributes(count)), label)

    def rotation(self, case: str, series: int) -> Statement:
        """One reused dict of two attributes for each of many series, in shuffled order; for histograms also many values."""
        verb = _verb(case)
        name, instrument = self._instrument(case)
        names: dict[str, Any] = {"i": instrument, "n": next, "d": _sets(series)}
        amount = "1"
        if verb == "record":
            amount, names["v"] = "n(v)", _values()
        label = {"case": ROTATION, "of": case, "series": series, "impl": self._impl}

        def check(calls: int) -> None:
            counts = [
                (point.count if verb == "record" else point.value, OVERFLOW in point.attributes)
                for point in self._points(name)
            ]
            total = sum(count for count, _ in counts)
            assert total == calls, f"{calls} calls made, {total} arrived"
            label["overflowed"] = round(sum(count for count, is_overflow in counts if is_overflow) / calls, 5)

        return Statement(f"i.{verb}({amount}, n(d))", names, check, label, _ROTATION_MS)

    def in_spans(self) -> list[Statement]:
        """Counters and histograms in spans, at the beginning of a window, in which exemplars are looked for, and later."""
        found = []
        for case in ("counter.add", EXPLICIT):
            for span in SPANS if self._exemplars else (OFF,):
                for kind in ("reused", "bound") if self._impl == "otel_perf" else ("reused",):
                    for when in ("later", "first"):
                        statement = self._call(case, 2, kind)
                        statement.label |= {"case": SPAN, "of": case, "span": span, "when": when}
                        collect = self._collect if when == "first" else None
                        statement.surrounding = partial(_in_span, span, collect)
                        if when == "first":
                            statement.calls_max = WINDOW_CALLS
                        found.append(statement)
        return found

    def _collect(self) -> None:
        if self._reader is not None:
            self._reader.collect()

    def _arrived(self, case: str, name: str, amount: float, expected: dict[str, str]) -> Callable[[int], None] | None:
        """A check of attributes, count and sum against the calls made."""
        if self._reader is None:
            return None
        verb = _verb(case)

        def check(calls: int) -> None:
            points = self._points(name)
            found = [dict(point.attributes) for point in points]
            if case == DROPPED:
                assert not found, f"expected nothing, found {found}"
                return
            assert found == [expected], f"expected one series {expected}, found {found}"
            if verb == "set":
                assert points[0].value == amount, f"value {points[0].value} instead of {amount}"
            elif verb == "add":
                assert points[0].value == calls, f"{calls} calls made, {points[0].value} arrived"
            else:
                assert points[0].count == calls, f"{calls} calls made, {points[0].count} arrived"
                assert math.isclose(points[0].sum, amount * calls, rel_tol=1e-9), f"sum {points[0].sum}"

        return check

    def _points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data() if self._reader is not None else None
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@contextmanager
def _in_span(name: str, collect: Callable[[], None] | None) -> Iterator[None]:
    """Makes a span current, after a new window was begun."""
    if collect is not None:
        collect()
    if name == "none":
        yield
        return
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if name in {"sampled", OFF} else trace.TraceFlags.DEFAULT)
    with trace.use_span(
        trace.NonRecordingSpan(trace.SpanContext(2**100 + 1, 2**50 + 1, is_remote=False, trace_flags=flags))
    ):
        yield


def _sets(series: int) -> Iterator[dict[str, str]]:
    sets = [{"key_0": "value", "key_1": f"value_{number}"} for number in range(series)]
    # Not in the order in which memory was given to them.
    random.Random(series).shuffle(sets)
    return itertools.cycle(sets)


def _values() -> Iterator[float]:
    chance = random.Random(1)
    return itertools.cycle([chance.lognormvariate(math.log(0.02), 0.5) for _ in range(10_007)])


def _other_libraries() -> list[Statement]:
    """prometheus_client and the hdrhistogram package; ``labels(a, b)`` stands where OpenTelemetry has a dict."""
    registry = prometheus_client.CollectorRegistry()
    found = []
    for kind in ("bound", "reused"):
        counter = prometheus_client.Counter(f"c_{kind}", "c", ["key_0", "key_1"], registry=registry)
        histogram = prometheus_client.Histogram(f"h_{kind}", "h", ["key_0", "key_1"], registry=registry)
        for case, metric, call, sample in (
            ("counter.add", counter, "inc()", f"c_{kind}_total"),
            (EXPLICIT, histogram, f"observe({RECORDED})", f"h_{kind}_count"),
        ):
            values = list(attributes(2).values())
            label = {"case": case, "attributes": 2, "dict": kind, "impl": "prometheus_client"}
            arrived = _sampled(registry, sample)
            if kind == "bound":
                found.append(Statement(f"m.{call}", {"m": metric.labels(*values)}, arrived, label))
            else:
                names = {"m": metric, "a": values[0], "b": values[1]}
                found.append(Statement(f"m.labels(a, b).{call}", names, arrived, label))
    hdr = HdrHistogram(1, 3_600_000_000, 3)
    label = {"case": "histogram.record hdr", "attributes": 0, "dict": "none", "impl": "hdrhistogram"}

    def counted(calls: int) -> None:
        assert hdr.get_total_count() == calls, f"{calls} calls made, {hdr.get_total_count()} arrived"

    return [*found, Statement("h.record_value(12300)", {"h": hdr}, counted, label)]


def _sampled(registry: prometheus_client.CollectorRegistry, sample: str) -> Callable[[int], None]:
    def check(calls: int) -> None:
        value = registry.get_sample_value(sample, attributes(2))
        assert value == calls, f"{calls} calls made, {value} arrived"

    return check


def _controls() -> list[Statement]:
    """The unit, what callers do before the call, and a call that must be slower than ours because it goes through Python."""
    found = [Statement("n.call(1)", {"n": Noop()}, None, {"case": NOOP})]
    for count in ATTRIBUTES[1:]:
        source, values = literal(count)
        found.append(Statement(source, values, None, {"case": LITERAL, "attributes": count}))
    found += [
        Statement("n(d)", {"n": next, "d": _sets(series)}, None, {"case": NEXT, "of": series}, _ROTATION_MS)
        for series in ROTATIONS
    ]
    found.append(Statement("n(v)", {"n": next, "v": _values()}, None, {"case": NEXT, "of": "values"}))
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    counter = provider.get_meter("control").create_counter("control")

    def forward(amount: int, given: dict[str, str]) -> None:
        counter.add(amount, given)

    def arrived(calls: int) -> None:
        data: Any = reader.get_metrics_data()
        value = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].value
        # The provider is named so that it lives as long as its reader is asked.
        assert value == calls, f"{calls} calls made through {provider}, {value} arrived"

    found.append(Statement("f(1, d)", {"f": forward, "d": attributes(2)}, arrived, {"case": CONTROL}))
    return found
