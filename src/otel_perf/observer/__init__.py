"""What reads a segment and exports it: in threads of the application or, as ``python -m otel_perf.observer``, in a process of its own."""

__all__: list[str] = []
