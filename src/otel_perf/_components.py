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

from otel_perf.config import COMPRESSIONS, OTLP_EXPORTERS, PROTOCOLS, read, report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.resources import Resource

_logger = logging.getLogger(__name__)

_EXPORTERS = {"metrics": OTEL_METRICS_EXPORTER, "traces": OTEL_TRACES_EXPORTER, "logs": OTEL_LOGS_EXPORTER}


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
    raise _not_installed(group, name)


def require(signal: str, wanted: list[str]) -> None:
    """Checks that exporters are installed, without loading them.

    Args:
        signal: ``metrics``, ``traces`` or ``logs``.
        wanted: Entry point names.

    Raises:
        RuntimeError: One of them is not.
    """
    group = f"opentelemetry_{signal}_exporter"
    for name in wanted:
        if not entry_points(group=group, name=name):
            raise _not_installed(group, name)


def _not_installed(group: str, name: str) -> RuntimeError:
    return RuntimeError(f"{name!r} is not installed (entry point group {group!r})")


def exporter_names(signal: str) -> list[str]:
    """Names of the exporters that the environment asks for, ``otlp`` replaced by its protocol's.

    Args:
        signal: ``metrics``, ``traces`` or ``logs``.

    Returns:
        Entry point names; empty for ``none``.
    """
    wanted = [name.strip() for name in read(_EXPORTERS[signal]).split(",") if name.strip()]
    if [name.lower() for name in wanted] == ["none"]:
        return []
    otlp = OTLP_EXPORTERS[read(PROTOCOLS[signal]) or read(names.OTEL_EXPORTER_OTLP_PROTOCOL) or "grpc"]
    return [otlp if name == "otlp" else name for name in wanted]


def load_exporters(signal: str, wanted: list[str], given: Mapping[Any, Mapping[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Loads exporter classes.

    Args:
        signal: ``metrics``, ``traces`` or ``logs``.
        wanted: Entry point names.
        given: Arguments for the constructors of some classes.

    Returns:
        The classes with the arguments for their constructors.

    Raises:
        RuntimeError: One of them is not installed.
    """
    found = {}
    for name in wanted:
        kind = load(f"opentelemetry_{signal}_exporter", name)
        found[kind] = {**(_grpc_arguments(signal) if name == OTLP_EXPORTERS["grpc"] else {}), **given.get(kind, {})}
    return found


def _grpc_arguments(signal: str) -> dict[str, Any]:
    """Compression for the gRPC exporter, which by itself refuses the standard's ``none``."""
    from grpc import Compression  # noqa: PLC0415 - comes with the exporter.

    variable = COMPRESSIONS[signal] if read(COMPRESSIONS[signal]) else names.OTEL_EXPORTER_OTLP_COMPRESSION
    value = read(variable)
    if value.lower() not in ("", "none", "gzip"):
        report(variable, value, "none, gzip over gRPC", "using none")
    return {"compression": Compression.Gzip if value.lower() == "gzip" else Compression.NoCompression}


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
