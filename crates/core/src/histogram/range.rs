//! Minimum and maximum of a histogram: those since the last look, and those of the whole life.

// Inlined by order, because a call costs a tenth of a recording.
#![allow(clippy::inline_always)]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use super::Histogram;
use crate::region::Region;

const INTERVAL_MIN: usize = 0;
const INTERVAL_MAX: usize = 8;
const TOTAL_MIN: usize = 16;
const TOTAL_MAX: usize = 24;
/// Bytes of a header that they take.
pub const END: usize = 32;

/// Notes in the header at `at` that nothing was recorded yet.
pub fn empty(region: &Region, at: usize) -> Option<()> {
    for offset in [INTERVAL_MIN, TOTAL_MIN] {
        region.u64(at + offset)?.store(f64::INFINITY.to_bits(), Relaxed);
    }
    for offset in [INTERVAL_MAX, TOTAL_MAX] {
        region.u64(at + offset)?.store(f64::NEG_INFINITY.to_bits(), Relaxed);
    }
    Some(())
}

impl Histogram<'_> {
    /// Takes `value` (unit of the instrument, never NaN) into minimum and maximum.
    #[inline(always)]
    pub fn widen_range(&self, value: f64) {
        let (Some(min), Some(max)) = (
            self.region.u64(self.at + INTERVAL_MIN),
            self.region.u64(self.at + INTERVAL_MAX),
        ) else {
            return;
        };
        if value < f64::from_bits(min.load(Relaxed)) {
            lower(min, value);
        }
        if value > f64::from_bits(max.load(Relaxed)) {
            raise(max, value);
        }
    }

    /// Minimum and maximum since the last call, folded into those of the whole life; one collector at a time.
    pub fn drain_range(&self) -> Option<(f64, f64)> {
        let word = |offset| self.region.u64(self.at + offset);
        let min = f64::from_bits(word(INTERVAL_MIN)?.load(Relaxed));
        let max = f64::from_bits(word(INTERVAL_MAX)?.load(Relaxed));
        // Fold first, reset second: a collector that dies in between leaves values that are folded again without harm.
        lower(word(TOTAL_MIN)?, min);
        raise(word(TOTAL_MAX)?, max);
        let min = f64::from_bits(word(INTERVAL_MIN)?.swap(f64::INFINITY.to_bits(), AcqRel));
        let max = f64::from_bits(word(INTERVAL_MAX)?.swap(f64::NEG_INFINITY.to_bits(), AcqRel));
        lower(word(TOTAL_MIN)?, min);
        raise(word(TOTAL_MAX)?, max);
        Some((min, max))
    }

    /// Minimum and maximum of the whole life; infinities while nothing was recorded.
    pub fn range(&self) -> Option<(f64, f64)> {
        let word = |offset| Some(f64::from_bits(self.region.u64(self.at + offset)?.load(Relaxed)));
        Some((
            word(INTERVAL_MIN)?.min(word(TOTAL_MIN)?),
            word(INTERVAL_MAX)?.max(word(TOTAL_MAX)?),
        ))
    }
}

fn lower(word: &AtomicU64, value: f64) {
    let _ = word.fetch_update(Release, Relaxed, |bits| {
        (value < f64::from_bits(bits)).then_some(value.to_bits())
    });
}

fn raise(word: &AtomicU64, value: f64) {
    let _ = word.fetch_update(Release, Relaxed, |bits| {
        (value > f64::from_bits(bits)).then_some(value.to_bits())
    });
}
