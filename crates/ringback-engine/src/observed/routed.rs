//! The calls routed within the last day: each Call-ID counts once, and its answer too. For calls over HTTP the
//! decision is kept as well.
//!
//! Many small tables, because a large one takes long to grow.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ringback_routing::{AgentId, AgentSlot, Caller, Directory, E164, EnvironmentId, Timestamp};

use crate::change::day_of;
use crate::{
    AnsweredCall, BatchCall, CommandError, CountKey, CountKind, RoutedBatch, RoutedDecision,
    RoutedEvent,
};

/// Calls routed within the last day, by the hash of their call id.
#[derive(Debug)]
pub(super) struct RoutedTable {
    /// The calls, by some bits of the hash.
    parts: Box<[HashMap<u64, RoutedEntry, RandomState>]>,
    /// When each was routed, in seconds since 1970, in the order of arrival: lists of [`CHUNK`], because a long
    /// list takes long to grow.
    order: VecDeque<VecDeque<(u32, u64)>>,
    /// How many calls there are.
    length: usize,
    /// The most calls kept; beyond that the oldest is forgotten before its day is over.
    limit: usize,
    /// Decisions on calls over HTTP.
    decisions: HashMap<u64, Decided, RandomState>,
    /// The call ids in `decisions` of each contact, oldest first.
    by_contact: HashMap<(EnvironmentId, E164), VecDeque<u64>, RandomState>,
    /// Agents that were deleted before a call of theirs was entered, so that they have no slot.
    departed: Vec<AgentId>,
    /// The index of each of them in `departed`.
    departed_indexes: HashMap<AgentId, u32, RandomState>,
}

/// The decision on a call over HTTP.
#[derive(Debug)]
struct Decided {
    /// The environment of the dialed number.
    environment: EnvironmentId,
    /// The decision, as first made.
    decision: Arc<RoutedDecision>,
}

impl Decided {
    /// The contact that called, if it is known.
    fn contact(&self) -> Option<(EnvironmentId, E164)> {
        let caller = self.decision.caller.and_then(Caller::number)?;
        Some((self.environment, caller.subscriber()))
    }
}

/// An agent of a call: its slot, or its index in `departed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Party(u32);

impl Party {
    /// The agent in this slot.
    const fn in_slot(slot: AgentSlot) -> Self {
        Self(slot.0 & (DEPARTED - 1))
    }
}

/// A routed call.
#[derive(Clone, Copy, Debug)]
struct RoutedEntry {
    /// The agent that it went to, a [`Party`] or [`NOBODY`]; with [`ANSWERED`].
    agent: u32,
    /// The agent whose call was returned, a [`Party`] or [`NOBODY`]: set exactly where the outcome was
    /// callback.
    source: u32,
}

impl RoutedEntry {
    /// A call that is not answered yet.
    fn new(agent: Option<Party>, source: Option<Party>) -> Self {
        let pack = |party: Option<Party>| party.map_or(NOBODY, |party| party.0);
        Self {
            agent: pack(agent),
            source: pack(source),
        }
    }

    /// The agent that it went to.
    fn agent(self) -> Option<Party> {
        let party = self.agent & !ANSWERED;
        (party != NOBODY).then_some(Party(party))
    }

    /// The agent whose call was returned.
    fn source(self) -> Option<Party> {
        (self.source != NOBODY).then_some(Party(self.source))
    }

    /// Whether it was reported as answered.
    fn is_answered(self) -> bool {
        self.agent & ANSWERED != 0
    }
}

impl Default for RoutedTable {
    fn default() -> Self {
        Self::with_limit(LIMIT)
    }
}

impl RoutedTable {
    /// An empty table for at most this many calls.
    fn with_limit(limit: usize) -> Self {
        let hasher = RandomState::default();
        let part = |_| HashMap::with_hasher(hasher.clone());
        Self {
            parts: (0..PARTS).map(part).collect(),
            order: VecDeque::new(),
            length: 0,
            limit,
            decisions: HashMap::default(),
            by_contact: HashMap::default(),
            departed: Vec::new(),
            departed_indexes: HashMap::default(),
        }
    }

    /// Prepares to enter these calls: looks them up in a row, so that the reads from memory overlap.
    pub(super) fn warm(&self, sid_hashes: impl Iterator<Item = u64>) {
        for sid_hash in sid_hashes {
            black_box(self.entry(sid_hash));
        }
    }

    /// Enters a call; false if its call id was known.
    pub(super) fn insert(
        &mut self,
        sid_hash: u64,
        second: u32,
        agent: Option<AgentSlot>,
        source: Option<AgentSlot>,
    ) -> bool {
        let (agent, source) = (agent.map(Party::in_slot), source.map(Party::in_slot));
        self.enter(sid_hash, second, agent, source)
    }

