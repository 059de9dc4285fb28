//! Knows when a process has become another one by `fork`.
//!
//! The C library calls back in every forked child, also where no interpreter is told of it (uWSGI forks in C). The callback does the
//! one thing that is safe there: it counts. Whoever keeps something that belongs to a process keeps the count beside it and looks again when it has changed.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Once, OnceLock};

static FORKS: AtomicU32 = AtomicU32::new(0);
static GENERATION: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_child() {
    FORKS.fetch_add(1, Relaxed);
    forget();
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

static JOINED: OnceLock<fn()> = OnceLock::new();

/// Has a function called where a forked process has just taken a lane of its own, in the thread that first records there; only the first one is kept.
pub fn when_joined(handler: fn()) {
    let _ = JOINED.set(handler);
}

/// Tells that this process has taken a lane.
pub fn joined() {
    if let (Some(handler), true) = (JOINED.get(), count() > 0) {
        handler();
    }
}

/// Begins a new generation, as a fork does: for a process that gave a lane back and must not write into it from an address it kept.
pub fn forget() {
    GENERATION.fetch_add(1, Relaxed);
}

/// Number of forks between the first process that watched and this one. What belongs to the process, such as a lane, is kept beside it.
#[inline]
pub fn count() -> u32 {
    FORKS.load(Relaxed)
}

/// Number of times that addresses became void. They are kept beside it; to look one up again loses nothing if it was still right.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Relaxed)
}
