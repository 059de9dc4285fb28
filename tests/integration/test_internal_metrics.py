"""The SDK's own metrics, `OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED`, where metrics are encoded natively."""

from __future__ import annotations

import pytest

from tests.peers.observers import application, until
from tests.peers.otlp import RECEIVERS
from tests.peers.prometheus import free_port, scrape_when

ENABLED = {"OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true"}


@pytest.mark.parametrize("mode", ["thread", "process"])
@pytest.mark.parametrize("protocol", list(RECEIVERS))
def test_the_sdk_tells_of_native_exports(protocol: str, mode: str) -> None:
    """Data points that were exported, and how long collections and exports took, are among the metrics of the program, as on the stock SDK."""
    with RECEIVERS[protocol]() as receiver:
        env = {
            "OTEL_PERF_OBSERVER": mode,
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_INSECURE": "true",
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
            **ENABLED,
        }
        wanted = {
            "otel.sdk.exporter.metric_data_point.exported",
            "otel.sdk.exporter.operation.duration",
            "otel.sdk.metric_reader.collection.duration",
            "app.count",
        }
        with application("lives", **env) as running:
            receiver.wait_for(lambda: len(receiver.requests) >= 3)
            until(lambda: wanted <= {name for _, name, _ in receiver.points()})
            points = receiver.points()
            running.end()

    exported = [
        point for (_, name, _), point in points.items() if name == "otel.sdk.exporter.metric_data_point.exported"
    ]
    assert sum(point.as_int for point in exported) > 0


def test_the_sdk_tells_of_scrapes() -> None:
    """How long collections took is among what is scraped."""
    port = free_port()
    with application("lives", OTEL_EXPORTER_PROMETHEUS_PORT=str(port), **ENABLED) as running:
        found = scrape_when(
            f"http://localhost:{port}/metrics",
            lambda scrape: scrape.total("otel_sdk_metric_reader_collection_duration_seconds_count") > 0,
            20,
        )
        running.end()

    assert found.total("otel_sdk_metric_reader_collection_duration_seconds_count") >= 1
