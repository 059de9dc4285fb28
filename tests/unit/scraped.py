"""Our Prometheus endpoint on a port of its own, and the stock exporter without a server, for tests that compare them."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_perf import MeterProvider
from otel_perf.exporters.prometheus import PrometheusEndpoint
from tests.peers.prometheus_messages import families_of
from tests.unit.stock import stock_provider

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
RESOURCE = Resource({"service.name": "shop", "region": "eu", "cores": 4})

Families = dict[str, Metric]


class Scraped:
    """Our endpoint with our provider.

    Attributes:
        reader: The endpoint.
        provider: The provider.
    """

    def __init__(self, make_provider: Callable[..., MeterProvider], views: Sequence[View] = (), **kwargs: Any) -> None:
        of_provider = {key: kwargs.pop(key) for key in ("exemplar_filter", "resource") if key in kwargs}
        self.reader = PrometheusEndpoint("127.0.0.1", 0, **kwargs)
        self.provider = make_provider(self.reader, views=views, **{"resource": RESOURCE, **of_provider})

    def get(self, method: str = "GET", path: str = "/metrics", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.reader.port, timeout=20)
        try:
            connection.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
            answer = connection.getresponse()
            found = {key.lower(): value for key, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def text(self, accept: str = "text/plain") -> str:
        """The body of an answer in either text format, compressed on its way."""
        status, headers, body = self.get(Accept=accept, Accept_Encoding="gzip")
        assert (status, headers["content-encoding"]) == (200, "gzip")
        return gzip.decompress(body).decode()

    def families(self) -> Families:
        """Families of an answer as text, by name."""
        return by_name(parse_text(self.text()))

    def openmetrics(self) -> Families:
        """Families of an answer as OpenMetrics, by name."""
        return by_name(parse_openmetrics(self.text(OPENMETRICS)))  # type: ignore[no-untyped-call]

    def messages(self) -> dict[str, Any]:
        """Families of an answer as protobuf, by name."""
        status, headers, body = self.get(Accept=PROTOBUF)
        assert (status, headers["content-type"]) == (200, PROTOBUF)
        return families_of(body)


class StockScraped:
    """The stock reader with the stock provider.

    Attributes:
        provider: The provider.
    """

    def __init__(self, views: Sequence[View] = (), **options: Any) -> None:
        self._registry = CollectorRegistry()
        reader = PrometheusMetricReader(registry=self._registry, **options)
        self.provider = stock_provider([reader], views)
        self.provider._sdk_config.resource = RESOURCE

    def text(self) -> str:
        """What it answers."""
        return generate_latest(self._registry).decode()

    def families(self) -> Families:
        """Families by name."""
        return by_name(parse_text(self.text()))


def by_name(families: Any) -> Families:
    """Families by name, each once."""
    found: Families = {}
    for family in families:
        assert family.name not in found
        found[family.name] = family
    return found


def samples_of(family: Metric) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by name and labels, of which those that are empty are left out, as Prometheus does; each sample once."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in family.samples:
        key = sample.name, tuple(sorted((name, value) for name, value in sample.labels.items() if value))
        assert key not in found
        found[key] = sample.value
    return found


def value(family: Metric, name: str, **labels: str) -> float:
    """Value of the one sample with these labels, those of scopes left out."""
    (found,) = (
        sample.value
        for sample in family.samples
        if sample.name == name
        and {key: of for key, of in sample.labels.items() if not key.startswith("otel_scope_")} == labels
    )
    return found
