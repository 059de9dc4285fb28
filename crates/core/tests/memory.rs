//! A full segment goes on counting: never an error, never a byte beyond its size, and every recording is in some series.

mod fixture;

use std::sync::Arc;

use fixture::{labelled, private_segment, scaled, Instrument, Random};
use otel_perf_core::attributes::{encode, Value as Attribute, MAX_BYTES};
use otel_perf_core::distribution::Distribution;
use otel_perf_core::drops::Drop;
use otel_perf_core::instrument::Kind;
use otel_perf_core::lane::Number;
use otel_perf_core::layout::{DEFAULT_SIZE, LINE, MINIMUM_SIZE};
use otel_perf_core::segment::Segment;
use otel_perf_core::tables::OVERFLOW_ATTRIBUTES;

const SIZES: [u64; 2] = [MINIMUM_SIZE, DEFAULT_SIZE];

fn assert_within_bounds(segment: &Segment) {
    let g = segment.geometry();
    assert!(g.pool_at + segment.used_lines() as usize * LINE <= g.size);
    let usage = segment.memory_usage();
    assert_eq!(
        usage.iter().map(|(_, bytes)| bytes).sum::<u64>(),
        g.size as u64,
        "{usage:?}"
    );
    let free = usage.iter().find(|(part, _)| *part == "free").unwrap().1;
    assert!(
        free >= u64::from(g.lines - segment.used_lines()) * LINE as u64,
        "{usage:?}"
    );
}

/// Records `recordings` times into attribute sets that are all different; answers how many got no series of their own.
fn record_distinct_sets(instrument: &Instrument, recordings: usize) -> usize {
    let mut overflowed = 0;
    for number in 0..recordings {
        let series = instrument
            .series_of(&labelled(&format!("customer {number}")))
            .unwrap_or_else(|reason| {
                assert_eq!(reason, Drop::Overflow);
                overflowed += 1;
                Arc::clone(&instrument.overflow)
            });
        series.add(Number::Int(1));
    }
    overflowed
}

#[test]
fn a_million_attribute_sets_within_the_cardinality_limit_overflow_exactly() {
    for size in SIZES {
        let segment = private_segment(size);
        let counter = Instrument::new(&segment, Kind::Counter, "orders", "{order}");
        let recordings = scaled(1_000_000);
        let overflowed = record_distinct_sets(&counter, recordings);
        let mut numbers = counter.numbers();
        assert_eq!(
            numbers.remove(OVERFLOW_ATTRIBUTES),
            Some(Number::Int(overflowed as i64))
        );
        assert_eq!(numbers.len() + overflowed, recordings);
        assert!(numbers.values().all(|number| *number == Number::Int(1)));
        assert_within_bounds(&segment);
    }
}

#[test]
fn a_million_attribute_sets_without_a_limit_fill_the_table_and_overflow_exactly() {
    for size in SIZES {
        let segment = private_segment(size);
        let counter = Instrument::with_limit(&segment, Kind::Counter, "orders", "{order}", u32::MAX);
        let recordings = scaled(1_000_000);
        let overflowed = record_distinct_sets(&counter, recordings);
        let mut numbers = counter.numbers();
        assert_eq!(
            numbers.remove(OVERFLOW_ATTRIBUTES),
            Some(Number::Int(overflowed as i64))
        );
        assert_eq!(numbers.len() + overflowed, recordings);
        assert_eq!(numbers.len() + 1, segment.geometry().series);
        assert_within_bounds(&segment);
    }
}

#[test]
fn refused_attribute_sets_take_no_memory() {
    for kind in [Kind::Counter, Kind::Histogram] {
        let segment = private_segment(DEFAULT_SIZE);
        let instrument = Instrument::with_limit(&segment, kind, "orders", "{order}", u32::MAX);
        let mut number = 0;
        let mut refuse_next = || {
            number += 1;
            instrument.series_of(&labelled(&format!("customer {number}"))).is_err()
        };
        while !refuse_next() {}
        // Space for attribute bytes that is already set aside may go first.
        (0..200).for_each(|_| assert!(refuse_next()));
        let before = segment.used_lines();
        (0..scaled(100_000)).for_each(|_| assert!(refuse_next()));
        assert_eq!(
            segment.used_lines() - before,
            0,
            "lines lost by refused sets of a {kind:?}"
        );
    }
}

