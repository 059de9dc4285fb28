//! The series as one process records into them: the hot path.
//!
//! A [`LocalSeries`] keeps the address of the cell in this process's lane, so that a recording is one look at the epoch, one load of that
//! address and one add. The address is looked up at the first recording of an epoch, which ends with a fork, when a lane is given back, and
//! with the window, after which every series asks for exemplars again.
//!
//! Whatever is not plain (another storage than the instrument's own, other streams that get the same recording, exemplars that are wanted, a
//! cell that others write too) voids the epoch that plain recordings look at, so that these have nothing else to ask: `try_add`, `try_set` and
//! `try_record` do the plain ones and refuse all others, which [`LocalSeries::write`] does.

// Inlined by order, because a call costs a tenth of a recording.
#![allow(clippy::inline_always)]

mod stream;
mod write;

use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize};
use std::sync::Arc;

use crate::asking::Asking;
use crate::clock::{monotonic_ns, unix_ns};
use crate::exemplar::Buckets;
use crate::fork;
use crate::hdr::to_units;
use crate::histogram::Histogram;
use crate::lane::{Cell, Number};
use crate::layout::header;
use crate::segment::Segment;
use crate::tables::SeriesId;

pub use stream::LocalStream;

/// No epoch: the cell was not looked up yet.
const NEVER: u32 = u32::MAX;

/// A series that this process records into.
#[derive(Debug)]
pub struct LocalSeries {
    segment: Arc<Segment>,
    id: SeriesId,
    /// The cell in this process's lane. Invariant: it points to [`NOWHERE`] or into the mapping that `segment` keeps alive.
    cell: AtomicPtr<Cell>,
    /// The segment's count of windows. Invariant: it points into the mapping that `segment` keeps alive.
    window: AtomicPtr<AtomicU32>,
    /// Epoch in which `cell` was looked up.
    epoch: AtomicU32,
    /// The same epoch if recordings are plain, [`NEVER`] if not.
    plain_epoch: AtomicU32,
    /// The same epoch if recordings are plain but for the exemplars that are wanted, [`NEVER`] if not.
    asking_epoch: AtomicU32,
    /// Whether nobody else writes the cell, so that adding needs no locked instruction.
    exclusive: AtomicBool,
    /// Byte offset of the histogram header, looked up with the cell; 0 if the series is no histogram.
    histogram_at: AtomicUsize,
    /// The lane, looked up with the cell.
    lane: AtomicUsize,
    /// Integer units per unit of the instrument.
    per_one: f64,
    /// Where a value goes that finds no room here; none for the overflow series itself.
    overflow: Option<Arc<LocalSeries>>,
    stream: Arc<LocalStream>,
    /// Series of the instrument's other streams that get the same recordings.
    also: Box<[Arc<LocalSeries>]>,
    asking: Asking,
}

/// What is written before the first look-up, if a damaged segment makes an epoch look like [`NEVER`].
static NOWHERE: Cell = Cell::empty();

impl LocalSeries {
    /// The series `id` of a stream, whose recordings go to `also` too; `None` if its record cannot be right.
    pub fn new(
        segment: &Arc<Segment>,
        stream: &Arc<LocalStream>,
        id: SeriesId,
        overflow: Option<Arc<LocalSeries>>,
        also: Vec<Arc<LocalSeries>>,
    ) -> Option<Arc<LocalSeries>> {
        let record = segment.tables().read_series(id)?;
        let window = segment.region().u32(header::WINDOW)?;
        Some(Arc::new(LocalSeries {
            segment: Arc::clone(segment),
            id,
            cell: AtomicPtr::new(ptr::from_ref(&NOWHERE).cast_mut()),
            window: AtomicPtr::new(ptr::from_ref(window).cast_mut()),
            epoch: AtomicU32::new(NEVER),
            plain_epoch: AtomicU32::new(NEVER),
            asking_epoch: AtomicU32::new(NEVER),
            exclusive: AtomicBool::new(false),
            histogram_at: AtomicUsize::new(record.histogram_at.unwrap_or(0)),
            lane: AtomicUsize::new(0),
            per_one: stream.per_one,
            overflow,
            stream: Arc::clone(stream),
            also: also.into_boxed_slice(),
            asking: Asking::default(),
        }))
    }

    /// Its number.
    pub fn id(&self) -> SeriesId {
        self.id
    }

    /// Its stream.
    pub fn stream(&self) -> &Arc<LocalStream> {
        &self.stream
    }

    /// Series of the instrument's other streams that get the same recordings.
    pub fn also(&self) -> &[Arc<LocalSeries>] {
        &self.also
    }

    /// Whether it is the overflow series of its stream.
    pub fn is_overflow(&self) -> bool {
        self.overflow.is_none()
    }

    /// A number that changes when the address of the cell, or what is asked for, may have changed.
    #[inline(always)]
    fn epoch(&self) -> u32 {
        // SAFETY: the invariant of the field.
        let window = unsafe { &*self.window.load(Relaxed) };
        window.load(Acquire).wrapping_add(fork::generation())
    }

    #[inline(always)]
    fn cell(&self) -> Option<&Cell> {
        if self.epoch.load(Acquire) != self.epoch() {
            return self.find_cell();
        }
        // SAFETY: the invariant of the field.
        Some(unsafe { &*self.cell.load(Relaxed) })
    }

