//! From an attributes dict to its series, without copying it: the process-local half of the attribute lookup.
//!
//! Three steps, each for what the one before did not find:
//!
//! 1. *Ways*: the last four sets seen, compared by the version of the dict, where the interpreter keeps one, and else by the addresses of
//!    keys and values. A way owns references to those objects, so that an
//!    address cannot come to mean something else, and holds only objects that cannot change (exact `str`, `int`, `float`, `bool`, `bytes`, `None`).
//! 2. *Table*: every set seen, found by the hashes that strings cache anyway and compared by content and type. The order of the pairs does not matter.
//! 3. Canonical bytes and the shared table of the segment: only here anything is allocated.
//!
//! A process's own `hash(str)` never leaves this file. All of it runs with the GIL held, and no step that may run Python code
//! (step 3 does, for unusual attributes) does so while a reference into [`Lookup`] is alive.

// The glue is compiled for size and would call these; a call costs a tenth of a recording.
#![allow(clippy::inline_always)]

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashTable;
use otel_perf_core::local::LocalSeries;
use otel_perf_core::tables::SeriesId;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::dict::{len, next, pairs, version, Borrowed, Pair, NO_VERSION};
use crate::plain::{hash_key, hash_value, same};

const WAYS: usize = 4;
/// Table hits after which one becomes a way.
const HITS_PER_WAY: u32 = 8;

type Object = *mut ffi::PyObject;

/// Whether all keys and values are of the exact plain types that steps 1 and 2 may remember.
pub fn is_plain(borrowed: &Borrowed) -> bool {
    hash(borrowed).is_some()
}

/// Hash by content, the same whatever the order of the pairs; `None` if a key or value is not of an exact plain type.
fn hash(borrowed: &Borrowed) -> Option<u64> {
    let pairs = borrowed.pairs();
    let mut sum = pairs.len() as u64;
    for pair in pairs {
        // SAFETY: live objects, the GIL is held.
        let (key, value) = unsafe { (hash_key(pair.key)?, hash_value(pair.value)?) };
        sum = sum.wrapping_add(mix(key ^ mix(value)));
    }
    Some(mix(sum))
}

#[inline]
fn mix(x: u64) -> u64 {
    // The finaliser of MurmurHash3.
    let x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// References that are owned, so that their addresses stay theirs.
struct Owned {
    pairs: Box<[(Py<PyAny>, Py<PyAny>)]>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: caches change, and instruments are deallocated, only with the GIL held.
        let py = unsafe { Python::assume_attached() };
        // The raw recording methods enter native code behind PyO3's back, which would therefore set the references aside until
        // it is entered again: for a thread that does nothing but record, never.
        for (key, value) in std::mem::take(&mut self.pairs) {
            drop((key.into_bound(py), value.into_bound(py)));
        }
    }
}

impl Owned {
    fn new(py: Python<'_>, borrowed: &Borrowed) -> Owned {
        let pairs = borrowed.to_owned(py);
        Owned {
            pairs: pairs.into_iter().map(|(k, v)| (k.unbind(), v.unbind())).collect(),
        }
    }

    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn has_addresses_of(&self, pairs: &[Pair]) -> bool {
        self.pairs.len() == pairs.len()
            && self
                .pairs
                .iter()
                .zip(pairs)
                .all(|(own, pair)| own.0.as_ptr() == pair.key && own.1.as_ptr() == pair.value)
    }

    /// As [`Owned::has_addresses_of`], for a dict whose pairs have to be asked for.
    ///
    /// # Safety
    /// `dict` is an exact dict, the GIL is held.
    unsafe fn has_addresses_in(&self, dict: Object) -> bool {
        let mut position = 0;
        // SAFETY: the caller's promise; what is answered is only compared.
        unsafe {
            len(dict) == self.pairs.len()
                && self.pairs.iter().all(|own| {
                    next(dict, &mut position)
                        .is_some_and(|pair| own.0.as_ptr() == pair.key && own.1.as_ptr() == pair.value)
                })
        }
    }

    fn equals(&self, borrowed: &Borrowed) -> bool {
        let is_same = |own: &(Py<PyAny>, Py<PyAny>), theirs: &Pair| {
            // SAFETY: the table holds exact plain types only, and `hash` accepted the other side; the GIL is held.
            unsafe { same(own.0.as_ptr(), theirs.key) && same(own.1.as_ptr(), theirs.value) }
        };
        let theirs = borrowed.pairs();
        self.pairs.len() == theirs.len()
            && (self.pairs.iter().zip(theirs).all(|(a, b)| is_same(a, b))
                || self
                    .pairs
                    .iter()
                    .all(|own| theirs.iter().any(|pair| is_same(own, pair))))
    }
}

struct Way {
    pairs: Owned,
    series: Arc<LocalSeries>,
    /// Version of the dict that last had these addresses.
    version: Cell<u64>,
}

struct Entry {
    hash: u64,
    pairs: Owned,
    series: Arc<LocalSeries>,
}

/// A reference to a series that keeps it alive while Python code runs.
///
/// # Safety
/// The series is alive; every `LocalSeries` is in an `Arc`.
pub unsafe fn owned(series: *const LocalSeries) -> Arc<LocalSeries> {
    // SAFETY: the caller's promise.
    unsafe {
        Arc::increment_strong_count(series);
        Arc::from_raw(series)
    }
}

