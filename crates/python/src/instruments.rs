//! The instruments as Python sees them: exact native types, whose recording methods are in `hot.rs`.

use std::cell::UnsafeCell;
use std::sync::Arc;

use otel_perf_core::clock::unix_ns;
use otel_perf_core::drops::Drop;
use otel_perf_core::hdr::units_per_one;
use otel_perf_core::instrument::{Descriptor, Kind};
use otel_perf_core::local::LocalSeries;
use otel_perf_core::segment::Segment;
use otel_perf_core::tables::{InstrumentId, SeriesId};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use crate::attributes;
use crate::gate::Gate;
use crate::hooks;
use crate::lookup::{Borrowed, Lookup};

/// What all instruments share.
pub struct Instrument {
    /// What recordings pass first. While it is closed, `lookup` remembers nothing, so that only the slow path has to ask.
    pub gate: Gate,
    /// Its number, or none if the segment had no room for it: recordings are then counted as lost.
    id: Option<InstrumentId>,
    unit: String,
    description: String,
    scope: Py<PyAny>,
    per_one: f64,
    overflow: Option<Arc<LocalSeries>>,
    /// Invariant: touched only with the GIL held, and no reference into it is alive while Python code may run.
    lookup: UnsafeCell<Lookup>,
}

// SAFETY: the only field that is not `Sync` is `lookup`, which the GIL protects (the module does not declare itself free-threaded).
unsafe impl Sync for Instrument {}

impl Instrument {
    /// Creates or finds the instrument in the segment.
    pub fn new(segment: &Arc<Segment>, descriptor: &Descriptor, scope: Py<PyAny>, limit: u32) -> Instrument {
        let id = segment.instrument(descriptor, limit);
        let per_one = units_per_one(&descriptor.unit);
        let overflow = id
            .and_then(|id| segment.tables().overflow_of(id))
            .and_then(|series| LocalSeries::new(segment, series, per_one, None));
        Instrument {
            gate: Gate::new(segment, descriptor.kind, &descriptor.name),
            id: id.filter(|_| overflow.is_some()),
            unit: descriptor.unit.clone(),
            description: descriptor.description.clone(),
            scope,
            per_one,
            overflow,
            lookup: UnsafeCell::default(),
        }
    }

    /// Turns the instrument on or off; recordings of one that is off do nothing and cost one look into empty caches.
    fn enable(&self, enabled: bool) {
        self.gate.set_open(enabled);
        if !enabled {
            // SAFETY: the GIL is held, and what is dropped are references to strings and numbers: no Python code runs.
            unsafe { (*self.lookup.get()).forget() };
        }
    }

