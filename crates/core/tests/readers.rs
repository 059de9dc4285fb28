//! Readers with delta and cumulative temporality each see every recording exactly once, whatever their rhythm.

mod fixture;

use std::collections::HashMap;
use std::sync::Arc;

use fixture::{private_segment, Instrument};
use otel_perf_core::distribution::Distribution;
use otel_perf_core::hdr::{Level, Slot};
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::reader::{Point, Preferences, Readers, Temporality, Value};
use otel_perf_core::tables::SeriesId;
use proptest::prelude::*;

fn wants(temporality: Temporality) -> Arc<Preferences> {
    Arc::new(Preferences::of(temporality))
}

/// Number of the reader with cumulative temporality; the others have delta.
const SINCE_START: u64 = 0;

#[derive(Clone, Debug)]
enum Step {
    /// Adds to the counter and records into the histogram of a series.
    Record(usize, i64),
    /// Lets a reader collect.
    Collect(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize, any::<u64>(), 15..64_u32)
            .prop_map(|(series, bits, shift)| Step::Record(series, (bits >> shift) as i64)),
        1 => (0..4_u64).prop_map(Step::Collect),
    ];
    prop::collection::vec(step, 0..200)
}

/// What a delta reader got of one series over all its collections.
#[derive(Default)]
struct Total {
    number: i64,
    slots: HashMap<Slot, u64>,
    sum: f64,
}

