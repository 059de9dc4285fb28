"""Where native code finds the current span."""

from __future__ import annotations

from opentelemetry import context as context_api
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace.propagation import _SPAN_KEY

from otel_perf import _core

__all__: list[str] = []

_runtime_context = context_api._RUNTIME_CONTEXT
_core.set_context(
    _runtime_context._current_context if type(_runtime_context) is ContextVarsRuntimeContext else None,
    context_api.get_current,
    _SPAN_KEY,
)
