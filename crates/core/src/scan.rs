//! One look at the whole segment.
//!
//! Counts, sums and slots only grow, so a scan needs no lock: it is a sequence of relaxed loads, exact but for recordings that
//! are being made meanwhile. A distribution's count is the sum of the slots read, so that count and buckets always agree.

use std::collections::HashMap;
use std::rc::Rc;

use crate::distribution::Distribution;
use crate::hdr::{units_per_one, Level};
use crate::histogram::Histogram;
use crate::instrument::{Descriptor, Kind};
use crate::lane::{Cell, Number};
use crate::layout::{RETIRED, WORKERS};
use crate::segment::Segment;
use crate::stream::Storage;
use crate::tables::{SeriesId, SeriesRecord, StreamId};

/// What a series holds at one moment.
#[derive(Clone, Debug)]
pub enum Reading {
    /// Sum.
    Number(Number),
    /// Totals of the workers' callbacks, added up.
    Total(Number),
    /// Last value, with the stamp of its setting.
    Last(Number, u64),
    /// Distribution over the whole life.
    Distribution(Box<Distribution>),
    /// Number of values and their sum.
    Mean(f64, f64),
}

/// One look at the whole segment.
pub struct Scan<'a> {
    segment: &'a Segment,
    own_lane: usize,
    alive: [bool; WORKERS],
    reported: [u64; WORKERS],
    streams: HashMap<StreamId, Option<Rc<Descriptor>>>,
}

impl<'a> Scan<'a> {
    /// Begins a look: asks the kernel once which workers live.
    pub fn new(segment: &'a Segment) -> Scan<'a> {
        let own_lane = segment.joined_lane();
        let workers = segment.workers();
        Scan {
            segment,
            own_lane,
            alive: std::array::from_fn(|lane| workers.is_alive(lane, own_lane) || segment.is_mourned(lane)),
            reported: std::array::from_fn(|lane| workers.reported(lane)),
            streams: HashMap::new(),
        }
    }

    /// The descriptor of a stream, read once.
    pub fn stream(&mut self, id: StreamId) -> Option<Rc<Descriptor>> {
        let tables = self.segment.tables();
        let found = self
            .streams
            .entry(id)
            .or_insert_with(|| tables.descriptor(id).map(Rc::new));
        found.clone()
    }

    /// The records of all series that were recorded into.
    pub fn series(&self) -> impl Iterator<Item = SeriesRecord> + 'a {
        let tables = self.segment.tables();
        (0..tables.series_count())
            .filter_map(move |number| tables.read_series(SeriesId(number)))
            .filter(|series| series.touched)
    }

    /// The cells of a series by lane, those of the dead only if what they hold does not end with the worker.
    fn cells(&self, series: SeriesId, kind: Kind, storage: Storage) -> impl Iterator<Item = (usize, &'a Cell)> + '_ {
        let lanes = self.segment.tables().lanes();
        let ends = storage.ends_with_worker(kind);
        (0..WORKERS)
            .filter(move |lane| self.alive[*lane] || !ends)
            .filter_map(move |lane| {
                let at = lanes.existing_cell_at(lane, series)?;
                Some((lane, lanes.cell(at)?))
            })
    }

    /// Sum over the lanes; integers stay an integer as long as no float was recorded and the range of integers holds them.
    fn sum(&self, series: &SeriesRecord, kind: Kind, storage: Storage) -> Number {
        let (mut ints, mut floats) = (Number::Int(0), 0.0);
        for (_, cell) in self.cells(series.id, kind, storage) {
            let (int, float) = cell.sums();
            ints = ints.plus(Number::Int(int));
            floats += float;
        }
        if series.float {
            ints.plus(Number::Float(floats))
        } else {
            ints
        }
    }

    /// Last value over the lanes: the newest one, or the sum of the workers' totals. What this process's callbacks reported before
    /// `since_ns` does not count, and of other workers what they have not reported again, if they say so.
    fn last(&self, series: &SeriesRecord, kind: Kind, storage: Storage, since_ns: u64) -> Option<(Number, u64)> {
        let mut found: Option<(Number, u64)> = None;
        for (lane, cell) in self.cells(series.id, kind, storage) {
            let read = if lane == RETIRED && storage == Storage::Total {
                retired_total(cell)
            } else {
                cell.last_value()
            };
            let Some((value, stamp)) = read else {
                continue;
            };
            let begun_ns = if lane == self.own_lane {
                since_ns
            } else {
                self.reported[lane].min(since_ns)
            };
            if kind.is_observable() && stamp < begun_ns {
                continue;
            }
            found = Some(match found {
                Some((sum, at)) if storage == Storage::Total => (sum.plus(value), at.max(stamp)),
                Some(known) if known.1 >= stamp => known,
                _ => (value, stamp),
            });
        }
        found
    }

    /// Number of values and their sum over the lanes.
    fn mean(&self, series: &SeriesRecord, kind: Kind) -> Reading {
        let (mut count, mut sum) = (0.0, 0.0);
        for (_, cell) in self.cells(series.id, kind, Storage::Mean) {
            let (values, total) = cell.sums();
            count += values as u64 as f64;
            sum += total;
        }
        Reading::Mean(count, sum)
    }

    /// The distribution of a series over its whole life.
    pub fn distribution(&mut self, series: &SeriesRecord) -> Option<Distribution> {
        let descriptor = self.stream(series.stream)?;
        let (kind, storage) = (descriptor.kind, descriptor.stream.storage);
        if storage != Storage::Distribution {
            return None;
        }
        let histogram = self.histogram(series)?;
        // The sum is read before the slots, so that a mean is never too large by recordings that the count lacks.
        let sum = self.sum(series, kind, storage);
        let (slots, above) = histogram.read()?;
        let (negative, below) = if storage.has_mirror(kind) {
            histogram.mirror().read()?
        } else {
            (Vec::new(), Level::Three)
        };
        let per_one = units_per_one(&descriptor.unit);
        let found = Distribution::new(slots, above.max(below), sum, histogram.range()?, per_one);
        Some(found.with_negative(negative))
    }

    /// The histogram of a series, if its stream has one.
    pub fn histogram(&self, series: &SeriesRecord) -> Option<Histogram<'a>> {
        let at = series.histogram_at?;
        Some(Histogram::new(
            self.segment.region(),
            self.segment.geometry(),
            at,
            series.overflow,
        ))
    }

    /// What a series holds. `since_ns` is the monotonic time before which a report of this process's callbacks does not count.
    pub fn read(&mut self, series: &SeriesRecord, since_ns: u64) -> Option<Reading> {
        let descriptor = self.stream(series.stream)?;
        let (kind, storage) = (descriptor.kind, descriptor.stream.storage);
        Some(match storage {
            Storage::Sum => Reading::Number(self.sum(series, kind, storage)),
            Storage::Mean => self.mean(series, kind),
            Storage::Distribution => Reading::Distribution(Box::new(self.distribution(series)?)),
            Storage::Total => Reading::Total(self.last(series, kind, storage, since_ns)?.0),
            Storage::Last => {
                let (value, stamp) = self.last(series, kind, storage, since_ns)?;
                Reading::Last(value, stamp)
            }
        })
    }
}

/// What callbacks of dead workers had reported; it has no stamp.
fn retired_total(cell: &Cell) -> Option<(Number, u64)> {
    match cell.sums() {
        (0, 0.0) => None,
        (int, 0.0) => Some((Number::Int(int), 0)),
        (int, float) => Some((Number::Float(int as f64 + float), 0)),
    }
}
