"""Points of histograms: exact statistics, and buckets as the reader, the advice or the default say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
)

from otel_perf import MeterProvider
from tests.conformance.harness import DELTA
from tests.conftest import points_of

Make = Callable[..., MeterProvider]


@pytest.mark.parametrize("temporality", [{}, DELTA])
def test_statistics_of_histograms_are_exact(temporality: Any, make_provider: Make) -> None:
    """Count, sum, minimum and maximum are exact whatever the slots, for explicit and exponential buckets."""
    recorded = [0.1, 0.25, 1e-7, 3.0000001, 77.7777777, 12_345.678]
    explicit = InMemoryMetricReader(preferred_temporality=temporality)
    exponential = InMemoryMetricReader(
        preferred_temporality=temporality,
        preferred_aggregation={sdk.Histogram: ExponentialBucketHistogramAggregation()},
    )
    histogram = make_provider(explicit, exponential).get_meter("m").create_histogram("h", "s")
    for value in recorded:
        histogram.record(value)

    for reader in (explicit, exponential):
        (point,) = points_of(reader.get_metrics_data()).values()
        assert (point.count, point.min, point.max) == (len(recorded), min(recorded), max(recorded))
        assert point.sum == sum(recorded)


def test_exponential_buckets_obey_their_limits(make_provider: Make) -> None:
    """Size and scale stay within what the reader asked for, and every recording is in a bucket."""
    aggregation = ExponentialBucketHistogramAggregation(max_size=8, max_scale=3)
    reader = InMemoryMetricReader(preferred_aggregation={sdk.Histogram: aggregation})
    histogram = make_provider(reader).get_meter("m").create_histogram("h", "s")
    for value in (0, 0, 1, 1.05, 2, 1000):
        histogram.record(value)
    (point,) = points_of(reader.get_metrics_data()).values()

    assert len(point.positive.bucket_counts) <= 8
    assert point.scale <= 3
    assert (point.zero_count, sum(point.positive.bucket_counts), point.count) == (2, 4, 6)
    assert list(point.negative.bucket_counts) == []


def test_boundaries_of_the_reader_are_for_all_and_advice_is_for_those_without(make_provider: Make) -> None:
    """A reader's own boundaries take precedence over advice, which takes precedence over the default ones."""
    own = InMemoryMetricReader(
        preferred_aggregation={sdk.Histogram: ExplicitBucketHistogramAggregation(boundaries=[1, 2])}
    )
    other = InMemoryMetricReader()
    meter = make_provider(own, other).get_meter("m")
    meter.create_histogram("plain").record(1.5)
    meter.create_histogram("advised", explicit_bucket_boundaries_advisory=[5]).record(1.5)

    def found(reader: InMemoryMetricReader) -> dict[str, Any]:
        points = points_of(reader.get_metrics_data())
        return {key[0]: (len(point.explicit_bounds), list(point.bucket_counts)[:3]) for key, point in points.items()}

    assert found(own) == {"plain": (2, [0, 1, 0]), "advised": (2, [0, 1, 0])}
    assert found(other) == {"plain": (15, [0, 1, 0]), "advised": (1, [1, 0])}
