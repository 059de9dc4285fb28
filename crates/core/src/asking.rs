//! Which recordings of a series are looked at for exemplars: looking costs more than recording, and in the end nothing.
//!
//! In each window a series asks for one exemplar per bucket. It looks at recordings in the buckets that have none yet, at every one at first, at fewer
//! when those before were in no sampled span, and at none after a number of recordings, so that it pays nothing for exemplars from then on.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Recordings of a series and window during which exemplars are looked for.
const RECORDINGS: u32 = 1024;
/// Recordings in a row that could not become exemplars after which only one in [`RARELY`] is looked at.
const PATIENCE: u32 = 32;
const RARELY: u32 = 8;

/// What a series still asks for in this window. Written by one thread at a time; otherwise counts are off and nothing else.
#[derive(Debug, Default)]
pub struct Asking {
    /// One bit for each bucket that wants an exemplar.
    buckets: AtomicU64,
    /// Recordings during which exemplars are still looked for.
    left: AtomicU32,
    /// Recordings in a row that were looked at and could not become exemplars.
    refused: AtomicU32,
}

impl Asking {
    /// Begins a window in which these buckets want an exemplar.
    pub fn begin(&self, buckets: u64) {
        self.buckets.store(buckets, Relaxed);
        self.left.store(RECORDINGS, Relaxed);
        self.refused.store(0, Relaxed);
    }

    /// Whether nothing is asked for any more.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.buckets.load(Relaxed) == 0
    }

    /// Whether a bucket wants an exemplar.
    #[inline]
    pub fn wants(&self, bucket: u8) -> bool {
        self.buckets.load(Relaxed) >> bucket & 1 == 1
    }

    /// Whether the next recording is one of those that are looked at, if its bucket wants an exemplar.
    #[inline]
    pub fn is_due(&self) -> bool {
        let left = self.left.load(Relaxed);
        left != 0 && (self.refused.load(Relaxed) < PATIENCE || left % RARELY == 0)
    }

    /// Whether there are recordings left.
    #[inline]
    pub fn has_left(&self) -> bool {
        self.left.load(Relaxed) != 0
    }

    /// Counts a recording. Once none is left nothing is asked for any more.
    #[inline]
    pub fn spend(&self) {
        match self.left.load(Relaxed) {
            0 => self.buckets.store(0, Relaxed),
            left => self.left.store(left - 1, Relaxed),
        }
    }

    /// Notes that a bucket has got its exemplar.
    pub fn keep(&self, bucket: u8) {
        self.buckets.fetch_and(!(1 << bucket), Relaxed);
        self.refused.store(0, Relaxed);
    }

    /// Notes that a recording in a bucket that wants one could not become an exemplar.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}
