"""Private fields of the SDK's spans that are read natively: where one is moved, spans are read by their properties, which costs ten times as much."""

from __future__ import annotations

import inspect
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider, _Span
from opentelemetry.sdk.trace._tracer_metrics import NoOpTracerMetrics, TracerMetrics
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
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


def test_tracers_keep_their_parts_under_the_names_that_are_read() -> None:
    """What `start_span` reads of a tracer: sampler, id generator, whether it is enabled, limits, and what becomes of its spans."""
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    tracer: Any = provider.get_tracer("scope")
    assert list(provider._tracers.values()) == [tracer]
    assert tracer.sampler is provider.sampler
    assert tracer.id_generator is provider.id_generator
    assert tracer.resource is provider.resource
    assert tracer.span_processor is provider._active_span_processor
    assert tracer._tracer_config.is_enabled is True
    assert tracer._instrumentation_scope.name == tracer.instrumentation_info.name == "scope"
    assert type(tracer._tracer_metrics) is NoOpTracerMetrics
    assert list(inspect.signature(TracerMetrics.start_span).parameters)[1:] == [
        "parent_span_context",
        "sampling_decision",
    ]
    for limit in ("max_span_attributes", "max_span_attribute_length", "max_events", "max_links"):
        assert hasattr(tracer._span_limits, limit)
    provider.shutdown()


def test_the_sdk_makes_a_span_of_what_is_given_to_it() -> None:
    """The arguments of the class that is private, and those of the public method that is taken over."""
    assert list(inspect.signature(_Span.__init__).parameters)[1:] == [
        *("name", "context", "parent", "sampler", "trace_config", "resource", "attributes", "events", "links", "kind"),
        *("span_processor", "instrumentation_info", "record_exception", "set_status_on_exception", "limits"),
        *("instrumentation_scope", "record_end_metrics"),
    ]
    assert list(inspect.signature(Tracer.start_span).parameters)[1:] == [
        *(
            "name",
            "context",
            "kind",
            "attributes",
            "links",
            "start_time",
            "record_exception",
            "set_status_on_exception",
        ),
    ]
    assert hasattr(RandomIdGenerator(), "is_trace_id_random")
    bounded = BoundedAttributes(1, immutable=False)
    bounded._set_items({"a": 1})
    assert bounded._dict == {"a": 1}


def test_meter_providers_keep_their_instruments_under_the_names_that_are_read() -> None:
    """Which metrics an instrumentation records is seen from the instruments of its meter."""
    provider: Any = sdk.MeterProvider(shutdown_on_exit=False)
    provider.get_meter("scope").create_histogram("duration", "s")
    ((scope, meter),) = provider._meters.items()

    assert scope.name == "scope"
    assert [instrument.name for instrument in meter._instrument_id_instrument.values()] == ["duration"]
    provider.shutdown()
