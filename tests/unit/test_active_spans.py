"""Spans that run and spans that were slow, as the program itself sees them."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind

from otel_perf import RecordAllSampler, Segment, active_spans, slowest_spans
from otel_perf._core import READS_IN_PLACE
from tests.unit.spanned import MS, Spanned, spanned


@pytest.fixture
def sampled() -> Iterator[Spanned]:
    """Providers whose processor shows two attributes."""
    with spanned(shown_attributes=("route", "size")) as made:
        yield made


@pytest.fixture(params=[True, False], ids=["sampled", "dropped"])
def made(request: pytest.FixtureRequest) -> Iterator[Spanned]:
    """The same, of spans of the SDK and of those that the sampler drops."""
    sampler = ALWAYS_ON if request.param else ALWAYS_OFF
    with spanned(sampler, natively=not request.param, shown_attributes=("route", "size")) as made:
        yield made


def names(segment: Segment) -> list[str]:
    """Names of the spans that run."""
    return [span.name for span in active_spans(segment)]


def test_a_span_is_shown_from_its_start_to_its_end(made: Spanned) -> None:
    """Start, parent, age, kind and the attributes that may be shown, as they are now."""
    tracer = made.tracer()
    begun = time.time_ns()
    with tracer.start_as_current_span("outer", kind=SpanKind.SERVER, attributes={"route": "/", "secret": 1}) as outer:
        inner = tracer.start_span("inner")
        inner.set_attribute("size", 5)
        inner.add_event("read")
        inner.update_name("renamed")
        first, second = active_spans(made.segment)

    context = outer.get_span_context()
    assert (first.name, first.kind, first.trace_id, first.span_id) == (
        "outer",
        "server",
        context.trace_id,
        context.span_id,
    )
    assert (first.parent_span_id, dict(first.attributes), first.pid) == (None, {"route": "/"}, os.getpid())
    assert begun <= first.start_time <= time.time_ns()
    assert 0 <= first.age < 60
    assert (second.name, second.parent_span_id, dict(second.attributes)) == ("renamed", context.span_id, {"size": 5})
    assert second.events is not None
    assert [event.name for event in second.events] == ["read"]
    assert names(made.segment) == ["renamed"]
    inner.end()
    assert names(made.segment) == []


def test_another_handle_shows_the_attributes_of_the_beginning(made: Spanned) -> None:
    """Whoever looks from outside sees what the span began with, and no events."""
    span = made.tracer().start_span("x", attributes={"route": "/", "secret": 1})
    span.set_attribute("size", 5)
    (found,) = active_spans(Segment.attach(made.segment.path))

    assert (dict(found.attributes), found.events) == ({"route": "/"}, None)
    span.end()


def test_a_span_that_ends_twice_ends_once(made: Spanned) -> None:
    """The second end is the SDK's warning and nothing else."""
    span = made.tracer().start_span("x")
    span.end()
    span.end()

    assert made.points()["traces.span.metrics.calls"][0].value == 1
    assert names(made.segment) == []


def test_a_span_that_never_ends_goes_with_its_object(made: Spanned) -> None:
    """It is shown for as long as somebody holds it, and takes no room afterwards."""
    span = made.tracer().start_span("forgotten")
    assert names(made.segment) == ["forgotten"]
    del span
    gc.collect()

    assert names(made.segment) == []
    assert "traces.span.metrics.calls" not in made.points()


def test_forgotten_spans_do_not_keep_others_from_being_shown(made: Spanned) -> None:
    """Ten thousand spans that nobody ends and nobody holds leave room for those that run."""
    for _ in range(10_000):
        made.tracer().start_span("forgotten")
    gc.collect()
    spans = [made.tracer().start_span("runs") for _ in range(1_001)]

    assert names(made.segment).count("runs") > 0
    del spans


