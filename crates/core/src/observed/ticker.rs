//! The thread that ticks. It is not Python's: it takes no lock of an interpreter, and no signal is handled in it.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::Windows;
use crate::clock::monotonic_ns;
use crate::fork;

/// A thread that ticks until it is stopped. It is not there in a forked child.
#[derive(Debug)]
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    forks: u32,
}

#[derive(Debug, Default)]
struct Shared {
    is_stopped: Mutex<bool>,
    stopped: Condvar,
    errors: AtomicU64,
    lag_ns: AtomicU64,
    lag_max_ns: AtomicU64,
}

impl Ticker {
    /// Starts the thread, which ticks at once and then every `interval`.
    pub fn start(windows: Arc<Windows>, interval: Duration) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let run = move || theirs.run(interval, || _ = windows.tick(monotonic_ns()));
        let builder = Builder::new().name("otel_perf".to_owned()).stack_size(256 * 1024);
        let thread = without_signals(|| builder.spawn(run))?;
        Ok(Ticker {
            shared,
            thread: Some(thread),
            forks: fork::count(),
        })
    }

    /// Ends the thread, and waits for the tick that is under way.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // In a forked child there is neither a thread to wait for nor, perhaps, a lock that somebody will let go.
        if self.forks == fork::count() {
            *self.shared.is_stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.shared.stopped.notify_all();
            let _ = thread.join();
        } else {
            // Not even dropped, which detaches: a thread of the child may have the memory, and so the number, of the one that is gone.
            std::mem::forget(thread);
        }
    }

    /// Ticks that failed.
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Relaxed)
    }

    /// Nanoseconds by which the last tick began later than planned, and the most so far.
    pub fn lag_ns(&self) -> (u64, u64) {
        (self.shared.lag_ns.load(Relaxed), self.shared.lag_max_ns.load(Relaxed))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self, interval: Duration, tick: impl Fn()) {
        let interval_ns = interval.as_nanos() as u64;
        let mut planned = monotonic_ns();
        loop {
            let lag = monotonic_ns().saturating_sub(planned);
            self.lag_ns.store(lag, Relaxed);
            self.lag_max_ns.fetch_max(lag, Relaxed);
            if catch_unwind(AssertUnwindSafe(&tick)).is_err() {
                self.errors.fetch_add(1, Relaxed);
            }
            // After a pause of the whole machine the ticks that were missed are not made up for.
            planned = (planned + interval_ns).max(monotonic_ns());
            if self.is_stopped_at(planned) {
                return;
            }
        }
    }

    /// Waits until a monotonic time, or until the end.
    fn is_stopped_at(&self, planned_ns: u64) -> bool {
        let mut stopped = self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = planned_ns.saturating_sub(monotonic_ns());
            if *stopped || left == 0 {
                return *stopped;
            }
            let waited = self.stopped.wait_timeout(stopped, Duration::from_nanos(left));
            stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Calls with all signals blocked, as a thread that is made meanwhile has them for good.
fn without_signals<T>(call: impl FnOnce() -> T) -> T {
    // SAFETY: a set of signals is a plain C struct, and the calls fill or read it while it lives.
    let before = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    };
    let result = call();
    // SAFETY: as above; a null pointer means that the old set is not wanted.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Settings;
    use crate::segment::Segment;

    fn windows() -> Arc<Windows> {
        let segment = Arc::new(Segment::private(1 << 20, "").unwrap());
        let settings = Settings {
            windows: vec![1.0],
            taus: vec![10.0],
            memory_limit: 1 << 20,
        };
        Arc::new(Windows::new(segment, settings))
    }

    #[test]
    fn it_ticks_until_it_is_stopped() {
        let windows = windows();
        let mut ticker = Ticker::start(Arc::clone(&windows), Duration::from_millis(1)).unwrap();
        while windows.statistics().ticks < 3 {
            std::thread::yield_now();
        }
        ticker.stop();
        let ticks = windows.statistics().ticks;
        assert!(Arc::strong_count(&windows) == 1 && ticks >= 3);
        ticker.stop();
        assert_eq!((windows.statistics().ticks, ticker.errors()), (ticks, 0));
    }

    #[test]
    fn a_tick_that_fails_is_counted_and_the_next_one_comes() {
        let shared = Shared::default();
        let ticks = AtomicU64::new(0);
        shared.run(Duration::from_nanos(1), || {
            if ticks.fetch_add(1, Relaxed) == 4 {
                *shared.is_stopped.lock().unwrap() = true;
            }
            std::panic::resume_unwind(Box::new("no"));
        });
        assert_eq!((ticks.load(Relaxed), shared.errors.load(Relaxed)), (5, 5));
    }
}
