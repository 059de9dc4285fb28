"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.metrics.view import View

from otel_perf import MeterProvider
from otel_perf.config_file import load_views
from tests.unit.instrumented import KINDS, Instrumented
from tests.unit.stock import Clock, Stock, stock_provider
from tests.unit.views_file import Load


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


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes a file into an empty working directory and loads its views."""
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "v.yaml", **env: str) -> list[View]:
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return load_views(name, env)

    return write