    /// Enters a call by its parties.
    fn enter(
        &mut self,
        sid_hash: u64,
        second: u32,
        agent: Option<Party>,
        source: Option<Party>,
    ) -> bool {
        let Some(part) = self.parts.get_mut(part_index(sid_hash)) else {
            return false;
        };
        let Entry::Vacant(entry) = part.entry(sid_hash) else {
            return false;
        };
        entry.insert(RoutedEntry::new(agent, source));
        if self.order.back().is_none_or(|last| last.len() == CHUNK) {
            self.order.push_back(VecDeque::with_capacity(CHUNK));
        }
        if let Some(last) = self.order.back_mut() {
            last.push_back((second, sid_hash));
        }
        self.length += 1;
        if self.length > self.limit {
            self.forget_oldest();
        }
        true
    }

    /// Enters an event that has been counted already.
    pub(super) fn replay(&mut self, event: &RoutedEvent, directory: &Directory) {
        match event {
            RoutedEvent::Routed(call) => {
                let second = u32::try_from(call.at.seconds()).unwrap_or(u32::MAX);
                let agent = call.agent.and_then(|id| self.party(id, directory));
                let source = call.source.and_then(|id| self.party(id, directory));
                self.enter(call.sid_hash, second, agent, source);
                if let Some(decision) = &call.decision {
                    let decision = Decided {
                        environment: call.environment,
                        decision: Arc::clone(decision),
                    };
                    self.keep(call.sid_hash, decision);
                }
            }
            RoutedEvent::Answered(call) => self.mark_answered(call.sid_hash),
            RoutedEvent::RoutedOverSip(alike) => {
                let agent = alike.agent.and_then(|id| self.party(id, directory));
                let source = alike.source.and_then(|id| self.party(id, directory));
                for (sid_hash, second) in &alike.calls {
                    self.enter(*sid_hash, *second, agent, source);
                }
            }
            RoutedEvent::Batch(batch) => self.replay_batch(batch, directory, |_| {}),
        }
    }

    /// Enters a batch of SIP calls, and returns which of them were not known.
    pub(super) fn replay_batch(
        &mut self,
        batch: &RoutedBatch,
        directory: &Directory,
        mut is_new: impl FnMut(&BatchCall),
    ) {
        let parties: Vec<_> = batch
            .routes
            .iter()
            .map(|route| {
                let mut party = |id: Option<AgentId>| id.and_then(|id| self.party(id, directory));
                (party(route.agent), party(route.source))
            })
            .collect();
        self.warm(batch.calls.iter().map(|call| call.sid_hash));
        for call in &batch.calls {
            if let Some((agent, source)) = parties.get(call.route as usize)
                && self.enter(call.sid_hash, call.second, *agent, *source)
            {
                is_new(call);
            }
        }
    }

    /// Whether this call id is known, and the decision if it was asked about over HTTP.
    pub(super) fn decision(&self, sid_hash: u64) -> Option<Option<Arc<RoutedDecision>>> {
        self.entry(sid_hash)?;
        let decided = self.decisions.get(&sid_hash);
        Some(decided.map(|decided| Arc::clone(&decided.decision)))
    }

    /// Removes a contact from the decisions on its calls; a repeated request still gets the same targets.
    pub(super) fn forget(&mut self, environment: EnvironmentId, contact: E164) {
        let contact = (environment, contact.subscriber());
        for sid_hash in self.by_contact.remove(&contact).unwrap_or_default() {
            if let Some(decided) = self.decisions.get_mut(&sid_hash) {
                decided.decision = Arc::new(decided.decision.without_contact());
            }
        }
    }

    /// Keeps the decision on a call.
    fn keep(&mut self, sid_hash: u64, decided: Decided) {
        self.drop_decision(sid_hash);
        if let Some(contact) = decided.contact() {
            let calls = self.by_contact.entry(contact).or_default();
            calls.push_back(sid_hash);
        }
        self.decisions.insert(sid_hash, decided);
    }

    /// Drops the decision on a call.
    fn drop_decision(&mut self, sid_hash: u64) {
        let Some(decided) = self.decisions.remove(&sid_hash) else {
            return;
        };
        if let Some(contact) = decided.contact()
            && let Entry::Occupied(mut calls) = self.by_contact.entry(contact)
        {
            // Calls are dropped in order, so this one is near the front.
            if let Some(index) = calls.get().iter().position(|other| *other == sid_hash) {
                calls.get_mut().remove(index);
            }
            if calls.get().is_empty() {
                calls.remove();
            }
        }
    }

    /// The counter that the answer to this call raises: none if it was no callback or is counted already.
    ///
    /// # Errors
    /// The call is not known.
    pub(super) fn answerable(
        &self,
        call: &AnsweredCall,
        directory: &Directory,
    ) -> Result<Option<CountKey>, CommandError> {
        let entry = self
            .entry(call.sid_hash)
            .ok_or(CommandError::RoutedCallNotFound)?;
        // The agents may have been deleted meanwhile: the call still counts for them.
        let (Some(agent), Some(source), false) = (
            entry.agent().and_then(|party| self.id(party, directory)),
            entry.source().and_then(|party| self.id(party, directory)),
            entry.is_answered(),
        ) else {
            return Ok(None);
        };
        Ok(Some(CountKey {
            environment: call.environment,
            day: day_of(call.at),
            agent,
            source: Some(source),
            kind: CountKind::Answered,
        }))
    }

