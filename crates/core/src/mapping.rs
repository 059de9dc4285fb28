//! Shared mappings: create under a name, attach by name, or fall back to memory that only forked children see.
//!
//! Memory is allocated before it is mapped (`posix_fallocate`): a sparse file would turn a full `/dev/shm` into `SIGBUS`
//! at some later recording. A process maps and opens each file once, whatever it is asked for, because closing a second
//! descriptor would drop its byte locks (see [`crate::lock`]).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crate::error::SegmentError;
use crate::fork;
use crate::region::Region;

/// A mapping that this process owns; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    region: Region,
    base: NonNull<u8>,
    /// Descriptor of the locked file; [`NO_FILE`] for an anonymous mapping. Owned by the mapping, unless somebody has closed it, see
    /// [`Mapping::has_lost_its_file`].
    file: AtomicI32,
    /// The file's name; null if it has none. Invariant: what is pointed to lives as long as the mapping.
    named: AtomicPtr<Named>,
    /// Lane of this process and the fork count at which it was taken: `forks << 32 | lane + 1`; 0 for none yet. It is kept here
    /// because it goes with the byte lock, which is the process's, however often it opens the segment.
    lane: AtomicU64,
    /// Handles of this process that were opened and not closed; changed only with the list of attached files locked.
    handles: AtomicUsize,
    /// Whether the file stays at this process's end, for another one that is about to attach.
    kept: AtomicBool,
    /// Forks that came before this mapping, or before its memory was replaced.
    forks: AtomicU32,
}

/// Name of a file.
#[derive(Debug)]
struct Named {
    path: PathBuf,
    /// Key among the attached files; none until the file is known under its final name.
    key: Option<Key>,
}

const NO_FILE: i32 = -1;

/// Stands for the lane while one thread of the process takes it.
const JOINING: u32 = u32::MAX;

// SAFETY: the base pointer is only used to unmap; access goes through `Region`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

type Key = (u64, u64);

/// The lane that a word of [`Mapping::lane`] names, if this process took it.
#[inline]
fn lane_in(word: u64) -> Option<usize> {
    let taken = word as u32;
    (taken > 0 && taken != JOINING && (word >> 32) as u32 == fork::count()).then(|| taken as usize - 1)
}

fn attached() -> &'static Mutex<HashMap<Key, Weak<Mapping>>> {
    static ATTACHED: OnceLock<Mutex<HashMap<Key, Weak<Mapping>>>> = OnceLock::new();
    ATTACHED.get_or_init(Mutex::default)
}

/// The mappings of files that this process has, for its end: empty if another thread holds the list, which then never gives it back.
pub fn alive() -> Vec<Arc<Mapping>> {
    let attached = attached().try_lock();
    attached.map_or_else(
        |_| Vec::new(),
        |attached| attached.values().filter_map(Weak::upgrade).collect(),
    )
}

fn boxed(path: PathBuf, key: Option<Key>) -> *mut Named {
    Box::into_raw(Box::new(Named { path, key }))
}

/// The key of what a descriptor is open on; `None` if it is closed. A copy of the descriptor would not do: to close it drops the locks.
fn key_of(fd: i32) -> Option<Key> {
    // SAFETY: all-zero bytes are a valid `stat`, into which the kernel writes.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let answered = unsafe { libc::fstat(fd, &raw mut found) == 0 };
    answered.then_some((found.st_dev, found.st_ino))
}

