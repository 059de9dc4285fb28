//! Shared histograms: recording without locks into pages that come into being on first touch.
//!
//! # The protocol
//!
//! A histogram header holds minimum, maximum and one *entry* per octave. An entry is empty or names a *block*: the
//! slots of that octave at some ladder step. At three digits an octave has 1,024 slots; its block is a node of 16 references
//! to pages of 64 slots. At the coarser steps (128 or 32 slots) the block is the page itself. Octave 0 always has a node.
//!
//! A page starts with 16-bit slots. When a slot passes three quarters of its range, the writer puts a wider, empty page *in front*: the new
//! page links to the old one and replaces it in the entry with one compare-and-swap. In the same way a coarser page
//! goes in front of an octave when the budget no longer allows new fine pages. Nothing is ever copied, moved or freed: a late writer
//! that still saw the old page adds to it, and a reader sums along the links. So every slot only ever grows, a killed process cannot
//! leave a half-done move behind, and no recording is lost or counted twice.
//!
//! Two workers that count in one page take its lines from each other, which costs more than all the rest of a recording. So once there are
//! several, a page whose first slot fills up gets *stripes* in front instead of a wider page, while three quarters of the pool are free: a
//! line of 16 references to wider pages, of which a worker counts in the one of its lane. It makes that when it first comes there, and uses
//! another's when there is no room. A reader sums over the stripes as it does along the links.
//!
//! Loads of entries are `Acquire` and their replacement `AcqRel`, so that whoever sees a page sees its link; slots are `Relaxed`, each is a
//! count of its own. Two writers that race to install a page both succeed: the loser's lines stay unused.
//!
//! When no page can be had at all, [`Histogram::record`] answers [`Recorded::NoRoom`] and the caller counts the value in the
//! overflow series, whose header carries one 64-bit count per octave and therefore always has room.

// Inlined by order, because a call costs a tenth of a recording.
#![allow(clippy::inline_always)]

mod block;
mod range;
mod read;
mod slot;
mod stripes;

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64};

use self::block::{has_node, Block};
pub use self::read::{Page, Slots};
pub use self::slot::RoomySlot;
use self::slot::{NARROW_FULL, WIDE_FULL};
use self::stripes::STRIPES;
use crate::hdr::{octave, slot_in_octave, slots_in_octave, Level, OCTAVES};
use crate::layout::{header, Geometry, LINE};
use crate::pool::{Pool, Use};
use crate::region::Region;

const ENTRIES: usize = range::END;
const LAST_RESORT: usize = ENTRIES + 4 * OCTAVES;

/// Pool lines of a histogram header.
pub const HEADER_LINES: u32 = (LAST_RESORT / LINE) as u32;
/// Pool lines of the header of an overflow series, which also has the last resort.
pub const OVERFLOW_LINES: u32 = HEADER_LINES + (8 * OCTAVES / LINE) as u32;

/// Slots of a page below a node.
const PAGE: usize = 64;

/// Outcome of recording one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Counted.
    Counted,
    /// Not counted, because no page could be had.
    NoRoom,
    /// Not counted, because the segment names a place that cannot be right.
    Corrupt,
}

/// One histogram of a segment.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<'a> {
    region: &'a Region,
    geometry: &'a Geometry,
    at: usize,
    has_last_resort: bool,
    finest: Level,
    lane: usize,
}

