"""The whole public API as a type checker sees it: read by mypy --strict, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opentelemetry import metrics as api
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Span, SpanKind
from typing_extensions import assert_type

import otel_perf
from otel_perf import (
    HistogramSeries,
    HistogramSnapshot,
    MeterProvider,
    Observer,
    Percentiles,
    RecordAllSampler,
    Segment,
    SegmentError,
    Snapshot,
    SpanMetricsProcessor,
    active_spans,
    configure,
    ewma,
    find,
    measure_all_spans,
    memory_usage,
    percentiles,
    slowest_spans,
    snapshot,
)
from otel_perf.config import Settings, read, report, sanitise, set_defaults
from otel_perf.environment_variables import OTEL_PERF_CARDINALITY_LIMIT, OTEL_PERF_MEMORY_LIMIT, OTEL_PERF_SEGMENT
from otel_perf.metrics import (
    BoundCounter,
    BoundGauge,
    BoundHistogram,
    BoundUpDownCounter,
    Counter,
    EwmaAggregation,
    Gauge,
    HdrHistogramAggregation,
    Histogram,
    Meter,
    UpDownCounter,
)
from otel_perf.observer import Average, ObservedSeries, start
from otel_perf.segment import default_segment, open_default
from otel_perf.trace import ActiveSpan, Bucket, SlowSpan, UnsampledSpan


def names_of_the_package() -> None:
    """The lazy names have the types of their homes."""
    assert_type(otel_perf.MeterProvider(), MeterProvider)
    assert_type(otel_perf.find("shop"), list[Path])
    assert_type(configure(resource_attributes={"a": 1}, metric_exporter_names=["console"]), None)
    assert_type(memory_usage(), dict[str, int])


def providers(segment: Segment) -> MeterProvider:
    """A provider takes what the SDK's takes, and a segment."""
    provider = MeterProvider(
        [InMemoryMetricReader()],
        resource=Resource({}),
        exemplar_filter=None,
        shutdown_on_exit=False,
        views=(),
        segment=segment,
    )
    stock: sdk.MeterProvider = provider
    assert_type(stock.force_flush(1000), bool)
    assert_type(provider.segment, Segment)
    assert_type(provider.get_meter("m", "1", "https://schema", {"team": "a"}), api.Meter)
    assert_type(provider.shutdown(timeout_millis=1000), None)
    provider.add_metric_reader(InMemoryMetricReader())
    provider.remove_metric_reader(InMemoryMetricReader())
    return provider


def meters(meter: Meter) -> None:
    """A meter creates the API's instruments."""
    stock: sdk.Meter = meter
    assert_type(stock.name, str)
    assert_type(meter.create_counter("c", unit="By", description="text"), api.Counter)
    assert_type(meter.create_up_down_counter("u"), api.UpDownCounter)
    assert_type(meter.create_gauge("g"), api._Gauge)
    assert_type(meter.create_histogram("h", "s", explicit_bucket_boundaries_advisory=[0.1, 1]), api.Histogram)
    assert_type(meter.create_observable_gauge("og", [lambda _: [api.Observation(1, {"a": 1})]]), api.ObservableGauge)


def counters(counter: Counter, level: UpDownCounter) -> None:
    """Native counters add and bind."""
    assert_type(counter.add(1, {"a": [1, 2], "b": None}, None), None)
    assert_type(counter.add(amount=0.5, attributes=None, context=None), None)
    assert_type(counter.bind({"a": 1}), BoundCounter)
    assert_type(counter.bind().instrument, Counter)
    assert_type(counter.bind().add(1, context=None), None)
    assert_type(level.add(-1), None)
    assert_type(level.bind(), BoundUpDownCounter)
    assert_type(level.bind().instrument, UpDownCounter)
    assert_type(level.bind().add(-1.5), None)
    assert_type((counter.name, counter.unit, counter.description), tuple[str, str, str])
    assert_type(counter.instrumentation_scope, InstrumentationScope)


def distributions(histogram: Histogram, gauge: Gauge) -> None:
    """Native histograms record and gauges set."""
    assert_type(histogram.record(0.25, {"a": True}), None)
    assert_type(histogram.bind({"a": b"x"}), BoundHistogram)
    assert_type(histogram.bind().instrument, Histogram)
    assert_type(histogram.bind().record(1), None)
    assert_type(gauge.set(1, {"a": "b"}), None)
    assert_type(gauge.bind(), BoundGauge)
    assert_type(gauge.bind().instrument, Gauge)
    assert_type(gauge.bind().set(2.5), None)


def aggregations() -> list[View]:
    """Our aggregations are given to the SDK's views."""
    hdr = HdrHistogramAggregation(significant_digits=2, quantiles=[0.5, 1], window=30)
    ewma = EwmaAggregation(tau=10)
    assert_type((hdr.significant_digits, hdr.quantiles, hdr.window), tuple[int, tuple[float, ...], float])
    assert_type(ewma.tau, float)
    return [View(instrument_name="h", aggregation=hdr), View(instrument_name="c", aggregation=ewma)]


def wrong_calls(counter: Counter, meter: Meter) -> None:
    """What the checker has to refuse; an ignore that is not needed is an error too."""
    counter.add("1")  # type: ignore[arg-type]
    counter.add()  # type: ignore[call-arg]
    counter.add(1, {1: "a"})  # type: ignore[dict-item]
    counter.bind().add(1, {"a": 1})  # type: ignore[arg-type]
    counter.name = "x"  # type: ignore[misc]
    meter.create_histogram("h", "s", "text", [1])  # type: ignore[call-arg]


