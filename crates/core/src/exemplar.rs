//! Exemplars: single recordings with the span in which they were made, kept in a table of fixed size.
//!
//! # The protocol
//!
//! The table is taken from the pool when the first exemplar is kept: a sixteenth of it, or as much as can be had. A slot is found by the hash
//! of series and bucket in a set of four: the one that has the pair already, else an empty one, else the one of the oldest window. So the
//! table never grows, and what finds no place replaces what was kept longest ago. What is replaced in the window in which it was kept, so that
//! nobody could read it, is counted as lost.
//!
//! A writer takes a slot by putting the time into its lock word; a second one gives up, because one exemplar is as good as the other. The
//! lock of a writer that was killed is void after a second, and so is one that lies as far in the future. The version is odd while a slot is
//! written; a reader takes what lies between two equal even ones.
//!
//! Exemplars are not taken out: each has the number of the *window* in which it was kept, collections count windows up, and every reader takes
//! those since its last one. A series asks for one exemplar per bucket and window, see [`crate::local`].

use std::collections::HashMap;
use std::sync::atomic::fence;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::clock::monotonic_ns;
use crate::drops::Drop;
use crate::hdr::{octave, to_units, OCTAVES};
use crate::lane::Number;
use crate::layout::{header, LINE};
use crate::pool::{Pool, Use};
use crate::tables::{SeriesId, Tables};

/// Slots of a set.
const WAYS: usize = 4;
/// Pool lines of a slot.
const SLOT_LINES: usize = 3;
const SLOT: usize = SLOT_LINES * LINE;
const SET_LINES: usize = WAYS * SLOT_LINES;
/// Time after which the lock of a slot is void.
const LOCK_NS: u64 = 1_000_000_000;
/// What is lost by using a slot whose exemplar was kept in the current window.
const UNREAD: u64 = 2 + u32::MAX as u64;

// Word offsets within a slot.
const LOCK: usize = 0;
const VERSION: usize = 8;
const SERIES: usize = 12;
const WINDOW: usize = 16;
const ABOUT: usize = 20;
const TIME: usize = 24;
const VALUE: usize = 32;
const TRACE_HIGH: usize = 40;
const TRACE_LOW: usize = 48;
const SPAN: usize = 56;
const ATTRIBUTES: usize = 64;

/// Most bytes of dropped attributes that an exemplar keeps.
pub const ATTRIBUTES_MAX: usize = SLOT - ATTRIBUTES;

// Flags in the word about a slot, beside the bucket (bits 0 to 7) and the length of the attributes (bits 16 to 31).
const IS_FLOAT: u32 = 1 << 8;
const HAS_SPAN: u32 = 1 << 9;
const HAD_ATTRIBUTES: u32 = 1 << 10;

/// Which of the recordings of a series compete for one exemplar.
#[derive(Clone, Debug, PartialEq)]
pub enum Buckets {
    /// All.
    One,
    /// Those between two boundaries.
    Explicit(Vec<f64>),
    /// Those of one octave; values are kept as so many integer units.
    Octaves(f64),
}

/// Most buckets that are told apart.
const MOST_BUCKETS: usize = 64;

impl Buckets {
    /// One bit for each bucket.
    pub fn all(&self) -> u64 {
        let count = match self {
            Buckets::One => 1,
            Buckets::Explicit(boundaries) => boundaries.len() + 1,
            Buckets::Octaves(_) => OCTAVES,
        };
        u64::MAX >> (MOST_BUCKETS - count.min(MOST_BUCKETS))
    }

    /// The bucket of a value.
    pub fn of(&self, value: f64) -> u8 {
        let bucket = match self {
            Buckets::One => 0,
            Buckets::Explicit(boundaries) => boundaries.partition_point(|boundary| *boundary < value),
            Buckets::Octaves(per_one) => octave(to_units(value.abs(), *per_one)),
        };
        bucket.min(MOST_BUCKETS - 1) as u8
    }
}

/// The span in which a recording was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanIds {
    /// Trace id.
    pub trace: u128,
    /// Span id.
    pub span: u64,
}

/// A recording that stands for others.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// The value.
    pub value: Number,
    /// When it was recorded, nanoseconds since the epoch.
    pub time_unix_ns: u64,
    /// The span, if there was one.
    pub span: Option<SpanIds>,
    /// Canonical bytes of the attributes that the series does not have; `None` if the recording had no attributes at all. More than
    /// [`ATTRIBUTES_MAX`] are not kept, not even a part of them.
    pub dropped: Option<Vec<u8>>,
}

