//! What a process does whose memory or descriptors are no longer its own: forked workers that are to be separate, and programs that have closed all
//! descriptors.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use super::{initialise, new_in, Segment};
use crate::clock::unix_ns;
use crate::fork;
use crate::mapping::Mapping;
use crate::tables::Tables;

impl Segment {
    /// Takes lock and lane again after somebody has closed the descriptor of the file.
    pub(super) fn regain(&self) {
        if !self.mapping.reopen() {
            self.owner.store(std::process::id(), Relaxed);
            return;
        }
        let lane = self.mapping.lane();
        if lane.is_some_and(|lane| lane > 0 && !self.workers().retake(lane)) {
            // Another worker has it meanwhile.
            self.mapping.set_lane(None);
            fork::forget();
        }
    }

    /// States whether each process that is forked from this one gets, at its first recording, a segment of its own with the same streams and series, in which
    /// nothing was recorded yet.
    pub fn set_separate(&self, separate: bool) {
        self.separate.store(separate, Relaxed);
    }

    /// Whether forked processes get segments of their own.
    pub fn is_separate(&self) -> bool {
        self.separate.load(Relaxed)
    }

    /// Puts a segment of its own in place of the one that a forked process shares with its parent. Without memory for it they go on sharing.
    pub(super) fn separate(&self) {
        if !self.separate.load(Relaxed) || !self.mapping.is_inherited() {
            return;
        }
        let directory = self.path().and_then(Path::parent);
        let named = directory.and_then(|directory| new_in(directory, &self.geometry).ok());
        let (fresh, path) = match named {
            Some((fresh, path)) => (fresh, Some(path)),
            None => match Mapping::private(self.geometry.size) {
                Ok(fresh) => (fresh, None),
                Err(_) => return,
            },
        };
        initialise(fresh.region(), &self.geometry, &self.service());
        let tables = Tables {
            region: fresh.region(),
            geometry: &self.geometry,
        };
        tables.take_over(self.tables(), unix_ns());
        if Mapping::replace_by(&self.mapping, fresh, path.as_deref()).is_ok() {
            self.owner.store(std::process::id(), Relaxed);
        }
    }
}
