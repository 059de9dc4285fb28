"""Every instrument through the OTLP exporters, in the stock way and as bytes, to a real receiver, gRPC and HTTP, whose messages are decoded."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from otel_perf import MeterProvider
from otel_perf.exporters import otlp
from tests.peers.otlp import RECEIVERS, Receiver, attributes_of

DELTA: dict[type, AggregationTemporality] = dict.fromkeys(
    (sdk.Counter, sdk.UpDownCounter, sdk.Histogram, sdk.ObservableCounter, sdk.ObservableUpDownCounter),
    AggregationTemporality.DELTA,
)


@pytest.fixture(params=sorted(RECEIVERS))
def receiver(request: pytest.FixtureRequest) -> Iterator[tuple[str, Receiver]]:
    """A receiver of each protocol."""
    with RECEIVERS[request.param]() as found:
        yield request.param, found


@pytest.fixture(params=["stock", "bytes"])
def periodic(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes a reader that exports on request: the stock one, and ours."""
    make: Callable[..., Any] = PeriodicExportingMetricReader if request.param == "stock" else otlp.reader
    return lambda exporter: make(exporter, export_interval_millis=3_600_000)


@pytest.fixture
def connect(
    receiver: tuple[str, Receiver], periodic: Callable[..., Any], make_provider: Callable[..., MeterProvider]
) -> Callable[..., tuple[Any, MeterProvider, Receiver]]:
    """Makes a provider that exports to the receiver on request."""
    protocol, found = receiver

    def make(**kwargs: Any) -> tuple[Any, MeterProvider, Receiver]:
        exporter: Any
        if protocol == "grpc":
            exporter = GrpcExporter(endpoint=found.endpoint, insecure=True, timeout=10, **kwargs)
        else:
            exporter = HttpExporter(endpoint=f"{found.endpoint}/v1/metrics", timeout=10, **kwargs)
        provider = make_provider(periodic(exporter))
        return provider.get_meter("scope", "1.2", "https://schema", {"team": "a"}), provider, found

    return make


def test_every_instrument_arrives_with_type_value_and_temporality(connect: Any) -> None:
    """Sums, gauges and histograms arrive as such, integers as integers and floats as floats."""
    meter, provider, found = connect()
    meter.create_counter("int.count", "1", "counts").add(3, {"a": 1})
    meter.create_counter("float.count").add(0.5)
    meter.create_up_down_counter("level").add(-4)
    meter.create_gauge("temperature", "Cel").set(21.5)
    meter.create_histogram("latency", "s", explicit_bucket_boundaries_advisory=[0.1, 1.0]).record(0.1)
    meter.create_observable_counter("seen", [lambda _: [Observation(7)]])
    meter.create_observable_up_down_counter("balance", [lambda _: [Observation(-7)]])
    meter.create_observable_gauge("depth", [lambda _: [Observation(1.5, {"q": "x"})]])
    provider.force_flush()

    points = found.points()
    assert points["scope", "int.count", frozenset({("a", 1)})].as_int == 3
    assert points["scope", "float.count", frozenset()].as_double == 0.5
    assert points["scope", "level", frozenset()].as_int == -4
    assert points["scope", "temperature", frozenset()].as_double == 21.5
    assert points["scope", "seen", frozenset()].as_int == 7
    assert points["scope", "balance", frozenset()].as_int == -7
    assert points["scope", "depth", frozenset({("q", "x")})].as_double == 1.5
    histogram = points["scope", "latency", frozenset()]
    assert (list(histogram.explicit_bounds), list(histogram.bucket_counts)) == ([0.1, 1.0], [1, 0, 0])
    assert (histogram.count, histogram.sum, histogram.min, histogram.max) == (1, 0.1, 0.1, 0.1)
    cumulative = 2
    for name, monotonic in (("int.count", True), ("level", False), ("seen", True), ("balance", False)):
        assert found.metric(name).sum.is_monotonic is monotonic
        assert found.metric(name).sum.aggregation_temporality == cumulative
    assert (found.metric("int.count").unit, found.metric("int.count").description) == ("1", "counts")


def test_resource_and_scope_arrive(connect: Any) -> None:
    """The resource, and name, version, schema URL and attributes of the scope are those of the provider and the meter."""
    meter, provider, found = connect()
    meter.create_counter("c").add(1)
    provider.force_flush()

    resource = found.requests[-1].resource_metrics[0]
    scope = resource.scope_metrics[0]
    assert attributes_of(resource.resource)["service.name"] == "test"
    assert (scope.scope.name, scope.scope.version, scope.schema_url) == ("scope", "1.2", "https://schema")
    assert attributes_of(scope.scope) == {"team": "a"}


