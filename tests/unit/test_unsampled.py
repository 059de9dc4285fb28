"""Spans that the sampler drops are measured as the SDK's are, and nobody else sees them."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from otel_perf import MeterProvider, RecordAllSampler, SpanMetricsProcessor, active_spans, measure_all_spans
from otel_perf.trace import UnsampledSpan
from tests.conformance.spans import FixedIds
from tests.unit.spanned import MS, spanned

REMOTE = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(2), trace_state=TraceState([("a", "b")]))
LINK = Link(REMOTE)
IN_REMOTE = trace.set_span_in_context(NonRecordingSpan(REMOTE), Context())


class _Seen(SpanProcessor):
    """Keeps the names of the spans that it sees."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        del parent_context
        self.names.append(span.name)


def of(sampler: Sampler, **arguments: Any) -> tuple[TracerProvider, SpanMetricsProcessor]:
    """A tracer provider all of whose spans are measured, and what measures them."""
    provider = TracerProvider(sampler, shutdown_on_exit=False, **arguments)
    processor = SpanMetricsProcessor(MeterProvider(shutdown_on_exit=False))
    measure_all_spans(provider, processor)
    return provider, processor


def test_only_the_measuring_processor_sees_a_dropped_span() -> None:
    """As without us: other processors are shown what the sampler keeps, in its order, and nothing else."""
    provider, _ = of(ParentBased(ALWAYS_OFF))
    seen = _Seen()
    provider.add_span_processor(seen)
    tracer = provider.get_tracer("t")
    sampled = trace.set_span_in_context(NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))))
    tracer.start_span("dropped").end()
    tracer.start_span("sampled", sampled).end()

    assert seen.names == ["sampled"]


class _Asked(Sampler):
    """Answers in turn, and keeps what it is asked."""

    def __init__(self, *decisions: Decision) -> None:
        self.decisions = decisions
        self.calls: list[tuple[Any, ...]] = []

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        self.calls.append((args, kwargs))
        decision = self.decisions[(len(self.calls) - 1) % len(self.decisions)]
        return SamplingResult(decision, {"by": "sampler"}, TraceState([("c", "d")]))

    def get_description(self) -> str:
        return "Asked"


STARTS: dict[str, Callable[[Any], Any]] = {
    "a name": lambda tracer: tracer.start_span("x"),
    "all by position": lambda tracer: tracer.start_span(
        "x", Context(), SpanKind.CLIENT, {"a": 1}, [LINK], 5, False, False
    ),
    "all by name": lambda tracer: tracer.start_span(
        name="x",
        context=IN_REMOTE,
        kind=SpanKind.SERVER,
        attributes={"a": 1},
        links=(LINK,),
        start_time=5,
        record_exception=False,
        set_status_on_exception=False,
    ),
    "no kind": lambda tracer: tracer.start_span("x", kind=None),
    "an empty context": lambda tracer: tracer.start_span("x", Context()),
    "no links": lambda tracer: tracer.start_span("x", links=None),
    "an invalid parent": lambda tracer: tracer.start_span("x", trace.set_span_in_context(trace.INVALID_SPAN)),
    "something else in the context": lambda tracer: tracer.start_span("x", Context({trace.propagation._SPAN_KEY: 5})),
    "a computed name of an argument": lambda tracer: tracer.start_span(**{"name ".strip(): "x"}),
    "a name that is none": lambda tracer: tracer.start_span(5),
}
WRONG: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda tracer: tracer.start_span(),
    "too many": lambda tracer: tracer.start_span("x", None, SpanKind.CLIENT, None, None, None, True, True, True),
    "an unknown name": lambda tracer: tracer.start_span("x", names=5),
    "twice the same": lambda tracer: tracer.start_span("x", name="y"),
}


@pytest.mark.parametrize("decision", list(Decision))
@pytest.mark.parametrize("start", STARTS)
def test_a_span_begins_as_the_sdk_begins_it(start: str, decision: Decision) -> None:
    """The sampler is asked the same, once, and the span has the same ids, flags, parent and parts."""
    found = []
    for natively in (False, True):
        sampler = _Asked(decision)
        provider = TracerProvider(sampler, shutdown_on_exit=False, id_generator=FixedIds())
        if natively:
            measure_all_spans(provider, SpanMetricsProcessor(MeterProvider(shutdown_on_exit=False)))
        span = STARTS[start](provider.get_tracer("t"))
        context = span.get_span_context()
        parts: list[Any] = [sampler.calls, context, context.trace_state, type(span) is UnsampledSpan]
        if decision is not Decision.DROP:
            parts += [span.name, span.kind, span.parent, dict(span.attributes), len(span.links)]
        found.append(parts)
    (calls, context, state, _), (other_calls, other_context, other_state, is_unsampled) = (
        found[0][:4],
        found[1][:4],
    )

    assert len(other_calls) == 1
    assert other_calls == calls
    assert (other_context, other_state) == (context, state)
    assert found[1][4:] == found[0][4:]
    usual = start not in ("no kind", "a name that is none")
    assert is_unsampled == (usual and decision is Decision.DROP)


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_are_the_sdks_error(wrong: str) -> None:
    """The same exception with the same text."""
    texts = []
    for tracer in (
        TracerProvider(ALWAYS_OFF, shutdown_on_exit=False).get_tracer("t"),
        of(ALWAYS_OFF)[0].get_tracer("t"),
    ):
        with pytest.raises(TypeError) as raised:
            WRONG[wrong](tracer)
        texts.append(str(raised.value))

    assert texts[0] == texts[1]


