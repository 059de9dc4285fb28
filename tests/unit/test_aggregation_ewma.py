"""Moving averages as a view of the stock SDK: rates of counters, means of values, at the collections' own pace."""

from __future__ import annotations

import gc
import math
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics._internal.view import _default_reservoir_factory
from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View

from otel_perf.metrics import EwmaAggregation, _averages, _quantiles
from tests.conformance.harness import TEMPORALITIES
from tests.unit.stock import Clock, Stock, metrics_of, stock_provider, values_of

TAU = 30.0
WEIGHT_OF_10_S = 1 - math.exp(-10 / TAU)
NO_ATTRIBUTES: frozenset[Any] = frozenset()


class Averaged:
    """An instrument of the stock SDK whose stream is a moving average.

    Args:
        stock: Makes the provider.
        clock: Clock of the average.
        create: Name of the meter's method.
        temporality: What the reader prefers.
    """

    def __init__(self, stock: Stock, clock: Clock, create: str, temporality: Any = None) -> None:
        self._clock = clock
        self.reader = InMemoryMetricReader(preferred_temporality=temporality)
        view = View(instrument_name="x", aggregation=EwmaAggregation(TAU, clock=clock))
        self.observed: list[Observation] = []
        callbacks: Any = [[self._callback]] if "observable" in create else []
        self.instrument: Any = getattr(stock([self.reader], [view]).get_meter("m"), create)("x", *callbacks)

    def _callback(self, _options: CallbackOptions) -> list[Observation]:
        return self.observed

    def after(self, seconds: float) -> Any:
        """Lets time pass and collects; the value of the only point, None if there is none."""
        self._clock.now += seconds
        values = values_of(self.reader, "x")
        assert set(values) <= {NO_ATTRIBUTES}
        return values.get(NO_ATTRIBUTES)


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
@pytest.mark.parametrize("create", ["create_counter", "create_up_down_counter"])
def test_a_counter_is_its_rate(create: str, temporality: Any, stock: Stock, clock: Clock) -> None:
    """The first interval's rate sets the average, further ones move it by the weight of the time that has really passed."""
    averaged = Averaged(stock, clock, create, temporality)
    averaged.instrument.add(10)
    averaged.instrument.add(20)
    assert averaged.after(10) == pytest.approx(3)
    averaged.instrument.add(60)
    expected = 3 + WEIGHT_OF_10_S * (6 - 3)
    assert averaged.after(10) == pytest.approx(expected)
    averaged.instrument.add(10)
    expected += (1 - math.exp(-100 / TAU)) * (0.1 - expected)
    assert averaged.after(100) == pytest.approx(expected)


def test_a_counter_that_is_idle_has_the_rate_zero(stock: Stock, clock: Clock) -> None:
    """Intervals without increments pull the rate towards zero, and the point stays."""
    averaged = Averaged(stock, clock, "create_counter")
    averaged.instrument.add(30)
    assert averaged.after(10) == pytest.approx(3)
    assert averaged.after(10) == pytest.approx(3 * math.exp(-10 / TAU))
    assert averaged.after(20) == pytest.approx(3 * math.exp(-30 / TAU))


def test_an_up_down_counter_may_fall(stock: Stock, clock: Clock) -> None:
    """The rate of a counter that falls is negative."""
    averaged = Averaged(stock, clock, "create_up_down_counter")
    averaged.instrument.add(-30)

    assert averaged.after(10) == pytest.approx(-3)


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
@pytest.mark.parametrize("create", ["create_observable_counter", "create_observable_up_down_counter"])
def test_an_observable_counter_is_the_rate_of_its_total(
    create: str, temporality: Any, stock: Stock, clock: Clock
) -> None:
    """The first total is where counting starts, the difference to the second sets the average; a total that is missing is waited for."""
    averaged = Averaged(stock, clock, create, temporality)
    averaged.observed = [Observation(1_000_000)]
    assert averaged.after(10) is None
    averaged.observed = [Observation(1_000_030)]
    assert averaged.after(10) == pytest.approx(3)
    averaged.observed = []
    assert averaged.after(5) == pytest.approx(3)
    averaged.observed = [Observation(1_000_090)]
    assert averaged.after(5) == pytest.approx(3 + WEIGHT_OF_10_S * (6 - 3))


