"""What the schema allows and opentelemetry-configuration would ignore, with a warning or without, or find out only half way."""

from __future__ import annotations

import math
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from opentelemetry.configuration._resource import _coerce_attribute_value
from opentelemetry.configuration.models import AttributeNameValue, AttributeType
from opentelemetry.util._importlib_metadata import entry_points

from otel_perf.config import CARDINALITY_LIMIT_MAX
from otel_perf.config_file._node import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_perf.config_file._cursor import Cursor

_PACKAGES = {
    "otlp_http": ("opentelemetry.exporter.otlp.proto.http", "otel-perf[otlp]"),
    "otlp_grpc": ("opentelemetry.exporter.otlp.proto.grpc", "otel-perf[otlp]"),
    "otlp_file/development": ("opentelemetry.exporter.otlp.json.file", "opentelemetry-exporter-otlp-json-file"),
}
_UNDERSCORES = "underscore_escaping_with_suffixes"
_QUEUE_DEFAULT = 2048
_BATCH_DEFAULT = 512
_LARGEST = 2**31 - 1


def check(root: Cursor) -> None:
    """Adds a problem for each thing that would be ignored.

    Args:
        root: The whole file.
    """
    root.fields(SECTIONS)
    for place in root.walk():
        if isinstance(place.node.value, float) and not math.isfinite(place.node.value):
            place.refuse(f"{place.node.value} is not accepted", "a finite number")
        path = re.sub(r"\[[0-9]+\]", "[]", place.path)
        for pattern, rule in _RULES:
            if not place.is_null and pattern.fullmatch(path):
                rule(place)


def _never(problem: str, accepted: str = "leaving it out") -> Callable[[Cursor], None]:
    return lambda place: place.refuse(problem, accepted)


def _only(*words: Any) -> Callable[[Cursor], None]:
    def rule(place: Cursor) -> None:
        value = place.node.value
        if isinstance(value, str) and value.lower() not in words:
            place.refuse(f"{value!r} is not supported", ", ".join(words))

    return rule


def _between(low: int, high: int) -> Callable[[Cursor], None]:
    def rule(place: Cursor) -> None:
        value = place.node.value
        if isinstance(value, int) and not low <= value <= high:
            place.refuse(f"{value!r} is not supported", f"an integer from {low} to {high}")

    return rule


def _component(group: str, *built_in: str, bare: bool = False) -> Callable[[Cursor], None]:
    """A mapping with one key that names a built-in component or an entry point."""

    def rule(place: Cursor) -> None:
        held = place.node.value
        for name, value in held.items() if isinstance(held, dict) else ():
            if name in _PACKAGES and name in built_in:
                _check_package(place, name)
            elif name not in built_in and not (group and entry_points(group=group, name=name)):
                names = {entry.name for entry in entry_points(group=group)} if group else set()
                place.refuse(f"{name} is not supported or not installed", ", ".join([*built_in, *sorted(names)]))
            elif name not in built_in and bare and value.value:
                place.refuse(f"arguments of {name} would be ignored", f"{name} without arguments")

    return rule


def _check_package(place: Cursor, name: str) -> None:
    module, package = _PACKAGES[name]
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        place.refuse(f'{name} is not installed: pip install "{package}"')


def _pairs(place: Cursor) -> None:
    """A text of key=value pairs; without the equals sign one would be ignored."""
    value = place.node.value
    for item in value.split(",") if isinstance(value, str) else ():
        if item.strip() and "=" not in item:
            place.refuse(f"{item.strip()!r} is not accepted", "key=value, separated by commas")


def _propagators(place: Cursor) -> None:
    value = place.node.value
    for item in value.split(",") if isinstance(value, str) else ():
        name = item.strip()
        if name and name.lower() != "none" and not entry_points(group="opentelemetry_propagator", name=name):
            names = sorted({entry.name for entry in entry_points(group="opentelemetry_propagator")})
            place.refuse(f"{name} is not installed", ", ".join(names))


def _instrumentations(place: Cursor) -> None:
    held = place.node.value
    for name, options in held.items() if isinstance(held, dict) else ():
        if not entry_points(group="opentelemetry_instrumentor", name=name):
            place.refuse(f"{name} is not installed", "names of installed instrumentations")
        enabled = options.value.get("enabled") if isinstance(options.value, dict) else None
        if enabled is not None and not isinstance(enabled.value, bool):
            place.refuse(f"{name}.enabled is {enabled.value!r}", "true, false")


def _tls(place: Cursor) -> None:
    """Of an exporter with its TLS settings: only what its endpoint says anyway is accepted."""
    held = place.node.value
    if not isinstance(held, dict) or "tls" not in held:
        return
    fields = place.fields(held)
    endpoint = fields["endpoint"].node.value if "endpoint" in fields else None
    tls = fields["tls"]
    for name, field in (tls.fields(tls.node.value) if isinstance(tls.node.value, dict) else {}).items():
        if name != "insecure" and not field.is_null:
            field.refuse("is not supported in a file", "the variables OTEL_EXPORTER_OTLP_CERTIFICATE and _CLIENT_*")
        elif field.node.value is True and not str(endpoint).startswith("http://"):
            field.refuse("true is not supported with this endpoint", "an endpoint that begins with http://")


