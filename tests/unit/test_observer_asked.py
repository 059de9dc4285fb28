"""Windows of an observer process: the application gets the answers that the process itself would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_perf import MeterProvider, Observer
from otel_perf.observer._asked import ANSWERS, AskedWindows

ATTRIBUTES: dict[str, Any] = {
    "text": "a",
    "yes": True,
    "number": 1,
    "ratio": 1.0,
    "texts": ["a", "b"],
    "raw": b"\x00\xff",
}


@pytest.fixture
def observer(provider: MeterProvider) -> Observer:
    """An observer of two series that it has seen grow."""
    observer = Observer(provider.segment, clock=lambda: 1.0)
    observer.tick(1)
    meter = provider.get_meter("app")
    meter.create_histogram("app.size", "By").record(7, ATTRIBUTES)
    meter.create_counter("app.count").add(3)
    observer.tick(1_000_000_001)
    return observer


@pytest.fixture
def asked(observer: Observer) -> AskedWindows:
    """The same windows, asked over what the channel makes of questions and answers."""

    def ask(method: str, timeout_s: float = 1.0, **arguments: Any) -> Any:
        assert timeout_s == 1
        answer = ANSWERS[method](observer._source(), **json.loads(json.dumps(arguments)))
        return json.loads(json.dumps(answer))

    windows = AskedWindows(ask, (1, 10, 60))
    windows._clock = lambda: 1.0
    return windows


@pytest.mark.parametrize("attributes", [None, ATTRIBUTES], ids=["all series", "one series"])
def test_answers_are_the_same(observer: Observer, asked: AskedWindows, attributes: dict[str, Any] | None) -> None:
    """Windows and averages of a series are found by attributes of every type, and are the same to the last bit."""
    assert asked.percentiles("app.size", attributes, window=10) == observer.percentiles(
        "app.size", attributes, window=10
    )
    assert asked.percentiles("app.size", attributes).count == 1
    for of in ("rate", "mean"):
        assert asked.ewma("app.size", attributes, of=of) == observer.ewma("app.size", attributes, of=of) is not None


def test_a_snapshot_is_the_same(observer: Observer, asked: AskedWindows) -> None:
    """All of it, but that sequences of an attribute are lists."""
    ours, theirs = observer.snapshot(), asked.snapshot()

    assert [(series.windows, series.averages, series.unit, series.kind) for series in theirs.series] == [
        (series.windows, series.averages, series.unit, series.kind) for series in ours.series
    ]
    (sizes,) = (series for series in theirs.series if series.name == "app.size")
    assert sizes.attributes == ATTRIBUTES


def test_errors_are_the_same(asked: AskedWindows) -> None:
    """What there is not is a `LookupError` here, and what cannot be asked a `ValueError`, as in the process that observes."""
    for ask in (asked.percentiles, asked.ewma):
        with pytest.raises(LookupError, match="nothing is observed"):
            ask("app.nothing")
    with pytest.raises(ValueError, match="window=2"):
        asked.percentiles("app.size", window=2)
