//! What stands before the recordings of an instrument: whether they are taken at all, and who is told of those that are not.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use otel_perf_core::drops::Drop;
use otel_perf_core::instrument::Kind;
use otel_perf_core::segment::Segment;
use pyo3::prelude::*;

use crate::hooks;

/// Bit of the state: the instrument has streams.
const RECORDING: u32 = 1;
/// Bit of the state: the meter is enabled.
const ENABLED: u32 = 2;
/// What is added when the streams change.
const CHANGE: u32 = 4;

/// The gate of an instrument, shared with what is bound to it.
#[derive(Clone)]
pub struct Gate {
    pub segment: Arc<Segment>,
    pub kind: Kind,
    pub name: String,
    state: Arc<AtomicU32>,
}

impl Gate {
    /// The gate of an enabled instrument without streams.
    pub fn new(segment: &Arc<Segment>, kind: Kind, name: &str) -> Gate {
        Gate {
            segment: Arc::clone(segment),
            kind,
            name: name.to_owned(),
            state: Arc::new(AtomicU32::new(ENABLED)),
        }
    }

    /// A number that changes with the streams, and when recordings begin or end to be taken.
    #[inline]
    pub fn state(&self) -> u32 {
        self.state.load(Relaxed)
    }

    /// Whether recordings are written anywhere.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.state() & (RECORDING | ENABLED) == RECORDING | ENABLED
    }

    /// Whether the meter is enabled, also if no view keeps anything of the instrument.
    pub fn is_enabled(&self) -> bool {
        self.state() & ENABLED != 0
    }

    /// Enables or disables, also everything bound.
    pub fn set_enabled(&self, enabled: bool) {
        let others = self.state() & !ENABLED;
        self.state.store(others | if enabled { ENABLED } else { 0 }, Relaxed);
    }

    /// Notes that the instrument has other streams, or none.
    pub fn set_recording(&self, recording: bool) {
        let others = (self.state() & !RECORDING).wrapping_add(CHANGE);
        self.state.store(others | u32::from(recording), Relaxed);
    }

    /// Counts a recording that is not made as asked, unless the meter is disabled.
    pub fn count_drop(&self, reason: Drop) {
        if self.is_enabled() {
            self.segment.count_drop(reason);
        }
    }

    /// Tells Python of a recording that is ignored, and counts it, unless the meter is disabled.
    pub fn ignore(&self, reason: Drop, amount: &Bound<'_, PyAny>) {
        if self.is_enabled() {
            self.segment.count_drop(reason);
            let word = if reason == Drop::Negative {
                "negative"
            } else {
                "non_finite"
            };
            hooks::ignored(amount.py(), self.kind.name(), &self.name, word, amount);
        }
    }
}
