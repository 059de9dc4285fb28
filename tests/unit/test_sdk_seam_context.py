"""Where the API keeps the current span, which native code reads without calling it: `crates/python/src/context.rs`."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest
from opentelemetry import context as api
from opentelemetry import trace
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation import _SPAN_KEY

from tests.conformance.spans import active, remote, span_of


def test_the_current_context_is_in_a_variable() -> None:
    """The runtime context keeps the current context in a context variable under the name that is read, empty at first."""
    runtime: Any = api._RUNTIME_CONTEXT
    assert type(runtime) is ContextVarsRuntimeContext
    assert type(runtime._current_context) is ContextVar
    assert ContextVarsRuntimeContext()._current_context.get() == {}
    context = api.Context({"key": 1})
    with active(context):
        assert runtime._current_context.get() is api.get_current() is context


def test_the_span_is_in_the_context_under_its_key() -> None:
    """A context is a dict, whose key for the span is the text that is read once for the whole program."""
    context = trace.set_span_in_context(remote(1), api.Context())

    assert isinstance(context, dict)
    assert type(_SPAN_KEY) is str
    assert list(context) == [_SPAN_KEY]


SPANS: dict[str, Any] = {
    "sampled": lambda: span_of(ALWAYS_ON),
    "not recorded": lambda: span_of(ALWAYS_OFF),
    "remote": lambda: remote(1),
}


@pytest.mark.parametrize("name", SPANS)
def test_a_span_keeps_its_context(name: str) -> None:
    """Spans of the SDK and of the API have what `get_span_context` answers under the name that is read."""
    span = SPANS[name]()

    assert span._context is span.get_span_context()


def test_a_spans_context_is_a_tuple() -> None:
    """A span's context is a tuple with trace id, span id and flags at the places that are read, as integers."""
    context = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1))

    assert isinstance(context, tuple)
    assert (context[0], context[1], context[3]) == (5, 6, 1)
    assert (context.trace_id, context.span_id, context.trace_flags) == (5, 6, 1)
    assert isinstance(context[3], int)
    assert NonRecordingSpan(context).get_span_context() is context
