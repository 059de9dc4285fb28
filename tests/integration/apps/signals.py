"""Emits one point, one span and one log record through the API, and says which parts of the SDK were loaded before."""

from __future__ import annotations

import sys

from opentelemetry import _logs, metrics, trace


def main() -> None:
    """One of each."""
    metrics.get_meter("app").create_counter("app.count").add(1)
    with trace.get_tracer("app").start_as_current_span("work"):
        print("logs loaded", "opentelemetry.sdk._logs" in sys.modules)
        _logs.get_logger("app").emit(body="hello", severity_text="INFO")
    print("logs loaded", "opentelemetry.sdk._logs" in sys.modules)


if __name__ == "__main__":
    main()
