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
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;

use crate::gate::Gate;
use crate::hooks;
use crate::instruments::{
    BoundCounter, BoundGauge, BoundHistogram, BoundSeries, BoundUpDownCounter, Counter, Gauge, Histogram, Instrument,
    UpDownCounter,
};
use crate::number::{number, plain_number, refused, Accepts};

type Object = *mut ffi::PyObject;

fn none() -> Object {
    // SAFETY: `None` is alive for as long as the interpreter; a new reference is answered.
    unsafe {
        ffi::Py_INCREF(ffi::Py_None());
        ffi::Py_None()
    }
}

/// The answer of a call that recorded nothing: `None`, or null if an exception is set.
#[cold]
fn nothing() -> Object {
    // SAFETY: the GIL is held.
    if unsafe { ffi::PyErr_Occurred() }.is_null() {
        none()
    } else {
        ptr::null_mut()
    }
}

fn raise(py: Python<'_>, error: PyErr) -> Object {
    error.restore(py);
    ptr::null_mut()
}

/// The three arguments of a recording method; null where not given.
struct Arguments {
    amount: Object,
    attributes: Object,
}

#[inline]
unsafe fn arguments(
    method: &str,
    names: &[&str],
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> Result<Arguments, Object> {
    if kwnames.is_null() && (nargs == 1 || nargs == 2 && names.len() == 3) {
        // SAFETY: `args` holds `nargs` objects.
        unsafe {
            let attributes = if nargs == 2 { *args.add(1) } else { ptr::null_mut() };
            return Ok(Arguments {
                amount: *args,
                attributes,
            });
        }
    }
    // SAFETY: passed on as received; the GIL is held.
    unsafe {
        let py = Python::assume_attached();
        arguments_by_name(py, method, names, args, nargs as usize, kwnames).map_err(|error| raise(py, error))
    }
}

/// Positional and keyword arguments in any combination; `names` are those of the method, the amount first.
#[cold]
#[inline(never)]
unsafe fn arguments_by_name(
    py: Python<'_>,
    method: &str,
    names: &[&str],
    args: *const Object,
    nargs: usize,
    kwnames: Object,
) -> Result<Arguments, PyErr> {
    if nargs > names.len() {
        let count = names.len();
        return Err(PyTypeError::new_err(format!(
            "{method}() takes at most {count} arguments ({nargs} given)"
        )));
    }
    let mut given = [ptr::null_mut(); 3];
    // SAFETY: `args` holds `nargs` objects and then one for each name.
    unsafe {
        for (index, slot) in given.iter_mut().enumerate().take(nargs) {
            *slot = *args.add(index);
        }
        if !kwnames.is_null() {
            for index in 0..ffi::PyTuple_GET_SIZE(kwnames) {
                let name: Bound<'_, PyAny> = Bound::from_borrowed_ptr(py, ffi::PyTuple_GET_ITEM(kwnames, index));
                let name: String = name.extract()?;
                let Some(position) = names.iter().position(|known| *known == name) else {
                    return Err(PyTypeError::new_err(format!(
                        "{method}() got an unexpected keyword argument '{name}'"
                    )));
                };
                if !given[position].is_null() {
                    return Err(PyTypeError::new_err(format!(
                        "{method}() got multiple values for argument '{name}'"
                    )));
                }
                given[position] = *args.add(nargs + index as usize);
            }
        }
    }
    if given[0].is_null() {
        return Err(PyTypeError::new_err(format!(
            "{method}() missing 1 required positional argument: '{}'",
            names[0]
        )));
    }
    let attributes = if names.len() == 3 { given[1] } else { ptr::null_mut() };
    Ok(Arguments {
        amount: given[0],
        attributes,
    })
}

/// The amount of a recording; `Err` is the answer of a call that records nothing.
#[allow(clippy::inline_always)]
#[inline(always)]
unsafe fn amount(gate: &Gate, object: Object, accepts: Accepts) -> Result<Number, Object> {
    // SAFETY: a live object, the GIL is held.
    match unsafe { plain_number(object) } {
        Some(amount) if refused(amount, accepts).is_none() => Ok(amount),
        // SAFETY: as above.
        _ => unsafe { unusual_amount(gate, object, accepts) },
    }
}

#[cold]
#[inline(never)]
unsafe fn unusual_amount(gate: &Gate, object: Object, accepts: Accepts) -> Result<Number, Object> {
    // SAFETY: a live object, the GIL is held.
    let object = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), object) };
    let amount = match number(&object) {
        Ok(amount) => amount,
        Err(_) if !gate.is_open() => return Err(none()),
        Err(error) => {
            gate.count_drop(Drop::WrongType);
            return Err(raise(object.py(), error));
        }
    };
    let Some(reason) = refused(amount, accepts) else {
        return Ok(amount);
    };
    let _ = hooks::guarded(&gate.segment, || gate.ignore(reason, &object));
    Err(nothing())
}

