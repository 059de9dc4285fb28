"""An instrument of any kind with its recording method under one name, for tests that say the same of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData

from otel_perf import MeterProvider
from tests.conftest import points_of

KINDS: dict[str, tuple[str, str]] = {
    "Counter": ("create_counter", "add"),
    "UpDownCounter": ("create_up_down_counter", "add"),
    "Histogram": ("create_histogram", "record"),
    "Gauge": ("create_gauge", "set"),
}
NONE: frozenset[Any] = frozenset()


def values(data: MetricsData | None) -> dict[str, Any]:
    """Values or sums by metric name, of series without attributes."""
    return {
        key[0]: getattr(point, "value", getattr(point, "sum", None))
        for key, point in points_of(data).items()
        if not key[1]
    }


class Instrumented:
    """An instrument of some kind with its recording method under one name."""

    def __init__(self, provider: sdk.MeterProvider, reader: InMemoryMetricReader, kind: str) -> None:
        create, method = KINDS[kind]
        self.instrument: Any = getattr(provider.get_meter("m"), create)("i")
        self.record: Callable[..., None] = getattr(self.instrument, method)
        self.method = method
        self._provider = provider
        self._reader = reader

    def bound(self, *attributes: Any) -> Callable[..., None]:
        """The recording method of a bound series."""
        found: Callable[..., None] = getattr(self.instrument.bind(*attributes), self.method)
        return found

    def points(self) -> dict[frozenset[Any], Any]:
        """Number or sum of each series."""
        points = points_of(self._reader.get_metrics_data())
        return {key[1]: getattr(point, "value", getattr(point, "sum", None)) for key, point in points.items()}

    def values(self) -> list[Any]:
        """Number or sum of each series."""
        return [getattr(point, "value", getattr(point, "sum", None)) for point in self._points()]

    def series(self) -> list[dict[str, Any]]:
        """Attributes of all series in the order of their creation, also those whose values have no hash."""
        return [dict(point.attributes or {}) for point in self._points()]

    def _points(self) -> list[Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return list(data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points)

    def drops(self) -> dict[str, int]:
        """Counted reasons, those that occurred."""
        assert isinstance(self._provider, MeterProvider)
        return {reason: count for reason, count in self._provider.segment.status()["drops"].items() if count}
