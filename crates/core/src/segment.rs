//! A segment as a process sees it: created or attached, with the lane that this process records into.

mod separate;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Once};

use crate::clock::unix_ns;
use crate::drops::Drop as DropReason;
use crate::error::SegmentError;
use crate::exemplar::Exemplars;
use crate::fork;
use crate::instrument::Descriptor;
use crate::layout::{header, Geometry, LAYOUT_VERSION, LAYOUT_VERSION_OFFSET, LINE, MAGIC, WORKERS};
use crate::mapping::Mapping;
use crate::pool::{Pool, Use};
use crate::region::Region;
use crate::spans::{ActiveSpan, SpanTable};
use crate::tables::{SeriesId, StreamId, Tables};
use crate::workers::{WorkerInfo, Workers};

/// Directory of the named segments: shared memory, gone after a reboot.
pub const DIRECTORY: &str = "/dev/shm";
/// Cardinality limit of a stream (OpenTelemetry specification, metrics SDK, "Cardinality limits").
pub const CARDINALITY_LIMIT: u32 = 2000;
/// The lane is not chosen yet.
const NO_LANE: usize = usize::MAX;

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    mapping: Arc<Mapping>,
    /// The mapping's, copied so that a recording has it beside the geometry; `mapping` keeps it alive.
    region: Region,
    geometry: Geometry,
    /// Process that opened it: the one that exports where there are no locks.
    owner: AtomicU32,
    /// Whether a forked process gets a segment of its own, see [`Segment::set_separate`].
    separate: AtomicBool,
    /// Whether the caller lets no two threads of this process record at once, see [`Segment::set_serialised`].
    serialised: AtomicBool,
    /// Lanes of the dead that count, one bit each, see [`Segment::mourn`].
    mourned: AtomicU64,
    /// Collections that this process has made, and the fork count at that time: `forks << 32 | collections`.
    collected: AtomicU64,
    /// Whether this process never leads.
    barred: AtomicBool,
    /// Whether this handle was closed.
    closed: AtomicBool,
}

impl Drop for Segment {
    fn drop(&mut self) {
        // A worker that forgot to close it has closed it now. Who only looks leaves the file alone: its creator may just be joining.
        self.close_once(|segment| segment.mapping.lane().is_some());
    }
}

/// Gives lane and leadership back and removes the file if no other process uses it.
fn give_back(mapping: &Mapping, geometry: &Geometry) {
    let workers = Workers {
        tables: Tables {
            region: mapping.region(),
            geometry,
        },
        locks: mapping.lock_file(),
    };
    let lane = mapping.lane();
    if let Some(path) = mapping.path() {
        if workers.end(|workers| mapping.is_kept() || workers.has_others(lane.unwrap_or(NO_LANE))) {
            let _ = std::fs::remove_file(path);
        }
    }
    if let Some(lane) = lane {
        mapping.set_lane(None);
        // Whoever kept an address in the lane looks it up again, and so never writes a cell of the slot's next owner.
        fork::forget();
        workers.leave(lane);
    }
    workers.resign();
}

/// Closes what the process still has open when it ends in the ordinary way.
extern "C" fn at_exit() {
    for mapping in crate::mapping::alive() {
        if let (Some(_), Ok(geometry)) = (mapping.lane(), Geometry::read(mapping.region())) {
            give_back(&mapping, &geometry);
        }
    }
}

/// Prefix of the file names of this user's segments.
fn prefix() -> String {
    // SAFETY: `geteuid` has no preconditions.
    format!("otel_perf-{}-", unsafe { libc::geteuid() })
}

impl Segment {
    /// Creates a named segment; where shared memory cannot be had under a name, a private one, with the reason beside it.
    pub fn create(size: u64, service: &str) -> Result<(Segment, Option<SegmentError>), SegmentError> {
        Segment::create_in(Path::new(DIRECTORY), size, service)
    }

    /// As [`Segment::create`], in a directory of the caller's choice.
    pub fn create_in(
        directory: &Path,
        size: u64,
        service: &str,
    ) -> Result<(Segment, Option<SegmentError>), SegmentError> {
        let geometry = Geometry::of(size)?;
        match new_in(directory, &geometry) {
            Ok((mapping, path)) => {
                initialise(mapping.region(), &geometry, service);
                let mapping = mapping.publish(&path)?;
                Ok((Segment::open(mapping, geometry), None))
            }
            Err(reason) => {
                let mapping = Mapping::private(geometry.size)?;
                initialise(mapping.region(), &geometry, service);
                Ok((Segment::open(Arc::new(mapping), geometry), Some(reason)))
            }
        }
    }

