"""Moving averages on our provider, against the same views on the stock SDK's.

Time cannot be set in the core. A time constant that is tiny makes the average that of the last interval, a huge one that of the first,
and rates are told from the times around the calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import Aggregation, View

from otel_perf import MeterProvider
from otel_perf.metrics import EwmaAggregation
from tests.conformance.harness import DELTA, TEMPORALITIES, Temporality
from tests.conformance.spans import ON
from tests.unit.instrumented import KINDS, Instrumented
from tests.unit.stock import Clock, Stock, metrics_of, values_of

Make = Callable[..., MeterProvider]
FORGETFUL, STUBBORN = 1e-12, 1e12
NO_ATTRIBUTES: frozenset[Any] = frozenset()
OBSERVABLE_TYPES: dict[str, type] = {
    "create_observable_counter": sdk.ObservableCounter,
    "create_observable_up_down_counter": sdk.ObservableUpDownCounter,
    "create_observable_gauge": sdk.ObservableGauge,
}
MEANS = ["Histogram", "Gauge"]
RATES = ["Counter", "UpDownCounter"]


def until_time_goes_on() -> None:
    """Waits for the clock's next tick, so that an interval has a length."""
    before = time.monotonic_ns()
    while time.monotonic_ns() <= before:
        pass


def averaged(reader: InMemoryMetricReader) -> Any:
    """The average of the series without attributes, None if it has no point."""
    until_time_goes_on()
    return values_of(reader, "i").get(NO_ATTRIBUTES)


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
@pytest.mark.parametrize("tau", [FORGETFUL, STUBBORN])
@pytest.mark.parametrize("kind", MEANS)
def test_means_are_those_of_the_stock_provider(
    kind: str, tau: float, temporality: Temporality, make_provider: Make, stock: Stock, clock: Clock
) -> None:
    """The mean of the first or of the last interval, which an idle interval leaves as it is, on both sides."""
    found: dict[str, list[Any]] = {}
    for side in ("ours", "stock"):
        reader = InMemoryMetricReader(preferred_temporality=temporality)
        view = View(instrument_name="i", aggregation=EwmaAggregation(tau, clock=clock))
        provider = make_provider(reader, views=[view]) if side == "ours" else stock([reader], [view])
        instrument = Instrumented(provider, reader, kind)
        found[side] = []
        for amounts in ((1, 2, 6), (5, 7), (0.5,)):
            for amount in amounts:
                instrument.record(amount)
            clock.now += 10
            found[side].append(averaged(reader))

    assert found["ours"] == pytest.approx(found["stock"])
    assert found["ours"] == pytest.approx([3, 6, 0.5] if tau == FORGETFUL else [3, 3, 3])


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
@pytest.mark.parametrize("kind", MEANS)
def test_an_idle_interval_leaves_a_mean_and_its_point(kind: str, temporality: Temporality, make_provider: Make) -> None:
    """There is a point at every collection, also with delta temporality, with the mean of the last interval that had values."""
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    view = View(instrument_name="i", aggregation=EwmaAggregation(FORGETFUL))
    instrument = Instrumented(make_provider(reader, views=[view]), reader, kind)
    instrument.record(3)
    assert [averaged(reader) for _ in range(3)] == [3, 3, 3]
    instrument.record(7)
    assert averaged(reader) == 7


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
@pytest.mark.parametrize("kind", RATES)
def test_rates_are_of_real_seconds(kind: str, temporality: Temporality, make_provider: Make) -> None:
    """A counter's rate is what was added divided by the time since the collection before, and zero of an idle interval."""
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    view = View(instrument_name="i", aggregation=EwmaAggregation(FORGETFUL))
    instrument = Instrumented(make_provider(reader, views=[view]), reader, kind)
    instrument.record(1)
    averaged(reader)
    begin = time.monotonic()
    averaged(reader)
    middle = time.monotonic()
    instrument.record(30)
    end = time.monotonic()
    rate = averaged(reader)
    late = time.monotonic()

    assert 30 / (late - begin) <= rate <= 30 / max(end - middle, 1e-9)
    assert averaged(reader) == 0


