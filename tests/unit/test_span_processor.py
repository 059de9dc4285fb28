"""The span processor in tracer providers of all kinds, set up by hand and by the settings."""

from __future__ import annotations

import json
import weakref
from typing import Any

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanKind

from otel_perf import SpanMetricsProcessor
from tests.peers.program import run
from tests.unit.spanned import MS, Spanned, spanned

REDIS = {"db.system": "redis", "db.statement": "GET ?"}
DB = "db.client.operation.duration"
PROGRAM = """
import json, otel_perf
from opentelemetry import metrics, trace
otel_perf.configure()
tracer = trace.get_tracer("t")
for number in range(3):
    with tracer.start_as_current_span("work", attributes={"number": number}) as span:
        running = [(one.name, dict(one.attributes)) for one in otel_perf.active_spans()]
segment = metrics.get_meter_provider().segment
snapshot = [series.name for series in segment.histograms() if series.name.startswith("traces.")]
print(json.dumps({
    "sampler": trace.get_tracer_provider().sampler.get_description(),
    "recording": span.get_span_context().trace_flags.sampled,
    "measured": snapshot,
    "running": running,
}))
"""


@pytest.mark.parametrize(
    ("setting", "sampler", "measured"),
    [
        ("", "always_off", ["traces.span.metrics.duration"]),
        ("all", "always_off", ["traces.span.metrics.duration"]),
        ("sampled", "always_off", []),
        ("sampled", "always_on", ["traces.span.metrics.duration"]),
        ("off", "always_on", []),
    ],
)
def test_the_setting_says_which_spans_are_measured(setting: str, sampler: str, measured: list[str]) -> None:
    """All by default, also those that are not sampled; only sampled ones; none."""
    done = run(
        *("-c", PROGRAM),
        wrapper=False,
        OTEL_METRICS_EXPORTER="none",
        OTEL_TRACES_SAMPLER=sampler,
        OTEL_PERF_SPAN_METRICS=setting,
        OTEL_PERF_SPAN_ATTRIBUTES="number, nothing",
    )
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)

    assert found["measured"] == measured
    assert found["recording"] == (sampler == "always_on")
    assert found["sampler"].startswith("RecordAll{") == (setting in ("", "all"))
    assert found["running"] == ([["work", {"number": 2}]] if measured else [])


def test_a_wrong_setting_is_one_line() -> None:
    """The line names variable, value and accepted values, and the default takes its place."""
    done = run("-c", PROGRAM, wrapper=False, OTEL_METRICS_EXPORTER="none", OTEL_PERF_SPAN_METRICS="some")

    assert "OTEL_PERF_SPAN_METRICS='some' is not accepted (accepted: all, sampled, off); using all" in done.err
    assert json.loads(done.out)["measured"] == ["traces.span.metrics.duration"]


def test_other_peoples_providers_take_it() -> None:
    """A stock tracer provider and a stock meter provider: the same measurement, with the exemplar of the span, and silence where it is due."""
    reader = InMemoryMetricReader()
    meters = sdk.MeterProvider([reader], shutdown_on_exit=False)
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SpanMetricsProcessor(meters))
    span = tracers.get_tracer("t").start_span("GET", kind=SpanKind.CLIENT, attributes=REDIS, start_time=1_000 * MS)
    span.end(1_250 * MS)
    meters.get_meter("own").create_histogram(DB, "s")
    tracers.get_tracer("own").start_span("GET", kind=SpanKind.CLIENT, attributes=REDIS).end()
    data: Any = reader.get_metrics_data()
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    tracers.shutdown()
    meters.shutdown()

    assert dict(point.attributes) == {"db.system.name": "redis", "db.operation.name": "GET"}
    assert (point.count, point.sum) == (1, 0.25)
    assert [exemplar.span_id for exemplar in point.exemplars] == [span.get_span_context().span_id]


def test_a_subclass_is_asked_first() -> None:
    """Methods of a subclass are called, and may call those of the class."""
    ended = []

    class Telling(SpanMetricsProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span.name)
            super().on_end(span)

    with spanned() as made:
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(Telling(made.meters))
        tracers.get_tracer("t").start_span("GET", kind=SpanKind.CLIENT, attributes=REDIS).end()
        tracers.shutdown()

        assert ended == ["GET"]
        assert made.points()[DB][0].count == 1


