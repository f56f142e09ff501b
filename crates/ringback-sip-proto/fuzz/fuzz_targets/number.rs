//! What peers and API clients write where a number is expected.

#![no_main]

#[path = "../../../ringback-routing/tests/integration/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| exercise::number(bytes));
