//! The recording methods: raw `METH_FASTCALL` functions put on the native types, because generic argument handling costs as much as
//! the whole recording (benchmarks/record.py).
//!
//! All `unsafe` here rests on one contract, `CPython`'s vector call convention: `args` holds `nargs` positional arguments followed by one value per
//! name in the tuple `kwnames` (null if there is none), all borrowed; the GIL is held; `self` is an instance of the type whose
//! descriptor is called, which the descriptor has checked. A function answers a new reference, or null with an exception set.

use std::ptr;

use otel_perf_core::drops::Drop;
use otel_perf_core::lane::Number;
use otel_perf_core::local::LocalSeries;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;

use crate::arguments::{arguments, raise, usual_arguments, Arguments};
use crate::bound::{BoundCounter, BoundGauge, BoundHistogram, BoundUpDownCounter};
use crate::classes::{Counter, Gauge, Histogram, UpDownCounter};
use crate::exemplars::{Recorder, Recording};
use crate::gate::Gate;
use crate::hooks;
use crate::instruments::Instrument;
use crate::lookup::owned;
use crate::number::{number, plain_number, refused, Accepts};
use crate::sampler::{should_sample, AllRecorder};
use crate::spans::SpanRecorder;
use crate::starter::{start_span, SpanStarter};

type Object = *mut ffi::PyObject;

fn none() -> Object {
    // SAFETY: `None` is alive for as long as the interpreter; a new reference is answered.
    unsafe {
        ffi::Py_INCREF(ffi::Py_None());
        ffi::Py_None()
    }
}

/// The answer of a call that is over: `None`, or null if an exception is set.
fn done() -> Object {
    // SAFETY: the GIL is held.
    if unsafe { ffi::PyErr_Occurred() }.is_null() {
        none()
    } else {
        ptr::null_mut()
    }
}

/// An amount as nearly all are: plain, and one that is recorded.
#[allow(clippy::inline_always)]
#[inline(always)]
unsafe fn usual_amount(object: Object, accepts: Accepts) -> Option<Number> {
    // SAFETY: a live object, the GIL is held.
    unsafe { plain_number(object) }.filter(|amount| refused(*amount, accepts).is_none())
}

/// Any other amount; `Err` is the answer of a call that records nothing.
#[cold]
unsafe fn unusual_amount(gate: &Gate, object: Object, accepts: Accepts) -> Result<Number, Object> {
    // SAFETY: a live object, the GIL is held.
    let object = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), object) };
    let amount = match number(&object) {
        Ok(amount) => amount,
        Err(_) if !gate.is_enabled() => return Err(none()),
        Err(error) => {
            gate.count_drop(Drop::WrongType);
            return Err(raise(object.py(), error));
        }
    };
    let Some(reason) = refused(amount, accepts) else {
        return Ok(amount);
    };
    let _ = hooks::guarded(&gate.segment, || gate.ignore(reason, &object));
    Err(done())
}

/// A recording method as its slow half has to know it.
struct Method {
    name: &'static str,
    /// Names of its parameters, the amount first.
    parameters: &'static [&'static str],
    accepts: Accepts,
}

