"""What is wrong with a file, collected, so that one error says all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ConfigurationFileError(ValueError):
    """A file is refused; nothing of it was used.

    Args:
        problems: One line each: ``file:line: key.path: problem; accepted: ...``.

    Attributes:
        problems: The same lines.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[ConfigurationFileError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)

    def one_line(self) -> str:
        """All problems in one line, for a log."""
        return " | ".join(self.problems)


class Problems:
    """Collects the problems of one file.

    Args:
        name: Name of the file as it was given.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: list[tuple[int, str]] = []

    def add(self, line: int, path: str, problem: str, accepted: str = "") -> None:
        """Adds a problem.

        Args:
            line: Line, from 1; 0 for the file as a whole.
            path: Keys that lead to the value; empty for the file as a whole.
            problem: What is wrong.
            accepted: What would be right; empty where the problem says it.
        """
        place = f"{self._name}:{line}: " if line else f"{self._name}: "
        where = f"{path}: " if path else ""
        right = f"; accepted: {accepted}" if accepted else ""
        # What a file says must not break the one line that each problem has.
        text = f"{place}{where}{problem}{right}".encode("utf-8", "backslashreplace").decode()
        self._found.append((line, "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)))

    def __bool__(self) -> bool:
        return bool(self._found)

    def error(self) -> ConfigurationFileError:
        """The error that lists all problems in the order of their lines."""
        found = dict.fromkeys(text for _, text in sorted(self._found, key=lambda problem: problem[0]))
        return ConfigurationFileError(list(found))

    def raise_any(self) -> None:
        """Raises the error if there are problems.

        Raises:
            ConfigurationFileError: There are.
        """
        if self._found:
            raise self.error()
