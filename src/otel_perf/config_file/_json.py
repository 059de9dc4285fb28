"""JSON with lines, without anything that would have to be installed."""

from __future__ import annotations

import re
from bisect import bisect
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, Any

from otel_perf.config_file._node import BAD, COUNT_MAX, DEPTH_MAX, Node, is_text, joined
from otel_perf.config_file._substitution import ACCEPTED, substitute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_perf.config_file._problems import Problems

_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_STRING = JSONDecoder()


def read(text: str, problems: Problems, env: Mapping[str, str]) -> Node | None:
    """Reads JSON.

    Args:
        text: The file.
        problems: Takes what is wrong.
        env: The environment, for references in texts.

    Returns:
        The value; None, with a problem, if the text is no JSON.
    """
    reader = _Reader(text, problems, env)
    try:
        return reader.whole()
    except JSONDecodeError as error:
        problems.add(error.lineno, "", f"is not JSON: {error.msg}")
        return None


class _Reader:
    def __init__(self, text: str, problems: Problems, env: Mapping[str, str]) -> None:
        self._text = text
        self._problems = problems
        self._env = env
        self._at = 0
        self._count = 0
        self._breaks = [i for i, c in enumerate(text) if c == "\n"]

    def whole(self) -> Node:
        node = self._value("", 0)
        if self._peek():
            raise self._error("there is more after the value")
        return node

    def _error(self, message: str) -> JSONDecodeError:
        return JSONDecodeError(message, self._text, self._at)

    def _line(self) -> int:
        return bisect(self._breaks, self._at - 1) + 1

    def _peek(self) -> str:
        blank = _BLANK.match(self._text, self._at)
        self._at = blank.end() if blank else self._at
        return self._text[self._at : self._at + 1]

    def _take(self, character: str) -> bool:
        if self._peek() == character:
            self._at += 1
            return True
        return False

    def _value(self, path: str, depth: int) -> Node:
        first = self._peek()
        line = self._line()
        self._count += 1
        if depth > DEPTH_MAX or self._count > COUNT_MAX:
            raise self._error(f"it has more than {DEPTH_MAX} levels or {COUNT_MAX} values")
        if first == "{":
            return Node(self._mapping(path, depth), line)
        if first == "[":
            return Node(self._list(path, depth), line)
        if first == '"':
            return Node(self._text_value(path, line), line)
        return Node(self._word_or_number(), line)

    def _mapping(self, path: str, depth: int) -> dict[str, Node]:
        self._at += 1
        found: dict[str, Node] = {}
        if self._take("}"):
            return found
        while True:
            if self._peek() != '"':
                raise self._error("a key is expected")
            line = self._line()
            key = self._string()
            if not self._take(":"):
                raise self._error("a colon is expected")
            if key in found:
                self._problems.add(line, joined(path, key), "is there twice")
            found[key] = Node(self._value(joined(path, key), depth + 1).value, line)
            if self._take("}"):
                return found
            if not self._take(","):
                raise self._error("a comma or a closing brace is expected")

    def _list(self, path: str, depth: int) -> list[Node]:
        self._at += 1
        found: list[Node] = []
        if self._take("]"):
            return found
        while True:
            found.append(self._value(joined(path, len(found)), depth + 1))
            if self._take("]"):
                return found
            if not self._take(","):
                raise self._error("a comma or a closing bracket is expected")

    def _string(self) -> str:
        value, self._at = _STRING.raw_decode(self._text, self._at)
        return str(value)

    def _text_value(self, path: str, line: int) -> Any:
        value = self._string()
        if not is_text(value):
            self._problems.add(line, path, "is not valid Unicode")
            return BAD
        try:
            return substitute(value, self._env)
        except ValueError as error:
            self._problems.add(line, path, f"{error} is no reference to an environment variable", ACCEPTED)
            return BAD

    def _word_or_number(self) -> Any:
        for word, meaning in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return meaning
        number = _NUMBER.match(self._text, self._at)
        if number is None:
            raise self._error("a value is expected")
        try:
            value = float(number[0]) if number[2] or number[3] else int(number[0])
        except ValueError:
            raise self._error("the number has too many digits") from None
        self._at = number.end()
        return value
