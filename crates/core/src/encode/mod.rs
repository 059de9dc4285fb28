//! What leaves the process, as bytes.

pub mod otlp;
pub mod wire;
