//! Forked children for the tests.
#![allow(dead_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time forks, so that no child inherits a lock that another test's thread holds. The same goes for tests that count on an epoch: a
/// segment that another test closes begins a new one for the whole process.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A forked child; killed when dropped.
pub struct Forked(libc::pid_t);

impl Forked {
    /// Forks a child that does `task` and ends without running anything of this process.
    pub fn start(task: impl FnOnce()) -> Forked {
        // SAFETY: only the calling thread goes on in the child; it runs code of this crate, which takes no lock that another
        // thread could have held (see `alone`), and leaves by `_exit`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task)).is_ok();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!done)) };
        }
        Forked(pid)
    }

    pub fn pid(&self) -> u32 {
        self.0 as u32
    }

    fn wait(&mut self) -> i32 {
        let mut status = 0;
        // SAFETY: the status is valid for the call.
        unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        self.0 = 0;
        status
    }

    pub fn join(mut self) {
        assert_eq!(self.wait(), 0);
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if self.0 > 0 {
            // SAFETY: the pid is that of a child which was not waited for yet.
            unsafe { libc::kill(self.0, libc::SIGKILL) };
            self.wait();
        }
    }
}

/// Waits in a child until it is killed, for at most 30 seconds.
pub fn wait_for_the_end() {
    std::thread::sleep(std::time::Duration::from_secs(30));
}
