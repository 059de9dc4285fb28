//! Taking points out of a segment: what each reader wants, and what it needs to know of its previous collection.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::clock::{monotonic_ns, unix_ns};
use crate::distribution::Distribution;
use crate::exemplar::Exemplar;
use crate::instrument::{Descriptor, Kind};
use crate::lane::Number;
use crate::merge::GaugeMode;
use crate::scan::{Reading, Scan};
use crate::segment::{Segment, CARDINALITY_LIMIT};
use crate::stream::Aggregation;
use crate::tables::{SeriesId, SeriesRecord, StreamId};
use crate::window::{Averaged, Ewma, Window};

/// How a reader wants the sums and histograms of a kind of instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// Since the series began.
    Cumulative,
    /// Since the reader's last collection.
    Delta,
}

/// What a reader wants, by kind of instrument: index `kind - 1`.
#[derive(Clone, Debug)]
pub struct Preferences {
    /// Temporality.
    pub temporality: [Temporality; 7],
    /// Aggregation where no view states one.
    pub aggregation: [Aggregation; 7],
    /// Cardinality limit where no view states one.
    pub limit: [u32; 7],
    /// What the workers' values of a gauge become.
    pub gauges: GaugeMode,
}

impl Preferences {
    /// The same temporality for all kinds, and nothing else.
    pub fn of(temporality: Temporality) -> Preferences {
        Preferences {
            temporality: [temporality; 7],
            aggregation: [const { Aggregation::Default }; 7],
            limit: [CARDINALITY_LIMIT; 7],
            gauges: GaugeMode::default(),
        }
    }

    /// How a stream leaves for this reader; `None` if it does not.
    pub fn aggregation<'a>(&'a self, descriptor: &'a Descriptor) -> Option<&'a Aggregation> {
        let preferred = &self.aggregation[descriptor.kind as usize - 1];
        let stream = &descriptor.stream;
        let found = stream.aggregation.or(preferred);
        (found.storage(descriptor.kind) == Some(stream.storage)).then_some(found)
    }

    /// How a histogram of a view that leaves it to the reader looks.
    pub fn histogram(&self, kind: Kind) -> &Aggregation {
        &self.aggregation[kind as usize - 1]
    }

    /// Whether the points of a kind of instrument are those since the last collection.
    pub fn is_delta(&self, kind: Kind) -> bool {
        self.temporality[kind as usize - 1] == Temporality::Delta
    }
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
    /// Its stream.
    pub stream: StreamId,
    /// Lane of the worker that it is of; none if it is of the whole group.
    pub worker: Option<usize>,
    /// Begin of the interval, nanoseconds since the epoch.
    pub start_unix_ns: u64,
    /// End of the interval: the time of the collection, the same for all its points, and the begin of the next delta interval.
    pub time_unix_ns: u64,
    /// What was measured.
    pub value: Value,
    /// The quantiles that the stream's view asks for, of its window; none of an idle one.
    pub quantiles: Vec<f64>,
    /// What was kept since the reader's last collection, oldest first.
    pub exemplars: Vec<Exemplar>,
}

/// A series, or what one worker has of it, by its lane and the time at which it took that.
type Key = (u32, Option<(usize, u64)>);

/// What a reader remembers of a series.
#[derive(Debug, Default)]
struct Previous {
    collected_unix_ns: u64,
    number: Option<Number>,
    stamp: u64,
    distribution: Option<Box<Distribution>>,
    /// Minimum and maximum since this reader's last collection.
    range: Option<(f64, f64)>,
    window: Window,
    ewma: Ewma,
}

/// The state of one metric reader.
#[derive(Debug)]
struct ReaderState {
    preferences: Arc<Preferences>,
    previous: HashMap<Key, Previous>,
    /// Window of the last collection.
    window: Option<u32>,
}

/// When a collection takes place.
#[derive(Clone, Copy, Debug)]
struct Now {
    unix_ns: u64,
    monotonic_ns: u64,
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
    pub fn add(&mut self, reader: u64, preferences: Arc<Preferences>) {
        self.readers.insert(
            reader,
            ReaderState {
                preferences,
                previous: HashMap::new(),
                window: None,
            },
        );
    }

    /// Forgets a reader.
    pub fn remove(&mut self, reader: u64) {
        self.readers.remove(&reader);
    }

    fn drain_ranges(&mut self, kind: Kind, scan: &Scan<'_>, series: &SeriesRecord) {
        let Some((low, high)) = scan.histogram(series).and_then(|histogram| histogram.drain_range()) else {
            return;
        };
        let readers = self.readers.values_mut();
        for state in readers.filter(|state| state.preferences.is_delta(kind)) {
            let previous = state.previous.entry((series.id.0, None)).or_default();
            let (min, max) = previous.range.unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
            previous.range = Some((min.min(low), max.max(high)));
        }
    }