def test_live_spans_beyond_the_table_are_counted_and_measured(made: Spanned) -> None:
    """10,000 running spans: the table shows what it holds, all are measured, and the segment does not grow."""
    size = made.segment.memory_usage()
    spans = [made.tracer().start_span("x") for _ in range(10_000)]
    shown = len(active_spans(made.segment))
    for span in spans:
        span.end()

    assert made.segment.status()["drops"]["no_span"] == 10_000 - shown
    assert 100 < shown < 1_000
    assert made.points()["traces.span.metrics.calls"][0].value == 10_000
    assert sum(made.segment.memory_usage().values()) == sum(size.values()) == made.segment.size
    assert names(made.segment) == []


def test_a_span_may_end_in_another_thread(made: Spanned) -> None:
    """Begin and end have nothing to do with the thread."""
    span = made.tracer().start_span("x")
    thread = threading.Thread(target=span.end)
    thread.start()
    thread.join()

    assert names(made.segment) == []
    assert made.points()["traces.span.metrics.calls"][0].value == 1


def _in_threads(made: Spanned) -> int:
    def work() -> None:
        for _ in range(500):
            with made.tracer().start_as_current_span("x"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 4_000


def _in_tasks(made: Spanned) -> int:
    async def work() -> None:
        with made.tracer().start_as_current_span("x"):
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(500)))

    asyncio.run(main())
    return 500


def _in_an_executor(made: Spanned) -> int:
    def work(context: contextvars.Context) -> None:
        with context.run(made.tracer().start_as_current_span, "x"):
            pass

    with ThreadPoolExecutor(4) as executor:
        for _ in range(500):
            executor.submit(work, contextvars.copy_context())
    return 500


def _in_a_generator(made: Spanned) -> int:
    def work() -> Generator[int, None, None]:
        with made.tracer().start_as_current_span("x"):
            yield from range(3)

    for _ in range(100):
        assert list(work()) == [0, 1, 2]
    abandoned = work()
    next(abandoned)
    abandoned.close()
    return 101


def _in_an_async_generator(made: Spanned) -> int:
    async def work() -> AsyncIterator[int]:
        with made.tracer().start_as_current_span("x"):
            for number in range(3):
                yield number
                await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(100):
            assert [number async for number in work()] == [0, 1, 2]

    asyncio.run(main())
    return 100


def _in_greenlets(made: Spanned) -> int:
    gevent = pytest.importorskip("gevent")

    def work() -> None:
        with made.tracer().start_as_current_span("x"):
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(work) for _ in range(500)], raise_error=True)
    return 500


WAYS = {
    act.__name__.strip("_"): act
    for act in (_in_threads, _in_tasks, _in_an_executor, _in_a_generator, _in_an_async_generator, _in_greenlets)
}


@pytest.mark.parametrize("way", WAYS)
def test_all_spans_are_measured_wherever_they_run(made: Spanned, way: str) -> None:
    """Threads, tasks, executors and generators: none is lost, none is counted twice, none stays in the table."""
    number = WAYS[way](made)

    assert made.points()["traces.span.metrics.calls"][0].value == number
    assert names(made.segment) == []


def test_a_forked_child_neither_shows_nor_ends_the_spans_of_its_parent(made: Spanned) -> None:
    """A copy of a running span ends in the child, is measured there, and still runs in the parent."""
    span = made.tracer().start_span("x")
    pid = os.fork()
    if pid == 0:
        span.end()
        own = made.tracer().start_span("own")
        found = [(one.name, one.pid == os.getpid()) for one in active_spans(made.segment)]
        own.end()
        os._exit(0 if found == [("x", False), ("own", True)] else 1)
    _, status = os.waitpid(pid, 0)

    assert status == 0
    assert names(made.segment) == ["x"]
    span.end()
    points = made.points()["traces.span.metrics.calls"]
    assert sum(point.value for point in points) == 3


