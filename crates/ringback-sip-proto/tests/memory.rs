//! Memory: whatever comes in, nothing of it stays, and nothing makes much of little.
//!
//! A binary of its own with one test and without the test harness: the allocator counts what every thread does, and
//! the harness has a thread beside that of the test. `RINGBACK_FUZZ_CASES` makes it longer, as the other run of
//! mutated messages.

#[path = "integration/exercise.rs"]
mod exercise;

use std::alloc::System;

use ringback_sip_proto::Transport;
use ringback_testkit::{Case, Mutator};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// Counts.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    // As the harness would: where names are given, the test runs if it bears one of them.
    let names: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let test = "mutated_messages_leave_nothing_behind_and_take_no_more_than_their_share";
    if names.is_empty() || names.iter().any(|name| test.contains(name.as_str())) {
        mutated_messages_leave_nothing_behind_and_take_no_more_than_their_share();
    }
}

fn mutated_messages_leave_nothing_behind_and_take_no_more_than_their_share() {
    let mutator = Mutator::new();
    Mutator::seeds(Mutator::cases(SMOKE), |seed| {
        let case = mutator.case(seed);
        let region = Region::new(ALLOCATOR);
        let messages = match &case {
            Case::Datagram(bytes) => {
                exercise::handle(bytes, Transport::Udp);
                1
            }
            Case::Stream(bytes, pieces) => exercise::stream(bytes, pieces).max(1),
            Case::Hep(bytes) => {
                exercise::mirrored(bytes);
                1
            }
        };
        let change = region.change();
        let stays = change.bytes_allocated - change.bytes_deallocated;
        assert_eq!((stays, change.allocations), (0, change.deallocations));
        let length = case.bytes().len();
        let share = FIXED_SHARE * messages + SHARE_PER_BYTE * length;
        let took = change.bytes_allocated;
        assert!(
            took <= share,
            "{length} bytes in {messages} messages made it take {took}"
        );
    });
}

/// Cases of a run that nobody asked for.
const SMOKE: u64 = 20_000;

/// Bytes that any message may have allocated in all, whatever its length; most of it for replies.
const FIXED_SHARE: usize = 8_192;

/// Bytes that it may have allocated for each of its own: a buffer that grows by doubling takes up to four times what
/// it ends with, and there are two, the stream's and the reply's; the rest is what the checks of the reply need.
const SHARE_PER_BYTE: usize = 12;