def segments() -> None:
    """Segments are created, attached, found and looked into."""
    segment = Segment.create(memory_limit=1 << 20, service_name="shop")
    assert_type(segment, Segment)
    assert_type(Segment.attach("/dev/shm/x"), Segment)
    assert_type(Segment.attach(Path("x")), Segment)
    assert_type(segment.path, Path | None)
    assert_type(segment.private_because, str | None)
    assert_type((segment.size, segment.lane, segment.service_name), tuple[int, int, str])
    assert_type(segment.memory_usage(), dict[str, int])
    assert_type(segment.status(), dict[str, Any])
    assert_type(segment.lead(), bool)
    assert_type(segment.histograms(), list[HistogramSeries])
    assert_type(segment.close(), None)
    assert_type(find(), list[Path])
    assert_type(default_segment(), Segment | None)
    assert_type(open_default(Settings()), Segment)
    error: Exception = SegmentError("text")
    raise error


def snapshots(series: HistogramSeries) -> None:
    """A series is its identity and a snapshot, which answers statistics."""
    assert_type((series.scope, series.name, series.unit), tuple[str, str, str])
    assert_type(series.attributes, dict[str, Any])
    snapshot = series.snapshot
    assert_type(snapshot, HistogramSnapshot)
    assert_type(HistogramSnapshot.of([1, 2.5], unit="s", digits=2.0), HistogramSnapshot)
    assert_type(snapshot.count, int)
    assert_type(snapshot.sum, int | float)
    assert_type((snapshot.min, snapshot.max, snapshot.digits), tuple[float, float, float])
    assert_type(snapshot.units_per_one, float)
    assert_type(snapshot.percentile(99), float)
    assert_type(snapshot.percentiles([50, 99.9]), list[float])
    assert_type(snapshot.minus(snapshot).merge(snapshot).coarsened(1.5), HistogramSnapshot)
    assert_type(snapshot.slots(), list[tuple[int, int, int]])
    assert_type(snapshot.explicit([0.1, 1]), list[int])
    assert_type(snapshot.exponential(max_size=40, max_scale=5), tuple[int, int, int, list[int]])


def windows(segment: Segment) -> None:
    """The observer is asked for windows and averages, by hand or through the package."""
    observer = Observer(segment, windows=(5, 60), taus=[10], memory_limit=1 << 20)
    assert_type(observer.start(), None)
    assert_type(observer.tick(1), bool)
    assert_type(start(segment, Settings()), Observer)
    assert_type(percentiles("x", {"a": 1}, window=10, scope="s"), Percentiles)
    found = observer.percentiles("x")
    assert_type((found.p99, found.max, found.mean), tuple[float | None, float | None, float | None])
    assert_type((found.count, found.rate, found.seconds), tuple[float, float, float])
    assert_type((found.digits, found.overflow, found.unit), tuple[float | None, bool, str])
    assert_type(ewma("x", tau=900, of="mean"), float | None)
    assert_type(snapshot(), Snapshot)
    assert_type(observer.snapshot().series, tuple[ObservedSeries, ...])
    assert_type(snapshot().series[0].averages, tuple[Average, ...])
    ewma("x", of="p99")  # type: ignore[arg-type]


def spans(tracer_provider: TracerProvider, meter_provider: MeterProvider) -> None:
    """Spans are measured in any tracer provider, and asked for."""
    processor = SpanMetricsProcessor(meter_provider, ("http.route",), measures=True, service_name="shop")
    assert_type(measure_all_spans(tracer_provider, processor), None)
    assert_type(processor.segment, Segment)
    sampler: Sampler = RecordAllSampler(ALWAYS_OFF)
    assert_type(sampler.get_description(), str)
    running: list[ActiveSpan] = active_spans()
    assert_type((running[0].name, running[0].age, running[0].pid), tuple[str, float, int | None])
    slow: list[SlowSpan] = slowest_spans(processor.segment, name="GET")
    assert_type(slow[0].bucket, Bucket | None)


def unsampled_spans(span: UnsampledSpan) -> None:
    """A span that is not sampled is one of the API's, and can be read."""
    api_span: Span = span
    assert_type(api_span.is_recording(), bool)
    assert_type((span.name, span.kind, span.start_time), tuple[str, SpanKind, int])
    assert_type(span.set_attribute("a", [1, "b"]), None)
    assert_type(span.end(end_time=1), None)


def settings() -> None:
    """Settings are read from any mapping that can be changed."""
    env = {OTEL_PERF_MEMORY_LIMIT: "1048576", OTEL_PERF_CARDINALITY_LIMIT: "10", OTEL_PERF_SEGMENT: ""}
    found = Settings.from_environment(env)
    assert_type(found, Settings)
    assert_type((found.memory_limit, found.cardinality_limit, found.prometheus_port), tuple[int, int, int])
    assert_type(found.segment_path, str | None)
    assert_type((found.service_name, found.prometheus_host, found.disabled), tuple[str, str, bool])
    assert_type(read("A", env), str)
    assert_type(set_defaults(env), None)
    assert_type(sanitise(env), None)
    assert_type(report("A", "b", "c", "using d"), None)
