//! What each storage makes of recordings and of callbacks' reports, and how it leaves for cumulative and delta readers.

mod fixture;
mod forked;

use std::collections::HashMap;
use std::sync::Arc;

use fixture::{cumulative_points, named_segment, private_segment, until, viewed, Directory, Instrument, Random};
use forked::{alone, wait_for_the_end, Forked};
use otel_perf_core::clock::monotonic_ns;
use otel_perf_core::instrument::{Descriptor, Kind};
use otel_perf_core::lane::Number;
use otel_perf_core::reader::{Point, Preferences, Readers, Temporality, Value};
use otel_perf_core::scan::{Reading, Scan};
use otel_perf_core::segment::Segment;
use otel_perf_core::stream::{Aggregation, Storage};

fn explicit() -> Aggregation {
    Aggregation::Explicit {
        boundaries: Some(vec![10.0]),
        record_min_max: true,
    }
}

fn aggregations() -> [Aggregation; 6] {
    [
        Aggregation::Default,
        Aggregation::Drop,
        Aggregation::Sum,
        Aggregation::LastValue,
        explicit(),
        Aggregation::Ewma { tau: 1.0 },
    ]
}

fn stream(segment: &Arc<Segment>, kind: Kind, aggregation: Aggregation) -> Instrument {
    Instrument::of_stream(segment, &viewed(kind, "measured", "By", 1, aggregation), 100, None)
}

fn number(points: &[Point]) -> Option<Number> {
    match points {
        [] => None,
        [point] => match point.value {
            Value::Number(number) => Some(number),
            Value::Distribution(_) => panic!("{points:?}"),
        },
        _ => panic!("{points:?}"),
    }
}

/// A time after all that was recorded up to now.
fn next_round() -> u64 {
    let before = monotonic_ns();
    until("the clock moves on", || monotonic_ns() > before);
    monotonic_ns()
}

fn both_readers() -> Readers {
    let mut readers = Readers::default();
    readers.add(1, Arc::new(Preferences::of(Temporality::Cumulative)));
    readers.add(2, Arc::new(Preferences::of(Temporality::Delta)));
    readers
}

/// What the series `one` holds, as a scan reads it.
fn reading(instrument: &Instrument) -> Option<Reading> {
    let mut scan = Scan::new(&instrument.segment);
    let series = scan.series().find(|series| series.stream == instrument.id)?;
    scan.read(&series, 0)
}

/// Every storage holds of the same recordings what its name says, whether one thread writes without locked instructions or not.
#[test]
fn each_storage_holds_what_its_name_says() {
    let mut random = Random(17);
    for round in 0..200 {
        let values: Vec<i64> = (0..=random.below(50)).map(|_| random.below(1_000) as i64).collect();
        let floats = random.below(2) == 0;
        let of = |value: i64| {
            if floats {
                Number::Float(value as f64)
            } else {
                Number::Int(value)
            }
        };
        let (sum, last) = (of(values.iter().sum()), of(values[values.len() - 1]));
        for kind in Kind::ALL {
            for aggregation in aggregations() {
                let Some(storage) = aggregation.storage(kind) else {
                    continue;
                };
                let segment = private_segment(128 << 10);
                if round % 2 == 0 {
                    segment.set_serialised();
                }
                let instrument = stream(&segment, kind, aggregation);
                let series = instrument.series("one");
                for value in &values {
                    series.write(of(*value));
                }
                match (storage, reading(&instrument).unwrap()) {
                    (Storage::Sum, Reading::Number(found)) => assert_eq!(found, sum),
                    (Storage::Total, Reading::Total(found)) | (Storage::Last, Reading::Last(found, _)) => {
                        assert_eq!(found, last);
                    }
                    (Storage::Distribution, Reading::Distribution(found)) => {
                        assert_eq!((found.count(), found.sum()), (values.len() as u64, sum));
                    }
                    (Storage::Mean, Reading::Mean(count, total)) => {
                        assert_eq!((count, total), (values.len() as f64, sum.as_f64()));
                    }
                    (storage, found) => panic!("{storage:?}: {found:?}"),
                }
            }
        }
    }
}

/// An aggregation that a kind of instrument cannot have is kept nowhere, as in the SDK, which exports no histograms of callbacks.
#[test]
fn aggregations_choose_a_storage_by_kind() {
    for kind in Kind::ALL {
        assert_eq!(Aggregation::Drop.storage(kind), None);
        assert!(Aggregation::Default
            .storage(kind)
            .is_some_and(|storage| storage.is_native(kind)));
        assert_eq!(explicit().storage(kind).is_some(), !kind.is_observable());
        let sum = if kind.is_observable() {
            Storage::Total
        } else {
            Storage::Sum
        };
        assert_eq!(Aggregation::Sum.storage(kind), Some(sum));
        assert_eq!(Aggregation::LastValue.storage(kind), Some(Storage::Last));
    }
}

