//! Exemplars are read whole or not at all: while several write them, when writers are killed half-way, and when the table is damaged.

mod fixture;
mod forked;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use fixture::{
    all_exemplars, exhaust_but, named_segment, number_of, numbered_exemplar, private_segment, scaled, until, Directory,
    Random,
};
use forked::{alone, Forked};
use otel_perf_core::clock::monotonic_ns;
use otel_perf_core::exemplar::ATTRIBUTES_MAX;
use otel_perf_core::layout::{header, LINE, MINIMUM_SIZE};
use otel_perf_core::segment::Segment;
use otel_perf_core::tables::SeriesId;

/// Bytes of a slot, and where in it lock and version stand.
const SLOT: usize = 3 * LINE;
const LOCK: usize = 0;
const VERSION: usize = 8;
/// Slots of a table of one set.
const WAYS: usize = 4;

/// Offsets of all slots.
fn slots(segment: &Segment) -> Vec<usize> {
    let word = segment.region().u64(header::EXEMPLARS).unwrap().load(Relaxed);
    let start = segment.geometry().line(word as u32).unwrap();
    (0..(word >> 32) as usize * WAYS)
        .map(|slot| start + slot * SLOT)
        .collect()
}

/// Leaves the slot as a writer does that was killed half-way, having locked it at `locked_ns`.
fn abandon(segment: &Segment, slot: usize, locked_ns: u64) {
    segment.region().u64(slot + LOCK).unwrap().store(locked_ns, Relaxed);
    segment.region().u32(slot + VERSION).unwrap().fetch_or(1, Relaxed);
}

/// The number of the exemplar of this series, which must be whole.
fn number_in(segment: &Segment, series: u32) -> Option<u64> {
    let found = all_exemplars(segment).remove(&series)?;
    Some(number_of(&found[0]).expect("the exemplar is whole"))
}

/// Series of the exemplar with this number.
fn series_of(number: u64) -> u32 {
    (number % 6) as u32
}

/// Keeps the exemplar with this number, in the bucket that follows from it too.
fn keep(segment: &Segment, number: u64) {
    let bucket = (number / 6 % 2) as u8;
    let kept = numbered_exemplar(number);
    segment.exemplars().keep(SeriesId(series_of(number)), bucket, &kept);
}

/// Checks that all exemplars are whole and in their series; answers their numbers.
fn whole(segment: &Segment) -> Vec<u64> {
    let found = all_exemplars(segment);
    let each = found.iter().flat_map(|(series, all)| all.iter().map(|e| (*series, e)));
    each.map(|(series, exemplar)| {
        let number = number_of(exemplar).unwrap_or_else(|| panic!("torn: {exemplar:?}"));
        assert_eq!(series_of(number), series, "{number}");
        number
    })
    .collect()
}

/// What a killed writer left half-written is not shown, and its slot is written again once its lock is void.
#[test]
fn a_slot_that_a_killed_writer_left_is_empty_until_it_is_written_again() {
    let segment = private_segment(MINIMUM_SIZE);
    for locked_ago_ns in [0, 500_000_000, 1_500_000_000, u64::MAX] {
        segment.exemplars().keep(SeriesId(1), 0, &numbered_exemplar(1));
        assert_eq!(number_in(&segment, 1), Some(1));
        let locked = monotonic_ns().saturating_sub(locked_ago_ns).max(1);
        for slot in slots(&segment) {
            abandon(&segment, slot, locked);
        }
        assert_eq!(number_in(&segment, 1), None);
        segment.exemplars().keep(SeriesId(1), 0, &numbered_exemplar(2));
        let elapsed_ns = monotonic_ns() - locked;
        match number_in(&segment, 1) {
            Some(2) => assert!(elapsed_ns >= 1_000_000_000),
            found => assert!(found.is_none() && locked_ago_ns < 1_000_000_000),
        }
        // For the next round.
        for slot in slots(&segment) {
            abandon(&segment, slot, 0);
        }
    }
}

/// A lock that lies in the future, which no living writer takes, does not keep its slot from later writers.
#[test]
fn a_lock_of_the_future_is_void() {
    let segment = private_segment(MINIMUM_SIZE);
    segment.exemplars().keep(SeriesId(1), 0, &numbered_exemplar(1));
    for locked_ns in [u64::MAX, monotonic_ns() + 3_600_000_000_000] {
        for slot in slots(&segment) {
            abandon(&segment, slot, locked_ns);
        }
        segment.exemplars().keep(SeriesId(1), 0, &numbered_exemplar(2));
        assert_eq!(number_in(&segment, 1), Some(2));
    }
}

