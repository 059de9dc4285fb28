//! How what several workers hold of one series becomes what the group reports.
//!
//! Sums and distributions are added up, always. A value that was set, or reported by a callback, is each worker's own view, and what it is a
//! view of decides: of the machine all workers report the same, of a process each reports another.

use crate::instrument::Descriptor;
use crate::lane::Number;
use crate::stream::Storage;

/// Key of the attribute that tells the points of one worker from those of the others: its lane, an integer that is bounded, unlike process ids.
pub const WORKER_ATTRIBUTE: &str = "otel_perf.worker";

/// What the workers' values of a gauge become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GaugeMode {
    /// The value that was set last.
    #[default]
    MostRecent,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Their sum.
    Sum,
    /// A point for each worker.
    All,
}

impl GaugeMode {
    /// All modes with their names in the settings.
    pub const ALL: [(GaugeMode, &'static str); 5] = [
        (GaugeMode::MostRecent, "mostrecent"),
        (GaugeMode::Min, "min"),
        (GaugeMode::Max, "max"),
        (GaugeMode::Sum, "sum"),
        (GaugeMode::All, "all"),
    ];

    /// The mode with this name.
    pub fn named(name: &str) -> Option<GaugeMode> {
        GaugeMode::ALL
            .into_iter()
            .find(|(_, known)| *known == name)
            .map(|(mode, _)| mode)
    }
}

/// How the values of the workers become one, or stay as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The newest one of all.
    MostRecent,
    /// The smallest one.
    Min,
    /// The largest one.
    Max,
    /// Their sum.
    Sum,
    /// As [`Merge::MostRecent`], of something that ends with no worker: what dead ones had reported is not added.
    OfTheMachine,
    /// One point for each worker that lives.
    Each,
}

impl Merge {
    /// How values of a stream that were set or reported are merged. `several` states whether the group has had more than one worker.
    pub fn of(descriptor: &Descriptor, gauges: GaugeMode, several: bool) -> Merge {
        if descriptor.kind.is_observable() {
            if is_of_the_machine(&descriptor.name) {
                return Merge::OfTheMachine;
            }
            if several && is_of_a_process(&descriptor.name) {
                return Merge::Each;
            }
        }
        match (descriptor.stream.storage, gauges) {
            (Storage::Total, _) | (_, GaugeMode::Sum) => Merge::Sum,
            (_, GaugeMode::MostRecent) => Merge::MostRecent,
            (_, GaugeMode::Min) => Merge::Min,
            (_, GaugeMode::Max) => Merge::Max,
            (_, GaugeMode::All) => Merge::Each,
        }
    }

    /// The same where there can be one value only.
    #[must_use]
    pub fn as_one(self, storage: Storage) -> Merge {
        match (self, storage) {
            (Merge::Each, Storage::Total) => Merge::Sum,
            (Merge::Each, _) => Merge::MostRecent,
            (merge, _) => merge,
        }
    }

    /// Whether values of workers that are dead never count.
    pub fn is_of_the_living(self) -> bool {
        matches!(self, Merge::OfTheMachine | Merge::Each)
    }

    /// One of two values with their stamps.
    #[must_use]
    pub fn both(self, one: (Number, u64), other: (Number, u64)) -> (Number, u64) {
        let newest = one.1.max(other.1);
        match self {
            Merge::Sum => (one.0.plus(other.0), newest),
            Merge::Min if other.0.as_f64() < one.0.as_f64() => (other.0, newest),
            Merge::Max if other.0.as_f64() > one.0.as_f64() => (other.0, newest),
            Merge::Min | Merge::Max => (one.0, newest),
            Merge::MostRecent | Merge::OfTheMachine | Merge::Each if other.1 > one.1 => other,
            Merge::MostRecent | Merge::OfTheMachine | Merge::Each => one,
        }
    }
}

/// Whether a metric is of the machine, so that all workers report the same (OpenTelemetry semantic conventions, "system" metrics).
fn is_of_the_machine(name: &str) -> bool {
    name.starts_with("system.")
}

/// Whether a metric is of a process or of its runtime (semantic conventions, "process" and "runtime" metrics).
fn is_of_a_process(name: &str) -> bool {
    ["process.", "cpython.", "python."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
