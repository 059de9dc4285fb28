//! What must hold when a process attaches to a segment that another one scribbled over: no panic, no hang, no wild access.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use otel_perf_core::attributes::{decode, encode, Value as Attribute};
use otel_perf_core::distribution::Distribution;
use otel_perf_core::drops::Drop as DropReason;
use otel_perf_core::exemplar::{Buckets, Exemplar, SpanIds, ATTRIBUTES_MAX};
use otel_perf_core::hdr::Level;
use otel_perf_core::instrument::{Descriptor, Kind};
use otel_perf_core::lane::Number;
use otel_perf_core::layout::{header, Geometry, MINIMUM_SIZE};
use otel_perf_core::local::{LocalSeries, LocalStream};
use otel_perf_core::observed::{Settings, Windows};
use otel_perf_core::reader::{Point, Preferences, Readers, Temporality, Value};
use otel_perf_core::scan::Scan;
use otel_perf_core::segment::Segment;
use otel_perf_core::stream::{Aggregation, Stream};
use otel_perf_core::tables::{SeriesId, StreamId};

/// Cardinality limit of one of the readers.
const SPECIAL_LIMIT: u32 = 2;

/// A valid segment and a place for its damaged copies.
pub struct Scratch {
    valid: Vec<u8>,
    directory: PathBuf,
    /// First byte of the exemplars.
    exemplars_at: usize,
}

