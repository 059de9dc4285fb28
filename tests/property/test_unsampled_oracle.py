"""Whatever is done to a span that the sampler drops, it is what the SDK's span would be, and so is its measurement."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_perf import MeterProvider, RecordAllSampler, SpanMetricsProcessor, measure_all_spans
from otel_perf.trace import UnsampledSpan
from tests.conformance.spans import FixedIds

KEYS = st.sampled_from(
    ["db.system", "db.statement", "http.method", "http.status_code", "error.type", "own", "", 5, "peer.service"]
)
VALUES = st.one_of(
    st.sampled_from(["redis", "GET ?", "GET", "a" * 9]),
    st.integers(-5, 600),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.binary(max_size=3),
    st.lists(st.one_of(st.text(max_size=3), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=6)
CODES = st.sampled_from(list(StatusCode))
ACTS = st.one_of(
    st.tuples(st.just("set_attribute"), KEYS, VALUES),
    st.tuples(st.just("set_attributes"), ATTRIBUTES),
    st.tuples(st.just("update_name"), st.sampled_from(["x", "y"])),
    st.tuples(st.just("add_event"), st.sampled_from(["e", "exception"]), st.just({"exception.type": "Broken"})),
    st.tuples(st.just("set_status"), CODES),
    st.tuples(st.just("set_status"), st.builds(Status, CODES)),
    st.tuples(st.just("record_exception"), st.builds(KeyError)),
    st.tuples(st.just("end"), st.integers(1, 10**10)),
)
LIMITS = st.builds(
    SpanLimits,
    max_span_attributes=st.sampled_from([0, 1, 3, 128]),
    max_span_attribute_length=st.sampled_from([None, 2, 5]),
    max_events=st.sampled_from([0, 1, 128]),
)


def _parts(span: Any) -> list[Any]:
    return [
        *(span.name, span.kind, span.parent, span.start_time, span.end_time, span.is_recording()),
        *(span.get_span_context(), list(span.attributes.items())),
        [(event.name, (event.attributes or {}).get("exception.type")) for event in span.events],
        (span.status.status_code, span.status.description),
    ]


def _measured(reader: InMemoryMetricReader) -> list[Any]:
    data: Any = reader.get_metrics_data()
    return sorted(
        (metric.name, sorted(map(repr, point.attributes.items())), getattr(point, "sum", point.__dict__.get("value")))
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    )


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(list(SpanKind)), ATTRIBUTES, st.lists(ACTS, max_size=8), LIMITS)
def test_a_dropped_span_is_what_the_sdks_span_would_be(
    kind: SpanKind, attributes: dict[Any, Any], acts: list[tuple[Any, ...]], limits: SpanLimits
) -> None:
    """Parts after each act, and metrics with attributes, counts and sums in the end."""
    found = []
    for natively in (False, True):
        reader = InMemoryMetricReader()
        meters = MeterProvider([reader], Resource({}), shutdown_on_exit=False)
        sampler = ALWAYS_OFF if natively else RecordAllSampler(ALWAYS_OFF)
        tracers = TracerProvider(
            sampler, Resource({}), shutdown_on_exit=False, id_generator=FixedIds(), span_limits=limits
        )
        processor = SpanMetricsProcessor(meters)
        if natively:
            measure_all_spans(tracers, processor)
        else:
            tracers.add_span_processor(processor)
        span = tracers.get_tracer("t").start_span("x", kind=kind, attributes=attributes, start_time=1)
        assert isinstance(span, UnsampledSpan) == natively
        seen = [_parts(span)]
        for name, *arguments in acts:
            getattr(span, name)(*arguments)
            seen.append(_parts(span))
        if span.is_recording():
            span.end(5)
        found.append((seen, _measured(reader)))
        meters.shutdown()

    assert found[0] == found[1]
