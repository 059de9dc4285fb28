"""Resources that a real receiver gets: what is detected, and which worker's identity the metrics have."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.apps.identity import WAYS
from tests.peers.entry_points import AS_STOCK, STOCK, on_path
from tests.peers.otlp import Receiver, attributes_of, http_receiver
from tests.peers.program import Finished, run

APP = "tests.integration.apps.identity"
ID = "service.instance.id"
OWN = {"process.pid", "process.parent_pid", ID}
"""Attributes that no two processes share."""

DETECTORS = {
    "none": {},
    "a name": {"OTEL_SERVICE_NAME": "shop"},
    "a name in the attributes": {"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,team=a%20b"},
    "two names": {"OTEL_RESOURCE_ATTRIBUTES": "service.name=one", "OTEL_SERVICE_NAME": "two"},
    "attributes that are none": {"OTEL_RESOURCE_ATTRIBUTES": "team,=x,k=v=w,,deployment.environment.name=test"},
    "process": {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process"},
    "process, host, os": {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process,host,os"},
    "otel first": {
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,extra",
        "OTEL_RESOURCE_ATTRIBUTES": "extra=from the environment",
    },
    "an entry point": {
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "extra",
        "OTEL_RESOURCE_ATTRIBUTES": "extra=from the environment",
    },
    "all": {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "*"},
    "one that is not installed": {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "nonsense,host"},
    "one that fails": {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "broken,extra"},
    "an id of one's own": {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=mine"},
}
SOURCE = """
from opentelemetry.sdk.resources import Resource, ResourceDetector

class Extra(ResourceDetector):
    def detect(self):
        return Resource({"extra": "from the detector", "numbers": [1, 2]}, "https://schema")

class Broken(ResourceDetector):
    def detect(self):
        raise OSError("broken")
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of all three signals."""
    with http_receiver() as found:
        yield found


def settings(receiver: Receiver, **env: str) -> dict[str, Any]:
    """Everything goes to the receiver, when it is flushed."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
        **env,
    }


def resource_of(request: Any) -> Any:
    """The resource message of a metrics request, and its schema."""
    (found,) = request.resource_metrics
    return attributes_of(found.resource), found.schema_url


def ids(receiver: Receiver) -> list[Any]:
    """Instance ids of the metrics requests."""
    return [resource_of(request)[0][ID] for request in receiver.requests]


