//! Fetches the data for answers from memory, for all INVITEs of a batch at once.

use std::hint::black_box;

use arrayvec::ArrayVec;
use ringback_routing::{AgentSlot, Contacts, E164, EnvironmentSlot};

use crate::redirect::{Call, Snapshot};

/// Fetches the data for the answers to these resolved INVITEs: earlier answers, the remembered calls of the
/// callers, and the agents of these calls.
pub(crate) fn warm<C: Contacts, const N: usize>(
    snapshot: Snapshot<'_, C>,
    calls: &ArrayVec<Call<'_, '_>, N>,
) {
    snapshot
        .answered
        .warm(calls.iter().map(|call| call.invite.fingerprint()));
    let contacts: ArrayVec<_, N> = calls.iter().filter_map(contact).collect();
    snapshot.contacts.warm(&contacts);
    if contacts.len() < WORTH_FOLLOWING {
        return;
    }
    // Then the agents that called, and the agents whose roles claim their calls.
    let latest = |(environment, contact): &(EnvironmentSlot, E164)| {
        snapshot.contacts.likely_source(*environment, *contact)
    };
    let sources: ArrayVec<AgentSlot, N> = contacts.iter().filter_map(latest).collect();
    let claimant = |source: &AgentSlot| {
        let agent = snapshot.directory.agent(*source)?;
        agent.claimed_by.first().copied()
    };
    let claimants: ArrayVec<AgentSlot, N> = sources.iter().filter_map(claimant).collect();
    for claimant in &claimants {
        black_box(snapshot.directory.agent(*claimant).map(|agent| agent.slot));
    }
}

/// The contact whose calls the decision will look up, if any.
fn contact(call: &Call<'_, '_>) -> Option<(EnvironmentSlot, E164)> {
    Some((call.number?.number.environment, call.caller.number()?))
}

/// From this many contacts on, their agents are fetched too. For fewer, doing the lookups twice costs more time
/// than it saves.
const WORTH_FOLLOWING: usize = 4;
