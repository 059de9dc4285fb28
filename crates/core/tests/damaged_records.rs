//! Damage to one stream, to the table of exemplars or to the number of the window: what is hit is skipped, the rest is read as before, and
//! recording goes on.

mod fixture;
mod forked;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use fixture::{
    all_exemplars, named_segment, number_of, numbered_exemplar, private_segment, viewed, write_segment, Directory,
    Instrument, Random,
};
use forked::alone;
use otel_perf_core::drops::Drop;
use otel_perf_core::exemplar::{Buckets, ATTRIBUTES_MAX};
use otel_perf_core::instrument::{Descriptor, Kind};
use otel_perf_core::lane::Number;
use otel_perf_core::layout::{header, Geometry, MINIMUM_SIZE, STREAM};
use otel_perf_core::reader::{Preferences, Readers, Temporality, Value};
use otel_perf_core::segment::Segment;
use otel_perf_core::stream::Aggregation;
use otel_perf_core::tables::{SeriesId, StreamId};

/// Offsets within a stream record: where the descriptor lies, in eighths, and how long it is.
const DESCRIPTOR: usize = 8;
const LENGTH: usize = 12;

/// One stream of each storage, in the order of their numbers.
fn descriptors() -> Vec<Descriptor> {
    let hdr = Aggregation::Hdr {
        significant_digits: 2,
        quantiles: vec![0.5],
        window: 60.0,
    };
    vec![
        viewed(Kind::Counter, "sum", "By", 1, Aggregation::Sum),
        viewed(Kind::UpDownCounter, "both sides", "By", 2, hdr),
        viewed(Kind::ObservableCounter, "total", "By", 3, Aggregation::Default),
        viewed(Kind::Gauge, "last", "By", 4, Aggregation::Default),
        viewed(Kind::Gauge, "mean", "By", 5, Aggregation::Ewma { tau: 1.0 }),
        viewed(Kind::Histogram, "distribution", "By", 6, Aggregation::Default),
    ]
}

/// Bytes of a segment with these streams, and a place for a damaged copy.
struct Valid {
    bytes: Vec<u8>,
    geometry: Geometry,
    path: PathBuf,
    _directory: Directory,
}

impl Valid {
    fn new() -> Valid {
        let directory = Directory::new();
        let segment = named_segment(&directory, MINIMUM_SIZE);
        for (number, descriptor) in descriptors().iter().enumerate() {
            let instrument = Instrument::of_stream(&segment, descriptor, 100, Some(Buckets::One));
            let series = instrument.series("one");
            series.write(Number::Int(10 + number as i64));
            series.keep_exemplar(0, &numbered_exemplar(number as u64));
        }
        let path = segment.path().unwrap().to_path_buf();
        let bytes = std::fs::read(&path).unwrap();
        segment.close();
        Valid {
            bytes,
            geometry: *segment.geometry(),
            path,
            _directory: directory,
        }
    }

    /// Offset of a stream's record.
    fn record(&self, stream: usize) -> usize {
        self.geometry.streams_at + stream * STREAM
    }

    /// Offset and length of a stream's descriptor.
    fn descriptor(&self, stream: usize) -> (usize, usize) {
        let at = self.record(stream);
        let start = u32::from_le_bytes(self.bytes[at + DESCRIPTOR..at + DESCRIPTOR + 4].try_into().unwrap());
        let length = u16::from_le_bytes(self.bytes[at + LENGTH..at + LENGTH + 2].try_into().unwrap());
        (start as usize * 8, usize::from(length))
    }

    /// Attaches to a copy in which the bytes at `at` are others.
    fn damaged(&self, at: usize, bytes: &[u8]) -> Arc<Segment> {
        let mut damaged = self.bytes.clone();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        write_segment(&self.path, &damaged);
        Arc::new(Segment::attach(&self.path).unwrap())
    }
}

/// What a reader gets of each stream: the sum of all values of its points.
fn sums(segment: &Segment, readers: &mut Readers, reader: u64) -> BTreeMap<u32, f64> {
    let mut sums = BTreeMap::new();
    for point in readers.collect(segment, reader, 0) {
        let sum = match point.value {
            Value::Number(number) => number.as_f64(),
            Value::Distribution(found) => {
                let (positive, negative) = (found.exponential(160, 20), found.percentiles(&[50.0]));
                assert!(positive.positive.counts.len() <= 160 && negative.len() == 1);
                found.sum().as_f64()
            }
        };
        *sums.entry(point.stream.0).or_insert(0.0) += sum;
    }
    sums
}

