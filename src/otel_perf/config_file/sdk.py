"""All of OpenTelemetry's declarative configuration: our meter provider, and the SDK's own for the rest, from one file."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_DISABLED_INSTRUMENTATIONS
from opentelemetry.metrics import set_meter_provider
from opentelemetry.propagate import set_global_textmap

from otel_perf import _exit
from otel_perf.config_file._cursor import Cursor, at_root
from otel_perf.config_file._document import Document, plain, read
from otel_perf.config_file._problems import ConfigurationFileError
from otel_perf.config_file.views import views_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.configuration import OpenTelemetryConfiguration
    from opentelemetry.sdk.metrics.view import View
    from opentelemetry.sdk.resources import Resource

    from otel_perf.config import Settings

__all__ = ["configure"]

_EXTRA = "file-config"
_UNLIMITED_MS = 86_400_000
"""What no limit on an export is in numbers: a day."""
_ACCEPTED_ARGUMENTS = {"auto_instrumentation_version"}


def configure(path: str, settings: Settings, arguments: Mapping[str, Any]) -> None:
    """Sets up everything that a file asks for; nothing if any of it is refused.

    Args:
        path: The file.
        settings: Settings of otel_perf; the service's name comes from the file.
        arguments: What the configurator was given, of which nothing can be combined with a file.

    Raises:
        ConfigurationFileError: The file or a part of it is refused, or a package that is needed is missing; all of it is listed.
    """
    given = sorted(set(arguments) - _ACCEPTED_ARGUMENTS)
    if given:
        raise ConfigurationFileError([f"{path}: arguments cannot be combined with a file: {', '.join(given)}"])
    document = read(path, os.environ, _EXTRA)
    document.problems.raise_any()
    model, views = _checked(document, path)
    if model.disabled:
        from otel_perf.metrics._noop import NoOpMeterProvider  # noqa: PLC0415 - nearly no program needs it.

        set_meter_provider(NoOpMeterProvider())
        return
    _exit.at_exit(settings.exit_timeout_ms)
    _Setup(document, model, settings).run(views)


def _checked(document: Document, path: str) -> tuple[OpenTelemetryConfiguration, list[View]]:
    """The model of the file, and its views, which have aggregations that the model lacks."""
    try:
        from opentelemetry.configuration.file._loader import (  # noqa: PLC0415 - an extra brings it.
            _dict_to_model,
            _validate_file_format,
        )

        from otel_perf.config_file._refused import check as check_refused  # noqa: PLC0415 - as above.
        from otel_perf.config_file._schema import check as check_schema  # noqa: PLC0415 - as above.
    except ImportError as error:
        text = f'{path}: needs opentelemetry-configuration: pip install "otel-perf[{_EXTRA}]" ({error})'
        raise ConfigurationFileError([text]) from error
    root = at_root(document)
    data = plain(document.root)
    if not isinstance(data, dict):
        root.refuse("is not a configuration", "a mapping with file_format")
        raise document.problems.error()
    views = _take_views(root, data)
    check_schema(document, data)
    check_refused(root)
    if isinstance(data.get("file_format"), str):
        with _problems_at(document, "file_format"):
            _validate_file_format(data)
    document.problems.raise_any()
    _adapt(data)
    with _problems_at(document, ""):
        model = _dict_to_model(data)
    document.problems.raise_any()
    return model, views


def _take_views(root: Cursor, data: dict[str, Any]) -> list[View]:
    provider = data.get("meter_provider")
    if not isinstance(provider, dict) or "views" not in provider:
        return []
    del provider["views"]
    section = root.fields(data)["meter_provider"]
    return views_of(section.fields(section.node.value)["views"])


def _adapt(data: dict[str, Any]) -> None:
    """Says in upstream's words what it has no words for."""
    resource = data.get("resource") or {}
    if "attributes" in resource:
        # The schema ignores those without a value; upstream has a warning for each.
        resource["attributes"] = [item for item in resource["attributes"] if item["value"] is not None]
    for reader in (data.get("meter_provider") or {}).get("readers", ()):
        periodic = reader.get("periodic") or {}
        if periodic.get("timeout") == 0:
            periodic["timeout"] = _UNLIMITED_MS


