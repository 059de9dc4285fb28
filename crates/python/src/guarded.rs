//! What the GIL protects.

use std::cell::UnsafeCell;

use pyo3::{PyTraverseError, Python};

/// A value that only the holder of the GIL touches.
///
/// Invariant: the cell is touched only with the GIL held, and no reference into it is alive while Python code may run, a Python object may be made or
/// the GIL may be released.
#[derive(Default)]
pub struct Guarded<T>(UnsafeCell<T>);

// SAFETY: the invariant; the module does not declare itself free-threaded. What is in the cell is used only with the GIL held.
unsafe impl<T> Sync for Guarded<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Guarded<T> {}

impl<T> Guarded<T> {
    /// Answers what `act` makes of the value. It runs no Python code and makes no Python object: what it takes out is dropped by the caller.
    #[inline]
    pub fn with<R>(&self, _: Python<'_>, act: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: the GIL is held, and the callers keep the promise.
        act(unsafe { &mut *self.0.get() })
    }

    /// Shows the value to the garbage collector, which runs with the GIL held, and never within `with`, because no object is made there.
    pub fn traverse(&self, act: impl FnOnce(&T) -> Result<(), PyTraverseError>) -> Result<(), PyTraverseError> {
        // SAFETY: as above; who visits objects for the collector runs no Python code.
        act(unsafe { &*self.0.get() })
    }
}
