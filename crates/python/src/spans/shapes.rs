//! What a span processor remembers: plans by the shape of spans, and the spans of this process that are in the table.
//!
//! Of the attributes only those count that a plan may ask for: the keys that programs make up do not make shapes.

use std::cell::UnsafeCell;

use hashbrown::HashTable;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyWeakrefReference};

use super::fields::Beginning;
use super::plan::Plan;
use crate::dict;
use crate::plain::{hash_key, same};

/// Shapes that are remembered; when there are more, all are forgotten.
const MOST_SHAPES: usize = 1000;

/// Attributes of a span that are looked at; whatever comes after so many is left out.
const MOST_ATTRIBUTES: usize = 32;

/// Spans of the same kind, status and keys of attributes in one scope.
struct Shape {
    hash: u64,
    scope: Py<PyString>,
    about: [u8; 2],
    keys: Vec<Py<PyAny>>,
    plan: Plan,
}

/// A span of this process that is in the table.
pub struct Live {
    pub span: u64,
    pub beginning: Beginning,
    pub reference: Py<PyWeakrefReference>,
}

#[derive(Default)]
pub struct Memory {
    /// Keys of the attributes that plans ask for, exact strings, by their hash.
    keys: HashTable<(u64, Py<PyString>)>,
    shapes: HashTable<Shape>,
    /// The scope of the last span, and its name.
    scope: Option<(Py<PyAny>, Py<PyString>)>,
    /// By record of the table.
    pub live: Vec<Option<Live>>,
    /// The process that `live` is of, as a number of forks.
    pub process: u32,
    /// Spans that found no record.
    pub failures: u32,
}

/// The attributes of a span that plans ask for, in their order.
pub struct Attributes<'py> {
    pub keys: Vec<Bound<'py, PyAny>>,
    pub values: Vec<Bound<'py, PyAny>>,
}

impl<'py> Attributes<'py> {
    /// Those that a plan takes.
    pub fn of(&self, plan: &Plan) -> Vec<Bound<'py, PyAny>> {
        let positions = plan.positions().iter();
        positions
            .filter_map(|position| self.values.get(*position).cloned())
            .collect()
    }
}

/// What is protected by the GIL.
///
/// Invariant: the cell is touched only with the GIL held, and no reference into it is alive while Python code may run or the GIL may be released.
#[derive(Default)]
pub struct Guarded(UnsafeCell<Memory>);

// SAFETY: the invariant; the module does not declare itself free-threaded. What the plans hold is used only with the GIL held.
unsafe impl Sync for Guarded {}
// SAFETY: as above.
unsafe impl Send for Guarded {}

impl Guarded {
    /// Answers what `act` makes of the memory. It runs no Python code: what it takes out is dropped by the caller.
    pub fn with<T>(&self, _: Python<'_>, act: impl FnOnce(&mut Memory) -> T) -> T {
        // SAFETY: the GIL is held, and the callers keep the promise.
        act(unsafe { &mut *self.0.get() })
    }
}

/// Hash of a shape, whose keys are exact strings.
fn hash(scope: &Bound<'_, PyString>, about: [u8; 2], pairs: &[dict::Pair]) -> u64 {
    // SAFETY: live objects, the GIL is held.
    let text = |object| unsafe { hash_key(object) }.unwrap_or(1);
    let start = text(scope.as_ptr()) ^ u64::from(u16::from_le_bytes(about)) << 48;
    pairs.iter().fold(start, |hash, pair| {
        (hash ^ text(pair.key))
            .wrapping_mul(0xff51_afd7_ed55_8ccd)
            .rotate_left(31)
    })
}

impl Shape {
    fn equals(&self, scope: &Bound<'_, PyString>, about: [u8; 2], pairs: &[dict::Pair]) -> bool {
        // SAFETY: exact strings, as those in `keys` are, or a scope's name; the GIL is held.
        let is_same = |own, other| unsafe { same(own, other) };
        self.about == about
            && self.keys.len() == pairs.len()
            && is_same(self.scope.as_ptr(), scope.as_ptr())
            && self
                .keys
                .iter()
                .zip(pairs)
                .all(|(own, pair)| is_same(own.as_ptr(), pair.key))
    }
}

/// The attributes of a span as far as its plan wants them.
pub struct Taken<'py> {
    pub plan: Plan,
    pub values: Vec<Bound<'py, PyAny>>,
}

impl Memory {
    /// States the keys of the attributes that plans ask for.
    pub fn know(&mut self, keys: Vec<Py<PyString>>) {
        for key in keys {
            // SAFETY: a live object, the GIL is held by who hands them over.
            if let Some(hash) = unsafe { hash_key(key.as_ptr()) } {
                self.keys.insert_unique(hash, (hash, key), |(hash, _)| *hash);
            }
        }
    }