/// Caches of one instrument.
#[derive(Default)]
pub struct Lookup {
    /// Whether the gate is open, here because it is asked for at every recording.
    pub open: bool,
    ways: [Option<Way>; WAYS],
    /// The way that was hit or filled last; the next one is filled next.
    last_way: Cell<usize>,
    table: HashTable<Entry>,
    content_hits: u32,
    /// The series without attributes.
    pub default: Option<Arc<LocalSeries>>,
    /// All series of the instrument that this process records into, by number.
    pub by_id: HashMap<u32, Arc<LocalSeries>>,
    /// What is recorded into where there are several streams, by the numbers of the series in each.
    pub heads: HashMap<Box<[SeriesId]>, Arc<LocalSeries>>,
}

impl Lookup {
    /// Empty caches of an instrument whose gate is open, or not.
    pub fn new(open: bool) -> Lookup {
        Lookup {
            open,
            ..Lookup::default()
        }
    }

    /// Step 1 for the last set again: in a dict that was not changed since it was last seen here, whose pairs need not be looked at, or in one
    /// with the same addresses, as a literal in a loop has.
    ///
    /// # Safety
    /// `dict` is an exact dict, the GIL is held.
    #[inline(always)]
    pub unsafe fn last(&self, dict: Object) -> Option<&LocalSeries> {
        let way = self.ways[self.last_way.get()].as_ref()?;
        // SAFETY: the caller's promise; the pairs are only compared.
        unsafe {
            let version = version(dict);
            if version == way.version.get() && version != NO_VERSION {
                return Some(&way.series);
            }
            let same = match pairs(dict) {
                Some(pairs) => way.pairs.has_addresses_of(pairs),
                None => way.pairs.has_addresses_in(dict),
            };
            if !same {
                return None;
            }
            way.version.set(version);
        }
        Some(&way.series)
    }

    /// Step 1.
    ///
    /// # Safety
    /// `borrowed` was filled from `dict`, and the GIL is held.
    #[inline]
    pub unsafe fn by_address(&self, dict: Object, borrowed: &Borrowed) -> Option<&LocalSeries> {
        let last = self.last_way.get();
        for step in 0..WAYS {
            let index = (last + step) % WAYS;
            if let Some(way) = self.ways[index]
                .as_ref()
                .filter(|way| way.pairs.has_addresses_of(borrowed.pairs()))
            {
                self.last_way.set(index);
                // SAFETY: the caller's promise.
                way.version.set(unsafe { version(dict) });
                return Some(&way.series);
            }
        }
        None
    }

    /// Step 2. What it answers lives as long as the instrument.
    pub fn by_content(&mut self, py: Python<'_>, borrowed: &Borrowed) -> Option<*const LocalSeries> {
        let hash = hash(borrowed)?;
        let entry = self
            .table
            .find(hash, |entry| entry.hash == hash && entry.pairs.equals(borrowed))?;
        let found = Arc::as_ptr(&entry.series);
        // Strings that are built for every call never come by the same address again, and a way costs more than a look into the table. So
        // only one hit in a few becomes a way: what recurs gets there soon.
        self.content_hits = self.content_hits.wrapping_add(1);
        if self.content_hits % HITS_PER_WAY == 0 {
            let series = Arc::clone(&entry.series);
            self.put_way(py, borrowed, &series);
        }
        Some(found)
    }

    fn put_way(&mut self, py: Python<'_>, borrowed: &Borrowed, series: &Arc<LocalSeries>) {
        let way = Way {
            pairs: Owned::new(py, borrowed),
            series: Arc::clone(series),
            version: Cell::new(NO_VERSION),
        };
        let next = (self.last_way.get() + 1) % WAYS;
        self.last_way.set(next);
        // What is dropped here are strings and numbers, whose deallocation runs no Python code.
        self.ways[next] = Some(way);
    }

    /// Remembers a set that step 3 found.
    pub fn insert(&mut self, py: Python<'_>, borrowed: &Borrowed, series: &Arc<LocalSeries>) {
        let Some(hash) = hash(borrowed) else { return };
        let entry = Entry {
            hash,
            pairs: Owned::new(py, borrowed),
            series: Arc::clone(series),
        };
        self.table.insert_unique(hash, entry, |entry| entry.hash);
        self.put_way(py, borrowed, series);
    }

    /// Forgets what steps 1 and 2 know; the series stay.
    pub fn forget(&mut self) {
        self.ways = Default::default();
        self.table.clear();
        self.default = None;
    }

    /// Bytes that the caches take, an estimate from sizes and capacities.
    pub fn memory(&self) -> usize {
        let pairs = |pairs: &Owned| pairs.pairs.len() * size_of::<(Py<PyAny>, Py<PyAny>)>();
        size_of::<Lookup>()
            + self.ways.iter().flatten().map(|way| pairs(&way.pairs)).sum::<usize>()
            + self.table.capacity() * (size_of::<Entry>() + 1)
            + self.table.iter().map(|entry| pairs(&entry.pairs)).sum::<usize>()
            + self.by_id.capacity() * (size_of::<(u32, Arc<LocalSeries>)>() + 1)
            + (self.by_id.len() + self.heads.len()) * (size_of::<LocalSeries>() + 16)
            + self.heads.capacity() * (size_of::<(Box<[SeriesId]>, Arc<LocalSeries>)>() + 1)
    }
}
