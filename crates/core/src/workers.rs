//! Workers and leadership: which process owns which lane, who is alive, and who exports.
//!
//! A worker owns a slot for as long as it holds the slot's byte lock, see [`crate::lock`]. Byte 0 is the leader's.
//! A slot becomes `ACTIVE` after its new owner cleared what ended with the previous one; only then are its gauges read.
//! An observer, a process that only reads and exports, holds a slot too, for what it records of itself; its slot is `OBSERVING`.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::clock::unix_ns;
use crate::layout::{header, Geometry, RETIRED, WORKER, WORKERS};
use crate::lock;
use crate::region::Region;
use crate::spans::SpanTable;
use crate::stream::Storage;
use crate::tables::{SeriesId, Tables};

const STATE: usize = 0;
const PID: usize = 4;
const STARTED: usize = 8;
const REPORTED: usize = 16;

const ACTIVE: u32 = 1;
const CLEARING: u32 = 2;
const OBSERVING: u32 = 3;
const LEFT: u32 = 4;

/// Slot of the second worker: workers take the first that is free.
const SECOND: usize = 2;

/// Lock byte of the leader.
const LEADER: i64 = 0;

/// A worker that holds its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Slot and lane number.
    pub lane: usize,
    /// Process id as that process sees itself.
    pub pid: u32,
    /// When it took the slot, nanoseconds since the epoch.
    pub started_unix_ns: u64,
    /// Whether it only reads and exports.
    pub observes: bool,
}

/// Worker table of one segment, with the file that carries the locks (none for an anonymous mapping).
#[derive(Clone, Copy, Debug)]
pub struct Workers<'a> {
    pub(crate) tables: Tables<'a>,
    pub(crate) locks: Option<BorrowedFd<'a>>,
}

