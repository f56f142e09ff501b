//! A stream in small pieces through the framer and the redirect core.

#![no_main]

#[path = "../../tests/integration/exercise.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _messages = exercise::stream(bytes, &[1, 7, 100, 3]);
});
