//! What the table of exemplars keeps, replaces and loses, as one thread sees it.

mod fixture;
mod forked;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use fixture::{
    all_exemplars, descriptor, exhaust_but, number_of, numbered_exemplar, private_segment, viewed, Instrument, Random,
};
use forked::alone;
use otel_perf_core::drops::Drop;
use otel_perf_core::exemplar::{Buckets, Exemplar, SpanIds, ATTRIBUTES_MAX};
use otel_perf_core::hdr::OCTAVES;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::{header, LINE, MINIMUM_SIZE};
use otel_perf_core::reader::{Preferences, Readers, Temporality};
use otel_perf_core::segment::Segment;
use otel_perf_core::stream::Aggregation;
use otel_perf_core::tables::SeriesId;

/// Bytes of a slot, slots of a set, and where in a slot the number of the series stands, plus one.
const SLOT: usize = 3 * LINE;
const WAYS: usize = 4;
const SERIES: usize = 12;

/// First byte and number of the sets.
fn table(segment: &Segment) -> (usize, usize) {
    let word = segment.region().u64(header::EXEMPLARS).unwrap().load(Relaxed);
    (segment.geometry().line(word as u32).unwrap(), (word >> 32) as usize)
}

/// The set in which a series has an exemplar.
fn set_of(segment: &Segment, series: u32) -> Option<usize> {
    let (start, sets) = table(segment);
    let series_at = |slot| {
        segment
            .region()
            .u32(start + slot * SLOT + SERIES)
            .unwrap()
            .load(Relaxed)
    };
    let slot = (0..sets * WAYS).find(|slot| series_at(*slot) == series + 1)?;
    Some(slot / WAYS)
}

fn exemplar(value: Number) -> Exemplar {
    Exemplar {
        value,
        ..numbered_exemplar(1)
    }
}

fn lost(segment: &Segment) -> u64 {
    segment.tables().drops(Drop::NoExemplar)
}

/// An exemplar has the value with its type, the time, the span and the attributes with which it was kept.
#[test]
fn an_exemplar_comes_back_as_it_was_kept() {
    let span = SpanIds {
        trace: u128::MAX - 7,
        span: u64::MAX - 9,
    };
    for value in [
        Number::Int(i64::MIN),
        Number::Int(0),
        Number::Float(-0.25),
        Number::Float(f64::MAX),
    ] {
        for span in [None, Some(span)] {
            for length in [None, Some(0), Some(1), Some(7), Some(8), Some(9), Some(ATTRIBUTES_MAX)] {
                let segment = private_segment(MINIMUM_SIZE);
                let dropped = length.map(|length| (1..=length as u8).collect());
                let kept = Exemplar {
                    value,
                    time_unix_ns: u64::MAX,
                    span,
                    dropped,
                };
                segment.exemplars().keep(SeriesId(3), 2, &kept);
                assert_eq!(all_exemplars(&segment), HashMap::from([(3, vec![kept])]));
            }
        }
    }
}

/// Attributes that do not fit into a slot are left out whole, because half a set of them would be a wrong one.
#[test]
fn attributes_longer_than_a_slot_are_left_out_whole() {
    let segment = private_segment(MINIMUM_SIZE);
    for length in [ATTRIBUTES_MAX + 1, ATTRIBUTES_MAX + 8, 8192, 100_000] {
        let kept = Exemplar {
            dropped: Some(vec![7; length]),
            ..numbered_exemplar(1)
        };
        segment.exemplars().keep(SeriesId(0), 0, &kept);
        let left = Exemplar {
            dropped: Some(Vec::new()),
            ..kept
        };
        assert_eq!(all_exemplars(&segment)[&0], [left]);
    }
}

