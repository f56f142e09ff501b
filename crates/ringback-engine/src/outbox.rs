//! What a node has seen and the log that nodes share does not have yet, kept on the disk of this node.
//!
//! Memory counts, and the log gets everything from memory. The outbox is for a node that ends before the log can be
//! reached again: the next start finds in it what memory had, and goes on with that. So it may hold what the log has
//! meanwhile, or hold it twice. Neither counts again: routed calls are known by their call id for a day, learned calls
//! for as long as they are stored.

use ringback_routing::{
    AgentId, AgentSlot, Directory, E164, EnvironmentId, LearnedCall, Timestamp,
};

use crate::learned::LearnedTicket;
use crate::observed::{Arrival, Observed, Route};
use crate::shared::Shared;
use crate::{Change, CountKind, JournalError, RoutedBatch, RoutedEvent};

/// A place on the disk of this node.
pub trait Outbox {
    /// Keeps facts, for good once this returns. False if there is no room: what may be lost (`is_minor`) is not kept
    /// then, everything else is.
    ///
    /// # Errors
    /// They cannot be written.
    fn keep(
        &mut self,
        at: Timestamp,
        facts: &[Change],
        is_minor: bool,
    ) -> Result<bool, JournalError>;

    /// What was kept and not cleared, oldest first. The end of what a crash has cut off is left out.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&mut self) -> Result<Vec<Kept>, JournalError>;

    /// Removes the calls of a contact from everything that is kept.
    ///
    /// # Errors
    /// It cannot be read or written.
    fn forget(&mut self, environment: EnvironmentId, contact: E164) -> Result<(), JournalError>;

    /// Removes everything: the log has it.
    ///
    /// # Errors
    /// It cannot be written.
    fn clear(&mut self) -> Result<(), JournalError>;

    /// Whether it has nothing.
    fn is_empty(&self) -> bool;
}

/// Facts that were kept together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// When.
    pub at: Timestamp,
    /// The facts.
    pub facts: Vec<Change>,
}

impl Kept {
    /// Removes the calls of a contact.
    pub fn forget(&mut self, environment: EnvironmentId, contact: E164) {
        self.facts.retain(|fact| match fact {
            Change::CallPut(call) => {
                (call.environment, call.contact.subscriber()) != (environment, contact.subscriber())
            }
            _ => true,
        });
    }
}

/// How much of what waits for the log the outbox has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Saved {
    /// So many of the first batches.
    batches: usize,
    /// So many of the first other events.
    events: usize,
}

impl Saved {
    /// Of observations that wait, those that the outbox does not have yet; notes that it will.
    pub(crate) fn add(&mut self, pending: &[Change]) -> Vec<Change> {
        let mut new = Vec::new();
        let mut batches = 0;
        for change in pending {
            match change {
                Change::BatchRouted(_) => {
                    batches += 1;
                    if batches > self.batches {
                        new.push(change.clone());
                    }
                }
                Change::Routed(events) => {
                    if let Some(rest @ [_, ..]) = events.get(self.events..) {
                        new.push(Change::Routed(rest.to_vec()));
                    }
                    self.events = events.len();
                }
                // Growth follows from the events.
                _ => {}
            }
        }
        self.batches = batches;
        new
    }
}

/// Has the engine go on with what an earlier run has kept: what was routed counts again where it does not yet, and
/// learned calls wait again. Contacts that were erased since are left out.
pub(crate) fn restore(
    shared: &Shared,
    kept: Vec<Kept>,
) -> Result<Vec<LearnedTicket>, JournalError> {
    let directory = shared.directory.load_full();
    let erased = Erased::read(shared)?;
    let mut tickets = Vec::new();
    for Kept { at, facts } in kept {
        for fact in facts {
            match fact {
                Change::BatchRouted(batch) => shared.observed.restore(&batch, &directory),
                Change::Routed(events) => {
                    for event in &events {
                        if let RoutedEvent::Answered(call) = event {
                            shared.observed.answered_over_sip(call, &directory);
                        }
                    }
                }
                Change::CallPut(call) if !erased.has(call.environment, call.contact, at) => {
                    let call = LearnedCall {
                        environment: call.environment,
                        agent: call.agent,
                        contact: call.contact,
                        from: call.from,
                        status: call.status,
                        started_at: call.started_at,
                        sid: call.sid.to_string(),
                        is_new: true,
                    };
                    tickets.extend(shared.contacts.learn_again(&directory, call));
                }
                _ => {}
            }
        }
    }
    Ok(tickets)
}

