//! Several workers count in a page each once theirs would fill up, and nothing is lost or read twice.

mod fixture;
mod forked;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use fixture::{exhaust_but, private_segment, until, Instrument};
use forked::{alone, wait_for_the_end, Forked};
use otel_perf_core::hdr::Level;
use otel_perf_core::histogram::{Histogram, Recorded, Slots};
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::LINE;
use otel_perf_core::segment::Segment;

/// More than a slot of 16 bits counts.
const MANY: u64 = 70_000;

/// A worker that has joined and lives on.
fn second_worker(segment: &Arc<Segment>) -> Forked {
    let joined = Instrument::new(segment, Kind::Counter, "joined", "1");
    let series = joined.series("all");
    series.add(Number::Int(1));
    let child = Forked::start(|| {
        series.add(Number::Int(1));
        wait_for_the_end();
    });
    until("a second worker has joined", || {
        joined.number("all") == Some(Number::Int(2))
    });
    child
}

/// The histogram of the series `one`, as the worker of a lane records into it.
fn of_lane<'a>(segment: &'a Segment, instrument: &Instrument, lane: usize) -> Histogram<'a> {
    let record = segment.tables().read_series(instrument.series("one").id()).unwrap();
    let at = record.histogram_at.unwrap();
    Histogram::new(segment.region(), segment.geometry(), at, false).of_lane(lane)
}

fn record(histogram: &Histogram<'_>, value: u64, times: u64) {
    for _ in 0..times {
        if let Some(slot) = histogram.roomy_slot(value) {
            slot.count();
        } else {
            assert_eq!(histogram.record(value), Recorded::Counted);
        }
    }
}

/// The sums of the pages that count something, in the order of a reader.
fn pages(histogram: &Histogram<'_>) -> Vec<u64> {
    let mut sums = Vec::new();
    histogram
        .pages(|page| {
            let sum: u64 = match histogram.slots(&page)? {
                Slots::Narrow(words) => words.iter().map(|word| u64::from(word.load(Relaxed))).sum(),
                Slots::Wide(words) => words.iter().map(|word| u64::from(word.load(Relaxed))).sum(),
                Slots::Whole(words) => words.iter().map(|word| word.load(Relaxed)).sum(),
            };
            sums.push(sum);
            Some(())
        })
        .unwrap();
    sums.retain(|sum| *sum > 0);
    sums
}

fn counts(histogram: &Histogram<'_>) -> Vec<u64> {
    histogram.read().unwrap().0.iter().map(|(_, count)| *count).collect()
}

/// Values of different pages: two of the first octave, and one of a higher one.
const VALUES: [u64; 3] = [0, 77, 5_000_000];

#[test]
fn each_of_several_workers_counts_in_a_page_of_its_own() {
    let _alone = alone();
    for finest in [Level::Three, Level::Two, Level::OneHalf] {
        let segment = private_segment(1 << 20);
        let _child = second_worker(&segment);
        let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
        let first = of_lane(&segment, &histogram, 1).not_finer_than(finest);
        let second = of_lane(&segment, &histogram, 2).not_finer_than(finest);
        record(&first, 5_000_000, MANY);
        let narrow = pages(&first)[1];
        record(&second, 5_000_000, 300);
        record(&first, 5_000_000, 5);
        assert_eq!(pages(&first), [MANY - narrow + 5, 300, narrow], "{finest:?}");
        assert_eq!(counts(&first), [MANY + 305]);
    }
}

#[test]
fn a_worker_that_is_alone_has_no_stripes() {
    let segment = private_segment(1 << 20);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let (first, second) = (of_lane(&segment, &histogram, 1), of_lane(&segment, &histogram, 2));
    record(&first, 77, MANY);
    record(&second, 77, 300);
    assert_eq!(pages(&first).len(), 2);
    assert_eq!(counts(&first), [MANY + 300]);
}

#[test]
fn workers_that_are_sixteen_lanes_apart_share_a_stripe() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let _child = second_worker(&segment);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    for lane in [1, 17, 2, 33, 18] {
        record(&of_lane(&segment, &histogram, lane), 77, MANY);
    }
    let first = of_lane(&segment, &histogram, 1);
    let found = pages(&first);
    assert_eq!((found.len(), found[1]), (3, 2 * MANY));
    assert_eq!(counts(&first), [5 * MANY]);
}

