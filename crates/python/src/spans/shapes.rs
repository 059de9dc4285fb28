//! What a span processor remembers: plans by the shape of spans, and the spans of this process that are in the table.

use std::cell::UnsafeCell;

use hashbrown::HashTable;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyWeakrefReference};

use super::fields::Beginning;
use super::plan::Plan;
use crate::dict;
use crate::plain::{hash_key, same};

/// Shapes that are remembered; when there are more, all are forgotten.
const MOST_SHAPES: usize = 1000;

/// Spans of the same kind, status and attribute keys in one scope.
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

/// Hash of a shape; none if a key is no exact string, so that nothing is remembered.
fn hash(scope: &Bound<'_, PyString>, about: [u8; 2], keys: &[dict::Pair]) -> Option<u64> {
    // SAFETY: live objects, the GIL is held.
    let text = |object| unsafe { hash_key(object) };
    let start = text(scope.as_ptr()).unwrap_or(1) ^ u64::from(u16::from_le_bytes(about)) << 48;
    keys.iter().try_fold(start, |hash, pair| {
        Some(
            (hash ^ text(pair.key)?)
                .wrapping_mul(0xff51_afd7_ed55_8ccd)
                .rotate_left(31),
        )
    })
}

impl Shape {
    fn equals(&self, scope: &Bound<'_, PyString>, about: [u8; 2], pairs: &[dict::Pair]) -> bool {
        // SAFETY: exact strings, as `hash` has made sure of; the GIL is held.
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
        with_pairs(attributes, |pairs| {
            let hash = hash(scope, about, pairs)?;
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
        attributes: &Bound<'_, PyDict>,
        keys: Vec<Py<PyAny>>,
        plan: &Plan,
    ) -> impl Sized {
        let forgotten = (self.shapes.len() >= MOST_SHAPES).then(|| self.forget());
        with_pairs(attributes, |pairs| {
            if let Some(hash) = hash(scope, about, pairs) {
                let shape = Shape {
                    hash,
                    scope: scope.clone().unbind(),
                    about,
                    keys,
                    plan: plan.clone(),
                };
                self.shapes.insert_unique(hash, shape, |shape| shape.hash);
            }
        });
        forgotten
    }

    /// Forgets all plans, which are answered.
    pub fn forget(&mut self) -> impl Sized {
        std::mem::take(&mut self.shapes)
    }
}

/// Answers what `look` makes of the pairs of a dict; it runs no Python code.
fn with_pairs<T>(dict: &Bound<'_, PyDict>, look: impl FnOnce(&[dict::Pair]) -> T) -> T {
    // SAFETY: an exact dict, as `PyDict::new` and `cast_exact` answer; the GIL is held, and the callers keep the promise.
    unsafe {
        if let Some(pairs) = dict::pairs(dict.as_ptr()) {
            return look(pairs);
        }
        let (mut position, mut all) = (0, Vec::with_capacity(dict::len(dict.as_ptr())));
        while let Some(pair) = dict::next(dict.as_ptr(), &mut position) {
            all.push(pair);
        }
        look(&all)
    }
}
