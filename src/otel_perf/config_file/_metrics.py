"""The meter provider of a declarative configuration: ours, with readers by upstream's factories."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.configuration import _meter_provider as factories
from opentelemetry.sdk.metrics import TraceBasedExemplarFilter
from opentelemetry.sdk.metrics._internal import instrument as kinds

from otel_perf import segment as segments
from otel_perf.metrics import MeterProvider
from otel_perf.metrics.attribute_keys import AttributeKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.configuration import models
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.metrics.view import View
    from opentelemetry.sdk.resources import Resource

    from otel_perf.config import Settings

_KINDS: dict[str, type] = {
    "counter": kinds._Counter,
    "gauge": kinds._Gauge,
    "histogram": kinds._Histogram,
    "observable_counter": kinds._ObservableCounter,
    "observable_gauge": kinds._ObservableGauge,
    "observable_up_down_counter": kinds._ObservableUpDownCounter,
    "up_down_counter": kinds._UpDownCounter,
}


def build(
    section: models.MeterProvider,
    exporters: Sequence[Any],
    views: Sequence[View],
    resource: Resource,
    settings: Settings,
    undo: dict[int, Callable[[], object]],
) -> MeterProvider:
    """Builds the provider.

    Args:
        section: Its part of the configuration.
        exporters: Exporter of each reader, None where the reader is none that exports periodically.
        views: The views.
        resource: The resource of this process.
        settings: Settings with the name of the service.
        undo: Takes what ends the parts again, each by its id.

    Returns:
        The provider.

    Raises:
        ValueError: The provider does not take a view or what a reader prefers.
        SegmentError: No memory can be mapped.
    """
    is_ours = segments.default_segment() is None
    segment = segments.open_default(settings)
    if is_ours:
        undo[id(segment)] = lambda: segments.close(segment)
    readers: list[MetricReader] = []
    endpoints: list[Callable[[], MetricReader | None]] = []
    for config, exporter in zip(section.readers, exporters, strict=True):
        if config.periodic is not None:
            reader = _periodic(config.periodic, exporter)
            # The reader ends its exporter too.
            undo.pop(id(exporter), None)
            undo[id(reader)] = partial(_end, reader)
            readers.append(reader)
        elif config.pull is not None and config.pull.exporter.prometheus_development is not None:
            endpoints.append(_endpoint(config.pull, settings))
        # One for all workers, as our endpoint.
        elif config.pull is not None and segment.lead():
            readers.append(_pull(config.pull, undo))
    chosen = section.exemplar_filter
    configurator = section.meter_configurator_development
    provider = MeterProvider(
        readers,
        segments.group_resource(settings, resource),
        # Always one, so that the environment is not asked.
        TraceBasedExemplarFilter() if chosen is None else factories._create_exemplar_filter(chosen),  # type: ignore[arg-type]
        views=views,
        segment=segment,
        _settings=settings,
        _meter_configurator=None if configurator is None else factories._create_meter_configurator(configurator),
    )
    provider.serve_by(endpoints)
    return provider


def _periodic(config: models.PeriodicMetricReader, exporter: Any) -> MetricReader:
    from otel_perf.exporters import otlp  # noqa: PLC0415 - only who exports pays for it.

    interval, timeout = config.interval, config.timeout
    reader = otlp.reader(
        exporter,
        export_interval_millis=factories._DEFAULT_EXPORT_INTERVAL_MILLIS if interval is None else interval,
        export_timeout_millis=factories._DEFAULT_EXPORT_TIMEOUT_MILLIS if timeout is None else timeout,
    )
    _limit(reader, config.cardinality_limits)
    return reader


def _end(reader: MetricReader) -> None:
    # The last collection of a reader that no provider has taken would be a warning.
    reader._set_collect_callback(cast("Any", lambda *_args, **_kwargs: None))
    reader.shutdown()


def _pull(config: models.PullMetricReader, undo: dict[int, Callable[[], object]]) -> MetricReader:
    """A reader that is scraped, which we know nothing of."""
    reader: MetricReader = factories._create_pull_metric_exporter(config.exporter)
    undo[id(reader)] = partial(_end, reader)
    _limit(reader, config.cardinality_limits)
    return reader


def _endpoint(config: models.PullMetricReader, settings: Settings) -> Callable[[], MetricReader | None]:
    """What makes our endpoint in the process that leads the group; it answers None if the address cannot be had."""
    prometheus: Any = config.exporter.prometheus_development
    from otel_perf.exporters.prometheus import serve  # noqa: PLC0415 - only who serves pays for it.

    labels = prometheus.resource_constant_labels
    keys = None if labels is None else AttributeKeys(labels.included, labels.excluded)
    address = replace(
        settings,
        prometheus_host=prometheus.host or "localhost",
        prometheus_port=9464 if prometheus.port is None else prometheus.port,
    )
    serving = partial(
        serve,
        address,
        setting="port of prometheus/development in the configuration file",
        disable_target_info=prometheus.target_info_enabled_development is False,
        scope_info_enabled=prometheus.scope_info_enabled is not False,
        resource_attribute_filter=None if keys is None else keys.__contains__,
    )

    def made() -> MetricReader | None:
        served = serving()
        if served is not None:
            _limit(served, config.cardinality_limits)
        return served

    return made


def _limit(reader: MetricReader, limits: models.CardinalityLimits | None) -> None:
    """Sets the limits where our provider reads them; SDKs before 1.45.2 have no argument for them."""
    if limits is None:
        return
    found: dict[type, int] = dict(getattr(reader, "_instrument_class_cardinality_limit", {}))
    for name, kind in _KINDS.items():
        own = getattr(limits, name)
        limit = limits.default if own is None else own
        if limit is not None:
            found[kind] = limit
    reader._instrument_class_cardinality_limit = found  # type: ignore[attr-defined]
