//! What a series looks up at the first recording of a window or of a forked process, and that no recording is lost over it.

mod fixture;
mod forked;

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::Arc;

use fixture::{
    all_exemplars, descriptor, named_segment, number_of, numbered_exemplar, private_segment, scaled, Directory,
    Instrument,
};
use forked::{alone, Forked};
use otel_perf_core::exemplar::Buckets;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::segment::Segment;

/// Recordings of a series that may ask for an exemplar in one window.
const ASKING: usize = 1024;

fn with_exemplars(segment: &Arc<Segment>, kind: Kind, name: &str) -> Instrument {
    Instrument::of_stream(segment, &descriptor(kind, name, "By"), 100, Some(Buckets::One))
}

/// A series asks in each window for so many recordings and no more, if none of them is given an exemplar.
#[test]
fn a_series_asks_for_a_bounded_number_of_recordings_in_each_window() {
    let _alone = alone();
    for serialised in [false, true] {
        let segment = private_segment(1 << 20);
        if serialised {
            segment.set_serialised();
        }
        let series = with_exemplars(&segment, Kind::Counter, "requests").series("one");
        for _ in 0..3 {
            let asking = (0..3 * ASKING).filter(|_| series.add(Number::Int(1)));
            assert_eq!(asking.count(), ASKING);
            assert_eq!(series.wanted_bucket(Number::Int(1)), None);
            segment.exemplars().next_window();
        }
        assert_eq!(fixture::cumulative_points(&segment).len(), 1);
    }
}

/// The bound is one of each series, not of all together.
#[test]
fn each_series_asks_for_itself() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    segment.set_serialised();
    let counter = with_exemplars(&segment, Kind::Counter, "requests");
    let series = ["one", "two", "three"].map(|label| counter.series(label));
    for each in &series {
        assert_eq!((0..2 * ASKING).filter(|_| each.add(Number::Int(1))).count(), ASKING);
    }
}

/// A series whose buckets have their exemplars is plain again until the window ends.
#[test]
fn a_series_is_plain_again_when_it_has_its_exemplars() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    segment.set_serialised();
    for kind in [Kind::Counter, Kind::UpDownCounter, Kind::Histogram, Kind::Gauge] {
        let series = with_exemplars(&segment, kind, kind.name()).series("one");
        let record = || match kind {
            Kind::Histogram => series.record(Number::Int(1)),
            Kind::Gauge => series.set(Number::Int(1)),
            _ => series.add(Number::Int(1)),
        };
        for _ in 0..3 {
            assert!(record(), "a new window asks");
            assert_eq!(series.wanted_bucket(Number::Int(1)), Some(0));
            series.keep_exemplar(0, &numbered_exemplar(1));
            assert_eq!(series.wanted_bucket(Number::Int(1)), None);
            assert!(!record() && !record());
            segment.exemplars().next_window();
            assert_eq!(series.wanted_bucket(Number::Int(1)), None, "nothing was recorded yet");
        }
    }
}

/// A forked child asks anew, whatever its parent has, and what it keeps is seen by the parent.
#[test]
fn a_forked_child_asks_for_exemplars_of_its_own() {
    let _alone = alone();
    let directory = Directory::new();
    for segment in [private_segment(1 << 20), named_segment(&directory, 1 << 20)] {
        segment.set_serialised();
        let counter = with_exemplars(&segment, Kind::Counter, "requests");
        let series = counter.series("one");
        assert!(series.add(Number::Int(1)));
        series.keep_exemplar(0, &numbered_exemplar(1));
        assert!(!series.add(Number::Int(1)));
        Forked::start(|| {
            assert!(series.add(Number::Int(1)), "the epoch is another one");
            assert_eq!(series.wanted_bucket(Number::Int(1)), Some(0));
            series.keep_exemplar(0, &numbered_exemplar(2));
            assert!(!series.add(Number::Int(1)));
            Forked::start(|| assert!(series.add(Number::Int(1)))).join();
        })
        .join();
        assert!(!series.add(Number::Int(1)), "the parent's window goes on");
        assert_eq!(counter.number("one"), Some(Number::Int(6)));
        let found = all_exemplars(&segment).remove(&series.id().0).unwrap();
        assert_eq!(found.iter().map(number_of).collect::<Vec<_>>(), [Some(2)]);
        // A window that another process ends is ended for this one too.
        Forked::start(|| _ = segment.exemplars().next_window()).join();
        assert!(series.add(Number::Int(1)));
    }
}

/// Series of all kinds, and how often each of the threads below records into them.
struct Recorded {
    counter: Instrument,
    histogram: Instrument,
    gauge: Instrument,
}

impl Recorded {
    fn new(segment: &Arc<Segment>) -> Recorded {
        Recorded {
            counter: with_exemplars(segment, Kind::Counter, "counter"),
            histogram: with_exemplars(segment, Kind::Histogram, "histogram"),
            gauge: with_exemplars(segment, Kind::Gauge, "gauge"),
        }
    }

