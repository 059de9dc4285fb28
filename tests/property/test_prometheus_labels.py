"""Labels: whatever the attributes, the endpoint shows what the stock reader makes of the same points, and any parser reads it back."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given, settings
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.exporter.prometheus._mapping import sanitize_attribute
from prometheus_client import CollectorRegistry

from otel_perf import MeterProvider
from tests.peers.prometheus_messages import labels_of
from tests.property.test_attributes import attribute_sets
from tests.unit.scraped import Scraped, samples_of


@settings(deadline=None, max_examples=150)
@given(attributes=attribute_sets)
def test_any_attributes_are_the_stock_readers_labels(attributes: dict[str, Any]) -> None:
    """Strings as they are and anything else as JSON: each label of a series is the stock reader's, in text and as a message."""
    names = [sanitize_attribute(key) for key in attributes]
    assume(len(set(names)) == len(names) and "" not in names)
    registry = CollectorRegistry()
    stock = PrometheusMetricReader(registry=registry)
    shop = Scraped(lambda *readers, **kwargs: MeterProvider((*readers, stock), shutdown_on_exit=False, **kwargs))
    try:
        shop.provider.get_meter("m").create_counter("c").add(1, attributes)
        (expected,) = (family for family in registry.collect() if family.name == "c")
        ours = samples_of(shop.families()["c"])
        assert ours == samples_of(expected)
        assert samples_of(shop.openmetrics()["c"]) == ours
        (message,) = shop.messages()["c_total"].metric
        assert [tuple(sorted((k, v) for k, v in labels_of(message).items() if v))] == [labels for _, labels in ours]
    finally:
        shop.provider.shutdown()
