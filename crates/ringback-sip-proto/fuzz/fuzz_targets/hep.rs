//! A HEPv3 packet, as a datagram and on a stream.

#![no_main]

#[path = "../../tests/integration/exercise.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::hep(bytes);
});
