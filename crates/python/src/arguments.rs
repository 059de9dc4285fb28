//! The arguments of the recording methods, taken from the interpreter's vector call by position and name.

use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

type Object = *mut ffi::PyObject;

/// Sets an exception and answers what a method that raises answers.
pub fn raise(py: Python<'_>, error: PyErr) -> Object {
    error.restore(py);
    ptr::null_mut()
}

/// The three arguments of a recording method; null where not given.
pub struct Arguments {
    pub amount: Object,
    pub attributes: Object,
    pub context: Object,
}

/// The arguments of a usual call: the amount, and attributes where the method has them, all by position.
///
/// # Safety
/// The calling convention, see `hot.rs`.
// A part of every recording.
#[allow(clippy::inline_always)]
#[inline(always)]
pub unsafe fn usual_arguments(
    names: &[&str],
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> Option<Arguments> {
    if !kwnames.is_null() || nargs != 1 && (nargs != 2 || names.len() != 3) {
        return None;
    }
    // SAFETY: `args` holds `nargs` objects.
    unsafe {
        Some(Arguments {
            amount: *args,
            attributes: if nargs == 2 { *args.add(1) } else { ptr::null_mut() },
            context: ptr::null_mut(),
        })
    }
}

/// The arguments of a recording method whose parameters have these names, the amount first; `Err` is the answer of a call with wrong ones.
///
/// # Safety
/// The calling convention, see `hot.rs`.
#[inline]
pub unsafe fn arguments(
    method: &str,
    names: &[&str],
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
) -> Result<Arguments, Object> {
    // SAFETY: passed on as received.
    if let Some(given) = unsafe { usual_arguments(names, args, nargs, kwnames) } {
        return Ok(given);
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
    let (attributes, context) = if names.len() == 3 {
        (given[1], given[2])
    } else {
        (ptr::null_mut(), given[1])
    };
    Ok(Arguments {
        amount: given[0],
        attributes,
        context,
    })
}
