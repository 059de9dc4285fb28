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

use crate::hooks;
use crate::instruments::{
    kind_name, Bound1, BoundCounter, BoundGauge, BoundHistogram, BoundUpDownCounter, Counter, Gauge, Histogram,
    Instrument, UpDownCounter,
};

type Object = *mut ffi::PyObject;

/// Integers beyond this magnitude are added as floats, so that a lane cannot wrap around unnoticed.
const LARGEST_INT: i64 = 1 << 60;

/// What a recording may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepts {
    /// Counters and histograms.
    NotNegative,
    /// Up-down counters and gauges.
    AnySign,
}

/// The head of `CPython`'s integer up to its first digit (`cpython/longintrepr.h`).
#[cfg(Py_3_12)]
#[repr(C)]
struct LongHead {
    base: ffi::PyObject,
    /// Number of digits times 8, plus 0, 1 or 2 for a positive, zero or negative integer.
    tag: usize,
    digit: u32,
}

/// The head of `CPython`'s integer up to its first digit (`longintrepr.h`).
#[cfg(not(Py_3_12))]
#[repr(C)]
struct LongHead {
    base: ffi::PyVarObject,
    digit: u32,
}

/// Value of an exact integer of at most one digit, that is, below 2^30 in magnitude: nearly all counts, for a third of a function call.
#[inline]
unsafe fn one_digit(object: Object) -> Option<i64> {
    // SAFETY: an exact integer has this head, and the memory of at least one digit even if it is zero.
    unsafe {
        let long = object.cast::<LongHead>();
        #[cfg(Py_3_12)]
        let sign = ((*long).tag < 16).then(|| 1 - ((*long).tag & 3) as i64);
        #[cfg(not(Py_3_12))]
        let sign = Some((*long).base.ob_size as i64).filter(|size| size.unsigned_abs() <= 1);
        Some(sign? * i64::from((*long).digit))
    }
}

/// Reads a number as the SDK would accept it, or sets the exception that `math.isfinite` would raise.
#[inline]
unsafe fn number(py: Python<'_>, object: Object) -> Result<Number, PyErr> {
    // SAFETY: a live object.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == &raw mut ffi::PyFloat_Type {
            return Ok(Number::Float(ffi::PyFloat_AS_DOUBLE(object)));
        }
        if class == &raw mut ffi::PyLong_Type {
            if let Some(value) = one_digit(object) {
                return Ok(Number::Int(value));
            }
            let mut overflow = 0;
            let value = ffi::PyLong_AsLongAndOverflow(object, &raw mut overflow);
            if overflow == 0 && -LARGEST_INT < value && value < LARGEST_INT {
                return Ok(Number::Int(value));
            }
        }
        unusual_number(&Bound::from_borrowed_ptr(py, object))
    }
}

#[cold]
fn unusual_number(object: &Bound<'_, PyAny>) -> Result<Number, PyErr> {
    // SAFETY: a live object, the GIL is held.
    let float = unsafe { ffi::PyFloat_AsDouble(object.as_ptr()) };
    if float == -1.0 {
        if let Some(error) = PyErr::take(object.py()) {
            return Err(error);
        }
    }
    // Booleans, numpy integers and the like are integers.
    // SAFETY: as above.
    let is_index = unsafe { ffi::PyIndex_Check(object.as_ptr()) } != 0;
    if is_index {
        if let Ok(value) = object
            .call_method0("__index__")
            .and_then(|index| index.extract::<i64>())
        {
            if -LARGEST_INT < value && value < LARGEST_INT {
                return Ok(Number::Int(value));
            }
        }
    }
    Ok(Number::Float(float))
}

/// Why a number is not recorded, if it is not.
#[inline]
fn refused(amount: Number, accepts: Accepts) -> Option<Drop> {
    match (amount, accepts) {
        (Number::Int(amount), Accepts::NotNegative) if amount < 0 => Some(Drop::Negative),
        (Number::Float(amount), _) if !amount.is_finite() => Some(Drop::NonFinite),
        (Number::Float(amount), Accepts::NotNegative) if amount < 0.0 => Some(Drop::Negative),
        _ => None,
    }
}

