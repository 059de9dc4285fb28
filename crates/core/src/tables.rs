//! Instrument table and series table: find or insert without a lock.
//!
//! Both are open-addressed indexes over fixed arrays of records. An inserter fills a fresh record completely and then
//! publishes it by a compare-and-swap of the *first empty* index entry on the key's probe path. Entries never become empty
//! again, so two inserters of the same key meet at the same entry: the loser finds the winner's record there and uses it; its own record
//! stays unused. A process killed in between leaves an unused record, nothing else.

use std::cell::Cell;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::attributes::MAX_BYTES;
use crate::drops::Drop;
use crate::histogram::Histogram;
use crate::instrument::{Descriptor, Kind};
use crate::layout::{header, Geometry, SERIES, STREAM};
use crate::pool::Pool;
use crate::region::Region;
use crate::stream::Storage;

/// Canonical bytes of the overflow series' attributes, `otel.metric.overflow=true`.
pub const OVERFLOW_ATTRIBUTES: &[u8] = b"\x14otel.metric.overflowt";

/// Series flag: the record is complete.
const READY: u32 = 1;
/// Series flag: at least one recording was made.
const TOUCHED: u32 = 2;
/// Series flag: at least one of the recordings was a float.
const FLOAT: u32 = 4;
/// Series flag: this is its stream's overflow series.
const OVERFLOW: u32 = 8;

// Word offsets within a series record.
const S_HASH: usize = 0;
const S_ATTRIBUTES: usize = 8;
const S_LENGTH: usize = 12;
const S_STREAM: usize = 14;
const S_HISTOGRAM: usize = 16;
const S_FLAGS: usize = 20;
const S_START: usize = 24;

// Word offsets within a stream record.
const I_HASH: usize = 0;
const I_DESCRIPTOR: usize = 8;
const I_LENGTH: usize = 12;
const I_KIND: usize = 14;
const I_OVERFLOW: usize = 16;
const I_COUNT: usize = 20;
const I_LIMIT: usize = 24;

/// The tables of one segment.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    pub(crate) region: &'a Region,
    pub(crate) geometry: &'a Geometry,
}

/// A stream record, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub u32);

/// A series record, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesId(pub u32);

fn hash_of(stream: StreamId, attributes: &[u8]) -> u64 {
    xxh3_64_with_seed(attributes, u64::from(stream.0) + 1)
}

/// What a series record says, checked.
#[derive(Clone, Copy, Debug)]
pub struct SeriesRecord {
    /// Its number.
    pub id: SeriesId,
    /// Its stream.
    pub stream: StreamId,
    /// Byte offset of the canonical attribute bytes.
    pub attributes_at: usize,
    /// Their length.
    pub attributes_len: usize,
    /// Byte offset of the histogram header, if it is a histogram's.
    pub histogram_at: Option<usize>,
    /// When the series came into being, nanoseconds since the epoch.
    pub start_unix_ns: u64,
    /// Whether anything was recorded yet.
    pub touched: bool,
    /// Whether a float was recorded.
    pub float: bool,
    /// Whether this is the overflow series.
    pub overflow: bool,
}

