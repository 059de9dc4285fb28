//! Many threads record at once while others scan: nothing is lost and nothing is counted twice.

mod fixture;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use fixture::{cumulative_points, labelled, private_segment, scaled, Instrument};
use otel_perf_core::distribution::Distribution;
use otel_perf_core::drops::Drop;
use otel_perf_core::hdr::Level;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::local::LocalSeries;
use otel_perf_core::reader::Value;
use otel_perf_core::segment::Segment;
use proptest::prelude::*;

const THREADS: usize = 8;

/// Scans until `done`, and checks that no number, count or sum is ever smaller than in the scan before.
fn watch(segment: &Segment, done: &AtomicBool) -> usize {
    let mut seen = std::collections::HashMap::new();
    let mut scans = 0;
    loop {
        let last = done.load(Ordering::Acquire);
        for point in cumulative_points(segment) {
            let now = match &point.value {
                Value::Number(number) => (0, number.as_f64()),
                Value::Distribution(all) => (all.count(), all.sum().as_f64()),
            };
            let before = seen.insert(point.series, now).unwrap_or((0, 0.0));
            assert!(
                now.0 >= before.0 && now.1 >= before.1,
                "{:?}: {before:?} {now:?}",
                point.series
            );
        }
        scans += 1;
        if last {
            return scans;
        }
    }
}

/// The value that thread `thread` records at its step `step`, in bytes.
fn recorded(thread: usize, step: usize) -> i64 {
    ((step * 7919 + thread * 104_729) % 100_000) as i64
}

#[test]
fn concurrent_recordings_are_all_counted_and_no_scan_goes_back() {
    let segment = private_segment(1 << 20);
    let int = Instrument::new(&segment, Kind::Counter, "int", "{item}");
    let float = Instrument::new(&segment, Kind::Counter, "float", "{item}");
    let histogram = Instrument::new(&segment, Kind::Histogram, "histogram", "By");
    let steps = scaled(200_000);
    let done = AtomicBool::new(false);
    let shared = [int.series("shared"), float.series("shared"), histogram.series("shared")];
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&segment, &done));
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                // Half of the threads use one handle together, the others have a handle of their own on the same series.
                let [ints, floats, values] = if thread % 2 == 0 {
                    shared.clone()
                } else {
                    [int.series("shared"), float.series("shared"), histogram.series("shared")]
                };
                scope.spawn(move || {
                    for step in 0..steps {
                        ints.add(Number::Int(3));
                        floats.add(Number::Float(0.25));
                        values.record(Number::Int(recorded(thread, step)));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Release);
        assert!(watcher.join().unwrap() > 1);
    });
    let all = (THREADS * steps) as i64;
    assert_eq!(int.number("shared"), Some(Number::Int(3 * all)));
    assert_eq!(float.number("shared"), Some(Number::Float(0.25 * all as f64)));
    let values = (0..THREADS).flat_map(|thread| (0..steps).map(move |step| recorded(thread, step)));
    let expected = Distribution::of(values.clone().map(|value| value as f64), "By", Level::Three);
    let found = histogram.distribution("shared");
    assert_eq!(found.slots(), expected.slots());
    assert_eq!(found.sum(), Number::Int(values.sum()));
    assert_eq!((found.min(), found.max()), (expected.min(), expected.max()));
}

#[test]
fn threads_that_insert_the_same_series_at_once_get_one_series() {
    let segment = private_segment(1 << 20);
    let counter = Instrument::new(&segment, Kind::Counter, "requests", "{request}");
    let labels: Vec<String> = (0..100).map(|number| format!("label {number}")).collect();
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (labels, counter, barrier) = (&labels, &counter, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for at in 0..labels.len() {
                    // Half of the threads come from the other end, so that there are races for every label.
                    let at = if thread % 2 == 0 { at } else { labels.len() - 1 - at };
                    counter.series(&labels[at]).add(Number::Int(1));
                }
            });
        }
    });
    let numbers = counter.numbers();
    assert_eq!(numbers.len(), labels.len());
    for label in &labels {
        assert_eq!(numbers[&labelled(label)], Number::Int(THREADS as i64), "{label}");
    }
}

#[test]
fn threads_that_race_for_an_attribute_set_use_up_the_cardinality_limit_only_once() {
    const SETS: usize = 300;
    let segment = private_segment(1 << 20);
    let counter = Instrument::with_limit(&segment, Kind::Counter, "requests", "{request}", 2 * SETS as u32);
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for number in 0..SETS {
                    barrier.wait();
                    let _ = counter.series_of(&labelled(&format!("raced {number}")));
                }
            });
        }
    });
    let later = (0..SETS).filter(|number| counter.series_of(&labelled(&format!("{number}"))).is_ok());
    assert_eq!(later.count(), SETS, "the limit is {} and {SETS} sets exist", 2 * SETS);
}

