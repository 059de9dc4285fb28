//! What a histogram of the segment answers at each precision step is what the same values answer outside of it.

mod fixture;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use fixture::{private_segment, Instrument, Random};
use otel_perf_core::distribution::Distribution;
use otel_perf_core::hdr::{Level, MAX_VALUE};
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::{header, LINE};
use otel_perf_core::local::LocalSeries;
use otel_perf_core::pool::{Pool, Use};
use otel_perf_core::segment::Segment;
use proptest::prelude::*;

/// A segment with so many histograms that the reserves of the steps lie far apart, and a series to record into.
fn crowded() -> (Arc<Segment>, Instrument, Arc<LocalSeries>) {
    let segment = private_segment(4 << 20);
    let histogram = histogram_of(&segment);
    (0..1_000).for_each(|number| drop(histogram.series(&format!("idle {number}"))));
    let series = histogram.series("one");
    // As after many pages without a new histogram.
    segment.region().u32(header::ARRIVALS).unwrap().store(0, Relaxed);
    (segment, histogram, series)
}

/// Records each value while pages of `level` may be allocated, but none of a finer step.
fn record_at(segment: &Segment, series: &LocalSeries, level: Level, values: &[i64]) {
    for value in values {
        // Each page changes the reserves.
        leave_room_for(segment, level);
        series.record(Number::Int(*value));
    }
}

/// Takes lines out of the pool until no page of a finer step than `level` may be allocated, but pages of `level` may.
fn leave_room_for(segment: &Segment, level: Level) {
    let pool = Pool::new(segment.region(), segment.geometry());
    let finer = match level {
        Level::Two => Level::Three,
        Level::OneHalf => Level::Two,
        Level::Three | Level::Octave => return,
    };
    while pool.free() > pool.reserve(finer) {
        pool.take(1, 0, Use::Attributes).unwrap();
    }
    assert!(
        pool.free() > pool.reserve(level) + 50,
        "the step {level:?} needs some room"
    );
}

fn step() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Three), Just(Level::Two), Just(Level::OneHalf)]
}

/// Values over the whole range, small and large ones equally often.
fn values() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(
        (any::<u64>(), 15..64_u32).prop_map(|(bits, shift)| (bits >> shift) as i64),
        1..300,
    )
}

/// Checks what must hold whatever steps are in use, and answers the sum over all slots.
fn check_exact_parts(found: &Distribution, values: &[i64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.count(), values.len() as u64);
    prop_assert_eq!(
        found.slots().iter().map(|(_, count)| count).sum::<u64>(),
        values.len() as u64
    );
    prop_assert_eq!(found.sum(), Number::Int(values.iter().sum()));
    prop_assert_eq!(found.min(), *values.iter().min().unwrap() as f64);
    prop_assert_eq!(found.max(), *values.iter().max().unwrap() as f64);
    Ok(())
}

