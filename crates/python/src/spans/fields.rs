//! Spans as the SDK keeps them: read from their private fields, which costs a tenth of asking their properties, or else from the properties.

use std::borrow::Cow;

use otel_perf_core::exemplar::SpanIds;
use otel_perf_core::spans::Noted;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMapping, PyString, PyTuple};

use crate::instance::Place;
use crate::number::{narrow, wide};

/// The members of the API's enumerations, by identity.
struct Members {
    kinds: Vec<Py<PyAny>>,
    statuses: Vec<Py<PyAny>>,
}

static MEMBERS: PyOnceLock<Members> = PyOnceLock::new();

/// States once the members of `SpanKind` and `StatusCode`, in the order of their numbers in OTLP, kinds from 1 and statuses from 0.
#[pyfunction]
pub fn set_span_members(py: Python<'_>, kinds: Vec<Py<PyAny>>, statuses: Vec<Py<PyAny>>) {
    let _ = MEMBERS.set(py, Members { kinds, statuses });
}

fn number(members: &[Py<PyAny>], member: &Bound<'_, PyAny>) -> Option<u8> {
    let position = members.iter().position(|known| known.is(member))?;
    Some(position as u8)
}

/// A kind of spans as OTLP numbers it; 0 if it is none.
pub fn kind_number(kind: &Bound<'_, PyAny>) -> u8 {
    let known = MEMBERS.get(kind.py()).and_then(|members| number(&members.kinds, kind));
    known.map_or(0, |kind| kind + 1)
}

/// An attribute of a span, or of a part of one.
struct Field {
    place: Place,
    private: fn(Python<'_>) -> &Bound<'_, PyString>,
    public: fn(Python<'_>) -> &Bound<'_, PyString>,
}

macro_rules! field {
    ($private:literal, $public:literal) => {
        Field {
            place: Place::new(),
            private: |py| intern!(py, $private),
            public: |py| intern!(py, $public),
        }
    };
}

impl Field {
    #[inline]
    fn of<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        if let Some(found) = self.place.get(object, self.private) {
            return Ok(found);
        }
        match object.getattr_opt((self.private)(py))? {
            Some(found) => Ok(found),
            None => object.getattr((self.public)(py)),
        }
    }
}

/// The attributes of spans of one class: those that begin are of another one than those that ended.
pub struct Class {
    context: Field,
    name: Field,
    parent: Field,
    kind: Field,
    start_time: Field,
    end_time: Field,
    status: Field,
    scope: Field,
    attributes: Field,
}

impl Class {
    const fn new() -> Class {
        Class {
            context: field!("_context", "context"),
            name: field!("_name", "name"),
            parent: field!("_parent", "parent"),
            kind: field!("_kind", "kind"),
            start_time: field!("_start_time", "start_time"),
            end_time: field!("_end_time", "end_time"),
            status: field!("_status", "status"),
            scope: field!("_instrumentation_scope", "instrumentation_scope"),
            attributes: field!("_attributes", "attributes"),
        }
    }
}

/// Spans that begin.
pub static BEGINNING: Class = Class::new();
/// Spans that ended.
pub static ENDED: Class = Class::new();
static STATUS_CODE: Field = field!("_status_code", "status_code");
static SCOPE_NAME: Field = field!("_name", "name");
static DICT: Place = Place::new();

/// Ids in a span context; none if it is none, or not valid.
fn ids(context: &Bound<'_, PyAny>) -> PyResult<Option<SpanIds>> {
    if context.is_none() {
        return Ok(None);
    }
    let py = context.py();
    let found = match context.cast::<PyTuple>() {
        Ok(items) if items.len() > 3 => (wide(&items.as_slice()[0]), narrow(&items.as_slice()[1])),
        _ => (
            wide(&context.getattr(intern!(py, "trace_id"))?),
            narrow(&context.getattr(intern!(py, "span_id"))?),
        ),
    };
    Ok(match found {
        (Some(trace), Some(span)) if trace != 0 && span != 0 => Some(SpanIds { trace, span }),
        _ => None,
    })
}

/// The span id in the context of a parent; 0 if there is none.
fn span_id(context: &Bound<'_, PyAny>) -> PyResult<u64> {
    if context.is_none() {
        return Ok(0);
    }
    let found = match context.cast::<PyTuple>() {
        Ok(items) if items.len() > 3 => narrow(&items.as_slice()[1]),
        _ => narrow(&context.getattr(intern!(context.py(), "span_id"))?),
    };
    Ok(found.unwrap_or(0))
}

/// What does not change while a span runs.
#[derive(Clone, Copy, Default)]
pub struct Beginning {
    pub parent: u64,
    /// As OTLP numbers it; 0 if it is not known.
    pub kind: u8,
    pub start_unix_ns: u64,
}

impl Beginning {
    pub fn of(noted: &Noted<'_>) -> Beginning {
        Beginning {
            parent: noted.parent,
            kind: noted.kind,
            start_unix_ns: noted.start_unix_ns,
        }
    }

