//! What native code asks of Python on its slow paths, and the guard against panics.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};

use otel_perf_core::drops::Drop;
use otel_perf_core::fork;
use otel_perf_core::segment::Segment;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

struct Hooks {
    clean: Py<PyAny>,
    ignored: Py<PyAny>,
}

static HOOKS: PyOnceLock<Hooks> = PyOnceLock::new();

/// Installs the callables once: `clean(attributes) -> dict`, the SDK's own attribute cleaning, and
/// `ignored(kind, name, reason, amount)`, told of each recording that is ignored.
#[pyfunction]
pub fn set_hooks(py: Python<'_>, clean: Py<PyAny>, ignored: Py<PyAny>) {
    let _ = HOOKS.set(py, Hooks { clean, ignored });
}

static FORKED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Installs the callable that is called once in each process that was forked, when it first records: where no interpreter is told of a fork.
#[pyfunction]
pub fn set_forked(py: Python<'_>, forked: Py<PyAny>) {
    let _ = FORKED.set(py, forked);
    fork::watch();
    fork::when_joined(tell_of_fork);
}

/// Number of forks between the first process with this module and this one.
#[pyfunction]
pub fn forks() -> u32 {
    fork::count()
}

fn tell_of_fork() {
    Python::try_attach(|py| {
        if let Some(forked) = FORKED.get(py) {
            swallow(py, forked.bind(py).call0().map(|_| ()));
        }
    });
}

/// A plain dict of clean attributes; an empty one if there are no hooks or they fail. `None` if the program is being ended meanwhile, see
/// [`ends_program`].
pub fn clean<'py>(attributes: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    let py = attributes.py();
    let Some(hooks) = HOOKS.get(py) else {
        return Some(PyDict::new(py));
    };
    match hooks.clean.bind(py).call1((attributes,)) {
        Ok(cleaned) => Some(cleaned.cast_into::<PyDict>().unwrap_or_else(|_| PyDict::new(py))),
        Err(error) if ends_program(py, &error) => {
            error.restore(py);
            None
        }
        Err(_) => Some(PyDict::new(py)),
    }
}

/// Tells Python of an ignored recording; whatever goes wrong there stays there, but for what [`ends_program`].
pub fn ignored(py: Python<'_>, kind: &str, name: &str, reason: &str, amount: &Bound<'_, PyAny>) {
    if let Some(hooks) = HOOKS.get(py) {
        match hooks.ignored.bind(py).call1((kind, name, reason, amount)) {
            Err(error) if ends_program(py, &error) => error.restore(py),
            _ => {}
        }
    }
}

/// Keeps an exception of ours to ourselves; one of those that end the program is left set, see [`ends_program`].
pub fn swallow(py: Python<'_>, done: PyResult<()>) {
    if let Err(error) = done {
        if ends_program(py, &error) {
            error.restore(py);
        }
    }
}

/// Drops what holds Python objects. In a function that the interpreter calls without `PyO3`'s knowledge (`hot.rs`) they would only be noted, to be given
/// back when `PyO3` is next called, which may be never; what is bound is given back without this.
#[cold]
pub fn release<T>(_: Python<'_>, value: T) {
    Python::attach(|_| drop(value));
}

/// Whether an exception is none of telemetry's faults: a signal handler that ran while Python code of ours did has raised `KeyboardInterrupt` or
/// `SystemExit`. It is left set, and the recording method raises it.
fn ends_program(py: Python<'_>, error: &PyErr) -> bool {
    !error.is_instance_of::<PyException>(py)
}

/// Panics that were caught so far.
static PANICS: AtomicU32 = AtomicU32::new(0);
/// After this many panics the slow path is not entered any more.
const TOO_MANY: u32 = 3;

/// Runs a slow path; a panic in it is caught and counted, and after three nothing is tried any more.
pub fn guarded<T>(segment: &Segment, work: impl FnOnce() -> T) -> Option<T> {
    if PANICS.load(Ordering::Relaxed) >= TOO_MANY {
        return None;
    }
    let done = catch_unwind(AssertUnwindSafe(work));
    if done.is_err() {
        PANICS.fetch_add(1, Ordering::Relaxed);
        segment.count_drop(Drop::Panic);
    }
    done.ok()
}