def test_the_first_rate_is_since_the_first_recording(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """The first interval of a series begins with its first recording, and sets the average whatever the time constant."""
    view = View(instrument_name="i", aggregation=EwmaAggregation(STUBBORN))
    instrument = Instrumented(make_provider(reader, views=[view]), reader, "Counter")
    begin = time.time()
    instrument.record(30)
    begun = time.time()
    until_time_goes_on()
    collecting = time.time()
    rate = averaged(reader)
    collected = time.time()

    # The series keeps its begin on a clock of milliseconds.
    assert 30 / (collected - begin + 0.1) <= rate
    assert collecting - begun < 0.1 or rate <= 30 / (collecting - begun - 0.1)
    assert averaged(reader) == pytest.approx(rate)


def test_an_up_down_counter_falls(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """The rate of what is taken away is negative."""
    view = View(instrument_name="i", aggregation=EwmaAggregation(FORGETFUL))
    instrument = Instrumented(make_provider(reader, views=[view]), reader, "UpDownCounter")
    instrument.record(5)
    averaged(reader)
    instrument.record(-5)

    assert averaged(reader) < 0


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
@pytest.mark.parametrize("create", ["create_observable_counter", "create_observable_up_down_counter"])
def test_observed_totals_are_rates(create: str, temporality: Temporality, make_provider: Make) -> None:
    """The first total is where counting starts; the next ones are rates; what is not reported is waited for, with its point."""
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    observed = [Observation(1_000_000)]
    view = View(instrument_name="i", aggregation=EwmaAggregation(FORGETFUL))
    getattr(make_provider(reader, views=[view]).get_meter("m"), create)("i", [lambda _: list(observed)])
    assert averaged(reader) is None
    observed[:] = [Observation(1_000_030)]
    begin = time.monotonic()
    rate = averaged(reader)
    assert rate > 0
    observed[:] = []
    assert averaged(reader) is not None
    observed[:] = [Observation(1_000_090)]
    again = averaged(reader)
    assert 60 / (time.monotonic() - begin) <= again


@pytest.mark.parametrize(
    ("create", "sign"), [("create_observable_counter", 1), ("create_observable_up_down_counter", -1)]
)
def test_a_total_that_falls(create: str, sign: int, make_provider: Make, reader: InMemoryMetricReader) -> None:
    """A smaller total of a counter has begun again at zero, that of an up-down counter is a fall."""
    observed = [Observation(100)]
    view = View(instrument_name="i", aggregation=EwmaAggregation(FORGETFUL))
    getattr(make_provider(reader, views=[view]).get_meter("m"), create)("i", [lambda _: list(observed)])
    averaged(reader)
    observed[:] = [Observation(5)]

    assert averaged(reader) * sign > 0


def test_totals_that_a_view_makes_one_are_added(make_provider: Make, reader: InMemoryMetricReader) -> None:
    """Without their attributes the totals of one collection are one total: what goes from one to the other is no change."""
    totals = [100, 200]
    view = View(instrument_name="i", attribute_keys=set(), aggregation=EwmaAggregation(FORGETFUL))
    make_provider(reader, views=[view]).get_meter("m").create_observable_counter(
        "i", [lambda _: [Observation(total, {"number": number}) for number, total in enumerate(totals)]]
    )
    assert averaged(reader) is None
    totals[:] = [180, 120]
    assert averaged(reader) == 0
    totals[:] = [180, 180]
    assert averaged(reader) > 0


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
def test_an_observed_gauge_is_a_mean(temporality: Temporality, make_provider: Make) -> None:
    """The first observation is the average at once, and what is not observed leaves it."""
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    observed = [Observation(-3)]
    view = View(instrument_name="i", aggregation=EwmaAggregation(FORGETFUL))
    make_provider(reader, views=[view]).get_meter("m").create_observable_gauge("i", [lambda _: list(observed)])
    assert averaged(reader) == -3
    observed[:] = [Observation(5), Observation(7)]
    assert averaged(reader) == 6
    observed[:] = []
    assert averaged(reader) == 6


@pytest.mark.parametrize("by", ["view", "reader"])
@pytest.mark.parametrize("create", OBSERVABLE_TYPES)
def test_observables_may_be_averaged_by_view_and_by_reader(create: str, by: str, make_provider: Make) -> None:
    """Whoever asks for the average of an observable instrument gets a gauge of floats."""
    aggregation = EwmaAggregation(FORGETFUL)
    preferred: dict[type, Aggregation] = {OBSERVABLE_TYPES[create]: aggregation} if by == "reader" else {}
    reader = InMemoryMetricReader(preferred_aggregation=preferred)
    views = [View(instrument_name="i", aggregation=aggregation)] if by == "view" else []
    getattr(make_provider(reader, views=views).get_meter("m"), create)("i", [lambda _: [Observation(5)]])
    averaged(reader)
    until_time_goes_on()
    metric = metrics_of(reader)["i"]
    (point,) = metric.data.data_points

    assert type(metric.data) is Gauge
    assert (type(point.value), point.value) == (float, 5 if create.endswith("gauge") else 0)


@pytest.mark.parametrize("by", ["view", "reader"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_point_is_a_gauge_of_floats(kind: str, by: str, make_provider: Make) -> None:
    """Attributes are those the view keeps, the value is a float, there is no start and, unlike with the stock provider, no exemplar."""
    types: dict[str, type] = {"Gauge": sdk._Gauge, "Counter": sdk.Counter, "UpDownCounter": sdk.UpDownCounter}
    aggregation = EwmaAggregation()
    preferred: dict[type, Aggregation] = {types.get(kind, sdk.Histogram): aggregation} if by == "reader" else {}
    reader = InMemoryMetricReader(preferred_temporality=DELTA, preferred_aggregation=preferred)
    view = View(instrument_name="i", name="i", attribute_keys={"a"}, aggregation=aggregation if by == "view" else None)
    instrument = Instrumented(make_provider(reader, views=[view], **ON), reader, kind)
    instrument.record(20, {"a": 1, "b": 2})
    until_time_goes_on()
    metric = metrics_of(reader)["i"]
    (point,) = metric.data.data_points

    assert type(metric.data) is Gauge
    assert (type(point.value), dict(point.attributes), point.start_time_unix_nano) == (float, {"a": 1}, None)
    assert point.exemplars == []


def test_an_average_beside_the_stream(make_provider: Make) -> None:
    """A rate under another name leaves the counter as it is, for a delta reader as well."""
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    views = [View(instrument_name="i"), View(instrument_name="i", name="rate", aggregation=EwmaAggregation())]
    instrument = Instrumented(make_provider(reader, views=views), reader, "Counter")
    for amount in (3, 4):
        instrument.record(amount)
        until_time_goes_on()
        found: dict[str, Any] = metrics_of(reader)
        assert found["i"].data.data_points[0].value == amount
        assert found["i"].data.aggregation_temporality is AggregationTemporality.DELTA
        assert found["rate"].data.data_points[0].value > 0


def test_every_reader_has_its_own_average(make_provider: Make) -> None:
    """Readers that collect at different times have the means of their own intervals."""
    readers = [InMemoryMetricReader() for _ in range(2)]
    view = View(instrument_name="i", aggregation=EwmaAggregation(FORGETFUL))
    instrument = Instrumented(make_provider(*readers, views=[view]), readers[0], "Histogram")
    instrument.record(2)
    assert averaged(readers[0]) == 2
    instrument.record(4)

    assert averaged(readers[0]) == 4
    assert averaged(readers[1]) == 3


@pytest.mark.parametrize("kind", MEANS)
def test_the_overflow_series_is_averaged(kind: str, make_provider: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds no series is averaged in the overflow series."""
    monkeypatch.setenv("OTEL_PERF_CARDINALITY_LIMIT", "1")
    reader = InMemoryMetricReader()
    view = View(instrument_name="i", aggregation=EwmaAggregation(FORGETFUL))
    instrument = Instrumented(make_provider(reader, views=[view]), reader, kind)
    for number in range(1, 6):
        instrument.record(number, {"a": number})
    until_time_goes_on()

    assert values_of(reader, "i") == {
        frozenset({("a", 1)}): 1.0,
        frozenset({("otel.metric.overflow", True)}): 3.5,
    }
