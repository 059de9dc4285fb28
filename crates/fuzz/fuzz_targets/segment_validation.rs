//! Uses a segment whose bytes were overwritten at places of the fuzzer's choice.
#![no_main]

use std::sync::LazyLock;

#[path = "../bodies/segment_validation.rs"]
mod segment_validation;

static SCRATCH: LazyLock<segment_validation::Scratch> = LazyLock::new(segment_validation::Scratch::new);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| SCRATCH.check(bytes));
