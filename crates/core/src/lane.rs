//! Lanes: each worker's private cells, so that two workers never write the same cache line.
//!
//! A cell is two 64-bit words whose meaning is the storage's:
//!
//! | storage | first word | second word |
//! |---|---|---|
//! | sum, also that of a distribution | sum of the integers, `i64` | sum of the floats, and of integers that no longer fit, `f64` bits |
//! | last value, and total of a callback | value, `i64` or `f64` bits | stamp: monotonic nanoseconds × 4 + type (1 integer, 2 float) |
//! | mean | number of values, `u64` | their sum, `f64` bits |
//!
//! Cells of 64 consecutive series form a chunk, allocated when the worker first records into one of them. A worker that lets no two of its
//! threads record at once (the GIL does that) adds with plain loads and stores; otherwise, and in the common lane, which the workers that
//! found no free slot share, adding is a locked instruction.
//! A dead worker's lane is not emptied: the next owner of the slot goes on adding to the same sums, which loses nothing and needs no
//! moving of values. What ends with the worker, gauges and up-down counters, is cleared by the next owner, and not read until then. Totals
//! that a worker's callbacks reported are set, not added, so the next owner first moves them to the lane of the retired.
//!
//! A gauge is written value, new stamp; before a value of another type the stamp becomes 0. A reader takes the value only between two equal stamps.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::layout::{Geometry, CELL, CHUNK, CHUNK_LINES, LINE, WORKERS};
use crate::pool::{Pool, Use};
use crate::region::Region;
use crate::tables::SeriesId;

/// A number as recorded: integer or float, as the OpenTelemetry data model keeps them apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

impl Number {
    /// The number as a float.
    #[inline]
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(number) => number as f64,
            Number::Float(number) => number,
        }
    }

    /// The sum: an integer if both are and it is in their range.
    #[must_use]
    pub fn plus(self, other: Number) -> Number {
        if let (Number::Int(a), Number::Int(b)) = (self, other) {
            if let Some(sum) = a.checked_add(b) {
                return Number::Int(sum);
            }
        }
        Number::Float(self.as_f64() + other.as_f64())
    }

    /// The difference: an integer if both are and it is in their range.
    #[must_use]
    pub fn minus(self, other: Number) -> Number {
        if let (Number::Int(a), Number::Int(b)) = (self, other) {
            if let Some(difference) = a.checked_sub(b) {
                return Number::Int(difference);
            }
        }
        Number::Float(self.as_f64() - other.as_f64())
    }
}

/// One cell: see the table above.
#[derive(Debug)]
#[repr(C)]
pub struct Cell {
    first: AtomicU64,
    second: AtomicU64,
}

const TYPE_INT: u64 = 1;
const TYPE_FLOAT: u64 = 2;

/// Magnitude from which on a cell that several write takes no more integers: four of the largest recordings below the end of the range.
const LARGEST_SUM: u64 = 1 << 62;

impl Cell {
    /// A cell that nothing was written to.
    pub(crate) const fn empty() -> Cell {
        Cell {
            first: AtomicU64::new(0),
            second: AtomicU64::new(0),
        }
    }

    /// Adds a value to number and sum. `alone` states that nobody else writes the cell.
    pub fn add_to_mean(&self, value: f64, alone: bool) {
        if alone {
            self.first.store(self.first.load(Relaxed).wrapping_add(1), Relaxed);
            self.add_float_alone(value);
        } else {
            self.first.fetch_add(1, Relaxed);
            self.add_float(value);
        }
    }

