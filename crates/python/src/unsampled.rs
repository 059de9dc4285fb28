//! Spans that are not sampled: they know what a measurement asks for, and nothing that only an exporter would.
//!
//! What is called for every span is here; the rest of a span is in `otel_perf.trace._unsampled`, whose class is the only subclass.

use otel_perf_core::clock::unix_ns;
use otel_perf_core::exemplar::SpanIds;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMappingProxy, PyString};

use crate::guarded::Guarded;
use crate::hooks;
use crate::number::narrow;
use crate::plain::are_kept;
use crate::spans::{Beginning, Ended};
use crate::starter::{SpanStarter, Trace};

/// What Python does for these spans, see `set_unsampled` in `_core.pyi`.
pub struct Helpers {
    pub span_class: Py<PyAny>,
    pub api_span: Py<PyAny>,
    pub span_context_class: Py<PyAny>,
    pub internal: Py<PyAny>,
    pub drop: Py<PyAny>,
    pub make_context: Py<PyAny>,
    pub record: Py<PyAny>,
    pub set_item: Py<PyAny>,
    pub set_items: Py<PyAny>,
    pub warn: Py<PyAny>,
}

static HELPERS: PyOnceLock<Helpers> = PyOnceLock::new();

/// States once what Python does for spans that are not sampled.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn set_unsampled(
    py: Python<'_>,
    span_class: Py<PyAny>,
    api_span: Py<PyAny>,
    span_context_class: Py<PyAny>,
    internal: Py<PyAny>,
    drop: Py<PyAny>,
    make_context: Py<PyAny>,
    record: Py<PyAny>,
    set_item: Py<PyAny>,
    set_items: Py<PyAny>,
    warn: Py<PyAny>,
) {
    let helpers = Helpers {
        span_class,
        api_span,
        span_context_class,
        internal,
        drop,
        make_context,
        record,
        set_item,
        set_items,
        warn,
    };
    let _ = HELPERS.set(py, helpers);
}

/// What Python does for these spans; none if it was not stated.
pub fn helpers(py: Python<'_>) -> Option<&Helpers> {
    HELPERS.get(py)
}

/// What a span context is made of when somebody asks for it.
pub struct Identity {
    pub trace_id: Py<PyAny>,
    pub span_id: Py<PyAny>,
    /// Whether the trace id is random.
    pub is_random: bool,
    pub trace_state: Py<PyAny>,
}

impl Identity {
    pub fn clone_ref(&self, py: Python<'_>) -> Identity {
        Identity {
            trace_id: self.trace_id.clone_ref(py),
            span_id: self.span_id.clone_ref(py),
            is_random: self.is_random,
            trace_state: self.trace_state.clone_ref(py),
        }
    }

    /// The span context.
    pub fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(helpers) = helpers(py) else {
            return Ok(py.None().into_bound(py));
        };
        helpers
            .make_context
            .bind(py)
            .call1((&self.trace_id, &self.span_id, self.is_random, &self.trace_state))
    }
}

/// The parent of a span.
#[derive(Default)]
pub enum Parent {
    #[default]
    None,
    /// Its span context.
    Context(Py<PyAny>),
    /// One of these spans, whose context nobody has asked for.
    Unsampled(Identity),
}

/// What a span that begins is made of.
#[derive(Default)]
pub struct State {
    pub identity: Option<Identity>,
    pub ids: Option<SpanIds>,
    pub beginning: Beginning,
    pub parent: Parent,
    pub name: Option<Py<PyString>>,
    pub kind: Option<Py<PyAny>>,
    pub links: Option<Py<PyAny>>,
    /// None as long as there are none.
    pub attributes: Option<Py<PyDict>>,
    pub records_exception: bool,
    pub sets_status_on_exception: bool,
    /// Its record of the span table.
    pub place: Option<usize>,
    /// The span context, once somebody has asked for it.
    pub context: Option<Py<PyAny>>,
    pub status: Option<Py<PyAny>>,
    /// The status as OTLP numbers it.
    pub status_number: u8,
    pub has_ended: bool,
    pub end_unix_ns: Option<u64>,
}

/// See `_core.pyi`.
#[pyclass(frozen, subclass, module = "otel_perf._core")]
pub struct UnsampledSpan {
    starter: Py<SpanStarter>,
    state: Guarded<State>,
}

