"""The `otel_perf.*` metrics that are made of several sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader

from otel_perf import MeterProvider
from otel_perf.metrics._self_metrics import SelfMetrics
from otel_perf.observer._readers import export_results
from tests.conftest import points_of


class Exporting:
    """Stands for a reader that counts what becomes of its exports."""

    exporter_name = "otlp_proto_grpc"

    def results(self) -> dict[str, int]:
        """One of each kind."""
        return {"ok": 3, "failed": 1, "exported": 40, "rejected": 2, "dropped": 5}


class Counting(InMemoryMetricReader):
    """A reader of somebody else, who means something else by `results`."""

    def results(self) -> str:
        """Nothing of ours."""
        return "none"


def test_sources_of_one_metric_are_one_metric(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """Points that several sources have under one name are exported together, each once, with unit and description."""
    self_metrics = provider.report_on_itself()
    for part in ("observer", "alerts"):
        row = ("otel_perf.cpu.time", "CPU time of otel_perf by part", "s", "ObservableCounter", [({"part": part}, 1.5)])
        self_metrics.add(lambda row=row: [row])  # type: ignore[misc]
    for _ in range(2):
        data = reader.get_metrics_data()
        assert data is not None
        (found,) = (
            metric
            for scope in data.resource_metrics[0].scope_metrics
            for metric in scope.metrics
            if metric.name == "otel_perf.cpu.time"
        )
        values: dict[Any, Any] = {(point.attributes or {})["part"]: point for point in found.data.data_points}

        assert found.unit == "s"
        assert set(values) == {"collection", "encoding", "observer", "alerts"}
        assert (values["observer"].value, values["alerts"].value) == (1.5, 1.5)


def test_a_metric_that_only_a_source_has_is_added(provider: MeterProvider) -> None:
    """What is there only while something happens comes and goes."""
    self_metrics = SelfMetrics(provider.segment)
    rows: list[Any] = []
    self_metrics.add(lambda: rows)
    before = self_metrics()
    rows.append(("otel_perf.x", "text", "1", "ObservableGauge", [({}, 1)]))

    assert self_metrics()[len(before) :] == rows


def test_exports_are_told_by_result(make_provider: Callable[..., MeterProvider], reader: InMemoryMetricReader) -> None:
    """Requests and points have the exporter and what became of them; readers that do not count have no part in it."""
    provider = make_provider(reader)
    made: list[Any] = [reader, Counting(), Exporting()]
    provider.report_on_itself().add(lambda: export_results(made))
    points = {
        (name, dict(attributes)["result"]): point.value
        for (name, attributes), point in points_of(reader.get_metrics_data()).items()
        if name.startswith("otel_perf.export.") and dict(attributes)["exporter"] == "otlp_proto_grpc"
    }

    assert points == {
        ("otel_perf.export.requests", "ok"): 3,
        ("otel_perf.export.requests", "failed"): 1,
        ("otel_perf.export.points", "exported"): 40,
        ("otel_perf.export.points", "rejected"): 2,
        ("otel_perf.export.points", "dropped"): 5,
    }


def test_without_an_exporter_nothing_is_told_of_exports(reader: MetricReader) -> None:
    """Where nothing is exported over OTLP there are no such metrics, and not some without points."""
    assert export_results([reader]) == []