#[test]
fn first_recordings_of_several_threads_at_once_are_all_counted() {
    // The first recording of a process joins a lane, and joining clears what the lane's previous owner left behind.
    for round in 0..200 {
        let segment = private_segment(128 << 10);
        let in_flight = Instrument::new(&segment, Kind::UpDownCounter, "in_flight", "{request}");
        let series: Vec<Arc<LocalSeries>> = (0..THREADS).map(|_| in_flight.series("shared")).collect();
        let barrier = Barrier::new(THREADS);
        thread::scope(|scope| {
            for series in &series {
                scope.spawn(|| {
                    barrier.wait();
                    series.add(Number::Int(1));
                });
            }
        });
        assert_eq!(
            in_flight.number("shared"),
            Some(Number::Int(THREADS as i64)),
            "round {round}"
        );
    }
}

#[test]
fn counts_stay_exact_when_threads_exhaust_the_pool_together() {
    let segment = private_segment(128 << 10);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let steps = scaled(100_000);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let histogram = &histogram;
            scope.spawn(move || {
                let mut random = fixture::Random(thread as u64);
                for _ in 0..steps {
                    // Values over the whole range in few series, so that pages are asked for long after none are left.
                    let value = random.next() >> (15 + random.below(49));
                    match histogram.series_of(&labelled(&format!("{}", random.below(40)))) {
                        Ok(series) => series.record(Number::Int(value as i64)),
                        Err(_) => histogram.overflow.record(Number::Int(value as i64)),
                    };
                }
            });
        }
    });
    let counted: u64 = histogram.distributions().values().map(Distribution::count).sum();
    assert_eq!(counted, (THREADS * steps) as u64);
    assert!(segment.tables().drops(Drop::NoPage) > 0);
    assert_eq!(segment.tables().drops(Drop::Corrupt), 0);
}

/// What one thread does: series number and amount, in order.
fn plan() -> impl Strategy<Value = Vec<Vec<(u8, u8, i32)>>> {
    prop::collection::vec(
        prop::collection::vec((0..4_u8, 0..3_u8, 0..1_000_000_i32), 0..200),
        1..5,
    )
}

proptest! {
    // A failure of an interleaving does not come again by its seed, so that keeping the seed would be of no use.
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_of_threads_gives_the_totals_of_their_plans(plan in plan()) {
        let segment = private_segment(128 << 10);
        let int = Instrument::new(&segment, Kind::Counter, "int", "{item}");
        let float = Instrument::new(&segment, Kind::UpDownCounter, "float", "{item}");
        let histogram = Instrument::new(&segment, Kind::Histogram, "histogram", "By");
        let barrier = Barrier::new(plan.len());
        thread::scope(|scope| {
            for steps in &plan {
                let (int, float, histogram, barrier) = (&int, &float, &histogram, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for (series, kind, amount) in steps {
                        let label = format!("{series}");
                        match kind {
                            0 => int.series(&label).add(Number::Int(i64::from(*amount))),
                            1 => float.series(&label).add(Number::Float(f64::from(*amount) - 500_000.0)),
                            _ => histogram.series(&label).record(Number::Int(i64::from(*amount))),
                        };
                    }
                });
            }
        });
        for series in 0..4_u8 {
            let label = format!("{series}");
            let of_kind = |wanted: u8| {
                let steps = plan.iter().flatten().filter(move |step| step.0 == series && step.1 == wanted);
                steps.map(|step| i64::from(step.2)).collect::<Vec<_>>()
            };
            let (ints, floats, values) = (of_kind(0), of_kind(1), of_kind(2));
            prop_assert_eq!(int.number(&label), (!ints.is_empty()).then(|| Number::Int(ints.iter().sum())));
            let shifted = floats.iter().map(|amount| *amount as f64 - 500_000.0).sum();
            prop_assert_eq!(float.number(&label), (!floats.is_empty()).then_some(Number::Float(shifted)));
            if !values.is_empty() {
                let found = histogram.distribution(&label);
                let expected = Distribution::of(values.iter().map(|value| *value as f64), "By", Level::Three);
                // The segment is small: whichever ladder step each octave got, the counts add up.
                prop_assert_eq!(found.count(), values.len() as u64);
                let coarse = (found.coarsened(Level::OneHalf), expected.coarsened(Level::OneHalf));
                prop_assert_eq!(coarse.0.slots(), coarse.1.slots());
                prop_assert_eq!(found.sum(), Number::Int(values.iter().sum()));
                prop_assert_eq!((found.min(), found.max()), (expected.min(), expected.max()));
            }
        }
    }
}