/// An object of a state, if it is there.
fn of<'py, T>(py: Python<'py>, object: Option<&Py<T>>) -> Option<Bound<'py, T>> {
    object.map(|object| object.bind(py).clone())
}

#[pymethods]
impl UnsampledSpan {
    #[new]
    fn new(starter: Py<SpanStarter>) -> UnsampledSpan {
        UnsampledSpan {
            starter,
            state: Guarded::default(),
        }
    }

    fn get_span_context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (made, identity) = self.state.with(py, |state| {
            let identity = state.identity.as_ref();
            (of(py, state.context.as_ref()), identity.map(|own| own.clone_ref(py)))
        });
        let (None, Some(identity)) = (&made, identity) else {
            return Ok(made);
        };
        let context = identity.context(py)?;
        // The first one stays, if another thread has asked meanwhile.
        let (kept, left) = self.state.with(py, |state| {
            let left = state.context.is_some().then(|| context.clone());
            let kept = state.context.get_or_insert_with(|| context.clone().unbind());
            (kept.bind(py).clone(), left)
        });
        drop(left);
        Ok(Some(kept))
    }

    #[getter]
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get_span_context(py)
    }

    #[getter]
    fn parent<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (context, identity) = self.state.with(py, |state| match &state.parent {
            Parent::None => (None, None),
            Parent::Context(context) => (Some(context.bind(py).clone()), None),
            Parent::Unsampled(identity) => (None, Some(identity.clone_ref(py))),
        });
        match identity {
            Some(identity) => identity.context(py).map(Some),
            None => Ok(context),
        }
    }

    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.state.with(py, |state| of(py, state.name.as_ref()))
    }

    #[getter]
    fn kind<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.with(py, |state| of(py, state.kind.as_ref()))
    }

    #[getter]
    fn start_time(&self, py: Python<'_>) -> u64 {
        self.state.with(py, |state| state.beginning.start_unix_ns)
    }

    #[getter]
    fn end_time(&self, py: Python<'_>) -> Option<u64> {
        self.state.with(py, |state| state.end_unix_ns)
    }

    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> Bound<'py, PyMappingProxy> {
        let found = self.state.with(py, |state| of(py, state.attributes.as_ref()));
        let dict = found.unwrap_or_else(|| PyDict::new(py));
        PyMappingProxy::new(py, dict.as_mapping())
    }

    /// The links that it was begun with, as they were given.
    #[getter(_links)]
    fn links<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.with(py, |state| of(py, state.links.as_ref()))
    }

    #[getter(_tracer)]
    fn tracer(&self, py: Python<'_>) -> Py<PyAny> {
        self.starter.get().tracer.clone_ref(py)
    }

    #[getter(_record_exception)]
    fn records_exception(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.records_exception)
    }

    #[getter(_set_status_on_exception)]
    fn sets_status_on_exception(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.sets_status_on_exception)
    }

    #[getter(_status)]
    fn status<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.with(py, |state| of(py, state.status.as_ref()))
    }

    fn _keep_status(&self, py: Python<'_>, status: Py<PyAny>, number: u8) {
        let old = self.state.with(py, |state| {
            state.status_number = number;
            state.status.replace(status)
        });
        drop(old);
    }

    fn is_recording(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| !state.has_ended)
    }

    fn update_name(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = name.py();
        if !self.is_recording(py) {
            return warn(py, intern!(py, "Tried calling update_name on an ended span."));
        }
        if let Ok(name) = name.cast::<PyString>() {
            let name = name.clone().unbind();
            let old = self.state.with(py, |state| state.name.replace(name));
            drop(old);
        }
        Ok(())
    }

    fn set_attribute(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = key.py();
        let Some(dict) = self.open_attributes(py)? else {
            return Ok(());
        };
        let starter = self.starter.get();
        if are_kept(key, value, starter.longest) && dict.len() < starter.most_attributes {
            return set_last(&dict, key, value);
        }
        starter.set_item(&dict, key, value);
        PyErr::take(py).map_or(Ok(()), Err)
    }

    fn set_attributes(&self, attributes: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = attributes.py();
        let Some(dict) = self.open_attributes(py)? else {
            return Ok(());
        };
        let starter = self.starter.get();
        match attributes.cast_exact::<PyDict>() {
            Ok(given) if starter.are_kept(given) && dict.len() + given.len() <= starter.most_attributes => {
                for (key, value) in given {
                    set_last(&dict, &key, &value)?;
                }
                Ok(())
            }
            _ => {
                starter.set_items(py, &dict, attributes);
                PyErr::take(py).map_or(Ok(()), Err)
            }
        }
    }

    #[pyo3(signature = (end_time=None))]
    fn end(slf: &Bound<'_, UnsampledSpan>, end_time: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (py, own) = (slf.py(), slf.get());
        let end = match end_time {
            Some(time) if !time.is_none() => narrow(time),
            _ => Some(unix_ns()),
        };
        let is_first = own.state.with(py, |state| {
            let is_first = !state.has_ended;
            if is_first {
                state.has_ended = true;
                state.end_unix_ns = end;
            }
            is_first
        });
        if !is_first {
            return warn(py, intern!(py, "Calling end() on an ended span."));
        }
        let starter = own.starter.get();
        let recorder = starter.recorder.get();
        let (ids, place, beginning) = own.state.with(py, |state| (state.ids, state.place, state.beginning));
        let lane = recorder.left_unsampled(py, ids.zip(place));
        let found = own.state.with(py, |state| {
            let attributes = of(py, state.attributes.as_ref());
            (of(py, state.name.as_ref()), attributes, state.status_number)
        });
        let (Some(name), attributes, status) = found else {
            return Ok(());
        };
        // What ends at no time took no time either.
        if let Some(end) = end {
            recorder.ended_unsampled(&Ended {
                span: slf.as_any(),
                lane,
                name: &name,
                ids,
                beginning,
                scope: starter.scope.bind(py),
                status,
                attributes: &attributes.unwrap_or_else(|| PyDict::new(py)),
                duration_ns: end.saturating_sub(beginning.start_unix_ns),
            });
        }
        PyErr::take(py).map_or(Ok(()), Err)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.starter)?;
        self.state.traverse(|state| {
            let contexts = match &state.parent {
                Parent::Context(context) => Some(context),
                _ => None,
            };
            visit.call(contexts)?;
            visit.call(&state.attributes)?;
            visit.call(&state.links)?;
            visit.call(&state.context)?;
            visit.call(&state.status)
        })
    }
}

