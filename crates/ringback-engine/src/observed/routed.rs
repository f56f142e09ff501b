//! The calls routed within the last day: each Call-ID counts once, and its answer too.
//!
//! Many small tables, so that none takes long to grow.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hint::black_box;

use foldhash::fast::RandomState;
use ringback_routing::{AgentId, AgentSlot, Directory, Timestamp};

use crate::observed::day_of;
use crate::{AnsweredCall, CommandError, CountKey, CountKind, RoutedEvent};

/// Calls routed within the last day, by the hash of their call id.
#[derive(Debug)]
pub(super) struct RoutedTable {
    /// The calls, by some bits of the hash.
    parts: Box<[HashMap<u64, RoutedEntry, RandomState>]>,
    /// When each was routed, in seconds since 1970, in the order of their arrival: lists of
    /// [`CHUNK`], because a long list takes long to grow.
    order: VecDeque<VecDeque<(u32, u64)>>,
    /// How many calls there are.
    length: usize,
    /// How many are known at most; beyond that the oldest is forgotten before its day is over.
    limit: usize,
    /// Answers given over HTTP.
    responses: HashMap<u64, String, RandomState>,
}

/// A routed call.
#[derive(Clone, Copy, Debug)]
struct RoutedEntry {
    /// Slot of the agent that it went to, or [`NOBODY`]; with [`ANSWERED`].
    agent: u32,
    /// Slot of the agent whose call was returned, or [`NOBODY`]: set exactly where the outcome was
    /// callback.
    source: u32,
}

impl RoutedEntry {
    /// A call that is not answered yet.
    fn new(agent: Option<AgentSlot>, source: Option<AgentSlot>) -> Self {
        let pack = |slot: Option<AgentSlot>| slot.map_or(NOBODY, |slot| slot.0 & NOBODY);
        Self {
            agent: pack(agent),
            source: pack(source),
        }
    }

    /// The agent that it went to.
    fn agent(self) -> Option<AgentSlot> {
        let slot = self.agent & NOBODY;
        (slot != NOBODY).then_some(AgentSlot(slot))
    }

    /// The agent whose call was returned.
    fn source(self) -> Option<AgentSlot> {
        (self.source != NOBODY).then_some(AgentSlot(self.source))
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
    /// An empty table for so many calls.
    fn with_limit(limit: usize) -> Self {
        let hasher = RandomState::default();
        let part = |_| HashMap::with_hasher(hasher.clone());
        Self {
            parts: (0..PARTS).map(part).collect(),
            order: VecDeque::new(),
            length: 0,
            limit,
            responses: HashMap::default(),
        }
    }

    /// Prepares for calls that are about to be entered: looked for in a row, they wait for memory all at
    /// once, not one after the other.
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
        let Some(part) = self.parts.get_mut(place(sid_hash)) else {
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

    /// Shows an event that has been counted already.
    pub(super) fn replay(&mut self, event: &RoutedEvent, directory: &Directory) {
        let slot = |id: AgentId| directory.agent_by_id(id).map(|agent| agent.slot);
        match event {
            RoutedEvent::Routed(call) => {
                let second = u32::try_from(call.at.seconds()).unwrap_or(u32::MAX);
                let (agent, source) = (call.agent.and_then(slot), call.source.and_then(slot));
                self.insert(call.sid_hash, second, agent, source);
                if let Some(response) = &call.response {
                    self.responses.insert(call.sid_hash, response.clone());
                }
            }
            RoutedEvent::Answered(call) => self.mark_answered(call.sid_hash),
            RoutedEvent::RoutedOverSip(alike) => {
                let (agent, source) = (alike.agent.and_then(slot), alike.source.and_then(slot));
                for (sid_hash, second) in &alike.calls {
                    self.insert(*sid_hash, *second, agent, source);
                }
            }
        }
    }

    /// The answer given to this call id, and whether it is known at all.
    pub(super) fn response(&self, sid_hash: u64) -> Option<Option<String>> {
        self.entry(sid_hash)?;
        Some(self.responses.get(&sid_hash).cloned())
    }

    /// Which counter the answer to this call raises: none if it was no callback or is counted.
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
        let id = |slot: AgentSlot| directory.agent(slot).map(|agent| agent.record.id);
        let (Some(agent), Some(source), false) = (
            entry.agent().and_then(id),
            entry.source().and_then(id),
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
        if let Some(part) = self.parts.get_mut(place(sid_hash))
            && let Some(entry) = part.get_mut(&sid_hash)
        {
            entry.agent |= ANSWERED;
        }
    }

    /// Forgets calls routed before this instant, and their answers.
    pub(super) fn expire(&mut self, before: Timestamp) {
        let oldest = |order: &VecDeque<VecDeque<(u32, u64)>>| order.front()?.front().copied();
        while oldest(&self.order).is_some_and(|(second, _)| i64::from(second) < before.seconds()) {
            self.forget_oldest();
        }
    }

    /// Forgets the call that has been known longest, and its answer.
    fn forget_oldest(&mut self) {
        let Some(first) = self.order.front_mut() else {
            return;
        };
        if let Some((_, sid_hash)) = first.pop_front() {
            self.length -= 1;
            self.responses.remove(&sid_hash);
            if let Some(part) = self.parts.get_mut(place(sid_hash)) {
                part.remove(&sid_hash);
            }
        }
        if first.is_empty() {
            self.order.pop_front();
        }
    }

    /// What is known of a call.
    fn entry(&self, sid_hash: u64) -> Option<RoutedEntry> {
        let part = self.parts.get(place(sid_hash))?;
        part.get(&sid_hash).copied()
    }
}

/// Which part a call belongs to.
fn place(sid_hash: u64) -> usize {
    (sid_hash >> 32) as usize % PARTS
}

/// How many parts the table has.
const PARTS: usize = 256;

/// How many routed calls are known.
const LIMIT: usize = 4_000_000;

/// How many calls a list of their order holds.
const CHUNK: usize = 4_096;

/// Stands for no agent; no slot is as great.
const NOBODY: u32 = ANSWERED - 1;

/// The bit that says that a call was answered.
const ANSWERED: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads numbers over the parts as hashes are.
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
            assert_eq!(table.response(hash(number)).is_some(), number >= 5_000);
        }
    }

    #[test]
    fn the_oldest_call_goes_when_there_are_too_many() {
        let mut table = RoutedTable::with_limit(10_000);
        for number in 0..=10_000 {
            assert!(table.insert(hash(number), 1, None, None));
        }
        assert_eq!(table.response(hash(0)), None);
        assert_eq!(table.response(hash(1)), Some(None));
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
        assert_eq!((entry.agent(), entry.source()), (Some(AgentSlot(3)), None));
        let entry = table.entry(8).unwrap();
        assert!(!entry.is_answered());
        assert_eq!((entry.agent(), entry.source()), (None, Some(AgentSlot(0))));
    }
}