/// What every unbound recording method does before it writes; `Err` is the answer of a call that writes nothing.
// One copy for each method, so that the checks and the writing are known to the compiler.
#[allow(clippy::inline_always)]
#[inline(always)]
unsafe fn call<'a>(
    inner: &'a Instrument,
    method: &str,
    accepts: Accepts,
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> Result<(&'a LocalSeries, Number), Object> {
    // SAFETY: the calling convention, see the head of the file.
    unsafe {
        let given = arguments(method, &["amount", "attributes", "context"], args, nargs, kwnames)?;
        let amount = amount(&inner.gate, given.amount, accepts)?;
        match inner.series(Python::assume_attached(), given.attributes) {
            Some(series) => Ok((series, amount)),
            None => Err(nothing()),
        }
    }
}

/// As [`call`], for the bound ones.
#[allow(clippy::inline_always)]
#[inline(always)]
unsafe fn call_bound<'a>(
    inner: &'a BoundSeries,
    method: &str,
    accepts: Accepts,
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> Result<(&'a LocalSeries, Number), Object> {
    // SAFETY: the calling convention, see the head of the file.
    unsafe {
        let given = arguments(method, &["amount", "context"], args, nargs, kwnames)?;
        let amount = amount(&inner.gate, given.amount, accepts)?;
        match &inner.series {
            Some(series) if inner.gate.is_open() => Ok((series, amount)),
            Some(_) => Err(none()),
            None => {
                inner.gate.count_drop(Drop::NoInstrument);
                Err(none())
            }
        }
    }
}

/// Takes what a callback reported; not finite numbers were dealt with before.
pub fn observe(inner: &Instrument, value: &Bound<'_, PyAny>, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    // SAFETY: live objects, the GIL is held.
    unsafe {
        let amount = number(value)?;
        let attributes = attributes.map_or(ptr::null_mut(), Bound::as_ptr);
        if let Some(series) = inner.series(value.py(), attributes) {
            series.set(amount);
        }
    }
    PyErr::take(value.py()).map_or(Ok(()), Err)
}

macro_rules! method {
    ($function:ident, $class:ty, $call:ident, $method:literal, $accepts:expr, $write:ident) => {
        unsafe extern "C" fn $function(
            slf: Object,
            args: *const Object,
            nargs: ffi::Py_ssize_t,
            kwnames: Object,
        ) -> Object {
            // SAFETY: the calling convention, see the head of the file; `slf` is an instance of `$class`.
            unsafe {
                let py = Python::assume_attached();
                let slf = Borrowed::from_ptr(py, slf).cast_unchecked::<$class>();
                match $call(&slf.get().inner, $method, $accepts, args, nargs, kwnames) {
                    Ok((series, amount)) => {
                        series.$write(amount);
                        none()
                    }
                    Err(answer) => answer,
                }
            }
        }
    };
}

method!(counter_add, Counter, call, "add", Accepts::NotNegative, add);
method!(up_down_counter_add, UpDownCounter, call, "add", Accepts::AnySign, add);
method!(
    histogram_record,
    Histogram,
    call,
    "record",
    Accepts::NotNegative,
    record
);
method!(gauge_set, Gauge, call, "set", Accepts::AnySign, set);
method!(
    bound_counter_add,
    BoundCounter,
    call_bound,
    "add",
    Accepts::NotNegative,
    add
);
method!(
    bound_up_down_counter_add,
    BoundUpDownCounter,
    call_bound,
    "add",
    Accepts::AnySign,
    add
);
method!(
    bound_histogram_record,
    BoundHistogram,
    call_bound,
    "record",
    Accepts::NotNegative,
    record
);
method!(bound_gauge_set, BoundGauge, call_bound, "set", Accepts::AnySign, set);

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
    install::<Noop>(py, definition!(noop_call, c"call", c"call($self, amount)\n--\n\n"))
}
