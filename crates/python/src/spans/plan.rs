//! What becomes of spans of one shape: the instruments that their duration goes into, and where each attribute of the measurement comes from.
//!
//! Spans have a *shape*: scope, kind, status and the keys of their attributes, in order. Python decides once for each shape what is measured
//! (`otel_perf.trace._conventions`); from then on values are taken from the span by position.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashTable;
use otel_perf_core::local::LocalSeries;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::classes::inner_of;
use crate::gate::Gate;
use crate::hooks;
use crate::plain::{are_same, hash_of_value};

/// Attribute sets that one plan remembers the series of.
const MOST_SETS: usize = 2000;
/// Values that a switch remembers.
const MOST_CASES: usize = 256;

/// Where a value comes from. Attributes are named by their place among those that the plan takes.
enum Source {
    Attribute(usize),
    /// The same, in other words; what has none stays as it is.
    Mapped(usize, Py<PyDict>, Last),
    /// The first word of a text, if it is one of letters.
    Verb(usize, Last),
    /// Two attributes with a slash between them.
    Joined(usize, usize),
    /// What a function makes of an attribute; none if it answers that.
    Computed(usize, Py<PyAny>),
    /// Always the same.
    Constant(Py<PyAny>),
    /// The name of the span.
    Name,
    /// What went wrong, asked of Python.
    Error,
}

/// The last value and what was made of it, for programs say the same again and again.
type Last = RefCell<Option<(Py<PyAny>, Py<PyAny>)>>;

/// A span that is being measured.
pub struct Measured<'a, 'py> {
    pub span: &'a Bound<'py, PyAny>,
    pub name: &'a Bound<'py, PyString>,
    /// The attributes that the plan takes.
    pub values: &'a [Bound<'py, PyAny>],
    /// Answers the `error.type` of a span.
    pub error_type: &'a Bound<'py, PyAny>,
}

impl Source {
    /// Reads what Python states; `positions` are those of the attributes that were stated before.
    fn read(stated: &Bound<'_, PyTuple>, positions: &mut Vec<usize>) -> PyResult<Source> {
        let word: String = stated.get_item(0)?.extract()?;
        let mut place = |at| {
            let position = stated.get_item(at)?.extract::<usize>()?;
            positions.push(position);
            Ok::<_, PyErr>(positions.len() - 1)
        };
        Ok(match word.as_str() {
            "attribute" => Source::Attribute(place(1)?),
            "mapped" => Source::Mapped(
                place(1)?,
                stated.get_item(2)?.cast_into::<PyDict>()?.unbind(),
                RefCell::default(),
            ),
            "verb" => Source::Verb(place(1)?, RefCell::default()),
            "joined" => Source::Joined(place(1)?, place(2)?),
            "computed" => Source::Computed(place(1)?, stated.get_item(2)?.unbind()),
            "constant" => Source::Constant(stated.get_item(1)?.unbind()),
            "name" => Source::Name,
            "error" => Source::Error,
            _ => return Err(PyValueError::new_err(format!("no source is called {word:?}"))),
        })
    }

    /// The value; none if there is none.
    fn value<'py>(&self, span: &Measured<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = span.name.py();
        let attribute = |place: usize| span.values.get(place);
        let found = match self {
            Source::Attribute(place) => attribute(*place).cloned(),
            Source::Mapped(place, words, last) => attribute(*place).and_then(|value| {
                remembered(last, value, || {
                    hash_of_value(value)?;
                    let found = words.bind(py).get_item(value).ok()?;
                    Some(found.unwrap_or_else(|| value.clone()))
                })
            }),
            Source::Verb(place, last) => attribute(*place).and_then(|value| remembered(last, value, || verb(value))),
            Source::Joined(first, second) => match (attribute(*first), attribute(*second)) {
                (Some(first), Some(second)) => {
                    let joined = first.add(intern!(py, "/")).and_then(|start| start.add(second));
                    or_none(py, joined)?
                }
                _ => None,
            },
            Source::Computed(place, function) => match attribute(*place) {
                Some(value) => or_none(py, function.bind(py).call1((value,)))?,
                None => None,
            },
            Source::Constant(value) => Some(value.bind(py).clone()),
            Source::Name => Some(span.name.clone().into_any()),
            Source::Error => or_none(py, span.error_type.call1((span.span,)))?,
        };
        Ok(found.filter(|value| !value.is_none()))
    }
}