def spans(receiver: Receiver) -> dict[str, Any]:
    """Instance id by name of the span, each of a process."""
    return {
        span.name: attributes_of(resource.resource)[ID]
        for request in receiver.spans
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def counts(receiver: Receiver) -> list[int]:
    """Value of the counter by request."""
    return [receiver.points(number)["app", "app.count", frozenset()].as_int for number in range(len(receiver.requests))]


@pytest.mark.parametrize("name", DETECTORS)
def test_what_is_detected_is_what_the_stock_distribution_detects(name: str, receiver: Receiver, tmp_path: Path) -> None:
    """In the same environment the receiver gets the same resource from us as from the stock distribution, but for what is each process's own."""
    groups = {"opentelemetry_resource_detector": {"extra": "extra_detectors:Extra", "broken": "extra_detectors:Broken"}}
    path = on_path(tmp_path, {**STOCK, **groups}, extra_detectors=SOURCE)
    code = "from opentelemetry import metrics; metrics.get_meter('m').create_counter('c').add(1)"
    env = settings(receiver, PYTHONPATH=path, OTEL_TRACES_EXPORTER="none", **DETECTORS[name])
    for more in ({}, AS_STOCK):
        done = run("-c", code, **{**env, **more})
        assert done.code == 0, done.err

    (ours, our_schema), (stock, stock_schema) = map(resource_of, receiver.requests)
    assert {key: value for key, value in ours.items() if key not in OWN} == {
        key: value for key, value in stock.items() if key not in OWN
    }
    assert our_schema == stock_schema
    assert set(ours) == set(stock)
    if "mine" in DETECTORS[name].get("OTEL_RESOURCE_ATTRIBUTES", ""):
        assert ours[ID] == stock[ID] == "mine"
    else:
        assert ours[ID] != stock[ID]
        assert uuid.UUID(ours[ID]).version == uuid.UUID(stock[ID]).version == 4


def taken_over(way: str, receiver: Receiver, folder: Path, **env: str) -> Finished:
    """Runs a program that is killed and whose child takes over."""
    return run("-m", APP, way, **settings(receiver, READY=str(folder / "ready"), **env))


@pytest.mark.parametrize("way", WAYS)
def test_the_metrics_keep_their_id_when_a_child_takes_over(way: str, receiver: Receiver, tmp_path: Path) -> None:
    """Parent and child are one stream with the id of the first process, also after its end; traces have each process's own."""
    done = taken_over(way, receiver, tmp_path)

    # multiprocessing has a process of its own that tracks resources, ends last, and exports once more.
    assert counts(receiver) in ([1, 11], [1, 11, 11]), done.err
    parent, child = spans(receiver)["parent"], spans(receiver)["child"]
    assert set(ids(receiver)) == {parent}
    assert child != parent


def test_the_metrics_of_a_configuration_file_keep_their_id(receiver: Receiver, tmp_path: Path) -> None:
    """A spawned child that takes over exports under the id of the first process also if a file configures both."""

    def exporter(signal: str) -> str:
        return f"{{otlp_http: {{endpoint: '{receiver.endpoint}/v1/{signal}'}}}}"

    file = tmp_path / "c.yaml"
    file.write_text(
        'file_format: "1.0"\nresource: {detection/development: {detectors: [{service: }]}}\n'
        f"meter_provider: {{readers: [{{periodic: {{interval: 3600000, exporter: {exporter('metrics')}}}}}]}}\n"
        f"tracer_provider: {{processors: [{{batch: {{exporter: {exporter('traces')}}}}}]}}\n"
    )
    done = run("-m", APP, "spawn", OTEL_CONFIG_FILE=str(file), READY=str(tmp_path / "ready"))

    assert counts(receiver) == [1, 11], done.err
    assert set(ids(receiver)) == {spans(receiver)["parent"]} != {spans(receiver)["child"]}


@pytest.mark.parametrize("way", WAYS)
def test_an_id_of_ones_own_is_that_of_all(way: str, receiver: Receiver, tmp_path: Path) -> None:
    """An id in OTEL_RESOURCE_ATTRIBUTES is that of the metrics before and after a child takes over."""
    taken_over(way, receiver, tmp_path, OTEL_RESOURCE_ATTRIBUTES="service.instance.id=mine")

    assert len(receiver.requests) > 1
    assert set(ids(receiver)) == {"mine"}


def test_an_id_given_in_code_is_that_of_children_too(receiver: Receiver, tmp_path: Path) -> None:
    """What the first process was configured with is the id of the stream also in a child whose code names another."""
    given = "import otel_perf; otel_perf.configure(resource_attributes={'service.instance.id': '%s'})\n"
    child = given % "child" + f"import sys; from {APP} import child; child(int(sys.argv[1]))"
    code = (
        given % "first" + f"import os, subprocess, sys; from {APP} import WAYS, taken_over\n"
        f"WAYS['own'] = lambda: subprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid())])\n"
        "taken_over('own')"
    )
    done = run("-c", code, wrapper=False, **settings(receiver, READY=str(tmp_path / "ready")))

    assert counts(receiver) == [1, 11], done.err
    assert ids(receiver) == ["first", "first"]
    assert spans(receiver) == {"parent": "first", "child": "child"}


def test_a_child_of_another_service_has_its_own(receiver: Receiver) -> None:
    """A child with another OTEL_SERVICE_NAME is a stream of its own: own name, own id, own counts, and its children are of its group."""
    done = run("-m", APP, "services", **settings(receiver, OTEL_SERVICE_NAME="first"))

    found = {
        (resource_of(request)[0]["service.name"], resource_of(request)[0][ID], count)
        for request, count in zip(receiver.requests, counts(receiver), strict=True)
    }
    names = spans(receiver)
    assert found == {
        ("first", names["parent"], 1),
        ("other", names["child"], 10),
        ("other", names["child"], 110),
    }, done.err
    assert len(set(names.values())) == 3
