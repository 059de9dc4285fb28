//! One record of the span table.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{fence, AtomicU32, AtomicU64};

use super::{Noted, Span};
use crate::exemplar::SpanIds;
use crate::layout::LINE;
use crate::region::Region;

/// Pool lines of a record.
pub const RECORD_LINES: usize = 4;
/// Bytes of a record.
pub const RECORD: usize = RECORD_LINES * LINE;

// Word offsets within a record.
const KEY: usize = 0;
const VERSION: usize = 8;
const ABOUT: usize = 12;
const START: usize = 16;
const TRACE_HIGH: usize = 24;
const TRACE_LOW: usize = 32;
const SPAN: usize = 40;
const PARENT: usize = 48;
const LOCK: usize = 56;
const DURATION: usize = 64;
const SERIES: usize = 72;
const LENGTHS: usize = 76;
const NAME: usize = 80;
const ATTRIBUTES: usize = NAME + NAME_MAX;

/// Most bytes of a name that are kept.
pub const NAME_MAX: usize = 80;
/// Most bytes of attributes that are kept.
pub const ATTRIBUTES_MAX: usize = RECORD - ATTRIBUTES;

/// What a record says.
pub struct Read {
    pub lane: usize,
    pub duration_ns: u64,
    pub series: u32,
    pub span: Span,
}

/// A record, whose bytes are inside the region.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    region: &'a Region,
    at: usize,
}

impl<'a> Record<'a> {
    /// The record that begins at byte `at`; none if it does not lie in the region.
    pub fn new(region: &'a Region, at: usize) -> Option<Record<'a>> {
        (at.checked_add(RECORD)? <= region.len()).then_some(Record { region, at })
    }

    fn half(&self, offset: usize) -> Option<&'a AtomicU32> {
        self.region.u32(self.at + offset)
    }

    fn word(&self, offset: usize) -> Option<&'a AtomicU64> {
        self.region.u64(self.at + offset)
    }

    /// Span id of the running span, or hash of the slow span's name; 0 if the record is free.
    pub fn key(&self) -> Option<&'a AtomicU64> {
        self.word(KEY)
    }

    /// When the record was locked, monotonic nanoseconds.
    pub fn lock(&self) -> Option<&'a AtomicU64> {
        self.word(LOCK)
    }

    /// Nanoseconds that the slow span took.
    pub fn duration(&self) -> Option<&'a AtomicU64> {
        self.word(DURATION)
    }

    /// When the span began, nanoseconds since the epoch.
    pub fn start(&self) -> Option<&'a AtomicU64> {
        self.word(START)
    }

    /// The lane that claimed it.
    pub fn lane(&self) -> Option<usize> {
        Some((self.half(ABOUT)?.load(Relaxed) >> 8) as usize)
    }

    /// Has the record written by who has claimed or locked it.
    pub fn write(&self, write: impl FnOnce(&Record<'a>)) {
        let Some(version) = self.half(VERSION) else { return };
        let writing = version.load(Relaxed) | 1;
        version.swap(writing, AcqRel);
        // Nothing of what follows may be seen before the version is odd; an exchange alone does not promise that.
        fence(Release);
        write(self);
        version.store(writing.wrapping_add(1), Release);
    }

    fn set_word(&self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            word.store(value, Relaxed);
        }
    }

    fn set_half(&self, offset: usize, value: u32) {
        if let Some(word) = self.half(offset) {
            word.store(value, Relaxed);
        }
    }

    /// Puts a span of a lane into it.
    pub fn set(&self, lane: usize, span: &Noted<'_>, attributes: &[u8]) {
        let name = cut(span.name).as_bytes();
        let attributes = if attributes.len() > ATTRIBUTES_MAX {
            &[]
        } else {
            attributes
        };
        self.set_half(ABOUT, (lane as u32) << 8 | u32::from(span.kind));
        self.set_word(START, span.start_unix_ns);
        self.set_word(TRACE_HIGH, (span.ids.trace >> 64) as u64);
        self.set_word(TRACE_LOW, span.ids.trace as u64);
        self.set_word(SPAN, span.ids.span);
        self.set_word(PARENT, span.parent);
        self.set_half(LENGTHS, name.len() as u32 | (attributes.len() as u32) << 16);
        self.set_bytes(NAME, name);
        self.set_bytes(ATTRIBUTES, attributes);
    }

    /// Puts into it how long the span took, and the number of its series plus 1, or 0.
    pub fn set_duration(&self, duration_ns: u64, series: u32) {
        self.set_word(DURATION, duration_ns);
        self.set_half(SERIES, series);
    }

    fn set_bytes(&self, offset: usize, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            self.set_word(offset + 8 * index, u64::from_le_bytes(padded));
        }
    }

    fn bytes(&self, offset: usize, len: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len + 7);
        for at in (0..len).step_by(8) {
            bytes.extend_from_slice(&self.word(offset + at)?.load(Acquire).to_le_bytes());
        }
        bytes.truncate(len);
        Some(bytes)
    }

    /// What it says; none while it is written.
    pub fn read(&self) -> Option<Read> {
        let version = self.half(VERSION)?.load(Acquire);
        let word = |offset| self.word(offset).map(|word| word.load(Acquire));
        let half = |offset| self.half(offset).map(|word| word.load(Acquire));
        let (about, lengths) = (half(ABOUT)?, half(LENGTHS)?);
        let name = self.bytes(NAME, (lengths as usize & 0xFFFF).min(NAME_MAX))?;
        let attributes = self.bytes(ATTRIBUTES, (lengths as usize >> 16).min(ATTRIBUTES_MAX))?;
        let read = Read {
            lane: (about >> 8) as usize,
            duration_ns: word(DURATION)?,
            series: half(SERIES)?,
            span: Span {
                ids: SpanIds {
                    trace: u128::from(word(TRACE_HIGH)?) << 64 | u128::from(word(TRACE_LOW)?),
                    span: word(SPAN)?,
                },
                parent: word(PARENT)?,
                start_unix_ns: word(START)?,
                kind: about as u8,
                name: String::from_utf8_lossy(&name).into_owned(),
                attributes,
            },
        };
        (version & 1 == 0 && half(VERSION)? == version).then_some(read)
    }
}

/// As much of a name as is kept.
fn cut(name: &str) -> &str {
    if name.len() <= NAME_MAX {
        return name;
    }
    let end = (0..=NAME_MAX).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"é".repeat(60)), "é".repeat(40));
        assert_eq!(cut(&format!("x{}", "é".repeat(60))).len(), 79);
    }
}