    /// First recording of an epoch: joins a lane, or uses the common one when the pool is exhausted.
    #[cold]
    fn find_cell(&self) -> Option<&Cell> {
        // Read first: a lane that is given back meanwhile is then looked up again.
        let epoch = self.epoch();
        let tables = self.segment.tables();
        let lanes = tables.lanes();
        let own = self.segment.lane();
        let (lane, at) = [own, 0]
            .into_iter()
            .find_map(|lane| Some((lane, lanes.cell_at(lane, self.id)?)))?;
        let cell = self.segment.region().cell(at)?;
        tables.touch(self.id, unix_ns());
        if self.histogram_at.load(Relaxed) != 0 {
            // A forked process may have got a segment of its own with the lane, where the header lies elsewhere.
            let found = tables.read_series(self.id).and_then(|series| series.histogram_at)?;
            self.histogram_at.store(found, Relaxed);
        }
        self.lane.store(lane, Relaxed);
        self.exclusive.store(self.segment.is_exclusive(lane), Relaxed);
        self.asking
            .begin(self.stream.exemplars.as_ref().map_or(0, Buckets::all));
        self.cell.store(ptr::from_ref(cell).cast_mut(), Relaxed);
        self.epoch.store(epoch, Release);
        self.consider_plain();
        Some(cell)
    }

    fn consider_plain(&self) {
        let epoch = self.epoch.load(Relaxed);
        let is_own = self.exclusive.load(Relaxed)
            && self.stream.storage.is_native(self.stream.kind)
            && !self.stream.followed
            && self.also.is_empty();
        let asks = !self.asking.is_over();
        self.plain_epoch
            .store(if is_own && !asks { epoch } else { NEVER }, Release);
        self.asking_epoch
            .store(if is_own && asks { epoch } else { NEVER }, Release);
    }

    /// The cell, if plain recordings may go straight there.
    #[inline(always)]
    fn plain_cell(&self) -> Option<&Cell> {
        if self.plain_epoch.load(Acquire) != self.epoch() {
            return None;
        }
        // SAFETY: the invariant of the field.
        Some(unsafe { &*self.cell.load(Relaxed) })
    }

    /// The cell, if a recording may go straight there because it is plain but for exemplars, and cannot become one.
    #[inline(always)]
    fn unasked_cell(&self, value: Number) -> Option<&Cell> {
        if self.asking_epoch.load(Acquire) != self.epoch() || !self.asking.has_left() || self.is_asked(value) {
            return None;
        }
        self.asking.spend();
        // SAFETY: the invariant of the field.
        Some(unsafe { &*self.cell.load(Relaxed) })
    }

    /// Adds to a counter or up-down counter. False, with nothing written, if that is not plain.
    #[inline(always)]
    pub fn try_add(&self, amount: Number) -> bool {
        match self.plain_cell() {
            Some(cell) => {
                self.add_to(cell, amount, true);
                true
            }
            None => self.try_add_unasked(amount),
        }
    }

    #[inline(never)]
    fn try_add_unasked(&self, amount: Number) -> bool {
        self.unasked_cell(amount)
            .map(|cell| self.add_to(cell, amount, true))
            .is_some()
    }

    #[inline(always)]
    fn add_to(&self, cell: &Cell, amount: Number, alone: bool) {
        if cell.add(amount, alone) {
            self.segment.tables().mark_float(self.id);
        }
    }

    /// Sets a gauge. The answer is that of [`LocalSeries::try_add`].
    #[inline(always)]
    pub fn try_set(&self, value: Number) -> bool {
        match self.plain_cell() {
            Some(cell) => {
                cell.set(value, monotonic_ns());
                true
            }
            None => self.try_set_unasked(value),
        }
    }

    #[inline(never)]
    fn try_set_unasked(&self, value: Number) -> bool {
        self.unasked_cell(value)
            .map(|cell| cell.set(value, monotonic_ns()))
            .is_some()
    }

    /// Records into a histogram: slot, sum, minimum and maximum. The answer is that of [`LocalSeries::try_add`]; what needs a page, or a wider
    /// one, or goes to the overflow series is not plain.
    #[inline(always)]
    pub fn try_record(&self, value: Number) -> bool {
        match self.plain_cell() {
            Some(cell) => self.record_alone(cell, value),
            None => self.try_record_unasked(value),
        }
    }

    #[inline(never)]
    fn try_record_unasked(&self, value: Number) -> bool {
        self.unasked_cell(value)
            .is_some_and(|cell| self.record_alone(cell, value))
    }

    #[inline(always)]
    fn record_alone(&self, cell: &Cell, value: Number) -> bool {
        let float = value.as_f64();
        let histogram = self.histogram();
        let Some(slot) = histogram.roomy_slot(to_units(float, self.per_one)) else {
            return false;
        };
        histogram.widen_range(float);
        self.add_to(cell, value, true);
        // Last, because whatever follows a locked instruction waits for it.
        slot.count();
        true
    }

    /// Adds in either way; the answer is that of [`LocalSeries::write`].
    pub fn add(&self, amount: Number) -> bool {
        !self.try_add(amount) && self.write(amount)
    }

    /// Sets in either way; the answer is that of [`LocalSeries::write`].
    pub fn set(&self, value: Number) -> bool {
        !self.try_set(value) && self.write(value)
    }

    /// Records in either way; the answer is that of [`LocalSeries::write`].
    pub fn record(&self, value: Number) -> bool {
        !self.try_record(value) && self.write(value)
    }

    #[inline(always)]
    fn histogram(&self) -> Histogram<'_> {
        Histogram::new(
            self.segment.region(),
            self.segment.geometry(),
            self.histogram_at.load(Relaxed),
            self.overflow.is_none(),
        )
        .of_lane(self.lane.load(Relaxed))
    }
}
