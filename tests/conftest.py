"""Fixtures that several kinds of tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource

from otel_perf import MeterProvider
from otel_perf.metrics import _instruments


@pytest.fixture(autouse=True)
def fresh_log_limits() -> None:
    """Each test sees the first log line of an ignored recording."""
    _instruments._reported.clear()


@pytest.fixture
def make_provider() -> Iterator[Callable[..., MeterProvider]]:
    """Makes providers that are shut down when the test ends."""
    made: list[MeterProvider] = []

    def make(*readers: Any, **kwargs: Any) -> MeterProvider:
        kwargs.setdefault("resource", Resource({"service.name": "test"}))
        provider = MeterProvider(readers, shutdown_on_exit=False, **kwargs)
        made.append(provider)
        return provider

    yield make
    for provider in made:
        if not provider._shutdown:
            # Readers with a broken exporter raise here; what they did is the test's own matter.
            with suppress(Exception):
                provider.shutdown()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """A cumulative reader."""
    return InMemoryMetricReader()


@pytest.fixture
def provider(make_provider: Callable[..., MeterProvider], reader: InMemoryMetricReader) -> MeterProvider:
    """A provider with one cumulative reader."""
    return make_provider(reader)


def points_of(data: MetricsData | None) -> dict[tuple[str, frozenset[Any]], Any]:
    """Data points by metric name and attributes."""
    if data is None:
        return {}
    return {
        (metric.name, frozenset((point.attributes or {}).items())): point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