    /// Marks a call as answered, if it is known.
    pub(super) fn mark_answered(&mut self, sid_hash: u64) {
        if let Some(part) = self.parts.get_mut(part_index(sid_hash))
            && let Some(entry) = part.get_mut(&sid_hash)
        {
            entry.agent |= ANSWERED;
        }
    }

    /// Forgets calls routed before this instant, with their decisions.
    pub(super) fn expire(&mut self, before: Timestamp) {
        let oldest = |order: &VecDeque<VecDeque<(u32, u64)>>| order.front()?.front().copied();
        while oldest(&self.order).is_some_and(|(second, _)| i64::from(second) < before.seconds()) {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest call, with its decision.
    fn forget_oldest(&mut self) {
        let Some(first) = self.order.front_mut() else {
            return;
        };
        let oldest = first.pop_front();
        if first.is_empty() {
            self.order.pop_front();
        }
        if let Some((_, sid_hash)) = oldest {
            self.length -= 1;
            self.drop_decision(sid_hash);
            if let Some(part) = self.parts.get_mut(part_index(sid_hash)) {
                part.remove(&sid_hash);
            }
        }
    }

    /// The party of an agent in entries; `None` if it cannot have one.
    fn party(&mut self, id: AgentId, directory: &Directory) -> Option<Party> {
        if let Some(agent) = directory.agent_by_id(id) {
            return Some(Party::in_slot(agent.slot));
        }
        let next = u32::try_from(self.departed.len()).ok()?;
        let index = match self.departed_indexes.entry(id) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(_) if next >= DEPARTED => return None,
            Entry::Vacant(vacant) => {
                self.departed.push(id);
                *vacant.insert(next)
            }
        };
        Some(Party(DEPARTED | index))
    }

    /// The agent of a party.
    fn id(&self, party: Party, directory: &Directory) -> Option<AgentId> {
        match party.0 & DEPARTED {
            0 => directory.identity(AgentSlot(party.0)).map(|(_, id)| id),
            _ => self.departed.get((party.0 & !DEPARTED) as usize).copied(),
        }
    }

    /// The entry of a call.
    fn entry(&self, sid_hash: u64) -> Option<RoutedEntry> {
        let part = self.parts.get(part_index(sid_hash))?;
        part.get(&sid_hash).copied()
    }
}

/// The index of the part that a call belongs to.
fn part_index(sid_hash: u64) -> usize {
    (sid_hash >> 32) as usize % PARTS
}

/// How many parts the table has.
const PARTS: usize = 256;

/// The most routed calls kept.
const LIMIT: usize = 4_000_000;

/// The length of one list of their order.
const CHUNK: usize = 4_096;

/// No agent; every [`Party`] is smaller.
const NOBODY: u32 = ANSWERED - 1;

/// The bit of a [`Party`] that marks an index in `departed`.
const DEPARTED: u32 = 1 << 30;

/// The bit of an entry that marks an answered call.
const ANSWERED: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads numbers over the parts, as real hashes are.
    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn a_call_is_entered_once_and_forgotten_after_its_time() {
        let mut table = RoutedTable::default();
        for number in 0..10_000 {
            let second = u32::try_from(number).unwrap();
            assert!(table.insert(hash(number), second, Some(AgentSlot(1)), None));
            assert!(!table.insert(hash(number), second, None, None));
        }
        table.expire(Timestamp::from_seconds(5_000));
        for number in 0..10_000 {
            assert_eq!(table.decision(hash(number)).is_some(), number >= 5_000);
        }
    }

    #[test]
    fn the_oldest_call_goes_when_there_are_too_many() {
        let mut table = RoutedTable::with_limit(10_000);
        for number in 0..=10_000 {
            assert!(table.insert(hash(number), 1, None, None));
        }
        assert_eq!(table.decision(hash(0)), None);
        assert_eq!(table.decision(hash(1)), Some(None));
        assert_eq!(table.length, 10_000);
        table.expire(Timestamp::from_seconds(2));
        assert_eq!((table.length, table.order.len()), (0, 0));
    }

    #[test]
    fn an_entry_keeps_agents_beside_the_answered_mark() {
        let mut table = RoutedTable::default();
        table.insert(7, 1, Some(AgentSlot(3)), None);
        table.insert(8, 1, None, Some(AgentSlot(0)));
        table.mark_answered(7);
        let entry = table.entry(7).unwrap();
        assert!(entry.is_answered());
        assert_eq!((entry.agent(), entry.source()), (Some(Party(3)), None));
        let entry = table.entry(8).unwrap();
        assert!(!entry.is_answered());
        assert_eq!((entry.agent(), entry.source()), (None, Some(Party(0))));
    }
}
