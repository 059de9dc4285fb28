//! The metrics engine of `otel_perf`: all state of a service in one bounded segment of shared memory.
//!
//! Application threads record with atomic adds ([`local`]); everything else reads from outside ([`reader`]). Nothing in this crate knows of Python.

mod asking;
pub mod attributes;
pub mod census;
pub mod clock;
pub mod distribution;
pub mod drops;
pub mod encode;
pub mod error;
pub mod exemplar;
pub mod fork;
pub mod hdr;
pub mod histogram;
pub mod instrument;
pub mod lane;
pub mod layout;
pub mod local;
pub mod lock;
pub mod mapping;
pub mod merge;
pub mod metric;
pub mod observed;
pub mod pool;
pub mod quantiles;
pub mod reader;
pub mod region;
pub mod scan;
pub mod segment;
pub mod serving;
pub mod spans;
pub mod stream;
pub mod tables;
mod varint;
pub mod window;
pub mod workers;
