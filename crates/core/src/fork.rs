//! Knows when a process has become another one by `fork`.
//!
//! The C library calls back in every forked child, also where no interpreter is told of it (uWSGI forks in C). The callback does the
//! one thing that is safe there: it counts. Whoever keeps something that belongs to a process keeps the count beside it and looks again when it has changed.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Once;

static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_child() {
    FORKS.fetch_add(1, Relaxed);
}

/// Begins to count; further calls do nothing.
pub fn watch() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler is a static function that only adds to an atomic, which is allowed after a fork. If there
        // is no memory for the registration, forks that run Python's own hooks are the only ones not seen.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// Makes everything that was kept beside the count be looked up again, as a fork does: for a process that gave its lane back.
pub fn forget() {
    FORKS.fetch_add(1, Relaxed);
}

/// Number of forks between the first process that watched and this one.
#[inline]
pub fn count() -> u32 {
    FORKS.load(Relaxed)
}
