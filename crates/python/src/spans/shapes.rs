//! What a span processor remembers: plans by the shape of spans, and the spans of this process that are in the table.
//!
//! Of the attributes only those count that a plan may ask for: the keys that programs make up do not make shapes.

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

/// Spans whose attributes have the same objects for keys, in the same order: programs have them in their code. Found without looking at any text.
pub struct Recent {
    scope: Py<PyString>,
    about: [u8; 2],
    keys: Vec<Py<PyAny>>,
    /// Where in the dict the values are that the plan takes.
    places: Vec<usize>,
    plan: Plan,
}

/// Slots for [`Recent`]s, by hash.
const RECENTS: usize = 64;

#[derive(Default)]
struct Slot {
    /// Hash of the last span that was looked for here and not found; one that comes again is kept.
    missed: u64,
    recent: Option<Recent>,
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
    recents: Vec<Slot>,
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

/// Hash of a span by the objects that its keys are.
fn identity(scope: &Bound<'_, PyString>, about: [u8; 2], pairs: &[dict::Pair]) -> u64 {
    let start = scope.as_ptr() as u64 ^ u64::from(u16::from_le_bytes(about)) << 48;
    let sum = pairs.iter().fold(start, |hash, pair| {
        (hash.rotate_left(5) ^ pair.key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    });
    // The upper half has the good bits; 0 is that of no span.
    sum >> 32 | 1 << 32
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
        self.with_pairs(attributes, |pairs, _| {
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
    pub fn keep_scope(
        &mut self,
        scope: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
    ) -> Option<(Py<PyAny>, Py<PyString>)> {
        self.scope.replace((scope.clone().unbind(), name.clone().unbind()))
    }

    /// The plan of a span with the attributes that it wants, if there is one, and what was forgotten for it.
    pub fn take<'py>(
        &mut self,
        scope: &Bound<'py, PyString>,
        about: [u8; 2],
        attributes: &Bound<'py, PyDict>,
    ) -> (Option<Taken<'py>>, Option<Recent>) {
        // SAFETY: an exact dict, as `PyDict::new` and `cast_exact` answer; the GIL is held, and the callers keep the promise.
        let Some(pairs) = (unsafe { dict::pairs(attributes.as_ptr()) }) else {
            let found = self.look_up(scope, about, attributes);
            return (found.map(|(taken, _)| taken), None);
        };
        let hash = identity(scope, about, pairs);
        if let Some(found) = self.recent(hash, scope, about, pairs) {
            return (Some(found), None);
        }
        let Some((taken, places)) = self.look_up(scope, about, attributes) else {
            return (None, None);
        };
        let forgotten = self.keep(hash, scope, about, pairs, &taken.plan, places);
        (Some(taken), forgotten)
    }

    fn recent<'py>(
        &self,
        hash: u64,
        scope: &Bound<'py, PyString>,
        about: [u8; 2],
        pairs: &[dict::Pair],
    ) -> Option<Taken<'py>> {
        let recent = self.recents.get(hash as usize % RECENTS)?.recent.as_ref()?;
        let is_it = recent.about == about
            && recent.scope.is(scope)
            && recent.keys.len() == pairs.len()
            && recent
                .keys
                .iter()
                .zip(pairs)
                .all(|(own, pair)| own.as_ptr() == pair.key);
        if !is_it {
            return None;
        }
        let mut values = Vec::with_capacity(recent.places.len());
        for pair in recent.places.iter().filter_map(|place| pairs.get(*place)) {
            // SAFETY: a live object, borrowed from the dict a moment ago; the GIL is held.
            values.push(unsafe { Bound::from_borrowed_ptr(scope.py(), pair.value) });
        }
        Some(Taken {
            plan: recent.plan.clone(),
            values,
        })
    }

    /// Keeps the plan of a span that has come again; answers what was there before.
    fn keep(
        &mut self,
        hash: u64,
        scope: &Bound<'_, PyString>,
        about: [u8; 2],
        pairs: &[dict::Pair],
        plan: &Plan,
        places: Vec<usize>,
    ) -> Option<Recent> {
        if pairs.len() > MOST_ATTRIBUTES {
            return None;
        }
        if self.recents.is_empty() {
            self.recents.resize_with(RECENTS, Slot::default);
        }
        let slot = self.recents.get_mut(hash as usize % RECENTS)?;
        if std::mem::replace(&mut slot.missed, hash) != hash {
            return None;
        }
        // SAFETY: as in `recent`.
        let own = |pair: &dict::Pair| unsafe { Bound::from_borrowed_ptr(scope.py(), pair.key) }.unbind();
        slot.recent.replace(Recent {
            scope: scope.clone().unbind(),
            about,
            keys: pairs.iter().map(own).collect(),
            places,
            plan: plan.clone(),
        })
    }

    /// The plan by the texts of the keys, and where in the dict its values are.
    fn look_up<'py>(
        &self,
        scope: &Bound<'py, PyString>,
        about: [u8; 2],
        attributes: &Bound<'py, PyDict>,
    ) -> Option<(Taken<'py>, Vec<usize>)> {
        self.with_pairs(attributes, |pairs, places| {
            let hash = hash(scope, about, pairs);
            let is_it = |shape: &Shape| shape.hash == hash && shape.equals(scope, about, pairs);
            let plan = self.shapes.find(hash, is_it)?.plan.clone();
            let positions = plan.positions();
            let mut values = Vec::with_capacity(positions.len());
            for pair in positions.iter().filter_map(|position| pairs.get(*position)) {
                // SAFETY: a live object, borrowed from the dict a moment ago; the GIL is held.
                values.push(unsafe { Bound::from_borrowed_ptr(scope.py(), pair.value) });
            }
            let places = positions.iter().filter_map(|position| places.get(*position).copied());
            Some((
                Taken {
                    plan: plan.clone(),
                    values,
                },
                places.collect(),
            ))
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
        (std::mem::take(&mut self.shapes), std::mem::take(&mut self.recents))
    }

    /// Answers what `look` makes of the pairs of a dict whose keys are known, and of their places in it; it runs no Python code.
    fn with_pairs<T>(&self, dict: &Bound<'_, PyDict>, look: impl FnOnce(&[dict::Pair], &[usize]) -> T) -> T {
        let none = dict::Pair {
            key: std::ptr::null_mut(),
            value: std::ptr::null_mut(),
        };
        let (mut found, mut places, mut count, mut place) = ([none; MOST_ATTRIBUTES], [0; MOST_ATTRIBUTES], 0, 0);
        let take = |pair: dict::Pair| {
            if count < MOST_ATTRIBUTES && self.knows(pair.key) {
                (found[count], places[count]) = (pair, place);
                count += 1;
            }
            place += 1;
        };
        // SAFETY: an exact dict, as `PyDict::new` and `cast_exact` answer; the GIL is held, and the callers keep the promise.
        unsafe { dict::each(dict.as_ptr(), take) };
        look(&found[..count], &places[..count])
    }
}
