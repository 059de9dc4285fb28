//! Attributes dicts as the lookup reads them: their version, and their pairs where they are or copied.
//!
//! A dict literal is new at every call, so that each recording with one compares all its pairs. `PyDict_Next` takes a call for each, through a
//! pointer, which costs half of such a recording, and more where the processor guesses the pointer wrong (benchmarks/record.py). `CPython` 3.11 to
//! 3.13 keep the pairs of a dict with string keys side by side in the order of insertion, and so they are read from there. Whether that is so in the
//! running interpreter is tried once, before the first instrument, and what is not as expected is asked of `PyDict_Next`.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Largest attribute set that is copied.
pub const MAX_PAIRS: usize = 12;
/// The version of no dict.
pub const NO_VERSION: u64 = 0;

type Object = *mut ffi::PyObject;

/// A key and its value, as a table of string keys holds them.
#[derive(Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Pair {
    pub key: Object,
    pub value: Object,
}

/// The head of a table of keys (`CPython` 3.11 to 3.13, `internal/pycore_dict.h`). Behind it stand 2^`log2_index_bytes` bytes of index and then the
/// entries.
#[cfg(all(Py_3_11, not(Py_3_14)))]
#[repr(C)]
pub struct Keys {
    references: isize,
    log2_size: u8,
    log2_index_bytes: u8,
    kind: u8,
    version: u32,
    usable: isize,
    entries: isize,
}

#[cfg(all(Py_3_11, not(Py_3_14)))]
impl Keys {
    /// The entries; the values of a table that several dicts share are elsewhere, and null here.
    ///
    /// # Safety
    /// This is the head of a table whose keys are all strings, the GIL is held, and the pairs are used only until Python code may run.
    #[inline]
    pub unsafe fn pairs(&self) -> &[Pair] {
        // SAFETY: the caller's promise; the index and as many entries as the head states stand behind it.
        unsafe {
            let first = std::ptr::from_ref(self).add(1).byte_add(1 << self.log2_index_bytes);
            std::slice::from_raw_parts(first.cast::<Pair>(), self.entries as usize)
        }
    }
}

/// Kind of a table whose keys are all strings and whose entries are [`Pair`]s.
const STRINGS: u8 = 1;
/// Kind of no table: that of [`KIND`] until tables were found to be as expected.
const NONE: u8 = u8::MAX;

static KIND: AtomicU8 = AtomicU8::new(NONE);

/// Finds out whether pairs can be read where they are; for once, while the module is made.
pub fn try_in_place(py: Python<'_>) -> PyResult<()> {
    KIND.store(STRINGS, Relaxed);
    let mut right = true;
    for count in [0, 1, 2, 5, 6, 11, 100] {
        let dict = PyDict::new(py);
        for number in 0..count {
            dict.set_item(format!("key {number}"), format!("value {number}"))?;
        }
        right &= is_as_expected(&dict) && (count == 0 || is_in_place(&dict));
        dict.set_item("late", count)?;
        dict.del_item("late")?;
        right &= is_as_expected(&dict);
        dict.set_item(count, "no string")?;
        right &= is_as_expected(&dict);
    }
    if !right {
        KIND.store(NONE, Relaxed);
    }
    Ok(())
}

fn is_in_place(dict: &Bound<'_, PyDict>) -> bool {
    // SAFETY: an exact dict, the GIL is held.
    cfg!(not(all(Py_3_11, not(Py_3_14)))) || unsafe { pairs(dict.as_ptr()) }.is_some()
}

fn is_as_expected(dict: &Bound<'_, PyDict>) -> bool {
    // SAFETY: an exact dict, the GIL is held; the pairs are only compared.
    match unsafe { pairs(dict.as_ptr()) } {
        Some(pairs) => {
            let asked = dict.iter().map(|(key, value)| Pair {
                key: key.as_ptr(),
                value: value.as_ptr(),
            });
            pairs.len() == dict.len() && pairs.iter().copied().eq(asked)
        }
        None => true,
    }
}

/// The pairs of an exact dict where they are, borrowed; `None` if they have to be asked for.
///
/// # Safety
/// `dict` is an exact dict, the GIL is held, and the pairs are used only until Python code may run.
#[allow(clippy::inline_always)]
#[inline(always)]
pub unsafe fn pairs<'a>(dict: Object) -> Option<&'a [Pair]> {
    #[cfg(all(Py_3_11, not(Py_3_14)))]
    // SAFETY: a dict has a table of keys, always with this head in the versions that this is compiled for, which `try_in_place` made sure of. A
    // table of this kind holds as many pairs as its head states; if these are as many as the dict has, none of them was deleted.
    unsafe {
        let dict = dict.cast::<ffi::PyDictObject>();
        let keys = (*dict).ma_keys.cast::<Keys>();
        let count = (*dict).ma_used;
        if (*keys).kind != KIND.load(Relaxed) || !(*dict).ma_values.is_null() || (*keys).entries != count {
            return None;
        }
        Some((*keys).pairs())
    }
    #[cfg(not(all(Py_3_11, not(Py_3_14))))]
    {
        let _ = dict;
        None
    }
}