impl<'a> Histogram<'a> {
    /// The histogram whose header begins at byte `at`.
    #[inline(always)]
    pub fn new(region: &'a Region, geometry: &'a Geometry, at: usize, has_last_resort: bool) -> Histogram<'a> {
        Histogram {
            region,
            geometry,
            at,
            has_last_resort,
            finest: Level::Three,
            lane: 0,
        }
    }

    /// The same histogram, which the worker of this lane records into.
    #[inline(always)]
    #[must_use]
    pub fn of_lane(mut self, lane: usize) -> Histogram<'a> {
        self.lane = lane;
        self
    }

    /// The same histogram, whose new pages are not finer than this step.
    #[must_use]
    pub fn not_finer_than(mut self, finest: Level) -> Histogram<'a> {
        self.finest = finest;
        self
    }

    /// Allocates and initialises a header, and with `mirror` the one of the negative values behind it: the line to store, or `None` if the pool
    /// is exhausted.
    pub fn create(region: &Region, geometry: &Geometry, has_last_resort: bool, mirror: bool, keep: u32) -> Option<u32> {
        let lines = if has_last_resort { OVERFLOW_LINES } else { HEADER_LINES };
        let headers = 1 + u32::from(mirror);
        let line = Pool::new(region, geometry).take(lines * headers, keep, Use::Histograms)?;
        for header in 0..headers {
            range::empty(region, geometry.line(line + header * lines)?)?;
        }
        region.u32(header::HISTOGRAMS)?.fetch_add(1, Relaxed);
        Pool::new(region, geometry).note_histogram();
        Some(line)
    }

    /// The histogram of the magnitudes of negative values, where the series has one.
    #[must_use]
    pub fn mirror(mut self) -> Histogram<'a> {
        let lines = if self.has_last_resort {
            OVERFLOW_LINES
        } else {
            HEADER_LINES
        };
        self.at += lines as usize * LINE;
        self
    }

    #[inline(always)]
    fn entry(&self, octave: usize) -> Option<&'a AtomicU32> {
        self.region.u32(self.at + ENTRIES + 4 * octave)
    }

    /// Counts `value` (integer units, at most [`crate::hdr::MAX_VALUE`]). Minimum and maximum are kept by [`Histogram::widen_range`].
    #[inline(never)]
    pub fn record(&self, value: u64) -> Recorded {
        match self.record_in_slot(value) {
            // A slot that is full and cannot be widened: the overflow series must have room for it all the same.
            Recorded::NoRoom => self.record_last_resort(octave(value)),
            recorded => recorded,
        }
    }

    /// The slot of `value`, if it exists and is far from full: nearly all recordings.
    #[inline(always)]
    pub fn roomy_slot(&self, value: u64) -> Option<RoomySlot<'a>> {
        debug_assert!(value <= crate::hdr::MAX_VALUE);
        let octave = octave(value);
        let block = Block(self.entry(octave)?.load(Acquire));
        let (page, slot) = if block.is_three_digits() {
            let slot = (value >> octave.saturating_sub(1)) as usize & 1023;
            (Block(self.page_reference(block, slot)?.load(Acquire)), slot % PAGE)
        } else if octave > 0 {
            (block, block.coarse_slot(value, octave)?)
        } else {
            return None;
        };
        // Asked first, because a choice of four widths becomes a jump through a table, which costs a quarter of a recording.
        let page = if page.width() == STRIPES {
            Block(self.stripe(page, self.lane)?.load(Acquire))
        } else {
            page
        };
        if page.0 == 0 {
            return None;
        }
        let start = page.slots_at(self.geometry);
        match page.width() {
            0 => {
                let word = self.region.u16(start + 2 * slot)?;
                (word.load(Relaxed) < NARROW_FULL).then_some(RoomySlot::Narrow(word))
            }
            1 => {
                let word = self.region.u32(start + 4 * slot)?;
                (word.load(Relaxed) < WIDE_FULL).then_some(RoomySlot::Wide(word))
            }
            _ => None,
        }
    }

    fn record_in_slot(&self, value: u64) -> Recorded {
        let octave = octave(value);
        let Some(entry) = self.entry(octave) else {
            return Recorded::Corrupt;
        };
        let block = Block(entry.load(Acquire));
        let Some(level) = block.level() else {
            // An entry that is neither empty nor of a known step would be asked for again and again.
            return if block.0 == 0 {
                self.record_new_octave(value, octave, entry)
            } else {
                Recorded::Corrupt
            };
        };
        let slot = slot_in_octave(value, octave, level);
        if !has_node(octave, level) {
            return self.count(entry, block, slot, slots_in_octave(octave, level));
        }
        let Some(reference) = self.page_reference(block, slot) else {
            return Recorded::Corrupt;
        };
        let page = Block(reference.load(Acquire));
        if page.0 == 0 {
            return self.record_new_page(value, octave, entry, block);
        }
        self.count(reference, page, slot % PAGE, PAGE)
    }

    /// The word of a node that refers to the page of `slot`.
    #[inline(always)]
    fn page_reference(&self, node: Block, slot: usize) -> Option<&'a AtomicU32> {
        self.region.u32(node.slots_at(self.geometry) + 4 * (slot / PAGE))
    }

    /// Adds one to a slot of the page that `reference` held a moment ago, and which has so many `slots`.
    #[inline]
    fn count(&self, reference: &AtomicU32, page: Block, slot: usize, slots: usize) -> Recorded {
        let start = page.slots_at(self.geometry);
        match page.width() {
            0 => {
                let Some(word) = self.region.u16(start + 2 * slot) else {
                    return Recorded::Corrupt;
                };
                let before = word.fetch_add(1, Relaxed);
                if before < NARROW_FULL || self.widen(reference, page, slots) || before < 0xFF00 {
                    return Recorded::Counted;
                }
                // No wider page can be had and the slot is nearly full: take the count back and let the overflow series have it.
                // The margin is larger than the number of threads that can be between these two lines at once.
                word.fetch_sub(1, Relaxed);
                Recorded::NoRoom
            }
            1 => {
                let Some(word) = self.region.u32(start + 4 * slot) else {
                    return Recorded::Corrupt;
                };
                let before = word.fetch_add(1, Relaxed);
                if before < WIDE_FULL || self.widen(reference, page, slots) || before < 0xFFFF_0000 {
                    return Recorded::Counted;
                }
                word.fetch_sub(1, Relaxed);
                Recorded::NoRoom
            }
            STRIPES => self.count_in_stripe(page, slot, slots),
            _ => match self.region.u64(start + 8 * slot) {
                Some(word) => {
                    word.fetch_add(1, Relaxed);
                    Recorded::Counted
                }
                None => Recorded::Corrupt,
            },
        }
    }

    /// Puts stripes or a page of the next width in front of `page`. True if `reference` now names those, whoever put them there.
    #[cold]
    fn widen(&self, reference: &AtomicU32, page: Block, slots: usize) -> bool {
        if reference.load(Acquire) != page.0 {
            return true;
        }
        let Some(level) = page.level() else {
            return false;
        };
        (page.width() == 0 && self.put_stripes_in_front(reference, page, slots, level))
            || self.put_in_front(reference, page, slots, page.width() + 1, level, self.pool().floor())
    }

    fn pool(&self) -> Pool<'a> {
        Pool::new(self.region, self.geometry)
    }

    /// Allocates a page that links to `old` (unless that is none) and installs it in place of `old`.
    fn put_in_front(
        &self,
        reference: &AtomicU32,
        old: Block,
        slots: usize,
        width: u32,
        level: Level,
        keep: u32,
    ) -> bool {
        let linked = old.0 != 0;
        let lines = (slots << (width + 1)).div_ceil(LINE) as u32 + u32::from(linked);
        let Some(line) = self.pool().take(lines, keep, Use::Pages) else {
            return false;
        };
        if linked {
            let Some(link) = self.geometry.line(line).and_then(|at| self.region.u32(at)) else {
                return false;
            };
            link.store(old.0, Relaxed);
        }
        self.pool().note_page();
        let new = Block::new(line, linked, width, level);
        // Losing the race leaves the lines unused, and the winner's page serves as well.
        let _ = reference.compare_exchange(old.0, new.0, AcqRel, Acquire);
        true
    }

    /// First value of an octave: chooses the ladder step by the budget.
    #[cold]
    fn record_new_octave(&self, value: u64, octave: usize, entry: &AtomicU32) -> Recorded {
        let pool = self.pool();
        let levels = [Level::Three, Level::Two, Level::OneHalf].into_iter();
        for level in levels.filter(|level| *level >= self.finest) {
            let keep = pool.reserve(level);
            let slots = if has_node(octave, level) {
                // A node is one line of 16 references.
                LINE / 2
            } else {
                slots_in_octave(octave, level)
            };
            // A node without a page is of no use, so both must fit.
            let extra = if has_node(octave, level) { 2 } else { 0 };
            if self.put_in_front(entry, Block(0), slots, 0, level, keep.saturating_add(extra)) {
                if let Some(octaves) = self.region.u32(header::OCTAVES) {
                    octaves.fetch_add(1, Relaxed);
                }
                if let (Level::Three, Some(fine)) = (level, self.region.u32(header::FINE)) {
                    fine.fetch_add(1, Relaxed);
                }
                return self.record(value);
            }
        }
        self.record_last_resort(octave)
    }

    /// First value of a page below a node: a page at the node's step, or else a coarser page in front of the node.
    #[cold]
    fn record_new_page(&self, value: u64, octave: usize, entry: &AtomicU32, node: Block) -> Recorded {
        let pool = self.pool();
        let Some(level) = node.level() else {
            return Recorded::Corrupt;
        };
        let slot = slot_in_octave(value, octave, level);
        let Some(reference) = self.page_reference(node, slot) else {
            return Recorded::Corrupt;
        };
        if self.put_in_front(reference, Block(0), PAGE, 0, level, pool.reserve(level)) {
            return self.record(value);
        }
        for coarser in [Level::Two, Level::OneHalf] {
            let slots = if octave == 0 {
                LINE / 2
            } else {
                slots_in_octave(octave, coarser)
            };
            let extra = if octave == 0 { 2 } else { 0 };
            if coarser > level
                && self.put_in_front(
                    entry,
                    node,
                    slots,
                    0,
                    coarser,
                    pool.reserve(coarser).saturating_add(extra),
                )
            {
                if let (Level::Three, Some(fine)) = (level, self.region.u32(header::FINE)) {
                    let _ = fine.fetch_update(Relaxed, Relaxed, |fine| fine.checked_sub(1));
                }
                return self.record(value);
            }
        }
        self.record_last_resort(octave)
    }

    fn last_resort_at(&self, octave: usize) -> Option<usize> {
        self.has_last_resort.then(|| self.at + LAST_RESORT + 8 * octave)
    }

    fn last_resort(&self, octave: usize) -> Option<&'a AtomicU64> {
        self.region.u64(self.last_resort_at(octave)?)
    }

    #[cold]
    fn record_last_resort(&self, octave: usize) -> Recorded {
        match self.last_resort(octave) {
            Some(count) => {
                count.fetch_add(1, Relaxed);
                Recorded::Counted
            }
            None => Recorded::NoRoom,
        }
    }
}
