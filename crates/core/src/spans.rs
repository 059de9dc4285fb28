//! The span table: spans that run now, and the slowest ones of each name.
//!
//! # The protocol
//!
//! The table is taken from the pool when the first span is noted: an eighth of it, or as much as can be had. Records have a fixed size. A quarter of
//! them is for slow spans, the others are for those that run.
//!
//! A running span has the first free one of the eight records behind the place that its span id hashes to. A writer claims it by putting the id
//! into its key word, and frees it, when the span ends, by putting 0 there; only the lane that claimed a record frees it, so that a forked copy of a
//! span cannot end the original. A span that finds no free record is counted and not shown. The records of a lane whose worker died are not shown
//! either, and are freed when the lane is joined again.
//!
//! Slow spans are kept in groups of four records, one group for each name. A group is found by the hash of the name, in one of four places, and
//! belongs to the name until all its spans are ten minutes old. Of a name, a span takes the place of one that is that old, else of the fastest, if it
//! is slower than that. A writer takes a record by putting the time into its lock word; a second one gives up, because one slow span is as good
//! as the other. The lock of a writer that was killed is void after a second.
//!
//! The version of a record is odd while it is written; a reader takes what lies between two equal even ones.

mod record;
mod slow;

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use self::record::{Record, RECORD, RECORD_LINES};
pub use self::record::{ATTRIBUTES_MAX, NAME_MAX};
pub use self::slow::SlowSpan;
use crate::drops::Drop;
use crate::exemplar::SpanIds;
use crate::layout::{header, WORKERS};
use crate::pool::{Pool, Use};
use crate::tables::Tables;

/// Records among which a running span looks for a free one.
const WINDOW: usize = 8;
/// Records of a group of slow spans.
const GROUP: usize = 4;

/// A span as it is handed over to be noted.
#[derive(Clone, Copy, Debug)]
pub struct Noted<'a> {
    /// Trace id and span id.
    pub ids: SpanIds,
    /// Span id of the parent; 0 if it has none.
    pub parent: u64,
    /// When it began, nanoseconds since the epoch.
    pub start_unix_ns: u64,
    /// Kind as OTLP numbers it, 1 internal to 5 consumer; 0 if it is not known.
    pub kind: u8,
    /// Name, of which [`NAME_MAX`] bytes are kept.
    pub name: &'a str,
}

/// What is known of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Trace id and span id.
    pub ids: SpanIds,
    /// Span id of the parent; 0 if it has none.
    pub parent: u64,
    /// When it began, nanoseconds since the epoch.
    pub start_unix_ns: u64,
    /// Kind as OTLP numbers it, 1 internal to 5 consumer; 0 if it is not known.
    pub kind: u8,
    /// Name, cut to [`NAME_MAX`] bytes.
    pub name: String,
    /// Canonical bytes of the attributes that are shown. More than [`ATTRIBUTES_MAX`] are not kept, not even a part of them.
    pub attributes: Vec<u8>,
}

/// A span that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveSpan {
    /// The record that it has.
    pub place: usize,
    /// Lane of the worker in which it began.
    pub lane: usize,
    /// The span as it was when it began.
    pub span: Span,
}

/// The span table of one segment.
#[derive(Clone, Copy, Debug)]
pub struct SpanTable<'a> {
    tables: Tables<'a>,
}

/// Where the records are.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    active: usize,
    groups: usize,
}

impl<'a> SpanTable<'a> {
    /// That of the segment that these tables are in.
    pub fn new(tables: Tables<'a>) -> SpanTable<'a> {
        SpanTable { tables }
    }

    fn place(&self) -> Option<Place> {
        let (region, geometry) = (self.tables.region, self.tables.geometry);
        // Records in the upper, line in the lower half.
        let word = region.u64(header::SPANS)?.load(Acquire);
        let (records, line) = ((word >> 32) as usize, word as u32);
        let at = geometry.line(line)?;
        let groups = records / 4 / GROUP;
        let active = records - groups * GROUP;
        (active > 0 && line as usize + records * RECORD_LINES <= geometry.lines as usize).then_some(Place {
            at,
            active,
            groups,
        })
    }

    #[cold]
    fn create(&self) -> Option<Place> {
        let (region, geometry) = (self.tables.region, self.tables.geometry);
        let pool = Pool::new(region, geometry);
        let mut records = geometry.lines as usize / 8 / RECORD_LINES;
        let line = loop {
            if records == 0 {
                return None;
            }
            match pool.take((records * RECORD_LINES) as u32, pool.floor(), Use::Spans) {
                Some(line) => break line,
                None => records /= 2,
            }
        };
        let word = (records as u64) << 32 | u64::from(line);
        // The table of whoever is second stays unused.
        let _ = region.u64(header::SPANS)?.compare_exchange(0, word, AcqRel, Acquire);
        self.place()
    }

    fn record(&self, place: Place, index: usize) -> Option<Record<'a>> {
        Record::new(self.tables.region, place.at + index * RECORD)
    }

