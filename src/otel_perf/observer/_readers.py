"""The metric readers of a segment, the same in the application and in an observer process."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricReader

from otel_perf import _components

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_perf.config import Settings
    from otel_perf.metrics._self_metrics import Made, Value

PROMETHEUS = "prometheus"
"""Entry point name of the exporter that is an endpoint."""
_OF_REQUESTS = ("ok", "failed")


def endpoints(settings: Settings, names: list[str]) -> list[Callable[[], MetricReader | None]]:
    """What makes the readers that only the leader of the group has, because a port is one process's: that of the Prometheus endpoint.

    Args:
        settings: Address of the endpoint.
        names: Entry point names of the exporters.

    Returns:
        What makes each; it answers None, after one log line, if the address cannot be had.
    """
    if PROMETHEUS not in names:
        return []
    # Loaded now, because gevent may have replaced sockets when this process begins to lead.
    from otel_perf.exporters.prometheus import serve  # noqa: PLC0415 - only who may serve pays for it.

    return [partial(serve, settings)]


def readers(names: list[str], arguments: Mapping[Any, Mapping[str, Any]]) -> list[MetricReader]:
    """Makes a reader for each metrics exporter that is no endpoint.

    Args:
        names: Entry point names of the exporters.
        arguments: Arguments for the constructors of some exporter classes.

    Returns:
        The readers.

    Raises:
        RuntimeError: An exporter is not installed.
    """
    made: list[MetricReader] = []
    others = [name for name in names if name != PROMETHEUS]
    if not others:
        return made
    from otel_perf.exporters import otlp  # noqa: PLC0415 - as above.

    for kind, given in _components.load_exporters("metrics", others, arguments).items():
        exporter = kind(**given)
        made.append(exporter if isinstance(exporter, MetricReader) else otlp.reader(exporter))
    return made


def export_results(made: Iterable[MetricReader]) -> list[Made]:
    """The ``otel_perf.export.*`` metrics of readers that count what became of their exports, a source for `SelfMetrics.add`.

    Args:
        made: Readers; those that count nothing are left out.

    Returns:
        Requests and data points, with the entry point name of the exporter and the result.
    """
    requests: list[Value] = []
    points: list[Value] = []
    for reader in made:
        exporter = getattr(reader, "exporter_name", None)
        if exporter is None or not hasattr(reader, "results"):
            continue
        for result, count in reader.results().items():
            values = requests if result in _OF_REQUESTS else points
            values.append(({"exporter": exporter, "result": result}, count))
    if not requests:
        return []
    return [
        ("otel_perf.export.requests", "Export requests by result", "{request}", "ObservableCounter", requests),
        ("otel_perf.export.points", "Data points by what became of them", "{point}", "ObservableCounter", points),
    ]
