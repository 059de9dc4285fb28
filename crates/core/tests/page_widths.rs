//! Slots grow from 16 to 32 to 64 bits while they are recorded into, and no count is lost on the way.

mod fixture;

use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use fixture::{private_segment, Instrument};
use otel_perf_core::drops::Drop;
use otel_perf_core::hdr::{octave, slot_in_octave, Level, MAX_VALUE};
use otel_perf_core::histogram::Histogram;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::{Geometry, LINE};
use otel_perf_core::local::LocalSeries;
use otel_perf_core::pool::{Pool, Use};
use otel_perf_core::segment::Segment;

/// Byte offset of a histogram's first entry within its header.
const ENTRIES: usize = 32;
/// Slots of a page below a node.
const PAGE: usize = 64;

/// A page as its reference describes it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    slots_at: usize,
    linked: bool,
    width: u32,
}

fn block(geometry: &Geometry, reference: u32) -> Page {
    let start = geometry.line(reference >> 5).unwrap();
    let linked = reference & 16 != 0;
    Page {
        slots_at: start + if linked { LINE } else { 0 },
        linked,
        width: (reference >> 2) & 3,
    }
}

/// The page in front that counts `value` in a series whose octaves are at three digits.
fn page_of(segment: &Segment, series: &LocalSeries, value: u64) -> Page {
    let half = |at| segment.region().u32(at).unwrap().load(Relaxed);
    let header = segment.tables().read_series(series.id()).unwrap().histogram_at.unwrap();
    let octave = octave(value);
    let node = block(segment.geometry(), half(header + ENTRIES + 4 * octave));
    let slot = slot_in_octave(value, octave, Level::Three);
    block(segment.geometry(), half(node.slots_at + 4 * (slot / PAGE)))
}

/// Byte offset of the slot of `value` in its page.
fn slot_at(page: Page, value: u64) -> usize {
    let slot = slot_in_octave(value, octave(value), Level::Three) % PAGE;
    page.slots_at + (slot << (page.width + 1))
}

fn exhaust(segment: &Segment) {
    let pool = Pool::new(segment.region(), segment.geometry());
    while pool.take(1, 0, Use::Attributes).is_some() {}
}

#[test]
fn a_slot_recorded_200_000_times_moves_to_32_bits_and_counts_all() {
    let segment = private_segment(1 << 20);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let series = histogram.series("one");
    for value in [5, 5_000_000] {
        for _ in 0..200_000 {
            series.record(Number::Int(value));
        }
        let page = page_of(&segment, &series, value as u64);
        assert_eq!((page.width, page.linked), (1, true));
    }
    let found = histogram.distribution("one");
    assert_eq!(
        found.slots().iter().map(|(_, count)| *count).collect::<Vec<_>>(),
        [200_000, 200_000]
    );
    assert_eq!(found.sum(), Number::Int(200_000 * 5_000_005));
}

#[test]
fn threads_that_widen_the_same_page_lose_nothing() {
    let segment = private_segment(1 << 20);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let series = histogram.series("one");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50_000).for_each(|_| _ = series.record(Number::Int(77))));
        }
    });
    assert_eq!(histogram.distribution("one").count(), 200_000);
    assert_eq!(page_of(&segment, &series, 77).width, 1);
}

#[test]
fn a_slot_near_the_end_of_32_bits_moves_to_64_bits() {
    let segment = private_segment(1 << 20);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let series = histogram.series("one");
    (0..50_000).for_each(|_| _ = series.record(Number::Int(77)));
    let page = page_of(&segment, &series, 77);
    assert_eq!(page.width, 1);
    // Three quarters of the range are where the next width begins; set the slot shortly before.
    let slot = segment.region().u32(slot_at(page, 77)).unwrap();
    let before = u64::from(slot.swap(0xC000_0000 - 10, Relaxed));
    (0..1000).for_each(|_| _ = series.record(Number::Int(77)));
    let wide = page_of(&segment, &series, 77);
    assert_eq!((wide.width, wide.linked), (2, true));
    let narrow = 50_000 - before;
    assert_eq!(histogram.distribution("one").count(), narrow + 0xC000_0000 - 10 + 1000);
    assert_eq!(segment.region().u64(slot_at(wide, 77)).unwrap().load(Relaxed), 989);
}

