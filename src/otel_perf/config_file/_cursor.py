"""Reads values of a document and adds a problem for each that is not what is asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from otel_perf.config_file._node import BAD, Node, joined

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from otel_perf.config_file._document import Document
    from otel_perf.config_file._problems import Problems

_SHOWN_MAX = 80


def described(value: Any) -> str:
    """A value in few words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_MAX else f"{shown[:_SHOWN_MAX]}..."


def at_root(document: Document) -> Cursor:
    """The cursor at a document's value."""
    return Cursor(document.root, "", document.problems)


class Cursor:
    """A place in a document. What is asked for and not there is None, with a problem unless null means that it is left out.

    Args:
        node: The value.
        path: Keys that lead to it.
        problems: Takes what is wrong.
    """

    def __init__(self, node: Node, path: str, problems: Problems) -> None:
        self.node = node
        self.path = path
        self._problems = problems

    @property
    def is_null(self) -> bool:
        """Whether the value is null."""
        return self.node.value is None

    @property
    def is_sound(self) -> bool:
        """Whether the whole document has no problem so far."""
        return not self._problems

    def refuse(self, problem: str, accepted: str = "") -> None:
        """Adds a problem of this value."""
        self._problems.add(self.node.line, self.path, problem, accepted)

    def _refuse_value(self, accepted: str) -> None:
        if self.node.value is not BAD:
            self.refuse(f"{described(self.node.value)} is not accepted", accepted)

    def _child(self, step: str | int, node: Node) -> Cursor:
        return Cursor(node, joined(self.path, step), self._problems)

    def fields(
        self, known: Collection[str], required: Collection[str] = (), *, null: bool = False
    ) -> dict[str, Cursor]:
        """Entries of a mapping.

        Args:
            known: Keys that are accepted; each other is a problem.
            required: Keys that must be there.
            null: Whether null means an empty mapping.

        Returns:
            The entries with known keys.
        """
        held = self.node.value
        if held is None and null:
            return {}
        if not isinstance(held, dict):
            self._refuse_value(f"a mapping with {', '.join(known)}" if known else "nothing or {}")
            return {}
        for key, node in held.items():
            if key not in known:
                self._child(key, node).refuse("is not known", ", ".join(known) or "nothing")
        for key in required:
            if key not in held:
                self.refuse(f"{key} is missing")
        return {key: self._child(key, node) for key, node in held.items() if key in known}

    def items(self, *, empty: bool = False) -> list[Cursor]:
        """Items of a list, which has at least one unless stated otherwise."""
        held = self.node.value
        if not isinstance(held, list) or not (held or empty):
            if held == []:
                self.refuse("is empty", "a list with at least one item")
            else:
                self._refuse_value("a list")
            return []
        return [self._child(i, node) for i, node in enumerate(held)]

    def text(self, *, null: bool = True) -> str | None:
        """A text; null means that it is left out unless stated otherwise."""
        value = self.node.value
        if isinstance(value, str) or (value is None and null):
            return value
        self._refuse_value("a text")
        return None

    def texts(self) -> list[str] | None:
        """A list of texts, at least one."""
        found = [item.text(null=False) for item in self.items()]
        return [text for text in found if text is not None] or None

    def choice(self, words: Collection[str], *, null: bool = True) -> str | None:
        """One of some words."""
        value = self.node.value
        if (isinstance(value, str) and value in words) or (value is None and null):
            return value
        self._refuse_value(", ".join(words))
        return None

    def flag(self) -> bool | None:
        """True, false, or null for left out."""
        value = self.node.value
        if value is None or isinstance(value, bool):
            return value
        self._refuse_value("true, false")
        return None

    def integer(self, low: int, high: int) -> int | None:
        """An integer from ``low`` to ``high``, or null for left out."""
        value = self.node.value
        if value is None:
            return None
        if not isinstance(value, bool) and isinstance(value, (int, float)) and low <= value <= high and value % 1 == 0:
            return int(value)
        self._refuse_value(f"an integer from {low} to {high}")
        return None

    def number(self) -> float | None:
        """A finite number; null is none."""
        value = self.node.value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                if math.isfinite(value):
                    return float(value)
            except OverflowError:
                pass
        self._refuse_value("a finite number")
        return None

    def increasing(self) -> list[float] | None:
        """A list of finite numbers, each larger than the one before; it may be empty."""
        found: list[float] = []
        for item in self.items(empty=True):
            number = item.number()
            if number is None:
                continue
            if found and number <= found[-1]:
                item.refuse(f"{number:g} is not larger than the one before", "numbers in increasing order")
            found.append(number)
        return found

    def walk(self) -> Iterator[Cursor]:
        """This place and all below it."""
        yield self
        held = self.node.value
        steps: Any = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list) else ()
        for step, node in steps:
            yield from self._child(step, node).walk()
