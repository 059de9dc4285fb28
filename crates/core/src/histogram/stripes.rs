//! Stripes: a page for each worker where they would otherwise count in the same one.

// Inlined by order, because a call costs a tenth of a recording.
#![allow(clippy::inline_always)]

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::block::Block;
use super::{Histogram, Recorded};
use crate::hdr::Level;
use crate::layout::LINE;
use crate::pool::Use;
use crate::workers;

/// The width of a block of references to stripes.
pub const STRIPES: u32 = 3;
/// Stripes of a page, whose references fill a line. Lanes that are so many apart share one.
const NUMBER: usize = LINE / 4;
/// The width that the pages of stripes begin with.
const WIDTH: u32 = 1;

impl<'a> Histogram<'a> {
    /// The word that refers to the pages of a lane.
    #[inline(always)]
    pub(super) fn stripe(&self, block: Block, lane: usize) -> Option<&'a AtomicU32> {
        self.region.u32(block.slots_at(self.geometry) + 4 * (lane % NUMBER))
    }

    /// The words that refer to the pages of all stripes.
    pub(super) fn stripes(&self, block: Block) -> Option<&'a [AtomicU32]> {
        self.region.u32s(block.slots_at(self.geometry), NUMBER)
    }

    /// Adds one to a slot in the stripe of this lane, or in another if that cannot come into being.
    pub(super) fn count_in_stripe(&self, block: Block, slot: usize, slots: usize) -> Recorded {
        let (Some(own), Some(all), Some(level)) = (self.stripe(block, self.lane), self.stripes(block), block.level())
        else {
            return Recorded::Corrupt;
        };
        if own.load(Acquire) == 0 {
            self.put_in_front(own, Block(0), slots, WIDTH, level, self.keep());
        }
        for reference in [own].into_iter().chain(all) {
            let page = Block(reference.load(Acquire));
            // Stripes have none themselves: what says so cannot be right.
            if page.0 != 0 && page.width() != STRIPES {
                return self.count(reference, page, slot, slots);
            }
        }
        Recorded::Corrupt
    }

    /// Puts stripes in front of `old`, with a page for this lane. False if one worker is alone, or memory is wanted for other things.
    pub(super) fn put_stripes_in_front(&self, reference: &AtomicU32, old: Block, slots: usize, level: Level) -> bool {
        if !workers::have_been_several(self.region, self.geometry) {
            return false;
        }
        let lines = (slots << (WIDTH + 1)).div_ceil(LINE) as u32;
        // The link, the references, the page of this lane.
        let Some(line) = self.pool().take(2 + lines, self.keep(), Use::Pages) else {
            return false;
        };
        let new = Block::new(line, true, STRIPES, level);
        let link = self.geometry.line(line).and_then(|at| self.region.u32(at));
        let (Some(link), Some(own)) = (link, self.stripe(new, self.lane)) else {
            return false;
        };
        link.store(old.0, Relaxed);
        own.store(Block::new(line + 2, false, WIDTH, level).0, Relaxed);
        self.pool().note_page();
        // Losing the race leaves the lines unused, and the winner's stripes serve as well.
        let _ = reference.compare_exchange(old.0, new.0, AcqRel, Acquire);
        true
    }

    /// Lines that stay free: speed is not bought with the precision of series to come.
    fn keep(&self) -> u32 {
        self.pool().reserve(Level::Three).max(self.geometry.lines / 4 * 3)
    }
}
