//! The pool: lines handed out once and never taken back, and the budget that decides how fine a histogram may be.
//!
//! Allocation is one compare-and-swap on the next free line, so that there is no lock which a killed process could keep.
//! Handed-out memory is zero, because it is used for the first time. Attribute bytes and descriptors are small and come from an
//! arena that takes one KiB of lines at a time.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::hdr::Level;
use crate::layout::{header, Geometry, LINE};
use crate::region::Region;

/// What pool lines are used for; counted per use for the memory report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Use {
    /// Attribute bytes and instrument descriptors.
    Attributes = 0,
    /// Lane chunks.
    Lanes = 1,
    /// Histogram headers.
    Histograms = 2,
    /// Histogram pages.
    Pages = 3,
    /// Exemplars.
    Exemplars = 4,
    /// Running and slow spans.
    Spans = 5,
}

impl Use {
    /// All uses with the name under which each is reported.
    pub const ALL: [(Use, &'static str); 6] = [
        (Use::Attributes, "attributes"),
        (Use::Lanes, "lanes"),
        (Use::Histograms, "histograms"),
        (Use::Pages, "histogram_pages"),
        (Use::Exemplars, "exemplars"),
        (Use::Spans, "spans"),
    ];
}

/// Bytes the arena takes from the pool at a time.
const ARENA_BLOCK: usize = 1024;
/// Pool lines that the octaves of a histogram are expected to take at the coarsest step. Latencies of one route spread over five octaves, one
/// line each (lognormal, s = 0.5), and a busy one widens some of them, see tests/precision.rs.
const OCTAVES_EXPECTED: u32 = 8;
/// Pool lines a new histogram series is expected to need: attributes 3, header 3, lanes 1, octaves 6.
const LINES_PER_HISTOGRAM: u32 = 13;
/// Pool lines for each histogram of a segment that is as full of them as it can be.
const LINES_WHERE_MANY: u32 = 12;
/// The estimate of arrivals when every page is that of a new histogram.
const ALL_NEW: u32 = 1 << 16;

/// Allocates from the pool of one segment.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    region: &'a Region,
    geometry: &'a Geometry,
}

impl<'a> Pool<'a> {
    /// The pool of this segment.
    pub fn new(region: &'a Region, geometry: &'a Geometry) -> Pool<'a> {
        Pool { region, geometry }
    }

    /// Takes `lines` consecutive zeroed lines if at least `keep` lines stay free, and answers the first one's number.
    pub fn take(&self, lines: u32, keep: u32, purpose: Use) -> Option<u32> {
        let next = self.region.u64(header::POOL_NEXT)?;
        let limit = u64::from(self.geometry.lines).checked_sub(u64::from(keep))?;
        let first = next
            .fetch_update(AcqRel, Acquire, |first| {
                // A scribbled-over word must not hand out line 0 or wrap.
                let end = first.checked_add(u64::from(lines))?;
                (first > 0 && end <= limit).then_some(end)
            })
            .ok()?;
        if let Some(used) = self.region.u64(header::USES + 8 * purpose as usize) {
            used.fetch_add(u64::from(lines), Relaxed);
        }
        Some(first as u32)
    }

    /// Takes `len` bytes, 8-byte aligned, for attribute bytes or a descriptor, and answers their byte offset.
    pub fn take_bytes(&self, len: usize, keep: u32) -> Option<usize> {
        let len = len.next_multiple_of(8);
        if len > ARENA_BLOCK / 2 {
            let lines = len.div_ceil(LINE) as u32;
            return self.geometry.line(self.take(lines, keep, Use::Attributes)?);
        }
        // The arena word packs the next free byte (in eighths, upper half) with the bytes left in its block (lower half).
        let arena = self.region.u64(header::ARENA)?;
        let pack = |at: usize, left: usize| ((at as u64 / 8) << 32) | left as u64;
        loop {
            let current = arena.load(Acquire);
            let (at, left) = ((current >> 32) as usize * 8, (current & 0xffff_ffff) as usize);
            let (start, after) = if left >= len {
                (at, pack(at + len, left - len))
            } else {
                let start = self
                    .geometry
                    .line(self.take((ARENA_BLOCK / LINE) as u32, keep, Use::Attributes)?)?;
                (start, pack(start + len, ARENA_BLOCK - len))
            };
            if arena.compare_exchange(current, after, AcqRel, Acquire).is_ok() {
                return Some(start);
            }
        }
    }

    /// Lines that are still free.
    pub fn free(&self) -> u32 {
        let next = self.region.u64(header::POOL_NEXT).map_or(0, |next| next.load(Relaxed));
        self.geometry.lines.saturating_sub(next as u32)
    }

    /// Lines kept back for lanes, which must come into being even when everything else is full.
    pub fn floor(&self) -> u32 {
        self.geometry.lines / 64
    }

    /// Notes that a histogram came into being: more may follow.
    pub fn note_histogram(&self) {
        self.adapt_arrivals(|arrivals| arrivals + (ALL_NEW - arrivals.min(ALL_NEW)) / 8);
    }

    /// Notes that a page came into being: the more pages without a new histogram, the fewer are still expected.
    pub fn note_page(&self) {
        self.adapt_arrivals(|arrivals| arrivals - arrivals.div_ceil(64));
    }

    fn adapt_arrivals(&self, step: impl Fn(u32) -> u32) {
        if let Some(word) = self.region.u32(header::ARRIVALS) {
            // Of two writers at once one may not be seen: it is an estimate.
            word.store(step(word.load(Relaxed)), Relaxed);
        }
    }

    /// Lines that must stay free when a page of this step is allocated.
    ///
    /// Kept back is what every histogram in existence needs to get its octaves at the coarsest step, and what those need that are still
    /// expected. While most pages are those of new histograms, as many are expected as fit at the coarsest step; once pages come
    /// without new histograms, an eighth more than there are. So few series get all the precision, and many series share it.
    pub fn reserve(&self, level: Level) -> u32 {
        let count = |offset| self.region.u32(offset).map_or(0, |word| word.load(Relaxed));
        let (histograms, octaves, fine) = (count(header::HISTOGRAMS), count(header::OCTAVES), count(header::FINE));
        let arrivals = u64::from(count(header::ARRIVALS).min(ALL_NEW));
        let most = (self.geometry.lines / LINES_WHERE_MANY).saturating_sub(histograms);
        let further = ((u64::from(most) * arrivals / u64::from(ALL_NEW)) as u32).max(histograms / 8);
        let need = histograms
            .saturating_mul(OCTAVES_EXPECTED)
            .saturating_sub(octaves)
            .saturating_add(fine.saturating_mul(2))
            .saturating_add(further.saturating_mul(LINES_PER_HISTOGRAM));
        match level {
            Level::Three => need.saturating_add(self.floor()),
            Level::Two => (need - need / 8).saturating_add(self.floor()),
            Level::OneHalf | Level::Octave => self.floor(),
        }
    }
}
