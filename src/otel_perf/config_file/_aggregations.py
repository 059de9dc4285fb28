"""Aggregations of a configuration file: those of the OpenTelemetry schema and otel_perf's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.view import (
    Aggregation,
    DefaultAggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
)

from otel_perf.metrics.aggregation import EwmaAggregation, HdrHistogramAggregation

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_perf.config_file._cursor import Cursor

_MAX_SIZE = 16384
"""Buckets that the SDK allows an exponential histogram."""

_OBSERVABLE = ("observable_counter", "observable_gauge", "observable_up_down_counter")


def aggregation(cursor: Cursor, instrument_type: str | None) -> Aggregation | None:
    """Builds an aggregation.

    Args:
        cursor: The mapping with one key that names it.
        instrument_type: Type that the view selects, None for all.

    Returns:
        The aggregation; None, with a problem, if it is refused.
    """
    named = cursor.fields(_BUILDERS)
    held = cursor.node.value
    if isinstance(held, dict) and len(held) != 1:
        cursor.refuse(f"has {len(held)} keys", f"exactly one of {', '.join(_BUILDERS)}")
        return None
    for name, arguments in named.items():
        if instrument_type in _UNFIT.get(name, ()):
            arguments.refuse(f"cannot be the aggregation of an instrument of type {instrument_type}")
            return None
        return _BUILDERS[name](arguments)
    return None


def _bare(kind: Callable[[], Aggregation]) -> Callable[[Cursor], Aggregation | None]:
    def build(cursor: Cursor) -> Aggregation | None:
        cursor.fields((), null=True)
        return kind()

    return build


def _explicit(cursor: Cursor) -> Aggregation | None:
    fields = cursor.fields(("boundaries", "record_min_max"), null=True)
    given: dict[str, Any] = {}
    if "boundaries" in fields:
        given["boundaries"] = fields["boundaries"].increasing()
    return ExplicitBucketHistogramAggregation(**{**given, **_min_max(fields)})


def _exponential(cursor: Cursor) -> Aggregation | None:
    fields = cursor.fields(("max_scale", "max_size", "record_min_max"), null=True)
    given: dict[str, Any] = {}
    for name, low, high in (("max_scale", -10, 20), ("max_size", 2, _MAX_SIZE)):
        number = fields[name].integer(low, high) if name in fields else None
        if number is not None:
            given[name] = number
    return ExponentialBucketHistogramAggregation(**{**given, **_min_max(fields)})


def _min_max(fields: dict[str, Cursor]) -> dict[str, bool]:
    wanted = fields["record_min_max"].flag() if "record_min_max" in fields else None
    return {} if wanted is None else {"record_min_max": wanted}


def _hdr(cursor: Cursor) -> Aggregation | None:
    fields = cursor.fields(("significant_digits", "quantiles", "window"), null=True)
    given: dict[str, Any] = {}
    complete = True
    for name in ("significant_digits", "window"):
        if name in fields and not fields[name].is_null:
            given[name] = fields[name].number()
            complete &= given[name] is not None
    digits = given.get("significant_digits")
    if digits is not None and digits % 1 == 0:
        given["significant_digits"] = int(digits)
    if "quantiles" in fields:
        found = [item.number() for item in fields["quantiles"].items(empty=True)]
        complete &= isinstance(fields["quantiles"].node.value, list) and None not in found
        given["quantiles"] = tuple(found)
    return _own(HdrHistogramAggregation, cursor, given) if complete else None


def _ewma(cursor: Cursor) -> Aggregation | None:
    fields = cursor.fields(("tau",), null=True)
    if "tau" not in fields or fields["tau"].is_null:
        return EwmaAggregation()
    tau = fields["tau"].number()
    return None if tau is None else _own(EwmaAggregation, cursor, {"tau": tau})


def _own(kind: Callable[..., Aggregation], cursor: Cursor, given: dict[str, Any]) -> Aggregation | None:
    try:
        return kind(**given)
    except ValueError as error:
        cursor.refuse(str(error))
        return None


_BUILDERS: dict[str, Callable[[Cursor], Aggregation | None]] = {
    "default": _bare(DefaultAggregation),
    "drop": _bare(DropAggregation),
    "explicit_bucket_histogram": _explicit,
    "base2_exponential_bucket_histogram": _exponential,
    "last_value": _bare(LastValueAggregation),
    "sum": _bare(SumAggregation),
    "hdr_histogram/otel_perf": _hdr,
    "ewma/otel_perf": _ewma,
}

_UNFIT = {
    # They would be left out with a warning when the instrument is made.
    "explicit_bucket_histogram": _OBSERVABLE,
    "base2_exponential_bucket_histogram": _OBSERVABLE,
    "hdr_histogram/otel_perf": _OBSERVABLE,
}