#[test]
fn a_slot_of_64_bits_counts_beyond_32_bits() {
    let segment = private_segment(1 << 20);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let series = histogram.series("one");
    for _ in 0..2 {
        let page = loop {
            let page = {
                series.record(Number::Int(77));
                page_of(&segment, &series, 77)
            };
            if page.width == 2 {
                break page;
            }
            if page.width == 1 {
                segment
                    .region()
                    .u32(slot_at(page, 77))
                    .unwrap()
                    .store(0xC000_0000, Relaxed);
            }
        };
        segment
            .region()
            .u64(slot_at(page, 77))
            .unwrap()
            .store(u64::from(u32::MAX), Relaxed);
        let before = histogram.distribution("one").count();
        (0..10).for_each(|_| _ = series.record(Number::Int(77)));
        assert_eq!(histogram.distribution("one").count(), before + 10);
    }
}

#[test]
fn a_slot_that_cannot_be_widened_hands_its_counts_to_the_overflow_series() {
    let segment = private_segment(128 << 10);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let series = histogram.series("one");
    series.record(Number::Int(77));
    exhaust(&segment);
    (1..100_000).for_each(|_| _ = series.record(Number::Int(77)));
    let own = histogram.distribution("one").count();
    let all: u64 = histogram
        .distributions()
        .values()
        .map(otel_perf_core::distribution::Distribution::count)
        .sum();
    // A slot of 16 bits is filled nearly to its end before anything goes elsewhere.
    assert!((0xFF00..=0xFFFF).contains(&own), "{own}");
    assert_eq!(all, 100_000);
    assert_eq!(segment.tables().drops(Drop::NoPage), 100_000 - own);
}

#[test]
fn an_overflow_series_whose_own_slot_is_full_counts_in_its_last_resort() {
    let segment = private_segment(128 << 10);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    histogram.overflow.record(Number::Int(77));
    exhaust(&segment);
    (1..100_000).for_each(|_| _ = histogram.overflow.record(Number::Int(77)));
    let counted: u64 = histogram
        .distributions()
        .values()
        .map(otel_perf_core::distribution::Distribution::count)
        .sum();
    assert_eq!(counted, 100_000);
}

#[test]
fn an_overflow_series_without_any_page_counts_by_octave() {
    let segment = private_segment(128 << 10);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let series = histogram.series("one");
    exhaust(&segment);
    for value in [3, 2_000, 2_047, 1 << 30] {
        series.record(Number::Int(value));
    }
    let distributions = histogram.distributions();
    let (_, overflow) = distributions.into_iter().next().unwrap();
    assert_eq!(overflow.coarsest(), Level::Octave);
    let counts: Vec<_> = overflow
        .slots()
        .iter()
        .map(|(slot, count)| (slot.octave, *count))
        .collect();
    assert_eq!(counts, [(0, 1), (1, 2), (21, 1)]);
    assert_eq!((overflow.min(), overflow.max()), (3.0, f64::from(1 << 30)));
    assert_eq!(overflow.sum(), Number::Int(3 + 2_000 + 2_047 + (1 << 30)));
}

#[test]
fn recording_a_histogram_answers_counted_for_every_value_of_the_range() {
    let segment = private_segment(4 << 20);
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let record = segment.tables().read_series(histogram.series("one").id()).unwrap();
    let core = Histogram::new(
        segment.region(),
        segment.geometry(),
        record.histogram_at.unwrap(),
        false,
    );
    for shift in 0..64 {
        for value in [(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1, u64::MAX >> shift] {
            assert_eq!(
                core.record(value.min(MAX_VALUE)),
                otel_perf_core::histogram::Recorded::Counted
            );
        }
    }
    assert_eq!(
        core.read().unwrap().0.iter().map(|(_, count)| count).sum::<u64>(),
        4 * 64
    );
}
