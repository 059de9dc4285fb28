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

/// The digits of an integer that is not negative, of 30 bits and the lowest first, and how many they are.
///
/// # Safety
/// An integer that lives, the GIL is held.
#[inline]
unsafe fn digits(object: Object) -> Option<(*const u32, usize)> {
    // SAFETY: an integer, or an object of a subclass, which begins like one.
    unsafe {
        let long = object.cast::<LongHead>();
        #[cfg(Py_3_12)]
        let (count, is_negative) = ((*long).tag >> 3, (*long).tag & 3 == 2);
        #[cfg(not(Py_3_12))]
        let (count, is_negative) = ((*long).base.ob_size.unsigned_abs(), (*long).base.ob_size < 0);
        (!is_negative).then_some((&raw const (*long).digit, count))
    }
}

/// Value of an integer of at most 128 bits that is not negative, such as ids and times, read where it lies: for a fifth of a conversion.
pub fn wide(object: &Bound<'_, PyAny>) -> Option<u128> {
    // SAFETY: a live object, of which no more digits are read than its head states.
    unsafe {
        let (digit, count) = digits(object.cast::<PyInt>().ok()?.as_ptr())?;
        if count != 5 {
            // Nearly no trace id has fewer.
            let shorter = |value, index| value << 30 | u128::from(*digit.add(index));
            return (count < 5).then(|| (0..count).rev().fold(0, shorter));
        }
        let [first, second, third, fourth, fifth] = *digit.cast::<[u32; 5]>();
        let low = u64::from(first) | u64::from(second) << 30 | u64::from(third) << 60;
        let high = u64::from(third) >> 4 | u64::from(fourth) << 26 | u64::from(fifth) << 56;
        // Of the fifth digit eight bits are left.
        (fifth >> 8 == 0).then_some(u128::from(high) << 64 | u128::from(low))
    }
}

/// As [`wide`], of at most 64 bits.
#[inline]
pub fn narrow(object: &Bound<'_, PyAny>) -> Option<u64> {
    // SAFETY: as above.
    unsafe {
        let (digit, count) = digits(object.cast::<PyInt>().ok()?.as_ptr())?;
        let at = |index| u64::from(*digit.add(index));
        match count {
            3 => (at(2) >> 4 == 0).then(|| at(0) | at(1) << 30 | at(2) << 60),
            2 => Some(at(0) | at(1) << 30),
            1 => Some(at(0)),
            0 => Some(0),
            _ => None,
        }
    }
}
