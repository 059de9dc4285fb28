//! Cardinality limits: each stream keeps as many attribute sets as its own limit says, and the rest counts in its overflow series.

mod fixture;

use std::collections::HashMap;
use std::sync::Arc;

use fixture::{
    descriptor, label_of, labelled, number_of, numbered_exemplar, private_segment, viewed, Directory, Instrument,
};
use otel_perf_core::drops::Drop;
use otel_perf_core::exemplar::Buckets;
use otel_perf_core::instrument::{Descriptor, Kind};
use otel_perf_core::lane::Number;
use otel_perf_core::local::LocalSeries;
use otel_perf_core::reader::{Point, Preferences, Readers, Temporality, Value};
use otel_perf_core::segment::{Segment, CARDINALITY_LIMIT};
use otel_perf_core::stream::{Aggregation, Stream};
use otel_perf_core::tables::OVERFLOW_ATTRIBUTES;

/// The series of a set, or the overflow series where it has none.
fn series_or_overflow(instrument: &Instrument, label: &str) -> Arc<LocalSeries> {
    let found = instrument.series_of(&labelled(label));
    found.unwrap_or_else(|reason| {
        assert_eq!(reason, Drop::Overflow);
        Arc::clone(&instrument.overflow)
    })
}

/// Adds 1 to each of so many attribute sets.
fn add_to_sets(instrument: &Instrument, sets: usize) {
    (0..sets).for_each(|number| _ = series_or_overflow(instrument, &number.to_string()).write(Number::Int(1)));
}

fn stream_with_variant(variant: u32) -> Descriptor {
    Descriptor {
        stream: Stream {
            variant,
            ..Stream::unviewed(Kind::Counter)
        },
        ..descriptor(Kind::Counter, "requests", "{request}")
    }
}

fn wants(temporality: Temporality, limit: u32) -> Arc<Preferences> {
    Arc::new(Preferences {
        limit: [limit; 7],
        ..Preferences::of(temporality)
    })
}

/// Numbers of points by label; the overflow series has none.
fn numbers(segment: &Segment, points: &[Point]) -> HashMap<Option<String>, i64> {
    let each = points.iter().map(|point| {
        let bytes = segment.attribute_bytes(point.series).unwrap();
        let label = (bytes != OVERFLOW_ATTRIBUTES).then(|| label_of(&bytes).unwrap());
        match point.value {
            Value::Number(Number::Int(number)) => (label, number),
            _ => panic!("{point:?}"),
        }
    });
    let numbers: HashMap<_, _> = each.collect();
    assert_eq!(numbers.len(), points.len());
    numbers
}

/// A stream has as many series as its limit and the overflow series, and together they hold every recording.
#[test]
fn every_stream_has_a_limit_of_its_own() {
    let segment = private_segment(1 << 20);
    let limits = [0, 1, 3, 40, 200];
    let streams: Vec<_> = limits
        .iter()
        .map(|limit| {
            let asked = viewed(Kind::Counter, "requests", "{request}", limit + 1, Aggregation::Sum);
            Instrument::of_stream(&segment, &asked, *limit, None)
        })
        .collect();
    // Twice, so that sets are found again after the limit was reached.
    (0..2).for_each(|_| streams.iter().for_each(|stream| add_to_sets(stream, 100)));
    for (stream, limit) in streams.iter().zip(limits) {
        let mut found = stream.numbers();
        let overflow = found.remove(OVERFLOW_ATTRIBUTES);
        let kept = (limit as usize).min(100);
        assert_eq!(found.len(), kept);
        assert!(found.values().all(|number| *number == Number::Int(2)));
        let beyond = (kept < 100).then(|| Number::Int(2 * (100 - kept as i64)));
        assert_eq!(overflow, beyond, "limit {limit}");
    }
}

/// A set that asks for the overflow attributes itself gets the overflow series and takes no place of the limit.
#[test]
fn the_overflow_attributes_are_the_overflow_series() {
    let segment = private_segment(1 << 20);
    let counter = Instrument::with_limit(&segment, Kind::Counter, "requests", "{request}", 1);
    let asked = counter.series_of(OVERFLOW_ATTRIBUTES).unwrap();
    assert_eq!(asked.id(), counter.overflow.id());
    assert!(counter.overflow.is_overflow());
    assert!(!counter.series("one").is_overflow());
    assert_eq!(counter.series_of(&labelled("two")).unwrap_err(), Drop::Overflow);
}

/// Readers with other limits than most have a stream for each limit, get only its series, and lose none of the recordings.
#[test]
fn each_reader_gets_the_stream_of_its_limit() {
    let segment = private_segment(1 << 20);
    let streams = [(0, CARDINALITY_LIMIT), (3, 3), (7, 7)]
        .map(|(variant, limit)| Instrument::of_stream(&segment, &stream_with_variant(variant), limit, None));
    let mut readers = Readers::default();
    let limits = [CARDINALITY_LIMIT, 3, 7, 3];
    for (reader, limit) in limits.into_iter().enumerate() {
        let temporality = [Temporality::Cumulative, Temporality::Delta][reader % 2];
        readers.add(reader as u64, wants(temporality, limit));
    }
    for round in 1..=2 {
        for stream in &streams {
            add_to_sets(stream, 20);
        }
        for (reader, limit) in limits.into_iter().enumerate() {
            let each = if reader % 2 == 1 { 1 } else { round };
            let mut found = numbers(&segment, &readers.collect(&segment, reader as u64, 0));
            let kept = (limit as i64).min(20);
            assert_eq!(found.remove(&None), (kept < 20).then_some(each * (20 - kept)));
            let expected = (0..kept).map(|number| (Some(number.to_string()), each));
            assert_eq!(found, expected.collect());
        }
    }
}

