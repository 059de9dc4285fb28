//! `otel_perf._core`: the engine in `crates/core` as a Python module. Documentation for users is in `_core.pyi`.

// The Python classes and functions are documented in the stub.
#![allow(missing_docs)]
// PyO3 hands arguments over by value.
#![allow(clippy::needless_pass_by_value)]

use pyo3::prelude::*;

mod arguments;
mod attributes;
mod bound;
mod classes;
mod collector;
mod context;
mod dict;
mod distribution;
mod exemplars;
mod gate;
mod guarded;
mod hooks;
mod hot;
mod instance;
mod instruments;
mod lookup;
mod number;
mod plain;
mod prometheus;
mod sampler;
mod segment;
mod spans;
mod starter;
mod streams;
mod unsampled;
mod windows;

/// The hot path relies on the GIL for its process-local caches, so a free-threaded interpreter turns it on for this module.
#[pymodule(gil_used = true)]
mod _core {
    use otel_perf_core::layout;
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::bound::{BoundCounter, BoundGauge, BoundHistogram, BoundUpDownCounter};
    #[pymodule_export]
    use super::classes::{Counter, Gauge, Histogram, Observer, UpDownCounter};
    #[pymodule_export]
    use super::collector::Collector;
    #[pymodule_export]
    use super::context::set_context;
    #[pymodule_export]
    use super::distribution::HistogramSnapshot;
    #[pymodule_export]
    use super::hooks::{forks, set_forked, set_hooks};
    #[pymodule_export]
    use super::hot::Noop;
    #[pymodule_export]
    use super::prometheus::PrometheusEncoder;
    #[pymodule_export]
    use super::sampler::AllRecorder;
    #[pymodule_export]
    use super::segment::{find, HistogramSeries, Segment, SegmentError};
    #[pymodule_export]
    use super::spans::{active_spans, set_span_members, slowest_spans, SpanRecorder};

    #[pymodule_export]
    use super::starter::SpanStarter;
    #[pymodule_export]
    use super::streams::storage;
    #[pymodule_export]
    use super::unsampled::{set_unsampled, UnsampledSpan};
    #[pymodule_export]
    use super::windows::{Quantiles, Windows};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("LAYOUT_VERSION", layout::LAYOUT_VERSION)?;
        module.add("LAYOUT_VERSION_OFFSET", layout::LAYOUT_VERSION_OFFSET)?;
        module.add("MEMORY_LIMIT_DEFAULT", layout::DEFAULT_SIZE)?;
        module.add("MEMORY_LIMIT_MIN", layout::MINIMUM_SIZE)?;
        module.add("MEMORY_LIMIT_MAX", layout::MAXIMUM_SIZE)?;
        module.add(
            "BUILD_PROFILE",
            if cfg!(debug_assertions) { "debug" } else { "release" },
        )?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::dict::try_in_place(module.py())?;
        super::instance::try_in_place(module.py())?;
        module.add("READS_IN_PLACE", super::instance::is_in_place())?;
        super::hot::install_all(module.py())
    }
}