    /// The series of `attributes`, a borrowed object or null. `None` means that the recording is lost, and counted as such, unless
    /// an exception is set.
    ///
    /// # Safety
    /// The GIL is held. The answer is used only until Python code may run.
    // A call would cost a tenth of the whole.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub unsafe fn series(&self, py: Python<'_>, attributes: *mut ffi::PyObject) -> Option<&LocalSeries> {
        // SAFETY: the GIL is held; nothing below runs Python code before the slow path, which takes no reference along.
        let lookup = unsafe { &*self.lookup.get() };
        // SAFETY: comparing addresses, types and plain contents of live objects; the table keeps what it answers alive.
        unsafe {
            if attributes.is_null() || attributes == ffi::Py_None() {
                if let Some(series) = &lookup.default {
                    return Some(series);
                }
            } else if ffi::Py_TYPE(attributes) == &raw mut ffi::PyDict_Type {
                if let Some(series) = lookup
                    .by_version(attributes)
                    .or_else(|| lookup.by_last_addresses(attributes))
                {
                    return Some(series);
                }
            }
            self.series_elsewhere(py, attributes)
        }
    }

    /// As [`Instrument::series`], for what is not the last set again.
    ///
    /// # Safety
    /// As there.
    #[inline(never)]
    unsafe fn series_elsewhere(&self, py: Python<'_>, attributes: *mut ffi::PyObject) -> Option<&LocalSeries> {
        if !self.gate.is_open() {
            return None;
        }
        // SAFETY: as in `series`.
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
            }
        }
        // SAFETY: a live object or null; the GIL is held.
        let attributes = unsafe { Bound::from_borrowed_ptr_or_opt(py, attributes) };
        let found = hooks::guarded(&self.gate.segment, || self.find(attributes.as_ref())).flatten();
        if found.is_none() && !PyErr::occurred(py) {
            self.gate.segment.count_drop(Drop::NoInstrument);
        }
        let found = found?;
        // SAFETY: `by_id`, or `overflow`, keeps the series alive as long as the instrument; the caller promises not to run Python code.
        Some(unsafe { &*Arc::as_ptr(&found) })
    }

    /// Steps 2 and 3 of the lookup, for recording or, also while the instrument is off, for binding.
    #[cold]
    pub fn find(&self, attributes: Option<&Bound<'_, PyAny>>) -> Option<Arc<LocalSeries>> {
        let Some(attributes) = attributes.filter(|object| !object.is_none()) else {
            let series = self.series_of(&[])?;
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
                // SAFETY: the GIL is held; comparing plain objects runs no Python code; `by_id` keeps what was found alive.
                if let Some(series) = unsafe { (*self.lookup.get()).by_content(py, &borrowed).map(|found| &*found) } {
                    return self.local(series.id());
                }
                return self.find_plain(py, &borrowed, attributes);
            }
        }
        self.find_unusual(attributes)
    }

    fn find_plain(
        &self,
        py: Python<'_>,
        borrowed: &Borrowed,
        attributes: &Bound<'_, PyAny>,
    ) -> Option<Arc<LocalSeries>> {
        if !borrowed.is_plain() {
            return self.find_unusual(attributes);
        }
        let pairs = borrowed.to_owned(py);
        let bytes = attributes::canonical_of_pairs(&pairs).ok()?;
        let series = self.series_of(&bytes)?;
        if self.gate.is_open() && !self.is_overflow(&series) {
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
        let cleaned = hooks::clean(attributes)?;
        match cleaned
            .cast::<PyMapping>()
            .map_err(Into::into)
            .and_then(attributes::canonical)
        {
            Ok(bytes) => self.series_of(&bytes),
            Err(_) => self.overflowing(Drop::LongAttributes),
        }
    }

    fn is_overflow(&self, series: &Arc<LocalSeries>) -> bool {
        self.overflow
            .as_ref()
            .is_some_and(|overflow| Arc::ptr_eq(overflow, series))
    }

    fn overflowing(&self, reason: Drop) -> Option<Arc<LocalSeries>> {
        self.gate.segment.count_drop(reason);
        self.overflow.clone()
    }

    /// The series of canonical bytes, or the overflow series.
    fn series_of(&self, bytes: &[u8]) -> Option<Arc<LocalSeries>> {
        match self.gate.segment.tables().series(self.id?, bytes, unix_ns()) {
            Ok(id) => self.local(id),
            Err(reason) => self.overflowing(reason),
        }
    }

    fn local(&self, id: SeriesId) -> Option<Arc<LocalSeries>> {
        if let Some(overflow) = self.overflow.as_ref().filter(|overflow| overflow.id() == id) {
            return Some(Arc::clone(overflow));
        }
        // SAFETY: the GIL is held and nothing below runs Python code.
        let by_id = unsafe { &mut (*self.lookup.get()).by_id };
        if let Some(known) = by_id.get(&id.0) {
            return Some(Arc::clone(known));
        }
        let local = LocalSeries::new(&self.gate.segment, id, self.per_one, self.overflow.clone())?;
        by_id.insert(id.0, Arc::clone(&local));
        Some(local)
    }

    fn memory(&self) -> usize {
        // SAFETY: the GIL is held and nothing below runs Python code.
        unsafe {
            (*self.lookup.get()).memory() + size_of::<Instrument>() + self.gate.name.len() + self.description.len()
        }
    }

    fn repr(&self) -> String {
        format!(
            "<otel_perf.{} {} [{}]>",
            self.gate.kind.name(),
            self.gate.name,
            self.unit
        )
    }
}