impl UnsampledSpan {
    /// What it is from now on.
    pub fn begin(&self, py: Python<'_>, state: State) {
        let old = self.state.with(py, |own| std::mem::replace(own, state));
        drop(old);
    }

    /// Its record of the span table.
    pub fn keep_place(&self, py: Python<'_>, place: Option<usize>) {
        self.state.with(py, |state| state.place = place);
    }

    /// Its ids, if they are valid.
    pub fn ids(&self, py: Python<'_>) -> Option<SpanIds> {
        self.state.with(py, |state| state.ids)
    }

    /// What it is to a child.
    pub fn as_parent<'py>(&self, py: Python<'py>) -> Option<Trace<'py>> {
        self.state.with(py, |state| {
            let identity = state.identity.as_ref()?;
            Some(Trace {
                id: identity.trace_id.bind(py).clone(),
                is_random: identity.is_random,
                parent: match &state.context {
                    Some(context) => Parent::Context(context.clone_ref(py)),
                    None => Parent::Unsampled(identity.clone_ref(py)),
                },
                parent_id: state.ids?.span,
            })
        })
    }

    /// The attributes, unless the span has ended, which is logged.
    fn open_attributes<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (has_ended, found) = self
            .state
            .with(py, |state| (state.has_ended, of(py, state.attributes.as_ref())));
        if has_ended {
            warn(py, intern!(py, "Setting attribute on ended span."))?;
            return Ok(None);
        }
        if found.is_some() {
            return Ok(found);
        }
        let dict = PyDict::new(py);
        let own = dict.clone().unbind();
        // No Python code has run since.
        self.state.with(py, |state| state.attributes = Some(own));
        Ok(Some(dict))
    }
}

/// Sets an attribute that is kept as it is: it moves to the end, as in the SDK.
fn set_last(dict: &Bound<'_, PyDict>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if dict.contains(key)? {
        dict.del_item(key)?;
    }
    dict.set_item(key, value)
}

/// Logs what was done to a span that has ended.
fn warn(py: Python<'_>, text: &Bound<'_, PyString>) -> PyResult<()> {
    if let Some(helpers) = helpers(py) {
        let done = helpers.warn.bind(py).call1((text,)).map(|_| ());
        hooks::swallow(py, done);
    }
    PyErr::take(py).map_or(Ok(()), Err)
}
