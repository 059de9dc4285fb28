"""Windows of an observer process: the application's questions and the answers, as the channel has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_perf.observer._channel import read, written
from otel_perf.observer._windows import Answers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otel_perf.observer._seen import Source


class AskedWindows(Answers):
    """Answers questions by asking the observer process.

    Args:
        ask: Callable[..., Any]s it.
        windows: Seconds of the windows that it keeps.
    """

    def __init__(self, ask: Callable[..., Any], windows: Sequence[float]) -> None:
        super().__init__(windows)
        self._asked = _Asked(ask)

    def _source(self) -> Source:
        return self._asked


class _Asked:
    """What `_core.Windows` answers in the observer process."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def read(
        self,
        name: str,
        attributes: Mapping[str, Any] | None,
        scope: str | None,
        window: float,
        percentiles: Sequence[float],
    ) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._ask(
            "read", name=name, attributes=written(attributes), scope=scope, window=window, percentiles=percentiles
        )
        return found

    def averages(
        self, name: str, attributes: Mapping[str, Any] | None, scope: str | None, tau: float
    ) -> tuple[float | None, float | None] | None:
        found = self._ask("averages", name=name, attributes=written(attributes), scope=scope, tau=tau)
        return None if found is None else (found[0], found[1])

    def snapshot(self, percentiles: Sequence[float]) -> list[dict[str, Any]]:
        found = self._ask("snapshot", percentiles=percentiles)
        return [{**series, "attributes": read(series["attributes"])} for series in found]


def _read(windows: Source, attributes: Any, **arguments: Any) -> dict[str, Any] | None:
    return windows.read(attributes=read(attributes), **arguments)


def _averages(windows: Source, attributes: Any, **arguments: Any) -> tuple[float | None, float | None] | None:
    return windows.averages(attributes=read(attributes), **arguments)


def _snapshot(windows: Source, percentiles: Sequence[float]) -> list[dict[str, Any]]:
    return [{**series, "attributes": written(series["attributes"])} for series in windows.snapshot(percentiles)]


ANSWERS: dict[str, Callable[..., Any]] = {"read": _read, "averages": _averages, "snapshot": _snapshot}
"""What the observer process answers: functions of its windows and the arguments of the question, whose answers are JSON."""