/// Each series and bucket has an exemplar of its own, and the latest one kept for them is the one that is found.
#[test]
fn exemplars_are_found_by_series_and_bucket() {
    let segment = private_segment(1 << 20);
    for round in 0..3_u64 {
        for series in 0..6 {
            for bucket in 0..5 {
                let number = round * 1_000 + u64::from(series) * 10 + u64::from(bucket);
                let kept = numbered_exemplar(number);
                segment.exemplars().keep(SeriesId(series), bucket, &kept);
            }
        }
        let found = all_exemplars(&segment);
        assert_eq!((found.len(), lost(&segment)), (6, 0));
        for (series, exemplars) in found {
            let numbers: HashSet<_> = exemplars.iter().map(|exemplar| number_of(exemplar).unwrap()).collect();
            let expected = (0..5).map(|bucket| round * 1_000 + u64::from(series) * 10 + bucket);
            assert_eq!(numbers, expected.collect());
        }
    }
}

/// The exemplars of a series are in the order of their time, whatever the order in which they were kept.
#[test]
fn exemplars_of_a_series_come_oldest_first() {
    let segment = private_segment(1 << 20);
    for (bucket, time_unix_ns) in [30, 10, 50, 20, 40].into_iter().enumerate() {
        let kept = Exemplar {
            time_unix_ns,
            ..numbered_exemplar(1)
        };
        segment.exemplars().keep(SeriesId(1), bucket as u8, &kept);
    }
    let times: Vec<_> = all_exemplars(&segment)[&1].iter().map(|e| e.time_unix_ns).collect();
    assert_eq!(times, [10, 20, 30, 40, 50]);
}

/// A series keeps the first recording of each bucket that is offered in a window, and asks for the next one in the next window.
#[test]
fn the_first_eligible_recording_of_a_bucket_and_window_wins() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let aggregation = Aggregation::Explicit {
        boundaries: Some(vec![10.0, 100.0]),
        record_min_max: true,
    };
    let histogram = viewed(Kind::Histogram, "size", "By", 1, aggregation);
    let buckets = Buckets::Explicit(vec![10.0, 100.0]);
    let histogram = Instrument::of_stream(&segment, &histogram, 100, Some(buckets));
    let series = histogram.series("one");
    for window in 0..3_i64 {
        let mut kept = Vec::new();
        for value in [5 + window, 7, 50 + window, 9, 60, 500 + window, 600, 8] {
            let follows_up = series.record(Number::Int(value));
            let wanted = series.wanted_bucket(Number::Int(value));
            assert_eq!(follows_up, wanted.is_some(), "{value}");
            if let Some(bucket) = wanted {
                series.keep_exemplar(bucket, &exemplar(Number::Int(value)));
                kept.push(value);
            }
        }
        assert_eq!(kept, [5 + window, 50 + window, 500 + window]);
        assert!(!series.record(Number::Int(1)), "all buckets have theirs");
        let ended = segment.exemplars().next_window();
        let found = segment.exemplars().between(ended.wrapping_sub(1), ended);
        let mut values: Vec<_> = found[&series.id().0].iter().map(|e| e.value.as_f64() as i64).collect();
        values.sort_unstable();
        assert_eq!(values, kept);
    }
}

/// An exemplar of a new window takes the place of that of an older one, which is then found in no window.
#[test]
fn a_new_window_replaces() {
    let segment = private_segment(MINIMUM_SIZE);
    let exemplars = segment.exemplars();
    exemplars.keep(SeriesId(1), 0, &numbered_exemplar(1));
    exemplars.keep(SeriesId(1), 1, &numbered_exemplar(2));
    let first = exemplars.next_window();
    exemplars.keep(SeriesId(1), 0, &numbered_exemplar(3));
    let second = exemplars.window();
    let numbers = |last, until| {
        let found = exemplars.between(last, until).remove(&1).unwrap_or_default();
        let mut numbers: Vec<_> = found.iter().map(|e| number_of(e).unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers(first.wrapping_sub(1), first), [2]);
    assert_eq!(numbers(first, second), [3]);
    assert_eq!(numbers(first.wrapping_sub(1), second), [2, 3]);
    assert!(numbers(second, second).is_empty());
}

/// The number of the window may pass the end of its range, and the exemplars of both sides are found.
#[test]
fn windows_are_counted_across_the_end_of_their_range() {
    let segment = private_segment(MINIMUM_SIZE);
    segment
        .region()
        .u32(header::WINDOW)
        .unwrap()
        .store(u32::MAX - 1, Relaxed);
    let exemplars = segment.exemplars();
    for number in 0..4 {
        exemplars.keep(SeriesId(number), 0, &numbered_exemplar(u64::from(number)));
        exemplars.next_window();
    }
    assert_eq!(exemplars.window(), 2);
    assert_eq!(exemplars.between(u32::MAX, 0).keys().collect::<Vec<_>>(), [&2]);
    let mut found: Vec<_> = exemplars.between(u32::MAX - 2, 1).into_keys().collect();
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, 3]);
}

