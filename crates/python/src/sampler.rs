//! The sampler that has dropped spans recorded: what it adds to a call must be little, because it is made for every span.
//!
//! `unsafe` rests on the vector call convention, see `hot.rs`.

use std::ptr;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use crate::instance::Place;

type Object = *mut ffi::PyObject;

/// Place of the attributes among the arguments of a sampler.
const ATTRIBUTES: ffi::Py_ssize_t = 4;

static DECISION: Place = Place::new();

/// See `_core.pyi`.
#[pyclass(frozen, weakref, module = "otel_perf._core")]
pub struct AllRecorder {
    /// What the other sampler is asked by.
    should_sample: Py<PyAny>,
    result_class: Py<PyAny>,
    drop: Py<PyAny>,
    record_only: Py<PyAny>,
}

#[pymethods]
impl AllRecorder {
    #[new]
    fn new(should_sample: Py<PyAny>, result_class: Py<PyAny>, drop: Py<PyAny>, record_only: Py<PyAny>) -> AllRecorder {
        AllRecorder {
            should_sample,
            result_class,
            drop,
            record_only,
        }
    }
}

impl AllRecorder {
    /// Turns an answer that drops a span that begins with these attributes, or null, into one that records it. A reference to the answer is taken over.
    unsafe fn record(&self, py: Python<'_>, result: Object, attributes: Object) -> PyResult<Object> {
        // SAFETY: the caller gives a reference to a live object away, and borrows another one or null; the GIL is held.
        unsafe {
            let is_ours = ffi::Py_REFCNT(result) == 1 && ffi::Py_TYPE(result).cast() == self.result_class.as_ptr();
            let result: Bound<'_, PyAny> = Bound::from_owned_ptr(py, result);
            let given = Bound::from_borrowed_ptr_or_opt(py, attributes);
            let given = match given {
                Some(given) if !given.is_none() && given.is_truthy()? => Some(given),
                _ => None,
            };
            if !is_ours {
                // Somebody keeps it.
                let trace_state = result.getattr(intern!(py, "trace_state"))?;
                let copy = self
                    .result_class
                    .bind(py)
                    .call1((self.record_only.bind(py), given, trace_state))?;
                return Ok(copy.into_ptr());
            }
            // It was made for this call: another one would take longer than all the rest.
            result.setattr(intern!(py, "decision"), self.record_only.bind(py))?;
            if let Some(given) = given {
                // Samplers that drop a span leave out what it begins with.
                result.setattr(intern!(py, "attributes"), given)?;
            }
            Ok(result.into_ptr())
        }
    }
}

/// What the sampler answers: the other one's answer, recording in place of dropping.
pub unsafe extern "C" fn should_sample(
    slf: Object,
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> Object {
    // SAFETY: the calling convention; `slf` is an instance of the class, which the descriptor has checked. What is called returns a new reference or null.
    unsafe {
        let py = Python::assume_attached();
        let slf = Borrowed::from_ptr(py, slf).cast_unchecked::<AllRecorder>();
        let own = slf.get();
        let result = ffi::PyObject_Vectorcall(own.should_sample.as_ptr(), args, nargs as usize, kwnames);
        if result.is_null() || result == ffi::Py_None() {
            return result;
        }
        let answered = Borrowed::from_ptr(py, result);
        let decision = DECISION
            .get(&answered, |py| intern!(py, "decision"))
            .map_or_else(|| answered.getattr(intern!(py, "decision")), Ok);
        let is_dropped = match decision {
            Ok(decision) => decision.is(&own.drop),
            // What is no answer is the SDK's to find out.
            Err(_) => return result,
        };
        if !is_dropped {
            return result;
        }
        own.record(py, result, argument(args, nargs, kwnames))
            .unwrap_or_else(|error| {
                error.restore(py);
                ptr::null_mut()
            })
    }
}

/// The attributes among the arguments of a call; null if they are not given.
unsafe fn argument(args: *const Object, nargs: ffi::Py_ssize_t, kwnames: Object) -> Object {
    // SAFETY: the calling convention; names of arguments are strings.
    unsafe {
        if nargs > ATTRIBUTES {
            return *args.offset(ATTRIBUTES);
        }
        if !kwnames.is_null() {
            for index in 0..ffi::PyTuple_GET_SIZE(kwnames) {
                let name = ffi::PyTuple_GET_ITEM(kwnames, index);
                if ffi::PyUnicode_CompareWithASCIIString(name, c"attributes".as_ptr()) == 0 {
                    return *args.offset(nargs + index);
                }
            }
        }
        ptr::null_mut()
    }
}
