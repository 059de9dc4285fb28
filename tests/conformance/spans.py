"""Spans that measurements are made in, and what the exemplar tests ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags


class FixedIds(IdGenerator):
    """Ids that are the same on both sides, with leading zeros and with the highest bit."""

    def generate_span_id(self) -> int:
        return 0x00FE_DCBA_9876_5432

    def generate_trace_id(self) -> int:
        return 0xF123_4567_89AB_CDEF_0011_2233_4455_6677


def span_of(sampler: Any) -> trace.Span:
    """A span of the SDK."""
    provider = TracerProvider(sampler, Resource({}), shutdown_on_exit=False, id_generator=FixedIds())
    return provider.get_tracer("t").start_span("span")


def remote(number: int, *, sampled: bool = True) -> trace.Span:
    """A span of another process."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return NonRecordingSpan(SpanContext(0xABC0 + number, 0xDEF0 + number, is_remote=True, trace_flags=flags))


def within(span: trace.Span) -> Context:
    """A context in which a span is active."""
    return trace.set_span_in_context(span, Context())


SPANS: dict[str, Callable[[], Context]] = {
    "no span": Context,
    "a sampled span": lambda: within(span_of(ALWAYS_ON)),
    "an unsampled span": lambda: within(span_of(ALWAYS_OFF)),
    "a sampled remote parent": lambda: within(remote(1)),
    "an unsampled remote parent": lambda: within(remote(1, sampled=False)),
    "the invalid span": lambda: within(trace.INVALID_SPAN),
}
ON = {"exemplar_filter": AlwaysOnExemplarFilter()}
AGGREGATIONS: dict[str, Aggregation | None] = {
    "default": None,
    "sum": SumAggregation(),
    "last value": LastValueAggregation(),
    "explicit": ExplicitBucketHistogramAggregation([2, 5.5, 50.0]),
    "explicit, one bucket": ExplicitBucketHistogramAggregation([]),
    "exponential": ExponentialBucketHistogramAggregation(),
    "exponential, few buckets": ExponentialBucketHistogramAggregation(max_size=2),
    "drop": DropAggregation(),
}


@contextmanager
def active(context: Context) -> Iterator[None]:
    """Makes a context the active one."""
    token = attach(context)
    try:
        yield
    finally:
        detach(token)
