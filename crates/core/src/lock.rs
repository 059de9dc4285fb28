//! Kernel byte locks: who is alive, and who leads.
//!
//! A worker holds the lock of its byte for as long as it lives. The kernel drops it at `kill -9` too, a forked child does not
//! inherit it, and pid reuse and pid namespaces cannot confuse it (`fcntl(2)`, "Advisory record locking").
//! Its trap: closing *any* descriptor of the file drops all locks of the process, hence one descriptor per file
//! and process, see [`crate::mapping`].

use std::os::fd::{AsRawFd, BorrowedFd};

fn flock(kind: libc::c_int, byte: i64) -> libc::flock {
    // SAFETY: `flock` is a plain C struct for which all-zero bytes are a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte;
    lock.l_len = 1;
    lock
}

/// Takes the lock of `byte` for this process if nobody else holds it. Never blocks. Taking it again succeeds.
pub fn try_lock(fd: BorrowedFd<'_>, byte: i64) -> bool {
    let lock = flock(libc::F_WRLCK, byte);
    // SAFETY: the descriptor is open and the struct lives for the call.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLK, &raw const lock) == 0 }
}

/// Gives the lock of `byte` back.
pub fn unlock(fd: BorrowedFd<'_>, byte: i64) {
    let lock = flock(libc::F_UNLCK, byte);
    // SAFETY: as in `try_lock`.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLK, &raw const lock) };
}

/// Whether *another* process holds the lock of `byte`; the kernel never reports the caller's own locks.
pub fn held_by_other(fd: BorrowedFd<'_>, byte: i64) -> bool {
    holder(fd, byte).is_some()
}

/// Process id of *another* process that holds the lock of `byte`, as the caller sees it: 0 for one in a pid namespace that it does not see.
pub fn holder(fd: BorrowedFd<'_>, byte: i64) -> Option<i32> {
    let mut lock = flock(libc::F_WRLCK, byte);
    // SAFETY: as in `try_lock`; the kernel writes its answer into the struct.
    let answered = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETLK, &raw mut lock) == 0 };
    (answered && lock.l_type != libc::F_UNLCK as libc::c_short).then_some(lock.l_pid)
}