    fn knows(&self, key: *mut ffi::PyObject) -> bool {
        // SAFETY: a live object, the GIL is held; what has a hash is an exact string, and so are the keys.
        unsafe {
            hash_key(key).is_some_and(|hash| {
                let is_it = |known: &(u64, Py<PyString>)| known.0 == hash && same(known.1.as_ptr(), key);
                self.keys.find(hash, is_it).is_some()
            })
        }
    }

    /// The attributes of a span that plans ask for.
    pub fn attributes<'py>(&self, attributes: &Bound<'py, PyDict>) -> Attributes<'py> {
        let py = attributes.py();
        let mut found = Attributes {
            keys: Vec::with_capacity(MOST_ATTRIBUTES),
            values: Vec::with_capacity(MOST_ATTRIBUTES),
        };
        self.with_pairs(attributes, |pairs| {
            for pair in pairs {
                // SAFETY: live objects, borrowed from the dict a moment ago; the GIL is held.
                unsafe {
                    found.keys.push(Bound::from_borrowed_ptr(py, pair.key));
                    found.values.push(Bound::from_borrowed_ptr(py, pair.value));
                }
            }
        });
        found
    }

    /// The name of a scope, if it is that of the last span.
    pub fn scope_name<'py>(&self, scope: &Bound<'py, PyAny>) -> Option<Bound<'py, PyString>> {
        let (last, name) = self.scope.as_ref()?;
        last.is(scope).then(|| name.bind(scope.py()).clone())
    }

    /// Keeps the name of a scope; answers what it takes the place of.
    pub fn keep_scope(&mut self, scope: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> impl Sized {
        self.scope.replace((scope.clone().unbind(), name.clone().unbind()))
    }

    /// The plan of a span with the attributes that it wants, if there is one.
    pub fn take<'py>(
        &self,
        scope: &Bound<'py, PyString>,
        about: [u8; 2],
        attributes: &Bound<'py, PyDict>,
    ) -> Option<Taken<'py>> {
        self.with_pairs(attributes, |pairs| {
            let hash = hash(scope, about, pairs);
            let is_it = |shape: &Shape| shape.hash == hash && shape.equals(scope, about, pairs);
            let plan = self.shapes.find(hash, is_it)?.plan.clone();
            let positions = plan.positions();
            let mut values = Vec::with_capacity(positions.len());
            for pair in positions.iter().filter_map(|position| pairs.get(*position)) {
                // SAFETY: a live object, borrowed from the dict a moment ago; the GIL is held.
                values.push(unsafe { Bound::from_borrowed_ptr(scope.py(), pair.value) });
            }
            Some(Taken { plan, values })
        })
    }

    /// Remembers the plan of a shape; answers what is forgotten for it.
    pub fn remember(
        &mut self,
        scope: &Bound<'_, PyString>,
        about: [u8; 2],
        attributes: &Attributes<'_>,
        plan: &Plan,
    ) -> impl Sized {
        let forgotten = (self.shapes.len() >= MOST_SHAPES).then(|| self.forget());
        let pair = |key: &Bound<'_, PyAny>| dict::Pair {
            key: key.as_ptr(),
            value: std::ptr::null_mut(),
        };
        let pairs: Vec<dict::Pair> = attributes.keys.iter().map(pair).collect();
        let shape = Shape {
            hash: hash(scope, about, &pairs),
            scope: scope.clone().unbind(),
            about,
            keys: attributes.keys.iter().map(|key| key.clone().unbind()).collect(),
            plan: plan.clone(),
        };
        self.shapes.insert_unique(shape.hash, shape, |shape| shape.hash);
        forgotten
    }

    /// Forgets all plans, which are answered.
    pub fn forget(&mut self) -> impl Sized {
        std::mem::take(&mut self.shapes)
    }

    /// Answers what `look` makes of the pairs of a dict whose keys are known; it runs no Python code.
    fn with_pairs<T>(&self, dict: &Bound<'_, PyDict>, look: impl FnOnce(&[dict::Pair]) -> T) -> T {
        let none = dict::Pair {
            key: std::ptr::null_mut(),
            value: std::ptr::null_mut(),
        };
        let (mut found, mut count) = ([none; MOST_ATTRIBUTES], 0);
        let mut take = |pair: dict::Pair| {
            if count < MOST_ATTRIBUTES && self.knows(pair.key) {
                found[count] = pair;
                count += 1;
            }
        };
        // SAFETY: an exact dict, as `PyDict::new` and `cast_exact` answer; the GIL is held, and the callers keep the promise.
        unsafe {
            if let Some(pairs) = dict::pairs(dict.as_ptr()) {
                pairs.iter().copied().for_each(take);
            } else {
                let mut position = 0;
                while let Some(pair) = dict::next(dict.as_ptr(), &mut position) {
                    take(pair);
                }
            }
        }
        look(&found[..count])
    }
}
