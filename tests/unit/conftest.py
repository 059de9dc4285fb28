"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_perf import MeterProvider
from tests.unit.instrumented import KINDS, Instrumented


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, provider: MeterProvider, reader: InMemoryMetricReader) -> Instrumented:
    """A native instrument of each synchronous kind."""
    return Instrumented(provider, reader, request.param)


@pytest.fixture
def make(provider: MeterProvider, reader: InMemoryMetricReader) -> Callable[[str], Instrumented]:
    """Makes a native instrument."""
    return lambda kind: Instrumented(provider, reader, kind)
