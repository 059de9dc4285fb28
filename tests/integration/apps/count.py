"""Counts to three on a counter of the API and says where the metrics are."""

from __future__ import annotations

import os
import urllib.request

from opentelemetry import metrics


def main() -> None:
    """Adds, and prints the endpoint's answer if there is one."""
    metrics.get_meter("app").create_counter("app.count").add(3, {"kind": "x"})
    print("provider", type(metrics.get_meter_provider()).__module__)
    print("segment", os.environ.get("OTEL_PERF_SEGMENT"))
    port = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "9464")
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=5) as answer:
            print(answer.read().decode())
    except OSError as error:
        print("no endpoint:", error)


if __name__ == "__main__":
    main()