/// Every reader gets each exemplar once, whatever the rhythm of the others.
#[test]
fn each_reader_takes_the_exemplars_since_its_last_collection() {
    let _alone = alone();
    let segment = private_segment(1 << 20);
    let counter = descriptor(Kind::Counter, "requests", "{request}");
    let counter = Instrument::of_stream(&segment, &counter, 100, Some(Buckets::One));
    let series: Vec<_> = (0..20).map(|number| counter.series(&format!("{number}"))).collect();
    let mut readers = Readers::default();
    for (reader, temporality) in [(1, Temporality::Cumulative), (2, Temporality::Delta)] {
        readers.add(reader, Arc::new(Preferences::of(temporality)));
    }
    let mut pending = [HashSet::new(), HashSet::new()];
    let mut random = Random(3);
    for _ in 0..500 {
        let chosen = &series[random.below(series.len())];
        chosen.add(Number::Int(1));
        if chosen.wanted_bucket(Number::Int(1)).is_some() {
            chosen.keep_exemplar(0, &exemplar(Number::Int(1)));
            for pending in &mut pending {
                pending.insert(chosen.id().0);
            }
        }
        if random.below(10) == 0 {
            let reader = 1 + random.below(2);
            let points = readers.collect(&segment, reader as u64, 0);
            let with_exemplar = points.iter().filter(|point| !point.exemplars.is_empty());
            let found: HashSet<_> = with_exemplar.map(|point| point.series.0).collect();
            assert_eq!(found, std::mem::take(&mut pending[reader - 1]));
            assert!(points.iter().all(|point| point.exemplars.len() <= 1));
        }
    }
    assert_eq!(lost(&segment), 0);
}

/// Pairs that share a full set with newer ones are replaced, oldest window first.
#[test]
fn a_full_set_gives_up_its_oldest_window() {
    let segment = private_segment(MINIMUM_SIZE);
    let mut by_set: HashMap<usize, Vec<u32>> = HashMap::new();
    for series in 0..300 {
        let kept = numbered_exemplar(u64::from(series));
        segment.exemplars().keep(SeriesId(series), 0, &kept);
        let set = set_of(&segment, series).expect("the newest is in the table");
        by_set.entry(set).or_default().push(series);
        segment.exemplars().next_window();
    }
    assert!(by_set.len() == table(&segment).1 && by_set.values().all(|of_set| of_set.len() > WAYS));
    let expected = by_set.values().flat_map(|of_set| of_set.iter().rev().take(WAYS));
    let found = all_exemplars(&segment);
    assert_eq!(found.keys().collect::<HashSet<_>>(), expected.collect());
    for (series, exemplars) in &found {
        assert_eq!(
            exemplars.iter().map(number_of).collect::<Vec<_>>(),
            [Some(u64::from(*series))]
        );
    }
    assert_eq!(lost(&segment), 0, "each could be read in its window");
}

