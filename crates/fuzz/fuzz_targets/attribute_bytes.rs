//! Decodes arbitrary bytes as an attribute set and as a descriptor.
#![no_main]

#[path = "../bodies/attribute_bytes.rs"]
mod attribute_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| attribute_bytes::check(bytes));
