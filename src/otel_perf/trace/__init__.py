"""Spans as metrics: durations of all of them, those that run, and the slowest ones."""

from otel_perf.trace._processor import SpanMetricsProcessor
from otel_perf.trace._sampler import RecordAllSampler
from otel_perf.trace._spans import ActiveSpan, Bucket, SlowSpan, SpanEvent, active_spans, slowest_spans
from otel_perf.trace._tracers import measure_all_spans
from otel_perf.trace._unsampled import UnsampledSpan

__all__ = [
    "ActiveSpan",
    "Bucket",
    "RecordAllSampler",
    "SlowSpan",
    "SpanEvent",
    "SpanMetricsProcessor",
    "UnsampledSpan",
    "active_spans",
    "measure_all_spans",
    "slowest_spans",
]