/// What was made of a value that may be anything; none if that failed, unless the exception is one of those that end the program.
fn or_none<'py>(py: Python<'py>, made: PyResult<Bound<'py, PyAny>>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What `make` makes of a value, unless that is remembered.
fn remembered<'py>(
    last: &Last,
    value: &Bound<'py, PyAny>,
    make: impl FnOnce() -> Option<Bound<'py, PyAny>>,
) -> Option<Bound<'py, PyAny>> {
    if let Some((known, made)) = &*last.borrow() {
        if known.is(value) {
            return Some(made.bind(value.py()).clone());
        }
    }
    let made = make()?;
    let old = last.replace(Some((value.clone().unbind(), made.clone().unbind())));
    let py = value.py();
    drop(old.map(|(value, made)| (value.into_bound(py), made.into_bound(py))));
    Some(made)
}

/// The first word of a text, of at most 32 letters; none if it does not begin with one.
fn verb<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let text = value.cast::<PyString>().ok()?.to_str().ok()?.trim_start();
    let bytes = text.as_bytes();
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    let end = bytes.iter().position(|byte| !is_letter(byte)).unwrap_or(bytes.len());
    let ends_there = bytes
        .get(end)
        .is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b';' | b'('));
    let word = text.get(..end).filter(|_| (1..=32).contains(&end) && ends_there)?;
    Some(PyString::new(value.py(), word).into_any())
}

/// What becomes of a span.
#[derive(Clone)]
pub enum Plan {
    /// Nothing.
    Silent,
    /// That depends on a value.
    Switch(Rc<Switch>),
    /// It is measured.
    Measure(Rc<Measure>),
}

impl Plan {
    /// The plan that Python states, see `SpanRecorder` in `_core.pyi`.
    pub fn read(stated: &Bound<'_, PyAny>) -> PyResult<Plan> {
        if stated.is_none() {
            return Ok(Plan::Silent);
        }
        let stated = stated.cast::<PyTuple>()?;
        let word: String = stated.get_item(0)?.extract()?;
        let mut positions = Vec::new();
        if word == "switch" {
            let source = Source::read(stated.get_item(1)?.cast::<PyTuple>()?, &mut positions)?;
            return Ok(Plan::Switch(Rc::new(Switch {
                source,
                positions,
                cases: RefCell::default(),
            })));
        }
        let amount = stated.get_item(4)?;
        let mut attributes = Vec::new();
        for item in stated.get_item(5)?.try_iter()? {
            let (key, source): (Bound<'_, PyString>, Bound<'_, PyTuple>) = item?.extract()?;
            attributes.push((key.unbind(), Source::read(&source, &mut positions)?));
        }
        let amount = if amount.is_none() {
            None
        } else {
            Some(Source::read(amount.cast::<PyTuple>()?, &mut positions)?)
        };
        Ok(Plan::Measure(Rc::new(Measure {
            histogram: Target::read(stated.get_item(1)?),
            units_per_ns: stated.get_item(2)?.extract()?,
            counter: Target::read(stated.get_item(3)?),
            amount,
            attributes,
            positions,
            sets: RefCell::default(),
            last: RefCell::default(),
            found: Cell::default(),
        })))
    }

    /// Positions of the attributes that it takes.
    pub fn positions(&self) -> &[usize] {
        match self {
            Plan::Silent => &[],
            Plan::Switch(switch) => &switch.positions,
            Plan::Measure(measure) => &measure.positions,
        }
    }
}