/// What is known of erased contacts.
struct Erased {
    /// The secret of the hashes; none if nothing was erased.
    secret: Option<crate::ErasureSecret>,
    /// When each was erased.
    at: std::collections::HashMap<crate::ErasedHash, Timestamp>,
}

impl Erased {
    /// Reads the tombstones.
    fn read(shared: &Shared) -> Result<Self, JournalError> {
        let mut at = std::collections::HashMap::new();
        shared.archive.visit_tombstones(&mut |tombstone| {
            at.insert(tombstone.hash, tombstone.at);
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(Self {
            secret: shared.archive.erasure_secret()?,
            at,
        })
    }

    /// Whether a contact was erased after a call to it was kept at this instant. The clocks of nodes differ: when in
    /// doubt, it was.
    fn has(&self, environment: EnvironmentId, contact: E164, kept: Timestamp) -> bool {
        let hash = self.secret.map(|secret| secret.hash(environment, contact));
        let erased = hash.and_then(|hash| self.at.get(&hash));
        erased.is_some_and(|at| at.plus_millis(CLOCKS_DIFFER_MILLIS) >= kept)
    }
}

impl Observed {
    /// Notes calls again that an earlier run has routed.
    fn restore(&self, batch: &RoutedBatch, directory: &Directory) {
        for call in &batch.calls {
            let Some(route) = batch.routes.get(call.route as usize) else {
                continue;
            };
            let parties = (route.agent, route.source);
            let route = named_route(directory, route.environment, parties, route.kind);
            if let Some(route) = route {
                self.arrived(Arrival {
                    sid_hash: call.sid_hash,
                    second: call.second,
                    route,
                });
            }
        }
    }

    /// Notes what a command would have appended: it counts at once, and is appended later as if it had been observed.
    pub(crate) fn defer(&self, changes: &[Change], directory: &Directory) {
        let mut kind = None;
        for change in changes {
            match change {
                Change::Counted(key, _) => kind = Some(key.kind),
                Change::Routed(events) => {
                    for event in events {
                        self.defer_event(event, kind.take(), directory);
                    }
                }
                _ => {}
            }
        }
    }

    /// Notes an event.
    fn defer_event(&self, event: &RoutedEvent, kind: Option<CountKind>, directory: &Directory) {
        match event {
            RoutedEvent::Routed(call) => {
                let parties = (call.agent, call.source);
                let route = named_route(directory, call.environment, parties, kind);
                if let Some(route) = route {
                    self.arrived(Arrival {
                        sid_hash: call.sid_hash,
                        second: u32::try_from(call.at.seconds()).unwrap_or(u32::MAX),
                        route,
                    });
                }
                self.keep_decision(event, directory);
            }
            RoutedEvent::Answered(call) => self.answered_over_sip(call, directory),
            RoutedEvent::RoutedOverSip(_) | RoutedEvent::Batch(_) => {}
        }
    }
}

/// The route of a call that is known by identifiers; none if the environment is gone.
fn named_route(
    directory: &Directory,
    environment: EnvironmentId,
    (agent, source): (Option<AgentId>, Option<AgentId>),
    kind: Option<CountKind>,
) -> Option<Route> {
    let slot =
        |id: Option<AgentId>| -> Option<AgentSlot> { Some(directory.agent_by_id(id?)?.slot) };
    Some(Route {
        environment: directory.environment_by_id(environment)?.slot,
        kind,
        agent: slot(agent),
        source: slot(source),
    })
}

/// By how much the clocks of two nodes may differ.
const CLOCKS_DIFFER_MILLIS: i64 = 60_000;