fn histogram_of(segment: &Arc<Segment>) -> Instrument {
    Instrument::new(segment, Kind::Histogram, "size", "By")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn at_one_step_the_slots_are_those_of_the_values_at_that_step(values in values(), level in step()) {
        let (segment, histogram, series) = crowded();
        record_at(&segment, &series, level, &values);
        let found = histogram.distribution("one");
        let floats = || values.iter().map(|value| *value as f64);
        let expected = Distribution::of(floats(), "By", level);
        prop_assert_eq!(found.slots(), expected.slots());
        prop_assert_eq!(found.coarsest(), level);
        let fine = Distribution::of(floats(), "By", Level::Three).coarsened(level);
        prop_assert_eq!(found.slots(), fine.slots());
        let wanted = [0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 100.0];
        prop_assert_eq!(found.percentiles(&wanted), expected.percentiles(&wanted));
        check_exact_parts(&found, &values)?;
    }

    #[test]
    fn a_series_that_goes_down_the_ladder_keeps_every_recording(
        first in values(), second in values(), third in values(),
    ) {
        let (segment, histogram, series) = crowded();
        let mut all = Vec::new();
        for (values, level) in [(first, Level::Three), (second, Level::Two), (third, Level::OneHalf)] {
            record_at(&segment, &series, level, &values);
            all.extend(values);
            let found = histogram.distribution("one");
            check_exact_parts(&found, &all)?;
            // Whole slots merge, so that the mixture is exact once it is brought to the coarsest step.
            let expected = Distribution::of(all.iter().map(|value| *value as f64), "By", Level::OneHalf);
            let coarse = found.coarsened(Level::OneHalf);
            prop_assert_eq!(coarse.slots(), expected.slots());
        }
    }

    #[test]
    fn in_a_small_segment_series_and_overflow_series_hold_all_recordings(seed in any::<u64>()) {
        let segment = private_segment(128 << 10);
        let histogram = histogram_of(&segment);
        let mut random = Random(seed);
        let series: Vec<_> = (0..=random.below(60)).map(|number| histogram.series(&format!("{number}"))).collect();
        let (mut count, mut sum) = (0, 0);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for _ in 0..2_000 {
            let value = (random.next() >> (15 + random.below(49))) as i64;
            series[random.below(series.len())].record(Number::Int(value));
            (count, sum) = (count + 1, sum + value);
            (min, max) = (min.min(value as f64), max.max(value as f64));
        }
        let all = histogram.distributions().into_values().reduce(|a, b| a.merge(&b).unwrap()).unwrap();
        prop_assert_eq!((all.count(), all.sum()), (count, Number::Int(sum)));
        prop_assert_eq!((all.min(), all.max()), (min, max));
    }
}

#[test]
fn percentiles_of_a_mixture_are_within_one_slot_of_the_coarsest_step() {
    let (segment, histogram, series) = crowded();
    let mut random = Random(7);
    let mut values = Vec::new();
    for level in [Level::Three, Level::Two, Level::OneHalf] {
        // Each third of the values reaches further up, so that every step gets octaves and pages of its own.
        let median = 20e6 * (1.0 + level as u32 as f64);
        let third: Vec<i64> = (0..3_000).map(|_| random.lognormal(median, 1.0) as i64).collect();
        record_at(&segment, &series, level, &third);
        values.extend(third);
    }
    let found = histogram.distribution("one");
    let steps: std::collections::BTreeSet<_> = found.slots().iter().map(|(slot, _)| slot.level).collect();
    assert!(steps.len() > 1, "{steps:?}");
    values.sort_unstable();
    for percentile in [1.0, 10.0, 50.0, 90.0, 99.0, 99.9] {
        let exact = values[((percentile / 100.0 * values.len() as f64 + 0.5) as usize).max(1) - 1] as f64;
        let answered = found.percentiles(&[percentile])[0];
        // A slot of the coarsest step is at most 3.2 % wide; slots of different steps overlap, so it may err to either side.
        assert!(
            (answered / exact - 1.0).abs() <= 0.033,
            "p{percentile}: {answered} instead of {exact}"
        );
    }
}

#[test]
fn values_beyond_the_range_are_counted_in_the_last_slot_with_exact_sum_and_maximum() {
    let segment = private_segment(1 << 20);
    let histogram = histogram_of(&segment);
    let series = histogram.series("one");
    for value in [MAX_VALUE as f64, 1e18, 1e300] {
        series.record(Number::Float(value));
    }
    let found = histogram.distribution("one");
    assert_eq!(found.slots().len(), 1);
    assert_eq!(found.slots()[0].0.highest(), MAX_VALUE);
    assert_eq!((found.count(), found.max()), (3, 1e300));
    assert_eq!(found.sum(), Number::Float(MAX_VALUE as f64 + 1e18 + 1e300));
}

#[test]
fn a_new_histogram_of_an_empty_segment_gets_three_digits() {
    let segment = private_segment(1 << 20);
    let histogram = histogram_of(&segment);
    histogram.series("one").record(Number::Int(1_234_567));
    assert_eq!(histogram.distribution("one").coarsest(), Level::Three);
    let pool = Pool::new(segment.region(), segment.geometry());
    assert!(pool.free() as usize * LINE < 1 << 20);
}
