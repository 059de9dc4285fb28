"""Distro and configurator: what ``opentelemetry-instrument`` starts, and `configure` does from code."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_CONFIGURATOR, OTEL_PYTHON_DISTRO
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk import _configuration as sdk_configuration
from opentelemetry.sdk.environment_variables import OTEL_CONFIG_FILE, OTEL_EXPORTER_OTLP_PROTOCOL
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.semconv.resource import ResourceAttributes

from otel_perf import config
from otel_perf.config import Settings
from otel_perf.metrics import MeterProvider
from otel_perf.segment import open_default

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_logger = logging.getLogger(__name__)

_NAME = "otel_perf"
_PROMETHEUS = "prometheus"
_LOGGING_HANDLER = "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED"


class OtelPerfDistro(BaseDistro):  # type: ignore[misc]
    """Completes the environment: exporters that nobody named, and our configurator where several are installed."""

    def _configure(self, **kwargs: Any) -> None:  # noqa: ARG002 - the signature is the base class's.
        config.set_defaults()
        os.environ.setdefault(OTEL_PYTHON_CONFIGURATOR, _NAME)
        os.environ.setdefault(OTEL_EXPORTER_OTLP_PROTOCOL, "grpc")


class OtelPerfConfigurator(sdk_configuration._OTelSDKConfigurator):
    """Builds the providers from the standard variables, metrics first, so that what traces and logs measure of themselves is kept."""

    _has_run = False

    def _configure(self, *, raise_errors: bool = False, **kwargs: Any) -> None:
        OtelPerfConfigurator._has_run = True
        if os.environ.get(OTEL_CONFIG_FILE):
            _logger.warning(
                "%s is set: the stock SDK is configured from it, metrics do not go through otel_perf", OTEL_CONFIG_FILE
            )
            super()._configure(**kwargs)  # type: ignore[no-untyped-call]
            return
        config.sanitise()
        settings = Settings.from_environment()
        if settings.disabled:
            return
        parts = _Parts(settings, kwargs)
        for signal, build in (("metrics", parts.metrics), ("traces", parts.traces), ("logs", parts.logs)):
            _build(signal, build, raise_errors=raise_errors)
        parts.finish()


def _build(signal: str, build: Callable[[], None], *, raise_errors: bool) -> None:
    try:
        build()
    except Exception as error:
        if raise_errors:
            raise
        # The application must start, with what can be had.
        _logger.error("No %s: %s: %s", signal, type(error).__name__, error)  # noqa: TRY400 - one line.
        _logger.debug("No %s", signal, exc_info=True)


class _Parts:
    """The three signals of one configuration, each built on its own, so that one that fails leaves the others."""

    def __init__(self, settings: Settings, kwargs: Mapping[str, Any]) -> None:
        self._settings = settings
        self._kwargs = kwargs
        attributes = dict(kwargs.get("resource_attributes") or {})
        version = kwargs.get("auto_instrumentation_version")
        if version:
            attributes[ResourceAttributes.TELEMETRY_AUTO_VERSION] = version
        self._resource = Resource.create(attributes)
        self._opamp("pre_sdk_init_function")

    def finish(self) -> None:
        self._opamp("post_sdk_init_function")

    def _opamp(self, name: str) -> None:
        start = sdk_configuration._import_opamp(name)  # type: ignore[arg-type]
        if start is not None:
            start(self._resource)

    def _names(self, signal: str) -> list[str]:
        named = self._kwargs.get(f"{signal.rstrip('s')}_exporter_names") or []
        return [*named, *sdk_configuration._get_exporter_names(signal)]  # type: ignore[arg-type]

    def metrics(self) -> None:
        """Builds the meter provider with a reader for each metrics exporter."""
        segment = open_default(self._settings)
        names = self._names("metrics")
        readers: list[MetricReader] = []
        if _PROMETHEUS in names:
            names = [name for name in names if name != _PROMETHEUS]
            # One endpoint for all workers: a child that joins a led segment is scraped through its leader.
            if segment.lead():
                from otel_perf.exporters.prometheus import serve  # noqa: PLC0415 - only who serves pays for it.

                reader = serve(self._settings)
                if reader is not None:
                    readers.append(reader)
        _, exporters, _ = sdk_configuration._import_exporters([], names, [])
        arguments = self._kwargs.get("exporter_args_map") or {}
        for exporter in exporters.values():
            made = exporter(**arguments.get(exporter, {}))
            readers.append(made if isinstance(made, MetricReader) else PeriodicExportingMetricReader(made))
        configurator = self._kwargs.get("meter_configurator") or sdk_configuration._import_meter_configurator(
            sdk_configuration._get_meter_configurator()
        )
        set_meter_provider(
            MeterProvider(
                readers,
                self._resource,
                segment=segment,
                _settings=self._settings,
                _meter_configurator=configurator,
            ),
        )

    def traces(self) -> None:
        """Builds the SDK's tracer provider."""
        exporters, _, _ = sdk_configuration._import_exporters(self._names("traces"), [], [])
        sampler = self._kwargs.get("sampler") or sdk_configuration._import_sampler(sdk_configuration._get_sampler())
        generator = self._kwargs.get("id_generator") or sdk_configuration._import_id_generator(
            sdk_configuration._get_id_generator()
        )
        configurator = self._kwargs.get("tracer_configurator") or sdk_configuration._import_tracer_configurator(
            sdk_configuration._get_tracer_configurator()
        )
        sdk_configuration._init_tracing(
            exporters=exporters,
            id_generator=generator,
            sampler=sampler,
            resource=self._resource,
            exporter_args_map=self._kwargs.get("exporter_args_map"),
            span_processors=self._kwargs.get("span_processors"),
            export_span_processor=self._kwargs.get("export_span_processor"),
            tracer_configurator=configurator,
        )

    def logs(self) -> None:
        """Builds the SDK's logger provider."""
        _, _, exporters = sdk_configuration._import_exporters([], [], self._names("logs"))
        handler = self._kwargs.get("setup_logging_handler")
        if handler is None:
            handler = os.environ.get(_LOGGING_HANDLER, "false").strip().lower() == "true"
        configurator = self._kwargs.get("logger_configurator") or sdk_configuration._import_logger_configurator(
            sdk_configuration._get_logger_configurator()
        )
        sdk_configuration._init_logging(
            exporters,
            self._resource,
            handler,
            exporter_args_map=self._kwargs.get("exporter_args_map"),
            log_record_processors=self._kwargs.get("log_record_processors"),
            export_log_record_processor=self._kwargs.get("export_log_record_processor"),
            logger_configurator=configurator,
        )


def configure(**kwargs: Any) -> None:
    """Sets up metrics, traces and logs from code, as ``opentelemetry-instrument`` does before the program starts.

    Args:
        **kwargs: What the SDK's configurator takes, for example ``resource_attributes``, ``metric_exporter_names``,
            ``exporter_args_map``, ``sampler``, ``span_processors``.

    Raises:
        SegmentError: No memory can be mapped.
        RuntimeError: An exporter that was asked for is not installed.
    """
    OtelPerfDistro().configure()
    OtelPerfConfigurator().configure(raise_errors=True, **kwargs)  # type: ignore[no-untyped-call]


def warn_if_another_distro_won() -> None:
    """Says so if the wrapper chose another distribution's configurator although otel_perf is installed."""
    chosen = os.environ.get(OTEL_PYTHON_CONFIGURATOR)
    if not OtelPerfConfigurator._has_run and chosen in (None, _NAME):
        _logger.warning(
            "otel_perf is installed but another distribution was started; set %s=%s and %s=%s to use otel_perf",
            OTEL_PYTHON_DISTRO,
            _NAME,
            OTEL_PYTHON_CONFIGURATOR,
            _NAME,
        )