    /// Creates a segment that only this process and its forked children see.
    pub fn private(size: u64, service: &str) -> Result<Segment, SegmentError> {
        let geometry = Geometry::of(size)?;
        let mapping = Mapping::private(geometry.size)?;
        initialise(mapping.region(), &geometry, service);
        Ok(Segment::open(Arc::new(mapping), geometry))
    }

    /// Attaches to an existing segment by the path of its file.
    pub fn attach(path: &Path) -> Result<Segment, SegmentError> {
        let mapping = Mapping::attach(path)?;
        match Geometry::read(mapping.region()) {
            Ok(geometry) => Ok(Segment::open(mapping, geometry)),
            Err(problem) => {
                mapping.closed(|| ());
                Err(SegmentError::Invalid {
                    path: path.to_path_buf(),
                    problem,
                })
            }
        }
    }

    fn open(mapping: Arc<Mapping>, geometry: Geometry) -> Segment {
        static REGISTERED: Once = Once::new();
        // SAFETY: the handler is a static function that may be called at any time. If there is no memory for the
        // registration, the file stays until another process reaps it.
        REGISTERED.call_once(|| unsafe {
            libc::atexit(at_exit);
        });
        Segment {
            region: *mapping.region(),
            mapping,
            geometry,
            mourned: AtomicU64::new(0),
            collected: AtomicU64::new(u64::from(fork::count()) << 32),
            barred: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            owner: AtomicU32::new(std::process::id()),
            separate: AtomicBool::new(false),
            serialised: AtomicBool::new(false),
        }
    }