impl Scratch {
    /// Builds the segment: instruments of every kind, some series of each, histograms at several widths.
    pub fn new() -> Scratch {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.into()
        } else {
            std::env::temp_dir()
        };
        let directory = parent.join(format!("otel_perf-fuzz-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (segment, reason) = Segment::create_in(&directory, MINIMUM_SIZE, "fuzz").unwrap();
        assert!(reason.is_none(), "{reason:?}");
        let segment = Arc::new(segment);
        for kind in Kind::ALL {
            fill(&segment, kind);
        }
        let valid = std::fs::read(segment.path().unwrap()).unwrap();
        let table = segment.region().u64(header::EXEMPLARS).unwrap().load(Ordering::Relaxed);
        segment.close();
        Scratch {
            valid,
            directory,
            exemplars_at: segment.geometry().line(table as u32).unwrap(),
        }
    }

    /// Damages a copy of the segment as `bytes` say and uses it in every way there is.
    pub fn check(&self, bytes: &[u8]) {
        let mut damaged = self.valid.clone();
        damage(&mut damaged, self.exemplars_at, bytes);
        let path = self.directory.join("segment");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        file.write_all(&damaged).unwrap();
        drop(file);
        match Segment::attach(&path) {
            Ok(segment) => use_everything(&Arc::new(segment)),
            Err(error) => assert!(error.to_string().contains("segment")),
        }
        let _ = std::fs::remove_file(&path);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What views may make of an instrument, first what it is without one.
fn aggregations() -> [Aggregation; 4] {
    let hdr = Aggregation::Hdr {
        significant_digits: 2,
        quantiles: vec![0.5, 0.99],
        window: 1.0,
    };
    [
        Aggregation::Default,
        Aggregation::Sum,
        hdr,
        Aggregation::Ewma { tau: 1.0 },
    ]
}

/// The streams of an instrument of this kind.
fn descriptors(kind: Kind, name: &str) -> Vec<Descriptor> {
    let numbered = aggregations().into_iter().enumerate();
    numbered
        .filter_map(|(view, aggregation)| {
            let stream = Stream {
                view: view as u32,
                variant: if view == 1 { SPECIAL_LIMIT } else { 0 },
                name: if view == 1 { "renamed".into() } else { String::new() },
                storage: aggregation.storage(kind)?,
                aggregation,
                ..Stream::unviewed(kind)
            };
            Some(Descriptor {
                stream,
                ..descriptor(kind, name)
            })
        })
        .collect()
}

fn descriptor(kind: Kind, name: &str) -> Descriptor {
    Descriptor {
        kind,
        name: name.into(),
        unit: if kind == Kind::Histogram { "s" } else { "By" }.into(),
        description: "damaged".into(),
        scope_name: "fuzz".into(),
        scope_version: Some("1".into()),
        scope_schema_url: None,
        scope_attributes: labelled(0),
        stream: Stream::unviewed(kind),
        boundaries: (kind == Kind::Histogram).then(|| vec![0.001, 0.01, 0.1]),
    }
}

fn labelled(number: usize) -> Vec<u8> {
    encode(&mut vec![(b"k".to_vec(), Attribute::Int(number as i64))])
}

fn local(
    segment: &Arc<Segment>,
    stream: &Arc<LocalStream>,
    id: SeriesId,
    overflow: Option<&Arc<LocalSeries>>,
) -> Option<Arc<LocalSeries>> {
    LocalSeries::new(segment, stream, id, overflow.map(Arc::clone), Vec::new())
}

/// Buckets of exemplars, of another shape for each view.
fn buckets(descriptor: &Descriptor) -> Buckets {
    match descriptor.stream.view % 3 {
        0 => Buckets::One,
        1 => Buckets::Explicit(vec![0.001, 0.1, 1.0]),
        _ => Buckets::Octaves(1e9),
    }
}

fn fill(segment: &Arc<Segment>, kind: Kind) {
    for descriptor in descriptors(kind, "valid") {
        let id = segment.stream(&descriptor, 100).unwrap();
        let stream = LocalStream::new(id, &descriptor, Some(buckets(&descriptor)), false);
        let overflow = local(segment, &stream, segment.tables().overflow_of(id).unwrap(), None).unwrap();
        for number in 0..4 {
            let series = segment.tables().series(id, &labelled(number), 1).unwrap();
            use_series(&local(segment, &stream, series, Some(&overflow)).unwrap());
        }
        use_series(&overflow);
        if kind == Kind::Histogram && descriptor.stream.view == 0 {
            // One slot that has gone from 16 to 32 bits.
            (0..50_000).for_each(|_| _ = overflow.record(Number::Float(0.5)));
        }
    }
}

/// Overwrites parts of a segment. Each part is a place (where to count from, how far), a length and that many bytes.
fn damage(segment: &mut [u8], exemplars_at: usize, mut orders: &[u8]) {
    let geometry = Geometry::of(segment.len() as u64).unwrap();
    let bases = [
        0,
        header::POOL_NEXT,
        header::SERIES_NEXT,
        geometry.workers_at,
        geometry.lanes_at,
        geometry.stream_index_at,
        geometry.streams_at,
        geometry.series_index_at,
        geometry.series_at,
        geometry.pool_at,
        header::WINDOW,
        exemplars_at,
    ];
    while let [base, low, high, len, rest @ ..] = orders {
        let place = bases[usize::from(*base) % bases.len()] + usize::from(u16::from_le_bytes([*low, *high]));
        let len = usize::from(*len % 33).min(rest.len());
        // The magic number, version, size and the ready flag are checked first; damage to them ends every run early.
        let place = if place < header::READY + 4 && *base != 255 {
            header::READY + 4
        } else {
            place
        };
        for (at, byte) in rest[..len].iter().enumerate() {
            if let Some(word) = segment.get_mut(place + at) {
                *word = *byte;
            }
        }
        orders = &rest[len..];
    }
}

fn use_everything(segment: &Arc<Segment>) {
    let _ = (segment.service(), segment.used_lines(), segment.alive(), segment.lead());
    assert!(!segment.memory_usage().is_empty());
    let mut readers = Readers::default();
    readers.add(1, Arc::new(Preferences::of(Temporality::Cumulative)));
    readers.add(2, Arc::new(Preferences::of(Temporality::Delta)));
    let mut special = Preferences::of(Temporality::Delta);
    special.limit = [SPECIAL_LIMIT; 7];
    special.aggregation = [const { Aggregation::Ewma { tau: 1.0 } }; 7];
    readers.add(3, Arc::new(special));
    scan(segment);
    let windows = Windows::new(Arc::clone(segment), observed());
    assert!(windows.tick(1));
    let _ = readers.collect(segment, 2, 0);
    record(segment);
    scan(segment);
    assert!(windows.tick(1_000_000_001));
    for series in windows.snapshot() {
        for distribution in series.windows.iter().filter_map(|window| window.distribution.as_ref()) {
            use_distribution(distribution);
        }
    }
    for reader in [1, 2, 3] {
        let points = readers.collect(segment, reader, 1);
        for point in &points {
            read_point(segment, point);
        }
    }
    segment.close();
}

fn observed() -> Settings {
    Settings {
        windows: vec![1.0, 60.0],
        taus: vec![10.0],
        memory_limit: 1 << 16,
    }
}

/// Reads a point in the ways in which it leaves.
fn read_point(segment: &Segment, point: &Point) {
    read_exemplars(&point.exemplars);
    // The collection itself may have written over it, through a histogram that is said to lie there.
    let Some(descriptor) = segment.tables().descriptor(point.stream) else {
        return;
    };
    let _ = (descriptor.exported_name(), descriptor.exported_description());
    let Value::Distribution(distribution) = &point.value else {
        return;
    };
    use_distribution(distribution);
    match &descriptor.stream.aggregation {
        Aggregation::Explicit {
            boundaries: Some(boundaries),
            ..
        } => assert_eq!(distribution.explicit(boundaries).len(), boundaries.len() + 1),
        Aggregation::Exponential {
            max_size, max_scale, ..
        } => _ = distribution.exponential(*max_size as usize, *max_scale),
        _ => {}
    }
}

/// No exemplar has more bytes than a slot.
fn read_exemplars(exemplars: &[Exemplar]) {
    for bytes in exemplars.iter().filter_map(|exemplar| exemplar.dropped.as_deref()) {
        assert!(bytes.len() <= ATTRIBUTES_MAX);
        let _ = decode(bytes);
    }
}

fn scan(segment: &Segment) {
    let tables = segment.tables();
    for number in 0..tables.stream_count().min(100) {
        let id = StreamId(number);
        let _ = (
            tables.kind(id),
            tables.overflow_of(id),
            tables.descriptor(id).map(|found| found.scope_pairs()),
        );
    }
    let window = segment.exemplars().window();
    for last in [window, window.wrapping_sub(1), window.wrapping_sub(u32::MAX / 2)] {
        let found = segment.exemplars().between(last, window);
        for of_series in found.values() {
            read_exemplars(of_series);
        }
        assert!(found.is_empty() || last != window, "no window lies after the last one");
    }
    let mut scan = Scan::new(segment);
    let series: Vec<_> = scan.series().collect();
    let mut last: Option<Distribution> = None;
    for record in series {
        let _ = segment.attribute_bytes(record.id).and_then(|bytes| decode(&bytes));
        let Some(distribution) = scan.distribution(&record) else {
            continue;
        };
        use_distribution(&distribution);
        if let Some(before) = &last {
            let _ = (distribution.minus(before), distribution.merge(before));
        }
        last = Some(distribution);
    }
}

fn use_distribution(distribution: &Distribution) {
    let _ = distribution.percentiles(&[0.0, 50.0, 99.9, 100.0, f64::NAN]);
    let _ = distribution.explicit(&[0.001, 0.01, 0.1, 1.0]);
    let exponential = distribution.exponential(160, 20);
    assert!(exponential.positive.counts.len() <= 160 && exponential.negative.counts.len() <= 160);
    let _ = distribution.coarsened(Level::OneHalf);
    let _ = (
        distribution.sum(),
        distribution.min(),
        distribution.max(),
        distribution.count(),
    );
}

fn use_series(series: &LocalSeries) {
    for value in [0.0, 1e-9, 1e-6, 0.02, -0.021, 3.0, 1e9] {
        let value = Number::Float(value);
        series.write(value);
        let exemplar = Exemplar {
            value,
            time_unix_ns: 1,
            span: Some(SpanIds { trace: 1, span: 2 }),
            dropped: Some(labelled(1)),
        };
        if let Some(bucket) = series.wanted_bucket(value) {
            series.keep_exemplar(bucket, &exemplar);
        }
    }
    series.write(Number::Int(1));
    series.observe(Number::Int(2), 1);
    series.observe(Number::Float(0.5), 1);
}

/// Finds and makes series of all instruments and records into them.
fn record(segment: &Arc<Segment>) {
    let tables = segment.tables();
    let names = Kind::ALL
        .into_iter()
        .flat_map(|kind| ["valid", "new"].map(|name| (kind, name)));
    for descriptor in names.flat_map(|(kind, name)| descriptors(kind, name)) {
        let Some(id) = segment.stream(&descriptor, 100) else {
            continue;
        };
        let stream = LocalStream::new(id, &descriptor, Some(buckets(&descriptor)), false);
        let overflow = tables.overflow_of(id).and_then(|id| local(segment, &stream, id, None));
        for number in [0, 3, 1_000] {
            match tables.series(id, &labelled(number), 2) {
                Ok(series) => {
                    if let Some(series) = local(segment, &stream, series, overflow.as_ref()) {
                        use_series(&series);
                    }
                }
                Err(reason) => segment.count_drop(reason),
            }
        }
        if let Some(overflow) = overflow {
            use_series(&overflow);
        }
    }
    let _ = DropReason::ALL.map(|(reason, _)| tables.drops(reason));
}