/// The exemplars of one segment.
#[derive(Clone, Copy, Debug)]
pub struct Exemplars<'a> {
    tables: Tables<'a>,
}

impl<'a> Exemplars<'a> {
    /// Those of the segment that these tables are in.
    pub fn new(tables: Tables<'a>) -> Exemplars<'a> {
        Exemplars { tables }
    }

    /// First byte and number of the sets, if the table exists.
    fn sets(&self) -> Option<(usize, usize)> {
        let (region, geometry) = (self.tables.region, self.tables.geometry);
        // Sets in the upper, line in the lower half.
        let word = region.u64(header::EXEMPLARS)?.load(Acquire);
        let (sets, line) = ((word >> 32) as usize, word as u32);
        let at = geometry.line(line)?;
        (sets > 0 && line as usize + sets * SET_LINES <= geometry.lines as usize).then_some((at, sets))
    }

    fn sets_or_create(&self) -> Option<(usize, usize)> {
        if let Some(found) = self.sets() {
            return Some(found);
        }
        let (region, geometry) = (self.tables.region, self.tables.geometry);
        let pool = Pool::new(region, geometry);
        let mut sets = geometry.lines as usize / 16 / SET_LINES;
        let line = loop {
            // A set must at least fit; zero sets were asked for in vain.
            if sets == 0 {
                return None;
            }
            match pool.take((sets * SET_LINES) as u32, pool.floor(), Use::Exemplars) {
                Some(line) => break line,
                None => sets /= 2,
            }
        };
        let word = (sets as u64) << 32 | u64::from(line);
        // The table of whoever is second stays unused.
        let _ = region
            .u64(header::EXEMPLARS)?
            .compare_exchange(0, word, AcqRel, Acquire);
        self.sets()
    }

    /// Number of the current window.
    pub fn window(&self) -> u32 {
        let word = self.tables.region.u32(header::WINDOW);
        word.map_or(0, |word| word.load(Acquire))
    }

    /// Ends the current window and answers its number: every series asks anew.
    pub fn next_window(&self) -> u32 {
        let word = self.tables.region.u32(header::WINDOW);
        word.map_or(0, |word| word.fetch_add(1, AcqRel))
    }

    /// Keeps an exemplar of a series and bucket; counts a loss if there is no table and no room for one, or if the exemplar takes the place of another
    /// one that nobody could read yet.
    pub fn keep(&self, series: SeriesId, bucket: u8, exemplar: &Exemplar) {
        if self.try_keep(series, bucket, exemplar).is_none() {
            self.tables.count_drop(Drop::NoExemplar);
        }
    }

    fn try_keep(&self, series: SeriesId, bucket: u8, exemplar: &Exemplar) -> Option<()> {
        let (start, sets) = self.sets_or_create()?;
        let key = u64::from(series.0) << 8 | u64::from(bucket);
        // Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4).
        let set = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % sets;
        let start = start + set * WAYS * SLOT;
        let window = self.window();
        let (reluctance, place) = (0..WAYS)
            .map(|way| start + way * SLOT)
            .map(|at| (self.reluctance(at, series, bucket, window), at))
            .min()?;
        let region = self.tables.region;
        let (lock, now) = (region.u64(place + LOCK)?, monotonic_ns().max(1));
        let held = lock.load(Acquire);
        if held != 0 && now.abs_diff(held) < LOCK_NS || lock.compare_exchange(held, now, AcqRel, Acquire).is_err() {
            // Another one is being kept there.
            return Some(());
        }
        let version = region.u32(place + VERSION)?;
        let writing = version.load(Relaxed) | 1;
        version.swap(writing, AcqRel);
        // Nothing of what follows may be seen before the version is odd; an exchange alone does not promise that.
        fence(Release);
        self.write(place, series, bucket, window, exemplar);
        version.store(writing.wrapping_add(1), Release);
        lock.store(0, Release);
        if reluctance == UNREAD {
            self.tables.count_drop(Drop::NoExemplar);
        }
        Some(())
    }

    /// How much is lost by using a slot: nothing for the pair's own one, little for an empty one, else less the older it is.
    fn reluctance(&self, at: usize, series: SeriesId, bucket: u8, window: u32) -> u64 {
        let half = |offset| self.tables.region.u32(at + offset).map_or(0, |word| word.load(Relaxed));
        let (kept, about) = (half(SERIES), half(ABOUT));
        if kept == series.0 + 1 && about as u8 == bucket {
            0
        } else if kept == 0 {
            1
        } else {
            UNREAD - u64::from(window.wrapping_sub(half(WINDOW)))
        }
    }

    fn write(&self, at: usize, series: SeriesId, bucket: u8, window: u32, exemplar: &Exemplar) {
        let half = |offset, value: u32| {
            self.tables
                .region
                .u32(at + offset)
                .map(|word| word.store(value, Relaxed))
        };
        let word = |offset, value: u64| {
            self.tables
                .region
                .u64(at + offset)
                .map(|word| word.store(value, Relaxed))
        };
        let (bits, float) = match exemplar.value {
            Number::Int(value) => (value as u64, 0),
            Number::Float(value) => (value.to_bits(), IS_FLOAT),
        };
        let span = exemplar.span.map_or(0, |_| HAS_SPAN);
        let ids = exemplar.span.unwrap_or(SpanIds { trace: 0, span: 0 });
        let had = exemplar.dropped.as_ref().map_or(0, |_| HAD_ATTRIBUTES);
        let attributes = exemplar.dropped.as_deref().unwrap_or_default();
        let attributes = if attributes.len() > ATTRIBUTES_MAX {
            &[]
        } else {
            attributes
        };
        half(SERIES, series.0 + 1);
        half(WINDOW, window);
        half(
            ABOUT,
            u32::from(bucket) | float | span | had | (attributes.len() as u32) << 16,
        );
        word(TIME, exemplar.time_unix_ns);
        word(VALUE, bits);
        word(TRACE_HIGH, (ids.trace >> 64) as u64);
        word(TRACE_LOW, ids.trace as u64);
        word(SPAN, ids.span);
        for (index, bytes) in attributes.chunks(8).enumerate() {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word(ATTRIBUTES + 8 * index, u64::from_le_bytes(padded));
        }
    }

    /// Exemplars by series that were kept in the windows after `last` up to `until`, oldest first.
    pub fn between(&self, last: u32, until: u32) -> HashMap<u32, Vec<Exemplar>> {
        let mut found: HashMap<u32, Vec<Exemplar>> = HashMap::new();
        let Some((start, sets)) = self.sets() else {
            return found;
        };
        for slot in 0..sets * WAYS {
            if let Some((series, window, exemplar)) = self.read(start + slot * SLOT) {
                if until.wrapping_sub(window) < until.wrapping_sub(last) {
                    found.entry(series).or_default().push(exemplar);
                }
            }
        }
        for exemplars in found.values_mut() {
            exemplars.sort_by_key(|exemplar| exemplar.time_unix_ns);
        }
        found
    }

    fn read(&self, at: usize) -> Option<(u32, u32, Exemplar)> {
        let half = |offset| self.tables.region.u32(at + offset).map(|word| word.load(Acquire));
        let word = |offset| self.tables.region.u64(at + offset).map(|word| word.load(Acquire));
        let version = half(VERSION)?;
        let (series, window, about) = (half(SERIES)?.checked_sub(1)?, half(WINDOW)?, half(ABOUT)?);
        let length = (about >> 16) as usize;
        let bits = word(VALUE)?;
        let trace = u128::from(word(TRACE_HIGH)?) << 64 | u128::from(word(TRACE_LOW)?);
        let span = SpanIds {
            trace,
            span: word(SPAN)?,
        };
        let time_unix_ns = word(TIME)?;
        let mut attributes = Vec::with_capacity(length.min(ATTRIBUTES_MAX));
        for offset in (0..length.min(ATTRIBUTES_MAX)).step_by(8) {
            attributes.extend_from_slice(&word(ATTRIBUTES + offset)?.to_le_bytes());
        }
        attributes.truncate(length);
        if version & 1 == 1 || half(VERSION)? != version {
            return None;
        }
        let exemplar = Exemplar {
            value: if about & IS_FLOAT == 0 {
                Number::Int(bits as i64)
            } else {
                Number::Float(f64::from_bits(bits))
            },
            time_unix_ns,
            span: (about & HAS_SPAN != 0).then_some(span),
            dropped: (about & HAD_ATTRIBUTES != 0).then_some(attributes),
        };
        Some((series, window, exemplar))
    }
}
