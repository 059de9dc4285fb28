"""Spans that are not sampled are recorded, and nobody else can tell."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanKind, TraceState, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_perf import RecordAllSampler
from tests.unit.spanned import spanned

SAMPLERS: dict[str, Sampler] = {
    "always_on": ALWAYS_ON,
    "always_off": ALWAYS_OFF,
    "ratio": TraceIdRatioBased(0.3),
    "parent": ParentBased(TraceIdRatioBased(0.3)),
}


class _Counting(RandomIdGenerator):
    """Ids that repeat from run to run, spread over the whole range."""

    def __init__(self) -> None:
        self._last = 0

    def _next(self) -> int:
        self._last += 1
        return self._last * 0x9E3779B97F4A7C15 & (1 << 64) - 1

    def generate_span_id(self) -> int:
        return self._next()

    def generate_trace_id(self) -> int:
        return self._next() << 64 | self._next()


def _run(sampler: Sampler, how: str) -> tuple[list[Any], list[dict[str, str]], int]:
    """What is exported and propagated of 200 traces of three spans each, and how many spans were measured."""
    with spanned(RecordAllSampler(sampler) if how == "recorded" else sampler, natively=how == "natively") as made:
        made.tracers.id_generator = _Counting()
        tracer = made.tracers.get_tracer("test")
        headers = []
        for number in range(200):
            with tracer.start_as_current_span("a", attributes={"number": number}) as outer:
                carrier: dict[str, str] = {}
                TraceContextTextMapPropagator().inject(carrier)
                headers.append(carrier)
                with tracer.start_as_current_span("b", kind=SpanKind.CLIENT):
                    tracer.start_span("c", context=set_span_in_context(outer)).end()
        exported = [
            (span.name, span.context.trace_id, span.context.span_id, int(span.context.trace_flags), span.parent)
            for span in made.exporter.get_finished_spans()
        ]
        points = made.points().get("traces.span.metrics.calls", [])
        return exported, headers, sum(point.value for point in points)


@pytest.mark.parametrize("how", ["recorded", "natively"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_exported_spans_and_headers_are_those_without_it(sampler: str, how: str) -> None:
    """Ids, flags, parents and headers are the same, and all spans are measured."""
    exported, headers, measured = _run(SAMPLERS[sampler], "without")
    found, propagated, all_of_them = _run(SAMPLERS[sampler], how)

    assert found == exported
    assert propagated == headers
    assert measured == len(exported)
    assert all_of_them == 600


def test_a_dropped_span_keeps_the_attributes_it_begins_with() -> None:
    """Samplers leave them out of what they drop, and a measurement needs them."""
    with spanned(RecordAllSampler(ALWAYS_OFF)) as made:
        made.tracer().start_span("GET", kind=SpanKind.CLIENT, attributes={"http.method": "GET"}).end()

        assert made.attributes()["http.client.request.duration"] == [{"http.request.method": "GET"}]


class _Keeping(Sampler):
    """A sampler that keeps what it has answered."""

    def __init__(self) -> None:
        self.kept = SamplingResult(Decision.DROP, {"by": "sampler"}, TraceState([("a", "b")]))

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        del args, kwargs
        return self.kept

    def get_description(self) -> str:
        return "Keeping"


def test_an_answer_that_the_sampler_keeps_is_not_changed() -> None:
    """A sampler may answer the same object again and again."""
    sampler = _Keeping()
    found = RecordAllSampler(sampler).should_sample(Context(), 1, "x", attributes={"own": 1})

    assert (found.decision, found.trace_state) == (Decision.RECORD_ONLY, sampler.kept.trace_state)
    assert sampler.kept.decision is Decision.DROP


def test_its_description_names_both() -> None:
    """The description tells which sampler decides."""
    assert RecordAllSampler(ALWAYS_OFF).get_description() == "RecordAll{AlwaysOffSampler}"


def test_any_tracer_provider_takes_it() -> None:
    """It needs nothing else of ours."""
    provider = TracerProvider(RecordAllSampler(ALWAYS_OFF), shutdown_on_exit=False)
    span = provider.get_tracer("test").start_span("x")

    assert span.is_recording()
    assert not span.get_span_context().trace_flags.sampled
    provider.shutdown()