@contextmanager
def _problems_at(document: Document, *path: str | int) -> Iterator[None]:
    """What is raised becomes a problem at a place of the file."""
    try:
        yield
    except Exception as error:
        text = ""
        for step in path:
            text = f"{text}[{step}]" if isinstance(step, int) else f"{text}.{step}".lstrip(".")
        document.problems.add(document.line(path), text, f"{type(error).__name__}: {error}")


class _Setup:
    """Makes everything that can fail, and only then sets what was made: metrics first, so that what traces and logs measure is kept."""

    def __init__(self, document: Document, model: OpenTelemetryConfiguration, settings: Settings) -> None:
        self._document = document
        self._model = model
        self._settings = settings
        self._undo: dict[int, Callable[[], object]] = {}

    def run(self, views: list[View]) -> None:
        resource: Resource | None = None
        propagator: Any = None
        from opentelemetry.configuration._propagator import create_propagator  # noqa: PLC0415 - an extra brings it.
        from opentelemetry.configuration._resource import create_resource  # noqa: PLC0415 - as above.

        with _problems_at(self._document, "resource"):
            resource = create_resource(self._model.resource)
        with _problems_at(self._document, "propagator"):
            propagator = create_propagator(self._model.propagator)
        with self._undoing():
            traces = self._traces(resource)
            logs = self._logs(resource)
            exporters = self._metric_exporters()
            self._document.problems.raise_any()
            if resource is not None:
                self._metrics(resource, exporters, views)
            self._document.problems.raise_any()
        traces()
        logs()
        set_global_textmap(propagator)
        self._rest()

    @contextmanager
    def _undoing(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for undo in reversed(self._undo.values()):
                with suppress(Exception):
                    undo()
            raise

    def _traces(self, resource: Resource | None) -> Callable[[], None]:
        section = self._model.tracer_provider
        if section is None:
            return lambda: None
        from opentelemetry.configuration import _tracer_provider as factories  # noqa: PLC0415 - as above.
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor  # noqa: PLC0415 - as above.

        provider = self._without_processors("tracer_provider", section, factories.create_tracer_provider, resource)
        exporters = self._exporters("tracer_provider", section.processors, factories._create_span_exporter)

        def finish() -> None:
            for processor, exporter in zip(section.processors, exporters, strict=True):
                batch = processor.batch
                provider.add_span_processor(
                    SimpleSpanProcessor(exporter)
                    if batch is None
                    else BatchSpanProcessor(
                        exporter,
                        max_queue_size=batch.max_queue_size,
                        schedule_delay_millis=batch.schedule_delay,
                        max_export_batch_size=batch.max_export_batch_size,
                        export_timeout_millis=batch.export_timeout,
                    )
                )
            _exit.take(provider)
            trace.set_tracer_provider(provider)

        return finish

    def _logs(self, resource: Resource | None) -> Callable[[], None]:
        section = self._model.logger_provider
        if section is None:
            return lambda: None
        from opentelemetry.configuration import _logger_provider as factories  # noqa: PLC0415 - as above.
        from opentelemetry.sdk._logs import export  # noqa: PLC0415 - as above.

        provider = self._without_processors("logger_provider", section, factories.create_logger_provider, resource)
        exporters = self._exporters("logger_provider", section.processors, factories._create_log_record_exporter)

        def finish() -> None:
            for processor, exporter in zip(section.processors, exporters, strict=True):
                batch = processor.batch
                provider.add_log_record_processor(
                    export.SimpleLogRecordProcessor(exporter)
                    if batch is None
                    else export.BatchLogRecordProcessor(
                        exporter,
                        schedule_delay_millis=_or(batch.schedule_delay, factories._DEFAULT_SCHEDULE_DELAY_MILLIS),
                        export_timeout_millis=_or(batch.export_timeout, factories._DEFAULT_EXPORT_TIMEOUT_MILLIS),
                        max_queue_size=_or(batch.max_queue_size, factories._DEFAULT_MAX_QUEUE_SIZE),
                        max_export_batch_size=_or(
                            batch.max_export_batch_size, factories._DEFAULT_MAX_EXPORT_BATCH_SIZE
                        ),
                    )
                )
            _exit.take(provider)
            set_logger_provider(provider)

        return finish

    def _without_processors(
        self, name: str, section: Any, create: Callable[..., Any], resource: Resource | None
    ) -> Any:
        """The provider of a section, whose processors are made later; None, with a problem, if that fails."""
        provider: Any = None
        with _problems_at(self._document, name):
            provider = create(replace(section, processors=[]), resource, self._model.attribute_limits)
            self._undo[id(provider)] = provider.shutdown
        return provider

    def _exporters(self, section: str, processors: list[Any], make: Callable[[Any], Any]) -> list[Any]:
        """Makes the exporters of processors, which are made later: they measure themselves from their first moment."""
        made = []
        for i, processor in enumerate(processors):
            kind = "simple" if processor.batch is None else "batch"
            with _problems_at(self._document, section, "processors", i, kind, "exporter"):
                exporter = make(getattr(processor, kind).exporter)
                self._undo[id(exporter)] = exporter.shutdown
                made.append(exporter)
        return made

    def _metric_exporters(self) -> list[Any]:
        """The exporter of each periodic reader, None for the others."""
        section = self._model.meter_provider
        if section is None:
            return []
        from opentelemetry.configuration._meter_provider import _create_push_metric_exporter  # noqa: PLC0415 - as above.
        from opentelemetry.sdk.metrics.export import MetricExporter  # noqa: PLC0415 - as above.

        made: list[Any] = []
        for i, reader in enumerate(section.readers):
            made.append(None)
            if reader.periodic is None:
                continue
            with _problems_at(self._document, "meter_provider", "readers", i, "periodic", "exporter"):
                exporter = _create_push_metric_exporter(reader.periodic.exporter)
                self._undo[id(exporter)] = exporter.shutdown
                if not isinstance(exporter, MetricExporter):
                    raise TypeError(f"{type(exporter).__name__} is no exporter for a periodic reader")
                made[-1] = exporter
        return made

    def _metrics(self, resource: Resource, exporters: list[Any], views: list[View]) -> None:
        section = self._model.meter_provider
        if section is None:
            return
        from otel_perf.config_file._metrics import build  # noqa: PLC0415 - as above.

        with _problems_at(self._document, "meter_provider"):
            name = str(resource.attributes.get("service.name", ""))
            settings = replace(self._settings, service_name=name)
            provider = build(section, exporters, views, resource, settings, self._undo)
            _exit.take(provider)
            set_meter_provider(provider)

    def _rest(self) -> None:
        """What cannot fail: verbosity and instrumentations, whose own failures are theirs."""
        from opentelemetry.configuration._sdk import _SEVERITY_TO_LOGGING_LEVEL  # noqa: PLC0415 - as above.
        from opentelemetry.configuration.instrumentation import configure_instrumentation  # noqa: PLC0415 - as above.

        if self._model.log_level is not None:
            for name in ("opentelemetry", "otel_perf"):
                logging.getLogger(name).setLevel(_SEVERITY_TO_LOGGING_LEVEL[self._model.log_level])
        section = self._model.instrumentation_development
        configure_instrumentation(section)
        if section is not None and section.python:
            # The wrapper would start them again, also those that the file switches off.
            known = os.environ.get(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, "").split(",")
            names = [name.strip() for name in known if name.strip()]
            os.environ[OTEL_PYTHON_DISABLED_INSTRUMENTATIONS] = ",".join(dict.fromkeys([*names, *section.python]))


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
