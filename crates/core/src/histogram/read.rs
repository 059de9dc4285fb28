//! Reading a histogram while others record into it.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::block::{has_node, Block};
use super::{Histogram, PAGE};
use crate::hdr::{slots_in_octave, Level, Slot, OCTAVES};

/// Longest chain of pages in front of one another: three widths at each of three steps.
const MAX_CHAIN: usize = 9;

impl Histogram<'_> {
    /// All non-empty slots in the order of [`Slot`], or `None` if the segment is corrupt. `coarsest` is the coarsest step in use.
    pub fn read(&self) -> Option<(Vec<(Slot, u64)>, Level)> {
        let mut slots = Vec::new();
        let mut coarsest = Level::Three;
        for octave in 0..OCTAVES {
            let start = slots.len();
            let mut block = Block(self.entry(octave)?.load(Acquire));
            for depth in 0.. {
                if block.0 == 0 {
                    break;
                }
                if depth > MAX_CHAIN {
                    return None;
                }
                let level = block.level()?;
                coarsest = coarsest.max(level);
                let next = self.link(block)?;
                if has_node(octave, level) {
                    self.read_node(block, octave, level, &mut slots)?;
                } else {
                    self.read_page(block, octave, level, 0, slots_in_octave(octave, level), &mut slots)?;
                }
                block = next;
            }
            if let Some(count) = self
                .last_resort(octave)
                .map(|word| word.load(Relaxed))
                .filter(|n| *n > 0)
            {
                coarsest = Level::Octave;
                let slot = Slot {
                    octave: octave as u8,
                    level: Level::Octave,
                    index: 0,
                };
                slots.push((slot, count));
            }
            merge_equal(&mut slots, start);
        }
        Some((slots, coarsest))
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

    fn read_node(&self, node: Block, octave: usize, level: Level, out: &mut Vec<(Slot, u64)>) -> Option<()> {
        for index in 0..slots_in_octave(octave, level).div_ceil(PAGE) {
            let mut page = Block(self.page_reference(node, index * PAGE)?.load(Acquire));
            for depth in 0.. {
                if page.0 == 0 {
                    break;
                }
                if depth > MAX_CHAIN {
                    return None;
                }
                self.read_page(page, octave, level, index * PAGE, PAGE, out)?;
                page = self.link(page)?;
            }
        }
        Some(())
    }

    fn read_page(
        &self,
        page: Block,
        octave: usize,
        level: Level,
        first: usize,
        slots: usize,
        out: &mut Vec<(Slot, u64)>,
    ) -> Option<()> {
        let start = page.slots_at(self.geometry);
        let mut put = |index: usize, count: u64| {
            if count > 0 {
                let slot = Slot {
                    octave: octave as u8,
                    level,
                    index: (first + index) as u16,
                };
                out.push((slot, count));
            }
        };
        // Bounds and width are looked at once a page and not once a slot: most of a collection is this loop.
        match page.width() {
            0 => {
                for (index, word) in self.region.u16s(start, slots)?.iter().enumerate() {
                    put(index, u64::from(word.load(Relaxed)));
                }
            }
            1 => {
                for (index, word) in self.region.u32s(start, slots)?.iter().enumerate() {
                    put(index, u64::from(word.load(Relaxed)));
                }
            }
            _ => {
                for (index, word) in self.region.u64s(start, slots)?.iter().enumerate() {
                    put(index, word.load(Relaxed));
                }
            }
        }
        Some(())
    }
}

/// Sorts the slots from `start` on and adds up those that occur more than once, as happens along a chain of widths.
fn merge_equal(slots: &mut Vec<(Slot, u64)>, start: usize) {
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