fn close(fd: i32) {
    if fd != NO_FILE {
        // SAFETY: the mapping owned the descriptor and no longer names it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

fn system(action: &'static str, path: Option<&Path>) -> impl FnOnce(io::Error) -> SegmentError {
    let path = path.map(Path::to_path_buf);
    move |source| SegmentError::System { action, path, source }
}

fn allocate(file: &File, size: usize) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, size as libc::off_t) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

fn map(file: Option<&File>, size: usize) -> io::Result<NonNull<u8>> {
    let (fd, flags) = match file {
        Some(file) => (file.as_raw_fd(), libc::MAP_SHARED),
        None => (-1, libc::MAP_SHARED | libc::MAP_ANONYMOUS),
    };
    // SAFETY: a fresh mapping at an address of the kernel's choice cannot alias any existing object.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            fd,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap answered a null address"))
}

impl Mapping {
    fn new(file: Option<File>, path: Option<PathBuf>, size: usize) -> io::Result<Mapping> {
        fork::watch();
        let base = map(file.as_ref(), size)?;
        // SAFETY: `base` maps `size` bytes until `Drop` unmaps them, and `Mapping` is what keeps them alive.
        let region = unsafe { Region::new(base, size) };
        Ok(Mapping {
            region,
            base,
            file: AtomicI32::new(file.map_or(NO_FILE, IntoRawFd::into_raw_fd)),
            named: AtomicPtr::new(path.map_or(ptr::null_mut(), |path| boxed(path, None))),
            lane: AtomicU64::new(0),
            handles: AtomicUsize::new(1),
            kept: AtomicBool::new(false),
            forks: AtomicU32::new(fork::count()),
        })
    }

    /// Lane that this process took, if it did.
    #[inline]
    pub fn lane(&self) -> Option<usize> {
        lane_in(self.lane.load(Acquire))
    }

    /// Lane of this process, taken by `join` if it has none. Of several threads one joins and the others wait for it: joining clears what
    /// the lane's previous owner held, which must not happen once something was recorded.
    pub fn lane_or_join(&self, join: impl FnOnce() -> usize) -> usize {
        loop {
            let word = self.lane.load(Acquire);
            if let Some(lane) = lane_in(word) {
                return lane;
            }
            // A fork makes the mark of a thread that was joining meanwhile void.
            let joining = u64::from(fork::count()) << 32 | u64::from(JOINING);
            if word == joining {
                std::thread::yield_now();
            } else if self.lane.compare_exchange(word, joining, AcqRel, Acquire).is_ok() {
                let lane = join();
                self.set_lane(Some(lane));
                fork::joined();
                return lane;
            }
        }
    }

    /// Counts a handle that was closed, and calls `last` if this process has no other. Nobody attaches meanwhile, who would find half of
    /// what the last one gives back.
    pub fn closed(&self, last: impl FnOnce()) {
        let _attached = attached().lock().unwrap_or_else(PoisonError::into_inner);
        if self.handles.fetch_sub(1, AcqRel) == 1 {
            last();
        }
    }

    /// States whether the file stays at this process's end.
    pub fn keep(&self, kept: bool) {
        self.kept.store(kept, Release);
    }

    /// Whether the file stays at this process's end.
    pub fn is_kept(&self) -> bool {
        self.kept.load(Acquire)
    }

    /// Notes the lane that this process took, or that it gave it back.
    pub fn set_lane(&self, lane: Option<usize>) {
        let word = lane.map_or(0, |lane| (u64::from(fork::count()) << 32) | (lane as u64 + 1));
        self.lane.store(word, Release);
    }

    /// Creates the file `path` with mode 0600 and maps it. It must not exist.
    pub fn create(path: &Path, size: usize) -> Result<Mapping, SegmentError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(system("creating", Some(path)))?;
        let mapping = allocate(&file, size).and_then(|()| Mapping::new(Some(file), Some(path.to_path_buf()), size));
        mapping.map_err(|source| {
            let _ = std::fs::remove_file(path);
            system("allocating", Some(path))(source)
        })
    }

    /// Memory that forked children share and nobody else can name: a memfd, whose descriptor carries the byte locks, or an
    /// anonymous mapping without locks where even that is refused.
    pub fn private(size: usize) -> Result<Mapping, SegmentError> {
        // SAFETY: the name is a valid C string; the answer is a fresh descriptor or an error.
        let fd = unsafe { libc::memfd_create(c"otel_perf".as_ptr(), libc::MFD_CLOEXEC) };
        if fd >= 0 {
            // SAFETY: `fd` was just created and is owned by nobody else.
            let file = unsafe { File::from_raw_fd(fd) };
            if let Ok(mapping) = allocate(&file, size).and_then(|()| Mapping::new(Some(file), None, size)) {
                return Ok(mapping);
            }
        }
        Mapping::new(None, None, size).map_err(system("mapping private memory", None))
    }

    /// Maps an existing file of this user that is neither a link nor open to others. The same file is mapped once per process, each time with one
    /// more handle.
    pub fn attach(path: &Path) -> Result<Arc<Mapping>, SegmentError> {
        let invalid = |problem: String| SegmentError::Invalid {
            path: path.to_path_buf(),
            problem,
        };
        let mut attached = attached().lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = std::fs::symlink_metadata(path).map_err(system("opening", Some(path)))?;
        let key = (metadata.dev(), metadata.ino());
        // A known mapping that can no longer be had is being dropped by another thread. To open the file before that has closed its
        // descriptor would lose the new locks. The number of tries is bounded for a fork in that very moment.
        for _ in 0..10_000 {
            match attached.get(&key).map(Weak::upgrade) {
                Some(Some(mapping)) => {
                    mapping.handles.fetch_add(1, AcqRel);
                    return Ok(mapping);
                }
                None => break,
                Some(None) => {
                    drop(attached);
                    std::thread::yield_now();
                    attached = self::attached().lock().unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        if !metadata.file_type().is_file() {
            return Err(invalid("it is not a regular file".into()));
        }
        // SAFETY: `geteuid` has no preconditions.
        let me = unsafe { libc::geteuid() };
        if metadata.uid() != me {
            return Err(invalid(format!(
                "it belongs to user {} and this process runs as user {me}",
                metadata.uid()
            )));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(invalid(format!(
                "its mode {:03o} lets other users in, expected 600",
                metadata.mode() & 0o777
            )));
        }
        let size = usize::try_from(metadata.len()).unwrap_or(0);
        if size < 8 {
            return Err(invalid(format!("it is truncated: {size} bytes")));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(system("opening", Some(path)))?;
        let mapping = Mapping::new(Some(file), None, size).map_err(system("mapping", Some(path)))?;
        mapping.rename(path, Some(key));
        let mapping = Arc::new(mapping);
        attached.insert(key, Arc::downgrade(&mapping));
        Ok(mapping)
    }

    /// Makes a mapping created by this process known, so that attaching to its file by name finds it, under its final name.
    pub fn publish(self, path: &Path) -> Result<Arc<Mapping>, SegmentError> {
        let mapping = Arc::new(self);
        let Some(current) = mapping.path() else {
            return Ok(mapping);
        };
        // Held from before the file has its name, so that nobody attaches to it by name in between.
        let mut attached = attached().lock().unwrap_or_else(PoisonError::into_inner);
        std::fs::rename(current, path).map_err(|source| {
            let _ = std::fs::remove_file(current);
            system("naming", Some(path))(source)
        })?;
        let key = key_of(mapping.file.load(Acquire));
        mapping.rename(path, key);
        if let Some(key) = key {
            attached.insert(key, Arc::downgrade(&mapping));
        }
        Ok(mapping)
    }

    /// Puts the memory and the file of `fresh` in place of this mapping's, at the same addresses: for a process that was forked and whose threads have
    /// not used the mapping yet. It holds no lock on the old file, so that closing it loses nothing.
    pub fn replace_by(mapping: &Arc<Mapping>, fresh: Mapping, path: Option<&Path>) -> io::Result<()> {
        debug_assert_eq!(mapping.region.len(), fresh.region.len());
        let size = mapping.region.len();
        if let (Some(current), Some(path)) = (fresh.path(), path) {
            std::fs::rename(current, path)?;
        }
        let (from, to) = (fresh.base.as_ptr(), mapping.base.as_ptr());
        // SAFETY: both ranges are mappings of `size` bytes that this process owns. The old one is replaced in one step by memory of the same size that is
        // accessed in the same way, so that what was borrowed from it stays valid; `fresh` does not unmap its range, which is gone.
        let moved = unsafe { libc::mremap(from.cast(), size, size, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to) };
        if moved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let fresh = std::mem::ManuallyDrop::new(fresh);
        let file = fresh.file.load(Acquire);
        close(mapping.file.swap(file, AcqRel));
        let key = path.and_then(|_| key_of(file));
        match path {
            Some(path) => mapping.rename(path, key),
            None => mapping.named.store(ptr::null_mut(), Release),
        }
        mapping.forks.store(fork::count(), Release);
        // Another thread may have held the list when it was copied by the fork. Without being in it, the file stays until another process reaps it.
        if let (Some(key), Ok(mut attached)) = (key, attached().try_lock()) {
            attached.retain(|_, known| !ptr::eq(known.as_ptr(), Arc::as_ptr(mapping)));
            attached.insert(key, Arc::downgrade(mapping));
        }
        Ok(())
    }

    /// Gives the mapping a name. That of before is never freed, because somebody may have borrowed it; it is replaced once per fork.
    fn rename(&self, path: &Path, key: Option<Key>) {
        self.named.store(boxed(path.to_path_buf(), key), Release);
    }

    fn named(&self) -> Option<&Named> {
        // SAFETY: the invariant of the field.
        unsafe { self.named.load(Acquire).as_ref() }
    }

    /// Whether this process was forked since it has the memory, which then is also that of others.
    pub fn is_inherited(&self) -> bool {
        self.forks.load(Acquire) != fork::count()
    }

    /// Whether somebody has closed the descriptor of the file, as a program does that goes into the background, and with it the locks.
    pub fn has_lost_its_file(&self) -> bool {
        let file = self.file.load(Acquire);
        match self.named().and_then(|named| named.key) {
            Some(key) => key_of(file) != Some(key),
            None => file != NO_FILE && key_of(file).is_none(),
        }
    }

    /// Opens the file again. False if it is gone; then there are no locks any more.
    pub fn reopen(&self) -> bool {
        let named = self.named();
        let opened = named.and_then(|named| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&named.path)
                .ok()?;
            (key_of(file.as_raw_fd()) == named.key).then_some(file)
        });
        let is_open = opened.is_some();
        // The number of before is somebody else's now.
        self.file.store(opened.map_or(NO_FILE, IntoRawFd::into_raw_fd), Release);
        if !is_open {
            self.named.store(ptr::null_mut(), Release);
        }
        is_open
    }

    /// The mapped bytes.
    #[inline]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The descriptor that carries the byte locks, if the mapping has one.
    pub fn lock_file(&self) -> Option<BorrowedFd<'_>> {
        let file = self.file.load(Acquire);
        // SAFETY: the mapping owns the descriptor. Whoever closes it all the same makes calls with it fail or ask about locks of another file, which none
        // of ours are on.
        (file != NO_FILE).then(|| unsafe { BorrowedFd::borrow_raw(file) })
    }

    /// Name of the file, if it has one.
    pub fn path(&self) -> Option<&Path> {
        self.named().map(|named| named.path.as_path())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those that `mmap` gave, and nothing borrows the region any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.region.len()) };
        let key = self.named().and_then(|named| named.key);
        let Some(key) = key else {
            close(self.file.swap(NO_FILE, AcqRel));
            return;
        };
        let mut attached = attached().lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_lost_its_file() {
            // Closed before others may open the file again, see `attach`.
            close(self.file.swap(NO_FILE, AcqRel));
        }
        if attached
            .get(&key)
            .is_some_and(|known| std::ptr::eq(known.as_ptr(), self))
        {
            attached.remove(&key);
        }
    }
}