    /// Adds to the sums; true if it may be the first float in this cell. An integer must be below 2^60 in magnitude; one that would make the
    /// sum wrap around is added as a float. `alone` states that nobody else writes the cell.
    // Inlined by order, because a call costs a tenth of a recording.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn add(&self, amount: Number, alone: bool) -> bool {
        if let Number::Int(amount) = amount {
            let added = if alone {
                self.add_int_alone(amount)
            } else {
                self.add_int(amount)
            };
            if added {
                return false;
            }
        }
        let amount = amount.as_f64();
        if alone {
            self.add_float_alone(amount)
        } else {
            self.add_float(amount)
        }
    }

    /// Adds an integer; false, with nothing added, if the sum could leave the range of integers.
    #[inline]
    fn add_int(&self, amount: i64) -> bool {
        // Asked before and not in one step with adding: it would take more writers at once than a cell has to cross the rest of the range.
        let room = (self.first.load(Relaxed) as i64).unsigned_abs() < LARGEST_SUM;
        if room {
            self.first.fetch_add(amount as u64, Relaxed);
        }
        room
    }

    /// As [`Cell::add_int`], for a cell that nobody else writes.
    #[inline]
    fn add_int_alone(&self, amount: i64) -> bool {
        let sum = (self.first.load(Relaxed) as i64).checked_add(amount);
        if let Some(sum) = sum {
            self.first.store(sum as u64, Relaxed);
        }
        sum.is_some()
    }

    /// Adds a float; true if it may be the first one in this cell.
    #[inline]
    fn add_float(&self, amount: f64) -> bool {
        let mut bits = self.second.load(Relaxed);
        loop {
            let sum = f64::from_bits(bits) + amount;
            match self.second.compare_exchange_weak(bits, sum.to_bits(), Relaxed, Relaxed) {
                Ok(_) => return bits == 0,
                Err(now) => bits = now,
            }
        }
    }

    /// As [`Cell::add_float`], for a cell that nobody else writes.
    #[inline]
    fn add_float_alone(&self, amount: f64) -> bool {
        let bits = self.second.load(Relaxed);
        self.second.store((f64::from_bits(bits) + amount).to_bits(), Relaxed);
        bits == 0
    }

    /// Sums of the integers and of the floats.
    pub fn sums(&self) -> (i64, f64) {
        (
            self.first.load(Relaxed) as i64,
            f64::from_bits(self.second.load(Relaxed)),
        )
    }

    /// Sets the value of a gauge. `now_ns` is a monotonic time that all processes share.
    #[inline]
    pub fn set(&self, value: Number, now_ns: u64) {
        let (bits, kind) = match value {
            Number::Int(value) => (value as u64, TYPE_INT),
            Number::Float(value) => (value.to_bits(), TYPE_FLOAT),
        };
        // Between two values of one type a reader may take the new value with the old stamp. Only a change of type needs the state without
        // value, in which the gauge would be missing in a scan.
        if self.second.load(Relaxed) & 3 != kind {
            self.second.swap(0, AcqRel);
        }
        self.first.store(bits, Release);
        self.second.store(now_ns << 2 | kind, Release);
    }

    /// Value and stamp of a gauge; `None` if it was never set or is just being set again and again.
    pub fn last_value(&self) -> Option<(Number, u64)> {
        for _ in 0..64 {
            let stamp = self.second.load(Acquire);
            let bits = self.first.load(Acquire);
            if self.second.load(Acquire) != stamp {
                continue;
            }
            return match stamp & 3 {
                TYPE_INT => Some((Number::Int(bits as i64), stamp >> 2)),
                TYPE_FLOAT => Some((Number::Float(f64::from_bits(bits)), stamp >> 2)),
                _ => None,
            };
        }
        None
    }

    /// Empties the cell.
    pub fn clear(&self) {
        self.second.store(0, Release);
        self.first.store(0, Release);
    }
}

/// The lanes of one segment.
#[derive(Clone, Copy, Debug)]
pub struct Lanes<'a> {
    pub(crate) region: &'a Region,
    pub(crate) geometry: &'a Geometry,
}

impl<'a> Lanes<'a> {
    fn entry(&self, lane: usize, series: SeriesId) -> Option<usize> {
        let chunk = series.0 as usize / CHUNK;
        (lane < WORKERS && chunk < self.geometry.chunks)
            .then(|| self.geometry.lanes_at + (lane * self.geometry.chunks + chunk) * 4)
    }

    fn offset(&self, line: u32, series: SeriesId) -> Option<usize> {
        let at = self.geometry.line(line)? + (series.0 as usize % CHUNK) * CELL;
        (at + CELL <= self.geometry.size && line + CHUNK_LINES <= self.geometry.lines).then_some(at)
    }

    /// Byte offset of a cell, its chunk allocated if need be; `None` if the pool is exhausted.
    pub fn cell_at(&self, lane: usize, series: SeriesId) -> Option<usize> {
        let entry = self.region.u32(self.entry(lane, series)?)?;
        let mut line = entry.load(Acquire);
        if line == 0 {
            let made = Pool::new(self.region, self.geometry).take(CHUNK_LINES, 0, Use::Lanes)?;
            line = match entry.compare_exchange(0, made, AcqRel, Acquire) {
                Ok(_) => made,
                Err(theirs) => theirs,
            };
        }
        self.offset(line, series)
    }

    /// Byte offset of a cell whose chunk exists.
    pub fn existing_cell_at(&self, lane: usize, series: SeriesId) -> Option<usize> {
        let line = self.region.u32(self.entry(lane, series)?)?.load(Acquire);
        self.offset(line, series)
    }

    /// The cell at an offset that one of the above answered.
    pub fn cell(&self, at: usize) -> Option<&'a Cell> {
        debug_assert!(at % CELL == 0 && LINE % CELL == 0);
        self.region.cell(at)
    }
}
