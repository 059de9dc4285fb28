"""Attribute keys by patterns: what a view retains and what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View

from otel_perf.metrics import attribute_keys
from otel_perf.metrics.attribute_keys import AttributeKeys

CASES: list[tuple[Sequence[str] | None, Sequence[str] | None, str, bool]] = [
    (None, None, "a", True),
    ([], [], "a", True),
    (["a"], None, "a", True),
    (["a"], None, "A", False),
    (["a"], None, "ab", False),
    (["http.*"], None, "http.route", True),
    (["http.*"], None, "http.", True),
    (["http.*"], None, "httpx", False),
    (["h?p"], None, "hop", True),
    (["h?p"], None, "hp", False),
    (["*"], None, "", True),
    (["a", "b*"], None, "bcd", True),
    (["[ab]"], None, "a", False),
    (["[ab]"], None, "[ab]", True),
    (["a.b"], None, "axb", False),
    (["a*b"], None, "a\nb", True),
    (None, ["http.url"], "http.url", False),
    (None, ["http.url"], "http.route", True),
    (["http.*"], ["http.url"], "http.url", False),
    (["http.*"], ["*"], "http.route", False),
    (["***a"], None, "xxa", True),
]


@pytest.mark.parametrize(("included", "excluded", "key", "answer"), CASES)
def test_a_key_is_in_if_included_and_not_excluded(
    included: Sequence[str] | None, excluded: Sequence[str] | None, key: str, answer: bool
) -> None:
    """Patterns match whole keys with their case, excluded ones win, and none at all mean all; the second answer is as the first."""
    keys = AttributeKeys(included, excluded)

    assert [key in keys, key in keys] == [answer, answer]


def slow(pattern: str, key: str) -> bool:
    """Whether a key matches, by trying."""
    if not pattern:
        return not key
    if pattern[0] == "*":
        return slow(pattern[1:], key) or (bool(key) and slow(pattern, key[1:]))
    return bool(key) and pattern[0] in ("?", key[0]) and slow(pattern[1:], key[1:])


@given(
    st.lists(st.text("ab*?.[", max_size=5), max_size=3),
    st.lists(st.text("ab*?", max_size=4), max_size=2),
    st.text("ab.[", max_size=6),
)
def test_patterns_match_as_the_schema_says(included: list[str], excluded: list[str], key: str) -> None:
    """For any patterns and key the answer is the one that trying all ways gives."""
    wanted = not included or any(slow(pattern, key) for pattern in included)

    assert (key in AttributeKeys(included, excluded)) is (
        wanted and not any(slow(pattern, key) for pattern in excluded)
    )


def test_many_asterisks_are_quick() -> None:
    """A run of asterisks is as one, so that no file makes matching slow."""
    assert "b" * 200 not in AttributeKeys(["*" * 200 + "a"])


def test_answers_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys made of data do not grow the memory beyond a bound, and are answered all the same."""
    monkeypatch.setattr(attribute_keys, "_KNOWN_MAX", 2)
    keys = AttributeKeys(["a*"])

    assert all(f"a{i}" in keys for i in range(10))
    assert len(keys._answers) == 2


def test_what_is_no_text_is_not_in() -> None:
    """Whatever is no text is in no set of keys."""
    assert 1 not in AttributeKeys()


def test_equal_patterns_are_equal() -> None:
    """Two with the same patterns are equal and hash alike, and show what they hold."""
    keys = AttributeKeys(["a"], ["b"])

    assert keys == AttributeKeys(("a",), ("b",))
    assert hash(keys) == hash(AttributeKeys(["a"], ["b"]))
    assert keys != AttributeKeys(["a"])
    assert keys != {"a"}
    assert re.fullmatch(r"AttributeKeys\(included=\['a'\], excluded=\['b'\]\)", repr(keys))


def test_the_stock_sdk_leaves_out_what_is_excluded() -> None:
    """A view of the stock SDK with these keys aggregates over the excluded attribute."""
    reader = InMemoryMetricReader()
    keys: set[str] = AttributeKeys(excluded=["user.*"])  # type: ignore[assignment]
    provider = sdk.MeterProvider(
        [reader], shutdown_on_exit=False, views=[View(instrument_name="c", attribute_keys=keys)]
    )
    counter = provider.get_meter("m").create_counter("c")
    counter.add(1, {"kind": "x", "user.id": 1})
    counter.add(2, {"kind": "x", "user.id": 2})
    data = reader.get_metrics_data()
    provider.shutdown()

    assert data is not None
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert (point.attributes, point.value) == ({"kind": "x"}, 3)  # type: ignore[union-attr]