    /// The records in which a running span may be.
    fn window(place: Place, span: u64) -> impl Iterator<Item = usize> {
        // Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4); the upper half has the good bits.
        let home = (span.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % place.active;
        (0..WINDOW.min(place.active)).map(move |step| (home + step) % place.active)
    }

    /// Notes that a span began in this lane, and answers its record; counts it if it found none.
    pub fn begin(&self, lane: usize, span: &Noted<'_>, attributes: &[u8]) -> Option<usize> {
        let found = self.try_begin(lane, span, attributes);
        if found.is_none() {
            self.tables.count_drop(Drop::NoSpan);
        }
        found
    }

    fn try_begin(&self, lane: usize, span: &Noted<'_>, attributes: &[u8]) -> Option<usize> {
        let place = self.place().or_else(|| self.create())?;
        let id = span.ids.span;
        // 0 is a free record.
        if id == 0 {
            return None;
        }
        for index in Self::window(place, id) {
            let record = self.record(place, index)?;
            let key = record.key()?;
            if key.load(Relaxed) == 0 && key.compare_exchange(0, id, AcqRel, Relaxed).is_ok() {
                record.write(|record| record.set(lane, span, attributes));
                return Some(index);
            }
        }
        None
    }

    /// Notes that a span of this lane ended, and answers the record that it had.
    pub fn end(&self, lane: usize, span: u64) -> Option<usize> {
        let place = self.place()?;
        if span == 0 {
            return None;
        }
        for index in Self::window(place, span) {
            let record = self.record(place, index)?;
            if record.key()?.load(Relaxed) == span && record.lane()? == lane {
                record.key()?.store(0, Release);
                return Some(index);
            }
        }
        None
    }

    /// Frees the record of a span that will not end, if it still has it.
    pub fn release(&self, lane: usize, index: usize, span: u64) {
        let found = self.place().filter(|place| index < place.active);
        if let Some(record) = found.and_then(|place| self.record(place, index)) {
            if record.lane() == Some(lane) {
                let _ = record.key().map(|key| key.compare_exchange(span, 0, Release, Relaxed));
            }
        }
    }

    /// Frees the records of a lane, whose worker is dead.
    pub fn clear_lane(&self, lane: usize) {
        let Some(place) = self.place() else { return };
        for record in (0..place.active).filter_map(|index| self.record(place, index)) {
            if let (Some(key), true) = (record.key(), record.lane() == Some(lane)) {
                key.store(0, Release);
            }
        }
    }

    /// The spans that run in the lanes that `is_alive` says are alive, those that began first first.
    pub fn active(&self, is_alive: impl Fn(usize) -> bool) -> Vec<ActiveSpan> {
        let Some(place) = self.place() else {
            return Vec::new();
        };
        let alive: [bool; WORKERS] = std::array::from_fn(is_alive);
        let read = |index| {
            let record = self.record(place, index)?;
            let key = record.key()?.load(Acquire);
            let found = (key != 0).then(|| record.read())??;
            let is_same = record.key()?.load(Acquire) == key && found.span.ids.span == key;
            (is_same && *alive.get(found.lane)?).then_some(ActiveSpan {
                place: index,
                lane: found.lane,
                span: found.span,
            })
        };
        let mut found: Vec<_> = (0..place.active).filter_map(read).collect();
        found.sort_by_key(|active| active.span.start_unix_ns);
        found
    }

    /// How many running spans and how many names of slow ones the table can hold; what it will be when there is none yet.
    pub fn capacity(&self) -> (usize, usize) {
        let records = self.tables.geometry.lines as usize / 8 / RECORD_LINES;
        self.place().map_or_else(
            || (records - records / 4 / GROUP * GROUP, records / 4 / GROUP),
            |place| (place.active, place.groups),
        )
    }
}
