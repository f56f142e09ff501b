//! Mutated fixtures: nothing panics, everything ends, and every reply is legal.
//!
//! A short run by default; `RINGBACK_FUZZ_CASES=10000000 cargo test --release -p ringback-sip-proto
//! --test integration mutated` is the long one, and `RINGBACK_FUZZ_SEED` repeats one.

use ringback_sip_proto::Transport;
use ringback_testkit::{Case, Mutator};

use crate::exercise;

#[test]
fn mutated_messages_never_panic() {
    let mutator = Mutator::new();
    Mutator::seeds(Mutator::cases(SMOKE), |seed| match mutator.case(seed) {
        Case::Datagram(bytes) => {
            exercise::handle(&bytes, Transport::Udp);
            exercise::mirrored(&bytes);
        }
        Case::Stream(bytes, pieces) => {
            exercise::stream(&bytes, &pieces);
        }
        Case::Hep(bytes) => exercise::mirrored(&bytes),
    });
}

/// Cases of a run that nobody asked for.
const SMOKE: u64 = 20_000;
