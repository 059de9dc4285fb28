"""The instruments that spans are measured with, and which metrics the instrumentations record themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_perf.segment import VERSION

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from otel_perf.trace._conventions import Metric

__all__ = ["SCOPE", "Instruments"]

SCOPE = "otel_perf.trace"
"""Instrumentation scope of the metrics that are made of spans."""


class Instruments:
    """The instruments of one meter provider, made when the first span needs them.

    Args:
        provider: Where the measurements go.
    """

    def __init__(self, provider: MeterProvider) -> None:
        self._provider = provider
        self._made: dict[str, Any] = {}

    def histogram(self, metric: Metric) -> Any:
        """The histogram of a metric."""
        made = self._made.get(metric.name)
        if made is None:
            meter = self._provider.get_meter(SCOPE, VERSION)
            made = self._made[metric.name] = meter.create_histogram(
                metric.name,
                metric.unit,
                metric.description,
                explicit_bucket_boundaries_advisory=list(metric.boundaries),
            )
        return made

    def counter(self, metric: Metric) -> Any:
        """The counter of a metric."""
        made = self._made.get(metric.name)
        if made is None:
            meter = self._provider.get_meter(SCOPE, VERSION)
            made = self._made[metric.name] = meter.create_counter(metric.name, metric.unit, metric.description)
        return made

    def are_recorded_by(self, scope: str, metric: str) -> bool:
        """Whether an instrumentation has an instrument of its own for a metric.

        Args:
            scope: Name of the instrumentation's scope.
            metric: Name of the metric.

        Returns:
            Whether there is one, in the provider of the SDK or ours. Of other providers it is not known, and nothing is left out.
        """
        meters: dict[Any, Any] = dict(getattr(self._provider, "_meters", None) or {})
        for own, meter in meters.items():
            if own.name == scope and scope != SCOPE:
                instruments = list(getattr(meter, "_instrument_id_instrument", {}).values())
                if any(getattr(instrument, "name", None) == metric for instrument in instruments):
                    return True
        return False
