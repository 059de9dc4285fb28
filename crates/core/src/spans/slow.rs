//! The slowest spans of each name.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::record::Record;
use super::{Noted, Place, Span, SpanTable, GROUP};
use crate::clock::{monotonic_ns, unix_ns};
use crate::tables::SeriesId;

/// Groups among which a name looks for its own.
const PROBES: usize = 4;
/// Time for which a slow span is kept.
const KEPT_NS: u64 = 600_000_000_000;
/// Time after which the lock of a record is void.
const LOCK_NS: u64 = 1_000_000_000;

/// A span that was among the slowest of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowSpan {
    /// The span as it ended.
    pub span: Span,
    /// Nanoseconds that it took.
    pub duration_ns: u64,
    /// The series that its duration went into, if any: its bucket is the one of the duration.
    pub series: Option<SeriesId>,
}

/// A hash of a name that is the same in all processes: FNV-1a (Fowler, Noll, Vo), eight bytes at a time.
fn hash(name: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ name.len() as u64;
    for chunk in name.as_bytes().chunks(8) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(padded)).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 29;
    }
    hash.max(1)
}

impl<'a> SpanTable<'a> {
    /// Notes a span that ended, if it is among the slowest of its name. `attributes` are asked for only then. False if no group is left for the name.
    pub fn note_slow(
        &self,
        lane: usize,
        span: &Noted<'_>,
        duration_ns: u64,
        series: Option<SeriesId>,
        attributes: impl FnOnce() -> Vec<u8>,
    ) -> bool {
        let Some(place) = self.place().filter(|place| place.groups > 0) else {
            return false;
        };
        let end = span.start_unix_ns.saturating_add(duration_ns);
        let Some(first) = self.group(place, hash(span.name), end) else {
            return false;
        };
        if let Some(record) = self.fastest(place, first, duration_ns, end) {
            let attributes = attributes();
            locked(&record, || {
                record.write(|record| {
                    record.set(lane, span, &attributes);
                    record.set_duration(duration_ns, series.map_or(0, |series| series.0.wrapping_add(1)));
                });
            });
        }
        true
    }

    /// Index of the first record of a name's group: its own, or else one that is free or of which all spans are old.
    fn group(&self, place: Place, key: u64, now: u64) -> Option<usize> {
        let home = (key >> 32) as usize % place.groups;
        let groups = (0..PROBES.min(place.groups)).map(|step| place.active + (home + step) % place.groups * GROUP);
        let owner = |first| self.record(place, first)?.key();
        let mut free = None;
        for first in groups {
            let found = owner(first)?.load(Acquire);
            if found == key {
                return Some(first);
            }
            if free.is_none() && (found == 0 || self.is_old(place, first, now)) {
                free = Some((first, found));
            }
        }
        let (first, found) = free?;
        owner(first)?.compare_exchange(found, key, AcqRel, Relaxed).ok()?;
        for record in self.records(place, first) {
            // Those of the name that had it before are shown no more.
            record.duration()?.store(0, Relaxed);
            record.start()?.store(0, Relaxed);
        }
        Some(first)
    }

    fn records(&self, place: Place, first: usize) -> impl Iterator<Item = Record<'a>> + use<'a, '_> {
        (first..first + GROUP).filter_map(move |index| self.record(place, index))
    }

    fn is_old(&self, place: Place, first: usize, now: u64) -> bool {
        self.records(place, first)
            .all(|record| rank(&record, now).is_some_and(|rank| rank == 0))
    }

    /// The record to write for a span that took so long: one that is free or old, or else the fastest, if it was faster.
    fn fastest(&self, place: Place, first: usize, duration_ns: u64, now: u64) -> Option<Record<'a>> {
        let ranked = self
            .records(place, first)
            .filter_map(|record| Some((rank(&record, now)?, record)));
        let (rank, record) = ranked.min_by_key(|(rank, _)| *rank)?;
        (rank < duration_ns || rank == 0).then_some(record)
    }

    /// The slowest spans of the last ten minutes, the slowest first.
    pub fn slowest(&self) -> Vec<SlowSpan> {
        let Some(place) = self.place() else {
            return Vec::new();
        };
        let now = unix_ns();
        let mut found: Vec<SlowSpan> = (0..place.groups)
            .flat_map(|group| self.records(place, place.active + group * GROUP))
            .filter(|record| rank(record, now).is_some_and(|rank| rank > 0))
            .filter_map(|record| {
                let read = record.read()?;
                Some(SlowSpan {
                    span: read.span,
                    duration_ns: read.duration_ns,
                    series: read.series.checked_sub(1).map(SeriesId),
                })
            })
            .collect();
        found.sort_by_key(|slow| std::cmp::Reverse(slow.duration_ns));
        found
    }
}

/// How long the span of a record took; 0 if there is none, or an old one.
fn rank(record: &Record<'_>, now: u64) -> Option<u64> {
    let duration = record.duration()?.load(Relaxed);
    let end = record.start()?.load(Relaxed).saturating_add(duration);
    Some(if now.saturating_sub(end) > KEPT_NS { 0 } else { duration })
}

fn locked(record: &Record<'_>, write: impl FnOnce()) {
    let Some(lock) = record.lock() else { return };
    let (held, now) = (lock.load(Acquire), monotonic_ns().max(1));
    if (held == 0 || now.abs_diff(held) >= LOCK_NS) && lock.compare_exchange(held, now, AcqRel, Acquire).is_ok() {
        write();
        lock.store(0, Release);
    }
}
