//! What can be asked of the windows.

use std::collections::HashSet;
use std::sync::Arc;

use super::key::slot_of;
use super::series::{Observed, Series, What};
use super::slice::{Change, Count};
use super::{State, Windows, SHORT};
use crate::distribution::Distribution;
use crate::hdr::{Level, Slot};
use crate::histogram::Histogram;
use crate::lane::Number;
use crate::tables::{SeriesId, StreamId};

/// Which series are asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Exported name of the metric.
    pub name: String,
    /// Canonical bytes of the attributes of one series; none for all of them together.
    pub attributes: Option<Vec<u8>>,
    /// Name of the scope; none for all.
    pub scope: Option<String>,
}

/// What was recorded in a window.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Unit (UCUM).
    pub unit: String,
    /// Real length of the window.
    pub seconds: f64,
    /// Number of recordings, or increment of a counter.
    pub count: f64,
    /// Sum of the recordings, or increment of a counter.
    pub sum: f64,
    /// The recordings; none of a counter. Minimum and maximum are within one slot of the exact ones.
    pub distribution: Option<Distribution>,
    /// Whether recordings are in it whose attributes were more than a stream has room for.
    pub overflow: bool,
}

impl Answer {
    /// Recordings, or increment, per second; 0 of a window without length.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 {
            self.count / self.seconds
        } else {
            0.0
        }
    }

    /// Mean of the recordings, if there are any.
    pub fn mean(&self) -> Option<f64> {
        (self.distribution.is_some() && self.count > 0.0).then(|| self.sum / self.count)
    }
}

/// Average rate per second, and mean of the values of a histogram.
pub type Average = (Option<f64>, Option<f64>);

/// All that there is of one series.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Name of the scope.
    pub scope: String,
    /// Exported name.
    pub name: String,
    /// Canonical bytes of the attributes.
    pub attributes: Vec<u8>,
    /// By window, in the order of the settings.
    pub windows: Vec<Answer>,
    /// By time constant, in the order of the settings.
    pub averages: Vec<Average>,
}

impl Windows {
    /// What was recorded in a trailing window of so many seconds; `None` if there is no such series.
    pub fn read(&self, asked: &Asked, window_s: f64) -> Option<Answer> {
        let state = self.state();
        let series = state.found(self, asked);
        (!series.is_empty()).then(|| state.answer(self, &series, window_s))
    }

    /// The average with the time constant of this number; the rates of several series are added up. `None` if there is no such series.
    pub fn average(&self, asked: &Asked, tau: usize) -> Option<Average> {
        let state = self.state();
        let series = state.found(self, asked);
        (!series.is_empty()).then(|| state.average(self, &series, tau))
    }

    /// All that there is of all series, each metric once.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let state = self.state();
        let streams = state.chosen(|_| true);
        let mut all = Vec::new();
        for series in state.of_streams(&streams) {
            let series = [series];
            let (record, descriptor) = (&series[0].record, &series[0].stream.descriptor);
            let Some(attributes) = self.segment.attribute_bytes(record.id) else {
                continue;
            };
            let windows = self.settings.windows.iter();
            let averages = 0..self.settings.taus.len();
            all.push(Snapshot {
                scope: descriptor.scope_name.clone(),
                name: descriptor.exported_name().to_owned(),
                attributes,
                windows: windows.map(|window| state.answer(self, &series, *window)).collect(),
                averages: averages.map(|tau| state.average(self, &series, tau)).collect(),
            });
        }
        all
    }

    /// What the series of a stream recorded in a trailing window, those without recordings left out.
    pub fn distributions(&self, stream: StreamId, window_s: f64) -> Vec<(SeriesId, Distribution)> {
        let state = self.state();
        let streams = HashSet::from([stream.0]);
        let all = state.of_streams(&streams);
        let answers = all.map(|series| (series.record.id, state.answer(self, &[series], window_s)));
        answers
            .filter_map(|(id, answer)| Some((id, answer.distribution.filter(|found| found.count() > 0)?)))
            .collect()
    }
}

impl State {
    /// The first stream of each metric that is observed, so that nothing is counted twice where readers want several.
    fn chosen(&self, wanted: impl Fn(&Observed) -> bool) -> HashSet<u32> {
        let mut seen = HashSet::new();
        let observed = self.streams.iter().flatten();
        observed
            .filter(|stream| stream.what != What::Nothing && wanted(stream))
            .filter(|stream| seen.insert((stream.descriptor.scope_identity(), stream.descriptor.exported_name())))
            .map(|stream| stream.id.0)
            .collect()
    }

