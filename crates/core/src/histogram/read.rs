//! Reading a histogram while others record into it.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use super::block::{has_node, Block};
use super::stripes::STRIPES;
use super::{Histogram, ENTRIES, PAGE};
use crate::hdr::{slots_in_octave, Level, Slot, OCTAVES};

/// Longest chain of pages in front of one another: three widths and stripes at each of three steps.
const MAX_CHAIN: usize = 12;
/// Slots for which there is room from the beginning.
const USUAL: usize = 128;

/// A page of slots of one octave. It stays where it is for as long as the segment lives, and its slots only grow.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Byte offset of the first slot.
    pub at: usize,
    /// Octave.
    pub octave: u8,
    /// Ladder step.
    pub level: Level,
    /// Number of slots.
    pub slots: u16,
    /// Index of the first slot within its octave.
    first: u16,
    /// 0, 1 or 2 for slots of 16, 32 or 64 bits.
    width: u32,
}

/// The slots of a page by their width.
#[derive(Clone, Copy, Debug)]
pub enum Slots<'a> {
    /// 16 bits.
    Narrow(&'a [AtomicU16]),
    /// 32 bits.
    Wide(&'a [AtomicU32]),
    /// 64 bits.
    Whole(&'a [AtomicU64]),
}

impl Page {
    /// The slot with this index in the page.
    pub fn slot(&self, index: usize) -> Slot {
        Slot {
            octave: self.octave,
            level: self.level,
            index: self.first + index as u16,
        }
    }
}

impl<'a> Histogram<'a> {
    /// All non-empty slots in the order of [`Slot`], or `None` if the segment is corrupt. `coarsest` is the coarsest step in use.
    pub fn read(&self) -> Option<(Vec<(Slot, u64)>, Level)> {
        let mut slots = Vec::with_capacity(USUAL);
        let mut coarsest = Level::Three;
        let (mut octave, mut start) = (0, 0);
        self.pages(|page| {
            if page.octave != octave {
                merge_equal(&mut slots, start);
                (octave, start) = (page.octave, slots.len());
            }
            let before = slots.len();
            self.counts(&page, |index, count| slots.push((page.slot(index), count)))?;
            // The last resort is there always, and in use only if it counts something.
            if page.level != Level::Octave || slots.len() > before {
                coarsest = coarsest.max(page.level);
            }
            Some(())
        })?;
        merge_equal(&mut slots, start);
        Some((slots, coarsest))
    }

    /// Shows all pages, those of an octave in a row; `None` if the segment is corrupt or `show` answers that.
    pub fn pages(&self, mut show: impl FnMut(Page) -> Option<()>) -> Option<()> {
        for (octave, entry) in self.region.u32s(self.at + ENTRIES, OCTAVES)?.iter().enumerate() {
            let mut block = Block(entry.load(Acquire));
            for depth in 0.. {
                if block.0 == 0 {
                    break;
                }
                if depth > MAX_CHAIN {
                    return None;
                }
                let level = block.level()?;
                if has_node(octave, level) {
                    self.pages_of_node(block, octave, level, &mut show)?;
                } else {
                    let page = self.page(block, octave, level, 0, slots_in_octave(octave, level));
                    self.pages_of_block(block, page, &mut show)?;
                }
                block = self.link(block)?;
            }
            if let Some(at) = self.last_resort_at(octave) {
                show(Page {
                    at,
                    octave: octave as u8,
                    level: Level::Octave,
                    slots: 1,
                    first: 0,
                    width: 2,
                })?;
            }
        }
        Some(())
    }

    fn page(&self, block: Block, octave: usize, level: Level, first: usize, slots: usize) -> Page {
        Page {
            at: block.slots_at(self.geometry),
            octave: octave as u8,
            level,
            slots: slots as u16,
            first: first as u16,
            width: block.width(),
        }
    }

    fn pages_of_node(
        &self,
        node: Block,
        octave: usize,
        level: Level,
        show: &mut impl FnMut(Page) -> Option<()>,
    ) -> Option<()> {
        let pages = slots_in_octave(octave, level).div_ceil(PAGE);
        for (index, reference) in self
            .region
            .u32s(node.slots_at(self.geometry), pages)?
            .iter()
            .enumerate()
        {
            let mut block = Block(reference.load(Acquire));
            for depth in 0.. {
                if block.0 == 0 {
                    break;
                }
                if depth > MAX_CHAIN {
                    return None;
                }
                self.pages_of_block(block, self.page(block, octave, level, index * PAGE, PAGE), show)?;
                block = self.link(block)?;
            }
        }
        Some(())
    }

    /// Shows the page of a block, or those of its stripes, which cover the same slots.
    fn pages_of_block(&self, block: Block, page: Page, show: &mut impl FnMut(Page) -> Option<()>) -> Option<()> {
        if block.width() != STRIPES {
            return show(page);
        }
        for reference in self.stripes(block)? {
            let mut block = Block(reference.load(Acquire));
            for depth in 0.. {
                if block.0 == 0 {
                    break;
                }
                if depth > MAX_CHAIN || block.width() == STRIPES || block.level()? != page.level {
                    return None;
                }
                show(Page {
                    at: block.slots_at(self.geometry),
                    width: block.width(),
                    ..page
                })?;
                block = self.link(block)?;
            }
        }
        Some(())
    }

    /// The slots of a page; `None` if the page cannot be right.
    pub fn slots(&self, page: &Page) -> Option<Slots<'a>> {
        let slots = usize::from(page.slots);
        Some(match page.width {
            0 => Slots::Narrow(self.region.u16s(page.at, slots)?),
            1 => Slots::Wide(self.region.u32s(page.at, slots)?),
            _ => Slots::Whole(self.region.u64s(page.at, slots)?),
        })
    }

    /// Shows index and count of each slot of a page that counts something; `None` if the page cannot be right.
    fn counts(&self, page: &Page, mut show: impl FnMut(usize, u64)) -> Option<()> {
        let mut put = |index: usize, count: u64| {
            if count > 0 {
                show(index, count);
            }
        };
        // Bounds and width are looked at once a page and not once a slot: most of a collection is this loop.
        match self.slots(page)? {
            Slots::Narrow(words) => {
                for (index, word) in words.iter().enumerate() {
                    put(index, u64::from(word.load(Relaxed)));
                }
            }
            Slots::Wide(words) => {
                for (index, word) in words.iter().enumerate() {
                    put(index, u64::from(word.load(Relaxed)));
                }
            }
            Slots::Whole(words) => {
                for (index, word) in words.iter().enumerate() {
                    put(index, word.load(Relaxed));
                }
            }
        }
        Some(())
    }

    /// Recordings of the value 0, which leave no trace in a sum; those of a page that was replaced are not seen.
    pub fn zeros(&self) -> Option<u64> {
        let node = Block(self.entry(0)?.load(Acquire));
        if node.0 == 0 {
            return Some(0);
        }
        let block = Block(self.page_reference(node, 0)?.load(Acquire));
        if block.0 == 0 {
            return Some(0);
        }
        if block.width() != STRIPES {
            return self.first_slot(block);
        }
        let mut zeros = 0_u64;
        for stripe in self.stripes(block)? {
            let page = Block(stripe.load(Acquire));
            if page.0 != 0 {
                zeros = zeros.wrapping_add(self.first_slot(page)?);
            }
        }
        Some(zeros)
    }

    fn first_slot(&self, page: Block) -> Option<u64> {
        let at = page.slots_at(self.geometry);
        Some(match page.width() {
            0 => u64::from(self.region.u16(at)?.load(Relaxed)),
            1 => u64::from(self.region.u32(at)?.load(Relaxed)),
            _ => self.region.u64(at)?.load(Relaxed),
        })
    }

    /// The coarsest step in use, without a look at the slots; none if the segment is corrupt.
    pub fn coarsest(&self) -> Option<Level> {
        let mut coarsest = Level::Three;
        for octave in 0..OCTAVES {
            let entry = Block(self.entry(octave)?.load(Acquire));
            // A coarser page is in front of the finer ones.
            if entry.0 != 0 {
                coarsest = coarsest.max(entry.level()?);
            }
            if self.last_resort(octave).is_some_and(|word| word.load(Relaxed) > 0) {
                return Some(Level::Octave);
            }
        }
        Some(coarsest)
    }

    fn link(&self, block: Block) -> Option<Block> {
        if !block.is_linked() {
            return Some(Block(0));
        }
        Some(Block(self.region.u32(self.geometry.line(block.line())?)?.load(Relaxed)))
    }
}

/// Sorts the slots from `start` on and adds up those that occur more than once, as happens along a chain of widths.
fn merge_equal(slots: &mut Vec<(Slot, u64)>, start: usize) {
    // As they nearly always are.
    if slots[start..].windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return;
    }
    slots[start..].sort_unstable_by_key(|(slot, _)| *slot);
    let mut kept = start;
    for at in start..slots.len() {
        if kept > start && slots[kept - 1].0 == slots[at].0 {
            slots[kept - 1].1 = slots[kept - 1].1.saturating_add(slots[at].1);
        } else {
            slots[kept] = slots[at];
            kept += 1;
        }
    }
    slots.truncate(kept);
}
