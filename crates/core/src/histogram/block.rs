//! References to the pages of a histogram.

use crate::hdr::Level;
use crate::layout::{Geometry, LINE};

/// Reference to a page or node, as stored in an entry: `line << 5 | linked << 4 | width << 2 | (level + 1)`; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block(pub u32);

impl Block {
    /// A reference to pages that begin at a pool line.
    pub fn new(line: u32, linked: bool, width: u32, level: Level) -> Block {
        Block((line << 5) | (u32::from(linked) << 4) | (width << 2) | (level as u32 + 1))
    }

    /// Pool line at which it begins.
    #[inline]
    pub fn line(self) -> u32 {
        self.0 >> 5
    }

    /// Whether its first line holds a link to the page behind it.
    #[inline]
    pub fn is_linked(self) -> bool {
        self.0 & 16 != 0
    }

    /// 0, 1 or 2 for slots of 16, 32 or 64 bits, 3 for references to stripes.
    #[inline]
    pub fn width(self) -> u32 {
        (self.0 >> 2) & 3
    }

    /// Its ladder step; none if the word names no known one.
    #[inline]
    pub fn level(self) -> Option<Level> {
        match self.0 & 3 {
            1 => Some(Level::Three),
            2 => Some(Level::Two),
            3 => Some(Level::OneHalf),
            _ => None,
        }
    }

    /// As comparing [`Block::level`] with [`Level::Three`].
    #[inline]
    pub fn is_three_digits(self) -> bool {
        self.0 & 3 == Level::Three as u32 + 1
    }

    /// Slot of `value` in a block of a coarser step, in an octave above the first; none if the word names no block.
    ///
    /// [`slot_in_octave`](crate::hdr::slot_in_octave) with the half bits, 7 or 5, computed: a choice of three steps becomes a jump
    /// through a table, which costs as much as the rest of a recording.
    #[inline]
    pub fn coarse_slot(self, value: u64, octave: usize) -> Option<usize> {
        let step = self.0 & 3;
        if step == 0 {
            return None;
        }
        let half_bits = 11 - 2 * step;
        Some((value >> (octave as u32 + 9 - half_bits)) as usize & ((1 << half_bits) - 1))
    }

    /// Byte offset of its first slot. Not checked against the pool's end: every access goes through [`Region`], which checks.
    #[inline]
    pub fn slots_at(self, geometry: &Geometry) -> usize {
        // The linked flag is bit 4, and a link takes one line of 64 bytes.
        geometry.pool_at + self.line() as usize * LINE + ((self.0 & 16) as usize * (LINE / 16))
    }
}

/// Whether the block of this octave at this step is a node.
pub fn has_node(octave: usize, level: Level) -> bool {
    octave == 0 || level == Level::Three
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hdr::{octave, slot_in_octave, MAX_VALUE};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_coarse_slot_is_the_one_of_the_slot_arithmetic(value in 1024..=MAX_VALUE, line in 1..1_000_000_u32, width in 0..3_u32) {
            let octave = octave(value);
            for level in [Level::Two, Level::OneHalf] {
                let block = Block::new(line, false, width, level);
                prop_assert!(!block.is_three_digits());
                prop_assert_eq!(block.coarse_slot(value, octave), Some(slot_in_octave(value, octave, level)));
            }
            prop_assert!(Block::new(line, true, width, Level::Three).is_three_digits());
            prop_assert_eq!(Block(line << 5).coarse_slot(value, octave), None);
        }
    }
}