/// Reports of one round for one series are summed where totals are kept, and each later round begins anew.
#[test]
fn totals_reported_twice_in_one_round_add_up() {
    for kind in [Kind::ObservableCounter, Kind::ObservableUpDownCounter] {
        let segment = private_segment(1 << 20);
        let series = stream(&segment, kind, Aggregation::Default).series("one");
        let mut readers = both_readers();
        let mut before = 0;
        for reports in [vec![5, 7], vec![20], vec![10, 10, 10], vec![30], vec![30, 1]] {
            let since = next_round();
            for value in &reports {
                series.observe(Number::Int(*value), since);
            }
            let total: i64 = reports.iter().sum();
            assert_eq!(number(&readers.collect(&segment, 1, since)), Some(Number::Int(total)));
            // A callback that reports the same total again has reported: the difference is zero.
            assert_eq!(
                number(&readers.collect(&segment, 2, since)),
                Some(Number::Int(total - before))
            );
            before = total;
        }
    }
}

/// A total of integers to which a float is added in the same round leaves as a float.
#[test]
fn reports_of_both_types_add_up_to_a_float() {
    let segment = private_segment(1 << 20);
    let series = stream(&segment, Kind::ObservableCounter, Aggregation::Default).series("one");
    let since = next_round();
    series.observe(Number::Int(5), since);
    series.observe(Number::Float(0.5), since);
    let mut readers = both_readers();
    assert_eq!(number(&readers.collect(&segment, 1, since)), Some(Number::Float(5.5)));
    let since = next_round();
    series.observe(Number::Int(i64::MAX), since);
    series.observe(Number::Int(1), since);
    let beyond = Number::Float(i64::MAX as f64 + 1.0);
    assert_eq!(number(&readers.collect(&segment, 1, since)), Some(beyond));
}

/// Of several reports of one round the last value stays where last values are kept, and all count where means are.
#[test]
fn other_storages_take_reports_one_by_one() {
    let segment = private_segment(1 << 20);
    let last = stream(&segment, Kind::ObservableGauge, Aggregation::LastValue);
    let since = next_round();
    for value in [5, 9, 7] {
        last.series("one").observe(Number::Int(value), since);
    }
    assert_eq!(
        number(&both_readers().collect(&segment, 2, since)),
        Some(Number::Int(7))
    );
    let segment = private_segment(1 << 20);
    let mean = stream(&segment, Kind::ObservableGauge, Aggregation::Ewma { tau: 1.0 });
    for value in [5, 9, 7] {
        mean.series("one").observe(Number::Int(value), since);
    }
    assert!(matches!(reading(&mean), Some(Reading::Mean(3.0, 21.0))));
}

/// What callbacks did not report in a round is missing in it, and comes back with the next report.
#[test]
fn a_total_that_is_not_reported_is_missing_in_that_round() {
    let segment = private_segment(1 << 20);
    let series = stream(&segment, Kind::ObservableCounter, Aggregation::Default).series("one");
    let mut readers = both_readers();
    let mut deltas = Vec::new();
    for report in [Some(10), None, Some(25), None, None, Some(26)] {
        let since = next_round();
        report.map(|value| series.observe(Number::Int(value), since));
        assert_eq!(number(&readers.collect(&segment, 1, since)), report.map(Number::Int));
        deltas.push(number(&readers.collect(&segment, 2, since)));
    }
    let expected = [Some(10), None, Some(15), None, None, Some(1)];
    assert_eq!(deltas, expected.map(|value| value.map(Number::Int)));
}

/// Cumulative and delta points of the same recordings, for every kind and every aggregation of a view that leaves as a number.
#[test]
fn deltas_of_sums_and_last_values_follow_each_other() {
    let rounds = [vec![3, 4], vec![], vec![5], vec![1, 1, 1]];
    for kind in [Kind::Counter, Kind::UpDownCounter, Kind::Histogram, Kind::Gauge] {
        for aggregation in [Aggregation::Sum, Aggregation::LastValue] {
            let segment = private_segment(1 << 20);
            let series = stream(&segment, kind, aggregation.clone()).series("one");
            let mut readers = both_readers();
            let (mut sum, mut last) = (0, 0);
            for round in &rounds {
                for value in round {
                    series.write(Number::Int(*value));
                }
                sum += round.iter().sum::<i64>();
                last = round.last().copied().unwrap_or(last);
                let (total, delta) = match aggregation {
                    Aggregation::Sum => (sum, round.iter().sum()),
                    _ => (last, last),
                };
                assert_eq!(number(&readers.collect(&segment, 1, 0)), Some(Number::Int(total)));
                let news = (!round.is_empty()).then_some(Number::Int(delta));
                assert_eq!(
                    number(&readers.collect(&segment, 2, 0)),
                    news,
                    "{kind:?} {aggregation:?}"
                );
            }
        }
    }
}

