"""Spans that run now, and the slowest ones, of all processes that share a segment."""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_perf import _core
from otel_perf.segment import Segment, default_segment
from otel_perf.trace._processor import SpanMetricsProcessor, processors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

__all__ = ["ActiveSpan", "Bucket", "SlowSpan", "SpanEvent", "active_spans", "slowest_spans"]

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True)
class SpanEvent:
    """An event of a span that runs.

    Attributes:
        name: Name of the event.
        timestamp: When it was, nanoseconds since the epoch.
    """

    name: str
    timestamp: int


@dataclass(frozen=True)
class ActiveSpan:
    """A span that has begun and not ended.

    Attributes:
        trace_id: Trace id.
        span_id: Span id.
        parent_span_id: Span id of the parent, None for a root.
        name: Name; of a span of another process that of its beginning, and no more than 80 bytes of it.
        kind: ``internal``, ``server``, ``client``, ``producer``, ``consumer`` or ``unspecified``.
        start_time: When it began, nanoseconds since the epoch.
        age: Seconds since then.
        attributes: Those that are shown, see `SpanMetricsProcessor`; of a span of another process those that it began with.
        events: Events so far; None for a span of another process.
        pid: Process that it runs in, None if that is not known.
    """

    trace_id: int
    span_id: int
    parent_span_id: int | None
    name: str
    kind: str
    start_time: int
    age: float
    attributes: Mapping[str, AttributeValue]
    events: tuple[SpanEvent, ...] | None
    pid: int | None


@dataclass(frozen=True)
class Bucket:
    """Where a span's duration was counted.

    Attributes:
        metric: Name of the histogram.
        attributes: Attributes of its series.
        lower: The bucket's lower boundary, exclusive, in the metric's unit.
        upper: Its upper boundary, inclusive; infinity for the last one.
    """

    metric: str
    attributes: Mapping[str, AttributeValue]
    lower: float
    upper: float


@dataclass(frozen=True)
class SlowSpan:
    """One of the slowest spans of its name in the last ten minutes.

    Attributes:
        trace_id: Trace id.
        span_id: Span id.
        parent_span_id: Span id of the parent, None for a root.
        name: Name, no more than 80 bytes of it.
        kind: As of `ActiveSpan`.
        start_time: When it began, nanoseconds since the epoch.
        duration: Seconds that it took.
        attributes: Those that are shown, see `SpanMetricsProcessor`.
        bucket: Where its duration was counted, None if the instrumentation measures it itself.
    """

    trace_id: int
    span_id: int
    parent_span_id: int | None
    name: str
    kind: str
    start_time: int
    duration: float
    attributes: Mapping[str, AttributeValue]
    bucket: Bucket | None


def active_spans(segment: Segment | None = None) -> list[ActiveSpan]:
    """Spans that run now in all processes of a service, those that began first first.

    There is room for some hundred in a segment of one mebibyte; more are measured and not shown, and counted as drops for the reason ``no_span``. A span
    whose object is gone without an end is not shown. About 2 microseconds a span.

    Args:
        segment: Segment to look into; that of this process if it is not given.

    Returns:
        The spans; none if there is no `SpanMetricsProcessor`.
    """
    segment = segment or default_segment()
    found = list(processors)
    if segment is None:
        segment = found[0].segment if found else None
    if segment is None:
        return []
    own = [processor for processor in found if processor.segment is segment]
    for processor in own:
        processor.recorder.sweep()
    now = time.time_ns()
    return [_active(span, now, own, segment.lane if own else 0) for span in _core.active_spans(segment)]


def _active(span: dict[str, Any], now: int, own: list[SpanMetricsProcessor], lane: int) -> ActiveSpan:
    name, attributes, events = span["name"], span["attributes"], None
    for processor in own if span["lane"] == lane else ():
        live: Any = processor.recorder.live(span["place"], span["span_id"])
        if live is not None:
            name = live.name
            begun = dict(live.attributes or {})
            attributes = {key: begun[key] for key in processor.shown_attributes if key in begun}
            events = tuple(SpanEvent(event.name, event.timestamp) for event in live.events)
            break
    return ActiveSpan(
        span["trace_id"],
        span["span_id"],
        span["parent_span_id"] or None,
        name,
        _KINDS[span["kind"]],
        span["start_time"],
        max(0.0, (now - span["start_time"]) * 1e-9),
        attributes,
        events,
        span["pid"],
    )


def slowest_spans(segment: Segment | None = None, name: str | None = None) -> list[SlowSpan]:
    """The slowest spans of the last ten minutes, up to four of each name, the slowest first.

    There is room for some thirty names in a segment of one mebibyte: first come, first served, until all spans of a name are older than ten minutes.

    Args:
        segment: Segment to look into; that of this process if it is not given.
        name: Name of the spans; of all names if it is not given.

    Returns:
        The spans, each with the bucket that it was counted in.
    """
    segment = segment or default_segment()
    if segment is None:
        segment = next((processor.segment for processor in processors), None)
    if segment is None:
        return []
    found = _core.slowest_spans(segment)
    return [_slow(span) for span in found if name is None or span["name"] == name]


def _slow(span: dict[str, Any]) -> SlowSpan:
    seconds = span["duration_ns"] * 1e-9
    return SlowSpan(
        span["trace_id"],
        span["span_id"],
        span["parent_span_id"] or None,
        span["name"],
        _KINDS[span["kind"]],
        span["start_time"],
        seconds,
        span["attributes"],
        _bucket(span["metric"], seconds),
    )


def _bucket(metric: dict[str, Any] | None, seconds: float) -> Bucket | None:
    if metric is None:
        return None
    value = seconds * 1e3 if metric["unit"] == "ms" else seconds
    boundaries = metric["boundaries"] or []
    position = bisect_left(boundaries, value)
    lower = boundaries[position - 1] if position else 0.0
    upper = boundaries[position] if position < len(boundaries) else float("inf")
    return Bucket(metric["name"], metric["attributes"], lower, upper)