fn distribution_of(point: &Point) -> Option<&Distribution> {
    match &point.value {
        Value::Distribution(distribution) => Some(distribution),
        Value::Number(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn deltas_of_every_reader_add_up_to_the_cumulative_points(steps in steps()) {
        let segment = private_segment(1 << 20);
        let counter = Instrument::new(&segment, Kind::Counter, "counter", "By");
        let histogram = Instrument::new(&segment, Kind::Histogram, "histogram", "By");
        let series: Vec<_> = (0..3)
            .map(|number| (counter.series(&format!("{number}")), histogram.series(&format!("{number}"))))
            .collect();
        let mut readers = Readers::default();
        readers.add(SINCE_START, wants(Temporality::Cumulative));
        (1..4).for_each(|reader| readers.add(reader, wants(Temporality::Delta)));
        let mut totals: HashMap<(u64, SeriesId), Total> = HashMap::new();
        // What was recorded since a reader's last collection, by reader and series.
        let mut pending: HashMap<(u64, SeriesId), Vec<i64>> = HashMap::new();
        let mut all: HashMap<SeriesId, Vec<i64>> = HashMap::new();
        // At the end everyone collects, so that all is seen.
        for step in steps.into_iter().chain((0..4).map(Step::Collect)) {
            let reader = match step {
                Step::Record(number, value) => {
                    let (counter, histogram) = &series[number];
                    counter.add(Number::Int(value));
                    histogram.record(Number::Int(value));
                    for id in [counter.id(), histogram.id()] {
                        all.entry(id).or_default().push(value);
                        (0..4).for_each(|reader| pending.entry((reader, id)).or_default().push(value));
                    }
                    continue;
                }
                Step::Collect(reader) => reader,
            };
            let points = readers.collect(&segment, reader, 0);
            for point in &points {
                let recent = pending.remove(&(reader, point.series)).unwrap_or_default();
                let values = if reader == SINCE_START { &all[&point.series] } else { &recent };
                let total = totals.entry((reader, point.series)).or_default();
                match &point.value {
                    Value::Number(number) => {
                        prop_assert_eq!(*number, Number::Int(values.iter().sum()));
                        total.number += values.iter().sum::<i64>();
                    }
                    Value::Distribution(found) => {
                        let expected = Distribution::of(values.iter().map(|value| *value as f64), "By", Level::Three);
                        prop_assert_eq!(found.slots(), expected.slots());
                        prop_assert_eq!(found.count(), values.len() as u64);
                        prop_assert_eq!(found.sum(), Number::Int(values.iter().sum()));
                        prop_assert_eq!((found.min(), found.max()), (expected.min(), expected.max()));
                        found.slots().iter().for_each(|(slot, n)| *total.slots.entry(*slot).or_default() += n);
                        total.sum += found.sum().as_f64();
                    }
                }
            }
            // Series without a point had nothing new, or only zeros on the counter.
            let missed = pending.iter().filter(|((of, _), values)| *of == reader && values.iter().any(|n| *n != 0));
            prop_assert_eq!(missed.count(), 0);
            pending.retain(|(of, _), _| *of != reader);
        }
        for ((reader, id), total) in totals.iter().filter(|((reader, _), _)| *reader != SINCE_START) {
            let values = &all[id];
            let slots: u64 = total.slots.values().sum();
            if slots > 0 {
                prop_assert_eq!(slots, values.len() as u64, "reader {}", reader);
                let expected = Distribution::of(values.iter().map(|value| *value as f64), "By", Level::Three);
                prop_assert_eq!(&total.slots, &expected.slots().iter().copied().collect());
            } else {
                prop_assert_eq!(total.number, values.iter().sum::<i64>(), "reader {}", reader);
            }
        }
    }
}

#[test]
fn a_delta_reader_added_later_gets_minimum_and_maximum_of_all_that_its_first_interval_counts() {
    let segment = private_segment(1 << 20);
    let histogram = Instrument::new(&segment, Kind::Histogram, "histogram", "By");
    let series = histogram.series("one");
    let mut readers = Readers::default();
    readers.add(1, wants(Temporality::Delta));
    series.record(Number::Int(1));
    series.record(Number::Int(1000));
    readers.collect(&segment, 1, 0);
    readers.add(2, wants(Temporality::Delta));
    series.record(Number::Int(50));
    let points = readers.collect(&segment, 2, 0);
    let found = distribution_of(&points[0]).unwrap();
    assert_eq!(found.count(), 3);
    assert_eq!((found.min(), found.max()), (1.0, 1000.0));
}

#[test]
fn a_delta_reader_gets_no_point_for_a_series_without_news() {
    let segment = private_segment(1 << 20);
    let counter = Instrument::new(&segment, Kind::Counter, "counter", "{item}");
    let histogram = Instrument::new(&segment, Kind::Histogram, "histogram", "By");
    let gauge = Instrument::new(&segment, Kind::Gauge, "gauge", "By");
    counter.series("one").add(Number::Int(1));
    histogram.series("one").record(Number::Int(1));
    gauge.series("one").set(Number::Int(1));
    let mut readers = Readers::default();
    readers.add(1, wants(Temporality::Delta));
    assert_eq!(readers.collect(&segment, 1, 0).len(), 3);
    assert!(readers.collect(&segment, 1, 0).is_empty());
}

#[test]
fn intervals_of_a_delta_reader_follow_each_other_without_gap() {
    let segment = private_segment(1 << 20);
    let counter = Instrument::new(&segment, Kind::Counter, "counter", "{item}");
    let series = counter.series("one");
    let mut readers = Readers::default();
    readers.add(1, wants(Temporality::Delta));
    let mut starts = Vec::new();
    for _ in 0..3 {
        series.add(Number::Int(1));
        starts.push(readers.collect(&segment, 1, 0)[0].start_unix_ns);
    }
    let series_start = segment.tables().read_series(series.id()).unwrap().start_unix_ns;
    assert_eq!(starts[0], series_start);
    assert!(starts.windows(2).all(|pair| pair[0] < pair[1]), "{starts:?}");
}

#[test]
fn a_counter_of_integers_that_gets_a_float_goes_on_without_a_jump() {
    let segment = private_segment(1 << 20);
    let counter = Instrument::new(&segment, Kind::Counter, "counter", "{item}");
    let series = counter.series("one");
    let mut readers = Readers::default();
    readers.add(SINCE_START, wants(Temporality::Cumulative));
    readers.add(1, wants(Temporality::Delta));
    let mut number = |reader| match readers.collect(&segment, reader, 0).pop().unwrap().value {
        Value::Number(number) => number,
        Value::Distribution(_) => unreachable!("a counter has no distribution"),
    };
    series.add(Number::Int(7));
    assert_eq!((number(1), number(SINCE_START)), (Number::Int(7), Number::Int(7)));
    series.add(Number::Float(0.5));
    assert_eq!(
        (number(1), number(SINCE_START)),
        (Number::Float(0.5), Number::Float(7.5))
    );
}

#[test]
fn a_float_of_zero_makes_a_sum_a_float() {
    let segment = private_segment(1 << 20);
    let counter = Instrument::new(&segment, Kind::Counter, "counter", "{item}");
    counter.series("one").add(Number::Float(0.0));
    assert_eq!(counter.number("one"), Some(Number::Float(0.0)));
}

#[test]
fn a_removed_reader_leaves_the_others_complete() {
    let segment = private_segment(1 << 20);
    let histogram = Instrument::new(&segment, Kind::Histogram, "histogram", "By");
    let series = histogram.series("one");
    let mut readers = Readers::default();
    readers.add(1, wants(Temporality::Delta));
    readers.add(2, wants(Temporality::Delta));
    series.record(Number::Int(10));
    readers.collect(&segment, 1, 0);
    readers.remove(1);
    series.record(Number::Int(20));
    let points = readers.collect(&segment, 2, 0);
    let found = distribution_of(&points[0]).unwrap();
    assert_eq!((found.count(), found.min(), found.max()), (2, 10.0, 20.0));
    assert!(readers.collect(&segment, 1, 0).is_empty());
}

#[test]
fn callbacks_reports_before_the_collection_do_not_count() {
    let segment = private_segment(1 << 20);
    let gauge = Instrument::new(&segment, Kind::ObservableGauge, "gauge", "By");
    let (old, new) = (gauge.series("old"), gauge.series("new"));
    old.set(Number::Int(1));
    let since = otel_perf_core::clock::monotonic_ns() + 1;
    fixture::until("the clock moves on", || otel_perf_core::clock::monotonic_ns() > since);
    new.set(Number::Int(2));
    let mut readers = Readers::default();
    readers.add(1, wants(Temporality::Cumulative));
    let points = readers.collect(&segment, 1, since);
    assert_eq!(points.iter().map(|point| point.series).collect::<Vec<_>>(), [new.id()]);
}

#[test]
fn totals_of_callbacks_leave_as_differences_to_a_delta_reader() {
    let segment = private_segment(1 << 20);
    let counter = Instrument::new(&segment, Kind::ObservableCounter, "cpu", "s");
    let series = counter.series("one");
    let mut readers = Readers::default();
    readers.add(1, wants(Temporality::Delta));
    let mut deltas = Vec::new();
    for total in [10, 25, 25, 100] {
        series.set(Number::Int(total));
        for point in readers.collect(&segment, 1, 0) {
            if let Value::Number(number) = point.value {
                deltas.push(number.as_f64());
            }
        }
    }
    assert_eq!(deltas.iter().sum::<f64>(), 100.0);
    assert_eq!(deltas[..2], [10.0, 15.0]);
}