def test_a_span_knows_what_the_sdks_spans_know() -> None:
    """Name, kind, parent, times, attributes, events, links, status, resource and scope, while it runs and afterwards."""
    provider, _ = of(ALWAYS_OFF)
    tracer = provider.get_tracer("scope", "1.0")
    outer = tracer.start_span("outer")
    links: Any = [Link(REMOTE, {"l": 1}), None]
    inner: Any = tracer.start_span("x", trace.set_span_in_context(outer), SpanKind.CLIENT, {"a": 1}, links, 1_000 * MS)
    inner.set_attribute("b", [1, 2])
    inner.set_attributes({"c": "x", "a": 2})
    inner.add_event("read", {"n": 1}, 7)
    inner.add_link(REMOTE)
    inner.add_link(trace.INVALID_SPAN_CONTEXT)
    inner.update_name("y")
    inner.set_status(StatusCode.ERROR, "broken")
    inner.end(1_250 * MS)

    assert (inner.name, inner.kind, inner.start_time, inner.end_time) == ("y", SpanKind.CLIENT, 1_000 * MS, 1_250 * MS)
    assert inner.parent == outer.get_span_context()
    assert inner.context is inner.get_span_context()
    assert list(inner.attributes.items()) == [("b", (1, 2)), ("c", "x"), ("a", 2)]
    assert [(event.name, dict(event.attributes), event.timestamp) for event in inner.events] == [("read", {"n": 1}, 7)]
    assert [one.context for one in inner.links] == [REMOTE, REMOTE]
    assert (inner.status.status_code, inner.status.description) == (StatusCode.ERROR, "broken")
    assert inner.resource is provider.resource
    assert (inner.instrumentation_scope.name, inner.instrumentation_scope.version) == ("scope", "1.0")
    assert not inner.is_recording()
    assert "y" in repr(inner)
    assert isinstance(outer, trace.Span)
    assert outer.is_recording()
    outer.end()


