//! Bound instruments: the lookup of attributes paid once.

use std::cell::UnsafeCell;
use std::sync::Arc;

use otel_perf_core::drops::Drop;
use otel_perf_core::local::LocalSeries;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use crate::classes::inner_of;
use crate::exemplars::Recorder;
use crate::gate::Gate;
use crate::hooks;
use crate::instruments::Instrument;
use crate::streams::Streams;

/// What was found for the attributes while the gate was in this state.
struct Found {
    state: u32,
    /// None if the segment had no room, or the gate is closed.
    series: Option<Arc<LocalSeries>>,
    streams: Arc<Streams>,
}

/// A bound instrument's series with what its recordings are checked and reported by.
pub struct BoundSeries {
    instrument: Py<PyAny>,
    pub gate: Gate,
    /// Clean, and nobody else's.
    attributes: Option<Py<PyDict>>,
    /// Invariant: touched only with the GIL held, and no reference into it is alive while Python code may run.
    found: UnsafeCell<Found>,
}

// SAFETY: the only field that is not `Sync` is `found`, which the GIL protects.
unsafe impl Sync for BoundSeries {}

impl Recorder for BoundSeries {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn streams(&self) -> Arc<Streams> {
        // SAFETY: the GIL is held and nothing here runs Python code.
        unsafe { Arc::clone(&(*self.found.get()).streams) }
    }

    unsafe fn series(&self, py: Python<'_>, _: *mut ffi::PyObject) -> Option<&LocalSeries> {
        if !self.gate.is_open() {
            return None;
        }
        // SAFETY: the GIL is held; nothing refers to the cell.
        if unsafe { (*self.found.get()).state } != self.gate.state() {
            let object = self.instrument.bind(py).clone();
            if let Some(inner) = inner_of(&object) {
                self.find(py, inner);
            }
        }
        // SAFETY: as above, and the caller's promise.
        let found = unsafe { &*self.found.get() };
        if found.series.is_none() {
            self.gate.count_drop(Drop::NoInstrument);
        }
        found.series.as_deref()
    }

    fn bound_attributes<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let attributes = self.attributes.as_ref()?;
        Some(attributes.bind(py).clone().into_any())
    }
}

impl BoundSeries {
    /// Binds attributes to an instrument; `object` is the instrument as Python has it.
    pub fn new(
        object: &Bound<'_, PyAny>,
        inner: &Instrument,
        attributes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<BoundSeries> {
        let py = object.py();
        let attributes = match attributes.filter(|attributes| !attributes.is_none()) {
            Some(given) => {
                if given.cast::<PyMapping>().is_err() {
                    inner.gate.count_drop(Drop::WrongType);
                }
                let Some(cleaned) = hooks::clean(given) else {
                    return Err(PyErr::fetch(py));
                };
                Some(cleaned)
            }
            None => None,
        };
        let bound = BoundSeries {
            instrument: object.clone().unbind(),
            gate: inner.gate.clone(),
            attributes: attributes.map(Bound::unbind),
            found: UnsafeCell::new(Found {
                state: 0,
                series: None,
                streams: inner.streams(),
            }),
        };
        bound.find(py, inner);
        PyErr::take(py).map_or(Ok(bound), Err)
    }

    /// Looks the series up for the state that the gate is in now.
    fn find(&self, py: Python<'_>, inner: &Instrument) {
        let state = self.gate.state();
        let series = if self.gate.is_open() {
            let attributes = self.bound_attributes(py);
            hooks::guarded(&self.gate.segment, || inner.find(attributes.as_ref())).flatten()
        } else {
            None
        };
        let found = Found {
            state,
            series,
            streams: inner.streams(),
        };
        // SAFETY: the GIL is held. What was there before is dropped when nothing refers to the cell any more.
        let old = unsafe { std::mem::replace(&mut *self.found.get(), found) };
        drop(old);
    }

    /// Whether recordings are written nowhere; what was bound before that is found out later.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        // SAFETY: the GIL is held.
        unsafe { (*self.found.get()).series.is_none() && !self.gate.is_open() }
    }

    /// The series to record into, if it is still that of the state that the gate is in; always `None` while the gate is closed.
    ///
    /// # Safety
    /// The GIL is held. The answer is used only until Python code may run.
    // See `Instrument::last_series`.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub unsafe fn last_series(&self, _: *mut ffi::PyObject) -> Option<&LocalSeries> {
        // SAFETY: the GIL is held; see the caller's promise.
        let found = unsafe { &*self.found.get() };
        if found.state == self.gate.state() {
            found.series.as_deref()
        } else {
            None
        }
    }
}

macro_rules! bound_class {
    ($bound:ident, $bound_name:literal) => {
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

bound_class!(BoundCounter, "BoundCounter");
bound_class!(BoundUpDownCounter, "BoundUpDownCounter");
bound_class!(BoundHistogram, "BoundHistogram");
bound_class!(BoundGauge, "BoundGauge");
