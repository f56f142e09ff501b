//! Fetches what the answers to resolved INVITEs will read from memory, before they are made.
//!
//! A decision follows a chain: the caller's newest call, the agent that made it, the agent that takes its calls
//! back, the plan of the reply. Each link is asked for as soon as its address is known, for all INVITEs of a batch,
//! and the plan at the same time as the agents: the cache of plans is ordered by the agent that called.

use arrayvec::ArrayVec;
use ringback_routing::{AgentSlot, Contacts};

use crate::redirect::plan::Plans;
use crate::redirect::{Call, Snapshot};

/// Fetches the agents and the plans that the answers to these INVITEs will probably need.
pub(crate) fn prefetch<C: Contacts, const N: usize>(
    snapshot: Snapshot<'_, C>,
    plans: &Plans<'_>,
    calls: &ArrayVec<Call<'_, '_>, N>,
) {
    let directory = snapshot.directory;
    let source = |call: &Call<'_, '_>| {
        let environment = call.number?.number.environment;
        let contact = call.caller.number()?;
        snapshot.contacts.likely_source(environment, contact)
    };
    let sources: ArrayVec<AgentSlot, N> = calls
        .iter()
        .filter_map(source)
        .inspect(|source| {
            directory.prefetch_agent(*source);
            plans.prefetch_entry(*source);
        })
        .collect();
    for source in sources {
        let agent = directory.agent(source);
        if let Some(claimant) = agent.and_then(|agent| agent.claimed_by.first()) {
            directory.prefetch_agent(*claimant);
        }
        plans.prefetch_plan(source);
    }
}