    pub fn read(class: &Class, span: &Bound<'_, PyAny>) -> PyResult<Beginning> {
        let parent = class.parent.of(span)?;
        let kind = class.kind.of(span)?;
        let start = class.start_time.of(span)?;
        Ok(Beginning {
            parent: span_id(&parent)?,
            kind: kind_number(&kind),
            // What lies before the epoch is the epoch.
            start_unix_ns: narrow(&start).unwrap_or(0),
        })
    }
}

/// A span that begins, or that ended.
pub struct Fields<'py> {
    pub ids: Option<SpanIds>,
    pub name: Bound<'py, PyString>,
}

impl<'py> Fields<'py> {
    pub fn read(class: &Class, span: &Bound<'py, PyAny>) -> PyResult<Fields<'py>> {
        let context = class.context.of(span)?;
        let name = class.name.of(span)?;
        Ok(Fields {
            ids: ids(&context)?,
            name: name.cast_into::<PyString>()?,
        })
    }

    /// The name in UTF-8; lone surrogates are replaced.
    pub fn text(&self) -> Cow<'_, str> {
        self.name.to_string_lossy()
    }
}

/// A span as the table takes it.
pub fn noted(ids: SpanIds, beginning: Beginning, name: &str) -> Noted<'_> {
    Noted {
        ids,
        parent: beginning.parent,
        start_unix_ns: beginning.start_unix_ns,
        kind: beginning.kind,
        name,
    }
}

/// Nanoseconds that a span took; 0 if the clock went back.
pub fn duration_ns(span: &Bound<'_, PyAny>, start_unix_ns: u64) -> PyResult<u64> {
    let end = narrow(&ENDED.end_time.of(span)?);
    let end = end.ok_or_else(|| PyValueError::new_err("the end of a span is no time"))?;
    Ok(end.saturating_sub(start_unix_ns))
}

/// The status of a span that ended, as OTLP numbers it.
pub fn status(span: &Bound<'_, PyAny>) -> PyResult<u8> {
    let status = ENDED.status.of(span)?;
    if status.is_none() {
        return Ok(0);
    }
    let code = STATUS_CODE.of(&status)?;
    let known = MEMBERS
        .get(span.py())
        .and_then(|members| number(&members.statuses, &code));
    Ok(known.unwrap_or(0))
}

/// The instrumentation scope of a span that ended; none if it has none.
pub fn scope<'py>(span: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    ENDED.scope.of(span)
}

/// The name of an instrumentation scope; empty if it is none.
pub fn scope_name<'py>(scope: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    if scope.is_none() {
        return Ok(PyString::new(scope.py(), ""));
    }
    Ok(SCOPE_NAME.of(scope)?.cast_into::<PyString>()?)
}

/// The attributes of a span: the dict that the SDK keeps them in, or a copy of others.
pub fn attributes<'py>(class: &Class, span: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = span.py();
    let found = class.attributes.of(span)?;
    if found.is_none() {
        return Ok(PyDict::new(py));
    }
    if let Some(Ok(dict)) = DICT
        .get(&found, |py| intern!(py, "_dict"))
        .map(Bound::cast_into_exact::<PyDict>)
    {
        return Ok(dict);
    }
    if let Some(Ok(dict)) = found
        .getattr_opt(intern!(py, "_dict"))?
        .map(Bound::cast_into_exact::<PyDict>)
    {
        return Ok(dict);
    }
    let copy = PyDict::new(py);
    copy.update(found.cast::<PyMapping>()?)?;
    Ok(copy)
}
