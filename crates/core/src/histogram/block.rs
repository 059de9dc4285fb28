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

    /// 0, 1 or 2 for slots of 16, 32 or 64 bits.
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