#[test]
fn zeros_are_told_from_all_stripes() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let _child = second_worker(&segment);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let (first, second) = (of_lane(&segment, &histogram, 1), of_lane(&segment, &histogram, 2));
    record(&first, 0, MANY);
    let before = first.zeros().unwrap();
    record(&second, 0, 7);
    assert_eq!(first.zeros().unwrap(), before + 7);
    assert_eq!(counts(&first), [MANY + 7]);
}

#[test]
fn without_room_for_a_stripe_a_worker_counts_in_that_of_another() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let _child = second_worker(&segment);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let (first, second) = (of_lane(&segment, &histogram, 1), of_lane(&segment, &histogram, 2));
    record(&first, 77, MANY);
    exhaust_but(&segment, segment.geometry().lines / 4 * 3);
    record(&second, 77, 300);
    assert_eq!(pages(&first).len(), 2);
    assert_eq!(counts(&first), [MANY + 300]);
}

#[test]
fn when_a_quarter_of_the_pool_is_taken_a_page_gets_wider_instead() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let _child = second_worker(&segment);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let (first, second) = (of_lane(&segment, &histogram, 1), of_lane(&segment, &histogram, 2));
    record(&first, 77, 1);
    exhaust_but(&segment, segment.geometry().lines / 4 * 3);
    record(&first, 77, MANY);
    record(&second, 77, MANY);
    assert_eq!(pages(&first).len(), 2);
    assert_eq!(counts(&first), [2 * MANY + 1]);
}

#[test]
fn a_stripe_gets_wider_by_itself() {
    let _alone = alone();
    for finest in [Level::Three, Level::OneHalf] {
        let segment = private_segment(1 << 20);
        let _child = second_worker(&segment);
        let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
        let first = of_lane(&segment, &histogram, 1).not_finer_than(finest);
        record(&first, 5_000_000, MANY);
        first.pages(|page| {
            if let Slots::Wide(words) = first.slots(&page)? {
                for word in words.iter().filter(|word| word.load(Relaxed) > 0) {
                    word.store(0xC000_0000 - 10, Relaxed);
                }
            }
            Some(())
        });
        let before = counts(&first)[0];
        record(&first, 5_000_000, 1000);
        record(&of_lane(&segment, &histogram, 2), 5_000_000, 10);
        assert_eq!(pages(&first).len(), 4, "{finest:?}");
        assert_eq!(counts(&first), [before + 1010], "{finest:?}");
    }
}

#[test]
fn processes_that_record_at_once_lose_nothing() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let _child = second_worker(&segment);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let series = histogram.series("one");
    let children = [(); 3].map(|()| {
        Forked::start(|| {
            for _ in 0..MANY {
                for value in VALUES {
                    series.record(Number::Int(value as i64));
                }
            }
        })
    });
    children.into_iter().for_each(Forked::join);
    let found = histogram.distribution("one");
    let slots: Vec<u64> = found.slots().iter().map(|(_, count)| *count).collect();
    assert_eq!(slots, [3 * MANY; 3]);
    // The narrow page of each value, and a stripe for each child that still recorded then.
    assert!(pages(&of_lane(&segment, &histogram, 1)).len() > 2 * VALUES.len());
}

#[test]
fn damaged_stripes_are_refused() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let _child = second_worker(&segment);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let first = of_lane(&segment, &histogram, 1);
    record(&first, 5_000_000, MANY);
    let region = segment.region();
    // The references are the line before the wide page; whatever one of them says, nothing is read or written out of bounds.
    let mut wide = None;
    first.pages(|page| {
        if matches!(first.slots(&page)?, Slots::Wide(_)) {
            wide = Some(page.at);
        }
        Some(())
    });
    let references = region.u32s(wide.unwrap() - LINE, LINE / 4).unwrap();
    for damage in [
        1,
        0b1100 | 1,
        0b1101,
        0xFFFF_FFFF,
        0xFFFF_FFE1,
        (1 << 5) | 16 | 0b1101,
        2,
    ] {
        for reference in references {
            let before = reference.swap(damage, Relaxed);
            for lane in 0..17 {
                let histogram = of_lane(&segment, &histogram, lane);
                let _ = histogram.roomy_slot(5_000_000);
                let _ = histogram.record(5_000_000);
                let _ = histogram.read();
                let _ = histogram.zeros();
            }
            reference.store(before, Relaxed);
        }
    }
    // Stripes within stripes and a stripe of another step cannot be.
    for damage in [0b1101, 2] {
        let before = references[5].swap(damage, Relaxed);
        assert!(first.read().is_none(), "{damage}");
        references[5].store(before, Relaxed);
    }
}