def test_totals_that_a_view_makes_one_are_added(stock: Stock, reader: InMemoryMetricReader, clock: Clock) -> None:
    """Without their attributes the totals of one collection are one total."""
    view = View(instrument_name="x", attribute_keys=set(), aggregation=EwmaAggregation(clock=clock))
    totals = [100, 200]
    stock([reader], [view]).get_meter("m").create_observable_counter(
        "x", [lambda _: [Observation(total, {"a": total}) for total in totals]]
    )
    assert metrics_of(reader) == {}
    totals[:] = [110, 220]
    clock.now += 10

    assert values_of(reader, "x") == {NO_ATTRIBUTES: pytest.approx(3)}


@pytest.mark.parametrize(
    ("create", "rate"), [("create_observable_counter", 0.5), ("create_observable_up_down_counter", -9.5)]
)
def test_a_total_that_falls(create: str, rate: float, stock: Stock, clock: Clock) -> None:
    """A smaller total of a counter has begun again at zero, that of an up-down counter is a fall."""
    averaged = Averaged(stock, clock, create)
    averaged.observed = [Observation(100)]
    averaged.after(10)
    averaged.observed = [Observation(5)]

    assert averaged.after(10) == pytest.approx(rate)


@pytest.mark.parametrize("temporality", TEMPORALITIES.values(), ids=TEMPORALITIES)
@pytest.mark.parametrize(("create", "method"), [("create_histogram", "record"), ("create_gauge", "set")])
def test_recorded_values_are_averaged(create: str, method: str, temporality: Any, stock: Stock, clock: Clock) -> None:
    """Histograms and gauges are the average of the means of their intervals."""
    averaged = Averaged(stock, clock, create, temporality)
    record = getattr(averaged.instrument, method)
    for value in (1, 2, 6):
        record(value)
    assert averaged.after(10) == pytest.approx(3)
    for value in (5, 7):
        record(value)
    assert averaged.after(10) == pytest.approx(3 + WEIGHT_OF_10_S * (6 - 3))


def test_an_interval_without_values_leaves_a_mean_as_it_is(stock: Stock, clock: Clock) -> None:
    """The point stays with its value, and the idle time gives the next value no weight."""
    averaged = Averaged(stock, clock, "create_histogram")
    averaged.instrument.record(3)
    assert averaged.after(10) == 3
    assert averaged.after(1000) == 3
    averaged.instrument.record(6)
    assert averaged.after(10) == pytest.approx(3 + WEIGHT_OF_10_S * 3)


def test_an_observable_gauge_is_averaged(stock: Stock, clock: Clock) -> None:
    """The first observation is the average at once, later ones move it, and what is not observed leaves it."""
    averaged = Averaged(stock, clock, "create_observable_gauge")
    averaged.observed = [Observation(-3)]
    assert averaged.after(0) == -3
    averaged.observed = [Observation(3)]
    assert averaged.after(10) == pytest.approx(-3 + WEIGHT_OF_10_S * 6)
    averaged.observed = []
    assert averaged.after(10) == pytest.approx(-3 + WEIGHT_OF_10_S * 6)


@pytest.mark.parametrize("step", [0, -5])
def test_a_clock_that_stands_still_changes_nothing(step: float, stock: Stock, clock: Clock) -> None:
    """If no time has passed, or less than none, averages stay, and what was recorded counts when time has passed."""
    rate, mean, total = (
        Averaged(stock, clock, create) for create in ("create_counter", "create_histogram", "create_observable_counter")
    )
    rate.instrument.add(30)
    assert rate.after(0) is None
    total.observed = [Observation(100)]
    assert total.after(0) is None
    clock.now += 10
    mean.instrument.record(3)
    total.observed = [Observation(130)]
    assert [averaged.after(0) for averaged in (rate, mean, total)] == [3, 3, 3]
    rate.instrument.add(60)
    mean.instrument.record(6)
    total.observed = [Observation(150)]
    clock.now += step
    assert [averaged.after(0) for averaged in (rate, mean, total)] == [3, 3, 3]
    total.observed = [Observation(190)]
    clock.now += 10 - step
    expected = pytest.approx(3 + WEIGHT_OF_10_S * 3)

    assert [averaged.after(0) for averaged in (rate, mean, total)] == [expected] * 3


