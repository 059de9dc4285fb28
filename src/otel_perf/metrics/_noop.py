"""Meters that do nothing: the API's, whose instruments can be bound too, so that code that binds runs where metrics are off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics as api

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.util.types import Attributes
    from typing_extensions import Self


class _Bindable:
    def bind(self, attributes: Attributes = None) -> Self:  # noqa: ARG002 - the signature is that of the native instruments.
        """Returns the instrument itself, which does nothing either."""
        return self


class NoOpCounter(_Bindable, api.NoOpCounter):
    """A counter that does nothing."""


class NoOpUpDownCounter(_Bindable, api.NoOpUpDownCounter):
    """An up-down counter that does nothing."""


class NoOpHistogram(_Bindable, api.NoOpHistogram):
    """A histogram that does nothing."""


class NoOpGauge(_Bindable, api._NoOpGauge):
    """A gauge that does nothing."""


class NoOpMeter(api.NoOpMeter):
    """A meter whose instruments do nothing. Creating them logs conflicts, as the API's meter does."""

    def create_counter(self, name: str, unit: str = "", description: str = "") -> NoOpCounter:
        """Returns a counter that does nothing."""
        super().create_counter(name, unit, description)
        return NoOpCounter(name, unit, description)

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> NoOpUpDownCounter:
        """Returns an up-down counter that does nothing."""
        super().create_up_down_counter(name, unit, description)
        return NoOpUpDownCounter(name, unit, description)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> NoOpGauge:
        """Returns a gauge that does nothing."""
        super().create_gauge(name, unit, description)
        return NoOpGauge(name, unit, description)

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> NoOpHistogram:
        """Returns a histogram that does nothing."""
        super().create_histogram(
            name, unit, description, explicit_bucket_boundaries_advisory=explicit_bucket_boundaries_advisory
        )
        return NoOpHistogram(name, unit, description)


class NoOpMeterProvider(api.NoOpMeterProvider):
    """A provider of such meters: what is set where the SDK is disabled."""

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,  # noqa: ARG002 - the signature is the API's.
    ) -> NoOpMeter:
        """Returns a meter that does nothing."""
        return NoOpMeter(name, version=version, schema_url=schema_url)