    /// Lets the next interval of a reader begin now for everything that it wants as deltas, as if it had collected: for a process that does not export,
    /// and may have to take over from one that does. Minima, maxima and exemplars are left to that one.
    pub fn keep_up(&mut self, segment: &Segment, reader: u64) {
        let Some(state) = self.readers.get_mut(&reader) else {
            return;
        };
        let preferences = Arc::clone(&state.preferences);
        if !preferences.temporality.contains(&Temporality::Delta) {
            return;
        }
        let now = Now {
            unix_ns: unix_ns(),
            monotonic_ns: monotonic_ns(),
        };
        let mut scan = Scan::new(segment);
        for series in scan.series() {
            let Some(descriptor) = scan.stream(series.stream) else {
                continue;
            };
            let is_averaged = matches!(
                preferences.aggregation(&descriptor),
                None | Some(Aggregation::Ewma { .. })
            );
            if is_averaged || !preferences.is_delta(descriptor.kind) {
                continue;
            }
            if let Some(each) = scan.read_each(&series, 0, preferences.gauges) {
                for (lane, reading) in each {
                    let key = (series.id.0, Some((lane, segment.workers().started(lane))));
                    state.previous.entry(key).or_default().delta(&series, reading, now);
                }
            } else if let Some(reading) = scan.read_as(&series, 0, preferences.gauges) {
                let previous = state.previous.entry((series.id.0, None)).or_default();
                previous.delta(&series, reading, now);
            }
        }
    }

    /// The points of a reader now, streams in the order of their creation. `since_ns` is the monotonic time at which this collection began.
    pub fn collect(&mut self, segment: &Segment, reader: u64, since_ns: u64) -> Vec<Point> {
        let Some(state) = self.readers.get_mut(&reader) else {
            return Vec::new();
        };
        let preferences = Arc::clone(&state.preferences);
        let window = segment.begin_collection();
        let last = state.window.replace(window);
        let mut exemplars = segment
            .exemplars()
            .between(last.unwrap_or(window.wrapping_sub(u32::MAX / 2)), window);
        let now = Now {
            unix_ns: unix_ns(),
            monotonic_ns: monotonic_ns(),
        };
        let mut scan = Scan::new(segment);
        let wanted = wanted(segment, &mut scan, &preferences);
        let mut points = Vec::new();
        for series in scan.series() {
            let Some(descriptor) = scan.stream(series.stream) else {
                continue;
            };
            if series.histogram_at.is_some() {
                self.drain_ranges(descriptor.kind, &scan, &series);
            }
            let aggregation = preferences.aggregation(&descriptor);
            let aggregation = aggregation.filter(|_| wanted.contains(&series.stream));
            let (Some(aggregation), Some(state)) = (aggregation, self.readers.get_mut(&reader)) else {
                continue;
            };
            // An average goes on from the total that was reported last, whether it is reported again or not.
            let averaged = matches!(aggregation, Aggregation::Ewma { .. });
            let since_ns = if averaged { 0 } else { since_ns };
            let is_delta = preferences.is_delta(descriptor.kind);
            let each = scan
                .read_each(&series, since_ns, preferences.gauges)
                .filter(|_| !averaged);
            if let Some(each) = each {
                for (lane, reading) in each {
                    let started = segment.workers().started(lane);
                    let own = SeriesRecord {
                        start_unix_ns: series.start_unix_ns.max(started),
                        ..series
                    };
                    let previous = state.previous.entry((series.id.0, Some((lane, started)))).or_default();
                    let point = previous.point(is_delta, &own, reading, now);
                    points.extend(point.map(|(start, value)| Point {
                        worker: Some(lane),
                        ..Point::of(&series, start, now, value)
                    }));
                }
                continue;
            }
            let Some(reading) = scan.read_as(&series, since_ns, preferences.gauges) else {
                continue;
            };
            let previous = state.previous.entry((series.id.0, None)).or_default();
            let quantiles = previous.quantiles(aggregation, &series, &reading, now);
            let point = if let Aggregation::Ewma { tau } = aggregation {
                previous.average(*tau, descriptor.kind, &series, &reading, now)
            } else {
                previous.point(is_delta, &series, reading, now)
            };
            points.extend(point.map(|(start, value)| Point {
                quantiles,
                exemplars: exemplars.remove(&series.id.0).unwrap_or_default(),
                ..Point::of(&series, start, now, value)
            }));
        }
        points.sort_by_key(|point| (point.stream.0, point.series.0, point.worker));
        points
    }
}

