//! Shared mappings: create under a name, attach by name, or fall back to memory that only forked children see.
//!
//! Memory is allocated before it is mapped (`posix_fallocate`): a sparse file would turn a full `/dev/shm` into `SIGBUS`
//! at some later recording. A process maps and opens each file once, whatever it is asked for, because closing a second
//! descriptor would drop its byte locks (see [`crate::lock`]).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crate::error::SegmentError;
use crate::fork;
use crate::region::Region;

/// A mapping that this process owns; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    region: Region,
    base: NonNull<u8>,
    /// The locked file; none for an anonymous mapping.
    file: Option<File>,
    path: Option<PathBuf>,
    /// Lane of this process and the fork count at which it was taken: `forks << 32 | lane + 1`; 0 for none yet. It is kept here
    /// because it goes with the byte lock, which is the process's, however often it opens the segment.
    lane: AtomicU64,
    /// Handles of this process that were opened and not closed; changed only with the list of attached files locked.
    handles: AtomicUsize,
    /// Whether the file stays at this process's end, for another one that is about to attach.
    kept: AtomicBool,
    /// Key among the attached files.
    key: Option<Key>,
}

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
            file,
            path,
            lane: AtomicU64::new(0),
            handles: AtomicUsize::new(1),
            kept: AtomicBool::new(false),
            key: None,
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
        let mut mapping =
            Mapping::new(Some(file), Some(path.to_path_buf()), size).map_err(system("mapping", Some(path)))?;
        mapping.key = Some(key);
        let mapping = Arc::new(mapping);
        attached.insert(key, Arc::downgrade(&mapping));
        Ok(mapping)
    }

    /// Makes a mapping created by this process known, so that attaching to its file by name finds it, under its final name.
    pub fn publish(mut self, path: &Path) -> Result<Arc<Mapping>, SegmentError> {
        let Some(current) = self.path.take() else {
            return Ok(Arc::new(self));
        };
        // Held from before the file has its name, so that nobody attaches to it by name in between.
        let mut attached = attached().lock().unwrap_or_else(PoisonError::into_inner);
        std::fs::rename(&current, path).map_err(|source| {
            let _ = std::fs::remove_file(&current);
            system("naming", Some(path))(source)
        })?;
        self.path = Some(path.to_path_buf());
        let metadata = self.file.as_ref().and_then(|file| file.metadata().ok());
        self.key = metadata.map(|metadata| (metadata.dev(), metadata.ino()));
        let mapping = Arc::new(self);
        if let Some(key) = mapping.key {
            attached.insert(key, Arc::downgrade(&mapping));
        }
        Ok(mapping)
    }

    /// The mapped bytes.
    #[inline]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The descriptor that carries the byte locks, if the mapping has one.
    pub fn lock_file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Name of the file, if it has one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those that `mmap` gave, and nothing borrows the region any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.region.len()) };
        let Some(key) = self.key else { return };
        let mut attached = attached().lock().unwrap_or_else(PoisonError::into_inner);
        // Closed before others may open the file again, see `attach`.
        drop(self.file.take());
        if attached
            .get(&key)
            .is_some_and(|known| std::ptr::eq(known.as_ptr(), self))
        {
            attached.remove(&key);
        }
    }
}
