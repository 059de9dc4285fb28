//! Attribute keys and values of exact plain types: `str`, `int`, `float`, `bool`, `bytes` and `None`, compared by content without running Python code.

use pyo3::ffi;
use pyo3::prelude::*;

type Object = *mut ffi::PyObject;

#[inline]
unsafe fn is(object: Object, class: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a live object has a type.
    unsafe { ffi::Py_TYPE(object) == class }
}

/// Hash of an exact string, which keeps it from when it was first asked for.
#[inline]
unsafe fn hash_text(text: Object) -> u64 {
    // SAFETY: an exact string has this head, whose hash is -1 until it is known; asking for it runs no Python code and cannot fail.
    unsafe {
        let known = (*text.cast::<ffi::PyASCIIObject>()).hash;
        (if known == -1 { ffi::PyObject_Hash(text) } else { known }) as u64
    }
}

/// Hash of an attribute key; `None` if it is no exact string, or empty.
///
/// # Safety
/// A live object, the GIL is held.
#[inline]
pub unsafe fn hash_key(key: Object) -> Option<u64> {
    // SAFETY: a live object; an exact string's hash runs no Python code and cannot fail. Empty keys are for the slow path to drop.
    unsafe {
        if !is(key, &raw mut ffi::PyUnicode_Type) || ffi::PyUnicode_GET_LENGTH(key) == 0 {
            return None;
        }
        Some(hash_text(key))
    }
}

/// Hash of an attribute value with a tag for its type, so that `1`, `1.0` and `True` differ; `None` if it is not of an exact plain type.
///
/// # Safety
/// A live object, the GIL is held.
pub unsafe fn hash_value(value: Object) -> Option<u64> {
    // SAFETY: a live object; hashing an object of these exact types runs no Python code and cannot fail.
    unsafe {
        let tag = if is(value, &raw mut ffi::PyUnicode_Type) {
            return Some(hash_text(value).wrapping_mul(5));
        } else if is(value, &raw mut ffi::PyLong_Type) {
            1
        } else if is(value, &raw mut ffi::PyFloat_Type) {
            return Some(canonical_float(ffi::PyFloat_AS_DOUBLE(value)) ^ 0x5bd1);
        } else if is(value, &raw mut ffi::PyBool_Type) {
            2
        } else if is(value, &raw mut ffi::PyBytes_Type) {
            3
        } else if value == ffi::Py_None() {
            4
        } else {
            return None;
        };
        Some((ffi::PyObject_Hash(value) as u64).wrapping_mul(5).wrapping_add(tag))
    }
}

fn canonical_float(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        (value + 0.0).to_bits()
    }
}

/// Whether the SDK keeps an attribute of a span as it is: under a key that is an exact string, and not empty, a value of an exact plain type, of a text
/// no more than so many characters.
///
/// # Safety
/// Live objects, the GIL is held.
#[inline]
pub unsafe fn is_kept(key: Object, value: Object, longest: usize) -> bool {
    // SAFETY: live objects; the length of an exact string stands in it.
    unsafe {
        let is_key = is(key, &raw mut ffi::PyUnicode_Type) && ffi::PyUnicode_GET_LENGTH(key) != 0;
        let class = ffi::Py_TYPE(value);
        let is_value = if class == &raw mut ffi::PyUnicode_Type {
            ffi::PyUnicode_GET_LENGTH(value) as usize <= longest
        } else {
            class == &raw mut ffi::PyLong_Type
                || class == &raw mut ffi::PyFloat_Type
                || class == &raw mut ffi::PyBool_Type
                || class == &raw mut ffi::PyBytes_Type
                || value == ffi::Py_None()
        };
        is_key && is_value
    }
}

/// Whether two objects of exact plain types are the same attribute key or value.
///
/// # Safety
/// Live objects that [`hash_key`] or [`hash_value`] accept, the GIL is held.
pub unsafe fn same(a: Object, b: Object) -> bool {
    if a == b {
        return true;
    }
    // SAFETY: live objects of the exact types that `hash_key` and `hash_value` accept; comparing those runs no Python code.
    unsafe {
        let class = ffi::Py_TYPE(a);
        if class != ffi::Py_TYPE(b) {
            return false;
        }
        if class == &raw mut ffi::PyUnicode_Type {
            return same_text(a, b);
        }
        if class == &raw mut ffi::PyFloat_Type {
            return canonical_float(ffi::PyFloat_AS_DOUBLE(a)) == canonical_float(ffi::PyFloat_AS_DOUBLE(b));
        }
        if class == &raw mut ffi::PyBool_Type {
            return false;
        }
        ffi::PyObject_RichCompareBool(a, b, ffi::Py_EQ) == 1
    }
}

/// Whether two exact strings are equal.
unsafe fn same_text(a: Object, b: Object) -> bool {
    // SAFETY: exact strings; nearly all attribute strings are ASCII, whose bytes lie behind the object.
    unsafe {
        let len = ffi::PyUnicode_GET_LENGTH(a);
        if len != ffi::PyUnicode_GET_LENGTH(b) {
            return false;
        }
        let kind = ffi::PyUnicode_KIND(a);
        if kind != ffi::PyUnicode_KIND(b) {
            return false;
        }
        let bytes = len as usize * kind as usize;
        let text = |object| std::slice::from_raw_parts(ffi::PyUnicode_DATA(object).cast::<u8>(), bytes);
        text(a) == text(b)
    }
}

/// As [`is_kept`], of objects that are held.
#[inline]
pub fn are_kept(key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, longest: usize) -> bool {
    // SAFETY: live objects, the GIL is held.
    unsafe { is_kept(key.as_ptr(), value.as_ptr(), longest) }
}

/// As [`hash_value`], of an object that is held.
#[inline]
pub fn hash_of_value(value: &Bound<'_, PyAny>) -> Option<u64> {
    // SAFETY: a live object, the GIL is held.
    unsafe { hash_value(value.as_ptr()) }
}

/// As [`same`], of objects that are held. Of others than those of exact plain types the comparison is Python's.
#[inline]
pub fn are_same(own: &Py<PyAny>, other: &Bound<'_, PyAny>) -> bool {
    // SAFETY: live objects, the GIL is held, for one of them is bound to it. What is compared as text or as a float has that exact type.
    unsafe { same(own.as_ptr(), other.as_ptr()) }
}