/// What the methods do not do at once: other arguments, other amounts, attributes that are not those of the last call, series that are not plain.
#[inline(never)]
unsafe fn record<R: Recorder>(
    inner: &R,
    method: &Method,
    try_write: impl Fn(&LocalSeries, Number) -> bool,
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> Object {
    // SAFETY: the calling convention, see the head of the file.
    unsafe {
        let given = match arguments(method.name, method.parameters, args, nargs, kwnames) {
            Ok(given) => given,
            Err(answer) => return answer,
        };
        let amount = match usual_amount(given.amount, method.accepts) {
            Some(amount) => amount,
            None => match unusual_amount(inner.gate(), given.amount, method.accepts) {
                Ok(amount) => amount,
                Err(answer) => return answer,
            },
        };
        match inner.series(Python::assume_attached(), given.attributes) {
            Some(series) if try_write(series, amount) => none(),
            Some(series) if series.write(amount) => follow_up(inner, series, amount, &given),
            Some(_) => none(),
            None => done(),
        }
    }
}

/// What is left to do for a recording whose first series says so.
unsafe fn follow_up(inner: &impl Recorder, series: &LocalSeries, amount: Number, given: &Arguments) -> Object {
    for other in series.also() {
        other.write(amount);
    }
    // SAFETY: the series is alive, and Python code runs from here on. The arguments are live objects or null, the GIL is held.
    unsafe {
        let series = owned(series);
        let py = Python::assume_attached();
        let amount_given = Bound::from_borrowed_ptr(py, given.amount);
        let attributes = Bound::from_borrowed_ptr_or_opt(py, given.attributes);
        let context = Bound::from_borrowed_ptr_or_opt(py, given.context);
        hooks::guarded(&inner.gate().segment, || {
            inner.look_for_exemplars(
                &series,
                amount,
                &Recording {
                    amount: &amount_given,
                    attributes: attributes.as_ref(),
                    context: context.as_ref(),
                },
            );
        });
    }
    done()
}

/// Takes what a callback reported in the collection that began at `since_ns`; not finite numbers were dealt with before.
pub fn observe(
    inner: &Instrument,
    value: &Bound<'_, PyAny>,
    attributes: Option<&Bound<'_, PyAny>>,
    context: Option<&Bound<'_, PyAny>>,
    since_ns: u64,
) -> PyResult<()> {
    let py = value.py();
    let amount = number(value)?;
    // SAFETY: live objects, the GIL is held; the reference taken at once keeps the series alive.
    let series = unsafe {
        inner
            .series(py, attributes.map_or(ptr::null_mut(), Bound::as_ptr))
            .map(|series| owned(series))
    };
    if let Some(series) = series {
        let mut followed = series.observe(amount, since_ns);
        for other in series.also() {
            followed |= other.observe(amount, since_ns);
        }
        if followed {
            let recording = Recording {
                amount: value,
                attributes,
                context,
            };
            inner.look_for_exemplars(&series, amount, &recording);
        }
    }
    PyErr::take(py).map_or(Ok(()), Err)
}

/// A recording method. Each has its own copy of the usual case, which calls nothing but the interpreter and writes nothing unless it writes all.
macro_rules! method {
    ($function:ident, $class:ty, $name:literal, $parameters:expr, $accepts:expr, $write:ident) => {
        unsafe extern "C" fn $function(
            slf: Object,
            args: *const Object,
            nargs: ffi::Py_ssize_t,
            kwnames: Object,
        ) -> Object {
            const METHOD: Method = Method {
                name: $name,
                parameters: $parameters,
                accepts: $accepts,
            };
            // SAFETY: the calling convention, see the head of the file; `slf` is an instance of `$class`.
            unsafe {
                let slf = Borrowed::from_ptr(Python::assume_attached(), slf).cast_unchecked::<$class>();
                let inner = &slf.get().inner;
                if let Some(given) = usual_arguments($parameters, args, nargs, kwnames) {
                    if let Some(amount) = usual_amount(given.amount, $accepts) {
                        if inner.is_closed() {
                            return none();
                        }
                        if inner
                            .last_series(given.attributes)
                            .is_some_and(|series| series.$write(amount))
                        {
                            return none();
                        }
                    }
                }
                record(inner, &METHOD, LocalSeries::$write, args, nargs, kwnames)
            }
        }
    };
}

const NAMES: &[&str] = &["amount", "attributes", "context"];
const BOUND_NAMES: &[&str] = &["amount", "context"];

method!(counter_add, Counter, "add", NAMES, Accepts::NotNegative, try_add);
method!(
    up_down_counter_add,
    UpDownCounter,
    "add",
    NAMES,
    Accepts::AnySign,
    try_add
);
method!(
    histogram_record,
    Histogram,
    "record",
    NAMES,
    Accepts::NotNegative,
    try_record
);
method!(gauge_set, Gauge, "set", NAMES, Accepts::AnySign, try_set);
method!(
    bound_counter_add,
    BoundCounter,
    "add",
    BOUND_NAMES,
    Accepts::NotNegative,
    try_add
);
method!(
    bound_up_down_counter_add,
    BoundUpDownCounter,
    "add",
    BOUND_NAMES,
    Accepts::AnySign,
    try_add
);
method!(
    bound_histogram_record,
    BoundHistogram,
    "record",
    BOUND_NAMES,
    Accepts::NotNegative,
    try_record
);
method!(
    bound_gauge_set,
    BoundGauge,
    "set",
    BOUND_NAMES,
    Accepts::AnySign,
    try_set
);

/// The method of a span processor: the span is its first argument, whatever follows says nothing that is not in the span.
macro_rules! span_method {
    ($function:ident, $name:literal, $act:ident) => {
        unsafe extern "C" fn $function(
            slf: Object,
            args: *const Object,
            nargs: ffi::Py_ssize_t,
            kwnames: Object,
        ) -> Object {
            // SAFETY: the calling convention, see the head of the file; `slf` is an instance of the class.
            unsafe {
                let py = Python::assume_attached();
                let slf = Borrowed::from_ptr(py, slf).cast_unchecked::<SpanRecorder>();
                let span = if nargs > 0 {
                    *args
                } else {
                    match arguments($name, &["span", "parent_context"], args, nargs, kwnames) {
                        Ok(given) => given.amount,
                        Err(answer) => return answer,
                    }
                };
                slf.get().$act(&Borrowed::from_ptr(py, span));
                done()
            }
        }
    };
}

span_method!(span_start, "on_start", started);
span_method!(span_end, "on_end", ended);

/// An object whose method does nothing: the unit in which the benchmarks measure.
#[pyclass(frozen, module = "otel_perf._core")]
pub struct Noop;

#[pymethods]
impl Noop {
    #[new]
    fn new() -> Noop {
        Noop
    }
}

unsafe extern "C" fn noop_call(_: Object, _: *const Object, _: ffi::Py_ssize_t, _: Object) -> Object {
    none()
}

/// A method definition that lives as long as the process, as the interpreter demands.
struct Definition(ffi::PyMethodDef);

// SAFETY: never changed after creation; the pointers in it point to static data.
unsafe impl Sync for Definition {}

macro_rules! definition {
    ($function:ident, $name:expr, $doc:expr) => {{
        static DEFINITION: Definition = Definition(ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: $function,
            },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: $doc.as_ptr(),
        });
        &DEFINITION.0
    }};
}

