//! Taking points out of a segment: one consistent scan, and what each reader needs to know of its previous one.
//!
//! Counts, sums and slots only grow, so a scan needs no lock: it is a sequence of relaxed loads, exact but for recordings that
//! are being made meanwhile. A point's count is the sum of the slots read, so that count and buckets always agree.

use std::collections::HashMap;

use crate::clock::unix_ns;
use crate::distribution::Distribution;
use crate::hdr::units_per_one;
use crate::histogram::Histogram;
use crate::instrument::{Descriptor, Kind};
use crate::lane::{Cell, Number};
use crate::layout::{RETIRED, WORKERS};
use crate::segment::Segment;
use crate::tables::{InstrumentId, SeriesId, SeriesRecord};

/// How a reader wants the sums and histograms of a kind of instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// Since the series began.
    Cumulative,
    /// Since the reader's last collection.
    Delta,
}

/// The value of a point.
#[derive(Clone, Debug)]
pub enum Value {
    /// Sum or last value.
    Number(Number),
    /// Distribution.
    Distribution(Box<Distribution>),
}

/// One point of one series.
#[derive(Clone, Debug)]
pub struct Point {
    /// The series.
    pub series: SeriesId,
    /// Its instrument.
    pub instrument: InstrumentId,
    /// Begin of the interval, nanoseconds since the epoch.
    pub start_unix_ns: u64,
    /// End of the interval: the time of the collection, the same for all its points, and the begin of the next delta interval.
    pub time_unix_ns: u64,
    /// What was measured.
    pub value: Value,
}

/// What a series holds at one moment.
enum Reading {
    Number(Number),
    /// Value with the stamp of its newest setting.
    Last(Number, u64),
    Distribution(Box<Distribution>),
}

/// One look at the whole segment.
pub struct Scan<'a> {
    segment: &'a Segment,
    own_lane: usize,
    alive: [bool; WORKERS],
    units: HashMap<InstrumentId, Option<(Kind, f64)>>,
}

impl<'a> Scan<'a> {
    /// Begins a look: asks the kernel once which workers live.
    pub fn new(segment: &'a Segment) -> Scan<'a> {
        let own_lane = segment.joined_lane();
        let workers = segment.workers();
        Scan {
            segment,
            own_lane,
            alive: std::array::from_fn(|lane| workers.is_alive(lane, own_lane)),
            units: HashMap::new(),
        }
    }

    fn instrument(&mut self, id: InstrumentId) -> Option<(Kind, f64)> {
        let tables = self.segment.tables();
        *self.units.entry(id).or_insert_with(|| {
            let descriptor: Descriptor = tables.descriptor(id)?;
            Some((descriptor.kind, units_per_one(&descriptor.unit)))
        })
    }

    /// The records of all series that were recorded into.
    pub fn series(&self) -> impl Iterator<Item = SeriesRecord> + 'a {
        let tables = self.segment.tables();
        (0..tables.series_count())
            .filter_map(move |number| tables.read_series(SeriesId(number)))
            .filter(|series| series.touched)
    }

    /// Sum over the lanes; integers stay an integer as long as no float was recorded and the range of integers holds them.
    fn sum(&self, series: &SeriesRecord, kind: Kind) -> Number {
        let lanes = self.segment.tables().lanes();
        let (mut ints, mut floats) = (Number::Int(0), 0.0);
        for lane in (0..WORKERS).filter(|lane| self.alive[*lane] || !kind.ends_with_worker()) {
            if let Some(cell) = lanes.existing_cell_at(lane, series.id).and_then(|at| lanes.cell(at)) {
                let (int, float) = cell.sums();
                ints = ints.plus(Number::Int(int));
                floats += float;
            }
        }
        if series.float {
            ints.plus(Number::Float(floats))
        } else {
            ints
        }
    }

    /// Last value over the lanes: the newest of a gauge, the sum of the workers' totals otherwise. What this process's callbacks
    /// reported before `since_ns` does not count.
    fn last(&self, series: &SeriesRecord, kind: Kind, since_ns: u64) -> Option<(Number, u64)> {
        let lanes = self.segment.tables().lanes();
        let mut found: Option<(Number, u64)> = None;
        for lane in (0..WORKERS).filter(|lane| self.alive[*lane] || !kind.ends_with_worker()) {
            let cell = lanes.existing_cell_at(lane, series.id).and_then(|at| lanes.cell(at));
            let read = if lane == RETIRED {
                cell.and_then(retired_total)
            } else {
                cell.and_then(Cell::last_value)
            };
            let Some((value, stamp)) = read else {
                continue;
            };
            if kind.is_observable() && lane == self.own_lane && stamp < since_ns {
                continue;
            }
            found = Some(match (found, kind) {
                (None, _) => (value, stamp),
                (Some(known), Kind::Gauge | Kind::ObservableGauge) => {
                    if stamp > known.1 {
                        (value, stamp)
                    } else {
                        known
                    }
                }
                (Some((sum, at)), _) => (sum.plus(value), at.max(stamp)),
            });
        }
        found
    }

    /// The distribution of a histogram series over its whole life.
    pub fn distribution(&mut self, series: &SeriesRecord) -> Option<Distribution> {
        let (kind, per_one) = self.instrument(series.instrument)?;
        if kind != Kind::Histogram {
            return None;
        }
        let histogram = self.histogram(series)?;
        // The sum is read before the slots, so that a mean is never too large by recordings that the count lacks.
        let sum = self.sum(series, kind);
        let (slots, coarsest) = histogram.read()?;
        Some(Distribution::new(slots, coarsest, sum, histogram.range()?, per_one))
    }

