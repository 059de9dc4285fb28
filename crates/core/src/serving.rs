//! Where the process that serves an endpoint is reached, for those that look at the group from outside.
//!
//! The address is written between two changes of the lane beside it, 0 first and the writer's last, by the process that leads. A reader takes it only
//! between two equal lanes, and only if the worker with that lane lives: who is killed leaves its address behind.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::layout::{header, WORKERS};
use crate::segment::Segment;

impl Segment {
    /// States where this process serves; nowhere if the address is empty. One that is too long is not kept.
    pub fn serve_at(&self, address: &str) {
        let region = self.region();
        let (Some(lane), Some(length)) = (region.u32(header::SERVING), region.u32(header::SERVING_LEN)) else {
            return;
        };
        lane.store(0, Release);
        if !address.is_empty() && address.len() <= header::SERVING_MAX {
            region.write_bytes(header::SERVING_AT, address.as_bytes());
            length.store(address.len() as u32, Relaxed);
            lane.store(self.lane() as u32 + 1, Release);
        }
    }

    /// Lane and address of the living process that serves.
    pub fn served_at(&self) -> Option<(usize, String)> {
        let region = self.region();
        let word = region.u32(header::SERVING)?;
        let lane = word.load(Acquire);
        let length = region.u32(header::SERVING_LEN)?.load(Relaxed) as usize;
        let bytes = region.read_bytes(header::SERVING_AT, length.min(header::SERVING_MAX))?;
        let by = (lane as usize).checked_sub(1).filter(|lane| *lane < WORKERS)?;
        let is_whole = word.load(Acquire) == lane && length <= header::SERVING_MAX;
        (is_whole && self.workers().is_held(by, self.joined_lane())).then_some(())?;
        Some((by, String::from_utf8(bytes).ok()?))
    }
}
