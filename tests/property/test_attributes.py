"""Attribute sets: one series whatever the order, and exported as the SDK's own cleaning leaves them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Counter
from opentelemetry.sdk.metrics import MeterProvider as StockProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from otel_perf import MeterProvider
from tests.conformance.harness import typed

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=8),
)
nested = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    ),
    max_leaves=6,
)
attribute_sets = st.dictionaries(st.text(min_size=1, max_size=8), nested, max_size=14)


def points(reader: InMemoryMetricReader) -> list[Any]:
    """All number points."""
    data = reader.get_metrics_data()
    if data is None:
        return []
    metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
    return [point for metric in metrics for point in metric.data.data_points]


@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(attribute_sets)
def test_any_attributes_leave_as_from_the_sdk(attributes: dict[str, Any]) -> None:
    """A set is one series in every order of its pairs, and its exported attributes are the stock SDK's."""
    found = []
    for kind in (MeterProvider, StockProvider):
        reader = InMemoryMetricReader()
        provider = kind([reader], resource=Resource({}), shutdown_on_exit=False)
        counter = provider.get_meter("m").create_counter("c")
        counter.add(1, attributes)
        counter.add(2, dict(reversed(attributes.items())))
        (point,) = points(reader)
        found.append((point.value, typed(point.attributes)))
        provider.shutdown()

    assert found[0] == found[1]


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 1000), st.floats(0, 1000)), st.booleans()), max_size=60
    )
)
def test_deltas_add_up_to_the_cumulative_value(steps: list[tuple[int, float, bool]]) -> None:
    """Whatever the order of recordings and collections, deltas of a series add up to its cumulative sum."""
    cumulative = InMemoryMetricReader()
    delta = InMemoryMetricReader(preferred_temporality={Counter: AggregationTemporality.DELTA})
    provider = MeterProvider([cumulative, delta], resource=Resource({}), shutdown_on_exit=False)
    counter = provider.get_meter("m").create_counter("c")
    added: dict[int, float] = {}
    deltas: dict[int, float] = {}

    def collect() -> None:
        for point in points(delta):
            deltas[point.attributes["n"]] = deltas.get(point.attributes["n"], 0) + point.value

    for number, amount, collected in steps:
        counter.add(amount, {"n": number})
        added[number] = added.get(number, 0) + amount
        if collected:
            collect()
    collect()
    final = {point.attributes["n"]: point.value for point in points(cumulative)}
    provider.shutdown()

    assert final == pytest.approx(added)
    assert {n: deltas.get(n, 0) for n in added} == pytest.approx(added)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK warns of odd attributes; that is not what these tests are about."""
    caplog.set_level(logging.CRITICAL)
