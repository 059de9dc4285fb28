//! Attributes of instances, read where the interpreter keeps them.
//!
//! `CPython` 3.11 to 3.13 keep the values of an instance's attributes side by side, in the order in which its class has first seen their names. Asking
//! for one by its name costs a hash look-up in the class and another one in the names, a third of all that a span processor does with a span
//! (benchmarks/spans.py). A [`Place`] remembers where an attribute of a class is. Whether values lie as expected in the running interpreter is tried once,
//! while the module is made; what is not as expected is asked for by its name.

use std::ffi::CString;
use std::sync::atomic::AtomicBool;
#[cfg(all(Py_3_11, not(Py_3_14)))]
use std::sync::atomic::Ordering::Relaxed;
#[cfg(all(Py_3_11, not(Py_3_14)))]
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

#[cfg(all(Py_3_11, not(Py_3_14)))]
use crate::dict::{Keys, Pair};

type Object = *mut ffi::PyObject;

/// Attributes of the class that is tried: as many as a span has.
const ATTRIBUTES: usize = 24;

/// Whether values lie as expected.
static IN_PLACE: AtomicBool = AtomicBool::new(false);

/// Where instances of one class have one attribute. The GIL protects it: the words are atomic for the compiler only.
pub struct Place {
    /// A class that is kept alive for ever; null if none was seen yet.
    #[cfg(all(Py_3_11, not(Py_3_14)))]
    class: AtomicPtr<ffi::PyTypeObject>,
    /// The version of the class: a number that no changed class has.
    #[cfg(all(Py_3_11, not(Py_3_14)))]
    version: AtomicU32,
    #[cfg(all(Py_3_11, not(Py_3_14)))]
    index: AtomicUsize,
}

impl Place {
    /// A place that is not known yet.
    pub const fn new() -> Place {
        Place {
            #[cfg(all(Py_3_11, not(Py_3_14)))]
            class: AtomicPtr::new(std::ptr::null_mut()),
            #[cfg(all(Py_3_11, not(Py_3_14)))]
            version: AtomicU32::new(0),
            #[cfg(all(Py_3_11, not(Py_3_14)))]
            index: AtomicUsize::new(0),
        }
    }

    /// The attribute of an object; none if it has none, or if it has to be asked for by its name. `name` is asked for once for each class.
    #[cfg(all(Py_3_11, not(Py_3_14)))]
    #[inline]
    pub fn get<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        name: impl FnOnce(Python<'py>) -> &'py Bound<'py, PyString>,
    ) -> Option<Bound<'py, PyAny>> {
        // SAFETY: a live object, the GIL is held. The class is that in which `find` found the index, unchanged, and `values` answers the values of an
        // instance that has them; each is a live object or null.
        unsafe {
            let class = ffi::Py_TYPE(object.as_ptr());
            let version = (*class).tp_version_tag;
            if class != self.class.load(Relaxed) || version != self.version.load(Relaxed) || version == 0 {
                self.find(class, name(object.py()).as_ptr())?;
            }
            let values = values(object.as_ptr(), class);
            if values.is_null() {
                return None;
            }
            Bound::from_borrowed_ptr_or_opt(object.py(), *values.add(self.index.load(Relaxed)))
        }
    }

    /// Where the interpreter keeps values elsewhere, nothing is read in place.
    #[cfg(not(all(Py_3_11, not(Py_3_14))))]
    pub fn get<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        name: impl FnOnce(Python<'py>) -> &'py Bound<'py, PyString>,
    ) -> Option<Bound<'py, PyAny>> {
        let _ = (self, object, name);
        None
    }

    /// Finds the attribute in the names of a class; none if instances have not all of it in place, or if the class has its own idea of it.
    #[cfg(all(Py_3_11, not(Py_3_14)))]
    #[cold]
    unsafe fn find(&self, class: *mut ffi::PyTypeObject, name: Object) -> Option<()> {
        // SAFETY: a live class and an interned name, the GIL is held. A heap type has the names of its instances' attributes, or null, and these have the
        // head that `try_in_place` of `dict.rs` made sure of.
        unsafe {
            let is_usual = (*class).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0
                && (*class).tp_getattro.map(|get| get as usize)
                    == Some(ffi::PyObject_GenericGetAttr as *const () as usize);
            // What the class has under this name comes before what an instance has. The look-up gives the class its version.
            if !is_usual || !IN_PLACE.load(Relaxed) || ffi::PyObject_HasAttr(class.cast(), name) != 0 {
                return None;
            }
            if (*class).tp_version_tag == 0 {
                return None;
            }
            let keys = (*class.cast::<ffi::PyHeapTypeObject>()).ht_cached_keys.cast::<Keys>();
            if keys.is_null() {
                return None;
            }
            let index = (*keys).pairs().iter().position(|pair: &Pair| pair.key == name)?;
            if class != self.class.load(Relaxed) {
                ffi::Py_INCREF(class.cast());
            }
            self.class.store(class, Relaxed);
            self.version.store((*class).tp_version_tag, Relaxed);
            self.index.store(index, Relaxed);
            Some(())
        }
    }
}

