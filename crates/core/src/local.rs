//! The series as one process records into them: the hot path.
//!
//! A [`LocalSeries`] keeps the address of the cell in this process's lane, so that a recording is one look at the generation, one load of that
//! address and one add. The address is looked up at the first recording of a generation, which ends with a fork or when a lane is given back.

// Inlined by order, because a call costs a tenth of a recording.
#![allow(clippy::inline_always)]

use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32};
use std::sync::Arc;

use crate::clock::{monotonic_ns, unix_ns};
use crate::drops::Drop;
use crate::fork;
use crate::hdr::to_units;
use crate::histogram::{Histogram, Recorded};
use crate::lane::{Cell, Number};
use crate::segment::Segment;
use crate::tables::SeriesId;

/// No generation: the cell was not looked up yet.
const NEVER: u32 = u32::MAX;

/// A series that this process records into.
#[derive(Debug)]
pub struct LocalSeries {
    segment: Arc<Segment>,
    id: SeriesId,
    /// The cell in this process's lane. Invariant: unless `generation` is [`NEVER`], it points into the mapping that `segment` keeps alive.
    cell: AtomicPtr<Cell>,
    /// Generation in which `cell` was looked up.
    generation: AtomicU32,
    /// Whether nobody else writes the cell, so that adding needs no locked instruction.
    exclusive: AtomicBool,
    /// Byte offset of the histogram header; 0 if the series is no histogram.
    histogram_at: usize,
    /// Integer units per unit of the instrument.
    per_one: f64,
    /// Where a value goes that finds no room here; none for the overflow series itself.
    overflow: Option<Arc<LocalSeries>>,
}

impl LocalSeries {
    /// The series `id`, whose values are kept as `per_one` integer units; `None` if its record cannot be right.
    pub fn new(
        segment: &Arc<Segment>,
        id: SeriesId,
        per_one: f64,
        overflow: Option<Arc<LocalSeries>>,
    ) -> Option<Arc<LocalSeries>> {
        let record = segment.tables().read_series(id)?;
        Some(Arc::new(LocalSeries {
            segment: Arc::clone(segment),
            id,
            cell: AtomicPtr::new(ptr::null_mut()),
            generation: AtomicU32::new(NEVER),
            exclusive: AtomicBool::new(false),
            histogram_at: record.histogram_at.unwrap_or(0),
            per_one,
            overflow,
        }))
    }

    /// Its number.
    pub fn id(&self) -> SeriesId {
        self.id
    }

    #[inline(always)]
    fn cell(&self) -> Option<&Cell> {
        if self.generation.load(Acquire) != fork::generation() {
            return self.find_cell();
        }
        // SAFETY: the invariant of the field.
        Some(unsafe { &*self.cell.load(Relaxed) })
    }

    /// First recording of a generation: joins a lane, or uses the common one when the pool is exhausted.
    #[cold]
    fn find_cell(&self) -> Option<&Cell> {
        // Read first: a lane that is given back meanwhile is then looked up again.
        let generation = fork::generation();
        let tables = self.segment.tables();
        let lanes = tables.lanes();
        let own = self.segment.lane();
        let (lane, at) = [own, 0]
            .into_iter()
            .find_map(|lane| Some((lane, lanes.cell_at(lane, self.id)?)))?;
        let cell = self.segment.region().cell(at)?;
        tables.touch(self.id, unix_ns());
        self.exclusive.store(self.segment.is_exclusive(lane), Relaxed);
        self.cell.store(ptr::from_ref(cell).cast_mut(), Relaxed);
        self.generation.store(generation, Release);
        Some(cell)
    }

    /// Adds to a counter or up-down counter.
    #[inline(always)]
    pub fn add(&self, amount: Number) {
        let Some(cell) = self.cell() else {
            return self.segment.count_drop(Drop::Corrupt);
        };
        if cell.add(amount, self.exclusive.load(Relaxed)) {
            self.segment.tables().mark_float(self.id);
        }
    }

    /// Sets a gauge, or the total that a callback reported.
    #[inline(always)]
    pub fn set(&self, value: Number) {
        match self.cell() {
            Some(cell) => cell.set(value, monotonic_ns()),
            None => self.segment.count_drop(Drop::Corrupt),
        }
    }

    /// Records into a histogram: slot, sum, minimum and maximum, all in the series or all in its overflow series.
    #[inline(always)]
    pub fn record(&self, value: Number) {
        let float = value.as_f64();
        let histogram = self.histogram();
        let units = to_units(float, self.per_one);
        if let Some(slot) = histogram.roomy_slot(units) {
            histogram.widen_range(float);
            self.add(value);
            // Last, because whatever follows a locked instruction waits for it.
            slot.count();
        } else {
            self.record_elsewhere(value, units);
        }
    }

    /// Recordings that need a page or a wider one, and those at the coarser steps.
    #[inline(never)]
    fn record_elsewhere(&self, value: Number, units: u64) {
        let float = value.as_f64();
        let histogram = self.histogram();
        match histogram.record(units) {
            Recorded::Counted => {
                histogram.widen_range(float);
                self.add(value);
            }
            Recorded::NoRoom => self.record_overflow(value),
            Recorded::Corrupt => self.segment.count_drop(Drop::Corrupt),
        }
    }

    #[inline(always)]
    fn histogram(&self) -> Histogram<'_> {
        Histogram::new(
            self.segment.region(),
            self.segment.geometry(),
            self.histogram_at,
            self.overflow.is_none(),
        )
    }

    /// `record` for a series that is an overflow series; a function of its own, because `record` cannot contain itself.
    fn record_into_overflow(&self, value: Number) {
        let float = value.as_f64();
        let histogram = self.histogram();
        if histogram.record(to_units(float, self.per_one)) == Recorded::Counted {
            histogram.widen_range(float);
            self.add(value);
        } else {
            self.segment.count_drop(Drop::Corrupt);
        }
    }

    #[cold]
    fn record_overflow(&self, value: Number) {
        self.segment.count_drop(Drop::NoPage);
        if let Some(overflow) = &self.overflow {
            overflow.record_into_overflow(value);
        }
    }
}