/// Uses a segment whose stream `hit` was damaged: all others must read as before and go on counting.
fn assert_others_whole(segment: &Arc<Segment>, hit: usize) {
    let mut readers = Readers::default();
    readers.add(1, Arc::new(Preferences::of(Temporality::Cumulative)));
    readers.add(2, Arc::new(Preferences::of(Temporality::Delta)));
    let found = [1, 2].map(|reader| sums(segment, &mut readers, reader));
    for (number, descriptor) in descriptors().iter().enumerate().filter(|(number, _)| *number != hit) {
        let id = StreamId(number as u32);
        assert_eq!(segment.tables().descriptor(id).as_ref(), Some(descriptor));
        // What the gauge held ended with its worker, and an average is not what is held here.
        if ![3, 4].contains(&number) {
            let expected = Some(10.0 + number as f64);
            assert!(
                found.iter().all(|sums| sums.get(&id.0).copied() == expected),
                "{hit} hit, stream {number}: {found:?}"
            );
        }
    }
    for (number, descriptor) in descriptors().iter().enumerate() {
        let Some(id) = segment.stream(descriptor, 100) else {
            continue;
        };
        assert!(number == hit || id.0 == number as u32);
        let stream = otel_perf_core::local::LocalStream::new(id, descriptor, Some(Buckets::One), false);
        let Ok(series) = segment.tables().series(id, &fixture::labelled("one"), 1) else {
            continue;
        };
        let Some(series) = otel_perf_core::local::LocalSeries::new(segment, &stream, series, None, Vec::new()) else {
            continue;
        };
        series.write(Number::Int(1));
    }
    let now = sums(segment, &mut readers, 1);
    for number in [0_u32, 1, 5].into_iter().filter(|number| *number as usize != hit) {
        assert_eq!(now[&number], 11.0 + f64::from(number), "stream {number}, {hit} hit");
    }
}

/// A stream whose record says something else in any of its words is skipped or read as something else, and no other stream is harmed.
#[test]
fn a_damaged_stream_record_harms_no_other_stream() {
    let _alone = alone();
    let valid = Valid::new();
    let mut random = Random(41);
    for hit in 0..descriptors().len() {
        for word in (0..STREAM).step_by(4) {
            for value in [0, 1, 7, u32::MAX, u32::MAX - 1, 1 << 16, random.next() as u32] {
                let segment = valid.damaged(valid.record(hit) + word, &value.to_le_bytes());
                assert_others_whole(&segment, hit);
                segment.close();
            }
        }
    }
}

/// A stream whose descriptor has any byte wrong is skipped or read as something else, and no other stream is harmed.
#[test]
fn a_damaged_descriptor_harms_no_other_stream() {
    let _alone = alone();
    let valid = Valid::new();
    let mut random = Random(42);
    for hit in 0..descriptors().len() {
        let (start, length) = valid.descriptor(hit);
        for at in start..start + length {
            let byte = [0, 0xff, 0x7f, valid.bytes[at] ^ 1, random.next() as u8][at % 5];
            let segment = valid.damaged(at, &[byte]);
            let id = StreamId(hit as u32);
            let (kind, found) = (segment.tables().kind(id), segment.tables().descriptor(id));
            assert!(kind.is_some(), "the record is whole");
            if found.is_none() {
                assert!(segment.attribute_bytes(SeriesId(0)).is_some());
            }
            assert_others_whole(&segment, hit);
            segment.close();
        }
    }
}

/// A stream whose descriptor is said to lie at or beyond the end of the segment has none.
#[test]
fn a_descriptor_beyond_the_segment_is_none() {
    let valid = Valid::new();
    let end = (MINIMUM_SIZE / 8) as u32;
    for (start, length) in [
        (end, 1),
        (end - 1, 9),
        (u32::MAX, u16::MAX),
        (end - 8191, u16::MAX),
        (0, 0),
    ] {
        let mut bytes = start.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        let segment = valid.damaged(valid.record(0) + DESCRIPTOR, &bytes);
        assert_eq!(segment.tables().descriptor(StreamId(0)), None);
        assert_others_whole(&segment, 0);
        segment.close();
    }
}

