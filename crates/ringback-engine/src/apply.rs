//! Applies facts of the log to the state that readers see.
//!
//! The same code applies what this node has appended, what other nodes have appended, and, when an engine starts,
//! what the log has beyond the archive. Applying facts twice, in order, gives the same state as once, except for
//! counters: each entry of the log is applied to them once.

use std::sync::Arc;

use ringback_routing::{AgentId, Assignment, Connector, Directory, NumberId};

use crate::Change;
use crate::shared::Shared;

/// Applies the facts of one entry: the directory first, because calls refer to it.
pub(crate) fn apply(shared: &Shared, facts: &[Change]) {
    if facts.iter().any(concerns_directory) {
        let mut directory = Directory::clone(&shared.directory.load());
        for fact in facts {
            apply_to_directory(&mut directory, fact);
        }
        shared.directory.store(Arc::new(directory));
    }
    let directory = shared.directory.load_full();
    for fact in facts {
        match fact {
            Change::CallPut(call) => shared.contacts.apply(&directory, call),
            Change::ContactForgotten(environment, contact) => {
                shared.contacts.forget(&directory, *environment, *contact);
                shared.observed.apply(fact, &directory);
            }
            Change::SessionPut(_) | Change::SessionEnded(_) => shared.sessions.apply(fact),
            Change::CallsSwept(sweep) => shared.contacts.sweep(&directory, sweep),
            _ => shared.observed.apply(fact, &directory),
        }
    }
}

/// Changes a directory by a fact; facts about other things do nothing.
pub(crate) fn apply_to_directory(directory: &mut Directory, fact: &Change) {
    match fact {
        Change::EnvironmentPut(environment) => directory.put_environment(environment.clone()),
        Change::EnvironmentRemoved(id) => directory.remove_environment(*id),
        Change::TokenPut(token) => directory.put_token(token.clone()),
        Change::TokenRemoved(environment, id) => directory.remove_token(*environment, *id),
        Change::ConnectorPut(connector) => directory.put_connector(Connector::clone(connector)),
        Change::ConnectorRemoved(environment, id) => directory.remove_connector(*environment, *id),
        Change::AgentPut(agent) => directory.put_agent(agent.clone()),
        Change::AgentRemoved(_, id, _) => directory.remove_agent(*id),
        Change::NumberPut(number) => directory.put_number(number.clone()),
        Change::NumberRemoved(_, id) => directory.remove_number(*id),
        Change::Assigned(assignment) => directory.assign(assignment),
        Change::Unassigned(assignment) => directory.unassign(assignment),
        Change::OwnersSet(number, agents) => set_owners(directory, *number, agents),
        Change::ErasureSecretSet(secret) => directory.set_contact_key(secret.contact_key()),
        Change::OptedOut(environment, contact, opt_out) => {
            directory.set_opt_out(*environment, *contact, Some(opt_out.clone()));
        }
        Change::OptOutEnded(environment, contact) => {
            directory.set_opt_out(*environment, *contact, None);
        }
        Change::Reassigned(environment, contact, from) => {
            directory.set_counts_from(*environment, *contact, *from);
        }
        Change::CallPut(_)
        | Change::ContactForgotten(..)
        | Change::CallsSwept(_)
        | Change::Routed(_)
        | Change::RoutedSwept(_)
        | Change::BatchRouted(_)
        | Change::Counted(..)
        | Change::BatchesCounted(_)
        | Change::Placed(_)
        | Change::Audited(_)
        | Change::AuditSwept(_)
        | Change::Answered(_)
        | Change::SessionPut(_)
        | Change::SessionEnded(_)
        | Change::Erased(_) => {}
    }
}

/// Assigns a number to exactly these agents.
fn set_owners(directory: &mut Directory, number: NumberId, agents: &[AgentId]) {
    let Some(entry) = directory.number_by_id(number) else {
        return;
    };
    let owners = entry.owners().filter_map(|slot| directory.agent(slot));
    let gone: Vec<AgentId> = owners
        .map(|agent| agent.record.id)
        .filter(|agent| !agents.contains(agent))
        .collect();
    for agent in gone {
        directory.unassign(&Assignment { number, agent });
    }
    for agent in agents.iter().copied() {
        directory.assign(&Assignment { number, agent });
    }
}

/// Whether a fact is about the directory.
pub(crate) const fn concerns_directory(fact: &Change) -> bool {
    !matches!(
        fact,
        Change::CallPut(_)
            | Change::ContactForgotten(..)
            | Change::CallsSwept(_)
            | Change::Routed(_)
            | Change::RoutedSwept(_)
            | Change::BatchRouted(_)
            | Change::Counted(..)
            | Change::BatchesCounted(_)
            | Change::Placed(_)
            | Change::Audited(_)
            | Change::SessionPut(_)
            | Change::SessionEnded(_)
            | Change::AuditSwept(_)
            | Change::Answered(_)
            | Change::Erased(_)
    )
}
