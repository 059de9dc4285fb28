"""The span of an exemplar: odd spans and contexts, threads, tasks, forked workers, and another runtime context."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, DEFAULT_OFF, Decision, StaticSampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation import _SPAN_KEY

from otel_perf import MeterProvider
from tests.conformance.harness import points
from tests.conformance.spans import ON, FixedIds, active, remote, span_of, within
from tests.peers.entry_points import on_path
from tests.peers.program import run
from tests.unit.instrumented import Instrumented

Make = Callable[..., MeterProvider]
IDS = (FixedIds().generate_span_id(), FixedIds().generate_trace_id())


def ids(reader: InMemoryMetricReader) -> list[tuple[Any, Any]]:
    """Collects, and answers span and trace id of all exemplars."""
    found = [exemplar for point in points(reader.get_metrics_data()) for exemplar in point.exemplars]
    return [(exemplar.span_id, exemplar.trace_id) for exemplar in found]


def with_ids(trace_id: int, span_id: int, flags: int = TraceFlags.SAMPLED) -> trace.Span:
    """A span of a context with these ids."""
    return NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags)))


def ended() -> trace.Span:
    """A sampled span that has ended."""
    span = span_of(ALWAYS_ON)
    span.end()
    return span


class OwnSpan(NonRecordingSpan):
    """A span class of somebody else's, which keeps its context elsewhere and runs code to tell it."""

    def __init__(self, context: SpanContext) -> None:
        self.mine = context

    def get_span_context(self) -> SpanContext:
        return self.mine


SPANS: dict[str, tuple[Callable[[], Any], list[tuple[Any, Any]], list[tuple[Any, Any]]]] = {
    "a sampled span": (lambda: span_of(ALWAYS_ON), [IDS], [IDS]),
    "a span that is not recorded": (lambda: span_of(ALWAYS_OFF), [], [IDS]),
    "a span that is recorded and not sampled": (lambda: span_of(StaticSampler(Decision.RECORD_ONLY)), [], [IDS]),
    "a span without a sampled parent": (lambda: span_of(DEFAULT_OFF), [], [IDS]),
    "a span that has ended": (ended, [IDS], [IDS]),
    "a remote span": (lambda: with_ids(5, 6), [(6, 5)], [(6, 5)]),
    "the largest ids": (lambda: with_ids(2**128 - 1, 2**64 - 1), [(2**64 - 1, 2**128 - 1)], [(2**64 - 1, 2**128 - 1)]),
    "other flags than sampled": (lambda: with_ids(5, 6, 0xFE), [], [(6, 5)]),
    "all flags": (lambda: with_ids(5, 6, 0xFF), [(6, 5)], [(6, 5)]),
    "a class of its own": (lambda: OwnSpan(SpanContext(5, 6, True, TraceFlags(1))), [(6, 5)], [(6, 5)]),
    "the invalid span": (lambda: trace.INVALID_SPAN, [], [(None, None)]),
    "no trace id": (lambda: with_ids(0, 6), [], [(None, None)]),
    "nothing that is a span": (lambda: "text", [], [(None, None)]),
}
"""A span, and ids of the exemplars with the filter that looks for sampled spans, and with the one that takes all."""


@pytest.mark.parametrize("way", ["active", "given", "bound", "bound, given"])
@pytest.mark.parametrize("name", SPANS)
def test_spans_of_all_kinds(name: str, way: str, make_provider: Make) -> None:
    """Only a sampled span makes an exemplar where spans decide; its ids, and those of unsampled spans, are on those that need none."""
    make_span, sampled, always = SPANS[name]
    span = make_span()
    context = Context({_SPAN_KEY: span})
    for options, expected in (({}, sampled), (ON, always)):
        reader = InMemoryMetricReader()
        instrument = Instrumented(make_provider(reader, **options), reader, "Histogram")
        record = instrument.bound() if way.startswith("bound") else instrument.record
        if way.endswith("given"):
            record(1, context=context)
        else:
            with active(context):
                record(1)
        assert ids(reader) == expected


class Raising(NonRecordingSpan):
    """A span that cannot say which it is."""

    def __init__(self) -> None:
        """Keeps nothing."""

    def get_span_context(self) -> SpanContext:
        raise RuntimeError


CONTEXTS: dict[str, Callable[[], Any]] = {
    "text": lambda: "context",
    "a number": lambda: 5,
    "an object": object,
    "a plain dict without a span": lambda: {"a": 1},
    "a span that raises": lambda: Context({_SPAN_KEY: Raising()}),
    "a span whose context is nothing": lambda: Context({_SPAN_KEY: OwnSpan("nothing")}),  # type: ignore[arg-type]
    "ids that are none": lambda: Context({_SPAN_KEY: OwnSpan(("a", None, False, 1))}),  # type: ignore[arg-type]
    "ids that are too large": lambda: within(with_ids(2**128, 2**64)),
    "negative ids": lambda: within(with_ids(-1, -1)),
}


@pytest.mark.parametrize("way", ["unbound", "bound"])
@pytest.mark.parametrize("name", CONTEXTS)
def test_what_is_no_context_costs_at_most_the_exemplar(
    name: str, way: str, make_provider: Make, reader: InMemoryMetricReader
) -> None:
    """A context or span that is not one, or raises, raises nothing out of a recording, which counts, and later ones have exemplars."""
    instrument = Instrumented(make_provider(reader), reader, "Counter")
    record = instrument.bound() if way == "bound" else instrument.record
    record(3, context=CONTEXTS[name]())
    record(4, context=within(remote(1)))
    ((point,)) = points(reader.get_metrics_data())

    assert point.value == 7
    assert [exemplar.value for exemplar in point.exemplars] == [4]


