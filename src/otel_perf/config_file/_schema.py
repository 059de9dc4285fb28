"""The JSON schema of OpenTelemetry's declarative configuration, whose errors become problems with lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from opentelemetry.configuration.file._loader import _get_schema

from otel_perf.config_file._cursor import described
from otel_perf.config_file._node import joined

if TYPE_CHECKING:
    from jsonschema import ValidationError

    from otel_perf.config_file._document import Document

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true, false",
    "null": "null",
}
# JSON Schema takes 5.0 for an integer; the SDK does not.
_Validator = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _checker, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}


def check(document: Document, data: dict[str, Any]) -> None:
    """Adds a problem for each thing that the schema refuses.

    Args:
        document: Where the data comes from; takes the problems.
        data: The data, of which some may have been left out.
    """
    for error in _Validator(_get_schema()).iter_errors(data):
        for step, problem, accepted in _explained(error):
            path: list[str | int] = [*error.absolute_path, *([] if step is None else [step])]
            text = ""
            for part in path:
                text = joined(text, part)
            document.problems.add(document.line(path), text, problem, accepted)


def _explained(error: ValidationError) -> list[tuple[str | None, str, str]]:
    """Key below the place, problem and accepted values of each thing that an error stands for."""
    value: Any = error.instance
    schema: Any = error.schema
    properties = schema.get("properties", ())
    known = ", ".join(properties)
    if error.validator == "additionalProperties":
        return [(key, "is not known", known or "nothing") for key in value if key not in properties]
    if error.validator == "required":
        wanted: Any = error.validator_value
        return [(None, f"{key} is missing", "") for key in wanted if key not in value]
    if error.validator in ("minProperties", "maxProperties"):
        return [(None, f"has {len(value)} keys", f"exactly one of {known}" if known else "at least one")]
    if error.validator == "minItems":
        return [(None, "is empty", "a list with at least one item")]
    accepted = _accepted(str(error.validator), error.validator_value)
    return [(None, f"{described(value)} is not accepted" if accepted else error.message, accepted)]


def _accepted(rule: str, wanted: Any) -> str:
    if rule == "type":
        return ", ".join(_TYPES[name] for name in ([wanted] if isinstance(wanted, str) else wanted))
    if rule == "enum":
        return ", ".join(str(word) for word in wanted)
    if rule == "oneOf":
        return "a text, a number, true, false, null, or a list of one of the first three kinds"
    return f"{_BOUNDS[rule]} {wanted}" if rule in _BOUNDS else ""