#[test]
fn histograms_of_a_million_attribute_sets_hold_all_recordings() {
    for size in SIZES {
        let segment = private_segment(size);
        let histogram = Instrument::with_limit(&segment, Kind::Histogram, "duration", "s", u32::MAX);
        let recordings = scaled(1_000_000);
        let mut random = Random(size);
        for number in 0..recordings {
            let series = histogram.series_of(&labelled(&format!("{number}")));
            let series = series.unwrap_or_else(|_| Arc::clone(&histogram.overflow));
            series.record(Number::Float(random.lognormal(0.02, 1.0)));
        }
        let counted: u64 = histogram.distributions().values().map(Distribution::count).sum();
        assert_eq!(counted, recordings as u64);
        assert_within_bounds(&segment);
    }
}

#[test]
fn instruments_beyond_the_table_are_refused_and_those_before_go_on() {
    for size in SIZES {
        let segment = private_segment(size);
        let first = Instrument::new(&segment, Kind::Counter, "first", "{item}");
        let add = |number: usize| {
            let descriptor = fixture::descriptor(Kind::Counter, &format!("instrument {number}"), "{item}");
            segment.stream(&descriptor, 2000).is_some()
        };
        let accepted = (0..20_000).filter(|number| add(*number)).count();
        assert!(accepted > 50 && accepted < segment.geometry().streams, "{accepted}");
        let before = segment.used_lines();
        assert!((20_000..40_000).all(|number| !add(number)));
        assert_eq!(segment.used_lines() - before, 0, "lines lost by refused instruments");
        first.series("one").add(Number::Int(1));
        assert_eq!(first.number("one"), Some(Number::Int(1)));
        assert_within_bounds(&segment);
    }
}

#[test]
fn instruments_of_every_kind_share_a_full_segment_without_losing_a_recording() {
    let segment = private_segment(MINIMUM_SIZE);
    let sums = [Kind::Counter, Kind::UpDownCounter].map(|kind| Instrument::new(&segment, kind, "sum", "{item}"));
    let histogram = Instrument::new(&segment, Kind::Histogram, "size", "By");
    let gauge = Instrument::new(&segment, Kind::Gauge, "level", "By");
    let mut random = Random(3);
    let recordings = scaled(300_000);
    for number in 0..recordings {
        let label = labelled(&format!("{}", random.below(5_000)));
        let or_overflow = |of: &Instrument| of.series_of(&label).unwrap_or_else(|_| Arc::clone(&of.overflow));
        for sum in &sums {
            or_overflow(sum).add(Number::Int(1));
        }
        or_overflow(&histogram).record(Number::Int((random.next() >> (15 + random.below(49))) as i64));
        or_overflow(&gauge).set(Number::Int(number as i64));
    }
    for sum in &sums {
        let total: f64 = sum.numbers().values().map(|number| number.as_f64()).sum();
        assert_eq!(total, recordings as f64);
    }
    let counted: u64 = histogram.distributions().values().map(Distribution::count).sum();
    assert_eq!(counted, recordings as u64);
    assert_eq!(segment.tables().drops(Drop::Corrupt), 0);
    assert_within_bounds(&segment);
}

#[test]
fn an_attribute_set_longer_than_a_series_keeps_is_refused_by_name() {
    let segment = private_segment(DEFAULT_SIZE);
    let counter = Instrument::new(&segment, Kind::Counter, "orders", "{order}");
    let of_len = |len: usize| {
        let empty = encode(&mut vec![(b"k".to_vec(), Attribute::Text(vec![b'x'; 5000]))]).len() - 5000;
        encode(&mut vec![(b"k".to_vec(), Attribute::Text(vec![b'x'; len - empty]))])
    };
    for len in [MAX_BYTES - 1, MAX_BYTES] {
        assert_eq!(of_len(len).len(), len);
        counter.series_of(&of_len(len)).unwrap().add(Number::Int(1));
        assert_eq!(counter.numbers()[&of_len(len)], Number::Int(1));
    }
    assert_eq!(
        counter.series_of(&of_len(MAX_BYTES + 1)).unwrap_err(),
        Drop::LongAttributes
    );
}