def test_what_ends_the_program_is_raised(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A KeyboardInterrupt that arrives while a span is asked comes out of the recording, which counts."""

    class Interrupted(NonRecordingSpan):
        def __init__(self) -> None:
            """Keeps nothing."""

        def get_span_context(self) -> SpanContext:
            raise KeyboardInterrupt

    instrument = Instrumented(make_provider(reader), reader, "Counter")
    with pytest.raises(KeyboardInterrupt):
        instrument.record(3, context=Context({_SPAN_KEY: Interrupted()}))

    assert instrument.values() == [3]


def test_each_thread_has_its_own_span(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """Recordings of threads, each in a span of its own, have that span, and none that of another thread."""
    provider = make_provider(reader)
    instrument = Instrumented(provider, reader, "Counter")
    bound = {number: instrument.bound({"n": -number}) for number in range(8)}
    together = threading.Barrier(8)

    def work(number: int) -> None:
        with active(within(remote(number))):
            together.wait(10)
            for _ in range(200):
                instrument.record(1, {"n": number})
                bound[number](1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    found = {point.attributes["n"]: point for point in points(reader.get_metrics_data())}

    assert {number: point.value for number, point in found.items() if number} == dict.fromkeys(
        [*range(1, 8), *range(-7, 0)], 200
    )
    for number, point in found.items():
        assert [e.span_id for e in point.exemplars] == [remote(abs(number)).get_span_context().span_id]


def test_each_task_has_its_own_span(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """The exemplar of each task's series has that task's span, and what is recorded in no task's span has none."""
    instrument = Instrumented(make_provider(reader), reader, "Histogram")

    async def work(number: int) -> None:
        with active(within(remote(number))):
            await asyncio.sleep(0)
            instrument.record(1, {"n": number})

    async def all_of_them() -> None:
        await asyncio.gather(*(work(number) for number in range(5)))
        instrument.record(1, {"n": -1})

    asyncio.run(all_of_them())
    found = {p.attributes["n"]: [e.span_id for e in p.exemplars] for p in points(reader.get_metrics_data())}

    assert found == {-1: [], **{number: [remote(number).get_span_context().span_id] for number in range(5)}}


def in_child(work: Callable[[], Any]) -> Any:
    """What a function answers in a forked child."""
    end_to_read, end_to_write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(end_to_write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(end_to_write)
    with os.fdopen(end_to_read) as answers:
        answer = json.load(answers)
    os.waitpid(child, 0)
    return answer


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("before", ["before the parent collects", "after the parent has collected"])
def test_a_forked_worker_has_its_own_spans(before: str, make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A worker's exemplars leave through the parent with the worker's span, beside the parent's, and none of them twice."""
    instrument = Instrumented(make_provider(reader), reader, "Histogram")
    bound = instrument.bound({"b": 1})
    reader.collect()
    with active(within(remote(1))):
        instrument.record(3)
        bound(3)
    spans = [remote(number).get_span_context().span_id for number in range(4)]
    if before == "after the parent has collected":
        assert [span for span, _ in ids(reader)] == [spans[1]] * 2

    def work() -> list[Any]:
        with active(within(remote(2))):
            instrument.record(300)
            bound(300)
        return [os.getpid()]

    in_child(work)
    found = sorted(span for span, _ in ids(reader))

    assert found == sorted([spans[1], spans[2]] * 2 if before == "before the parent collects" else [spans[2]] * 2)
    assert ids(reader) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_worker_asks_for_itself(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A bucket that has its exemplar in the parent still asks in a forked worker: the first of each process, of which the last one stays."""
    instrument = Instrumented(make_provider(reader), reader, "Counter")
    reader.collect()
    instrument.record(1, None, within(remote(1)))
    in_child(lambda: [instrument.record(1, None, within(remote(2)))])

    assert [span for span, _ in ids(reader)] == [remote(2).get_span_context().span_id]
    assert instrument.values() == [2]


OWN_CONTEXT = """
import threading
from opentelemetry.context.context import Context, _RuntimeContext


class Runtime(_RuntimeContext):
    def __init__(self):
        self._local = threading.local()

    def attach(self, context):
        before, self._local.context = self.get_current(), context
        return before

    def get_current(self):
        return getattr(self._local, "context", Context())

    def detach(self, token):
        self._local.context = token
"""

PROGRAM = """
from opentelemetry import context
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otel_perf import MeterProvider
from tests.conformance.spans import active, remote, within
reader = InMemoryMetricReader()
provider = MeterProvider([reader], shutdown_on_exit=False)
counter = provider.get_meter("m").create_counter("c")
with active(within(remote(1))):
    counter.add(1)
    counter.bind({"a": 1}).add(1)
points = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
print(type(context._RUNTIME_CONTEXT).__name__, *[exemplar.span_id for point in points for exemplar in point.exemplars])
provider.shutdown()
"""


def test_another_runtime_context_is_asked(tmp_path: Any) -> None:
    """Where OTEL_PYTHON_CONTEXT chooses another keeper of the context, spans are those that it knows."""
    path = on_path(tmp_path, {"opentelemetry_context": {"own": "own_context:Runtime"}}, own_context=OWN_CONTEXT)
    done = run("-c", PROGRAM, wrapper=False, PYTHONPATH=path, OTEL_PYTHON_CONTEXT="own")
    span = remote(1).get_span_context().span_id

    assert done.out == f"Runtime {span} {span}\n", done.err