/// The values of an instance (`_PyObject_ValuesPointer`, `_PyDictOrValues_GetValues` and `_PyObject_InlineValues`); null if they are in a dict.
#[cfg(all(Py_3_11, not(Py_3_14)))]
#[inline]
unsafe fn values(object: Object, class: *mut ffi::PyTypeObject) -> *const Object {
    /// Flag of a class whose instances have their attributes before their head, `Py_TPFLAGS_MANAGED_DICT`.
    #[cfg(not(Py_3_13))]
    const FLAG: std::ffi::c_ulong = 1 << 4;
    /// Flag of a class whose instances have them behind themselves, `Py_TPFLAGS_INLINE_VALUES`.
    #[cfg(Py_3_13)]
    const FLAG: std::ffi::c_ulong = 1 << 2;
    // SAFETY: a live object of this class, the GIL is held; the flag states that there is what is read.
    unsafe {
        if (*class).tp_flags & FLAG == 0 {
            return std::ptr::null();
        }
        #[cfg(not(Py_3_12))]
        {
            *object.cast::<*const Object>().sub(4)
        }
        #[cfg(all(Py_3_12, not(Py_3_13)))]
        {
            // One less than the address; an even word is that of a dict.
            let word = *object.cast::<usize>().sub(3);
            if word & 1 == 0 {
                std::ptr::null()
            } else {
                (word + 1) as *const Object
            }
        }
        #[cfg(Py_3_13)]
        {
            // Capacity, size, whether embedded and whether valid, a byte each, and padding.
            let head = object.cast::<u8>().add((*class).tp_basicsize as usize);
            if *head.add(3) == 0 {
                std::ptr::null()
            } else {
                head.add(8).cast::<Object>()
            }
        }
    }
}

/// Whether attributes are read in place.
pub fn is_in_place() -> bool {
    IN_PLACE.load(std::sync::atomic::Ordering::Relaxed)
}

/// Finds out whether attributes can be read where they are; for once, while the module is made.
pub fn try_in_place(py: Python<'_>) -> PyResult<()> {
    IN_PLACE.store(true, std::sync::atomic::Ordering::Relaxed);
    // Written out, because the interpreter makes room for the attributes that it finds in the code of a class.
    let body = (0..ATTRIBUTES)
        .map(|number| format!("        if count > {number}: self.a{number} = object()\n"))
        .collect::<Vec<_>>()
        .concat();
    let source = format!("class Tried:\n    def __init__(self, count):\n{body}");
    let class = PyModule::from_code(py, &CString::new(source)?, c"tried", c"tried")?.getattr("Tried")?;
    let names: Vec<Bound<'_, PyString>> = (0..30)
        .map(|number| PyString::intern(py, &format!("a{number}")))
        .collect();
    let places: Vec<Place> = names.iter().map(|_| Place::new()).collect();
    let mut right = true;
    for count in [ATTRIBUTES, 1, 7] {
        let object = class.call1((count,))?;
        let agrees = || {
            names.iter().zip(&places).all(|(name, place)| {
                let asked = object.getattr(name).ok();
                let found = place.get(&object, |_| name);
                found.is_none_or(|found| asked.is_some_and(|asked| asked.is(&found)))
            })
        };
        right &= agrees() && places[0].get(&object, |_| &names[0]).is_some();
        object.delattr("a0")?;
        right &= agrees();
        object.setattr("late", 1)?;
        right &= agrees();
        object.getattr("__dict__")?.set_item("a0", 5)?;
        right &= agrees();
    }
    if !right {
        IN_PLACE.store(false, std::sync::atomic::Ordering::Relaxed);
    }
    Ok(())
}