/// A reader for whose limit there is no stream gets the common one.
#[test]
fn a_reader_without_a_stream_of_its_limit_gets_the_common_one() {
    let segment = private_segment(1 << 20);
    let common = Instrument::of_stream(&segment, &stream_with_variant(0), CARDINALITY_LIMIT, None);
    let special = Instrument::of_stream(&segment, &stream_with_variant(3), 3, None);
    // Another instrument has no special stream at all.
    let other = Instrument::new(&segment, Kind::Counter, "other", "{request}");
    for stream in [&common, &special, &other] {
        add_to_sets(stream, 5);
    }
    let mut readers = Readers::default();
    for (limit, expected) in [(5, &common), (CARDINALITY_LIMIT, &common), (3, &special)] {
        readers.add(1, wants(Temporality::Cumulative, limit));
        let points = readers.collect(&segment, 1, 0);
        let mut streams: Vec<_> = points.iter().map(|point| point.stream.0).collect();
        streams.dedup();
        assert_eq!(streams, [expected.id.0, other.id.0]);
    }
}

/// A limit is a reader's by kind of instrument.
#[test]
fn a_reader_may_have_another_limit_for_one_kind() {
    let segment = private_segment(1 << 20);
    let gauge = |variant| Descriptor {
        stream: Stream {
            variant,
            ..Stream::unviewed(Kind::Gauge)
        },
        ..descriptor(Kind::Gauge, "temperature", "Cel")
    };
    let counters = [0, 3].map(|variant| Instrument::of_stream(&segment, &stream_with_variant(variant), 3, None));
    let gauges = [0, 3].map(|variant| Instrument::of_stream(&segment, &gauge(variant), 3, None));
    counters.iter().chain(&gauges).for_each(|stream| add_to_sets(stream, 1));
    let mut wants = Preferences::of(Temporality::Cumulative);
    wants.limit[Kind::Gauge as usize - 1] = 3;
    let mut readers = Readers::default();
    readers.add(1, Arc::new(wants));
    let points = readers.collect(&segment, 1, 0);
    let streams: Vec<_> = points.iter().map(|point| point.stream).collect();
    assert_eq!(streams, [counters[0].id, gauges[1].id]);
}

/// The limit of a stream is that of the process which made it, whatever others ask for.
#[test]
fn the_first_limit_of_a_stream_stays() {
    let directory = Directory::new();
    let segment = fixture::named_segment(&directory, 1 << 20);
    let first = Instrument::with_limit(&segment, Kind::Counter, "requests", "{request}", 2);
    let attached = Arc::new(Segment::attach(segment.path().unwrap()).unwrap());
    let second = Instrument::with_limit(&attached, Kind::Counter, "requests", "{request}", 100);
    assert_eq!(first.id, second.id);
    add_to_sets(&second, 10);
    assert_eq!(first.numbers().len(), 3);
    assert_eq!(first.numbers()[OVERFLOW_ATTRIBUTES], Number::Int(8));
}

/// The overflow series asks for exemplars as any other series does, for each of its buckets and in each window.
#[test]
fn the_overflow_series_has_exemplars() {
    let segment = private_segment(1 << 20);
    let boundaries = vec![10.0, 100.0];
    let aggregation = Aggregation::Explicit {
        boundaries: Some(boundaries.clone()),
        record_min_max: true,
    };
    let asked = viewed(Kind::Histogram, "size", "By", 1, aggregation);
    let histogram = Instrument::of_stream(&segment, &asked, 1, Some(Buckets::Explicit(boundaries)));
    let mut readers = Readers::default();
    readers.add(1, wants(Temporality::Delta, CARDINALITY_LIMIT));
    for window in 0..3_u64 {
        // Values in one bucket each; of the sets only the first one has a series.
        let values = [2 * window, 20 + 2 * window, 200 + 2 * window];
        for number in 0..4 {
            for value in values {
                let series = series_or_overflow(&histogram, &number.to_string());
                let amount = Number::Int(value as i64);
                series.record(amount);
                if let Some(bucket) = series.wanted_bucket(amount) {
                    series.keep_exemplar(bucket, &numbered_exemplar(value));
                }
            }
        }
        let points = readers.collect(&segment, 1, 0);
        let overflow = points
            .iter()
            .find(|point| point.series == histogram.overflow.id())
            .unwrap();
        let Value::Distribution(found) = &overflow.value else {
            panic!("{overflow:?}");
        };
        assert_eq!(found.explicit(&[10.0, 100.0]), [3, 3, 3]);
        let mut kept: Vec<_> = overflow.exemplars.iter().map(|e| number_of(e).unwrap()).collect();
        kept.sort_unstable();
        assert_eq!(kept, values);
        assert_eq!(points.len(), 2);
    }
}