    fn of_streams<'a, 'b>(&'a self, streams: &'b HashSet<u32>) -> impl Iterator<Item = &'a Series> + use<'a, 'b> {
        let all = self.series.iter().flatten();
        all.map(|series| &**series)
            .filter(|series| streams.contains(&series.record.stream.0))
    }

    fn found(&self, windows: &Windows, asked: &Asked) -> Vec<&Series> {
        let streams = self.chosen(|stream| {
            let scope = &stream.descriptor.scope_name;
            stream.descriptor.exported_name() == asked.name && asked.scope.as_ref().is_none_or(|name| name == scope)
        });
        let wanted = |series: &&Series| {
            asked
                .attributes
                .as_ref()
                .is_none_or(|bytes| windows.segment.attribute_bytes(series.record.id).as_ref() == Some(bytes))
        };
        let found = self.of_streams(&streams).filter(wanted).collect::<Vec<_>>();
        // Of scopes that share a name with another kind or unit the first is meant.
        let Some(first) = found.first().map(|series| Arc::clone(&series.stream)) else {
            return found;
        };
        let is_alike = |stream: &Observed| {
            (stream.what == What::Counter || stream.what == What::Total)
                == (first.what == What::Counter || first.what == What::Total)
                && stream.descriptor.unit == first.descriptor.unit
        };
        found.into_iter().filter(|series| is_alike(&series.stream)).collect()
    }

    /// What these series, of which there is at least one, recorded together.
    fn answer(&self, windows: &Windows, series: &[&Series], window_s: f64) -> Answer {
        let now_ns = self.last_ns.unwrap_or(0);
        let enough_ns = (window_s * (1.0 - SHORT) * 1e9) as u64;
        let mut start_ns = now_ns;
        let mut change = Change::default();
        for slice in self.slices.newest_first() {
            for series in series {
                slice.add_to(series.record.id.0, &mut change);
            }
            start_ns = slice.start_ns;
            if now_ns - start_ns >= enough_ns {
                break;
            }
        }
        change.settle(Level::Three);
        let stream = &series[0].stream;
        let is_histogram = matches!(stream.what, What::Histogram { .. });
        let distribution = is_histogram.then(|| distribution_of(windows, series, &change, stream.per_one));
        Answer {
            unit: stream.descriptor.unit.clone(),
            seconds: (now_ns - start_ns) as f64 / 1e9,
            count: distribution.as_ref().map_or(change.sum, |found| found.count() as f64),
            sum: change.sum,
            distribution,
            overflow: series.iter().any(|series| series.record.overflow),
        }
    }

    fn average(&self, windows: &Windows, series: &[&Series], tau: usize) -> Average {
        let now_ns = self.last_ns.unwrap_or(0);
        let tau_s = windows.settings.taus[tau];
        let each = series.iter().map(|series| series.averages.read(tau, tau_s, now_ns));
        let is_counter = !matches!(series[0].stream.what, What::Histogram { .. });
        if let [only] = series {
            let (rate, mean) = only.averages.read(tau, tau_s, now_ns);
            return (rate, mean.filter(|_| !is_counter));
        }
        let (mut rates, mut sums) = (None, 0.0);
        for (rate, mean) in each {
            let Some(rate) = rate else { continue };
            rates = Some(rates.unwrap_or(0.0) + rate);
            sums += rate * mean.unwrap_or(0.0);
        }
        let mean = rates.filter(|rate| *rate > 0.0 && !is_counter).map(|rate| sums / rate);
        (rates, mean)
    }
}

fn distribution_of(windows: &Windows, series: &[&Series], change: &Change, per_one: f64) -> Distribution {
    let (region, geometry) = (windows.segment.region(), windows.segment.geometry());
    let ranges = series.iter().filter_map(|series| {
        Histogram::new(region, geometry, series.record.histogram_at?, series.record.overflow).range()
    });
    let nothing = (f64::INFINITY, f64::NEG_INFINITY);
    let range = ranges.fold(nothing, |all, one| (all.0.min(one.0), all.1.max(one.1)));
    let (counts, negative) = (slots_of(&change.counts), slots_of(&change.negative));
    let coarsest = counts.iter().chain(&negative).map(|(slot, _)| slot.level).max();
    Distribution::new(
        counts,
        coarsest.unwrap_or(Level::Three),
        Number::Float(change.sum),
        range,
        per_one,
    )
    .with_negative(negative)
    .with_range_of_slots()
}

/// Counts by slot, in the order of slots, which is not that of keys.
fn slots_of(counts: &[Count]) -> Vec<(Slot, u64)> {
    let mut slots: Vec<(Slot, u64)> = counts.iter().map(|(key, count)| (slot_of(*key), *count)).collect();
    slots.sort_unstable_by_key(|(slot, _)| *slot);
    slots
}
