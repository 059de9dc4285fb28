"""RecordAllSampler: spans that are not sampled are measured all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from otel_perf._core import AllRecorder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

__all__ = ["RecordAllSampler"]


class RecordAllSampler(Sampler):
    """Has every span recorded, and sampled exactly if another sampler says so.

    A span that is not sampled reaches the span processors, `SpanMetricsProcessor` among them, with the flag ``sampled`` off: it is propagated as before, and
    the SDK's own exporting processors pass it over. Recording one takes what recording a sampled span takes; `measure_all_spans` does without.

    Args:
        sampler: Who decides whether a span is sampled.

    Attributes:
        wrapped: The same.
        is_native: Whether nothing but the other sampler decides: no subclass does.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.wrapped = sampler
        self._recorder = AllRecorder(sampler.should_sample, SamplingResult, Decision.DROP, Decision.RECORD_ONLY)
        self.is_native = type(self).should_sample is RecordAllSampler.should_sample
        if self.is_native:
            self.should_sample = self._recorder.should_sample  # type: ignore[method-assign]

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """What the other sampler says, with recording in place of dropping. See `opentelemetry.sdk.trace.sampling.Sampler`."""
        arguments = (parent_context, trace_id, name, kind, attributes, links)
        more = {} if trace_state is None else {"trace_state": trace_state}
        result: SamplingResult = self._recorder.should_sample(*arguments, **more)
        return result

    def get_description(self) -> str:
        """Names both samplers."""
        return f"RecordAll{{{self.wrapped.get_description()}}}"