/// Plans by a value of the span.
pub struct Switch {
    source: Source,
    positions: Vec<usize>,
    cases: RefCell<Vec<(Option<Py<PyAny>>, Plan)>>,
}

impl Switch {
    /// The value; none if there is none, or if it is not of a plain type.
    pub fn value<'py>(&self, span: &Measured<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = self.source.value(span)?;
        Ok(found.filter(|value| hash_of_value(value).is_some()))
    }

    /// The plan for a value, if Python has stated it.
    pub fn case(&self, value: Option<&Bound<'_, PyAny>>) -> Option<Plan> {
        let cases = self.cases.borrow();
        let found = cases.iter().find(|(known, _)| match (known, value) {
            (Some(known), Some(value)) => are_same(known, value),
            (None, None) => true,
            _ => false,
        });
        found.map(|(_, plan)| plan.clone())
    }

    pub fn remember(&self, value: Option<&Bound<'_, PyAny>>, plan: &Plan) {
        let mut cases = self.cases.borrow_mut();
        if cases.len() < MOST_CASES {
            cases.push((value.map(|value| value.clone().unbind()), plan.clone()));
        }
    }
}

/// An instrument that spans go into.
pub struct Target {
    pub object: Py<PyAny>,
    /// That of ours; none if the instrument is another meter provider's.
    pub gate: Option<Gate>,
}

impl Target {
    fn read(object: Bound<'_, PyAny>) -> Option<Target> {
        (!object.is_none()).then(|| Target {
            gate: inner_of(&object).map(|inner| inner.gate.clone()),
            object: object.unbind(),
        })
    }
}

/// Where a measured span goes.
pub struct Measure {
    /// A histogram that takes the duration.
    pub histogram: Option<Target>,
    pub units_per_ns: f64,
    /// A counter that takes the amount.
    pub counter: Option<Target>,
    /// 1 if it is not stated.
    amount: Option<Source>,
    attributes: Vec<(Py<PyString>, Source)>,
    positions: Vec<usize>,
    sets: RefCell<HashTable<Set>>,
    /// The set that was found twice in turn.
    last: RefCell<Option<Set>>,
    /// Hash of the set that was found last.
    found: Cell<u64>,
}

/// The series of one set of values.
struct Set {
    hash: u64,
    values: Vec<Option<Py<PyAny>>>,
    series: Series,
}

/// Series of the instruments of a plan; none of one that is not ours, or is closed.
#[derive(Clone)]
pub struct Series {
    pub histogram: Option<Arc<LocalSeries>>,
    pub counter: Option<Arc<LocalSeries>>,
    /// States of the gates when they were found.
    states: [u32; 2],
}

/// The attributes of one measurement, in the order of the plan.
pub struct Values<'py> {
    all: Vec<Option<Bound<'py, PyAny>>>,
    /// Their hash, if they are all of plain types.
    hash: Option<u64>,
}

impl Values<'_> {
    /// Leaves out what is of no plain type, for sequences and the like are no attributes of a metric; answers the hash.
    fn settle(&mut self) -> u64 {
        *self.hash.get_or_insert_with(|| {
            self.all.iter_mut().fold(0x9E37_79B9_7F4A_7C15, |sum: u64, value| {
                let hash = value.as_ref().and_then(hash_of_value);
                if hash.is_none() {
                    *value = None;
                }
                (sum ^ hash.unwrap_or(1))
                    .wrapping_mul(0xff51_afd7_ed55_8ccd)
                    .rotate_left(31)
            })
        })
    }
}

impl Measure {
    /// What the attributes of a measurement are.
    pub fn values<'py>(&self, span: &Measured<'_, 'py>) -> PyResult<Values<'py>> {
        let mut all = Vec::with_capacity(self.attributes.len());
        for (_, source) in &self.attributes {
            all.push(source.value(span)?);
        }
        Ok(Values { all, hash: None })
    }

