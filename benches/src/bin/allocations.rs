//! Counts allocations of the warm call path, and fails if there are any.
//!
//! This is the path in memory: read, check, decide, write the reply. `benches/compare --counts` counts the
//! allocations of the whole server, from outside.
#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]

use std::alloc::System;
use std::process::ExitCode;

use ringback_benches::population::{Population, number, stranger};
use ringback_benches::sip::{Call, Template};
use ringback_benches::world::{CallPath, World, shared_number};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// Counts.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A kind of call: its name, the status of its answer, and how to make it.
type Kind = (&'static str, u16, fn(u64) -> Call);

/// How many messages of each kind are handled while counting.
const ROUNDS: u64 = 10_000;

/// The number of contacts in the index.
const CONTACTS: u64 = 100_000;

fn main() -> ExitCode {
    let world = World::new(CONTACTS);
    let path = CallPath::new();
    let mut out = Vec::with_capacity(4_096);
    let mut invite = Template::invite(41_234);
    let mut failed = false;

    let calls: [Kind; 4] = [
        ("returned call, same number", 302, |id| {
            Call::returning(&Population::SMALL, id, id % CONTACTS)
        }),
        ("returned call, other number", 302, |id| Call {
            dialed: shared_number().digits(),
            ..Call::returning(&Population::SMALL, id, id % CONTACTS)
        }),
        ("never called", 302, |id| Call {
            caller: stranger(id),
            ..Call::returning(&Population::SMALL, id, id % CONTACTS)
        }),
        ("number unknown", 404, |id| Call {
            dialed: number(999),
            ..Call::returning(&Population::SMALL, id, id % CONTACTS)
        }),
    ];
    for (name, status, call) in calls {
        failed |= count(name, |id| {
            invite.set(&call(id));
            out.clear();
            let reply = path.handle(&world, invite.bytes(), &mut out);
            reply.is_some_and(|reply| reply.status == status)
        });
    }

    let mut ack = Template::ack(41_234);
    let mut message = Vec::with_capacity(1_024);
    failed |= count("ACK", |id| {
        ack.set(&Call::returning(&Population::SMALL, id, id % CONTACTS));
        message.clear();
        message.extend_from_slice(ack.bytes());
        message.extend_from_slice(b"<sip:a@b>;tag=1");
        message.extend_from_slice(Template::ACK_END);
        path.handle(&world, &message, &mut out).is_none()
    });
    let text = String::from_utf8_lossy(invite.bytes()).into_owned();
    let others = [
        ("OPTIONS", 200, text.replace("INVITE", "OPTIONS")),
        ("malformed CSeq", 400, text.replace("CSeq: 1", "CSeq: x")),
        (
            "method unknown to SIP",
            501,
            text.replace("INVITE", "PARTY"),
        ),
    ];
    for (name, status, message) in &others {
        failed |= count(name, |_| {
            out.clear();
            let reply = path.handle(&world, message.as_bytes(), &mut out);
            reply.is_some_and(|reply| reply.status == *status)
        });
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Handles a message many times, the first half of them without counting; returns whether it failed.
fn count(name: &str, mut handle: impl FnMut(u64) -> bool) -> bool {
    // The first call prepares each answer; after that the path is warm.
    for id in 0..ROUNDS {
        handle(id);
    }
    let mut right = true;
    let region = Region::new(ALLOCATOR);
    for id in 0..ROUNDS {
        right &= handle(id);
    }
    let change = region.change();
    let allocations = change.allocations + change.reallocations;
    println!(
        "{name}: {allocations} allocations in {ROUNDS} messages{}",
        if right { "" } else { ", WRONG ANSWERS" }
    );
    allocations > 0 || !right
}