/// Number of pairs of an exact dict.
///
/// # Safety
/// `dict` is an exact dict, the GIL is held.
#[inline]
pub unsafe fn len(dict: Object) -> usize {
    // SAFETY: the caller promises an exact dict and the GIL.
    unsafe { (*dict.cast::<ffi::PyDictObject>()).ma_used as usize }
}

/// Version of an exact dict: a number that is new at every creation and change of any dict (PEP 509). `CPython` 3.14 dropped it, and 3.13 does
/// not keep it for the dict of an object's attributes (the kind with `ma_values`), which assignments to the object change.
///
/// # Safety
/// `dict` is an exact dict, the GIL is held.
#[inline]
pub unsafe fn version(dict: Object) -> u64 {
    #[cfg(not(Py_3_14))]
    // SAFETY: the caller promises a dict.
    #[allow(deprecated)]
    unsafe {
        let dict = dict.cast::<ffi::PyDictObject>();
        if (*dict).ma_values.is_null() {
            (*dict).ma_version_tag
        } else {
            NO_VERSION
        }
    }
    #[cfg(Py_3_14)]
    {
        let _ = dict;
        NO_VERSION
    }
}

/// Keys and values of an attributes dict, borrowed from it, in its order.
///
/// Invariant: the first `len` pairs are initialised.
pub struct Borrowed {
    pairs: [MaybeUninit<Pair>; MAX_PAIRS],
    len: usize,
}

impl Borrowed {
    /// No pairs yet. Filled in place, because moving it costs more than the whole lookup.
    #[inline]
    pub fn empty() -> Borrowed {
        Borrowed {
            pairs: [const { MaybeUninit::uninit() }; MAX_PAIRS],
            len: 0,
        }
    }

    /// Takes the pairs out of an exact dict; false if it has more than [`MAX_PAIRS`].
    ///
    /// # Safety
    /// `dict` is an exact dict, the GIL is held, and the pairs are used only until Python code may run.
    #[inline]
    pub unsafe fn fill(&mut self, dict: Object) -> bool {
        // SAFETY: the caller promises an exact dict and the GIL.
        let (len, in_place) = unsafe { (len(dict), pairs(dict)) };
        if len > MAX_PAIRS {
            return false;
        }
        if let Some(pairs) = in_place {
            for (slot, pair) in self.pairs.iter_mut().zip(pairs) {
                slot.write(*pair);
            }
            self.len = len;
            return true;
        }
        let mut position = 0;
        for slot in &mut self.pairs[..len] {
            // SAFETY: as above.
            let Some(pair) = (unsafe { next(dict, &mut position) }) else {
                break;
            };
            slot.write(pair);
            self.len += 1;
        }
        true
    }

    #[inline]
    pub fn pairs(&self) -> &[Pair] {
        // SAFETY: the invariant of the type; `MaybeUninit<T>` has the layout of `T`.
        unsafe { std::slice::from_raw_parts(self.pairs.as_ptr().cast(), self.len) }
    }

    /// Owned references, for steps during which Python code may run.
    pub fn to_owned<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let own = |object: Object| {
            // SAFETY: a live object, borrowed from the dict a moment ago; the GIL is held.
            unsafe { Bound::from_borrowed_ptr(py, object) }
        };
        self.pairs()
            .iter()
            .map(|pair| (own(pair.key), own(pair.value)))
            .collect()
    }
}

/// Shows all pairs of an exact dict, borrowed, in its order.
///
/// # Safety
/// `dict` is an exact dict, the GIL is held, and `show` runs no Python code.
#[inline]
pub unsafe fn each(dict: Object, mut show: impl FnMut(Pair)) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(pairs) = pairs(dict) {
            pairs.iter().copied().for_each(show);
        } else {
            let mut position = 0;
            while let Some(pair) = next(dict, &mut position) {
                show(pair);
            }
        }
    }
}

/// The pair of an exact dict after `position`, borrowed.
///
/// # Safety
/// As [`pairs`].
#[inline]
pub unsafe fn next(dict: Object, position: &mut ffi::Py_ssize_t) -> Option<Pair> {
    let (mut key, mut value) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the caller's promise; the answers are borrowed references that live as long as the dict is not changed.
    let found = unsafe { ffi::PyDict_Next(dict, position, &raw mut key, &raw mut value) };
    (found != 0).then_some(Pair { key, value })
}