def test_the_point_is_a_gauge_of_floats_with_exemplars(
    stock: Stock, reader: InMemoryMetricReader, clock: Clock
) -> None:
    """Attributes are those the view keeps, the value is a float, the unit the instrument's, and exemplars are as the SDK's."""
    view = View(instrument_name="x", name="rate", attribute_keys={"a"}, aggregation=EwmaAggregation(clock=clock))
    provider = stock([reader], [view], exemplar_filter=sdk.AlwaysOnExemplarFilter())
    provider.get_meter("m").create_counter("x", "By").add(20, {"a": 1, "b": 2})
    clock.now += 10
    metric = metrics_of(reader)["rate"]
    (point,) = metric.data.data_points

    assert isinstance(metric.data, Gauge)
    assert metric.unit == "By"
    assert (type(point.value), point.value, point.attributes, point.start_time_unix_nano) == (float, 2, {"a": 1}, None)
    assert [(exemplar.value, exemplar.filtered_attributes) for exemplar in point.exemplars] == [(20, {"b": 2})]


def test_every_reader_has_its_own_average(stock: Stock, clock: Clock) -> None:
    """Readers that collect at different times have the rates of their own intervals."""
    readers = [InMemoryMetricReader() for _ in range(2)]
    view = View(instrument_name="x", aggregation=EwmaAggregation(TAU, clock=clock))
    counter = stock(readers, [view]).get_meter("m").create_counter("x")
    counter.add(20)
    clock.now += 10
    assert values_of(readers[0], "x") == {NO_ATTRIBUTES: 2}
    clock.now += 10

    assert values_of(readers[1], "x") == {NO_ATTRIBUTES: 1}


class Released:
    """An SDK that lets go of the streams of synchronous instruments after each delta collection, as from 1.45.2 on.

    Args:
        clock: Clock of the average.
    """

    def __init__(self, clock: Clock) -> None:
        self.provider = stock_provider([], [])
        self.counter: Any = self.provider.get_meter("m").create_counter("x")
        self.aggregation = EwmaAggregation(TAU, clock=clock)

    def stream(self, attributes: dict[str, Any]) -> Any:
        """A stream of an attribute set."""
        return self.aggregation._create_aggregation(self.counter, attributes, _default_reservoir_factory, 0)

    def entries(self) -> Any:
        """What is kept of streams that are gone or may go."""
        return self.aggregation._released._entries.get(self.counter, {})


def test_an_average_outlives_its_stream(clock: Clock) -> None:
    """The next stream of the same series goes on with the average; the time between counts as idle."""
    sdk_of_today = Released(clock)
    stream, other = sdk_of_today.stream({"a": 1}), sdk_of_today.stream({"a": 1})
    for made, value in ((stream, 30), (other, 60)):
        made.average.add(value)
    clock.now += 10
    assert [made.collect(AggregationTemporality.DELTA, 0).value for made in (stream, other)] == [3, 6]
    assert sdk_of_today.stream({"a": 1}).average.value is None
    del stream, made
    gc.collect()
    assert sdk_of_today.stream({"a": 1.0}).average.value is None
    again = sdk_of_today.stream({"a": 1})
    clock.now += 10

    assert again.collect(AggregationTemporality.DELTA, 0).value == pytest.approx(3 * math.exp(-10 / TAU))
    assert other.collect(AggregationTemporality.CUMULATIVE, 0).value == pytest.approx(6 * math.exp(-10 / TAU))
    sdk_of_today.provider.shutdown()


def test_averages_of_lost_series_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Averages whose series do not come back are dropped after ten time constants, those in use and the younger ones stay."""
    monkeypatch.setattr(_averages, "_SWEEP_AT", 10)
    sdk_of_today = Released(clock)
    in_use = sdk_of_today.stream({"a": "in use"})
    in_use.average.add(1)
    clock.now += 1
    in_use.collect(AggregationTemporality.DELTA, 0)
    for number in range(100):
        stream = sdk_of_today.stream({"a": number})
        clock.now += 10 * TAU / 20
        stream.collect(AggregationTemporality.DELTA, 0)
        del stream

    assert len(sdk_of_today.entries()) <= 2 * (20 + 2)
    assert sdk_of_today.stream({"a": 99}).average.value == 0
    assert _quantiles.series_key({"a": 99}) not in sdk_of_today.entries()
    assert any(stream() is in_use for entries in sdk_of_today.entries().values() for stream, _ in entries)
    sdk_of_today.provider.shutdown()


def test_cumulative_streams_leave_nothing(clock: Clock) -> None:
    """With cumulative temporality nothing is kept for later streams, because there are none."""
    sdk_of_today = Released(clock)
    stream = sdk_of_today.stream({})
    stream.collect(AggregationTemporality.CUMULATIVE, 0)

    assert dict(sdk_of_today.entries()) == {}
    sdk_of_today.provider.shutdown()