    /// The mapped bytes.
    #[inline]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Where everything lies.
    #[inline]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The stream and series tables.
    pub fn tables(&self) -> Tables<'_> {
        Tables {
            region: self.region(),
            geometry: &self.geometry,
        }
    }

    /// The exemplars.
    pub fn exemplars(&self) -> Exemplars<'_> {
        Exemplars::new(self.tables())
    }

    /// The span table.
    pub fn spans(&self) -> SpanTable<'_> {
        SpanTable::new(self.tables())
    }

    /// Spans that run in workers that live, those that began first first.
    pub fn active_spans(&self) -> Vec<ActiveSpan> {
        let own = self.joined_lane();
        self.spans().active(|lane| self.workers().is_alive(lane, own))
    }

    /// Begins a collection: ends the window of exemplars and answers its number.
    pub(crate) fn begin_collection(&self) -> u32 {
        let own = u64::from(self.own_collections());
        let forks = u64::from(fork::count()) << 32;
        self.collected.store(forks | (own + 1) & u64::from(u32::MAX), Relaxed);
        self.exemplars().next_window()
    }

    fn own_collections(&self) -> u32 {
        let word = self.collected.load(Relaxed);
        if (word >> 32) as u32 == fork::count() {
            word as u32
        } else {
            0
        }
    }

    /// Number of collections that other processes, and other handles of this one, have made, modulo 2^32: as long as this one exports, it stays.
    pub fn collections_of_others(&self) -> u32 {
        self.exemplars().window().wrapping_sub(self.own_collections())
    }

    /// The worker table.
    pub fn workers(&self) -> Workers<'_> {
        Workers {
            tables: self.tables(),
            locks: self.mapping.lock_file(),
        }
    }

    /// When it was made, nanoseconds since the epoch.
    pub fn created_unix_ns(&self) -> u64 {
        self.region().u64(header::CREATED).map_or(0, |at| at.load(Relaxed))
    }

    /// The file's path, if it has one.
    pub fn path(&self) -> Option<&Path> {
        self.mapping.path()
    }

    /// The service that the segment belongs to.
    pub fn service(&self) -> String {
        let len = self
            .region()
            .u32(header::SERVICE_LEN)
            .map_or(0, |len| len.load(Relaxed) as usize)
            .min(header::SERVICE_MAX);
        let bytes = self.region().read_bytes(header::SERVICE, len).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Lane of this process, joined if need be. A forked child joins a lane of its own.
    pub fn lane(&self) -> usize {
        self.mapping.lane().unwrap_or_else(|| {
            self.mapping.lane_or_join(|| {
                self.separate();
                self.workers().join()
            })
        })
    }

    /// Lane of this process if it has joined; a number that is no lane otherwise.
    pub fn joined_lane(&self) -> usize {
        self.mapping.lane().unwrap_or(NO_LANE)
    }

    /// States that the caller lets no two threads of this process record at once, as Python's GIL does. Cells of the process's
    /// own lane are then written without locked instructions.
    pub fn set_serialised(&self) {
        self.serialised.store(true, Relaxed);
    }

    /// Whether recordings into `lane` by this process need no locked instructions.
    pub(crate) fn is_exclusive(&self, lane: usize) -> bool {
        lane > 0 && self.serialised.load(Relaxed)
    }

    /// Whether this process exports for the group; becomes the leader if nobody is.
    pub fn lead(&self) -> bool {
        if self.barred.load(Relaxed) {
            return false;
        }
        if self.separate.load(Relaxed) && self.mapping.is_inherited() {
            self.lane();
        }
        if self.mapping.has_lost_its_file() {
            self.regain();
        }
        self.workers()
            .lead()
            .unwrap_or_else(|| self.owner.load(Relaxed) == std::process::id())
    }

    /// States whether this process never leads, for one whose threads do not run.
    pub fn bar_leading(&self, barred: bool) {
        self.barred.store(barred, Relaxed);
    }

    /// Gives leadership up, for a process that reads in this one's stead.
    pub fn resign(&self) {
        self.workers().resign();
    }

    /// States whether the file stays when this process ends, for one that is about to attach and removes it in its turn.
    pub fn keep_file(&self, kept: bool) {
        self.mapping.keep(kept);
    }

    /// Makes this process an observer, which has a lane and is no worker, unless it has joined as a worker before.
    pub fn observe(&self) {
        self.mapping.lane_or_join(|| self.workers().join_to_observe());
    }

    /// Joins as a worker that attaches. False if the segment has ended: its last process is about to remove it and reads it no more.
    pub fn join(&self) -> bool {
        if self.workers().has_ended() {
            // Without a lane: what its last owner held may just be collected for the last time.
            return false;
        }
        let lane = self.lane();
        if !self.workers().has_ended() {
            return true;
        }
        self.mapping.set_lane(None);
        fork::forget();
        self.workers().leave(lane);
        false
    }

    /// Ends the segment, for an observer that exports for the last time, unless workers live.
    pub fn end(&self) -> bool {
        self.workers()
            .end(|workers| !workers.others(self.joined_lane()).is_empty())
    }

    /// Lanes of the workers of other processes that live.
    pub fn others(&self) -> Vec<usize> {
        self.workers().others(self.joined_lane())
    }

    /// Lets the gauges and up-down counters of these lanes count for readers of this handle although their workers are dead, for a last
    /// collection after their end. No worker may take a lane meanwhile.
    pub fn mourn(&self, lanes: &[usize]) {
        let lanes = lanes.iter().filter(|lane| **lane < WORKERS);
        self.mourned.store(lanes.fold(0, |all, lane| all | 1 << lane), Relaxed);
    }

    /// Whether a lane counts although its worker is dead.
    pub(crate) fn is_mourned(&self, lane: usize) -> bool {
        self.mourned.load(Relaxed) >> lane & 1 == 1
    }

    /// Finds or inserts a stream; `None` if there is no room.
    pub fn stream(&self, descriptor: &Descriptor, limit: u32) -> Option<StreamId> {
        self.tables().stream(descriptor, limit, unix_ns())
    }

    /// Number of pool lines handed out.
    pub fn used_lines(&self) -> u32 {
        self.geometry.lines - Pool::new(self.region(), &self.geometry).free()
    }

    /// Bytes by part; the parts add up to the size.
    pub fn memory_usage(&self) -> Vec<(&'static str, u64)> {
        let g = &self.geometry;
        let mut parts = vec![
            ("header", g.workers_at as u64),
            ("workers", (g.stream_index_at - g.workers_at) as u64),
            ("streams", (g.series_index_at - g.stream_index_at) as u64),
            ("series", (g.pool_at - g.series_index_at) as u64),
        ];
        for (purpose, name) in Use::ALL {
            let lines = self
                .region()
                .u64(header::USES + 8 * purpose as usize)
                .map_or(0, |word| word.load(Relaxed));
            parts.push((name, lines.saturating_mul(LINE as u64)));
        }
        let used = parts.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        parts.push(("free", (g.size as u64).saturating_sub(used)));
        parts
    }

    /// Workers that are alive.
    pub fn alive(&self) -> Vec<WorkerInfo> {
        self.workers().alive(self.joined_lane())
    }

    /// Gives lane and leadership back and removes the file if no other process uses it; all that only with the last handle that this
    /// process has on the segment. What the process records afterwards makes it join again.
    pub fn close(&self) {
        self.close_once(|_| true);
    }

    fn close_once(&self, gives_back: impl Fn(&Segment) -> bool) {
        if !self.closed.swap(true, AcqRel) {
            self.mapping.closed(|| {
                if gives_back(self) {
                    give_back(&self.mapping, &self.geometry);
                }
            });
        }
    }

    /// Counts a drop.
    pub fn count_drop(&self, reason: DropReason) {
        self.tables().count_drop(reason);
    }

    /// The canonical attribute bytes of a series.
    pub fn attribute_bytes(&self, id: SeriesId) -> Option<Vec<u8>> {
        let series = self.tables().read_series(id)?;
        self.region().read_bytes(series.attributes_at, series.attributes_len)
    }
}