    /// Records `steps` times and keeps the exemplars that are asked for.
    fn record(&self, steps: usize) {
        let all = [&self.counter, &self.histogram, &self.gauge].map(|instrument| instrument.series("one"));
        for step in 1..=steps as i64 {
            let amount = Number::Int(step);
            let asked = [
                all[0].add(Number::Int(1)),
                all[1].record(Number::Int(step % 1000)),
                all[2].set(amount),
            ];
            // Only now and then, so that series are in every state when a window ends.
            for (series, _) in all.iter().zip(asked).filter(|(_, asked)| *asked && step % 3 == 0) {
                if let Some(bucket) = series.wanted_bucket(amount) {
                    series.keep_exemplar(bucket, &numbered_exemplar(step as u64));
                }
            }
        }
    }
}

/// Ends windows until told to stop; answers how many, and checks that each has at most one exemplar of a series.
fn roll(segment: &Segment, done: &AtomicBool) -> usize {
    let mut rolled = 0;
    while !done.load(Acquire) {
        let ended = segment.exemplars().next_window();
        for exemplars in segment.exemplars().between(ended.wrapping_sub(1), ended).into_values() {
            assert!(exemplars.len() == 1 && number_of(&exemplars[0]).is_some());
        }
        rolled += 1;
    }
    rolled
}

/// Records in so many threads while another one ends windows as fast as it can, and compares the sums.
fn record_while_windows_roll(segment: &Arc<Segment>, threads: usize) {
    let recorded = Recorded::new(segment);
    let steps = scaled(300_000);
    let (done, running) = (AtomicBool::new(false), AtomicUsize::new(threads));
    std::thread::scope(|scope| {
        let roller = scope.spawn(|| roll(segment, &done));
        for _ in 0..threads {
            scope.spawn(|| {
                recorded.record(steps);
                if running.fetch_sub(1, Release) == 1 {
                    done.store(true, Release);
                }
            });
        }
        assert!(roller.join().unwrap() > 1);
    });
    let all = threads * steps;
    assert_eq!(recorded.counter.number("one"), Some(Number::Int(all as i64)));
    assert_eq!(recorded.gauge.number("one"), Some(Number::Int(steps as i64)));
    let found = recorded.histogram.distribution("one");
    let sum: i64 = (1..=steps as i64).map(|step| step % 1000).sum();
    assert_eq!(
        (found.count(), found.sum()),
        (all as u64, Number::Int(threads as i64 * sum))
    );
}

/// Recordings of one thread without locked instructions are all counted while windows end.
#[test]
fn no_recording_of_a_serialised_process_is_lost_while_windows_roll() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    segment.set_serialised();
    record_while_windows_roll(&segment, 1);
}

/// Recordings of several threads are all counted while windows end.
#[test]
fn no_recording_of_several_threads_is_lost_while_windows_roll() {
    let _alone = alone();
    record_while_windows_roll(&private_segment(1 << 20), 3);
}

/// Recordings of forked children are all counted while their parent ends windows.
#[test]
fn no_recording_of_forked_children_is_lost_while_windows_roll() {
    let _alone = alone();
    let directory = Directory::new();
    let segment = named_segment(&directory, 1 << 20);
    segment.set_serialised();
    let recorded = Recorded::new(&segment);
    recorded.record(1);
    let steps = scaled(100_000);
    let children: Vec<_> = (0..3).map(|_| Forked::start(|| recorded.record(steps))).collect();
    for _ in 0..1_000 {
        recorded.record(1);
        let ended = segment.exemplars().next_window();
        let found = segment.exemplars().between(ended.wrapping_sub(1), ended);
        assert!(found.values().flatten().all(|exemplar| number_of(exemplar).is_some()));
    }
    children.into_iter().for_each(Forked::join);
    let all = 3 * steps + 1_001;
    assert_eq!(recorded.counter.number("one"), Some(Number::Int(all as i64)));
    assert_eq!(recorded.histogram.distribution("one").count(), all as u64);
}

/// An exemplar that is kept after its window ended belongs to the next one, so that every reader still gets it.
#[test]
fn an_exemplar_kept_late_belongs_to_the_next_window() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let series = with_exemplars(&segment, Kind::Counter, "requests").series("one");
    series.add(Number::Int(1));
    let bucket = series.wanted_bucket(Number::Int(1)).unwrap();
    let ended = segment.exemplars().next_window();
    series.keep_exemplar(bucket, &numbered_exemplar(1));
    assert!(segment.exemplars().between(ended.wrapping_sub(1), ended).is_empty());
    let next = segment.exemplars().next_window();
    assert_eq!(segment.exemplars().between(ended, next).len(), 1);
}