impl<'a> Workers<'a> {
    fn word(&self, lane: usize, offset: usize) -> Option<&'a AtomicU32> {
        self.tables
            .region
            .u32(self.tables.geometry.workers_at + lane * WORKER + offset)
    }

    fn long_word(&self, lane: usize, offset: usize) -> Option<&'a AtomicU64> {
        self.tables
            .region
            .u64(self.tables.geometry.workers_at + lane * WORKER + offset)
    }

    /// Takes a free slot for this process. 0, the common lane, if there is none.
    pub fn join(&self) -> usize {
        self.join_one_of(1..RETIRED, ACTIVE)
    }

    /// As [`Workers::join`], for an observer: the last slot, so that what a worker has held that died just before is still there.
    pub fn join_to_observe(&self) -> usize {
        self.join_one_of((1..RETIRED).rev(), OBSERVING)
    }

    fn join_one_of(&self, lanes: impl Iterator<Item = usize>, becomes: u32) -> usize {
        let Some(fd) = self.locks else {
            return 0;
        };
        for lane in lanes {
            if lock::held_by_other(fd, lane as i64) || !lock::try_lock(fd, lane as i64) {
                continue;
            }
            let (Some(state), Some(pid)) = (self.word(lane, STATE), self.word(lane, PID)) else {
                return 0;
            };
            if state.load(Acquire) != 0 {
                state.store(CLEARING, Release);
                self.clear_lane(lane);
            }
            // What its previous owner served is served no longer.
            if let Some(serving) = self.tables.region.u32(header::SERVING) {
                let _ = serving.compare_exchange(lane as u32 + 1, 0, Release, Relaxed);
            }
            pid.store(std::process::id(), Relaxed);
            if let Some(started) = self.long_word(lane, STARTED) {
                started.store(unix_ns(), Relaxed);
            }
            if let Some(reported) = self.long_word(lane, REPORTED) {
                reported.store(0, Relaxed);
            }
            state.store(becomes, Release);
            return lane;
        }
        0
    }

    /// Locks the slot of this process again; false if another one has it.
    pub fn retake(&self, lane: usize) -> bool {
        self.locks.is_some_and(|fd| lock::try_lock(fd, lane as i64))
    }

    /// Empties what ended with the previous owner.
    fn clear_lane(&self, lane: usize) {
        SpanTable::new(self.tables).clear_lane(lane);
        let lanes = self.tables.lanes();
        for id in (0..self.tables.series_count()).map(SeriesId) {
            let Some(series) = self.tables.read_series(id) else {
                continue;
            };
            let (Some((kind, storage)), Some(cell)) = (
                self.tables.kind(series.stream),
                lanes.existing_cell_at(lane, id).and_then(|at| lanes.cell(at)),
            ) else {
                continue;
            };
            if storage.ends_with_worker(kind) {
                cell.clear();
            } else if storage == Storage::Total {
                // The next owner's callbacks begin at zero and set the cell instead of adding to it.
                let retired = lanes.cell_at(RETIRED, id).and_then(|at| lanes.cell(at));
                if let (Some((total, _)), Some(retired)) = (cell.last_value(), retired) {
                    cell.clear();
                    retired.add(total, false);
                }
            }
        }
    }

    /// Gives the slot back.
    pub fn leave(&self, lane: usize) {
        if let (Some(fd), true) = (self.locks, lane > 0) {
            if let Some(state) = self.word(lane, STATE) {
                state.store(LEFT, Release);
            }
            lock::unlock(fd, lane as i64);
        }
    }

    /// Whether the last holder of a slot gave it back, and was not killed.
    pub fn has_left(&self, lane: usize) -> bool {
        self.word(lane, STATE).is_some_and(|state| state.load(Acquire) == LEFT)
    }

    /// Whether what ends with the worker counts for this lane; `own` is the caller's lane, whose lock the kernel never reports.
    pub fn is_alive(&self, lane: usize, own: usize) -> bool {
        if lane == 0 || lane == own {
            return true;
        }
        self.word(lane, STATE)
            .is_some_and(|state| state.load(Acquire) == ACTIVE)
            && self.locks.is_some_and(|fd| lock::held_by_other(fd, lane as i64))
    }

    /// Whether any other process holds a slot.
    pub fn has_others(&self, own: usize) -> bool {
        (1..WORKERS).any(|lane| lane != own && self.locks.is_some_and(|fd| lock::held_by_other(fd, lane as i64)))
    }

    /// The workers that hold a slot now.
    pub fn alive(&self, own: usize) -> Vec<WorkerInfo> {
        let mut found = self.holders(own);
        found.retain(|worker| !worker.observes);
        found
    }

    /// The workers and observers that hold a slot now.
    pub fn holders(&self, own: usize) -> Vec<WorkerInfo> {
        let state = |lane| self.word(lane, STATE).map_or(0, |state| state.load(Acquire));
        (1..WORKERS)
            .filter(|lane| matches!(state(*lane), ACTIVE | OBSERVING) && self.is_held(*lane, own))
            .map(|lane| WorkerInfo {
                lane,
                pid: self.word(lane, PID).map_or(0, |pid| pid.load(Relaxed)),
                started_unix_ns: self.started(lane),
                observes: state(lane) == OBSERVING,
            })
            .collect()
    }

    /// Whether a process holds the slot; the common one is held by all.
    pub fn is_held(&self, lane: usize, own: usize) -> bool {
        lane == 0 || lane == own || self.locks.is_some_and(|fd| lock::held_by_other(fd, lane as i64))
    }

    /// Process id of the leader as the caller sees it, if another process leads; 0 for one in a pid namespace that it does not see.
    pub fn leader(&self) -> Option<i32> {
        lock::holder(self.locks?, LEADER)
    }

    /// Whether the group has ever had more than one worker: the second slot was taken once.
    pub fn have_been_several(&self) -> bool {
        have_been_several(self.tables.region, self.tables.geometry)
    }

    /// When the holder of a slot took it, nanoseconds since the epoch.
    pub fn started(&self, lane: usize) -> u64 {
        self.long_word(lane, STARTED).map_or(0, |started| started.load(Relaxed))
    }

    /// Lanes of the workers that live, without the caller's and those of observers.
    pub fn others(&self, own: usize) -> Vec<usize> {
        let others = (1..WORKERS).filter(|lane| *lane != own);
        others.filter(|lane| self.is_alive(*lane, own)).collect()
    }

    /// Ends the segment for those that would still attach, unless it is used: whoever finds it ended makes one of its own. `is_used` sees all that have
    /// joined before. Who joins takes a lane first and looks for the end then, who ends it says so first and looks at the lanes then, so that one
    /// of them sees the other.
    pub fn end(&self, is_used: impl Fn(&Self) -> bool) -> bool {
        let Some(ended) = self.tables.region.u32(header::ENDED) else {
            return true;
        };
        if is_used(self) {
            return false;
        }
        ended.store(1, SeqCst);
        if is_used(self) {
            ended.store(0, SeqCst);
            return false;
        }
        true
    }

    /// Whether the segment has ended; to be asked after a lane was taken.
    pub fn has_ended(&self) -> bool {
        self.tables
            .region
            .u32(header::ENDED)
            .is_some_and(|ended| ended.load(SeqCst) != 0)
    }

    /// Whether another process observes.
    pub fn is_observed(&self, own: usize) -> bool {
        let observing = |lane| {
            self.word(lane, STATE)
                .is_some_and(|state| state.load(Acquire) == OBSERVING)
        };
        let mut others = (1..WORKERS).filter(|lane| *lane != own);
        others.any(|lane| observing(lane) && self.locks.is_some_and(|fd| lock::held_by_other(fd, lane as i64)))
    }

    /// Notes that all callbacks of a worker have reported since a monotonic time: what it reported before is no longer so. In the common
    /// lane, which several workers share, nothing is noted.
    pub fn report(&self, lane: usize, since_ns: u64) {
        if let (Some(reported), true) = (self.long_word(lane, REPORTED), lane > 0) {
            reported.store(since_ns, Release);
        }
    }

    /// Monotonic time since which all callbacks of a worker have reported; 0 if it is not known.
    pub fn reported(&self, lane: usize) -> u64 {
        self.long_word(lane, REPORTED)
            .map_or(0, |reported| reported.load(Acquire))
    }

    /// Becomes or stays the leader, unless another process is. `None` where locks do not exist.
    pub fn lead(&self) -> Option<bool> {
        self.locks.map(|fd| lock::try_lock(fd, LEADER))
    }

    /// Gives leadership up.
    pub fn resign(&self) {
        if let Some(fd) = self.locks {
            lock::unlock(fd, LEADER);
        }
    }
}

/// Whether a group has ever had more than one worker: the second slot was taken once.
pub(crate) fn have_been_several(region: &Region, geometry: &Geometry) -> bool {
    let state = region.u32(geometry.workers_at + SECOND * WORKER + STATE);
    let state = state.map_or(0, |state| state.load(Acquire));
    state != 0 && state != OBSERVING
}
