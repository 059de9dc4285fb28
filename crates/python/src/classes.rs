//! The instruments as Python sees them: exact native types, whose recording methods are in `hot.rs`.

use otel_perf_core::instrument::Kind;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::bound::{BoundCounter, BoundGauge, BoundHistogram, BoundSeries, BoundUpDownCounter};
use crate::instruments::Instrument;
use crate::streams::Wanted;

macro_rules! instrument_class {
    ($name:ident, $bound:ident) => {
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
                &self.inner.descriptor.unit
            }
            #[getter]
            fn description(&self) -> &str {
                &self.inner.descriptor.description
            }
            #[getter]
            fn instrumentation_scope(&self, py: Python<'_>) -> Py<PyAny> {
                self.inner.scope.clone_ref(py)
            }
            fn _is_enabled(&self) -> bool {
                self.inner.gate.is_enabled()
            }
            fn _enable(&self, enabled: bool) {
                self.inner.enable(enabled);
            }
            fn _change_streams(&self, streams: Vec<Bound<'_, PyTuple>>) -> PyResult<()> {
                let kind = self.inner.gate.kind;
                self.inner.change_streams(wanted(kind, &streams)?);
                Ok(())
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
                let inner = BoundSeries::new(slf.as_any(), &slf.get().inner, attributes)?;
                Ok($bound { inner })
            }
        }

        impl AsRef<Instrument> for $name {
            fn as_ref(&self) -> &Instrument {
                &self.inner
            }
        }
    };
}

instrument_class!(Counter, BoundCounter);
instrument_class!(UpDownCounter, BoundUpDownCounter);
instrument_class!(Histogram, BoundHistogram);
instrument_class!(Gauge, BoundGauge);

/// The recording end of an observable instrument: takes what callbacks report.
#[pyclass(frozen, module = "otel_perf._core")]
pub struct Observer {
    pub inner: Instrument,
}

#[pymethods]
impl Observer {
    #[pyo3(signature = (value, attributes=None, context=None, since_ns=0))]
    fn observe(
        &self,
        value: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
        context: Option<&Bound<'_, PyAny>>,
        since_ns: u64,
    ) -> PyResult<()> {
        crate::hot::observe(&self.inner, value, attributes, context, since_ns)
    }
    fn _change_streams(&self, streams: Vec<Bound<'_, PyTuple>>) -> PyResult<()> {
        self.inner.change_streams(wanted(self.inner.gate.kind, &streams)?);
        Ok(())
    }
    fn __repr__(&self) -> String {
        self.inner.repr()
    }
}

/// The streams that Python asks for, without those that keep nothing.
pub fn wanted(kind: Kind, asked: &[Bound<'_, PyTuple>]) -> PyResult<Vec<Wanted>> {
    let read = asked.iter().map(|asked| Wanted::read(kind, asked));
    Ok(read.collect::<PyResult<Vec<_>>>()?.into_iter().flatten().collect())
}

/// What an object that is one of the instruments records through.
pub fn inner_of<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a Instrument> {
    macro_rules! of {
        ($($class:ty),*) => {
            None$(.or_else(|| object.cast::<$class>().ok().map(|found| found.get().as_ref())))*
        };
    }
    of!(Counter, UpDownCounter, Histogram, Gauge)
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