fn install<T: PyTypeInfo>(py: Python<'_>, definition: &'static ffi::PyMethodDef) -> PyResult<()> {
    let class = py.get_type::<T>();
    // SAFETY: the type is alive and the definition static; the interpreter never writes to it.
    let descriptor = unsafe {
        let descriptor = ffi::PyDescr_NewMethod(class.as_type_ptr(), ptr::from_ref(definition).cast_mut());
        Bound::from_owned_ptr_or_err(py, descriptor)?
    };
    class.setattr(
        descriptor.getattr("__name__")?.cast::<pyo3::types::PyString>()?,
        &descriptor,
    )
}

/// Puts the recording methods on their types; once, while the module is made.
pub fn install_all(py: Python<'_>) -> PyResult<()> {
    const ADD: &std::ffi::CStr = c"add($self, amount, attributes=None, context=None)\n--\n\n";
    const BOUND_ADD: &std::ffi::CStr = c"add($self, amount, context=None)\n--\n\n";
    install::<Counter>(py, definition!(counter_add, c"add", ADD))?;
    install::<UpDownCounter>(py, definition!(up_down_counter_add, c"add", ADD))?;
    install::<Histogram>(
        py,
        definition!(
            histogram_record,
            c"record",
            c"record($self, amount, attributes=None, context=None)\n--\n\n"
        ),
    )?;
    install::<Gauge>(
        py,
        definition!(
            gauge_set,
            c"set",
            c"set($self, amount, attributes=None, context=None)\n--\n\n"
        ),
    )?;
    install::<BoundCounter>(py, definition!(bound_counter_add, c"add", BOUND_ADD))?;
    install::<BoundUpDownCounter>(py, definition!(bound_up_down_counter_add, c"add", BOUND_ADD))?;
    install::<BoundHistogram>(
        py,
        definition!(
            bound_histogram_record,
            c"record",
            c"record($self, amount, context=None)\n--\n\n"
        ),
    )?;
    install::<BoundGauge>(
        py,
        definition!(bound_gauge_set, c"set", c"set($self, amount, context=None)\n--\n\n"),
    )?;
    install::<AllRecorder>(
        py,
        definition!(
            should_sample,
            c"should_sample",
            c"should_sample($self, *args, **kwargs)\n--\n\n"
        ),
    )?;
    install::<SpanRecorder>(
        py,
        definition!(
            span_start,
            c"on_start",
            c"on_start($self, span, parent_context=None)\n--\n\n"
        ),
    )?;
    install::<SpanRecorder>(py, definition!(span_end, c"on_end", c"on_end($self, span)\n--\n\n"))?;
    install::<SpanStarter>(
        py,
        definition!(
            start_span,
            c"start_span",
            c"start_span($self, name, *args, **kwargs)\n--\n\n"
        ),
    )?;
    install::<Noop>(py, definition!(noop_call, c"call", c"call($self, amount)\n--\n\n"))
}
