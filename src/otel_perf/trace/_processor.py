"""SpanMetricsProcessor: what spans are measured, while they run and when they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, WeakSet

from opentelemetry.context import Context
from opentelemetry.metrics import get_meter_provider
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanKind, StatusCode, set_span_in_context

from otel_perf import _core
from otel_perf.segment import Segment, default_segment
from otel_perf.trace._conventions import KEYS, Keys, Recipe, error_type, recipe
from otel_perf.trace._instruments import Instruments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import SpanContext

__all__ = ["SpanMetricsProcessor", "processors"]

_NS = {"s": 1e-9, "ms": 1e-6}

_core.set_span_members(list(SpanKind), [StatusCode.UNSET, StatusCode.OK, StatusCode.ERROR])

processors: WeakSet[SpanMetricsProcessor] = WeakSet()
"""The processors of this process."""


class SpanMetricsProcessor(SpanProcessor):
    """Turns every span that is recorded into metrics, and keeps the spans that run and the slowest ones in the segment.

    What a span is measured as is decided by the semantic conventions: ``http.*.request.duration``, ``db.client.operation.duration``,
    ``rpc.*.call.duration``, ``messaging.*``; else ``traces.span.metrics.duration`` and ``.calls``, as by the Collector's span metrics connector. Where the
    instrumentation of a span records the metric itself, nothing is added. Attributes have the new names, whichever the instrumentation has.

    It can be added to any tracer provider, and before or after other processors: it changes nothing about spans. It takes about half a microsecond a span.
    It never raises in `on_start` and `on_end`.

    Args:
        meter_provider: Where the metrics go; the global one if it is not given. Of otel_perf's own it is natively; others are called.
        shown_attributes: Keys of the span attributes that `active_spans` and `slowest_spans` show; none if it is not given, because values may be
            secrets.
        measures: Whether spans are measured when they end. Otherwise they are only shown.
        service_name: The ``service.name`` of spans that no convention is for; that of the provider's resource if it is not given.

    Raises:
        SegmentError: The meter provider is not otel_perf's, and no memory can be mapped.
    """

    def __init__(
        self,
        meter_provider: MeterProvider | None = None,
        shown_attributes: Iterable[str] = (),
        *,
        measures: bool = True,
        service_name: str | None = None,
    ) -> None:
        provider: Any = meter_provider or get_meter_provider()
        segment = getattr(provider, "segment", None) or default_segment()
        self.segment: Segment = segment if isinstance(segment, Segment) else Segment.create(_core.MEMORY_LIMIT_MIN)
        self.shown_attributes = tuple(dict.fromkeys(shown_attributes))
        self._service_name = _service_of(provider) if service_name is None else service_name
        self._instruments = Instruments(provider)
        self.recorder = _core.SpanRecorder(
            self.segment, self._plan, error_type, _in_context, sorted(KEYS), list(self.shown_attributes), measures
        )
        # The native methods are called at once, unless a subclass has its own.
        is_native = [
            type(self).on_start is SpanMetricsProcessor.on_start,
            type(self).on_end is SpanMetricsProcessor.on_end,
        ]
        self.is_native = all(is_native)
        if is_native[0]:
            self.on_start = self.recorder.on_start  # type: ignore[method-assign]
        if is_native[1]:
            self.on_end = self.recorder.on_end  # type: ignore[method-assign]
        tell = getattr(provider, "tell_of_instruments", None)
        if tell is not None:
            # Who records a metric itself is asked anew.
            forget = WeakMethod(self._forget)
            tell(lambda: (act := forget()) and act())
        processors.add(self)

    def _forget(self) -> None:
        self.recorder.forget()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Notes that a span runs. See `opentelemetry.sdk.trace.SpanProcessor`."""
        self.recorder.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Measures a span that ended."""
        self.recorder.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the signature is the base class's.
        """Does nothing: what was measured is measured. The meter provider's `force_flush` exports it."""
        return True

    def _plan(
        self, scope: str, kind: int, status: int, keys: tuple[str, ...], switched: tuple[object] | None
    ) -> tuple[Any, ...] | None:
        found = recipe(scope, kind, status, Keys(keys), switched, self._service_name)
        if not isinstance(found, Recipe):
            return ("switch", found)
        silent = [
            metric is not None and self._instruments.are_recorded_by(scope, metric.name)
            for metric in (found.metric, found.counter)
        ]
        histogram = None if silent[0] else self._instruments.histogram(found.metric)
        counter = None if found.counter is None or silent[1] else self._instruments.counter(found.counter)
        if histogram is None and counter is None:
            return None
        return ("measure", histogram, _NS[found.metric.unit], counter, found.amount, found.attributes)


def _in_context(span_context: SpanContext) -> Context:
    """A context for exemplars: that of the span itself, which is current no longer when it ends."""
    return set_span_in_context(NonRecordingSpan(span_context), Context())


def _service_of(provider: Any) -> str:
    resource = getattr(getattr(provider, "_sdk_config", None), "resource", None)
    return str(resource.attributes.get("service.name", "")) if resource is not None else ""
