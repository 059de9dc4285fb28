"""A program whose worker is forked after the parent has recorded; prints as JSON what each process would export.

Run as ``python -m tests.conformance.forking stock|ours sum|reservoir``.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource

from otel_perf import MeterProvider
from tests.conformance.harness import points
from tests.conformance.test_own_exemplars import KeepAll


def reservoir(_: Any) -> Any:
    """A factory for reservoirs written in Python."""
    return KeepAll


def main(side: str, case: str) -> None:
    """Adds 5, forks a worker that adds 1, and lets the worker and then the parent collect."""
    kind = {"stock": sdk.MeterProvider, "ours": MeterProvider}[side]
    reader = InMemoryMetricReader()
    views = [View(instrument_name="c", exemplar_reservoir_factory=reservoir)] if case == "reservoir" else []
    resource = Resource({"service.name": f"forking-{os.getpid()}", "service.instance.id": "the parent's"})
    provider = kind([reader], resource, AlwaysOnExemplarFilter(), shutdown_on_exit=False, views=views)
    counter = provider.get_meter("m").create_counter("c")

    def exported() -> dict[str, Any]:
        data = reader.get_metrics_data()
        found = points(data)
        return {
            "value": sum(point.value for point in found),
            "exemplars": sorted(exemplar.value for point in found for exemplar in point.exemplars),
            "instance": provider._sdk_config.resource.attributes["service.instance.id"],
        }

    # Who collects first exports for the group.
    reader.get_metrics_data()
    counter.add(5)
    end_to_read, end_to_write = os.pipe()
    worker = os.fork()
    if not worker:
        counter.add(1)
        os.write(end_to_write, json.dumps(exported()).encode())
        os._exit(0)
    os.close(end_to_write)
    os.waitpid(worker, 0)
    with os.fdopen(end_to_read) as answers:
        print(json.dumps({"worker": json.load(answers), "parent": exported()}))
    provider.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
