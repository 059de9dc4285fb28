//! The series as one process records into them: the hot path.
//!
//! A [`LocalSeries`] keeps the address of the cell in this process's lane, so that a recording is one load of that address and one atomic
//! add. The address is null until the first recording after creation or fork.

use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::Arc;

use crate::clock::{monotonic_ns, unix_ns};
use crate::drops::Drop;
use crate::hdr::to_units;
use crate::histogram::{Histogram, Recorded};
use crate::lane::{Cell, Number};
use crate::segment::Segment;
use crate::tables::SeriesId;

/// A series that this process records into.
#[derive(Debug)]
pub struct LocalSeries {
    segment: Arc<Segment>,
    id: SeriesId,
    /// The cell in this process's lane, or null. Invariant: points into the mapping that `segment` keeps alive.
    cell: AtomicPtr<Cell>,
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
        let local = Arc::new(LocalSeries {
            segment: Arc::clone(segment),
            id,
            cell: AtomicPtr::new(ptr::null_mut()),
            histogram_at: record.histogram_at.unwrap_or(0),
            per_one,
            overflow,
        });
        segment.remember(&local);
        Some(local)
    }

    /// Its number.
    pub fn id(&self) -> SeriesId {
        self.id
    }

    /// Makes the next recording look the cell up again.
    pub fn forget_cell(&self) {
        self.cell.store(ptr::null_mut(), Release);
    }

    #[inline]
    fn cell(&self) -> Option<&Cell> {
        let cell = self.cell.load(Acquire);
        if cell.is_null() {
            return self.find_cell();
        }
        // SAFETY: the invariant of the field: not null means inside the mapping, which `self.segment` keeps alive.
        Some(unsafe { &*cell })
    }

    /// First recording after creation or fork: joins a lane, or uses the common one when the pool is exhausted.
    #[cold]
    fn find_cell(&self) -> Option<&Cell> {
        let tables = self.segment.tables();
        let lanes = tables.lanes();
        let lane = self.segment.lane();
        let at = lanes.cell_at(lane, self.id).or_else(|| lanes.cell_at(0, self.id))?;
        let cell = self.segment.region().cell(at)?;
        tables.touch(self.id, unix_ns());
        self.cell.store(ptr::from_ref(cell).cast_mut(), Release);
        Some(cell)
    }

    /// Adds to a counter or up-down counter.
    #[inline]
    pub fn add(&self, amount: Number) {
        let Some(cell) = self.cell() else {
            return self.segment.count_drop(Drop::Corrupt);
        };
        match amount {
            Number::Int(amount) => cell.add_int(amount),
            Number::Float(amount) => {
                if cell.add_float(amount) {
                    self.segment.tables().mark_float(self.id);
                }
            }
        }
    }

    /// Sets a gauge, or the total that a callback reported.
    #[inline]
    pub fn set(&self, value: Number) {
        match self.cell() {
            Some(cell) => cell.set(value, monotonic_ns()),
            None => self.segment.count_drop(Drop::Corrupt),
        }
    }

    /// Records into a histogram: slot, sum, minimum and maximum, all in the series or all in its overflow series.
    #[inline]
    pub fn record(&self, value: Number) {
        let float = value.as_f64();
        let histogram = self.histogram();
        match histogram.record(to_units(float, self.per_one)) {
            Recorded::Counted => {
                histogram.widen_range(float);
                self.add(value);
            }
            Recorded::NoRoom => self.record_overflow(value),
            Recorded::Corrupt => self.segment.count_drop(Drop::Corrupt),
        }
    }

    #[inline]
    fn histogram(&self) -> Histogram<'_> {
        Histogram::new(
            self.segment.region(),
            self.segment.geometry(),
            self.histogram_at,
            self.overflow.is_none(),
        )
    }

    #[cold]
    fn record_overflow(&self, value: Number) {
        self.segment.count_drop(Drop::NoPage);
        if let Some(overflow) = &self.overflow {
            overflow.record(value);
        }
    }

    /// Whether anything was recorded through this handle since creation or fork.
    pub fn is_active(&self) -> bool {
        !self.cell.load(Relaxed).is_null()
    }
}
