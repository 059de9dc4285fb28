//! How a tracer begins spans: those that its sampler drops become [`UnsampledSpan`]s, the others are the SDK's.
//!
//! `unsafe` rests on the vector call convention, see `hot.rs`.

use std::ptr;

use otel_perf_core::clock::unix_ns;
use otel_perf_core::exemplar::SpanIds;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{ffi, intern};

use crate::context::span_in;
use crate::dict;
use crate::hooks;
use crate::instance::Place;
use crate::number::{narrow, wide};
use crate::plain::is_kept;
use crate::spans::{kind_number, noted, Beginning, SpanRecorder};
use crate::unsampled::{helpers, Helpers, Identity, Parent, State, UnsampledSpan};

type Object = *mut ffi::PyObject;

static SAMPLER: Place = Place::new();
static ID_GENERATOR: Place = Place::new();
static CONFIG: Place = Place::new();
static IS_ENABLED: Place = Place::new();
static DECISION: Place = Place::new();
static TRACE_STATE: Place = Place::new();

/// An attribute of an instance.
fn field<'py>(
    place: &Place,
    object: &Bound<'py, PyAny>,
    name: fn(Python<'py>) -> &'py Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let found = place.get(object, name);
    found.map_or_else(|| object.getattr(name(object.py())), Ok)
}

/// See `_core.pyi`.
#[pyclass(frozen, weakref, module = "otel_perf._core")]
pub struct SpanStarter {
    pub tracer: Py<PyAny>,
    pub recorder: Py<SpanRecorder>,
    /// Name of the tracer's scope.
    pub scope: Py<PyString>,
    /// Most attributes of a span.
    pub most_attributes: usize,
    /// Most characters of a text among them.
    pub longest: usize,
    /// The tracer's own method.
    start_span: Py<PyAny>,
    /// The tracer's sampler, and what the sampler below it is asked by.
    sampler: Py<PyAny>,
    should_sample: Py<PyAny>,
    id_generator: Py<PyAny>,
    /// What the tracer counts spans with, if it does.
    metrics: Option<Py<PyAny>>,
}

#[pymethods]
impl SpanStarter {
    #[new]
    #[pyo3(signature = (tracer, recorder, scope, should_sample, most_attributes=None, longest=None, metrics=None))]
    fn new(
        tracer: &Bound<'_, PyAny>,
        recorder: Py<SpanRecorder>,
        scope: Py<PyString>,
        should_sample: Py<PyAny>,
        most_attributes: Option<usize>,
        longest: Option<usize>,
        metrics: Option<Py<PyAny>>,
    ) -> PyResult<SpanStarter> {
        let py = tracer.py();
        Ok(SpanStarter {
            recorder,
            scope,
            most_attributes: most_attributes.unwrap_or(usize::MAX),
            longest: longest.unwrap_or(usize::MAX),
            start_span: tracer.getattr(intern!(py, "start_span"))?.unbind(),
            sampler: tracer.getattr(intern!(py, "sampler"))?.unbind(),
            should_sample,
            id_generator: tracer.getattr(intern!(py, "id_generator"))?.unbind(),
            metrics,
            tracer: tracer.clone().unbind(),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.tracer)?;
        visit.call(&self.recorder)?;
        visit.call(&self.start_span)?;
        visit.call(&self.sampler)?;
        visit.call(&self.should_sample)?;
        visit.call(&self.id_generator)?;
        visit.call(&self.metrics)
    }
}

/// The arguments of `start_span`; none where not given.
struct Given<'a, 'py> {
    name: &'a Bound<'py, PyString>,
    context: Option<&'a Bound<'py, PyAny>>,
    kind: Option<&'a Bound<'py, PyAny>>,
    attributes: Option<&'a Bound<'py, PyAny>>,
    links: Option<&'a Bound<'py, PyAny>>,
    start_time: Option<&'a Bound<'py, PyAny>>,
    records_exception: bool,
    sets_status_on_exception: bool,
}

/// The trace that a span belongs to.
pub struct Trace<'py> {
    pub id: Bound<'py, PyAny>,
    pub is_random: bool,
    pub parent: Parent,
    pub parent_id: u64,
}

