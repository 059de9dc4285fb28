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
use crate::merge::{GaugeMode, Merge};
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
    several: bool,
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
            several: workers.have_been_several(),
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

    /// The values that the lanes hold, with their stamps. What this process's callbacks reported before `since_ns` does not count, and of other
    /// workers what they have not reported again, if they say so.
    fn values(
        &self,
        series: &SeriesRecord,
        kind: Kind,
        storage: Storage,
        since_ns: u64,
    ) -> impl Iterator<Item = (usize, Number, u64)> + '_ {
        self.cells(series.id, kind, storage).filter_map(move |(lane, cell)| {
            let (value, stamp) = if lane == RETIRED && storage == Storage::Total {
                retired_total(cell)
            } else {
                cell.last_value()
            }?;
            let begun_ns = if lane == self.own_lane {
                since_ns
            } else {
                self.reported[lane].min(since_ns)
            };
            (!kind.is_observable() || stamp >= begun_ns).then_some((lane, value, stamp))
        })
    }

    /// What the group reports of a series whose values were set or reported.
    fn last(
        &self,
        series: &SeriesRecord,
        descriptor: &Descriptor,
        merge: Merge,
        since_ns: u64,
    ) -> Option<(Number, u64)> {
        let storage = descriptor.stream.storage;
        self.values(series, descriptor.kind, storage, since_ns)
            .filter(|(lane, ..)| !merge.is_of_the_living() || self.alive[*lane])
            .map(|(_, value, stamp)| (value, stamp))
            .reduce(|one, other| merge.both(one, other))
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

    /// What a series holds, as one value of the group. `since_ns` is the monotonic time before which a report of this process's callbacks does
    /// not count.
    pub fn read(&mut self, series: &SeriesRecord, since_ns: u64) -> Option<Reading> {
        self.read_as(series, since_ns, GaugeMode::MostRecent)
    }

    /// As [`Scan::read`], with the mode of gauges.
    pub fn read_as(&mut self, series: &SeriesRecord, since_ns: u64, gauges: GaugeMode) -> Option<Reading> {
        let descriptor = self.stream(series.stream)?;
        let (kind, storage) = (descriptor.kind, descriptor.stream.storage);
        Some(match storage {
            Storage::Sum => Reading::Number(self.sum(series, kind, storage)),
            Storage::Mean => self.mean(series, kind),
            Storage::Distribution => Reading::Distribution(Box::new(self.distribution(series)?)),
            Storage::Total | Storage::Last => {
                let merge = Merge::of(&descriptor, gauges, self.several).as_one(storage);
                let (value, stamp) = self.last(series, &descriptor, merge, since_ns)?;
                reading(storage, value, stamp)
            }
        })
    }

    /// What each worker that lives holds of a series, by lane; `None` if the group reports one value.
    pub fn read_each(
        &mut self,
        series: &SeriesRecord,
        since_ns: u64,
        gauges: GaugeMode,
    ) -> Option<Vec<(usize, Reading)>> {
        let descriptor = self.stream(series.stream)?;
        let storage = descriptor.stream.storage;
        if !matches!(storage, Storage::Total | Storage::Last)
            || Merge::of(&descriptor, gauges, self.several) != Merge::Each
        {
            return None;
        }
        let values = self.values(series, descriptor.kind, storage, since_ns);
        let living = values.filter(|(lane, ..)| self.alive[*lane]);
        Some(
            living
                .map(|(lane, value, stamp)| (lane, reading(storage, value, stamp)))
                .collect(),
        )
    }
}

fn reading(storage: Storage, value: Number, stamp: u64) -> Reading {
    if storage == Storage::Total {
        Reading::Total(value)
    } else {
        Reading::Last(value, stamp)
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
