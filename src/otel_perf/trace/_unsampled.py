"""Spans that are not sampled: what native code leaves to Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, _is_valid_link, _Span, logger
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from otel_perf import _context as _context  # noqa: PLC0414 - for what it states.
from otel_perf import _core

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import TraceState
    from opentelemetry.util.types import Attributes

__all__ = ["UnsampledSpan"]

_UNSET = Status(StatusCode.UNSET)
_NUMBERS = {StatusCode.UNSET: 0, StatusCode.OK: 1, StatusCode.ERROR: 2}
_FLAGS = [TraceFlags(number) for number in range(4)]


class UnsampledSpan(_core.UnsampledSpan, Span):
    """A span that its sampler dropped: it is measured when it ends, and shown while it runs, and no span processor sees it, as none sees a dropped span.

    It has the methods of `opentelemetry.trace.Span` and answers the same questions as the SDK's spans. Of an exception it keeps the type only.
    """

    _events: Sequence[Event] = ()
    _more_links: tuple[Link, ...] = ()

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """See `opentelemetry.trace.Span`."""
        if not self.is_recording():
            _warn("Tried calling _add_event on an ended span.")
            return
        if not isinstance(self._events, BoundedList):
            self._events = BoundedList(self._tracer._span_limits.max_events)
        kept = dict(attributes) if isinstance(attributes, Mapping) else None
        self._events.append(Event(name, kept, timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """See `opentelemetry.trace.Span`."""
        if not _is_valid_link(context, attributes):
            return
        if not self.is_recording():
            _warn("Tried calling _add_link on an ended span.")
            return
        limit = self._tracer._span_limits.max_links
        if limit is None or len(self._more_links) < limit:
            self._more_links += (Link(context, attributes),)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: ARG002 - the signature is the base class's.
    ) -> None:
        """Keeps the type of an exception, which is what a measurement asks for: nobody exports its text and where it was raised."""
        module, name = type(exception).__module__, type(exception).__qualname__
        kept: dict[str, Any] = {"exception.type": f"{module}.{name}" if module and module != "builtins" else name}
        if isinstance(attributes, Mapping):
            kept.update(attributes)
        self.add_event("exception", kept, timestamp)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """See `opentelemetry.trace.Span`."""
        if not self.is_recording():
            _warn("Tried calling set_status on an ended span.")
            return
        code = status.status_code if isinstance(status, Status) else status
        if not isinstance(code, StatusCode) or code is StatusCode.UNSET or self.status.status_code is StatusCode.OK:
            return
        if not isinstance(status, Status):
            status = Status(status, description)
        elif description is not None:
            logger.warning("Description %s ignored. Use either `Status` or `(StatusCode, Description)`", description)
        self._keep_status(status, _NUMBERS[code])

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Ends the span, after what the SDK does with an exception that leaves a block."""
        if exc_val is not None and self.is_recording():
            if self._record_exception:
                self.record_exception(exc_val, escaped=True)
            if self._set_status_on_exception:
                self.set_status(Status(StatusCode.ERROR, f"{type(exc_val).__name__}: {exc_val}"))
        super().__exit__(exc_type, exc_val, exc_tb)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name="{self.name}", context={self.get_span_context()})'

    @property
    def status(self) -> Status:
        """Status so far."""
        return self._status or _UNSET

    @property
    def events(self) -> tuple[Event, ...]:
        """Events so far."""
        return tuple(self._events)

    @property
    def links(self) -> tuple[Link, ...]:
        """Links so far."""
        valid = (link for link in self._links or () if link and _is_valid_link(link.context, link.attributes))
        return (*valid, *self._more_links)

    @property
    def resource(self) -> Resource:
        """Resource of the tracer provider."""
        resource: Resource = self._tracer.resource
        return resource

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """Scope of the tracer."""
        scope: InstrumentationScope = self._tracer._instrumentation_scope
        return scope


def _warn(text: str) -> None:
    # As the SDK says it, where the SDK says it.
    logger.warning("%s", text)


def _make_context(trace_id: int, span_id: int, is_random: bool, trace_state: TraceState | None) -> SpanContext:
    return SpanContext(trace_id, span_id, False, _FLAGS[2 if is_random else 0], trace_state)


def _record(
    tracer: Any,
    begun: tuple[Any, ...],
    on_exception: tuple[bool, bool],
    parent: SpanContext | None,
    trace_id: int,
    is_random: bool,
    result: Any,
) -> Span:
    """The span of a sampler that does not drop it, as `opentelemetry.sdk.trace.Tracer.start_span` makes it from there on."""
    name, context, kind, links, start_time = begun
    flags = _FLAGS[result.decision.is_sampled() | (2 if is_random else 0)]
    span_context = SpanContext(trace_id, tracer.id_generator.generate_span_id(), False, flags, result.trace_state)
    record_end_metrics = tracer._tracer_metrics.start_span(parent, result.decision)
    if not result.decision.is_recording():
        return NonRecordingSpan(span_context)
    span = _Span(
        name=name,
        context=span_context,
        parent=parent,
        sampler=tracer.sampler,
        resource=tracer.resource,
        attributes=result.attributes,
        span_processor=tracer.span_processor,
        kind=kind,
        links=links,
        instrumentation_info=tracer.instrumentation_info,
        record_exception=on_exception[0],
        set_status_on_exception=on_exception[1],
        limits=tracer._span_limits,
        instrumentation_scope=tracer._instrumentation_scope,
        record_end_metrics=record_end_metrics,
    )
    span.start(start_time=start_time, parent_context=context)
    return span


def _bounded(tracer: Any, attributes: dict[str, Any]) -> BoundedAttributes:
    limits = tracer._span_limits
    bounded = BoundedAttributes(
        limits.max_span_attributes, immutable=False, max_value_len=limits.max_span_attribute_length
    )
    bounded._dict = attributes
    return bounded


def _set_item(tracer: Any, attributes: dict[str, Any], key: Any, value: Any) -> None:
    """Sets an attribute that has to be cleaned, or takes the place of another one."""
    _bounded(tracer, attributes)[key] = value


def _set_items(tracer: Any, attributes: dict[str, Any], added: Any) -> None:
    """As `_set_item`, of several at once."""
    _bounded(tracer, attributes)._set_items(added)


_core.set_unsampled(
    UnsampledSpan,
    Span,
    SpanContext,
    SpanKind.INTERNAL,
    Decision.DROP,
    _make_context,
    _record,
    _set_item,
    _set_items,
    _warn,
)