impl<'a> Tables<'a> {
    fn half(&self, at: usize) -> Option<&'a AtomicU32> {
        self.region.u32(at)
    }

    fn word(&self, at: usize) -> Option<&'a AtomicU64> {
        self.region.u64(at)
    }

    fn series_record(&self, id: SeriesId) -> Option<usize> {
        ((id.0 as usize) < self.geometry.series).then(|| self.geometry.series_at + id.0 as usize * SERIES)
    }

    fn stream_record(&self, id: StreamId) -> Option<usize> {
        ((id.0 as usize) < self.geometry.streams).then(|| self.geometry.streams_at + id.0 as usize * STREAM)
    }

    /// Walks the probe path of `hash`: answers the matching record number, or else publishes the one that `insert` makes.
    fn find_or_insert(
        &self,
        index_at: usize,
        entries: usize,
        hash: u64,
        matches: impl Fn(u32) -> bool,
        insert: impl FnOnce() -> Option<u32>,
    ) -> Option<u32> {
        let mut insert = Some(insert);
        let mut made = None;
        let mut probe = hash as usize;
        for _ in 0..entries {
            let entry = self.half(index_at + 4 * (probe & (entries - 1)))?;
            let mut found = entry.load(Acquire);
            if found == 0 {
                if let Some(insert) = insert.take() {
                    made = Some(insert()?);
                }
                match entry.compare_exchange(0, made? + 1, AcqRel, Acquire) {
                    Ok(_) => return made,
                    Err(theirs) => found = theirs,
                }
            }
            if matches(found - 1) {
                return Some(found - 1);
            }
            probe = probe.wrapping_add(1);
        }
        None
    }

    /// `Some` if a record of the table is still free.
    fn has_record(&self, counter: usize, capacity: usize) -> Option<()> {
        ((self.half(counter)?.load(Acquire) as usize) < capacity).then_some(())
    }

    /// Takes the next record of a table, or `None` if all are taken.
    fn next_record(&self, counter: usize, capacity: usize) -> Option<u32> {
        self.half(counter)?
            .fetch_update(AcqRel, Acquire, |next| ((next as usize) < capacity).then(|| next + 1))
            .ok()
    }

    /// Number of series records taken so far.
    pub fn series_count(&self) -> u32 {
        let taken = self.half(header::SERIES_NEXT).map_or(0, |next| next.load(Acquire));
        taken.min(self.geometry.series as u32)
    }

    /// Number of stream records taken so far.
    pub fn stream_count(&self) -> u32 {
        let taken = self.half(header::STREAM_NEXT).map_or(0, |next| next.load(Acquire));
        taken.min(self.geometry.streams as u32)
    }

    /// Finds or inserts a stream with its overflow series. `None` if the segment has no room.
    pub fn stream(&self, descriptor: &Descriptor, limit: u32, now_unix_ns: u64) -> Option<StreamId> {
        let identity = descriptor.identity();
        let hash = xxh3_64_with_seed(&identity, 0);
        let matches = |number| {
            self.stream_record(StreamId(number)).is_some_and(|at| {
                self.word(at + I_HASH).is_some_and(|word| word.load(Relaxed) == hash)
                    && self
                        .descriptor_range(at)
                        .is_some_and(|(start, len)| len >= identity.len() && self.region.bytes_equal(start, &identity))
            })
        };
        let insert = || {
            // Asked first, so that what is refused takes no memory.
            self.has_record(header::STREAM_NEXT, self.geometry.streams)?;
            self.has_record(header::SERIES_NEXT, self.geometry.series)?;
            let stream = self.new_stream(descriptor, hash, limit)?;
            let overflow = self.new_series(stream, OVERFLOW_ATTRIBUTES, 0, OVERFLOW, now_unix_ns)?;
            self.complete(stream, overflow)?;
            Some(stream.0)
        };
        self.find_or_insert(
            self.geometry.stream_index_at,
            self.geometry.stream_index,
            hash,
            matches,
            insert,
        )
        .map(StreamId)
    }

    /// A stream that lacks its overflow series.
    fn new_stream(&self, descriptor: &Descriptor, hash: u64, limit: u32) -> Option<StreamId> {
        let bytes = descriptor.encode();
        let length = u16::try_from(bytes.len()).ok()?;
        let keep = self.pool().floor();
        let start = self.pool().take_bytes(bytes.len(), keep)?;
        self.region.write_bytes(start, &bytes).then_some(())?;
        let number = self.next_record(header::STREAM_NEXT, self.geometry.streams)?;
        let at = self.stream_record(StreamId(number))?;
        self.word(at + I_HASH)?.store(hash, Relaxed);
        self.half(at + I_DESCRIPTOR)?.store((start / 8) as u32, Relaxed);
        self.region.u16(at + I_LENGTH)?.store(length, Relaxed);
        let kind = descriptor.kind as u16 | (descriptor.stream.storage as u16) << 8;
        self.region.u16(at + I_KIND)?.store(kind, Relaxed);
        self.half(at + I_LIMIT)?.store(limit, Relaxed);
        Some(StreamId(number))
    }

    fn complete(&self, stream: StreamId, overflow: SeriesId) -> Option<()> {
        let at = self.stream_record(stream)?;
        self.half(at + I_OVERFLOW)?.store(overflow.0 + 1, Release);
        Some(())
    }

    fn descriptor_range(&self, at: usize) -> Option<(usize, usize)> {
        let start = self.half(at + I_DESCRIPTOR)?.load(Relaxed) as usize * 8;
        let len = usize::from(self.region.u16(at + I_LENGTH)?.load(Relaxed));
        Some((start, len))
    }

    /// The descriptor of a published stream, or `None` if there is none or it is corrupt.
    pub fn descriptor(&self, id: StreamId) -> Option<Descriptor> {
        let at = self.stream_record(id)?;
        self.overflow_of(id)?;
        let (start, len) = self.descriptor_range(at)?;
        Descriptor::decode(&self.region.read_bytes(start, len)?)
    }

    /// Kind of the instrument and storage of a published stream.
    pub fn kind(&self, id: StreamId) -> Option<(Kind, Storage)> {
        let at = self.stream_record(id)?;
        let [kind, storage] = self.region.u16(at + I_KIND)?.load(Relaxed).to_le_bytes();
        Some((Kind::from_number(kind)?, Storage::from_number(storage)?))
    }

    /// The overflow series of a stream; `None` while the stream is not complete.
    pub fn overflow_of(&self, id: StreamId) -> Option<SeriesId> {
        let at = self.stream_record(id)?;
        let number = self.half(at + I_OVERFLOW)?.load(Acquire).checked_sub(1)?;
        ((number as usize) < self.geometry.series).then_some(SeriesId(number))
    }

    /// Finds or inserts the series of `attributes` (canonical bytes). `Err` names the reason why it has none.
    pub fn series(&self, stream: StreamId, attributes: &[u8], now_unix_ns: u64) -> Result<SeriesId, Drop> {
        if attributes.len() > MAX_BYTES {
            return Err(Drop::LongAttributes);
        }
        if attributes == OVERFLOW_ATTRIBUTES {
            return self.overflow_of(stream).ok_or(Drop::Corrupt);
        }
        let hash = hash_of(stream, attributes);
        let at = self.stream_record(stream).ok_or(Drop::Corrupt)?;
        let count = self.half(at + I_COUNT).ok_or(Drop::Corrupt)?;
        let counted = Cell::new(false);
        let made = Cell::new(None);
        let insert = || {
            let limit = self.half(at + I_LIMIT)?.load(Relaxed);
            count
                .fetch_update(AcqRel, Acquire, |count| (count < limit).then(|| count + 1))
                .ok()?;
            counted.set(true);
            made.set(self.new_series(stream, attributes, hash, 0, now_unix_ns));
            made.get().map(|id| id.0)
        };
        let found = self
            .find_or_insert(
                self.geometry.series_index_at,
                self.geometry.series_index,
                hash,
                |number| self.is_series(number, hash, stream, attributes),
                insert,
            )
            .map(SeriesId);
        if counted.get() && (found.is_none() || found != made.get()) {
            // Another inserter of the same set was faster, or there was no room.
            count.fetch_sub(1, AcqRel);
        }
        found.ok_or(Drop::Overflow)
    }

    /// Takes over streams and series of other tables under their numbers, without what was recorded, into tables that are empty and nobody else's.
    pub fn take_over(&self, others: Tables<'_>, now_unix_ns: u64) {
        for number in 0..others.stream_count() {
            if self.take_over_stream(others, StreamId(number)).is_none() {
                // One that was never completed, or is corrupt, has its number all the same.
                self.skip_to(header::STREAM_NEXT, number + 1);
            }
        }
        for number in 0..others.series_count() {
            if self.take_over_series(others, SeriesId(number), now_unix_ns).is_none() {
                self.skip_to(header::SERIES_NEXT, number + 1);
            }
        }
    }

    fn skip_to(&self, counter: usize, next: u32) {
        if let Some(counter) = self.half(counter) {
            counter.store(next, Release);
        }
    }

    fn take_over_stream(&self, others: Tables<'_>, id: StreamId) -> Option<()> {
        let descriptor = others.descriptor(id)?;
        let limit = others.half(others.stream_record(id)? + I_LIMIT)?.load(Relaxed);
        let hash = xxh3_64_with_seed(&descriptor.identity(), 0);
        let (at, entries) = (self.geometry.stream_index_at, self.geometry.stream_index);
        let insert = || Some(self.new_stream(&descriptor, hash, limit)?.0);
        self.find_or_insert(at, entries, hash, |_| false, insert).map(|_| ())
    }

    fn take_over_series(&self, others: Tables<'_>, id: SeriesId, now_unix_ns: u64) -> Option<()> {
        let series = others.read_series(id)?;
        if series.overflow {
            (others.overflow_of(series.stream)? == id).then_some(())?;
            let made = self.new_series(series.stream, OVERFLOW_ATTRIBUTES, 0, OVERFLOW, now_unix_ns)?;
            return self.complete(series.stream, made);
        }
        let attributes = others.region.read_bytes(series.attributes_at, series.attributes_len)?;
        // Of several that were inserted at once only one counts.
        (others.found(series.stream, &attributes)? == id).then_some(())?;
        self.series(series.stream, &attributes, now_unix_ns).ok().map(|_| ())
    }

    fn is_series(&self, number: u32, hash: u64, stream: StreamId, attributes: &[u8]) -> bool {
        let Some(at) = self.series_record(SeriesId(number)) else {
            return false;
        };
        let half = |offset| self.region.u16(at + offset).map(|half| usize::from(half.load(Relaxed)));
        self.word(at + S_HASH).is_some_and(|word| word.load(Relaxed) == hash)
            && half(S_STREAM) == Some(stream.0 as usize)
            && half(S_LENGTH) == Some(attributes.len())
            && self
                .half(at + S_ATTRIBUTES)
                .is_some_and(|start| self.region.bytes_equal(start.load(Relaxed) as usize * 8, attributes))
    }

    /// The series of `attributes`, if there is one.
    fn found(&self, stream: StreamId, attributes: &[u8]) -> Option<SeriesId> {
        let hash = hash_of(stream, attributes);
        let (at, entries) = (self.geometry.series_index_at, self.geometry.series_index);
        let matches = |number| self.is_series(number, hash, stream, attributes);
        self.find_or_insert(at, entries, hash, matches, || None).map(SeriesId)
    }

    fn new_series(
        &self,
        stream: StreamId,
        attributes: &[u8],
        hash: u64,
        flags: u32,
        now_unix_ns: u64,
    ) -> Option<SeriesId> {
        // Asked first, so that what is refused takes no memory.
        self.has_record(header::SERIES_NEXT, self.geometry.series)?;
        let keep = self.pool().floor();
        let start = self.pool().take_bytes(attributes.len(), keep)?;
        self.region.write_bytes(start, attributes).then_some(())?;
        let (kind, storage) = self.kind(stream)?;
        let histogram = if storage == Storage::Distribution {
            let mirror = storage.has_mirror(kind);
            Histogram::create(self.region, self.geometry, flags & OVERFLOW != 0, mirror, keep)?
        } else {
            0
        };
        let id = SeriesId(self.next_record(header::SERIES_NEXT, self.geometry.series)?);
        // The common lane must have room for every series, so that a recording always has somewhere to go.
        self.lanes().cell_at(0, id)?;
        let at = self.series_record(id)?;
        self.word(at + S_HASH)?.store(hash, Relaxed);
        self.half(at + S_ATTRIBUTES)?.store((start / 8) as u32, Relaxed);
        self.region.u16(at + S_LENGTH)?.store(attributes.len() as u16, Relaxed);
        self.region.u16(at + S_STREAM)?.store(stream.0 as u16, Relaxed);
        self.half(at + S_HISTOGRAM)?.store(histogram, Relaxed);
        self.word(at + S_START)?.store(now_unix_ns, Relaxed);
        self.half(at + S_FLAGS)?.store(flags | READY, Release);
        Some(id)
    }

    pub(crate) fn pool(&self) -> Pool<'a> {
        Pool::new(self.region, self.geometry)
    }

    pub(crate) fn lanes(&self) -> crate::lane::Lanes<'a> {
        crate::lane::Lanes {
            region: self.region,
            geometry: self.geometry,
        }
    }

    /// What the record of a complete series says; `None` if it is incomplete or cannot be right.
    pub fn read_series(&self, id: SeriesId) -> Option<SeriesRecord> {
        let at = self.series_record(id)?;
        let flags = self.half(at + S_FLAGS)?.load(Acquire);
        if flags & READY == 0 {
            return None;
        }
        let histogram = self.half(at + S_HISTOGRAM)?.load(Relaxed);
        let histogram_at = if histogram == 0 {
            None
        } else {
            Some(self.geometry.line(histogram)?)
        };
        Some(SeriesRecord {
            id,
            stream: StreamId(u32::from(self.region.u16(at + S_STREAM)?.load(Relaxed))),
            attributes_at: self.half(at + S_ATTRIBUTES)?.load(Relaxed) as usize * 8,
            attributes_len: usize::from(self.region.u16(at + S_LENGTH)?.load(Relaxed)),
            histogram_at,
            start_unix_ns: self.word(at + S_START)?.load(Relaxed),
            touched: flags & TOUCHED != 0,
            float: flags & FLOAT != 0,
            overflow: flags & OVERFLOW != 0,
        })
    }

    fn set_flag(&self, id: SeriesId, flag: u32) {
        if let Some(flags) = self.series_record(id).and_then(|at| self.half(at + S_FLAGS)) {
            if flags.load(Relaxed) & flag == 0 {
                flags.fetch_or(flag, AcqRel);
            }
        }
    }

    /// Notes that something was recorded; the start time of a series bound long before becomes that of its first use.
    pub fn touch(&self, id: SeriesId, now_unix_ns: u64) {
        let Some(at) = self.series_record(id) else { return };
        let untouched = self
            .half(at + S_FLAGS)
            .is_some_and(|flags| flags.load(Acquire) & TOUCHED == 0);
        if untouched {
            if let Some(start) = self.word(at + S_START) {
                start.store(now_unix_ns, Relaxed);
            }
            self.set_flag(id, TOUCHED);
        }
    }

    /// Notes that a float was recorded, so that the sum leaves as a float.
    pub fn mark_float(&self, id: SeriesId) {
        self.set_flag(id, FLOAT);
    }

    /// Counts a drop.
    pub fn count_drop(&self, reason: Drop) {
        if let Some(word) = self.word(header::DROPS + 8 * reason as usize) {
            word.fetch_add(1, Relaxed);
        }
    }

    /// Drops counted so far for a reason.
    pub fn drops(&self, reason: Drop) -> u64 {
        self.word(header::DROPS + 8 * reason as usize)
            .map_or(0, |word| word.load(Relaxed))
    }
}