def test_attributes_of_all_types_arrive(connect: Any) -> None:
    """Strings, booleans, integers, floats, bytes and sequences keep their types."""
    meter, provider, found = connect()
    given = {"s": "é", "b": True, "i": 1, "f": 1.0, "x": b"\x00\xff", "l": ("a", "b"), "n": (1, 2)}
    meter.create_counter("c").add(1, given)
    provider.force_flush()

    (point,) = found.points().values()
    arrived = attributes_of(point)
    assert arrived == given
    assert {key: type(value) for key, value in arrived.items()} == {key: type(value) for key, value in given.items()}


def test_delta_counts_each_interval_once(connect: Any) -> None:
    """A delta exporter gets each recording in exactly one interval, and intervals that follow one another."""
    meter, provider, found = connect(preferred_temporality=DELTA)
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h", "s")
    for amount in (1, 2):
        counter.add(amount)
        histogram.record(amount / 10)
        provider.force_flush()
    provider.force_flush()

    first, second = found.points(0), found.points(1)
    assert [points["scope", "c", frozenset()].as_int for points in (first, second)] == [1, 2]
    # A delta is the difference of two sums, so it may differ from the sum of its recordings in the last digit.
    assert [points["scope", "h", frozenset()].sum for points in (first, second)] == pytest.approx([0.1, 0.2], rel=1e-12)
    assert [points["scope", "h", frozenset()].min for points in (first, second)] == [0.1, 0.2]
    earlier, later = first["scope", "c", frozenset()], second["scope", "c", frozenset()]
    assert earlier.start_time_unix_nano < earlier.time_unix_nano <= later.start_time_unix_nano < later.time_unix_nano
    assert len(found.requests) == 2, "an interval without recordings has no points"


def test_exponential_histograms_hold_every_recording_in_its_bucket(connect: Any) -> None:
    """Count, sum, minimum, maximum and zero count are exact, and each value lies in the bucket that its slot's middle lies in."""
    meter, provider, found = connect(
        preferred_aggregation={sdk.Histogram: ExponentialBucketHistogramAggregation(max_size=40)}
    )
    histogram = meter.create_histogram("h", "s")
    values = [0.0, 0.0, 0.001, 0.0025, 0.0025, 0.07, 1.3, 1.31, 9.75]
    for value in values:
        histogram.record(value)
    provider.force_flush()

    (point,) = found.points().values()
    assert (point.count, point.zero_count, point.min, point.max) == (9, 2, 0.0, 9.75)
    assert point.sum == pytest.approx(sum(values), rel=1e-12)
    assert len(point.positive.bucket_counts) <= 40
    assert sum(point.positive.bucket_counts) == 7
    base = 2.0 ** (2.0**-point.scale)
    for index, count in enumerate(point.positive.bucket_counts):
        low, high = base ** (point.positive.offset + index), base ** (point.positive.offset + index + 1)
        assert count == sum(low < value <= high for value in values)


def test_default_boundaries_are_the_sdks(connect: Any) -> None:
    """Without advice the buckets are the SDK's, and recordings on a boundary count below it."""
    meter, provider, found = connect()
    histogram = meter.create_histogram("h", "ms")
    bounds = [0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0]
    values = [*bounds, 3, 30, 11_000]
    for value in values:
        histogram.record(value)
    provider.force_flush()

    (point,) = found.points().values()
    expected = [0] * 16
    for value in values:
        expected[bisect.bisect_left(bounds, value)] += 1
    assert list(point.explicit_bounds) == bounds
    assert list(point.bucket_counts) == expected


def test_two_readers_each_get_everything(
    receiver: tuple[str, Receiver], connect: Any, periodic: Callable[..., Any]
) -> None:
    """A cumulative and a delta reader on one provider do not take anything from each other."""
    meter, provider, found = connect()
    kind = GrpcExporter if receiver[0] == "grpc" else HttpExporter
    endpoint = found.endpoint if receiver[0] == "grpc" else f"{found.endpoint}/v1/metrics"
    provider.add_metric_reader(periodic(kind(endpoint=endpoint, preferred_temporality=DELTA, timeout=10)))
    counter = meter.create_counter("c")
    for _ in range(3):
        counter.add(2)
        provider.force_flush()

    values = [request["scope", "c", frozenset()].as_int for request in map(found.points, range(6))]
    assert sorted(values) == [2, 2, 2, 2, 4, 6]


def test_shutdown_exports_what_was_not_exported_yet(connect: Any) -> None:
    """The last recordings leave when the provider is shut down."""
    meter, provider, found = connect()
    meter.create_counter("c").add(5)
    provider.shutdown()

    assert found.points()["scope", "c", frozenset()].as_int == 5
