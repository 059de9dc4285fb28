"""Which attribute keys a view retains, by patterns of what to include and what to exclude."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AttributeKeys"]

_KNOWN_MAX = 4096


class AttributeKeys:
    """Answers ``key in keys`` as IncludeExclude of the OpenTelemetry configuration schema does.

    A pattern is a key, in which ``*`` stands for any number of characters and ``?`` for one; case matters. It is all that the SDK asks of
    ``View(attribute_keys=...)``, so that it also excludes there. The answer to a key is kept, so that asking again costs a lookup.

    Args:
        included: Patterns of the keys to retain; None or empty for all.
        excluded: Patterns of the keys to leave out; they win over the included ones.
    """

    __slots__ = ("_answers", "_excluded", "_included", "excluded", "included")

    def __init__(self, included: Sequence[str] | None = None, excluded: Sequence[str] | None = None) -> None:
        self.included = tuple(included or ())
        self.excluded = tuple(excluded or ())
        self._included = _compiled(self.included)
        self._excluded = _compiled(self.excluded)
        self._answers: dict[str, bool] = {}

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        answer = self._answers.get(key)
        if answer is None:
            answer = self._matches(key)
            # Keys made of data, such as one for each user, must not grow the memory for ever.
            if len(self._answers) < _KNOWN_MAX:
                self._answers[key] = answer
        return answer

    def _matches(self, key: str) -> bool:
        if self._excluded is not None and self._excluded.fullmatch(key):
            return False
        return self._included is None or self._included.fullmatch(key) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AttributeKeys):
            return NotImplemented
        return (self.included, self.excluded) == (other.included, other.excluded)

    def __hash__(self) -> int:
        return hash((self.included, self.excluded))

    def __repr__(self) -> str:
        return f"AttributeKeys(included={list(self.included)}, excluded={list(self.excluded)})"


def _compiled(patterns: Sequence[str]) -> re.Pattern[str] | None:
    if not patterns:
        return None
    # Runs of asterisks mean what one means and would make matching slow.
    parts = (re.sub(r"\*+", "*", pattern) for pattern in patterns)
    return re.compile("|".join(re.escape(p).replace(r"\*", ".*").replace(r"\?", ".") for p in parts), re.DOTALL)
