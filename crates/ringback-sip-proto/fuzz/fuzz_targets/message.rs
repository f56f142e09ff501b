//! One datagram through the whole redirect core.

#![no_main]

#[path = "../../tests/integration/exercise.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::handle(bytes, ringback_sip_proto::Transport::Udp);
});
