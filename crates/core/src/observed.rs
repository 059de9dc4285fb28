//! What an observer makes of a segment over time: trailing windows and moving averages of each series.
//!
//! A tick looks at the segment and keeps what was recorded since the last one: of a histogram counts by slot, of a counter the increment. A window is the
//! sum of the slices that reach back far enough; percentiles are computed when somebody asks. Recording needs neither a clock nor a rotation.
//!
//! Times are monotonic, so that a clock that is set does nothing. The kernel stops that clock while a machine is suspended: the time does not count. A
//! window ends at the last tick. It is as long as asked for or a little longer, because it begins where a slice does; it is shorter while the observer has
//! only just begun, and longer where a tick was late, and says how long it is. What was recorded before the first tick is in no window.

mod average;
mod key;
mod known;
mod questions;
mod series;
mod slice;
mod slices;
pub mod ticker;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::average::{kept, Averages};
use self::known::Known;
pub use self::questions::{Answer, Asked, Average, Snapshot};
use self::series::{cells_of_chunk, sums, Observed, Series, Tick, What};
use self::slice::{Change, Slice};
use self::slices::Slices;
use crate::clock::thread_cpu_ns;
use crate::hdr::units_per_one;
use crate::instrument::Kind;
use crate::layout::CHUNK;
use crate::segment::Segment;
use crate::stream::Storage;
use crate::tables::{SeriesId, StreamId};

/// Most windows, and most averages.
pub const MOST: usize = 8;
/// Seconds that a window may have.
pub const WINDOW_S: (f64, f64) = (1.0, 3600.0);
/// Seconds that the time constant of an average may have.
pub const TAU_S: (f64, f64) = (1.0, 86_400.0);
/// Bytes that slices may take. What is known of the segment, to find what is new, takes a copy of its slots and about 250 bytes for each series besides.
pub const MEMORY: (usize, usize) = (1 << 16, 1 << 30);
/// Part of a window that it may be short of, so that a tick that came a little early does not make it longer by one.
const SHORT: f64 = 0.05;

/// What is observed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Lengths of the windows in seconds.
    pub windows: Vec<f64>,
    /// Time constants of the averages in seconds.
    pub taus: Vec<f64>,
    /// Bytes.
    pub memory_limit: usize,
}

impl Settings {
    /// The settings, or which of them is not accepted and why.
    pub fn checked(self) -> Result<Settings, String> {
        for (name, numbers, (low, high)) in [("windows", &self.windows, WINDOW_S), ("taus", &self.taus, TAU_S)] {
            if numbers.is_empty() || numbers.len() > MOST || !numbers.iter().all(|n| (low..=high).contains(n)) {
                return Err(format!(
                    "{name} are {numbers:?}; accepted are 1 to {MOST} numbers from {low} to {high}"
                ));
            }
        }
        if !(MEMORY.0..=MEMORY.1).contains(&self.memory_limit) {
            let (low, high) = MEMORY;
            return Err(format!(
                "memory_limit is {}; accepted is {low} to {high}",
                self.memory_limit
            ));
        }
        Ok(self)
    }
}

/// What an observer says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Looks at the segment.
    pub ticks: u64,
    /// Ticks at a time that was not later than the last.
    pub ignored_ticks: u64,
    /// Series that are observed.
    pub series: usize,
    /// Bytes of slices.
    pub memory: usize,
    /// Bytes of what is known of the segment.
    pub known: usize,
    /// Slices that were given up before their time.
    pub lost_slices: u64,
    /// Significant digits of the coarsest slices.
    pub digits: f64,
    /// CPU time of all ticks.
    pub cpu_ns: u64,
}

/// The windows and averages of all series of a segment.
#[derive(Debug)]
pub struct Windows {
    segment: Arc<Segment>,
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_ns: Option<u64>,
    streams: Vec<Option<Arc<Observed>>>,
    series: Vec<Option<Box<Series>>>,
    slices: Slices,
    change: Change,
    known: usize,
    statistics: Statistics,
}

