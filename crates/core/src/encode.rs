//! Metrics as others read them: OTLP requests and the formats of Prometheus.

pub mod otlp;
pub mod prometheus;
mod wire;