    fn histogram(&self, series: &SeriesRecord) -> Option<Histogram<'a>> {
        let at = series.histogram_at?;
        Some(Histogram::new(
            self.segment.region(),
            self.segment.geometry(),
            at,
            series.overflow,
        ))
    }

    fn read(&mut self, series: &SeriesRecord, since_ns: u64) -> Option<Reading> {
        let (kind, _) = self.instrument(series.instrument)?;
        if kind == Kind::Histogram {
            return self.distribution(series).map(Box::new).map(Reading::Distribution);
        }
        if kind.keeps_last_value() {
            let (value, stamp) = self.last(series, kind, since_ns)?;
            return Some(Reading::Last(value, stamp));
        }
        Some(Reading::Number(self.sum(series, kind)))
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

/// What a reader remembers of a series.
#[derive(Debug, Default)]
struct Previous {
    collected_unix_ns: u64,
    number: Option<Number>,
    stamp: u64,
    distribution: Option<Box<Distribution>>,
    /// Minimum and maximum since this reader's last collection.
    range: Option<(f64, f64)>,
}

/// The state of one metric reader.
#[derive(Debug)]
pub struct ReaderState {
    /// Temporality by kind of instrument, index `kind - 1`.
    temporality: [Temporality; 7],
    previous: HashMap<u32, Previous>,
}

impl ReaderState {
    fn is_delta(&self, kind: Kind) -> bool {
        self.temporality[kind as usize - 1] == Temporality::Delta
    }
}

/// All readers of one process on one segment.
///
/// They are kept together because a minimum or maximum drained by one reader's collection belongs to the intervals of all.
#[derive(Debug, Default)]
pub struct Readers {
    readers: HashMap<u64, ReaderState>,
}

impl Readers {
    /// Adds a reader under a number of the caller's choice; what was recorded before is in its first interval.
    pub fn add(&mut self, reader: u64, temporality: [Temporality; 7]) {
        self.readers.insert(
            reader,
            ReaderState {
                temporality,
                previous: HashMap::new(),
            },
        );
    }

    /// Forgets a reader.
    pub fn remove(&mut self, reader: u64) {
        self.readers.remove(&reader);
    }

    fn drain_ranges(&mut self, scan: &Scan<'_>, series: &SeriesRecord) {
        let Some((low, high)) = scan.histogram(series).and_then(|histogram| histogram.drain_range()) else {
            return;
        };
        for state in self
            .readers
            .values_mut()
            .filter(|state| state.is_delta(Kind::Histogram))
        {
            let previous = state.previous.entry(series.id.0).or_default();
            let (min, max) = previous.range.unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
            previous.range = Some((min.min(low), max.max(high)));
        }
    }

    /// The points of a reader now, instruments in the order of their creation. `since_ns` is the monotonic time at which this collection began.
    pub fn collect(&mut self, segment: &Segment, reader: u64, since_ns: u64) -> Vec<Point> {
        let now = unix_ns();
        let mut scan = Scan::new(segment);
        let mut points = Vec::new();
        for series in scan.series() {
            let Some((kind, _)) = scan.instrument(series.instrument) else {
                continue;
            };
            if kind == Kind::Histogram {
                self.drain_ranges(&scan, &series);
            }
            let (Some(state), Some(reading)) = (self.readers.get_mut(&reader), scan.read(&series, since_ns)) else {
                continue;
            };
            if let Some((start_unix_ns, value)) = state.point(kind, &series, reading, now) {
                points.push(Point {
                    series: series.id,
                    instrument: series.instrument,
                    start_unix_ns,
                    time_unix_ns: now,
                    value,
                });
            }
        }
        points.sort_by_key(|point| (point.instrument.0, point.series.0));
        points
    }
}

impl ReaderState {
    /// The point of one series, with the begin of its interval; `None` if nothing happened in a delta interval.
    fn point(&mut self, kind: Kind, series: &SeriesRecord, reading: Reading, now: u64) -> Option<(u64, Value)> {
        let delta = self.is_delta(kind);
        if !delta {
            let value = match reading {
                Reading::Number(number) | Reading::Last(number, _) => Value::Number(number),
                Reading::Distribution(distribution) if distribution.count() == 0 => return None,
                Reading::Distribution(distribution) => Value::Distribution(distribution),
            };
            return Some((series.start_unix_ns, value));
        }
        let previous = self.previous.entry(series.id.0).or_default();
        let start = match previous.collected_unix_ns {
            0 => series.start_unix_ns,
            collected => collected,
        };
        previous.collected_unix_ns = now;
        let value = match reading {
            Reading::Number(number) => {
                let before = previous.number.replace(number);
                if before == Some(number) {
                    return None;
                }
                Value::Number(difference(number, before))
            }
            Reading::Last(number, stamp) if kind == Kind::Gauge || kind == Kind::ObservableGauge => {
                if previous.stamp == stamp {
                    return None;
                }
                previous.stamp = stamp;
                Value::Number(number)
            }
            Reading::Last(number, _) => Value::Number(difference(number, previous.number.replace(number))),
            Reading::Distribution(distribution) => {
                let mut range = previous.range.take().unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
                let before = previous.distribution.replace(distribution.clone());
                let mut since = if let Some(before) = before {
                    distribution.minus(&before)
                } else {
                    // Ranges drained before this reader was added belong to its first interval, which is the whole life.
                    range = (distribution.min(), distribution.max());
                    *distribution
                };
                if since.count() == 0 {
                    return None;
                }
                // A recording whose slot was seen before its minimum arrives keeps the slot's bounds for this interval.
                if range.0 <= range.1 {
                    since = since.with_range(range);
                }
                Value::Distribution(Box::new(since))
            }
        };
        Some((start, value))
    }
}

fn difference(now: Number, before: Option<Number>) -> Number {
    before.map_or(now, |before| now.minus(before))
}