/// Readers with an aggregation of their own get it from the streams that no view matches, beside readers without one.
#[test]
fn readers_have_aggregations_of_their_own_by_kind() {
    let segment = private_segment(1 << 20);
    let unviewed = |kind, storage| {
        let mut asked: Descriptor = viewed(kind, "measured", "By", 0, Aggregation::Default);
        asked.stream.storage = storage;
        Instrument::of_stream(&segment, &asked, 100, None)
    };
    let streams = [
        unviewed(Kind::Counter, Storage::Sum),
        unviewed(Kind::Counter, Storage::Distribution),
        unviewed(Kind::Histogram, Storage::Distribution),
        unviewed(Kind::Histogram, Storage::Sum),
    ];
    let mut readers = both_readers();
    let mut own = Preferences::of(Temporality::Delta);
    own.aggregation[Kind::Counter as usize - 1] = explicit();
    own.aggregation[Kind::Histogram as usize - 1] = Aggregation::Sum;
    readers.add(3, Arc::new(own));
    for round in 1..=3 {
        for stream in &streams {
            stream.series("one").write(Number::Int(20));
        }
        for (reader, own, rounds) in [(1, [0, 2], round), (2, [0, 2], 1), (3, [1, 3], 1)] {
            let points = readers.collect(&segment, reader, 0);
            let found: HashMap<_, _> = points.iter().map(|point| (point.stream, &point.value)).collect();
            assert_eq!(found.len(), 2);
            for stream in own.map(|number: usize| &streams[number]) {
                match found[&stream.id] {
                    Value::Number(number) => assert_eq!(*number, Number::Int(20 * rounds)),
                    Value::Distribution(found) => assert_eq!(found.count(), rounds as u64),
                }
            }
        }
    }
}

/// What a killed process contributed stays in sums, distributions, means and monotonic totals, and goes from what it held.
#[test]
fn what_a_killed_process_contributed_stays_or_goes_by_storage() {
    let _alone = alone();
    let directory = Directory::new();
    for kind in Kind::ALL {
        for aggregation in aggregations() {
            let Some(storage) = aggregation.storage(kind) else {
                continue;
            };
            let segment = named_segment(&directory, 128 << 10);
            let instrument = stream(&segment, kind, aggregation);
            let series = instrument.series("one");
            let held = || match reading(&instrument) {
                Some(Reading::Number(found) | Reading::Total(found) | Reading::Last(found, _)) => found.as_f64(),
                Some(Reading::Distribution(found)) => found.sum().as_f64(),
                Some(Reading::Mean(_, sum)) => sum,
                None => 0.0,
            };
            let child = Forked::start(|| {
                series.write(Number::Int(7));
                wait_for_the_end();
            });
            until("the child has written", || held() == 7.0);
            drop(child);
            // A gauge is that of a process that runs, and so is what an up-down counter counts, but not what was ever counted.
            let goes = match storage {
                Storage::Last => true,
                Storage::Sum => kind == Kind::UpDownCounter,
                Storage::Total => [Kind::ObservableUpDownCounter, Kind::ObservableGauge].contains(&kind),
                Storage::Distribution | Storage::Mean => false,
            };
            assert_eq!(storage.ends_with_worker(kind), goes);
            let left = if goes { 0.0 } else { 7.0 };
            assert_eq!(held(), left, "{kind:?} {storage:?}");
            // The next owner of the slot begins with what is left.
            series.write(Number::Int(1));
            let expected = if storage == Storage::Last { 1.0 } else { left + 1.0 };
            assert_eq!(held(), expected, "{kind:?} {storage:?}");
        }
    }
}

/// Means of several threads count every value once.
#[test]
fn means_of_several_threads_count_all_values() {
    let segment = private_segment(1 << 20);
    let instrument = stream(&segment, Kind::Gauge, Aggregation::Ewma { tau: 1.0 });
    let series = instrument.series("one");
    let steps = fixture::scaled(100_000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..steps).for_each(|_| _ = series.write(Number::Float(0.5))));
        }
    });
    let all = (4 * steps) as f64;
    assert!(matches!(reading(&instrument), Some(Reading::Mean(count, sum)) if (count, sum) == (all, 0.5 * all)));
    assert!(cumulative_points(&segment).len() <= 1);
}
