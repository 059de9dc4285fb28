//! Encoders: metrics as the bytes that leave.

pub mod prometheus;