/// The streams that a reader wants: where there is one for each of several cardinality limits, only that of the reader's own.
fn wanted(segment: &Segment, scan: &mut Scan<'_>, preferences: &Preferences) -> HashSet<StreamId> {
    let streams = (0..segment.tables().stream_count()).map(StreamId);
    let streams: Vec<_> = streams.filter_map(|id| Some((id, scan.stream(id)?))).collect();
    let limit = |descriptor: &Descriptor| preferences.limit[descriptor.kind as usize - 1];
    let common = |descriptor: &Descriptor| {
        let mut common = descriptor.clone();
        common.stream.variant = 0;
        common.identity()
    };
    let special = streams.iter().map(|(_, descriptor)| descriptor);
    let special = special.filter(|descriptor| descriptor.stream.variant == limit(descriptor));
    let special: HashSet<Vec<u8>> = special.map(|descriptor| common(descriptor)).collect();
    let is_wanted = |descriptor: &Descriptor| {
        if descriptor.stream.variant == 0 {
            special.is_empty() || !special.contains(&common(descriptor))
        } else {
            descriptor.stream.variant == limit(descriptor)
        }
    };
    let wanted = streams.iter().filter(|(_, descriptor)| is_wanted(descriptor));
    wanted.map(|(id, _)| *id).collect()
}

/// The point of a series since its beginning; `None` for a histogram without recordings.
fn cumulative(series: &SeriesRecord, reading: Reading) -> Option<(u64, Value)> {
    let value = match reading {
        Reading::Number(number) | Reading::Total(number) | Reading::Last(number, _) => Value::Number(number),
        Reading::Distribution(distribution) if distribution.count() > 0 => Value::Distribution(distribution),
        Reading::Distribution(_) | Reading::Mean(..) => return None,
    };
    Some((series.start_unix_ns, value))
}

impl Point {
    fn of(series: &SeriesRecord, start_unix_ns: u64, now: Now, value: Value) -> Point {
        Point {
            series: series.id,
            stream: series.stream,
            worker: None,
            start_unix_ns,
            time_unix_ns: now.unix_ns,
            value,
            quantiles: Vec::new(),
            exemplars: Vec::new(),
        }
    }
}

impl Previous {
    /// The point of a series in the temporality that the reader wants.
    fn point(&mut self, is_delta: bool, series: &SeriesRecord, reading: Reading, now: Now) -> Option<(u64, Value)> {
        if is_delta {
            self.delta(series, reading, now)
        } else {
            cumulative(series, reading)
        }
    }

    /// The point of a series since the last collection, with the begin of its interval; `None` if nothing happened.
    fn delta(&mut self, series: &SeriesRecord, reading: Reading, now: Now) -> Option<(u64, Value)> {
        let start = match self.collected_unix_ns {
            0 => series.start_unix_ns,
            collected => collected,
        };
        self.collected_unix_ns = now.unix_ns;
        let value = match reading {
            Reading::Number(number) => {
                let before = self.number.replace(number);
                if before == Some(number) {
                    return None;
                }
                Value::Number(difference(number, before))
            }
            Reading::Total(number) => Value::Number(difference(number, self.number.replace(number))),
            Reading::Last(number, stamp) => {
                if self.stamp == stamp {
                    return None;
                }
                self.stamp = stamp;
                Value::Number(number)
            }
            Reading::Distribution(distribution) => {
                let mut range = self.range.take().unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
                let before = self.distribution.replace(distribution.clone());
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
            Reading::Mean(..) => return None,
        };
        Some((start, value))
    }

    /// The quantiles of the window, where a view asks for them.
    fn quantiles(&mut self, aggregation: &Aggregation, series: &SeriesRecord, reading: &Reading, now: Now) -> Vec<f64> {
        let Aggregation::Hdr { quantiles, window, .. } = aggregation else {
            return Vec::new();
        };
        let (Reading::Distribution(distribution), false) = (reading, quantiles.is_empty()) else {
            return Vec::new();
        };
        let age_ns = now.unix_ns.saturating_sub(series.start_unix_ns);
        let since = self
            .window
            .advance(distribution, now.monotonic_ns, (window * 1e9) as u64, age_ns);
        if since.count() == 0 {
            return Vec::new();
        }
        let percentiles: Vec<f64> = quantiles.iter().map(|quantile| quantile * 100.0).collect();
        since.percentiles(&percentiles)
    }

    /// The moving average of a series; `None` before its first value.
    fn average(
        &mut self,
        tau: f64,
        kind: Kind,
        series: &SeriesRecord,
        reading: &Reading,
        now: Now,
    ) -> Option<(u64, Value)> {
        let averaged = match reading {
            Reading::Number(sum) => Averaged::Rate(sum.as_f64()),
            Reading::Total(total) => Averaged::Total(total.as_f64(), kind == Kind::ObservableCounter),
            Reading::Mean(count, sum) => Averaged::Mean(*count, *sum),
            Reading::Last(..) | Reading::Distribution(_) => return None,
        };
        let age_ns = now.unix_ns.saturating_sub(series.start_unix_ns);
        let average = self.ewma.advance(averaged, now.monotonic_ns, age_ns, tau)?;
        Some((series.start_unix_ns, Value::Number(Number::Float(average))))
    }
}

fn difference(now: Number, before: Option<Number>) -> Number {
    before.map_or(now, |before| now.minus(before))
}
