"""A real Prometheus scrapes our endpoint in each of its formats, and answers right from what it has scraped."""

from __future__ import annotations

import random
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_perf import MeterProvider
from otel_perf.config import Settings
from otel_perf.exporters.prometheus import serve
from tests.peers.prometheus import free_port
from tests.peers.prometheus_server import (
    Between,
    Prometheus,
    between,
    check_metrics,
    needed,
    prometheus,
)

needed()

FORMATS = {
    "text": ("text/plain", "text/plain;version=0.0.4"),
    "openmetrics": ("application/openmetrics-text", "application/openmetrics-text;version=1.0.0"),
    # What Prometheus asks for by itself.
    "protobuf": ("application/vnd.google.protobuf", None),
}
"""By format: how its content type begins, and what to ask the endpoint for."""

SAMPLES = 10_000
MEDIAN_S = 0.05
QUANTILES = (0.5, 0.9, 0.99)
NATIVE_ERROR = 0.015


def durations() -> list[float]:
    """Durations in seconds, lognormal, the same every time."""
    source = random.Random(1)
    return [MEDIAN_S * source.lognormvariate(0, 1) for _ in range(SAMPLES)]


@dataclass
class Scraped:
    """A Prometheus that scrapes one endpoint in each format, a job each.

    Attributes:
        server: The Prometheus.
        url: The endpoint.
        jobs: What stands between the two, by format.
        record_in_span: Records a duration of 0.3 s in a span.
    """

    server: Prometheus
    url: str
    jobs: dict[str, Between]
    record_in_span: Callable[[], None]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """An endpoint with 10,000 recordings, and a Prometheus that has scraped it in each format."""
    port = free_port()
    reader = serve(Settings(prometheus_host="127.0.0.1", prometheus_port=port))
    assert reader is not None
    url = f"http://127.0.0.1:{port}/metrics"
    with ExitStack() as ends:
        provider = MeterProvider([reader], Resource({"service.name": "shop"}), shutdown_on_exit=False)
        ends.callback(provider.shutdown)
        traced = record(provider)
        jobs = {name: ends.enter_context(between(url, accept)) for name, (_, accept) in FORMATS.items()}
        server = ends.enter_context(
            prometheus(tmp_path_factory.mktemp("prometheus"), {name: job.address for name, job in jobs.items()})
        )
        server.wait_for(lambda: {target.health for target in server.targets().values()} == {"up"})
        server.wait_for(lambda: len(server.query("shop_orders_total")) == len(FORMATS))
        yield Scraped(server, url, jobs, partial(record_in_span, traced))


def record(provider: MeterProvider) -> Any:
    """Records what the tests ask for, and returns the histogram for what is recorded in spans."""
    meter = provider.get_meter("shop", "1.2")
    meter.create_counter("shop.orders", "{order}", "Orders that were paid.").add(7, {"payment": "card"})
    meter.create_up_down_counter("shop.open", "{cart}", "Carts that are open.").add(-2)
    meter.create_gauge("shop.temperature", "Cel", "Temperature of the room.").set(21.5)
    histogram = meter.create_histogram("shop.duration", "s", "Duration of payments.")
    for value in durations():
        histogram.record(value, {"route": "/pay"})
    traced = meter.create_histogram("shop.traced", "s", "Duration of traced payments.")
    record_in_span(traced)
    return traced


def record_in_span(traced: Any) -> None:
    """Records a duration of 0.3 s in a span."""
    with TracerProvider(shutdown_on_exit=False).get_tracer("shop").start_as_current_span("pay"):
        traced.record(0.3)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_scraped_without_an_error(scraped: Scraped, name: str) -> None:
    """The target is up, its last scrape had no error, and values, signs and labels are those that were recorded."""
    target = scraped.server.targets()[name]

    assert (target.health, target.error) == ("up", "")
    assert scraped.jobs[name].answered.startswith(FORMATS[name][0])
    assert scraped.server.value(f'shop_orders_total{{job="{name}",payment="card"}}') == 7
    assert scraped.server.value(f'shop_open{{job="{name}"}}') == -2
    assert scraped.server.value(f'shop_temperature_celsius{{job="{name}"}}') == 21.5
    assert scraped.server.value(f'target_info{{job="{name}",service_name="shop"}}') == 1


def test_prometheus_asks_for_protobuf_first(scraped: Scraped) -> None:
    """With native histograms enabled Prometheus prefers protobuf, so that the endpoint has to be able to choose."""
    assert scraped.jobs["protobuf"].asked.startswith("application/vnd.google.protobuf")


@pytest.mark.parametrize("name", ["text", "openmetrics"])
def test_quantiles_of_buckets_lie_in_the_right_bucket(scraped: Scraped, name: str) -> None:
    """Count and sum are exact, and the quantile that Prometheus computes from the buckets lies in the bucket of the exact one."""
    values = sorted(durations())
    series = f'{{job="{name}",route="/pay"}}'
    bounds = [float(dict(labels)["le"]) for labels in scraped.server.query(f"shop_duration_seconds_bucket{series}")]

    assert scraped.server.value(f"shop_duration_seconds_count{series}") == SAMPLES
    assert scraped.server.value(f"shop_duration_seconds_sum{series}") == pytest.approx(sum(values), rel=1e-6)
    for quantile in QUANTILES:
        exact = values[int(quantile * SAMPLES)]
        found = scraped.server.value(f"histogram_quantile({quantile}, shop_duration_seconds_bucket{series})")
        assert max([0.0, *(b for b in bounds if b < exact)]) <= found <= min(b for b in bounds if b >= exact)


def test_quantiles_of_native_histograms_are_near(scraped: Scraped) -> None:
    """From the native histogram Prometheus computes quantiles within 1.5 % of the exact ones, and count and sum are exact."""
    values = sorted(durations())
    series = 'shop_duration_seconds{job="protobuf",route="/pay"}'

    assert scraped.server.value(f"histogram_count({series})") == SAMPLES
    assert scraped.server.value(f"histogram_sum({series})") == pytest.approx(sum(values), rel=1e-6)
    for quantile in QUANTILES:
        found = scraped.server.value(f"histogram_quantile({quantile}, {series})")
        assert found == pytest.approx(values[int(quantile * SAMPLES)], rel=NATIVE_ERROR)


@pytest.mark.parametrize("name", ["openmetrics", "protobuf"])
def test_exemplars_are_stored(scraped: Scraped, name: str) -> None:
    """The recording that was made in a span is an exemplar in Prometheus, with its value and the ids of the span."""

    def stored() -> list[dict[str, Any]]:
        # A scrape takes the exemplars with it, so that each of the jobs needs one of its own.
        scraped.record_in_span()
        return scraped.server.exemplars(f'{{job="{name}",__name__=~"shop_traced_seconds.*"}}')

    scraped.server.wait_for(stored)
    for exemplar in stored():
        assert float(exemplar["value"]) == 0.3
        assert set(exemplar["labels"]) == {"trace_id", "span_id"}


def test_promtool_finds_nothing_wrong(scraped: Scraped) -> None:
    """The exposition in text is clean for ``promtool check metrics``, which does find a metric without help text."""
    request = urllib.request.Request(scraped.url, headers={"Accept": "text/plain"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        body = answer.read()

    assert check_metrics(body) == []
    assert check_metrics(b"# TYPE x counter\nx 1\n")