/// More pairs than slots in one window leave a table of whole exemplars, and those that were replaced before anyone could read them are
/// counted.
#[test]
fn exemplars_that_find_no_place_in_their_window_are_counted() {
    let segment = private_segment(MINIMUM_SIZE);
    for window in 0..5_u32 {
        let before = lost(&segment);
        let mut kept = HashSet::new();
        for number in 0..200_u32 {
            let (series, bucket) = (1_000 * window + number / 3, number % 3);
            let id = u64::from(series) << 8 | u64::from(bucket);
            segment
                .exemplars()
                .keep(SeriesId(series), bucket as u8, &numbered_exemplar(id));
            kept.insert(id);
        }
        let ended = segment.exemplars().next_window();
        let found = segment.exemplars().between(ended.wrapping_sub(1), ended);
        let numbers: Vec<_> = found.values().flatten().map(|e| number_of(e).unwrap()).collect();
        assert!(numbers.iter().all(|id| kept.contains(id)));
        assert_eq!(numbers.len() as u64 + lost(&segment) - before, kept.len() as u64);
        assert!(!numbers.is_empty() && numbers.len() <= table(&segment).1 * WAYS);
    }
}

/// The table takes its memory once, whatever is kept.
#[test]
fn the_table_never_grows() {
    let segment = private_segment(1 << 20);
    let bytes = || {
        let usage = segment.memory_usage();
        assert_eq!(usage.iter().map(|(_, bytes)| bytes).sum::<u64>(), 1 << 20);
        usage.into_iter().find(|(name, _)| *name == "exemplars").unwrap().1
    };
    assert_eq!(bytes(), 0);
    segment.exemplars().keep(SeriesId(0), 0, &numbered_exemplar(0));
    let (taken, used) = (bytes(), segment.used_lines());
    assert!(taken > 0 && taken <= (1 << 20) / 16);
    assert_eq!(taken as usize, table(&segment).1 * WAYS * SLOT);
    for number in 0..10_000 {
        segment
            .exemplars()
            .keep(SeriesId(number % 2_000), (number % 60) as u8, &numbered_exemplar(1));
    }
    assert_eq!((bytes(), segment.used_lines()), (taken, used));
}

/// Where the pool is nearly used up the table is as small as it must be, and where nothing is left the exemplars are counted as lost.
#[test]
fn without_room_for_a_table_exemplars_are_counted() {
    let set = (WAYS * SLOT / LINE) as u32;
    for sets in 0..4 {
        let segment = private_segment(1 << 20);
        let floor = segment.geometry().lines / 64;
        exhaust_but(&segment, floor + sets * set);
        segment.exemplars().keep(SeriesId(1), 0, &numbered_exemplar(1));
        assert_eq!(all_exemplars(&segment).len(), usize::from(sets > 0));
        assert_eq!(lost(&segment), u64::from(sets == 0));
        if sets > 0 {
            assert!((1..=sets as usize).contains(&table(&segment).1));
        }
    }
}

/// There are at most 64 buckets, one bit each, and every value has one of those that are asked for.
#[test]
fn every_value_has_a_bucket_that_is_asked_for() {
    let boundaries = |count: usize| Buckets::Explicit((0..count).map(|n| n as f64).collect());
    let values = [-1e300, -1.0, 0.0, 1e-9, 0.5, 1.0, 1.5, 62.0, 63.0, 64.0, 1e6, 1e300];
    for (buckets, count) in [
        (Buckets::One, 1),
        (boundaries(0), 1),
        (boundaries(1), 2),
        (boundaries(63), 64),
        (boundaries(64), 64),
        (boundaries(500), 64),
        (Buckets::Octaves(1e9), OCTAVES as u32),
    ] {
        assert_eq!(buckets.all().count_ones(), count);
        assert_eq!(buckets.all().trailing_ones(), count);
        for value in values {
            assert_eq!(buckets.all() >> buckets.of(value) & 1, 1, "{buckets:?} {value}");
        }
    }
    // As in the histogram, a value on a boundary belongs to the bucket below it.
    let buckets: Vec<_> = [0.0, 0.5, 1.0, 1.5].map(|value| boundaries(2).of(value)).into();
    assert_eq!(buckets, [0, 1, 1, 2]);
}
