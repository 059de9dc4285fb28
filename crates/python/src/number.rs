//! What a recording method is given as its amount: Python numbers, read without calling into the interpreter where that is possible.

use otel_perf_core::drops::Drop;
use otel_perf_core::lane::Number;
use pyo3::ffi;
use pyo3::prelude::*;

type Object = *mut ffi::PyObject;

/// Integers beyond this magnitude are added as floats, so that a lane cannot wrap around unnoticed.
const LARGEST_INT: i64 = 1 << 60;

/// What a recording may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
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

/// Reads a number as the SDK would accept it; `Err` is the exception that `math.isfinite` would raise.
///
/// # Safety
/// A live object, the GIL is held.
#[inline]
pub unsafe fn number(py: Python<'_>, object: Object) -> Result<Number, PyErr> {
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
pub fn refused(amount: Number, accepts: Accepts) -> Option<Drop> {
    match (amount, accepts) {
        (Number::Int(amount), Accepts::NotNegative) if amount < 0 => Some(Drop::Negative),
        (Number::Float(amount), _) if !amount.is_finite() => Some(Drop::NonFinite),
        (Number::Float(amount), Accepts::NotNegative) if amount < 0.0 => Some(Drop::Negative),
        _ => None,
    }
}
