"""Which format and which compression a scraper gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "text"
OPENMETRICS = "openmetrics"
PROTOBUF = "protobuf"

CONTENT_TYPES = {
    TEXT: "text/plain; version=0.0.4; charset=utf-8",
    OPENMETRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
    PROTOBUF: "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
}
"""Media type of each format, by the name that the native encoder knows it by."""

_PROTOBUF = {"proto": "io.prometheus.client.MetricFamily", "encoding": "delimited"}


def format_for(accept: str) -> str:
    """Chooses a format.

    Args:
        accept: The header ``Accept``; empty if there is none.

    Returns:
        The accepted format of the largest weight, of several the first; text if none is accepted, as every exporter does.
    """
    best, weight = TEXT, 0.0
    for media_type, parameters, found in _weighted(accept):
        chosen = _format_of(media_type, parameters)
        if chosen is not None and found > weight:
            best, weight = chosen, found
    return best


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an answer may be compressed.

    Args:
        accept_encoding: The header ``Accept-Encoding``; empty if there is none.
    """
    weights = {coding: weight for coding, _, weight in _weighted(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _format_of(media_type: str, parameters: dict[str, str]) -> str | None:
    version = parameters.get("version")
    if media_type == "application/vnd.google.protobuf":
        return PROTOBUF if _PROTOBUF.items() <= parameters.items() else None
    # A format in another version is another format.
    if media_type == "application/openmetrics-text":
        return OPENMETRICS if version in (None, "1.0.0") else None
    if media_type in ("text/plain", "text/*", "*/*"):
        return TEXT if version in (None, "0.0.4") else None
    return None


def _weighted(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Each member of a list with its parameters and its weight, which is 1 if it states none."""
    for member in header.split(","):
        name, *pairs = (part.strip() for part in member.split(";"))
        parameters: dict[str, str] = {}
        for pair in pairs:
            key, _, value = pair.partition("=")
            parameters[key.strip().lower()] = value.strip().strip('"')
        yield name.lower(), parameters, _weight(parameters.pop("q", "1"))


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
