"""YAML with lines: the core schema of YAML 1.2, as the OpenTelemetry configuration specification asks for, on PyYAML's parser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from otel_perf.config_file._node import BAD, COUNT_MAX, DEPTH_MAX, Node, is_text, joined
from otel_perf.config_file._substitution import ACCEPTED, is_reference, substitute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_perf.config_file._problems import Problems

_PLAIN = "otel_perf:plain"
_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"
_TYPES: dict[str, tuple[type, ...]] = {
    f"{_TAG}int": (int,),
    f"{_TAG}float": (float, int),
    f"{_TAG}bool": (bool,),
    f"{_TAG}null": (type(None),),
}
_BITS_MAX = 4096
"""Size of an integer, far below the one that Python refuses to print."""
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_CASED = {cased: value for word, value in _WORDS.items() for cased in (word, word.capitalize(), word.upper())}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class _Loader(yaml.SafeLoader):
    """Leaves the type of plain values to us: PyYAML has the one of YAML 1.1, where ``on`` is a bool and ``1:30`` a number."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


class _TooLargeError(Exception):
    pass


def read(text: str, problems: Problems, env: Mapping[str, str]) -> Node | None:
    """Reads YAML.

    Args:
        text: The file.
        problems: Takes what is wrong.
        env: The environment, for references in values.

    Returns:
        The value; None, with a problem, if the text is no YAML.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            return Node(None, 1)
        return _Reader(problems, env).node(root, "", _line(root), 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        problems.add(mark.line + 1 if mark else 0, "", f"is not YAML: {said}")
    except (RecursionError, _TooLargeError):
        problems.add(0, "", f"has more than {DEPTH_MAX} levels or {COUNT_MAX} values")
    except yaml.reader.ReaderError as error:
        problems.add(text.count("\n", 0, error.position) + 1, "", f"is not YAML: {error.reason}")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML passes on what chr() and int() raise.
        problems.add(0, "", f"is not YAML: {error}")
    return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _Reader:
    def __init__(self, problems: Problems, env: Mapping[str, str]) -> None:
        self._problems = problems
        self._env = env
        self._count = 0

    def node(self, found: yaml.Node, path: str, line: int, depth: int) -> Node:
        self._count += 1
        if depth > DEPTH_MAX or self._count > COUNT_MAX:
            raise _TooLargeError
        if isinstance(found, yaml.ScalarNode):
            return Node(self._scalar(found, path, line), line)
        if found.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            self._problems.add(line, path, f"has the tag {found.tag!r}", "no tag")
            return Node(BAD, line)
        if isinstance(found, yaml.MappingNode):
            return Node(self._mapping(found, path, depth), line)
        items = (self.node(item, joined(path, i), _line(item), depth + 1) for i, item in enumerate(found.value))
        return Node(list(items), line)

    def _mapping(self, found: yaml.MappingNode, path: str, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in found.value:
            line = _line(key)
            if not isinstance(key, yaml.ScalarNode) or not is_text(key.value):
                self._problems.add(line, path, "has a key that is no text")
            elif key.value == _MERGE and key.tag == _PLAIN:
                for node in self._merged(value, path, depth):
                    merged = {**node, **merged}
            elif key.value in entries:
                self._problems.add(line, joined(path, key.value), "is there twice")
            else:
                entries[key.value] = self.node(value, joined(path, key.value), line, depth + 1)
        return {**merged, **entries}

    def _merged(self, value: yaml.Node, path: str, depth: int) -> list[dict[str, Node]]:
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        found = [self.node(source, path, _line(source), depth + 1).value for source in sources]
        if not all(isinstance(source, dict) for source in found):
            self._problems.add(_line(value), joined(path, _MERGE), "is not a mapping or a list of mappings")
        return [source for source in found if isinstance(source, dict)]

    def _substituted(self, found: yaml.ScalarNode, path: str, line: int) -> str | None:
        if found.tag not in (_PLAIN, f"{_TAG}str", *_TYPES):
            self._problems.add(line, path, f"has the tag {found.tag!r}", "no tag")
            return None
        if not is_text(found.value):
            self._problems.add(line, path, "is not valid Unicode")
            return None
        try:
            return substitute(found.value, self._env)
        except ValueError as error:
            self._problems.add(line, path, f"{error} is no reference to an environment variable", ACCEPTED)
            return None

    def _scalar(self, found: yaml.ScalarNode, path: str, line: int) -> Any:
        text = self._substituted(found, path, line)
        if text is None:
            return BAD
        # The type of a value is that of what a single reference stands for; with more around it, it is text.
        if found.tag == f"{_TAG}str" or (found.tag == _PLAIN and "$" in found.value and not is_reference(found.value)):
            return text
        try:
            value = _core(text)
        except ValueError:
            self._problems.add(line, path, "has too many digits")
            return BAD
        if found.tag in _TYPES and (
            not isinstance(value, _TYPES[found.tag]) or (isinstance(value, bool) and not found.tag.endswith("bool"))
        ):
            self._problems.add(line, path, f"{text!r} has the tag {found.tag!r}", "no tag")
            return BAD
        return value


def _core(text: str) -> Any:
    """Value of a plain text in the core schema."""
    if text in _CASED:
        return _CASED[text]
    if _INTEGER.fullmatch(text):
        value = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if value.bit_length() > _BITS_MAX:
            raise ValueError(text)
        return value
    if _FLOAT.fullmatch(text):
        return float(text)
    special = _SPECIAL.fullmatch(text)
    if special:
        return float("nan") if special[3] else float(f"{special[1]}inf")
    return text