impl Windows {
    /// Windows of a segment, which begin with the first tick.
    pub fn new(segment: Arc<Segment>, settings: Settings) -> Windows {
        Windows {
            segment,
            settings,
            state: Mutex::default(),
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A tick that panicked leaves a state that is behind, not one that is broken.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the segment at a monotonic time in nanoseconds; `false`, and nothing is done, if it is not later than that of the last tick.
    ///
    /// Costs about a microsecond for each series that was recorded into, and a twentieth of that for the others.
    pub fn tick(&self, now_ns: u64) -> bool {
        let before = thread_cpu_ns();
        let mut state = self.state();
        if state.last_ns.is_some_and(|last| now_ns <= last) {
            state.statistics.ignored_ticks += 1;
            return false;
        }
        state.tick(&self.segment, &self.settings, now_ns);
        state.statistics.ticks += 1;
        state.statistics.cpu_ns += thread_cpu_ns().saturating_sub(before);
        true
    }

    /// What is to be said of this observer.
    pub fn statistics(&self) -> Statistics {
        let state = self.state();
        Statistics {
            series: state
                .series
                .iter()
                .flatten()
                .filter(|series| series.stream.what != What::Nothing)
                .count(),
            memory: state.slices.memory(),
            known: state.known + state.series.capacity() * 8,
            lost_slices: state.slices.lost(),
            digits: state.slices.coarsest().digits(),
            ..state.statistics
        }
    }
}

impl State {
    fn tick(&mut self, segment: &Segment, settings: &Settings, now_ns: u64) {
        let start_ns = self.last_ns.unwrap_or(now_ns);
        let mut tick = Tick {
            segment,
            settings,
            start_ns,
            now_ns,
            kept: settings.taus.iter().map(|tau| kept(start_ns, now_ns, *tau)).collect(),
            level: self.slices.level(),
            scan: None,
        };
        let mut slice = Slice::new(start_ns, now_ns, tick.level);
        let series = segment.tables().series_count();
        self.series.resize_with(series as usize, || None);
        for chunk in 0..(series as usize).div_ceil(CHUNK) {
            let begin = (chunk * CHUNK) as u32;
            let lanes = cells_of_chunk(segment, SeriesId(begin));
            for id in begin..series.min(begin + CHUNK as u32) {
                self.look(&mut tick, SeriesId(id), &lanes, &mut slice);
            }
            slice.end_chunk();
        }
        if self.last_ns.is_some() {
            slice.end();
            let longest = settings
                .windows
                .iter()
                .fold(0.0, |longest: f64, window| longest.max(*window));
            self.slices.push(slice, (longest * 1e9) as u64);
        }
        self.slices.fit(settings.memory_limit);
        self.last_ns = Some(now_ns);
    }

    /// Looks at one series and puts what it recorded since the last tick into the slice.
    fn look(&mut self, tick: &mut Tick<'_>, id: SeriesId, lanes: &[usize], slice: &mut Slice) {
        let is_first = self.series[id.0 as usize].is_none();
        if is_first {
            let Some(series) = self.begin(tick, id) else { return };
            self.series[id.0 as usize] = Some(series);
        }
        let State { series, change, .. } = self;
        let Some(series) = &mut series[id.0 as usize] else {
            return;
        };
        change.clear();
        let before = if is_first { 0 } else { series.memory() };
        let found = match series.stream.what {
            What::Nothing => None,
            What::Counter => {
                series.look_at_sum(sums(tick.segment, lanes, id), change);
                Some(())
            }
            What::Total => series.look_at_total(tick, is_first, change),
            What::Histogram { mirror } => series.look_at_histogram(tick, sums(tick.segment, lanes, id), mirror, change),
        };
        self.known += series.memory() - before;
        // What was recorded before the first tick is in no window.
        if found.is_none() || change.is_empty() || self.last_ns.is_none() {
            return;
        }
        let count = if change.is_counter {
            change.sum
        } else {
            change.settle(tick.level);
            count(change)
        };
        series.averages.advance(
            tick.start_ns,
            tick.now_ns,
            count,
            change.sum,
            &tick.settings.taus,
            &tick.kept,
        );
        slice.put(id.0 as usize % CHUNK, change);
    }

    /// Begins to observe a series that was recorded into.
    fn begin(&mut self, tick: &Tick<'_>, id: SeriesId) -> Option<Box<Series>> {
        let record = tick.segment.tables().read_series(id).filter(|record| record.touched)?;
        let stream = self.stream(tick.segment, record.stream)?;
        let taus = if stream.what == What::Nothing {
            0
        } else {
            tick.settings.taus.len()
        };
        Some(Box::new(Series {
            record,
            stream,
            sums: (0, 0.0),
            zeros: 0,
            is_moving: true,
            known: Known::default(),
            mirror: None,
            averages: Averages::new(tick.start_ns, taus),
        }))
    }

    fn stream(&mut self, segment: &Segment, id: StreamId) -> Option<Arc<Observed>> {
        let at = id.0 as usize;
        if self.streams.len() <= at {
            self.streams.resize_with(at + 1, || None);
        }
        if self.streams[at].is_none() {
            let descriptor = segment.tables().descriptor(id)?;
            let (kind, storage) = (descriptor.kind, descriptor.stream.storage);
            let what = match (storage, kind) {
                (Storage::Distribution, _) => What::Histogram {
                    mirror: storage.has_mirror(kind),
                },
                (Storage::Sum, Kind::Counter) => What::Counter,
                (Storage::Total, Kind::ObservableCounter) => What::Total,
                _ => What::Nothing,
            };
            let per_one = units_per_one(&descriptor.unit);
            self.streams[at] = Some(Arc::new(Observed {
                id,
                descriptor,
                what,
                per_one,
            }));
        }
        self.streams[at].clone()
    }
}

fn count(change: &Change) -> f64 {
    let all = change.counts.iter().chain(&change.negative);
    all.map(|(_, count)| *count as f64).sum()
}
