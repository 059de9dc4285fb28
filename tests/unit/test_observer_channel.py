"""The channel between an application and its observer: messages of any size, an end that is seen, and nobody who waits for the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from otel_perf.observer._channel import _PACKET, Channel, read, written


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    """Both ends."""
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("size", [0, 1, _PACKET - 20, _PACKET, 2 * _PACKET])
def test_messages_of_any_size_arrive_in_their_order(size: int, pair: tuple[Channel, Channel]) -> None:
    """A message that fills more than a packet is one message, and so is the next one."""
    ours, theirs = pair

    assert ours.say(text="x" * size)
    assert ours.say(number=1)
    assert theirs.hear() == {"text": "x" * size}
    assert theirs.hear() == {"number": 1}


def test_the_end_of_the_other_side_is_heard_and_nothing_can_be_said(pair: tuple[Channel, Channel]) -> None:
    """After what was said before the end there is None, at every call, and what is said is lost."""
    ours, theirs = pair
    ours.say(last=True)
    ours.close()

    assert [theirs.hear() for _ in range(3)] == [{"last": True}, None, None]
    assert not theirs.say(text="hello")
    assert not ours.say(text="hello")
    assert ours.hear() is None


@pytest.mark.parametrize("wait_s", [0.0, 0.001])
def test_who_speaks_does_not_wait_for_who_does_not_listen(wait_s: float, pair: tuple[Channel, Channel]) -> None:
    """When nothing more fits, messages are lost; once the other side listens, new ones arrive, whatever became of the lost ones' beginning."""
    ours, theirs = pair
    said = 0
    while ours.say(wait_s=wait_s, text="x" * (_PACKET - 100)):
        said += 1
        assert said < 1000
    assert not ours.say(wait_s=wait_s, text="y" * (3 * _PACKET))
    for _ in range(said):
        message = theirs.hear()
        assert message is not None
        assert set(message["text"]) == {"x"}

    assert ours.say(number=1)
    assert ours.say(number=2)
    # The first may be taken for the rest of what was cut off.
    found: Any = None
    while found != {"number": 2}:
        found = theirs.hear()


VALUES = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats(allow_nan=False)
    | some.text()
    | some.binary()
    | some.just(math.inf),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_attribute_values_of_all_types_come_through(value: Any) -> None:
    """What is written and sent is read as what it was, tuples as lists."""
    ours, theirs = Channel.pair()
    try:
        assert ours.say(value=written(value))
        message = theirs.hear()
        assert message is not None
        assert read(message["value"]) == value
    finally:
        ours.close()
        theirs.close()


def test_tuples_are_read_as_lists() -> None:
    """JSON has one kind of sequence, which the SDK's attributes turn into tuples again."""
    assert read(written({"a": (1, (b"x", "y"))})) == {"a": [1, [b"x", "y"]]}