def test_spans_are_measured_without_names_of_private_fields() -> None:
    """A span of another kind, which has only the public attributes, is measured as well."""
    with spanned() as made:
        span: Any = made.tracers.get_tracer("t").start_span("GET", kind=SpanKind.CLIENT, attributes=REDIS)
        names = (
            "context",
            "parent",
            "name",
            "kind",
            "start_time",
            "status",
            "instrumentation_scope",
            "attributes",
            "events",
        )

        class Other:
            end_time = span.start_time + 250 * MS

        for name in names:
            setattr(Other, name, getattr(span, name))
        made.processor.on_end(Other())  # type: ignore[arg-type]
        (point,) = made.points()[DB]

        assert (point.count, point.sum) == (1, 0.25)


class _Raising:
    """A value that raises whatever is asked of it."""

    def _raise(self, *args: object) -> Any:
        raise RuntimeError(args)

    __hash__ = __eq__ = __str__ = __repr__ = __iter__ = __bool__ = __index__ = __add__ = __radd__ = __len__ = _raise


HOSTILE: dict[str, Any] = {
    "one that raises": _Raising(),
    "surrogates": "\ud800",
    "a list": ["a", "b"],
    "bytes": b"\xff",
    "a huge number": 10**100,
    "not a number": float("nan"),
    "a mapping": {"a": 1},
    "nothing": None,
}


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", ["db.system", "db.statement", "db.name", "net.peer.port", "db.redis.database_index"])
def test_odd_attribute_values_are_no_trouble(key: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the value of an attribute is, the span is counted once and nothing is raised."""
    with spanned(shown_attributes=[key]) as made:
        span: Any = made.tracers.get_tracer("t").start_span(
            "GET", kind=SpanKind.CLIENT, attributes={"db.system": "redis"}
        )
        # Past the cleaning of the SDK, which lets nothing of this in.
        span._attributes._dict[key] = HOSTILE[value]
        span.end()

        assert sum(point.count for point in made.points()[DB]) == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


class _Text(str):
    """A text that can be referred to weakly."""

    __slots__ = ("__weakref__",)


def test_what_a_span_was_measured_of_is_given_back_at_once() -> None:
    """A text is held as long as it is the last one, for programs say the same again, and not until native code is called in another way."""
    with spanned() as made:
        texts = [_Text(f"GET {number}") for number in range(3)]
        references = [weakref.ref(text) for text in texts]
        ended: list[Any] = []
        while texts:
            attributes = {"db.system": "redis", "db.statement": texts.pop(0)}
            span: Any = made.tracers.get_tracer("t").start_span("GET", kind=SpanKind.CLIENT, attributes=attributes)
            ended.append(span._readable_span())
            span._end_time = ended[-1]._end_time = span.start_time
        del span, attributes
        while ended:
            made.processor.on_end(ended.pop(0))

        assert [reference() is None for reference in references] == [True, True, False]
        assert made.points()[DB][0].count == 3


def test_a_computation_that_fails_reaches_nobody() -> None:
    """An address that cannot be taken apart is left out, and the span is measured without it."""
    with spanned() as made:
        tracer = made.tracers.get_tracer("t")
        for url in ("http://[broken/", "http://shop/"):
            tracer.start_span("GET", kind=SpanKind.CLIENT, attributes={"http.method": "GET", "http.url": url}).end()

        assert sum(point.count for point in made.points()["http.client.request.duration"]) == 2


def test_shapes_and_sets_beyond_what_is_remembered_are_measured_all_the_same() -> None:
    """3,000 sets of attribute keys and 3,000 values: each span is counted once."""
    with spanned() as made:
        tracer = made.tracers.get_tracer("t")
        for number in range(3_000):
            tracer.start_span("x", attributes={f"key {number}": 1}).end()
            tracer.start_span(f"name {number % 2_500}").end()
        points = made.points()["traces.span.metrics.calls"]

        assert sum(point.value for point in points) == 6_000
        assert any(point.attributes == {"otel.metric.overflow": True} for point in points)


def test_views_and_disabled_meters_are_honoured() -> None:
    """What is made of spans is as any other instrument: a view may drop it."""
    made = Spanned()
    made.close()
    with spanned() as made:
        made.meters.get_meter("otel_perf.trace")
        assert not made.points()
        made.tracers.get_tracer("t").start_span("x").end()
        histogram: Any = next(iter(made.processor._instruments._made.values()))
        histogram._enable(False)
        made.tracers.get_tracer("t").start_span("x").end()
        histogram._enable(True)
        made.tracers.get_tracer("t").start_span("x").end()

        assert made.points()["traces.span.metrics.duration"][0].count == 2
        assert made.points()["traces.span.metrics.calls"][0].value == 3