/// A new file in a directory, and the name that it gets when it is ready.
fn new_in(directory: &Path, geometry: &Geometry) -> Result<(Mapping, PathBuf), SegmentError> {
    // The standard library's hash seeds are random per process and per state.
    let nonce = RandomState::new().build_hasher().finish() as u32;
    let name = format!("{}{}-{nonce:08x}", prefix(), std::process::id());
    let mapping = Mapping::create(&directory.join(format!(".{name}")), geometry.size)?;
    Ok((mapping, directory.join(name)))
}

fn initialise(region: &Region, geometry: &Geometry, service: &str) {
    let mut name = service;
    while name.len() > header::SERVICE_MAX {
        name = &name[..name.char_indices().next_back().map_or(0, |(at, _)| at)];
    }
    let word = |offset, value: u64| region.u64(offset).map(|word| word.store(value, Relaxed));
    let half = |offset, value: u32| region.u32(offset).map(|word| word.store(value, Relaxed));
    word(header::MAGIC, MAGIC);
    half(LAYOUT_VERSION_OFFSET, LAYOUT_VERSION);
    word(header::SIZE, geometry.size as u64);
    word(header::CREATED, unix_ns());
    word(header::POOL_NEXT, 1);
    half(header::SERVICE_LEN, name.len() as u32);
    region.write_bytes(header::SERVICE, name.as_bytes());
    if let Some(ready) = region.u32(header::READY) {
        ready.store(1, Release);
    }
}

/// Paths of this user's segments in [`DIRECTORY`] that a living process uses, newest first, and removal of those that nobody uses.
pub fn find(service: Option<&str>) -> Vec<PathBuf> {
    find_in(Path::new(DIRECTORY), service)
}

/// As [`find`], in a directory of the caller's choice.
pub fn find_in(directory: &Path, service: Option<&str>) -> Vec<PathBuf> {
    let prefix = prefix();
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let path = entry.path();
        let Ok(segment) = Segment::attach(&path) else {
            continue;
        };
        let created = segment.created_unix_ns();
        if service.is_none_or(|service| segment.service() == service) && segment.is_used() {
            found.push((created, path));
        }
    }
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// Removes this user's segments in a directory that no living process uses and that are older than `grace_ns`.
pub fn reap_in(directory: &Path, grace_ns: u64) -> usize {
    let prefix = prefix();
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let mut removed = 0;
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let Ok(segment) = Segment::attach(&entry.path()) else {
            continue;
        };
        let created = segment.created_unix_ns();
        if !segment.is_used()
            && created.saturating_add(grace_ns) < unix_ns()
            && std::fs::remove_file(entry.path()).is_ok()
        {
            removed += 1;
        }
    }
    removed
}

impl Segment {
    /// Whether any process, this one included, holds a slot or leads.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.mapping) > 1
            || self.workers().has_others(WORKERS)
            || self
                .mapping
                .lock_file()
                .is_some_and(|fd| crate::lock::held_by_other(fd, 0))
    }
}
