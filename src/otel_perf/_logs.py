"""The SDK's logger provider, made when somebody first asks it for a logger.

Loading the logs SDK and its exporters costs a start some tens of milliseconds and more than a megabyte, and most programs never emit a log record
through OpenTelemetry. Whoever looks at the provider before, and has loaded that SDK, sees what it will be.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs as api

from otel_perf import _components, _exit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import Attributes

_logger = logging.getLogger(__name__)


class LazyLoggerProvider(api.LoggerProvider):
    """Stands for the SDK's `LoggerProvider` until one is needed, and passes everything on to it from then on.

    Args:
        exporters: Entry point names of the log exporters; what cannot be made of them is one log line, when it is needed.
        resource: Resource of the logs.
        arguments: Arguments for the constructors of some exporter classes.
    """

    def __init__(self, exporters: list[str], resource: Resource, arguments: Mapping[Any, Mapping[str, Any]]) -> None:
        self._exporters = exporters
        self._log_resource = resource
        self._arguments = arguments
        self._made: LoggerProvider | None = None
        self._renew_lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        # Reentrant, because what is logged while the provider is being made may come back here.
        self._lock = threading.RLock()

    def _provider(self) -> LoggerProvider:
        with self._lock:
            if self._made is None:
                from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415 - what this module is for.

                self._made = LoggerProvider(
                    resource=self._log_resource, _logger_configurator=_components.scope_configurator("logger")
                )
                for name in self._exporters:
                    self._add_exporter(self._made, name)
                _exit.take(self._made)
            return self._made

    def _add_exporter(self, provider: LoggerProvider, name: str) -> None:
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415 - as above.

        try:
            ((kind, arguments),) = _components.load_exporters("logs", [name], self._arguments).items()
            provider.add_log_record_processor(BatchLogRecordProcessor(kind(**arguments)))
        except Exception as error:
            # Somebody's logging is under way: it must not fail for want of an exporter.
            _logger.error("No logs to %s: %s: %s", name, type(error).__name__, error)  # noqa: TRY400 - one line.

    def get_logger(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes | None = None,
    ) -> api.Logger:
        """Returns a logger of the SDK's provider."""
        return self._provider().get_logger(name, version, schema_url, attributes)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The SDK's class once it is loaded, for `isinstance`: who can ask for it has loaded it.

        Loads nothing: gevent asks of every object whether it is a lock, in the middle of its patching.
        """
        sdk = sys.modules.get("opentelemetry.sdk._logs")
        return getattr(sdk, "LoggerProvider", LazyLoggerProvider)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._provider(), name)
