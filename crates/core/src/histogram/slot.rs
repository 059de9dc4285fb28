//! Slots that have room, which is what nearly every recording finds.

// Inlined by order, because a call costs a tenth of a recording.
#![allow(clippy::inline_always)]

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU16, AtomicU32};

/// Counts from which on a slot of 16 bits asks for a wider page: far enough from its end for all threads that looked at it before.
pub const NARROW_FULL: u16 = 0xC000;
/// The same for a slot of 32 bits.
pub const WIDE_FULL: u32 = 0xC000_0000;

/// A slot that has room for the next value.
#[derive(Clone, Copy, Debug)]
pub enum RoomySlot<'a> {
    /// 16 bits.
    Narrow(&'a AtomicU16),
    /// 32 bits.
    Wide(&'a AtomicU32),
}

impl RoomySlot<'_> {
    /// Counts one value.
    #[inline(always)]
    pub fn count(self) {
        match self {
            RoomySlot::Narrow(word) => _ = word.fetch_add(1, Relaxed),
            RoomySlot::Wide(word) => _ = word.fetch_add(1, Relaxed),
        }
    }
}
