"""Tracers whose spans are all measured."""

from __future__ import annotations

from functools import wraps
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace._tracer_metrics import NoOpTracerMetrics

from otel_perf._core import SpanStarter
from otel_perf.trace._sampler import RecordAllSampler

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from otel_perf.trace._processor import SpanMetricsProcessor

__all__ = ["measure_all_spans"]

_MEASURED = "_otel_perf_measured"


def measure_all_spans(tracer_provider: TracerProvider, processor: SpanMetricsProcessor) -> None:
    """Has all spans of a tracer provider measured, also those that its sampler drops.

    What is sampled, propagated and exported stays as it was. A dropped span takes less than the SDK takes to drop it, for it is begun natively; only the
    span metrics processor sees it. The provider's sampler is wrapped in a `RecordAllSampler`, its tracers, also those that it will make, begin spans
    natively, and the processor is added. Where a provider has tracers or samplers of its own kind, or a second processor that measures, dropped spans are
    recorded by the SDK.

    Args:
        tracer_provider: The SDK's tracer provider.
        processor: What measures its spans.
    """
    tracer_provider.add_span_processor(processor)
    if not isinstance(tracer_provider.sampler, RecordAllSampler):
        tracer_provider.sampler = RecordAllSampler(tracer_provider.sampler)
    provider: Any = tracer_provider
    measured = getattr(provider, _MEASURED, None)
    if measured is None:
        measured = [processor]
        setattr(provider, _MEASURED, measured)
        get_tracer = provider.get_tracer

        @wraps(get_tracer)
        def get_measured(*args: Any, **kwargs: Any) -> Any:
            tracer = get_tracer(*args, **kwargs)
            _begin_natively(tracer, measured)
            return tracer

        provider.get_tracer = get_measured
    else:
        measured.append(processor)
    for tracer in list(getattr(provider, "_tracers", {}).values()):
        if not isinstance(tracer.sampler, RecordAllSampler):
            tracer.sampler = tracer_provider.sampler
        _begin_natively(tracer, measured)


def _begin_natively(tracer: Any, measured: list[SpanMetricsProcessor]) -> None:
    if type(tracer) is not Tracer:
        return
    is_native = isinstance(tracer.start_span, BuiltinMethodType)
    if len(measured) != 1:
        # Each of them is to see the span.
        if is_native:
            del tracer.start_span
        return
    (processor,) = measured
    if is_native or not processor.is_native or not isinstance(tracer.sampler, RecordAllSampler):
        return
    if not tracer.sampler.is_native:
        return
    limits, metrics = tracer._span_limits, tracer._tracer_metrics
    tracer.start_span = SpanStarter(  # type: ignore[method-assign]
        tracer,
        processor.recorder,
        tracer._instrumentation_scope.name,
        tracer.sampler.wrapped.should_sample,
        limits.max_span_attributes,
        limits.max_span_attribute_length,
        None if isinstance(metrics, NoOpTracerMetrics) else metrics,
    ).start_span