/// Threads that keep exemplars in the same few slots, while windows pass, leave a reader nothing but whole ones.
#[test]
fn concurrent_writers_leave_only_whole_exemplars() {
    let segment = private_segment(1 << 20);
    // One set, so that all fight for four slots.
    exhaust_but(&segment, segment.geometry().lines / 64 + (WAYS * SLOT / LINE) as u32);
    let (next, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let steps = scaled(1_000_000) as u64;
    let mut seen = 0;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= steps {
                        break;
                    }
                    keep(&segment, number);
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            while !done.load(Acquire) {
                seen += whole(&segment).len();
                segment.exemplars().next_window();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Release);
        reader.join().unwrap();
    });
    assert_eq!(slots(&segment).len(), WAYS);
    assert!(seen > 0);
    assert_eq!(whole(&segment).len(), WAYS, "nobody holds a slot any more");
}

/// Children that are killed at any moment of keeping an exemplar leave a reader nothing but whole ones, and later writers every slot.
#[test]
fn killed_writers_leave_only_whole_exemplars_and_no_slot_blocked() {
    let _alone = alone();
    let directory = Directory::new();
    let segment = named_segment(&directory, 1 << 20);
    exhaust_but(&segment, segment.geometry().lines / 64 + (WAYS * SLOT / LINE) as u32);
    keep(&segment, 0);
    let rounds = if cfg!(debug_assertions) { 20 } else { 60 };
    for round in 1..=rounds {
        // Numbers of one child begin where those of the last one cannot come.
        let first = round << 32;
        // It ends by itself, after a long time, in case that nobody is left to kill it.
        let numbers = first..first + 100_000_000;
        let child = Forked::start(|| numbers.for_each(|number| keep(&segment, number)));
        until("the child keeps exemplars", || {
            whole(&segment).iter().any(|number| *number > first + round)
        });
        drop(child);
        whole(&segment);
        // A lock that the child held would be void a second later; that second has passed here.
        for slot in slots(&segment) {
            let lock = segment.region().u64(slot + LOCK).unwrap();
            if lock.load(Relaxed) != 0 {
                lock.fetch_sub(1_500_000_000, Relaxed);
            }
        }
    }
    segment.exemplars().next_window();
    let last = 1_u64 << 48;
    (last..last + 24).for_each(|number| keep(&segment, number));
    let numbers = whole(&segment);
    assert!(
        numbers.len() == WAYS && numbers.iter().all(|number| *number >= last),
        "{numbers:?}"
    );
}

/// A lock whose writer was killed is void a second later by the clock too.
#[test]
fn a_lock_is_void_after_a_second() {
    let segment = private_segment(MINIMUM_SIZE);
    segment.exemplars().keep(SeriesId(1), 0, &numbered_exemplar(1));
    let locked = monotonic_ns();
    for slot in slots(&segment) {
        abandon(&segment, slot, locked);
    }
    until("the slot is written again", || {
        segment.exemplars().keep(SeriesId(1), 0, &numbered_exemplar(2));
        number_in(&segment, 1) == Some(2)
    });
    assert!(monotonic_ns() - locked >= 1_000_000_000);
}

/// Random bytes in the table are read without panic and never as attributes longer than a slot has, and new exemplars can be kept.
#[test]
fn a_damaged_table_gives_no_length_out_of_range() {
    let segment = private_segment(MINIMUM_SIZE);
    let mut random = Random(11);
    segment.exemplars().keep(SeriesId(1), 0, &numbered_exemplar(1));
    let slots = slots(&segment);
    let mut seen = 0;
    for _ in 0..scaled(2_000) {
        for slot in &slots {
            for word in (0..SLOT).step_by(8) {
                // Small numbers now and then, which look like flags, lengths and series.
                let value = random.next() >> (8 * random.below(8));
                segment.region().u64(slot + word).unwrap().store(value, Relaxed);
            }
        }
        for exemplar in all_exemplars(&segment).into_values().flatten() {
            assert!(exemplar.dropped.is_none_or(|bytes| bytes.len() <= ATTRIBUTES_MAX));
            seen += 1;
        }
        for series in 0..20 {
            segment.exemplars().keep(SeriesId(series), 0, &numbered_exemplar(1));
        }
    }
    assert!(seen > 0);
    // Locks that look young are void at last; windows and series are written over.
    segment.exemplars().next_window();
    until("the table is in order again", || {
        (0..10_000).for_each(|series| segment.exemplars().keep(SeriesId(series), 0, &numbered_exemplar(3)));
        let found = all_exemplars(&segment);
        let all: Vec<_> = found.values().flatten().collect();
        all.len() == slots.len() && all.iter().all(|exemplar| number_of(exemplar) == Some(3))
    });
}
