//! A HEPv3 packet, as a datagram and on a stream. What is no packet is mirrored in one, so that SIP
//! messages can be the corpus.

#![no_main]

#[path = "../../tests/integration/exercise.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| exercise::mirrored(bytes));
