//! What stands before the recordings of an instrument: whether they are taken at all, and who is told of those that are not.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use otel_perf_core::drops::Drop;
use otel_perf_core::instrument::Kind;
use otel_perf_core::segment::Segment;
use pyo3::prelude::*;

use crate::hooks;

/// The gate of an instrument, shared with what is bound to it.
#[derive(Clone)]
pub struct Gate {
    pub segment: Arc<Segment>,
    pub kind: Kind,
    pub name: String,
    enabled: Arc<AtomicBool>,
}

impl Gate {
    /// An open gate.
    pub fn new(segment: &Arc<Segment>, kind: Kind, name: &str) -> Gate {
        Gate {
            segment: Arc::clone(segment),
            kind,
            name: name.to_owned(),
            enabled: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Whether recordings are taken.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    /// Opens or closes the gate, also that of everything bound.
    pub fn set_open(&self, open: bool) {
        self.enabled.store(open, Relaxed);
    }

    /// Counts a recording that is not made as asked, unless none is taken anyway.
    pub fn count_drop(&self, reason: Drop) {
        if self.is_open() {
            self.segment.count_drop(reason);
        }
    }

    /// Tells Python of a recording that is ignored, and counts it, unless none is taken anyway.
    pub fn ignore(&self, reason: Drop, amount: &Bound<'_, PyAny>) {
        if self.is_open() {
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
