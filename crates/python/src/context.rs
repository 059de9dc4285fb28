//! The span that is current, read without running Python code where the API's own classes are used.

use otel_perf_core::exemplar::SpanIds;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{ffi, intern};

use crate::unsampled::UnsampledSpan;

struct Sources {
    /// The variable of `contextvars` that holds the current context; none if the API keeps it elsewhere.
    variable: Option<Py<PyAny>>,
    /// Answers the current context.
    get_current: Py<PyAny>,
    /// Key of the span in a context.
    span_key: Py<PyString>,
}

static SOURCES: PyOnceLock<Sources> = PyOnceLock::new();

/// States once where the current context is: the context variable or none, a callable that answers the current context, and the key of the span
/// in it.
#[pyfunction]
#[pyo3(signature = (variable, get_current, span_key))]
pub fn set_context(py: Python<'_>, variable: Option<Py<PyAny>>, get_current: Py<PyAny>, span_key: Py<PyString>) {
    let sources = Sources {
        variable,
        get_current,
        span_key,
    };
    let _ = SOURCES.set(py, sources);
}

fn current<'py>(py: Python<'py>, sources: &Sources) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(variable) = &sources.variable else {
        return sources.get_current.bind(py).call0().map(Some);
    };
    let mut value = std::ptr::null_mut();
    // SAFETY: the GIL is held; what is no context variable makes the call fail. The answer is a new reference, or null if there is no value.
    unsafe {
        if ffi::PyContextVar_Get(variable.as_ptr(), std::ptr::null_mut(), &raw mut value) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Bound::from_owned_ptr_or_opt(py, value))
    }
}

fn span_of<'py>(context: &Bound<'py, PyAny>, sources: &Sources) -> PyResult<Option<Bound<'py, PyAny>>> {
    match context.cast::<PyDict>() {
        Ok(context) => context.get_item(&sources.span_key),
        Err(_) => Ok(None),
    }
}

/// What stands for the span in a context, or in the current one if none is given, an empty one being one without a span.
pub fn span_in<'py>(py: Python<'py>, context: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(sources) = SOURCES.get(py) else {
        return Ok(None);
    };
    match context {
        Some(given) => span_of(given, sources),
        None => match current(py, sources)? {
            Some(current) => span_of(&current, sources),
            None => Ok(None),
        },
    }
}

/// Ids of the span in a context, or in the current one, and whether it is sampled; `None` if there is no span.
pub fn span_ids(py: Python<'_>, context: Option<&Bound<'_, PyAny>>) -> PyResult<Option<(SpanIds, bool)>> {
    let Some(sources) = SOURCES.get(py) else {
        return Ok(None);
    };
    // As in the SDK an empty context stands for the current one.
    let given = match context {
        Some(given) if given.is_truthy()? => Some(given),
        _ => None,
    };
    let context = match given {
        Some(given) => given.clone(),
        None => match current(py, sources)? {
            Some(current) => current,
            None => return Ok(None),
        },
    };
    let Some(span) = span_of(&context, sources)? else {
        return Ok(None);
    };
    if let Ok(span) = span.cast::<UnsampledSpan>() {
        return Ok(span.get().ids(py).map(|ids| (ids, false)));
    }
    let found = match span.getattr_opt(intern!(py, "_context"))? {
        Some(found) if found.is_instance_of::<PyTuple>() => found,
        _ => match span.getattr_opt(intern!(py, "get_span_context"))? {
            Some(get) => get.call0()?,
            // Something else was put under the key; the API ignores it too.
            None => return Ok(None),
        },
    };
    let (trace, span, flags) = match found.cast::<PyTuple>() {
        Ok(items) if items.len() > 3 => (items.get_item(0)?, items.get_item(1)?, items.get_item(3)?),
        _ => (
            found.getattr(intern!(py, "trace_id"))?,
            found.getattr(intern!(py, "span_id"))?,
            found.getattr(intern!(py, "trace_flags"))?,
        ),
    };
    let (trace, flags): (u128, u8) = (trace.extract()?, flags.extract()?);
    let span = span.extract()?;
    Ok((trace != 0).then_some((SpanIds { trace, span }, flags & 1 == 1)))
}