impl SpanStarter {
    /// The span; none if it is the SDK's to make it.
    fn start<'py>(
        slf: &Bound<'py, SpanStarter>,
        helpers: &Helpers,
        given: &Given<'_, 'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, own) = (slf.py(), slf.get());
        if !own.is_as_it_was(py)? {
            return Ok(None);
        }
        let Some(trace) = own.trace(py, helpers, given.context)? else {
            return Ok(None);
        };
        let none = py.None().into_bound(py);
        let no_links = PyTuple::empty(py).into_any();
        let kind = given.kind.unwrap_or_else(|| helpers.internal.bind(py));
        let links = given.links.unwrap_or(&no_links);
        let result = own.should_sample.bind(py).call1((
            given.context.unwrap_or(&none),
            &trace.id,
            given.name,
            kind,
            given.attributes.unwrap_or(&none),
            links,
        ))?;
        let decision = field(&DECISION, &result, |py| intern!(py, "decision"))?;
        if !decision.is(&helpers.drop) {
            let span = helpers.record.bind(py).call1((
                &own.tracer,
                (given.name, given.context, kind, links, given.start_time),
                (given.records_exception, given.sets_status_on_exception),
                trace.parent_context(py)?,
                &trace.id,
                trace.is_random,
                &result,
            ))?;
            hooks::release(py, trace);
            return Ok(Some(span));
        }
        let span_id = own
            .id_generator
            .bind(py)
            .call_method0(intern!(py, "generate_span_id"))?;
        if let Some(metrics) = &own.metrics {
            let parent = trace.parent_context(py)?;
            metrics
                .bind(py)
                .call_method1(intern!(py, "start_span"), (parent, &decision))?;
        }
        let attributes = match given.attributes {
            Some(attributes) if attributes.is_truthy()? => Some(attributes.clone()),
            _ => Some(result.getattr(intern!(py, "attributes"))?).filter(|found| !found.is_none()),
        };
        let attributes = attributes.map(|attributes| own.copy(&attributes)).transpose()?;
        let ids = match (wide(&trace.id), narrow(&span_id)) {
            (Some(trace), Some(span)) if trace != 0 && span != 0 => Some(SpanIds { trace, span }),
            _ => None,
        };
        let beginning = Beginning {
            parent: trace.parent_id,
            kind: kind_number(kind),
            start_unix_ns: given.start_time.map_or_else(unix_ns, |time| narrow(time).unwrap_or(0)),
        };
        let span = helpers.span_class.bind(py).call1((slf,))?;
        let unsampled = span.cast::<UnsampledSpan>()?.get();
        unsampled.begin(
            py,
            State {
                identity: Some(Identity {
                    trace_id: trace.id.unbind(),
                    span_id: span_id.unbind(),
                    is_random: trace.is_random,
                    trace_state: field(&TRACE_STATE, &result, |py| intern!(py, "trace_state"))?.unbind(),
                }),
                ids,
                beginning,
                parent: trace.parent,
                name: Some(given.name.clone().unbind()),
                kind: Some(kind.clone().unbind()),
                links: given.links.map(|links| links.clone().unbind()),
                attributes: attributes.as_ref().map(|attributes| attributes.clone().unbind()),
                records_exception: given.records_exception,
                sets_status_on_exception: given.sets_status_on_exception,
                ..State::default()
            },
        );
        if let Some(ids) = ids {
            let name = given.name.to_string_lossy();
            let noted = noted(ids, beginning, &name);
            let place = own.recorder.get().started_unsampled(&span, &noted, attributes.as_ref());
            unsampled.keep_place(py, place);
        }
        PyErr::take(py).map_or(Ok(Some(span)), Err)
    }

    /// Whether the tracer is enabled and asks whom it asked when this was made.
    fn is_as_it_was(&self, py: Python<'_>) -> PyResult<bool> {
        let tracer = self.tracer.bind(py);
        let sampler = field(&SAMPLER, tracer, |py| intern!(py, "sampler"))?;
        let id_generator = field(&ID_GENERATOR, tracer, |py| intern!(py, "id_generator"))?;
        let config = field(&CONFIG, tracer, |py| intern!(py, "_tracer_config"))?;
        let is_enabled = field(&IS_ENABLED, &config, |py| intern!(py, "is_enabled"))?;
        Ok(sampler.is(&self.sampler) && id_generator.is(&self.id_generator) && is_enabled.is_truthy()?)
    }

    /// The trace of a span that begins in a context; none if it is the SDK's to find out.
    fn trace<'py>(
        &self,
        py: Python<'py>,
        helpers: &Helpers,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Trace<'py>>> {
        if context.is_some_and(|context| !context.is_instance_of::<PyDict>()) {
            return Ok(None);
        }
        let Some(span) = span_in(py, context)? else {
            return self.root(py).map(Some);
        };
        if let Ok(span) = span.cast::<UnsampledSpan>() {
            return Ok(span.get().as_parent(py));
        }
        if !span.is_instance(helpers.api_span.bind(py))? {
            return self.root(py).map(Some);
        }
        let parent = span.call_method0(intern!(py, "get_span_context"))?;
        if !parent.get_type().is(&helpers.span_context_class) {
            return Ok(None);
        }
        if !parent.getattr(intern!(py, "is_valid"))?.is_truthy()? {
            return self.root(py).map(Some);
        }
        let flags = narrow(&parent.getattr(intern!(py, "trace_flags"))?).unwrap_or(0);
        Ok(Some(Trace {
            id: parent.getattr(intern!(py, "trace_id"))?,
            is_random: flags & 2 != 0,
            parent_id: narrow(&parent.getattr(intern!(py, "span_id"))?).unwrap_or(0),
            parent: Parent::Context(parent.unbind()),
        }))
    }

    /// The trace of a span without a parent.
    fn root<'py>(&self, py: Python<'py>) -> PyResult<Trace<'py>> {
        let generator = self.id_generator.bind(py);
        let id = generator.call_method0(intern!(py, "generate_trace_id"))?;
        let is_random = generator.call_method0(intern!(py, "is_trace_id_random"))?;
        Ok(Trace {
            id,
            is_random: is_random.is_truthy()?,
            parent: Parent::None,
            parent_id: 0,
        })
    }

    /// The attributes of a span that begins.
    fn copy<'py>(&self, attributes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        if let Ok(given) = attributes.cast_exact::<PyDict>() {
            if given.len() <= self.most_attributes && self.are_kept(given) {
                return given.copy();
            }
        }
        let dict = PyDict::new(attributes.py());
        self.set_items(attributes.py(), &dict, attributes);
        Ok(dict)
    }

    /// Whether the SDK keeps these attributes as they are.
    pub fn are_kept(&self, attributes: &Bound<'_, PyDict>) -> bool {
        let mut are_kept = true;
        let look = |pair: dict::Pair| {
            // SAFETY: live objects, the GIL is held.
            are_kept = are_kept && unsafe { is_kept(pair.key, pair.value, self.longest) };
        };
        // SAFETY: an exact dict, which the callers have made sure of; the GIL is held, and looking runs no Python code.
        unsafe { dict::each(attributes.as_ptr(), look) };
        are_kept
    }

    /// Sets one attribute, as [`SpanStarter::set_items`] does.
    pub fn set_item(&self, dict: &Bound<'_, PyDict>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) {
        let py = dict.py();
        if let Some(helpers) = helpers(py) {
            let done = helpers.set_item.bind(py).call1((&self.tracer, dict, key, value));
            hooks::swallow(py, done.map(|_| ()));
        }
    }

    /// Sets attributes of a span as the SDK does; whatever goes wrong stays here, but for what ends the program, which is left set.
    pub fn set_items(&self, py: Python<'_>, dict: &Bound<'_, PyDict>, attributes: &Bound<'_, PyAny>) {
        if let Some(helpers) = helpers(py) {
            let done = helpers.set_items.bind(py).call1((&self.tracer, dict, attributes));
            hooks::swallow(py, done.map(|_| ()));
        }
    }
}

