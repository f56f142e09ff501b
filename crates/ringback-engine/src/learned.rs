//! Calls learned from the wire, from the first message until they are durable.
//!
//! They count at once, though nobody was told that they are durable. Until a call is recorded it is kept here by
//! contact, so that it is visible wherever it counts. Forgetting the contact removes it: a learned call is
//! recorded only if it is still here when its turn comes.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use ringback_routing::{E164, EnvironmentId, LearnedCall};

use crate::Call;

/// Identifies a learned call that is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedTicket {
    /// The environment of the contact.
    environment: EnvironmentId,
    /// The contact, as its subscriber.
    contact: E164,
    /// Number of the call among all learned ones.
    number: u64,
}

impl LearnedTicket {
    /// The environment of the call.
    #[must_use]
    pub const fn environment(&self) -> EnvironmentId {
        self.environment
    }

    /// The contact, with its environment.
    pub(crate) const fn contact(&self) -> (EnvironmentId, E164) {
        (self.environment, self.contact)
    }
}

/// The result of recording learned calls.
#[derive(Debug, Default)]
pub struct LearnedRecorded {
    /// The indexes of those that were not recorded, and why; `None`: the contact was forgotten meanwhile.
    pub unrecorded: Vec<(usize, Option<crate::CommandError>)>,
}

/// Learned calls that are not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// By contact, in the order in which they were seen.
    contacts: HashMap<(EnvironmentId, E164), Vec<Waiting>, RandomState>,
    /// The number of the next ticket.
    next: u64,
    /// Calls that the outbox does not have.
    unsaved: Vec<LearnedTicket>,
    /// How many calls it has.
    saved: usize,
}

/// A learned call that is not durable yet.
#[derive(Debug)]
struct Waiting {
    /// The number of its ticket.
    number: u64,
    /// The call.
    call: Call,
    /// Whether this is its first message.
    is_new: bool,
    /// Whether the index shows it.
    is_shown: bool,
    /// Whether the outbox has it.
    is_saved: bool,
}

impl Ahead {
    /// Adds a call.
    pub(crate) fn enter(
        &mut self,
        call: LearnedCall,
        is_shown: bool,
        is_saved: bool,
    ) -> LearnedTicket {
        let ticket = LearnedTicket {
            environment: call.environment,
            contact: call.contact.subscriber(),
            number: self.next,
        };
        self.next += 1;
        let waiting = Waiting {
            number: ticket.number,
            call: Call {
                environment: call.environment,
                sid: call.sid.into(),
                agent: call.agent,
                contact: call.contact,
                from: call.from,
                status: call.status,
                started_at: call.started_at,
            },
            is_new: call.is_new,
            is_shown,
            is_saved,
        };
        if is_saved {
            self.saved += 1;
        } else {
            self.unsaved.push(ticket.clone());
        }
        self.contacts
            .entry(ticket.contact())
            .or_default()
            .push(waiting);
        ticket
    }

    /// The call of a ticket, and whether this is its first message.
    pub(crate) fn find(&self, ticket: &LearnedTicket) -> Option<(Call, bool)> {
        let waiting = self.contacts.get(&ticket.contact())?;
        let waiting = waiting.iter().find(|call| call.number == ticket.number)?;
        Some((waiting.call.clone(), waiting.is_new))
    }

    /// Shows calls that were learned while the index could not show them; `show` tells whether it does now.
    pub(crate) fn show_hidden(&mut self, mut show: impl FnMut(&Call) -> bool) {
        let waiting = self.contacts.values_mut().flatten();
        for hidden in waiting.filter(|waiting| waiting.is_new && !waiting.is_shown) {
            hidden.is_shown = show(&hidden.call);
        }
    }

    /// The calls of a contact that the index shows.
    pub(crate) fn shown(
        &self,
        environment: EnvironmentId,
        contact: E164,
    ) -> impl Iterator<Item = &Call> {
        let waiting = self.contacts.get(&(environment, contact.subscriber()));
        waiting
            .into_iter()
            .flatten()
            .filter(|waiting| waiting.is_shown)
            .map(|waiting| &waiting.call)
    }

    /// Removes a call; returns whether the index shows it.
    pub(crate) fn remove(&mut self, ticket: &LearnedTicket) -> bool {
        let Some(waiting) = self.contacts.get_mut(&ticket.contact()) else {
            return false;
        };
        let mut was_shown = false;
        waiting.retain(|call| {
            let is_meant = call.number == ticket.number;
            was_shown |= is_meant && call.is_shown;
            self.saved -= usize::from(is_meant && call.is_saved);
            !is_meant
        });
        if waiting.is_empty() {
            self.contacts.remove(&ticket.contact());
        }
        was_shown
    }

    /// Removes the calls of a contact.
    pub(crate) fn forget(&mut self, environment: EnvironmentId, contact: E164) {
        let waiting = self.contacts.remove(&(environment, contact.subscriber()));
        let saved = waiting.iter().flatten().filter(|call| call.is_saved);
        self.saved -= saved.count();
    }

    /// The calls that the outbox does not have yet. It is tried once: they are not returned again.
    pub(crate) fn take_unsaved(&mut self) -> Vec<(LearnedTicket, Call)> {
        let unsaved = std::mem::take(&mut self.unsaved);
        let waiting = unsaved.into_iter().filter_map(|ticket| {
            let (call, _) = self.find(&ticket)?;
            Some((ticket, call))
        });
        waiting.collect()
    }

    /// Forgets which of the calls the outbox does not have that are not waiting any more.
    pub(crate) fn prune(&mut self) {
        let mut unsaved = std::mem::take(&mut self.unsaved);
        unsaved.retain(|ticket| self.find(ticket).is_some());
        self.unsaved = unsaved;
    }

    /// Notes that the outbox has a call.
    pub(crate) fn was_saved(&mut self, ticket: &LearnedTicket) {
        let waiting = self.contacts.get_mut(&ticket.contact());
        let mut calls = waiting.into_iter().flatten();
        if let Some(call) = calls.find(|call| call.number == ticket.number) {
            self.saved += usize::from(!call.is_saved);
            call.is_saved = true;
        }
    }

    /// How many calls wait, and how many of them the outbox has.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.contacts.values().map(Vec::len).sum(), self.saved)
    }
}
