//! Bounds-checked atomic access to a shared mapping: the only way any other file reads or writes the segment.
//!
//! Every word of the segment is reached by a byte offset from its start and touched only through atomics, so that other
//! processes may write at any time. Offsets come from shared memory and are not trusted: each accessor answers `None`
//! for one that is out of bounds, and rounds one that is misaligned, which only a faulty process can have written. This file and `mapping.rs`,
//! `lock.rs` and `local.rs` are the only ones of the crate with `unsafe`, besides single calls of libc in `clock.rs`, `fork.rs`, `segment.rs` and
//! `ticker.rs`.

// Offsets are aligned before every cast, see the accessors.
#![allow(clippy::cast_ptr_alignment)]

use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

/// A mapped range of bytes. It does not own the mapping: see [`crate::mapping::Mapping`].
#[derive(Clone, Copy, Debug)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the region is only ever accessed through atomics, and its owner keeps the mapping alive.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

macro_rules! accessor {
    ($name:ident, $many:ident, $atomic:ty, $what:literal) => {
        #[doc = concat!("The ", $what, " at `offset`, rounded down to its alignment, or `None` if it is out of bounds.")]
        #[inline]
        pub fn $name(&self, offset: usize) -> Option<&$atomic> {
            let offset = offset & !(size_of::<$atomic>() - 1);
            if offset > self.len - size_of::<$atomic>() {
                return None;
            }
            // SAFETY: the lines above keep the word inside the mapping and aligned (the base is page-aligned);
            // `Region::new` promises that the mapping outlives every borrow, and a length of at least one word.
            Some(unsafe { &*self.base.as_ptr().add(offset).cast::<$atomic>() })
        }

        #[doc = concat!("`count` of them one after the other, the first at `offset`, rounded down, or `None` if not all are in bounds.")]
        #[inline]
        pub fn $many(&self, offset: usize, count: usize) -> Option<&[$atomic]> {
            let offset = offset & !(size_of::<$atomic>() - 1);
            let end = count.checked_mul(size_of::<$atomic>())?.checked_add(offset)?;
            if end > self.len {
                return None;
            }
            // SAFETY: as above, for each of the words.
            Some(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast::<$atomic>(), count) })
        }
    };
}

impl Region {
    /// Describes `len` bytes at `base`.
    ///
    /// # Safety
    /// The range must stay mapped, readable and (unless only read) writable for as long as the value is used, must
    /// start on a page boundary, be at least 8 bytes long, and be accessed by this process through `Region` only.
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> Region {
        Region { base, len }
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the region has no bytes; never true for a valid segment.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    accessor!(u16, u16s, AtomicU16, "16-bit word");
    accessor!(u32, u32s, AtomicU32, "32-bit word");
    accessor!(u64, u64s, AtomicU64, "64-bit word");

    /// Copies `len` bytes from `offset`, or `None` if they are not all inside the region.
    pub fn read_bytes(&self, offset: usize, len: usize) -> Option<Vec<u8>> {
        let end = offset.checked_add(len)?;
        if end > self.len {
            return None;
        }
        let mut bytes = Vec::with_capacity(len);
        for at in offset..end {
            // SAFETY: `at` is inside the mapping. A volatile single-byte read is never torn; published bytes no longer
            // change, and bytes scribbled over by a faulty process are validated by the decoder.
            bytes.push(unsafe { self.base.as_ptr().add(at).read_volatile() });
        }
        Some(bytes)
    }

    /// Whether the bytes at `offset` equal `expected`; `false` if they are not all inside the region.
    pub fn bytes_equal(&self, offset: usize, expected: &[u8]) -> bool {
        let Some(end) = offset.checked_add(expected.len()) else {
            return false;
        };
        end <= self.len
            && expected.iter().enumerate().all(|(i, byte)| {
                // SAFETY: inside the mapping, see `read_bytes`.
                unsafe { self.base.as_ptr().add(offset + i).read_volatile() == *byte }
            })
    }

    /// Copies `bytes` to `offset`, which must be memory that is not published yet. Returns `false` if out of bounds.
    pub fn write_bytes(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(end) = offset.checked_add(bytes.len()) else {
            return false;
        };
        if end > self.len {
            return false;
        }
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: inside the mapping; nobody reads the range before it is published with a release store.
            unsafe { self.base.as_ptr().add(offset + i).write_volatile(*byte) };
        }
        true
    }
}

impl Region {
    /// The lane cell at `offset`, rounded down to its alignment, or `None` if it is out of bounds.
    #[inline]
    pub fn cell(&self, offset: usize) -> Option<&crate::lane::Cell> {
        let size = size_of::<crate::lane::Cell>();
        let offset = offset & !(size - 1);
        if offset > self.len.checked_sub(size)? {
            return None;
        }
        // SAFETY: in bounds and aligned, see the accessors above; `Cell` is two atomic words.
        Some(unsafe { &*self.base.as_ptr().add(offset).cast::<crate::lane::Cell>() })
    }
}