def _batch(place: Cursor) -> None:
    held = place.node.value
    if not isinstance(held, dict):
        return

    def size(name: str, default: int) -> int:
        value = held[name].value if name in held else None
        return value if isinstance(value, int) else default

    queue, batch = size("max_queue_size", _QUEUE_DEFAULT), size("max_export_batch_size", _BATCH_DEFAULT)
    if batch > queue:
        place.refuse(f"max_export_batch_size {batch} is larger than max_queue_size {queue}", "at most the latter")


def _attribute(place: Cursor) -> None:
    """A resource attribute whose value is not of the type that it names."""
    held = place.node.value
    if not isinstance(held, dict) or any(name not in held for name in ("name", "value", "type")):
        return
    kind, value = held["type"].value, held["value"].value
    if kind is None or value is None or kind not in {member.value for member in AttributeType}:
        return
    value = [item.value for item in value] if isinstance(value, list) else value
    try:
        if isinstance(value, (list, dict)) != kind.endswith("_array"):
            raise TypeError  # noqa: TRY301 - is one problem with what the coercion finds.
        _coerce_attribute_value(AttributeNameValue(name="", value=value, type=AttributeType(kind)))
    except (TypeError, ValueError, OverflowError):
        place.refuse(f"value {value!r} is not of type {kind}", f"a value of type {kind}")


def _readers(place: Cursor) -> None:
    """Readers that would serve the same metrics twice."""
    held = place.node.value
    endpoints = 0
    for reader in place.items() if isinstance(held, list) and held else ():
        found = [p for p in reader.walk() if p.path.endswith(".pull.exporter.prometheus/development")]
        endpoints += len(found)
        if found and endpoints > 1:
            found[0].refuse("is the second Prometheus endpoint", "one")


def _rules(*rules: tuple[str, Callable[[Cursor], None]]) -> list[tuple[re.Pattern[str], Callable[[Cursor], None]]]:
    return [(re.compile(pattern), rule) for pattern, rule in rules]


_PROCESSOR = r"(tracer|logger)_provider\.processors\[\]"
_READER = r"meter_provider\.readers\[\]"
_PROMETHEUS = _READER + r"\.pull\.exporter\.prometheus/development"
_OTLP = r".*\.exporter\.otlp_(http|grpc)"
_SAMPLER = r"tracer_provider\.sampler(\.parent_based\.\w+)*"
_COMPOSITE = _SAMPLER + r"\.composite/development(\.parent_threshold\.root|\.rule_based\.rules\[\]\.sampler)*"
_OTLP_EXPORTERS = ("otlp_http", "otlp_grpc", "otlp_file/development", "console")

_RULES = _rules(
    (r"distribution\.otel_perf", _never("is not known: settings of otel_perf are environment variables")),
    (r"instrumentation/development\.general", _never("is not supported by instrumentations for Python")),
    (r"instrumentation/development\.python", _instrumentations),
    (r"resource\.attributes_list", _pairs),
    (r"resource\.attributes\[\]", _attribute),
    (
        r"resource\.detection/development\.detectors\[\]",
        _component("opentelemetry_resource_detector", "host", "process", "service"),
    ),
    (r"propagator\.composite_list", _propagators),
    (r"propagator\.composite\[\]", _component("opentelemetry_propagator", "tracecontext", "baggage")),
    (_PROCESSOR, _component("", "batch", "simple")),
    (_PROCESSOR + r"\.batch", _batch),
    (_PROCESSOR + r"\.batch\.\w+_(delay|size)", _between(1, _LARGEST)),
    (r"tracer_provider\.processors\[\]\.\w+\.exporter", _component("opentelemetry_traces_exporter", *_OTLP_EXPORTERS)),
    (r"logger_provider\.processors\[\]\.\w+\.exporter", _component("opentelemetry_logs_exporter", *_OTLP_EXPORTERS)),
    (r"logger_provider\.logger_configurator/development\..*(minimum_severity|trace_based)", _never("is not supported")),
    (r"tracer_provider\.id_generator", _component("opentelemetry_id_generator", "random")),
    (
        _SAMPLER,
        _component(
            "opentelemetry_sampler",
            *("always_on", "always_off", "composite/development", "parent_based", "trace_id_ratio_based"),
            bare=True,
        ),
    ),
    (_COMPOSITE, _component("", "always_on", "always_off", "parent_threshold", "probability", "rule_based")),
    (r"meter_provider\.readers", _readers),
    (_READER + r"\.\w+\.producers", _never("is not supported")),
    (_READER + r"\.\w+\.cardinality_limits\.\w+", _between(1, CARDINALITY_LIMIT_MAX)),
    (_READER + r"\.periodic\.max_export_batch_size/development", _never("is not supported")),
    (_READER + r"\.periodic\.interval", _between(1, _LARGEST)),
    (_READER + r"\.periodic\.timeout", _between(0, _LARGEST)),
    (_READER + r"\.periodic\.exporter", _component("opentelemetry_metrics_exporter", *_OTLP_EXPORTERS)),
    (_READER + r"\.pull\.exporter", _component("opentelemetry_pull_metric_exporter", "prometheus/development")),
    (_PROMETHEUS + r"\.port", _between(0, 65535)),
    (_PROMETHEUS + r"\.translation_strategy", _only(_UNDERSCORES)),
    (_OTLP, _tls),
    (_OTLP + r"\.headers_list", _pairs),
    (_OTLP + r"\.timeout", _between(1, _LARGEST)),
    (_OTLP + r"\.encoding", _only("protobuf")),
    (r".*\.exporter\.otlp_http\.compression", _only("none", "gzip", "deflate")),
    (r".*\.exporter\.otlp_grpc\.compression", _only("none", "gzip")),
)
