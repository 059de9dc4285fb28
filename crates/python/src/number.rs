//! What a recording method is given as its amount: Python numbers, read without calling into the interpreter where that is possible.

use otel_perf_core::drops::Drop;
use otel_perf_core::lane::Number;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyInt;

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

/// An exact `float`, or an exact `int` of at most one digit: nearly all amounts.
///
/// # Safety
/// A live object, the GIL is held.
// The answer would go through memory otherwise.
#[allow(clippy::inline_always)]
#[inline(always)]
pub unsafe fn plain_number(object: Object) -> Option<Number> {
    // SAFETY: a live object.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == &raw mut ffi::PyFloat_Type {
            return Some(Number::Float(ffi::PyFloat_AS_DOUBLE(object)));
        }
        if class == &raw mut ffi::PyLong_Type {
            return one_digit(object).map(Number::Int);
        }
        None
    }
}

/// An integer that is recorded as such.
fn integer(value: i64) -> Option<Number> {
    (-LARGEST_INT < value && value < LARGEST_INT).then_some(Number::Int(value))
}

/// Reads a number as the SDK would accept it; `Err` is the exception that `math.isfinite` would raise.
pub fn number(object: &Bound<'_, PyAny>) -> Result<Number, PyErr> {
    if object.is_exact_instance_of::<PyInt>() {
        let mut overflow = 0;
        // SAFETY: an exact integer, the GIL is held.
        let value = unsafe { ffi::PyLong_AsLongAndOverflow(object.as_ptr(), &raw mut overflow) };
        if let Some(number) = integer(value).filter(|_| overflow == 0) {
            return Ok(number);
        }
    }
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
        let index = object.call_method0("__index__").and_then(|index| index.extract());
        if let Some(number) = index.ok().and_then(integer) {
            return Ok(number);
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

/// Most digits of an integer of 128 bits.
const WIDE_DIGITS: usize = 5;

/// Value of an integer of at most 128 bits that is not negative, such as ids and times, read where it lies: for a fifth of a conversion.
pub fn wide(object: &Bound<'_, PyAny>) -> Option<u128> {
    if !object.is_instance_of::<PyInt>() {
        return None;
    }
    // SAFETY: an integer, or an object of a subclass, which begins like one. Its head states how many digits follow, and those are read.
    unsafe {
        let long = object.as_ptr().cast::<LongHead>();
        #[cfg(Py_3_12)]
        let (count, is_negative) = ((*long).tag >> 3, (*long).tag & 3 == 2);
        #[cfg(not(Py_3_12))]
        let (count, is_negative) = ((*long).base.ob_size.unsigned_abs(), (*long).base.ob_size < 0);
        if is_negative || count > WIDE_DIGITS {
            return None;
        }
        let digits = std::slice::from_raw_parts(&raw const (*long).digit, count);
        let last = digits.last().copied().unwrap_or(0);
        // Of the fifth digit eight bits are left.
        if count == WIDE_DIGITS && last >> 8 != 0 {
            return None;
        }
        Some(
            digits
                .iter()
                .rev()
                .fold(0, |value, digit| value << 30 | u128::from(*digit)),
        )
    }
}

/// As [`wide`], of at most 64 bits.
pub fn narrow(object: &Bound<'_, PyAny>) -> Option<u64> {
    wide(object).and_then(|value| u64::try_from(value).ok())
}