/// A table of exemplars that would not lie in the pool is none: no exemplar is found or kept, and the points leave all the same.
#[test]
fn a_table_of_exemplars_outside_of_the_pool_is_none() {
    let _alone = alone();
    let valid = Valid::new();
    let lines = u64::from(valid.geometry.lines);
    let fits = lines / 12;
    for (sets, line) in [
        (0, 1),
        (1, 0),
        (0, u64::from(u32::MAX)),
        (1, lines),
        (1, lines - 11),
        (fits + 1, 1),
        (fits, lines - 12 * fits + 1),
        (u64::from(u32::MAX), 1),
        (u64::from(u32::MAX), u64::from(u32::MAX)),
    ] {
        let segment = valid.damaged(header::EXEMPLARS, &(sets << 32 | line).to_le_bytes());
        assert!(all_exemplars(&segment).is_empty(), "{sets} sets at line {line}");
        let before = segment.tables().drops(Drop::NoExemplar);
        segment.exemplars().keep(SeriesId(1), 0, &numbered_exemplar(1));
        assert_eq!(segment.tables().drops(Drop::NoExemplar), before + 1);
        assert!(all_exemplars(&segment).is_empty());
        assert_others_whole(&segment, usize::MAX);
        segment.close();
    }
}

/// A table of exemplars that is said to lie somewhere else in the pool is read without a length out of range and written without panic.
#[test]
fn a_table_of_exemplars_somewhere_in_the_pool_is_read_within_bounds() {
    let valid = Valid::new();
    let lines = u64::from(valid.geometry.lines);
    let mut random = Random(43);
    for _ in 0..300 {
        let line = 1 + random.below(lines as usize - 13) as u64;
        let sets = 1 + random.below(((lines - line) / 12) as usize) as u64;
        let segment = valid.damaged(header::EXEMPLARS, &(sets << 32 | line).to_le_bytes());
        let bounded = || {
            let found = all_exemplars(&segment).into_values().flatten();
            found
                .filter_map(|exemplar| exemplar.dropped)
                .all(|bytes| bytes.len() <= ATTRIBUTES_MAX)
        };
        assert!(bounded());
        for series in 0..50 {
            segment.exemplars().keep(SeriesId(series), 3, &numbered_exemplar(1));
        }
        assert!(bounded());
        let mut readers = Readers::default();
        readers.add(1, Arc::new(Preferences::of(Temporality::Cumulative)));
        let _ = sums(&segment, &mut readers, 1);
        segment.close();
    }
}

/// Whatever the number of the window is, points leave, exemplars are kept and found, and recordings count.
#[test]
fn any_number_of_the_window_will_do() {
    let _alone = alone();
    let valid = Valid::new();
    for window in [0, 1, 1 << 31, u32::MAX - 2, u32::MAX - 1, u32::MAX] {
        let segment = valid.damaged(header::WINDOW, &window.to_le_bytes());
        assert_others_whole(&segment, usize::MAX);
        segment.exemplars().keep(SeriesId(1), 0, &numbered_exemplar(1));
        let now = segment.exemplars().window();
        let found = segment.exemplars().between(now.wrapping_sub(1), now);
        assert!(found[&1].iter().all(|exemplar| number_of(exemplar) == Some(1)));
        segment.close();
    }
}

/// A window that goes back or jumps while a series is in use loses no recording of a series that has its cell.
#[test]
fn recordings_count_while_the_number_of_the_window_is_overwritten() {
    let _alone = alone();
    let segment = private_segment(MINIMUM_SIZE);
    segment.set_serialised();
    let asked = viewed(Kind::Counter, "sum", "By", 1, Aggregation::Sum);
    let counter = Instrument::of_stream(&segment, &asked, 100, Some(Buckets::One));
    let series = counter.series("one");
    let mut random = Random(44);
    for step in 1..=2_000 {
        series.add(Number::Int(1));
        segment
            .region()
            .u32(header::WINDOW)
            .unwrap()
            .store(random.next() as u32, Relaxed);
        assert_eq!(counter.number("one"), Some(Number::Int(step)));
    }
}
