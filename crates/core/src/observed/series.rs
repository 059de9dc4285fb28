//! What is known of one series, and how a tick finds what is new.

use std::sync::Arc;

use super::average::Averages;
use super::known::Known;
use super::slice::Change;
use super::Settings;
use crate::hdr::Level;
use crate::histogram::Histogram;
use crate::instrument::Descriptor;
use crate::lane::Cell;
use crate::layout::{CHUNK, WORKERS};
use crate::scan::{Reading, Scan};
use crate::segment::Segment;
use crate::tables::{SeriesId, SeriesRecord, StreamId};

/// What is observed of a stream.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) id: StreamId,
    pub(super) descriptor: Descriptor,
    pub(super) what: What,
    pub(super) per_one: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Nothing,
    /// Increments.
    Counter,
    /// Totals that callbacks report.
    Total,
    /// Counts by slot; whether of negative values too.
    Histogram {
        mirror: bool,
    },
}

/// What is known of a series.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) record: SeriesRecord,
    pub(super) stream: Arc<Observed>,
    pub(super) sums: (i64, f64),
    pub(super) zeros: u64,
    /// Whether its histogram is looked at in the next tick whatever its sum says: a recording adds to the two one after the other.
    pub(super) is_moving: bool,
    pub(super) known: Known,
    pub(super) mirror: Option<Box<Known>>,
    pub(super) averages: Averages,
}

impl Series {
    pub(super) fn memory(&self) -> usize {
        std::mem::size_of::<Series>()
            + self.known.memory()
            + self.mirror.as_ref().map_or(0, |mirror| mirror.memory())
            + self.averages.memory()
    }
}

/// One tick.
pub(super) struct Tick<'a> {
    pub(super) segment: &'a Segment,
    pub(super) settings: &'a Settings,
    /// End of the last tick; this one's if there was none.
    pub(super) start_ns: u64,
    pub(super) now_ns: u64,
    /// What averages keep over this tick.
    pub(super) kept: Vec<f64>,
    pub(super) level: Level,
    pub(super) scan: Option<Scan<'a>>,
}

impl Series {
    /// Takes the increment of a counter.
    pub(super) fn look_at_sum(&mut self, sums: (i64, f64), change: &mut Change) {
        change.is_counter = true;
        change.sum = increase(self.sums, sums);
        self.sums = sums;
    }

    /// Takes the increment of a total, which begins with the first that is seen, and may begin anew.
    pub(super) fn look_at_total(&mut self, tick: &mut Tick<'_>, is_first: bool, change: &mut Change) -> Option<()> {
        let scan = tick.scan.get_or_insert_with(|| Scan::new(tick.segment));
        let Reading::Total(total) = scan.read(&self.record, 0)? else {
            return None;
        };
        let (before, total) = (self.sums.1, total.as_f64());
        self.sums.1 = total;
        change.is_counter = true;
        change.sum = match total - before {
            _ if is_first => 0.0,
            fallen if fallen < 0.0 => total,
            increment => increment,
        };
        Some(())
    }

    /// Takes what a histogram counts more; none if it cannot have changed.
    pub(super) fn look_at_histogram(
        &mut self,
        tick: &Tick<'_>,
        sums: (i64, f64),
        mirror: bool,
        change: &mut Change,
    ) -> Option<()> {
        let (region, geometry) = (tick.segment.region(), tick.segment.geometry());
        let histogram = Histogram::new(region, geometry, self.record.histogram_at?, self.record.overflow);
        let zeros = histogram.zeros()?;
        let is_same = sums.0 == self.sums.0 && sums.1.to_bits() == self.sums.1.to_bits() && zeros == self.zeros;
        // In a sum this large the smallest value that has a slot of its own may leave no trace.
        let is_telling = !mirror && !self.record.overflow && sums.1.abs() * self.stream.per_one < 1e15;
        if is_same && is_telling && !self.is_moving {
            return None;
        }
        self.is_moving = !is_same;
        change.sum = increase(self.sums, sums);
        (self.sums, self.zeros) = (sums, zeros);
        self.known.advance(&histogram, &mut change.counts)?;
        if mirror {
            let mirror = self.mirror.get_or_insert_default();
            mirror.advance(&histogram.mirror(), &mut change.negative)?;
        }
        Some(())
    }
}

/// Byte offsets of the first cell of a chunk in the lanes that have it.
pub(super) fn cells_of_chunk(segment: &Segment, first: SeriesId) -> Vec<usize> {
    let tables = segment.tables();
    let lanes = tables.lanes();
    (0..WORKERS)
        .filter_map(|lane| lanes.existing_cell_at(lane, first))
        .collect()
}

/// Sums of a series over the lanes.
pub(super) fn sums(segment: &Segment, lanes: &[usize], id: SeriesId) -> (i64, f64) {
    let offset = id.0 as usize % CHUNK * std::mem::size_of::<Cell>();
    let (mut ints, mut floats) = (0_i64, 0.0);
    for at in lanes {
        if let Some(cell) = segment.region().cell(at + offset) {
            let (int, float) = cell.sums();
            ints = ints.wrapping_add(int);
            floats += float;
        }
    }
    (ints, floats)
}

/// What was added; integers are subtracted as such, so that a large sum hides no small increment.
fn increase(before: (i64, f64), now: (i64, f64)) -> f64 {
    now.0.wrapping_sub(before.0) as f64 + (now.1 - before.1)
}
