"""Views from a file, in the shape of the OpenTelemetry configuration file's ``meter_provider.views``."""

from __future__ import annotations

import os
import re
from glob import escape
from inspect import signature
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.view import View

from otel_perf.config import CARDINALITY_LIMIT_MAX
from otel_perf.config_file._aggregations import aggregation
from otel_perf.config_file._cursor import Cursor, at_root
from otel_perf.config_file._document import plain, read
from otel_perf.config_file._node import SECTIONS
from otel_perf.metrics.attribute_keys import AttributeKeys

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["load_views", "views_of"]

_TYPES: dict[str, type] = {
    "counter": sdk.Counter,
    "gauge": sdk._Gauge,
    "histogram": sdk.Histogram,
    "observable_counter": sdk.ObservableCounter,
    "observable_gauge": sdk.ObservableGauge,
    "observable_up_down_counter": sdk.ObservableUpDownCounter,
    "up_down_counter": sdk.UpDownCounter,
}
_SELECTOR = ("instrument_name", "instrument_type", "unit", "meter_name", "meter_version", "meter_schema_url")
_STREAM = ("name", "description", "aggregation", "aggregation_cardinality_limit", "attribute_keys")
_PROVIDER = ("readers", "views", "exemplar_filter", "meter_configurator/development")
_NAME = re.compile(r"[a-zA-Z][-_./a-zA-Z0-9]{0,254}")
_PATTERN = re.compile(r"[a-zA-Z*?][-_./a-zA-Z0-9*?]*")
_UNIT_MAX = 63
_REFUSED = "refused"
_LIMIT = "aggregation_cardinality_limit"
_SDK_TAKES_LIMIT = _LIMIT in signature(View.__init__).parameters


