//! What all instruments share: from attributes to the series of every stream.

use std::cell::UnsafeCell;
use std::sync::Arc;

use otel_perf_core::clock::unix_ns;
use otel_perf_core::drops::Drop;
use otel_perf_core::instrument::Descriptor;
use otel_perf_core::local::LocalSeries;
use otel_perf_core::segment::Segment;
use otel_perf_core::tables::SeriesId;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use crate::dict::Borrowed;
use crate::exemplars::Recorder;
use crate::gate::Gate;
use crate::hooks;
use crate::lookup::{is_plain, owned, Lookup};
use crate::streams::{ExemplarFilter, StreamEntry, Streams, Wanted};

/// What all instruments share.
pub struct Instrument {
    /// What recordings pass first. While it is closed, `lookup` remembers nothing, so that only the slow path has to ask.
    pub gate: Gate,
    pub descriptor: Descriptor,
    pub scope: Py<PyAny>,
    /// Invariant: as that of `lookup`.
    streams: UnsafeCell<Arc<Streams>>,
    /// Invariant: touched only with the GIL held, and no reference into it is alive while Python code may run.
    lookup: UnsafeCell<Lookup>,
}

// SAFETY: the only fields that are not `Sync` are the cells, which the GIL protects (the module does not declare itself free-threaded).
unsafe impl Sync for Instrument {}

impl Recorder for Instrument {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn streams(&self) -> Arc<Streams> {
        // SAFETY: the GIL is held and nothing here runs Python code.
        unsafe { Arc::clone(&*self.streams.get()) }
    }

    unsafe fn series(&self, py: Python<'_>, attributes: *mut ffi::PyObject) -> Option<&LocalSeries> {
        if !self.gate.is_open() {
            return None;
        }
        // SAFETY: the GIL is held; comparing addresses, types and plain contents of live objects, before the last step, which takes no reference
        // into the lookup along; the table keeps what it answers alive.
        unsafe {
            if !attributes.is_null() && ffi::Py_TYPE(attributes) == &raw mut ffi::PyDict_Type {
                let mut borrowed = Borrowed::empty();
                if borrowed.fill(attributes) {
                    if let Some(series) = (*self.lookup.get()).by_address(attributes, &borrowed) {
                        return Some(series);
                    }
                    let lookup = &mut *self.lookup.get();
                    if let Some(series) =
                        hooks::guarded(&self.gate.segment, || lookup.by_content(py, &borrowed)).flatten()
                    {
                        return Some(&*series);
                    }
                }
            } else if let Some(series) = self.last_series(attributes) {
                return Some(series);
            }
        }
        // SAFETY: a live object or null; the GIL is held.
        let attributes = unsafe { Bound::from_borrowed_ptr_or_opt(py, attributes) };
        let found = hooks::guarded(&self.gate.segment, || self.find(attributes.as_ref())).flatten();
        if found.is_none() && !PyErr::occurred(py) {
            self.gate.segment.count_drop(Drop::NoInstrument);
        }
        let found = found?;
        // SAFETY: `by_id`, `heads` or the streams keep the series alive as long as these do; the caller promises not to run Python code.
        Some(unsafe { &*Arc::as_ptr(&found) })
    }

    fn bound_attributes<'py>(&self, _: Python<'py>) -> Option<Bound<'py, PyAny>> {
        None
    }
}

impl Instrument {
    /// An instrument with its streams.
    pub fn new(
        segment: &Arc<Segment>,
        descriptor: Descriptor,
        scope: Py<PyAny>,
        wanted: Vec<Wanted>,
        filter: ExemplarFilter,
    ) -> Instrument {
        let gate = Gate::new(segment, descriptor.kind, &descriptor.name);
        let streams = Streams::new(segment, &descriptor, wanted, filter);
        gate.set_recording(streams.records());
        let lookup = Lookup::new(gate.is_open());
        Instrument {
            gate,
            descriptor,
            scope,
            streams: UnsafeCell::new(streams),
            lookup: UnsafeCell::new(lookup),
        }
    }

    /// Gives the instrument other streams, for readers that came or went. Those it had before keep what was recorded.
    pub fn change_streams(&self, wanted: Vec<Wanted>) {
        let streams = Streams::new(&self.gate.segment, &self.descriptor, wanted, self.streams().filter);
        self.gate.set_recording(streams.records());
        // SAFETY: the GIL is held, and what is dropped are series, strings and numbers; the old streams, which may hold more, are dropped last.
        let old = unsafe {
            (*self.lookup.get()) = Lookup::new(self.gate.is_open());
            std::mem::replace(&mut *self.streams.get(), streams)
        };
        drop(old);
    }

    /// Turns the instrument on or off; recordings of one that is off do nothing and cost one look into empty caches.
    pub fn enable(&self, enabled: bool) {
        self.gate.set_enabled(enabled);
        // SAFETY: the GIL is held, and what is dropped are references to strings and numbers: no Python code runs.
        let lookup = unsafe { &mut *self.lookup.get() };
        lookup.open = self.gate.is_open();
        if !enabled {
            lookup.forget();
        }
    }