def test_what_is_done_to_an_ended_span_is_the_sdks_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The same lines of the same logger, and nothing changes."""
    lines = []
    for sampler in (RecordAllSampler(ALWAYS_OFF), ALWAYS_OFF):
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        if sampler is ALWAYS_OFF:
            measure_all_spans(provider, SpanMetricsProcessor(MeterProvider(shutdown_on_exit=False)))
        span: Any = provider.get_tracer("t").start_span("x")
        span.end()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            span.set_attribute("a", 1)
            span.set_attributes({"a": 1})
            span.add_event("e")
            span.add_link(REMOTE)
            span.update_name("y")
            span.set_status(StatusCode.OK)
            span.end()
        lines.append([(record.name, record.getMessage()) for record in caplog.records])
        assert (span.name, dict(span.attributes), span.events, span.status.status_code) == (
            "x",
            {},
            (),
            StatusCode.UNSET,
        )

    assert lines[0] == lines[1]
    assert len(lines[0]) == 7


def test_the_limits_of_the_tracer_hold() -> None:
    """So many attributes, events and links, and texts of so many characters."""
    limits = SpanLimits(max_span_attributes=3, max_events=2, max_links=2, max_span_attribute_length=4)
    provider, _ = of(ALWAYS_OFF, span_limits=limits)
    span: Any = provider.get_tracer("t").start_span("x", attributes={str(number): "abcdef" for number in range(5)})
    assert dict(span.attributes) == {"2": "abcd", "3": "abcd", "4": "abcd"}
    span.set_attribute("5", "abcdef")
    span.set_attributes({"6": 1})
    for number in range(4):
        span.add_event(str(number))
        span.add_link(REMOTE)

    assert dict(span.attributes) == {"4": "abcd", "5": "abcd", "6": 1}
    assert [event.name for event in span.events] == ["2", "3"]
    assert len(span.links) == 2


class _Hostile:
    """A value that raises whatever is asked of it."""

    def _raise(self, *args: object) -> Any:
        raise RuntimeError(args)

    __hash__ = __eq__ = __str__ = __repr__ = __iter__ = __bool__ = __index__ = __len__ = _raise


@pytest.mark.parametrize("value", [_Hostile(), "\ud800", [object()], {1: 2}, b"\xff", 10**100, float("nan"), None])
def test_odd_attributes_are_no_trouble(value: Any) -> None:
    """Whatever is given as a value, as a key or as all attributes: nothing is raised and the span is counted."""
    with spanned(ALWAYS_OFF, natively=True) as made:
        span = made.tracer().start_span("x", attributes={"db.system": value})
        span.set_attribute("db.name", value)
        span.set_attribute(value, 1)
        span.set_attributes({"db.user": value})
        span.set_attributes(value)
        span.add_event("e", value)
        span.record_exception(KeyError(), value)
        span.end()

        (found,) = [points for name, points in made.points().items() if name.endswith(".duration")]
        assert [point.count for point in found] == [1]


def test_an_exception_is_kept_by_its_type() -> None:
    """It becomes the `error.type` of the measurement, goes on its way, and its text is kept by nobody."""
    with spanned(ALWAYS_OFF, natively=True) as made:
        begun = {"kind": SpanKind.CLIENT, "attributes": {"db.system": "redis"}}
        with pytest.raises(ZeroDivisionError), made.tracer().start_as_current_span("GET", **begun):
            _ = 1 // 0
        with pytest.raises(KeyError), made.tracer().start_span("GET", **begun) as span:
            raise KeyError("secret")
        points = made.attributes()["db.client.operation.duration"]

        assert {point["error.type"] for point in points} == {"ZeroDivisionError", "KeyError"}
        assert [dict(event.attributes) for event in span.events] == [{"exception.type": "KeyError"}]
        assert span.status.status_code is StatusCode.ERROR
        assert not span.is_recording()


def test_a_span_says_what_becomes_of_exceptions() -> None:
    """With both arguments off an exception leaves no trace in the span."""
    provider, _ = of(ALWAYS_OFF)
    tracer = provider.get_tracer("t")
    with pytest.raises(KeyError), tracer.start_span("x", record_exception=False, set_status_on_exception=False) as span:
        raise KeyError

    assert isinstance(span, UnsampledSpan)
    assert (span.events, span.status.status_code) == ((), StatusCode.UNSET)


def test_the_status_changes_as_in_the_sdk() -> None:
    """OK is final, UNSET says nothing, and a status comes with its own description."""
    provider, _ = of(ALWAYS_OFF)
    span: Any = provider.get_tracer("t").start_span("x")
    seen = []
    for status in (
        StatusCode.UNSET,
        Status(StatusCode.ERROR, "a"),
        StatusCode.UNSET,
        ["no status"],
        StatusCode.OK,
        StatusCode.ERROR,
    ):
        span.set_status(status)
        seen.append(span.status.status_code.name)

    assert seen == ["UNSET", "ERROR", "ERROR", "ERROR", "OK", "OK"]


def test_measurements_in_a_dropped_span_know_it() -> None:
    """With a filter that takes all, exemplars have its ids; with the usual one there are none."""
    for exemplar_filter, expected in ((AlwaysOnExemplarFilter(), 1), (None, 0)):
        reader = InMemoryMetricReader()
        meters = MeterProvider([reader], exemplar_filter=exemplar_filter, shutdown_on_exit=False)
        provider, _ = of(ALWAYS_OFF)
        with provider.get_tracer("t").start_as_current_span("x") as span:
            meters.get_meter("m").create_counter("c").add(1)
        data: Any = reader.get_metrics_data()
        (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        found = [(one.trace_id, one.span_id) for one in point.exemplars]
        context = span.get_span_context()
        meters.shutdown()

        assert found == [(context.trace_id, context.span_id)] * expected


def test_tracers_that_were_there_before_are_measured_too() -> None:
    """And whoever asks again for a tracer gets the same one."""
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    tracer = provider.get_tracer("t")
    measure_all_spans(provider, SpanMetricsProcessor(MeterProvider(shutdown_on_exit=False)))

    assert isinstance(tracer.start_span("x"), UnsampledSpan)
    assert provider.get_tracer("t") is tracer


def test_what_a_tracer_is_given_later_is_honoured() -> None:
    """Another sampler, another id generator, and a tracer that is disabled: the SDK begins its spans."""
    provider, _ = of(ALWAYS_OFF)
    tracer: Any = provider.get_tracer("t")
    tracer.id_generator = FixedIds()
    assert tracer.start_span("x").get_span_context().span_id == FixedIds().generate_span_id()
    tracer.sampler = ALWAYS_ON
    assert tracer.start_span("x").get_span_context().trace_flags.sampled
    other: Any = provider.get_tracer("u")
    other._tracer_config.is_enabled = False
    span = other.start_span("x")

    assert not span.is_recording()
    assert span.get_span_context() == trace.INVALID_SPAN_CONTEXT


def test_each_of_several_processors_measures_every_span() -> None:
    """With a second one the SDK records what is dropped, and both see it."""
    with spanned(ALWAYS_OFF, natively=True) as made, spanned() as other:
        tracer = made.tracer()
        tracer.start_span("x").end()
        measure_all_spans(made.tracers, other.processor)
        tracer.start_span("x").end()
        made.tracer("new").start_span("x").end()

        assert made.points()["traces.span.metrics.calls"][0].value == 3
        assert other.points()["traces.span.metrics.calls"][0].value == 2


def test_a_subclass_of_ours_is_asked_for_every_span() -> None:
    """Processors and samplers with methods of their own are called, for which the SDK records what is dropped."""
    ended = []

    class Telling(SpanMetricsProcessor):
        def on_end(self, span: Any) -> None:
            ended.append(span.name)
            super().on_end(span)

    class Choosing(RecordAllSampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            ended.append("chosen")
            return super().should_sample(*args, **kwargs)

    with spanned() as made:
        provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
        measure_all_spans(provider, Telling(made.meters))
        provider.get_tracer("t").start_span("told").end()
        provider = TracerProvider(Choosing(ALWAYS_OFF), shutdown_on_exit=False)
        measure_all_spans(provider, SpanMetricsProcessor(made.meters))
        provider.get_tracer("t").start_span("x").end()

        assert ended == ["told", "chosen"]
        assert made.points()["traces.span.metrics.calls"][0].value == 1


def test_tracers_of_another_class_are_left_as_they_are() -> None:
    """Whoever has tracers of their own begins spans in their way."""

    class Other(Tracer):
        pass

    class Provider(TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
            tracer = super().get_tracer(*args, **kwargs)
            tracer.__class__ = Other
            return tracer

    provider = Provider(ALWAYS_OFF, shutdown_on_exit=False)
    measure_all_spans(provider, SpanMetricsProcessor(MeterProvider(shutdown_on_exit=False)))
    span = provider.get_tracer("t").start_span("x")

    assert not isinstance(span, UnsampledSpan)
    assert span.is_recording()


def test_what_the_sdk_counts_of_its_spans_is_as_without_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its internal metrics count a dropped span as dropped, with where its parent is."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    found = []
    for natively in (False, True):
        reader = InMemoryMetricReader()
        meters = SdkMeterProvider([reader], shutdown_on_exit=False)
        provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False, meter_provider=meters)
        if natively:
            measure_all_spans(provider, SpanMetricsProcessor(MeterProvider(shutdown_on_exit=False)))
        tracer = provider.get_tracer("t")
        with tracer.start_as_current_span("x"):
            tracer.start_span("y").end()
        tracer.start_span("z", trace.set_span_in_context(NonRecordingSpan(REMOTE))).end()
        data: Any = reader.get_metrics_data()
        points = [
            (metric.name, sorted(point.attributes.items()), point.value)
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            for point in metric.data.data_points
        ]
        found.append(sorted(points))
        meters.shutdown()

    assert found[0] == found[1]


def test_a_dropped_span_is_a_parent_like_any_other() -> None:
    """A child of it that is sampled by its own sampler names it, and a span keeps its parent's context, not the parent."""
    dropping, _ = of(ALWAYS_OFF)
    parent = dropping.get_tracer("t").start_span("parent")
    context = trace.set_span_in_context(parent)
    child: Any = TracerProvider(ALWAYS_ON, shutdown_on_exit=False).get_tracer("t").start_span("child", context)
    other: Any = dropping.get_tracer("t").start_span("other", context)
    reference, expected = weakref.ref(parent), parent.get_span_context()
    del parent, context
    gc.collect()

    assert reference() is None
    assert child.parent == other.parent == expected
    assert child.get_span_context().trace_id == other.get_span_context().trace_id == expected.trace_id


def test_providers_that_nobody_holds_are_freed() -> None:
    """Neither tracers nor what begins their spans keep anything alive, also in a span that refers to itself."""
    provider, processor = of(ALWAYS_OFF)
    span: Any = provider.get_tracer("t").start_span("x")
    span.own = span
    references = [weakref.ref(one) for one in (provider, processor, provider.get_tracer("t"), span)]
    del provider, processor, span
    gc.collect()

    assert [reference() for reference in references] == [None] * 4


def test_a_span_made_by_hand_is_no_span() -> None:
    """Nothing goes wrong with an object that no tracer has begun."""
    provider, processor = of(ALWAYS_OFF)
    starter = provider.get_tracer("t").start_span.__self__  # type: ignore[attr-defined]
    span: Any = UnsampledSpan(starter)
    span.set_attribute("a", 1)
    span.add_event("e")
    span.end()

    assert (span.name, span.kind, span.parent) == (None, None, None)
    assert active_spans(processor.segment) == []
