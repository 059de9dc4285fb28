"""Private fields of the SDK's spans that are read natively: where one is moved, spans are read by their properties, which costs ten times as much."""

from __future__ import annotations

from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import StatusCode

FIELDS = {
    "_context": "context",
    "_parent": "parent",
    "_name": "name",
    "_kind": "kind",
    "_start_time": "start_time",
    "_end_time": "end_time",
    "_status": "status",
    "_instrumentation_scope": "instrumentation_scope",
}


def test_spans_keep_their_parts_under_the_names_that_are_read() -> None:
    """A span that runs and one that ended have each part under its private name; the context begins with trace id and span id."""
    provider = TracerProvider(shutdown_on_exit=False)
    span: Any = provider.get_tracer("scope").start_span("x", attributes={"a": 1})
    span.set_status(StatusCode.ERROR)
    span.end()
    for one in (span, span._readable_span()):
        for private, public in FIELDS.items():
            assert getattr(one, private) is getattr(one, public)
        assert type(one._attributes) is BoundedAttributes
        assert type(one._attributes._dict) is dict
        assert one._attributes._dict == {"a": 1}
        assert one._status._status_code is StatusCode.ERROR
        assert one._instrumentation_scope._name == "scope"
        assert one._context[:2] == (one.context.trace_id, one.context.span_id)
    assert isinstance(span._readable_span(), ReadableSpan)
    provider.shutdown()


def test_meter_providers_keep_their_instruments_under_the_names_that_are_read() -> None:
    """Which metrics an instrumentation records is seen from the instruments of its meter."""
    provider: Any = sdk.MeterProvider(shutdown_on_exit=False)
    provider.get_meter("scope").create_histogram("duration", "s")
    ((scope, meter),) = provider._meters.items()

    assert scope.name == "scope"
    assert [instrument.name for instrument in meter._instrument_id_instrument.values()] == ["duration"]
    provider.shutdown()