impl Trace<'_> {
    /// The span context of the parent.
    fn parent_context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.parent {
            Parent::None => Ok(None),
            Parent::Context(context) => Ok(Some(context.bind(py).clone())),
            Parent::Unsampled(identity) => identity.context(py).map(Some),
        }
    }
}

/// Number of the parameters of `start_span`.
const PARAMETERS: usize = 8;

/// The place of a parameter; none if there is none of this name.
unsafe fn parameter(py: Python<'_>, name: Object) -> Option<usize> {
    let names: [&Bound<'_, PyString>; PARAMETERS] = [
        intern!(py, "name"),
        intern!(py, "context"),
        intern!(py, "kind"),
        intern!(py, "attributes"),
        intern!(py, "links"),
        intern!(py, "start_time"),
        intern!(py, "record_exception"),
        intern!(py, "set_status_on_exception"),
    ];
    // Names in the code of a program are interned.
    let found = names.iter().position(|known| known.as_ptr() == name);
    // SAFETY: names of arguments are strings; the GIL is held.
    let is_same = |known: &&Bound<'_, PyString>| unsafe { ffi::PyUnicode_Compare(known.as_ptr(), name) == 0 };
    found.or_else(|| names.iter().position(is_same))
}

/// The arguments by parameter; none if the call is not a usual one.
unsafe fn usual(
    py: Python<'_>,
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> Option<[Option<Bound<'_, PyAny>>; PARAMETERS]> {
    let mut given = [const { None }; PARAMETERS];
    let nargs = nargs as usize;
    if nargs > PARAMETERS {
        return None;
    }
    // SAFETY: the calling convention: so many objects, and then one for each name.
    unsafe {
        let own = |index| Bound::from_borrowed_ptr(py, *args.add(index));
        for (index, slot) in given.iter_mut().enumerate().take(nargs) {
            *slot = Some(own(index));
        }
        if !kwnames.is_null() {
            for index in 0..ffi::PyTuple_GET_SIZE(kwnames) {
                match parameter(py, ffi::PyTuple_GET_ITEM(kwnames, index)) {
                    Some(place) if given[place].is_none() => given[place] = Some(own(nargs + index as usize)),
                    _ => return None,
                }
            }
        }
    }
    Some(given)
}

/// Begins a span if the call is a usual one; none if it is the SDK's.
unsafe fn try_start<'py>(
    slf: &Bound<'py, SpanStarter>,
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = slf.py();
    // SAFETY: passed on as received.
    let (Some(helpers), Some(given)) = (helpers(py), unsafe { usual(py, args, nargs, kwnames) }) else {
        return Ok(None);
    };
    let [name, context, kind, attributes, links, start_time, records_exception, sets_status] = &given;
    let Some(Ok(name)) = name.as_ref().map(|name| name.cast::<PyString>()) else {
        return Ok(None);
    };
    let stated = |argument: &Option<Bound<'py, PyAny>>| argument.as_ref().is_none_or(|given| !given.is_none());
    let flag = |argument: &Option<Bound<'py, PyAny>>| argument.as_ref().map_or(Ok(true), PyAnyMethods::is_truthy);
    if !stated(kind) {
        return Ok(None);
    }
    let links = match links {
        Some(links) if links.is_truthy()? => Some(links),
        _ => None,
    };
    SpanStarter::start(
        slf,
        helpers,
        &Given {
            name,
            context: context.as_ref().filter(|context| !context.is_none()),
            kind: kind.as_ref(),
            attributes: attributes.as_ref().filter(|attributes| !attributes.is_none()),
            links,
            start_time: start_time.as_ref().filter(|time| !time.is_none()),
            records_exception: flag(records_exception)?,
            sets_status_on_exception: flag(sets_status)?,
        },
    )
}

/// The method `start_span` of a tracer.
pub unsafe extern "C" fn start_span(
    slf: Object,
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> Object {
    // SAFETY: the calling convention; `slf` is an instance of the class, which the descriptor has checked. What is called returns a new reference or null.
    unsafe {
        let py = Python::assume_attached();
        let slf = Borrowed::from_ptr(py, slf).cast_unchecked::<SpanStarter>();
        let own = slf.get();
        let started = own.recorder.get().guarded(|| try_start(&slf, args, nargs, kwnames));
        match started {
            Some(Ok(Some(span))) => span.into_ptr(),
            Some(Err(error)) => {
                error.restore(py);
                ptr::null_mut()
            }
            _ => ffi::PyObject_Vectorcall(own.start_span.as_ptr(), args, nargs as usize, kwnames),
        }
    }
}
