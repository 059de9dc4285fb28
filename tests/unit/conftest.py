"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.metrics.view import View

from otel_perf import MeterProvider
from tests.unit.instrumented import KINDS, Instrumented
from tests.unit.stock import Clock, Stock, stock_provider


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, provider: MeterProvider, reader: InMemoryMetricReader) -> Instrumented:
    """A native instrument of each synchronous kind."""
    return Instrumented(provider, reader, request.param)


@pytest.fixture
def make(provider: MeterProvider, reader: InMemoryMetricReader) -> Callable[[str], Instrumented]:
    """Makes a native instrument."""
    return lambda kind: Instrumented(provider, reader, kind)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def stock() -> Iterator[Stock]:
    """Makes providers of the stock SDK that are shut down when the test ends."""
    made: list[sdk.MeterProvider] = []

    def make(readers: Sequence[MetricReader], views: Sequence[View], **kwargs: Any) -> sdk.MeterProvider:
        made.append(stock_provider(readers, views, **kwargs))
        return made[-1]

    yield make
    for provider in made:
        provider.shutdown()