def test_the_slowest_spans_of_each_name_are_kept_with_their_bucket(made: Spanned) -> None:
    """The four slowest, with ids, attributes, and where their duration was counted."""
    begin = time.time_ns()
    attributes = {"db.system": "redis", "route": "/", "secret": 1}
    for ms in (5, 1, 9, 3, 7, 2, 8):
        span = made.tracer().start_span("GET", kind=SpanKind.CLIENT, attributes=attributes, start_time=begin)
        span.end(begin + ms * MS)
    made.tracer().start_span("another", start_time=begin).end(begin + 2_500 * MS)
    found = slowest_spans(made.segment)

    assert [(span.name, round(span.duration, 6)) for span in found] == [
        ("another", 2.5),
        ("GET", 0.009),
        ("GET", 0.008),
        ("GET", 0.007),
        ("GET", 0.005),
    ]
    first, second = found[:2]
    assert first.bucket is not None
    assert (first.bucket.metric, first.bucket.lower, first.bucket.upper) == ("traces.span.metrics.duration", 2000, 5000)
    assert second.bucket is not None
    assert (second.bucket.metric, dict(second.bucket.attributes)) == (
        "db.client.operation.duration",
        {"db.system.name": "redis"},
    )
    assert (second.bucket.lower, second.bucket.upper) == (0.005, 0.01)
    assert (second.kind, dict(second.attributes)) == ("client", {"route": "/"})
    assert slowest_spans(made.segment, "another") == [first]


def test_exemplars_name_the_span_that_was_measured(sampled: Spanned) -> None:
    """Not the one that is current when it ends, which is its parent."""
    tracer = sampled.tracer()
    with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner", kind=SpanKind.CLIENT) as inner:
        inner.set_attribute("db.system", "redis")
    (point,) = sampled.points()["db.client.operation.duration"]
    (slow,) = slowest_spans(sampled.segment, "inner")
    (exemplar,) = point.exemplars

    context = inner.get_span_context()
    assert (exemplar.trace_id, exemplar.span_id) == (context.trace_id, context.span_id) == (slow.trace_id, slow.span_id)
    assert exemplar.value == pytest.approx(slow.duration)


def test_a_span_that_is_not_sampled_is_no_exemplar() -> None:
    """A trace that is not exported cannot be looked up."""
    with spanned(RecordAllSampler(ALWAYS_OFF)) as made:
        made.tracer().start_span("x").end()
        (point,) = made.points()["traces.span.metrics.duration"]

        assert (point.count, list(point.exemplars)) == (1, [])


def test_counters_of_spans_have_exemplars_too(sampled: Spanned) -> None:
    """The counter beside the histogram names a span as well."""
    span = sampled.tracer().start_span("x")
    span.end()
    (point,) = sampled.points()["traces.span.metrics.calls"]

    assert [exemplar.span_id for exemplar in point.exemplars] == [span.get_span_context().span_id]


def test_no_processor_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a segment there is nothing to look into."""
    monkeypatch.setattr("otel_perf.trace._spans.default_segment", lambda: None)
    monkeypatch.setattr("otel_perf.trace._spans.processors", ())

    assert (active_spans(), slowest_spans()) == ([], [])


class _Hostile:
    """A span whose every part raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize("span", [_Hostile(), None, object(), trace.INVALID_SPAN], ids=lambda span: type(span).__name__)
def test_nothing_that_is_wrong_with_a_span_reaches_the_program(sampled: Spanned, span: Any) -> None:
    """What cannot be read is not measured."""
    sampled.processor.on_start(span)
    sampled.processor.on_end(span)

    assert sampled.points() == {}


@pytest.mark.skipif(not (3, 11) <= sys.version_info < (3, 14), reason="other interpreters keep attributes elsewhere")
def test_attributes_of_spans_are_read_in_place() -> None:
    """The interpreter keeps the attributes of instances where they are looked for."""
    assert READS_IN_PLACE


def test_a_span_with_a_dict_is_read_by_name(sampled: Spanned) -> None:
    """Whoever asks for the dict of a span moves its attributes there, and deleting one moves nothing else."""
    span = sampled.tracer().start_span("x", kind=SpanKind.CLIENT, attributes={"db.system": "redis"})
    assert vars(span)["_name"] == "x"
    vars(span)["_name"] = "renamed"
    span.end()

    assert sampled.points()["db.client.operation.duration"][0].count == 1
    assert slowest_spans(sampled.segment)[0].name == "renamed"
