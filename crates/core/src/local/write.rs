//! Recordings that are not plain: any storage, buckets that want an exemplar, what callbacks report.

// See the head of `local.rs`.
#![allow(clippy::inline_always)]

use std::sync::atomic::Ordering::Relaxed;

use super::LocalSeries;
use crate::clock::monotonic_ns;
use crate::drops::Drop;
use crate::exemplar::Exemplar;
use crate::hdr::to_units;
use crate::histogram::{Histogram, Recorded};
use crate::lane::{Cell, Number};
use crate::stream::Storage;

impl LocalSeries {
    /// Writes a recording in whatever way the stream stores it: a distribution's slot, sum, minimum and maximum all into the series, or all into its
    /// overflow series. True if the caller has to follow up: there are other streams, or the value's bucket wants an exemplar.
    #[inline(never)]
    pub fn write(&self, value: Number) -> bool {
        let Some(cell) = self.cell() else {
            self.segment.count_drop(Drop::Corrupt);
            return false;
        };
        let alone = self.exclusive.load(Relaxed);
        match self.stream.storage {
            Storage::Sum => self.add_to(cell, value, alone),
            Storage::Total | Storage::Last => cell.set(value, monotonic_ns()),
            Storage::Mean => cell.add_to_mean(value.as_f64(), alone),
            Storage::Distribution => self.record_signed(value),
        }
        self.stream.followed || !self.also.is_empty() || self.asks_for(value)
    }

    /// Whether this recording is to be looked at for an exemplar; counts it.
    fn asks_for(&self, value: Number) -> bool {
        if self.asking.is_over() {
            return false;
        }
        let is_asked = self.is_asked(value);
        self.asking.spend();
        if self.asking.is_over() {
            self.consider_plain();
        }
        is_asked
    }

    #[inline(always)]
    pub(super) fn is_asked(&self, value: Number) -> bool {
        self.asking.is_due() && self.wanted_bucket(value).is_some()
    }

    /// Takes what a callback reported in the collection that began at `since_ns` (monotonic). Of several reports for one series, totals are summed and
    /// the last value stays, as the SDK does.
    pub fn observe(&self, value: Number, since_ns: u64) -> bool {
        let before = match self.stream.storage {
            Storage::Total => self.cell().and_then(Cell::last_value),
            _ => None,
        };
        match before.filter(|(_, stamp)| *stamp >= since_ns) {
            Some((before, _)) => self.write(before.plus(value)),
            None => self.write(value),
        }
    }

    /// The bucket of `value`, if it still wants an exemplar in this window.
    #[inline(always)]
    pub fn wanted_bucket(&self, value: Number) -> Option<u8> {
        if self.asking.is_over() {
            return None;
        }
        let bucket = self.stream.exemplars.as_ref()?.of(value.as_f64());
        self.asking.wants(bucket).then_some(bucket)
    }

    /// Keeps the exemplar that a bucket wanted.
    pub fn keep_exemplar(&self, bucket: u8, exemplar: &Exemplar) {
        self.segment.exemplars().keep(self.id, bucket, exemplar);
        self.asking.keep(bucket);
        self.consider_plain();
    }

    /// Notes that a recording in a wanted bucket could not become an exemplar.
    pub fn refuse_exemplar(&self) {
        self.asking.refuse();
    }

    fn add_to_sum(&self, amount: Number) {
        match self.cell() {
            Some(cell) => self.add_to(cell, amount, self.exclusive.load(Relaxed)),
            None => self.segment.count_drop(Drop::Corrupt),
        }
    }

    /// As [`LocalSeries::try_record`], also for what that refuses, and for negative values, which up-down counters and gauges have.
    fn record_signed(&self, value: Number) {
        let float = value.as_f64();
        let units = to_units(float.abs(), self.per_one);
        if float < 0.0 && self.stream.storage.has_mirror(self.stream.kind) {
            self.count(self.histogram().mirror(), value, units);
        } else {
            self.count(self.histogram(), value, units);
        }
    }

    fn count(&self, histogram: Histogram<'_>, value: Number, units: u64) {
        match histogram.not_finer_than(self.stream.finest).record(units) {
            Recorded::Counted => {
                self.histogram().widen_range(value.as_f64());
                self.add_to_sum(value);
            }
            Recorded::NoRoom => self.record_overflow(value),
            Recorded::Corrupt => self.segment.count_drop(Drop::Corrupt),
        }
    }

    #[cold]
    fn record_overflow(&self, value: Number) {
        self.segment.count_drop(Drop::NoPage);
        if let Some(overflow) = &self.overflow {
            // The histogram of an overflow series always has room, so that this ends here.
            overflow.record_signed(value);
        }
    }
}