/// A bound instrument's series with what its recordings are checked and reported by.
pub struct BoundSeries {
    pub instrument: Py<PyAny>,
    pub gate: Gate,
    /// None if the segment had no room for the instrument.
    pub series: Option<Arc<LocalSeries>>,
}

macro_rules! instrument_class {
    ($name:ident, $bound:ident, $bound_name:literal) => {
        #[doc = concat!("See `_core.pyi`.")]
        #[pyclass(frozen, weakref, module = "otel_perf._core")]
        pub struct $name {
            pub inner: Instrument,
        }

        #[pymethods]
        impl $name {
            #[getter]
            fn name(&self) -> &str {
                &self.inner.gate.name
            }
            #[getter]
            fn unit(&self) -> &str {
                &self.inner.unit
            }
            #[getter]
            fn description(&self) -> &str {
                &self.inner.description
            }
            #[getter]
            fn instrumentation_scope(&self, py: Python<'_>) -> Py<PyAny> {
                self.inner.scope.clone_ref(py)
            }
            fn _is_enabled(&self) -> bool {
                self.inner.gate.is_open()
            }
            fn _enable(&self, enabled: bool) {
                self.inner.enable(enabled);
            }
            #[getter]
            fn _memory(&self) -> usize {
                self.inner.memory()
            }
            fn __repr__(&self) -> String {
                self.inner.repr()
            }
            #[pyo3(signature = (attributes=None))]
            fn bind(slf: &Bound<'_, Self>, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<$bound> {
                let inner = &slf.get().inner;
                let series = hooks::guarded(&inner.gate.segment, || inner.find(attributes)).flatten();
                if let Some(error) = PyErr::take(slf.py()) {
                    return Err(error);
                }
                Ok($bound {
                    inner: BoundSeries {
                        instrument: slf.clone().into_any().unbind(),
                        gate: inner.gate.clone(),
                        series,
                    },
                })
            }
        }

        #[doc = concat!("See `_core.pyi`.")]
        #[pyclass(frozen, weakref, module = "otel_perf._core", name = $bound_name)]
        pub struct $bound {
            pub inner: BoundSeries,
        }

        #[pymethods]
        impl $bound {
            #[getter]
            fn instrument(&self, py: Python<'_>) -> Py<PyAny> {
                self.inner.instrument.clone_ref(py)
            }
            fn __repr__(&self) -> String {
                format!("<otel_perf.{} {}>", $bound_name, self.inner.gate.name)
            }
        }
    };
}

instrument_class!(Counter, BoundCounter, "BoundCounter");
instrument_class!(UpDownCounter, BoundUpDownCounter, "BoundUpDownCounter");
instrument_class!(Histogram, BoundHistogram, "BoundHistogram");
instrument_class!(Gauge, BoundGauge, "BoundGauge");

/// The recording end of an observable instrument: takes what callbacks report.
#[pyclass(frozen, module = "otel_perf._core")]
pub struct Observer {
    pub inner: Instrument,
}

#[pymethods]
impl Observer {
    #[pyo3(signature = (value, attributes=None))]
    fn observe(&self, value: &Bound<'_, PyAny>, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        crate::hot::observe(&self.inner, value, attributes)
    }
    fn __repr__(&self) -> String {
        self.inner.repr()
    }
}

/// Makes the Python object for an instrument of this kind.
pub fn new_object(py: Python<'_>, inner: Instrument) -> PyResult<Py<PyAny>> {
    Ok(match inner.gate.kind {
        Kind::Counter => Py::new(py, Counter { inner })?.into_any(),
        Kind::UpDownCounter => Py::new(py, UpDownCounter { inner })?.into_any(),
        Kind::Histogram => Py::new(py, Histogram { inner })?.into_any(),
        Kind::Gauge => Py::new(py, Gauge { inner })?.into_any(),
        _ => Py::new(py, Observer { inner })?.into_any(),
    })
}
