"""A value of a file and its line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SECTIONS = (
    "file_format",
    "disabled",
    "log_level",
    "attribute_limits",
    "logger_provider",
    "meter_provider",
    "propagator",
    "tracer_provider",
    "resource",
    "instrumentation/development",
    "distribution",
)
"""Keys of a whole configuration file."""

BAD = object()
"""Stands for a value that is already among the problems, so that nobody complains of it again."""

DEPTH_MAX = 64
"""Levels of lists and mappings that a file may have."""

COUNT_MAX = 100_000
"""Values that a file may have, aliases counted as often as they are used."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a file.

    Attributes:
        value: None, bool, int, float, str, a list of nodes, a mapping of text to nodes, or `BAD`.
        line: Its line, from 1; of a mapping's entry that of the key.
    """

    value: Any
    line: int


def joined(path: str, step: str | int) -> str:
    """Path of what a mapping or a list holds."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


def is_text(value: str) -> bool:
    """Whether a text can leave the process: escapes can spell halves of characters, which have no bytes."""
    return not any("\ud800" <= c <= "\udfff" for c in value)