fn none() -> Object {
    // SAFETY: `None` is alive for as long as the interpreter; a new reference is answered.
    unsafe {
        ffi::Py_INCREF(ffi::Py_None());
        ffi::Py_None()
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
    py: Python<'_>,
    method: &str,
    names: &[&str],
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> Result<Arguments, PyErr> {
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
    // SAFETY: passed on as received.
    unsafe { arguments_by_name(py, method, names, args, nargs as usize, kwnames) }
}

/// Positional and keyword arguments in any combination; `names` are those of the method, the amount first.
#[cold]
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

/// The body of every unbound recording method.
// One copy for each method, so that the checks and the writing are known to the compiler.
#[allow(clippy::inline_always)]
#[inline(always)]
unsafe fn call(
    inner: &Instrument,
    method: &str,
    accepts: Accepts,
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
    write: impl Fn(&LocalSeries, Number),
) -> Object {
    // SAFETY: the calling convention, see the head of the file.
    unsafe {
        let py = Python::assume_attached();
        let given = match arguments(py, method, &["amount", "attributes", "context"], args, nargs, kwnames) {
            Ok(given) => given,
            Err(error) => return raise(py, error),
        };
        let amount = match number(py, given.amount) {
            Ok(amount) => amount,
            Err(error) => {
                inner.segment.count_drop(Drop::WrongType);
                return raise(py, error);
            }
        };
        if let Some(reason) = refused(amount, accepts) {
            let _ = hooks::guarded(|| inner.ignore(reason, &Bound::from_borrowed_ptr(py, given.amount)));
            return none();
        }
        if let Some(series) = inner.series(py, given.attributes) {
            write(series, amount);
        }
    }
    none()
}

/// The body of every bound recording method.
#[allow(clippy::inline_always)]
#[inline(always)]
unsafe fn call_bound(
    inner: &Bound1,
    method: &str,
    accepts: Accepts,
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
    write: impl Fn(&LocalSeries, Number),
) -> Object {
    // SAFETY: the calling convention, see the head of the file.
    unsafe {
        let py = Python::assume_attached();
        let given = match arguments(py, method, &["amount", "context"], args, nargs, kwnames) {
            Ok(given) => given,
            Err(error) => return raise(py, error),
        };
        let amount = match number(py, given.amount) {
            Ok(amount) => amount,
            Err(error) => {
                inner.segment.count_drop(Drop::WrongType);
                return raise(py, error);
            }
        };
        if let Some(reason) = refused(amount, accepts) {
            let _ = hooks::guarded(|| ignore_bound(inner, reason, &Bound::from_borrowed_ptr(py, given.amount)));
            return none();
        }
        match &inner.series {
            Some(series) => write(series, amount),
            None => inner.segment.count_drop(Drop::NoInstrument),
        }
    }
    none()
}

#[cold]
fn ignore_bound(inner: &Bound1, reason: Drop, amount: &Bound<'_, PyAny>) {
    inner.segment.count_drop(reason);
    let reason = if reason == Drop::Negative {
        "negative"
    } else {
        "non_finite"
    };
    hooks::ignored(amount.py(), kind_name(inner.kind), &inner.name, reason, amount);
}

/// Takes what a callback reported; not finite numbers were dealt with before.
pub fn observe(inner: &Instrument, value: &Bound<'_, PyAny>, attributes: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    // SAFETY: live objects, the GIL is held.
    unsafe {
        let amount = number(value.py(), value.as_ptr())?;
        let attributes = attributes.map_or(ptr::null_mut(), Bound::as_ptr);
        if let Some(series) = inner.series(value.py(), attributes) {
            series.set(amount);
        }
    }
    Ok(())
}

macro_rules! method {
    ($function:ident, $class:ty, $call:ident, $method:literal, $accepts:expr, $write:path) => {
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
                $call(&slf.get().inner, $method, $accepts, args, nargs, kwnames, $write)
            }
        }
    };
}

method!(
    counter_add,
    Counter,
    call,
    "add",
    Accepts::NotNegative,
    LocalSeries::add
);
method!(
    up_down_counter_add,
    UpDownCounter,
    call,
    "add",
    Accepts::AnySign,
    LocalSeries::add
);
method!(
    histogram_record,
    Histogram,
    call,
    "record",
    Accepts::NotNegative,
    LocalSeries::record
);
method!(gauge_set, Gauge, call, "set", Accepts::AnySign, LocalSeries::set);
method!(
    bound_counter_add,
    BoundCounter,
    call_bound,
    "add",
    Accepts::NotNegative,
    LocalSeries::add
);
method!(
    bound_up_down_counter_add,
    BoundUpDownCounter,
    call_bound,
    "add",
    Accepts::AnySign,
    LocalSeries::add
);
method!(
    bound_histogram_record,
    BoundHistogram,
    call_bound,
    "record",
    Accepts::NotNegative,
    LocalSeries::record
);
method!(
    bound_gauge_set,
    BoundGauge,
    call_bound,
    "set",
    Accepts::AnySign,
    LocalSeries::set
);

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