    /// What the counter is raised by.
    pub fn amount(&self, span: &Measured<'_, '_>) -> PyResult<i64> {
        let stated = match &self.amount {
            Some(source) => source.value(span)?.and_then(|amount| amount.extract::<i64>().ok()),
            None => None,
        };
        Ok(stated.unwrap_or(1).clamp(0, 1 << 40))
    }

    fn states(&self) -> [u32; 2] {
        let state = |target: &Option<Target>| {
            let gate = target.as_ref().and_then(|target| target.gate.as_ref());
            gate.map_or(0, Gate::state)
        };
        [state(&self.histogram), state(&self.counter)]
    }

    /// What `act` answers of the series of these values, if they are known. It runs no Python code.
    pub fn with_series<T>(&self, py: Python<'_>, values: &mut Values<'_>, act: impl FnOnce(&Series) -> T) -> Option<T> {
        let states = self.states();
        if let Some(last) = &*self.last.borrow() {
            if last.series.states == states && last.is(values) {
                return Some(act(&last.series));
            }
        }
        let hash = values.settle();
        let sets = self.sets.borrow();
        let set = sets.find(hash, |set| set.hash == hash && set.equals(values))?;
        if set.series.states != states {
            return None;
        }
        if self.found.replace(hash) == hash {
            let old = self.last.replace(Some(Set::new(hash, values, &set.series)));
            hooks::release(py, old);
        }
        Some(act(&set.series))
    }

    /// Finds the series of these values, and keeps them.
    pub fn find_series(&self, py: Python<'_>, values: &mut Values<'_>) -> PyResult<Series> {
        let states = self.states();
        let hash = values.settle();
        let attributes = self.dict(py, values)?;
        let find = |target: &Option<Target>| {
            let object = target.as_ref()?.object.bind(py);
            let inner = inner_of(object).filter(|inner| inner.gate.is_open())?;
            inner.find(Some(attributes.as_any()))
        };
        let series = Series {
            histogram: find(&self.histogram),
            counter: find(&self.counter),
            states,
        };
        // What goes into an overflow series is looked up, and counted, each time.
        let overflowed = |series: &Option<Arc<LocalSeries>>| series.as_ref().is_some_and(|series| series.is_overflow());
        if !overflowed(&series.histogram) && !overflowed(&series.counter) {
            let set = Set::new(hash, values, &series);
            let mut sets = self.sets.borrow_mut();
            let mut old: Vec<Set> = sets.extract_if(|known| known.series.states != states).collect();
            if sets.len() >= MOST_SETS {
                old.extend(sets.drain());
            }
            sets.insert_unique(set.hash, set, |set| set.hash);
            drop(sets);
            hooks::release(py, old);
        }
        Ok(series)
    }

    /// The attributes of a measurement.
    pub fn dict<'py>(&self, py: Python<'py>, values: &Values<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for ((key, _), value) in self.attributes.iter().zip(&values.all) {
            if let Some(value) = value {
                dict.set_item(key.bind(py), value)?;
            }
        }
        Ok(dict)
    }
}

impl Set {
    fn new(hash: u64, values: &Values<'_>, series: &Series) -> Set {
        let own = |value: &Option<Bound<'_, PyAny>>| value.clone().map(Bound::unbind);
        Set {
            hash,
            values: values.all.iter().map(own).collect(),
            series: series.clone(),
        }
    }

    /// Whether the values are the same objects, all of plain types.
    fn is(&self, values: &Values<'_>) -> bool {
        self.values.iter().zip(&values.all).all(|pair| match pair {
            (Some(own), Some(value)) => own.is(value),
            (None, None) => true,
            _ => false,
        })
    }

    fn equals(&self, values: &Values<'_>) -> bool {
        self.values.iter().zip(&values.all).all(|pair| match pair {
            (Some(own), Some(value)) => are_same(own, value),
            (None, None) => true,
            _ => false,
        })
    }
}
