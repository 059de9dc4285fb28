//! Reading a histogram while others record into it.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::block::{has_node, Block};
use super::{lower, raise, Histogram, INTERVAL_MAX, INTERVAL_MIN, PAGE, TOTAL_MAX, TOTAL_MIN};
use crate::hdr::{slots_in_octave, Level, Slot, OCTAVES};

/// Longest chain of pages in front of one another: three widths at each of three steps.
const MAX_CHAIN: usize = 9;

impl Histogram<'_> {
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
        for index in 0..slots {
            let count = match page.width() {
                0 => u64::from(self.region.u16(start + 2 * index)?.load(Relaxed)),
                1 => u64::from(self.region.u32(start + 4 * index)?.load(Relaxed)),
                _ => self.region.u64(start + 8 * index)?.load(Relaxed),
            };
            if count > 0 {
                let slot = Slot {
                    octave: octave as u8,
                    level,
                    index: (first + index) as u16,
                };
                out.push((slot, count));
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
