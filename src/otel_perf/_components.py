"""Finds what the standard variables name by entry point: exporters, sampler, id generator, configurators.

The SDK has these functions in ``opentelemetry.sdk._configuration``, whose import also loads the whole logs SDK. Starting must not cost more than
with the stock distribution (benchmarks/startup.py), so that module is imported only where its work is needed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from opentelemetry.environment_variables import (
    OTEL_LOGS_EXPORTER,
    OTEL_METRICS_EXPORTER,
    OTEL_PYTHON_ID_GENERATOR,
    OTEL_TRACES_EXPORTER,
)
from opentelemetry.sdk import environment_variables as names
from opentelemetry.util._importlib_metadata import entry_points

from otel_perf.config import read

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

_logger = logging.getLogger(__name__)

_EXPORTERS = {
    "metrics": (OTEL_METRICS_EXPORTER, names.OTEL_EXPORTER_OTLP_METRICS_PROTOCOL),
    "traces": (OTEL_TRACES_EXPORTER, names.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL),
    "logs": (OTEL_LOGS_EXPORTER, names.OTEL_EXPORTER_OTLP_LOGS_PROTOCOL),
}
_OTLP = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


def load(group: str, name: str) -> Any:
    """Loads the object that an entry point names.

    Args:
        group: Entry point group.
        name: Name in the group.

    Returns:
        The object.

    Raises:
        RuntimeError: There is no such entry point.
    """
    for entry_point in entry_points(group=group, name=name):
        return entry_point.load()
    raise RuntimeError(f"{name!r} is not installed (entry point group {group!r})")


def exporter_names(signal: str) -> list[str]:
    """Names of the exporters that the environment asks for, ``otlp`` replaced by its protocol's.

    Args:
        signal: ``metrics``, ``traces`` or ``logs``.

    Returns:
        Entry point names; empty for ``none``.
    """
    exporters, protocol = _EXPORTERS[signal]
    wanted = [name.strip() for name in read(exporters).split(",") if name.strip()]
    if [name.lower() for name in wanted] == ["none"]:
        return []
    otlp = _OTLP[read(protocol) or read(names.OTEL_EXPORTER_OTLP_PROTOCOL) or "grpc"]
    return [otlp if name == "otlp" else name for name in wanted]


def load_exporters(signal: str, wanted: list[str]) -> list[Any]:
    """Loads exporter classes.

    Raises:
        RuntimeError: One of them is not installed.
    """
    return [load(f"opentelemetry_{signal}_exporter", name) for name in wanted]


def sampler() -> Any:
    """The sampler that ``OTEL_TRACES_SAMPLER`` names, or None for the SDK's default."""
    name = read(names.OTEL_TRACES_SAMPLER)
    if not name:
        return None
    argument: Any = read(names.OTEL_TRACES_SAMPLER_ARG) or None
    if "traceidratio" in name:
        argument = 1.0 if argument is None else float(argument)
    return load("opentelemetry_traces_sampler", name)(argument)


def id_generator() -> Any:
    """The id generator that ``OTEL_PYTHON_ID_GENERATOR`` names."""
    return load("opentelemetry_id_generator", read(OTEL_PYTHON_ID_GENERATOR) or "random")()


def scope_configurator(signal: str) -> Any:
    """The function that ``OTEL_PYTHON_{TRACER,METER,LOGGER}_CONFIGURATOR`` names, which switches scopes on and off; None for all on."""
    variable = f"OTEL_PYTHON_{signal.upper()}_CONFIGURATOR"
    name = read(variable)
    if not name:
        return None
    try:
        return load(f"_opentelemetry_{signal}_configurator", name)
    except Exception as error:
        _logger.warning("%s=%r cannot be loaded (%s); all scopes are enabled", variable, name, error)
        return None


def start_opamp(when: str, resource: Resource) -> None:
    """Calls the OpAMP hook of this moment, if one is installed."""
    for entry_point in entry_points(group="_opentelemetry_opamp", name=when):
        entry_point.load()(resource)
        return
