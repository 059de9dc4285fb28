"""The metric readers of a segment, the same in the application and in an observer process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricReader

from otel_perf import _components

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_perf.config import Settings
    from otel_perf.metrics._self_metrics import Made, Value
    from otel_perf.segment import Segment

PROMETHEUS = "prometheus"
"""Entry point name of the exporter that is an endpoint."""
_OF_REQUESTS = ("ok", "failed")


def readers(
    settings: Settings, segment: Segment, names: list[str], arguments: Mapping[Any, Mapping[str, Any]]
) -> list[MetricReader]:
    """Makes a reader for each metrics exporter; that of the Prometheus endpoint serves from now on.

    Args:
        settings: Address of the endpoint.
        segment: The segment, which the process that serves the endpoint leads.
        names: Entry point names of the exporters.
        arguments: Arguments for the constructors of some exporter classes.

    Returns:
        The readers; the endpoint's is missing if another process leads or its address cannot be had.

    Raises:
        RuntimeError: An exporter is not installed.
    """
    made: list[MetricReader] = []
    # One endpoint for all workers: a child that joins a led segment is scraped through its leader.
    if PROMETHEUS in names and segment.lead():
        from otel_perf.exporters.prometheus import serve  # noqa: PLC0415 - only who serves pays for it.

        endpoint = serve(settings)
        if endpoint is not None:
            made.append(endpoint)
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
