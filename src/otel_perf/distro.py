"""Distro and configurator: what ``opentelemetry-instrument`` starts, and `configure` does from code."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_CONFIGURATOR
from opentelemetry.metrics import get_meter_provider, set_meter_provider
from opentelemetry.sdk.environment_variables import OTEL_CONFIG_FILE
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_perf import _components, _exit, config, observer
from otel_perf._logs import LazyLoggerProvider
from otel_perf._spawned import follow_multiprocessing, is_a_tracker
from otel_perf.config import Settings
from otel_perf.environment_variables import OTEL_PERF_OBSERVER, OTEL_PERF_VIEWS_FILE
from otel_perf.metrics import MeterProvider
from otel_perf.observer._leading import Leading
from otel_perf.observer._readers import endpoints, export_results, readers
from otel_perf.segment import Segment, default_segment, group_resource, open_default

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.metrics.view import View

__all__ = ["OtelPerfConfigurator", "OtelPerfDistro", "configure"]

_logger = logging.getLogger(__name__)

_NAME = "otel_perf"
_CONSOLE = "console"
_LOGGING_HANDLER = "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED"


class OtelPerfDistro(BaseDistro):  # type: ignore[misc]
    """Completes the environment: exporters that nobody named, and our configurator where several are installed."""

    def _configure(self, **kwargs: Any) -> None:  # noqa: ARG002 - the signature is the base class's.
        config.set_defaults()
        os.environ.setdefault(OTEL_PYTHON_CONFIGURATOR, _NAME)


class OtelPerfConfigurator:
    """Builds the providers from the standard variables, metrics first, so that what traces and logs measure of themselves is kept."""

    _has_run = False

    def configure(self, *, raise_errors: bool = False, **kwargs: Any) -> None:
        """Sets up metrics, traces and logs.

        Args:
            raise_errors: Whether a signal that cannot be set up raises. Otherwise it is logged and left out.
            **kwargs: What the SDK's configurator takes.
        """
        OtelPerfConfigurator._has_run = True
        if not raise_errors:
            if is_a_tracker():
                return
            follow_multiprocessing()
        file = config.read(OTEL_CONFIG_FILE)
        if file:
            _build("telemetry", lambda: _configure_from(file, kwargs), raise_errors=raise_errors)
            return
        config.sanitise()
        settings = Settings.from_environment()
        if settings.disabled:
            from otel_perf.metrics._noop import NoOpMeterProvider  # noqa: PLC0415 - nearly no program needs it.

            set_meter_provider(NoOpMeterProvider())
            return
        _exit.at_exit(settings.exit_timeout_ms)
        parts = _Parts(settings, kwargs, raise_errors=raise_errors)
        for signal, build in (("metrics", parts.metrics), ("traces", parts.traces), ("logs", parts.logs)):
            _build(signal, build, raise_errors=raise_errors)
        parts.finish()


def _configure_from(file: str, kwargs: Mapping[str, Any]) -> None:
    from otel_perf.config_file.sdk import configure as configure_from  # noqa: PLC0415 - only who names a file pays for it.

    settings = Settings.from_environment()
    if settings.views_file is not None:
        _logger.warning("%s is not read: the views are those of %s", OTEL_PERF_VIEWS_FILE, OTEL_CONFIG_FILE)
    if settings.observer != "thread":
        _not_observed_by(settings, f"the readers are those of {OTEL_CONFIG_FILE}")
    configure_from(file, replace(settings, observer="thread"), kwargs)
    tracers = trace.get_tracer_provider()
    if isinstance(tracers, TracerProvider):
        _measure_spans(settings, tracers)
    provider = get_meter_provider()
    segment = default_segment()
    if segment is not None and isinstance(provider, MeterProvider):
        _report_recordings(settings, provider)
        _observe(settings, segment, provider)


def _report_recordings(settings: Settings, provider: MeterProvider) -> None:
    if settings.self_metrics:
        from otel_perf.metrics._self_metrics import observe_recordings  # noqa: PLC0415 - only who reports pays for it.

        observe_recordings(provider)


def _observe(settings: Settings, segment: Segment, provider: MeterProvider) -> None:
    """Observes in threads of this process."""
    observer.start(segment, settings)
    observer.quantiles(provider, settings)
    if settings.self_metrics:
        self_metrics = provider.report_on_itself()
        self_metrics.add(observer.self_metrics)
        self_metrics.add(partial(export_results, list(provider._consumer._readers)))
    _start_hdr_log(settings, segment)
    Leading(provider).begin()


def _not_observed_by(settings: Settings, reason: str) -> None:
    _logger.warning("%s=%s is not used: %s; using thread", OTEL_PERF_OBSERVER, settings.observer, reason)


def _start_hdr_log(settings: Settings, segment: Segment) -> None:
    if settings.hdr_log is not None:
        from otel_perf.exporters import hdr_log  # noqa: PLC0415 - only who names a file pays for it.

        hdr_log.start(settings, segment)


def _build(signal: str, build: Callable[[], None], *, raise_errors: bool) -> None:
    try:
        build()
    except Exception as error:
        if raise_errors:
            raise
        # The application must start, with what can be had.
        text = " | ".join(str(error).splitlines())
        _logger.error("No %s: %s: %s", signal, type(error).__name__, text)  # noqa: TRY400 - one line.
        _logger.debug("No %s", signal, exc_info=True)


def _measure_spans(settings: Settings, provider: TracerProvider) -> None:
    """Has all spans of a provider measured, as the settings say."""
    if settings.span_metrics == "off":
        return
    from otel_perf.trace import SpanMetricsProcessor, measure_all_spans  # noqa: PLC0415 - only who measures spans pays for it.

    processor = SpanMetricsProcessor(shown_attributes=settings.span_attributes)
    if settings.span_metrics == "all":
        measure_all_spans(provider, processor)
    else:
        provider.add_span_processor(processor)


class _Parts:
    """The three signals of one configuration, each built on its own, so that one that fails leaves the others."""

    def __init__(self, settings: Settings, kwargs: Mapping[str, Any], *, raise_errors: bool) -> None:
        self._settings = settings
        self._kwargs = kwargs
        self._raise_errors = raise_errors
        attributes = dict(kwargs.get("resource_attributes") or {})
        version = kwargs.get("auto_instrumentation_version")
        if version:
            attributes["telemetry.auto.version"] = version
        self._resource = Resource.create(attributes)
        self._arguments = kwargs.get("exporter_args_map") or {}
        _components.start_opamp("pre_sdk_init_function", self._resource)

    def finish(self) -> None:
        _components.start_opamp("post_sdk_init_function", self._resource)

    def _exporters(self, signal: str, names: list[str]) -> list[Any]:
        loaded = _components.load_exporters(signal, names, self._arguments)
        return [kind(**arguments) for kind, arguments in loaded.items()]

    def _names(self, signal: str) -> list[str]:
        named = self._kwargs.get(f"{signal.rstrip('s')}_exporter_names") or []
        return list(dict.fromkeys([*named, *_components.exporter_names(signal)]))

    def _views(self) -> list[View]:
        file = self._settings.views_file
        views: list[View] = []
        if file is not None:
            from otel_perf.config_file import load_views  # noqa: PLC0415 - only who names a file pays for it.

            # A file that is refused leaves metrics as they are without views.
            _build("views", lambda: views.extend(load_views(file)), raise_errors=self._raise_errors)
        return views

    def metrics(self) -> None:
        """Builds the meter provider, with a reader for each metrics exporter unless they are in another process."""
        views = self._views()
        segment = open_default(self._settings)
        names = self._names("metrics")
        settings = self._observed(segment, names)
        if settings.observer == "process":
            _components.require("metrics", names)
        provider = MeterProvider(
            readers(names, self._arguments) if settings.observer == "thread" else (),
            group_resource(settings, self._resource),
            views=views,
            segment=segment,
            _settings=settings,
            _meter_configurator=self._kwargs.get("meter_configurator") or _components.scope_configurator("meter"),
        )
        _report_recordings(settings, provider)
        _exit.take(provider)
        set_meter_provider(provider)
        if settings.observer == "process":
            from otel_perf.observer import _process  # noqa: PLC0415 - only who asks for it pays for it.

            _process.begin(provider, names, settings)
        elif settings.observer == "off":
            segment.resign()
        else:
            provider.serve_by(endpoints(settings, names))
            _observe(settings, segment, provider)

    def _observed(self, segment: Segment, exporters: list[str]) -> Settings:
        """The settings, with a thread as the observer where a process cannot be."""
        settings = self._settings
        if settings.observer != "process":
            return settings
        from otel_perf.observer._launch import why_not  # noqa: PLC0415 - as above.

        if self._arguments:
            reason: str | None = "exporter_args_map is given by code"
        elif _CONSOLE in exporters:
            reason = "the console is the application's"
        else:
            reason = why_not(segment)
        if reason is None:
            return settings
        _not_observed_by(settings, reason)
        return replace(settings, observer="thread")

    def traces(self) -> None:
        """Builds the SDK's tracer provider."""
        sampler = self._kwargs.get("sampler") or _components.sampler()
        provider = TracerProvider(
            id_generator=self._kwargs.get("id_generator") or _components.id_generator(),
            sampler=sampler,
            resource=self._resource,
            _tracer_configurator=self._kwargs.get("tracer_configurator") or _components.scope_configurator("tracer"),
        )
        _measure_spans(self._settings, provider)
        trace.set_tracer_provider(provider)
        for processor in self._kwargs.get("span_processors") or ():
            provider.add_span_processor(processor)
        exporters = self._exporters("traces", self._names("traces"))
        if exporters:
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - see _components.

            processor = self._kwargs.get("export_span_processor") or BatchSpanProcessor
            for exporter in exporters:
                provider.add_span_processor(processor(exporter))
        _exit.take(provider)

    def logs(self) -> None:
        """Sets the SDK's logger provider; it is made when somebody first asks for it, unless something is asked for that cannot wait."""
        names = self._names("logs")
        handler = self._kwargs.get("setup_logging_handler")
        if handler is None:
            handler = config.read(_LOGGING_HANDLER).lower() == "true"
        eager = ("log_record_processors", "export_log_record_processor", "logger_configurator")
        if not (handler or any(self._kwargs.get(name) for name in eager)):
            _components.require("logs", names)
            set_logger_provider(LazyLoggerProvider(names, self._resource, self._arguments))
            return
        from opentelemetry.sdk._configuration import _init_logging  # noqa: PLC0415 - see _components.

        exporters = _components.load_exporters("logs", names, self._arguments)
        _init_logging(
            dict(zip(names, exporters, strict=True)),
            self._resource,
            handler,
            exporter_args_map={**self._arguments, **exporters},
            log_record_processors=self._kwargs.get("log_record_processors"),
            export_log_record_processor=self._kwargs.get("export_log_record_processor"),
            logger_configurator=self._kwargs.get("logger_configurator") or _components.scope_configurator("logger"),
        )
        _exit.take(get_logger_provider())


def configure(**kwargs: Any) -> None:
    """Sets up metrics, traces and logs from code, as ``opentelemetry-instrument`` does before the program starts.

    Args:
        **kwargs: What the SDK's configurator takes, for example ``resource_attributes``, ``metric_exporter_names``,
            ``exporter_args_map``, ``sampler``, ``span_processors``.

    Raises:
        SegmentError: No memory can be mapped.
        RuntimeError: An exporter that was asked for is not installed.
        ConfigurationFileError: A file with views or a configuration file is refused.
    """
    OtelPerfDistro().configure()
    OtelPerfConfigurator().configure(raise_errors=True, **kwargs)
