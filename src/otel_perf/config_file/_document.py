"""A configuration file as values that know their lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_perf.config_file._json import read as read_json
from otel_perf.config_file._problems import Problems

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from otel_perf.config_file._node import Node

_BYTES_MAX = 1 << 20
_SUFFIXES = ".yaml, .yml, .json"


@dataclass(frozen=True)
class Document:
    """A file that was read.

    Attributes:
        root: Its value.
        problems: What is wrong with it, to be added to.
    """

    root: Node
    problems: Problems

    def line(self, path: Sequence[str | int]) -> int:
        """Line of a value; of what would hold it if it is not there."""
        node = self.root
        for step in path:
            held = node.value
            if isinstance(held, dict) and step in held:
                node = held[str(step)]
            elif isinstance(held, list) and isinstance(step, int) and step < len(held):
                node = held[step]
            else:
                break
        return node.line


def read(path: str | os.PathLike[str], env: Mapping[str, str], extra: str) -> Document:
    """Reads a YAML or JSON file and puts environment variables in.

    Args:
        path: The file; its name ends in ``.yaml``, ``.yml`` or ``.json``.
        env: The environment.
        extra: Extra of this package that brings what YAML needs.

    Returns:
        The document. Single values that cannot be read are among its problems.

    Raises:
        ConfigurationFileError: The file cannot be read or is no YAML or JSON at all.
    """
    file = Path(path)
    problems = Problems(str(path))
    suffix = file.suffix.lower()
    if suffix not in (".yaml", ".yml", ".json"):
        problems.add(0, "", f"the name ends in {suffix!r}", _SUFFIXES)
        raise problems.error()
    text = _text_of(file, problems)
    if suffix == ".json":
        root = read_json(text, problems, env)
    else:
        try:
            from otel_perf.config_file._yaml import read as read_yaml  # noqa: PLC0415 - needs PyYAML, which JSON does without.
        except ImportError as error:
            problems.add(0, "", f'YAML needs PyYAML: pip install "otel-perf[{extra}]"', ".json without it")
            raise problems.error() from error
        root = read_yaml(text, problems, env)
    if root is None:
        raise problems.error()
    return Document(root, problems)


def _text_of(file: Path, problems: Problems) -> str:
    try:
        if not file.is_file():
            problems.add(0, "", "is a directory or device" if file.exists() else "there is no such file")
            raise problems.error()
        with file.open("rb") as opened:
            data = opened.read(_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        if problems:
            raise
        problems.add(0, "", f"cannot be read: {error}")
        raise problems.error() from error
    if len(data) > _BYTES_MAX:
        problems.add(0, "", f"is larger than {_BYTES_MAX} bytes")
        raise problems.error()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(data.count(b"\n", 0, error.start) + 1, "", "is not UTF-8")
        raise problems.error() from error


def plain(node: Node) -> Any:
    """The value without lines, as other code wants it."""
    value = node.value
    if isinstance(value, dict):
        return {key: plain(held) for key, held in value.items()}
    if isinstance(value, list):
        return [plain(held) for held in value]
    return value