    /// Whether recordings are written nowhere.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        // SAFETY: the GIL is held.
        unsafe { !(*self.lookup.get()).open }
    }

    /// The series of `attributes`, a borrowed object or null, if they are those of the last recording; always `None` while the gate is closed.
    ///
    /// # Safety
    /// The GIL is held. The answer is used only until Python code may run.
    // A call would cost a tenth of the whole.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub unsafe fn last_series(&self, attributes: *mut ffi::PyObject) -> Option<&LocalSeries> {
        // SAFETY: the GIL is held; comparing addresses of live objects; the table keeps what it answers alive.
        unsafe {
            let lookup = &*self.lookup.get();
            if attributes.is_null() || attributes == ffi::Py_None() {
                lookup.default.as_deref()
            } else if ffi::Py_TYPE(attributes) == &raw mut ffi::PyDict_Type {
                lookup.last(attributes)
            } else {
                None
            }
        }
    }

    /// Steps 2 and 3 of the lookup, for recording or, also while the instrument is off, for binding.
    #[cold]
    pub fn find(&self, attributes: Option<&Bound<'_, PyAny>>) -> Option<Arc<LocalSeries>> {
        let Some(attributes) = attributes.filter(|object| !object.is_none()) else {
            let (series, _) = self.series_of(&[])?;
            if self.gate.is_open() {
                // SAFETY: the GIL is held and nothing below runs Python code.
                unsafe { (*self.lookup.get()).default = Some(Arc::clone(&series)) };
            }
            return Some(series);
        };
        let py = attributes.py();
        if let Ok(dict) = attributes.cast_exact::<PyDict>() {
            let mut borrowed = Borrowed::empty();
            // SAFETY: an exact dict, the GIL is held; the pairs become owned before Python code may run.
            if unsafe { borrowed.fill(dict.as_ptr()) } {
                // SAFETY: the GIL is held; comparing plain objects runs no Python code; every `LocalSeries` is in an `Arc`.
                let known = unsafe { (*self.lookup.get()).by_content(py, &borrowed).map(|found| owned(found)) };
                if known.is_some() {
                    return known;
                }
                if is_plain(&borrowed) {
                    return self.find_plain(py, &borrowed);
                }
            }
        }
        self.find_unusual(attributes)
    }

    fn find_plain(&self, py: Python<'_>, borrowed: &Borrowed) -> Option<Arc<LocalSeries>> {
        let pairs = borrowed.to_owned(py);
        let (series, overflowed) = self.series_of(&pairs)?;
        if self.gate.is_open() && !overflowed {
            // SAFETY: the GIL is held and inserting runs no Python code. The pairs are still alive: `pairs` owns them.
            unsafe { (*self.lookup.get()).insert(py, borrowed, &series) };
        }
        Some(series)
    }

    /// Attributes that need the SDK's cleaning: other mappings, nested or mutable values, odd keys, wrong types.
    fn find_unusual(&self, attributes: &Bound<'_, PyAny>) -> Option<Arc<LocalSeries>> {
        if attributes.cast::<PyMapping>().is_err() {
            self.gate.segment.count_drop(Drop::WrongType);
        }
        let pairs: Vec<_> = hooks::clean(attributes)?.iter().collect();
        self.series_of(&pairs).map(|(series, _)| series)
    }

    /// What clean attributes are recorded into, and whether a stream had no room but in its overflow series. `None` if there is no stream.
    fn series_of(&self, pairs: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)]) -> Option<(Arc<LocalSeries>, bool)> {
        let streams = self.streams();
        let tables = self.gate.segment.tables();
        let mut overflowed = false;
        let mut ids = Vec::with_capacity(streams.entries.len());
        for entry in &streams.entries {
            let found = match entry.canonical(pairs) {
                Ok(bytes) => tables.series(entry.local.id, &bytes, unix_ns()),
                Err(_) => Err(Drop::LongAttributes),
            };
            ids.push(found.unwrap_or_else(|reason| {
                self.gate.segment.count_drop(reason);
                overflowed = true;
                entry.overflow.id()
            }));
        }
        // SAFETY: the GIL is held and nothing below runs Python code.
        let lookup = unsafe { &mut *self.lookup.get() };
        if let [id] = ids[..] {
            return Some((self.local(lookup, &streams.entries[0], id, Vec::new())?, overflowed));
        }
        if let Some(known) = lookup.heads.get(&ids[..]) {
            return Some((Arc::clone(known), overflowed));
        }
        let others = streams.entries.iter().zip(&ids).skip(1);
        let others = others.filter_map(|(entry, id)| self.local(lookup, entry, *id, Vec::new()));
        let others: Vec<_> = others.collect();
        let head = self.local(lookup, streams.entries.first()?, *ids.first()?, others)?;
        lookup.heads.insert(ids.into_boxed_slice(), Arc::clone(&head));
        Some((head, overflowed))
    }

    /// The series of a stream in this process, shared unless other series get the same recordings.
    fn local(
        &self,
        lookup: &mut Lookup,
        entry: &StreamEntry,
        id: SeriesId,
        also: Vec<Arc<LocalSeries>>,
    ) -> Option<Arc<LocalSeries>> {
        let overflow = (entry.overflow.id() != id).then(|| Arc::clone(&entry.overflow));
        if !also.is_empty() {
            return LocalSeries::new(&self.gate.segment, &entry.local, id, overflow, also);
        }
        if overflow.is_none() {
            return Some(Arc::clone(&entry.overflow));
        }
        if let Some(known) = lookup.by_id.get(&id.0) {
            return Some(Arc::clone(known));
        }
        let local = LocalSeries::new(&self.gate.segment, &entry.local, id, overflow, also)?;
        lookup.by_id.insert(id.0, Arc::clone(&local));
        Some(local)
    }

    pub fn memory(&self) -> usize {
        // SAFETY: the GIL is held and nothing below runs Python code.
        unsafe {
            (*self.lookup.get()).memory()
                + size_of::<Instrument>()
                + self.gate.name.len()
                + self.descriptor.description.len()
        }
    }

    pub fn repr(&self) -> String {
        format!(
            "<otel_perf.{} {} [{}]>",
            self.gate.kind.name(),
            self.gate.name,
            self.descriptor.unit
        )
    }
}