def load_views(path: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> list[View]:
    """Reads views from a YAML or JSON file.

    Args:
        path: The file: a list of views, a mapping with ``views``, or a whole OpenTelemetry configuration file, of which only
            ``meter_provider.views`` is read.
        env: Environment for ``${NAME}`` in values; that of the process if not given.

    Returns:
        The views, for the ``views`` of a meter provider.

    Raises:
        ConfigurationFileError: The file cannot be read, or anything in it is not accepted; it lists all of it with lines.
    """
    document = read(path, os.environ if env is None else env, "views")
    views = _views_in(at_root(document))
    document.problems.raise_any()
    return views


def _views_in(root: Cursor) -> list[View]:
    held = root.node.value
    if isinstance(held, list):
        return views_of(root)
    if isinstance(held, dict) and "meter_provider" in held:
        whole = root.fields(SECTIONS)
        _check_format(whole)
        provider = whole["meter_provider"].fields(_PROVIDER, required=("views",))
        return views_of(provider["views"]) if "views" in provider else []
    if not isinstance(held, dict):
        root.refuse("there are no views", "a list of views, or a mapping with views or meter_provider")
        return []
    fields = root.fields(("file_format", "views"), required=("views",))
    _check_format(fields)
    return views_of(fields["views"]) if "views" in fields else []


def _check_format(fields: dict[str, Cursor]) -> None:
    if "file_format" not in fields:
        return
    version = fields["file_format"].text(null=False)
    if version is not None and re.fullmatch(r"1(\.[0-9]+)?(-.*)?", version) is None:
        fields["file_format"].refuse(f"{version!r} is not accepted", "'1.0' and later 1.x")


def views_of(cursor: Cursor) -> list[View]:
    """Builds views.

    Args:
        cursor: The list of views.

    Returns:
        The views; none where anything in the document has a problem.
    """
    wanted: list[tuple[dict[str, Any], dict[str, Any]]] = []
    seen: dict[str, str] = {}
    for item in cursor.items():
        fields = item.fields(("selector", "stream"), required=("selector", "stream"))
        if set(fields) != {"selector", "stream"}:
            continue
        selector, stream = fields["selector"], fields["stream"]
        criteria = _selector(selector)
        arguments = _arguments(stream, criteria)
        same = repr((_identity(selector), arguments.get("name")))
        if same in seen:
            item.refuse(f"selects the same instruments for the same name as {seen[same]}", "another selector or name")
        seen.setdefault(same, item.path)
        wanted.append((criteria, arguments))
    return [_view(criteria, arguments) for criteria, arguments in wanted] if cursor.is_sound else []


def _identity(selector: Cursor) -> Any:
    held = plain(selector.node)
    return sorted((k, v) for k, v in held.items() if v is not None) if isinstance(held, dict) else held


def _selector(cursor: Cursor) -> dict[str, Any]:
    fields = cursor.fields(_SELECTOR)
    criteria: dict[str, Any] = {}
    for key, field in fields.items():
        criteria[key] = field.choice(_TYPES) if key == "instrument_type" else field.text()
    # What was refused selects something all the same, so that nobody complains of its absence.
    criteria = {k: _REFUSED if v is None else v for k, v in criteria.items() if not fields[k].is_null}
    name = criteria.get("instrument_name")
    if name is not None and _PATTERN.fullmatch(name) is None:
        fields["instrument_name"].refuse(
            f"{name!r} can be the name of no instrument", "letters, digits and _ . - / after a letter; * and ? for any"
        )
    unit = criteria.get("unit")
    if unit is not None and not (unit.isascii() and len(unit) <= _UNIT_MAX):
        fields["unit"].refuse(f"{unit!r} can be the unit of no instrument", f"ASCII, at most {_UNIT_MAX} characters")
    if criteria.get("meter_name") == "":
        fields["meter_name"].refuse("is empty, which no meter's name is", "the name of a meter")
    if isinstance(cursor.node.value, dict) and all(entry.is_null for entry in fields.values()):
        cursor.refuse("selects nothing", f"at least one of {', '.join(_SELECTOR)}; instrument_name '*' for all")
    return criteria


def _arguments(cursor: Cursor, criteria: dict[str, Any]) -> dict[str, Any]:
    fields = cursor.fields(_STREAM)
    found: dict[str, Any] = {}
    for key in ("name", "description"):
        if key in fields:
            found[key] = fields[key].text()
    if found.get("name") is not None:
        _check_name(fields["name"], found["name"], criteria)
    if "aggregation" in fields:
        found["aggregation"] = aggregation(fields["aggregation"], criteria.get("instrument_type"))
    if _LIMIT in fields:
        found[_LIMIT] = fields[_LIMIT].integer(1, CARDINALITY_LIMIT_MAX)
    if "attribute_keys" in fields:
        found["attribute_keys"] = _attribute_keys(fields["attribute_keys"])
    return {key: value for key, value in found.items() if value is not None}


def _check_name(cursor: Cursor, name: str, criteria: dict[str, Any]) -> None:
    if _NAME.fullmatch(name) is None:
        cursor.refuse(
            f"{name!r} can be the name of no metric", "a letter, then at most 254 letters, digits and _ . - /"
        )
    if re.search("[*?]", criteria.get("instrument_name", "*")):
        # Metrics of several instruments under one name are what the specification calls a conflict.
        cursor.refuse(
            f"{name!r} would be the name of all instruments that the selector may match",
            "a selector with an instrument_name without * and ?",
        )


def _attribute_keys(cursor: Cursor) -> AttributeKeys | None:
    fields = cursor.fields(("included", "excluded"))
    included, excluded = (fields[key].texts() if key in fields else None for key in ("included", "excluded"))
    return AttributeKeys(included, excluded) if fields else None


def _view(criteria: dict[str, Any], arguments: dict[str, Any]) -> View:
    unit = criteria.get("unit")
    limit = arguments.get(_LIMIT)
    view = View(
        instrument_type=_TYPES.get(criteria.get("instrument_type", "")),
        instrument_name=criteria.get("instrument_name"),
        # The schema has a unit match as it is, the SDK as a pattern.
        instrument_unit=None if unit is None else escape(unit),
        meter_name=criteria.get("meter_name"),
        meter_version=criteria.get("meter_version"),
        meter_schema_url=criteria.get("meter_schema_url"),
        name=arguments.get("name"),
        description=arguments.get("description"),
        attribute_keys=arguments.get("attribute_keys"),
        aggregation=arguments.get("aggregation"),
        **({_LIMIT: limit} if limit is not None and _SDK_TAKES_LIMIT else {}),
    )
    if limit is not None and not _SDK_TAKES_LIMIT:
        # SDKs before 1.45.2 have no such argument; the provider reads the attribute.
        view._aggregation_cardinality_limit = limit  # type: ignore[attr-defined]
    return view
