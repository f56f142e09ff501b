//! From changes to writes. All reads, which can fail, happen here, before the log has the changes; the steps
//! after the log cannot fail.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use foldhash::fast::RandomState;
use lsm_tree::Slice;
use ringback_engine::{
    AuditId, BatchesCounted, Call, CallsSwept, Change, CountKey, CountMark, JournalError,
    RoutedBatch, RoutedEvent,
};
use ringback_routing::{
    AgentId, Assignment, Caller, Connector, ContactHash, E164, EnvironmentId, NumberId, Timestamp,
    Token,
};
use uuid::Uuid;

use crate::batch::{batch_number, read_mark, write_batch, write_mark};
use crate::error::unavailable;
use crate::key::{self, PartId};
use crate::stored::answer::write_answer;
use crate::stored::directory::{self, DirectoryRecord};
use crate::stored::opt_out::{read_opt_out, read_reassignment, write_opt_out, write_reassignment};
use crate::stored::place::write_place;
use crate::stored::routed::{read_decision, write_decision, write_events};
use crate::table::Table;
use crate::tables::{CALLS, DECISIONS, SIDS, Tables};
use crate::writes::Writes;

/// The part of a table (by number) that has this key.
pub(crate) fn part_id(table: &Table, code: u8, key: &[u8]) -> PartId {
    // A table has few parts.
    (code, u8::try_from(table.part_of(key)).unwrap_or_default())
}

/// Turns the changes of the commit with this sequence into writes, in the memory of `empty`.
pub(crate) fn prepare(
    tables: &Tables,
    changes: &[Change],
    sequence: u64,
    empty: Writes,
) -> Result<Writes, JournalError> {
    let mut preparation = Preparation {
        tables,
        sequence,
        writes: empty,
        interned: HashMap::default(),
        pending: HashMap::default(),
        key: Vec::new(),
        value: Vec::new(),
    };
    for (position, change) in changes.iter().enumerate() {
        // A commit cannot have four billion changes: its record in the log could not.
        preparation.change(change, u32::try_from(position).unwrap_or(u32::MAX))?;
    }
    Ok(preparation.writes)
}

/// A commit while its changes become writes.
struct Preparation<'a> {
    /// The tables as they are before the commit.
    tables: &'a Tables,
    /// The sequence of the commit.
    sequence: u64,
    /// The writes of the changes so far.
    writes: Writes,
    /// The numbers given to UUIDs by this commit.
    interned: HashMap<Uuid, u32, RandomState>,
    /// The index in `writes.state` of the last write to a key.
    pending: HashMap<Slice, usize, RandomState>,
    /// Buffer for a key.
    key: Vec<u8>,
    /// Buffer for a value.
    value: Vec<u8>,
}

impl Preparation<'_> {
    /// Adds the writes of one change.
    fn change(&mut self, change: &Change, position: u32) -> Result<(), JournalError> {
        match change {
            Change::EnvironmentPut(environment) => {
                self.put_record(key::ENVIRONMENT, environment.id.0, environment, position)
            }
            Change::EnvironmentRemoved(environment) => {
                self.write_state(
                    key::record_key(key::ENVIRONMENT, environment.0).into(),
                    None,
                );
                self.remove_contact_rights(*environment)?;
                self.remove_connectors(*environment)?;
                self.remove_tokens(*environment)
            }
            Change::ConnectorPut(connector) => {
                self.put_record(key::CONNECTOR, connector.id.0, &**connector, position)
            }
            Change::ConnectorRemoved(_, id) => {
                self.write_state(key::record_key(key::CONNECTOR, id.0).into(), None);
                Ok(())
            }
            Change::TokenPut(token) => self.put_record(key::TOKEN, token.id.0, token, position),
            Change::TokenRemoved(_, token) => {
                self.write_state(key::record_key(key::TOKEN, token.0).into(), None);
                Ok(())
            }
            Change::AgentPut(agent) => {
                self.write_state(key::record_key(key::DEPARTED, agent.id.0).into(), None);
                self.put_record(key::AGENT, agent.id.0, agent, position)
            }
            Change::AgentRemoved(_, agent, name) => {
                self.write_state(key::record_key(key::AGENT, agent.0).into(), None);
                // Statistics show a deleted agent by its last name.
                self.write_state(
                    key::record_key(key::DEPARTED, agent.0).into(),
                    Some(name.as_bytes().into()),
                );
                Ok(())
            }
            Change::NumberPut(number) => {
                self.put_record(key::NUMBER, number.id.0, number, position)
            }
            Change::NumberRemoved(_, number) => {
                self.write_state(key::record_key(key::NUMBER, number.0).into(), None);
                self.set_owners(*number, &[], position)
            }
            Change::Assigned(assignment) => self.assign(assignment, position, 0),
            Change::Unassigned(assignment) => {
                self.write_state(key::assignment_key(assignment).into(), None);
                Ok(())
            }
            Change::OwnersSet(number, agents) => self.set_owners(*number, agents, position),
            Change::CallPut(call) => {
                self.put_call(call);
                Ok(())
            }
            Change::ContactForgotten(environment, contact) => self.forget(*environment, *contact),
            Change::Routed(events) => self.put_events(events, position),
            Change::BatchRouted(batch) => {
                self.put_batch(batch, position);
                Ok(())
            }
            Change::Counted(counter, increment) => self.count(counter, *increment),
            Change::BatchesCounted(counted) => self.count_batches(counted),
            Change::CallsSwept(sweep) => self.sweep_calls(sweep),
            Change::RoutedSwept(before) => self.sweep_routed(*before),
            Change::Placed(place) => {
                let place = place.as_ref().map(|place| write_place(place).into());
                self.write_state([key::PLACE].into(), place);
                Ok(())
            }
            Change::Audited(entry) => {
                let mut value = Vec::new();
                directory::write(&**entry, &mut value).map_err(unavailable)?;
                self.write_state(key::audit_key(entry.id).into(), Some(value.into()));
                Ok(())
            }
            Change::SessionPut(session) => {
                let mut value = Vec::new();
                directory::write(&**session, &mut value).map_err(unavailable)?;
                let session_key = key::session_key(&session.cookie);
                self.write_state(session_key.into(), Some(value.into()));
                Ok(())
            }
            Change::SessionEnded(cookie) => {
                self.write_state(key::session_key(cookie).into(), None);
                Ok(())
            }
            Change::AuditSwept(before) => self.sweep_audit(*before),
            Change::ErasureSecretSet(secret) => {
                let value = secret.0.as_slice().into();
                self.write_state([key::ERASURE_SECRET].into(), Some(value));
                Ok(())
            }
            Change::Erased(tombstone) => {
                let value = key::tombstone_value(tombstone.at).as_slice().into();
                self.write_state(key::tombstone_key(tombstone.hash).into(), Some(value));
                Ok(())
            }
            Change::OptedOut(environment, contact, opt_out) => {
                let value = write_opt_out(*environment, opt_out, Vec::new());
                let value = value.map_err(unavailable)?;
                let state_key = key::contact_rights_key(key::OPT_OUT, contact);
                self.write_state(state_key.into(), Some(value.into()));
                Ok(())
            }
            Change::OptOutEnded(_, contact) => {
                let state_key = key::contact_rights_key(key::OPT_OUT, contact);
                self.write_state(state_key.into(), None);
                Ok(())
            }
            Change::Reassigned(environment, contact, from) => {
                self.put_reassignment(*environment, contact, *from)
            }
            Change::Answered(kept) => {
                let mut value = Vec::with_capacity(32 + kept.answer.len());
                write_answer(kept, &mut value);
                self.write_state(key::answer_key(kept.id).into(), Some(value.into()));
                Ok(())
            }
        }
    }

    /// Writes a record of the directory; one that exists keeps its position in the order of creation.
    fn put_record(
        &mut self,
        kind: u8,
        id: Uuid,
        record: &impl DirectoryRecord,
        position: u32,
    ) -> Result<(), JournalError> {
        let record_key: Slice = key::record_key(kind, id).into();
        let mut value = match self.read_state(&record_key)? {
            Some(existing) => existing
                .get(..12)
                .ok_or_else(|| self.tables.state.damaged())?
                .to_vec(),
            None => key::creation(self.sequence, position).to_vec(),
        };
        directory::write(record, &mut value).map_err(unavailable)?;
        self.write_state(record_key, Some(value.into()));
        Ok(())
    }

    /// Assigns a number to an agent; `index` counts the agents of one change. An agent that owns the number
    /// already keeps its position.
    fn assign(
        &mut self,
        assignment: &Assignment,
        position: u32,
        index: u32,
    ) -> Result<(), JournalError> {
        let assignment_key: Slice = key::assignment_key(assignment).into();
        if self.read_state(&assignment_key)?.is_none() {
            let creation = key::creation(self.sequence, position);
            let value = key::assignment_value(creation, index);
            self.write_state(assignment_key, Some(value.into()));
        }
        Ok(())
    }

    /// Assigns a number to these agents and to no others.
    fn set_owners(
        &mut self,
        number: NumberId,
        agents: &[AgentId],
        position: u32,
    ) -> Result<(), JournalError> {
        let prefix = key::record_key(key::ASSIGNED, number.0);
        let mut assigned: BTreeSet<Slice> = BTreeSet::new();
        for item in self.tables.state.prefix(&prefix) {
            assigned.insert(item?.0);
        }
        // The tables do not have the assignments of earlier changes of this commit.
        let pending = self.pending.keys();
        assigned.extend(pending.filter(|key| key.starts_with(&prefix)).cloned());
        let kept: HashSet<[u8; 33]> = agents
            .iter()
            .map(|agent| {
                key::assignment_key(&Assignment {
                    number,
                    agent: *agent,
                })
            })
            .collect();
        for assignment_key in assigned {
            if !kept.contains(&*assignment_key) {
                self.write_state(assignment_key, None);
            }
        }
        for (agent, index) in agents.iter().copied().zip(0..) {
            self.assign(&Assignment { number, agent }, position, index)?;
        }
        Ok(())
    }

    /// Writes from when on calls to a contact count, unless a later instant is known.
    fn put_reassignment(
        &mut self,
        environment: EnvironmentId,
        contact: &ContactHash,
        from: Timestamp,
    ) -> Result<(), JournalError> {
        let state_key: Slice = key::contact_rights_key(key::REASSIGNED, contact).into();
        let known = match self.read_state(&state_key)? {
            None => None,
            Some(value) => Some(self.read_with(read_reassignment, &value)?.1),
        };
        let value = write_reassignment(environment, from.max(known.unwrap_or(from)), Vec::new());
        self.write_state(state_key, Some(value.map_err(unavailable)?.into()));
        Ok(())
    }

    /// Removes what the contacts of an environment asked for.
    fn remove_contact_rights(&mut self, environment: EnvironmentId) -> Result<(), JournalError> {
        for state_key in self.keys_of(key::OPT_OUT)? {
            if let Some(value) = self.read_state(&state_key)?
                && self.read_with(read_opt_out, &value)?.0 == environment
            {
                self.write_state(state_key, None);
            }
        }
        for state_key in self.keys_of(key::REASSIGNED)? {
            if let Some(value) = self.read_state(&state_key)?
                && self.read_with(read_reassignment, &value)?.0 == environment
            {
                self.write_state(state_key, None);
            }
        }
        Ok(())
    }

    /// What is read from a value of `state`.
    fn read_with<T>(
        &self,
        read: impl FnOnce(&[u8]) -> Option<T>,
        value: &[u8],
    ) -> Result<T, JournalError> {
        read(value).ok_or_else(|| self.tables.state.damaged())
    }

    /// The keys of `state` of this kind, those of earlier changes of this commit too, which the tables do not have.
    fn keys_of(&self, kind: u8) -> Result<BTreeSet<Slice>, JournalError> {
        let mut keys = BTreeSet::new();
        for item in self.tables.state.prefix(&[kind]) {
            keys.insert(item?.0);
        }
        let pending = self.pending.keys();
        keys.extend(pending.filter(|key| key.first() == Some(&kind)).cloned());
        Ok(keys)
    }

    /// Removes the tokens of an environment.
    fn remove_tokens(&mut self, environment: EnvironmentId) -> Result<(), JournalError> {
        self.remove_records(key::TOKEN, |token: &Token| token.environment == environment)
    }

    /// Removes the connectors of an environment.
    fn remove_connectors(&mut self, environment: EnvironmentId) -> Result<(), JournalError> {
        self.remove_records(key::CONNECTOR, |connector: &Connector| {
            connector.environment == environment
        })
    }

    /// Removes the records of a kind that are `gone`.
    fn remove_records<T: DirectoryRecord>(
        &mut self,
        kind: u8,
        gone: impl Fn(&T) -> bool,
    ) -> Result<(), JournalError> {
        for record_key in self.keys_of(kind)? {
            let Some(value) = self.read_state(&record_key)? else {
                continue;
            };
            let record: T = value
                .get(12..)
                .and_then(directory::read)
                .ok_or_else(|| self.tables.state.damaged())?;
            if gone(&record) {
                self.write_state(record_key, None);
            }
        }
        Ok(())
    }

    /// Writes a call. Its key stays as first recorded, so a call with the same sid is overwritten.
    fn put_call(&mut self, call: &Call) {
        let environment = self.intern(call.environment.0);
        let agent = self.intern(call.agent.0);
        let sid_key = key::sid_key(&self.tables.sid_secret, environment, &call.sid);
        key::write_call_key(
            &mut self.key,
            environment,
            call.contact,
            call.started_at,
            &call.sid,
            &sid_key,
        );
        key::write_call_value(&mut self.value, call, agent);
        self.writes.calls.push(&self.key, Some(&self.value));
        self.writes
            .sids
            .push(&sid_key, Some(&key::sid_value(call, agent)));
    }

    /// Removes every call to a contact, also those of this commit.
    fn forget(&mut self, environment: EnvironmentId, contact: E164) -> Result<(), JournalError> {
        let environment = self.intern(environment.0);
        let prefix = key::contact_prefix(environment, contact);
        self.forget_in_decisions(environment, &prefix)?;
        // Even if no call is known any more: old files may still hold calls that were dropped.
        let mut erased = BTreeSet::from([part_id(&self.tables.calls, CALLS, &prefix)]);
        erased.insert(part_id(&self.tables.decisions, DECISIONS, &prefix));
        // Ids of calls dropped earlier may be in any part of `sids` that calls were dropped from.
        erased.extend(self.tables.erasures.swept(SIDS));
        let found = self.calls_under(&HashSet::from([prefix]))?;
        let calls = found.into_iter().map(|(call_key, value)| {
            let call = key::decode_call(&call_key, &value, |_| Some(Uuid::nil()))
                .ok_or_else(|| self.tables.calls.damaged())?;
            Ok((call_key, call))
        });
        let calls = calls.collect::<Result<Vec<_>, JournalError>>()?;
        erased.extend(self.remove_calls(environment, calls)?);
        self.mark_erased(erased);
        Ok(())
    }

    /// The calls to the contacts with these key prefixes, also those of this commit.
    fn calls_under(
        &self,
        prefixes: &HashSet<[u8; 15]>,
    ) -> Result<HashMap<Slice, Slice>, JournalError> {
        let mut found: HashMap<Slice, Slice> = HashMap::new();
        for prefix in prefixes {
            for item in self.tables.calls.prefix(prefix) {
                found.extend([item?]);
            }
        }
        // A commit may have many calls, so they are looked through once for all contacts.
        for (call_key, value) in self.writes.calls.iter() {
            let prefix = call_key.first_chunk();
            if prefix.is_some_and(|prefix| prefixes.contains(prefix)) {
                match value {
                    Some(value) => found.insert(call_key.into(), value.into()),
                    None => found.remove(call_key),
                };
            }
        }
        Ok(found)
    }

    /// Removes calls, and their ids if those name no other call. Returns the parts of `sids` that had the ids.
    fn remove_calls(
        &mut self,
        environment: u32,
        calls: Vec<(Slice, Call)>,
    ) -> Result<BTreeSet<PartId>, JournalError> {
        let mut parts = BTreeSet::new();
        if calls.is_empty() {
            return Ok(parts);
        }
        // The ids written by this commit so far, collected once for all calls.
        let written: HashMap<Slice, Option<Slice>> = self
            .writes
            .sids
            .iter()
            .map(|(sid_key, value)| (sid_key.into(), value.map(Slice::from)))
            .collect();
        for (call_key, call) in calls {
            let sid_key = key::sid_key(&self.tables.sid_secret, environment, &call.sid);
            parts.insert(part_id(&self.tables.sids, SIDS, &sid_key));
            let named = match written.get(sid_key.as_slice()) {
                Some(value) => value.clone(),
                None => self.tables.sids.get(&sid_key)?,
            };
            if named.is_some_and(|value| key::sid_value_names(&value, &call)) {
                self.writes.sids.push(&sid_key, None);
            }
            self.writes.calls.push(&call_key, None);
        }
        Ok(parts)
    }

    /// Drops old calls, and calls of agents that were deleted.
    fn sweep_calls(&mut self, sweep: &CallsSwept) -> Result<(), JournalError> {
        let environment = self.intern(sweep.environment.0);
        let mut agents: HashMap<Uuid, bool> = HashMap::new();
        let mut old = Vec::new();
        let contacts = sweep.contacts.iter();
        let prefixes = contacts.map(|contact| key::contact_prefix(environment, *contact));
        for (call_key, value) in self.calls_under(&prefixes.collect())? {
            let call = key::decode_call(&call_key, &value, |number| self.resolve(number))
                .ok_or_else(|| self.tables.calls.damaged())?;
            let has_agent = match agents.get(&call.agent.0) {
                Some(has_agent) => *has_agent,
                None => {
                    let agent_key = key::record_key(key::AGENT, call.agent.0).into();
                    let has_agent = self.read_state(&agent_key)?.is_some();
                    agents.insert(call.agent.0, has_agent);
                    has_agent
                }
            };
            if !has_agent || !sweep.keeps(call.started_at) {
                old.push((call_key, call));
            }
        }
        // Unlike an erasure, a sweep may leave their bytes in files for longer: see `crate::purge`.
        let parts = self.remove_calls(environment, old)?;
        for part in parts {
            let part_key = key::part_key(key::SWEPT, part);
            self.write_state(part_key.into(), Some(Slice::from([])));
            self.writes.swept.push(part);
        }
        Ok(())
    }

    /// Drops events from before an instant, except batches that the counters do not contain.
    fn sweep_routed(&mut self, before: Timestamp) -> Result<(), JournalError> {
        let damaged = || self.tables.state.damaged();
        let mark = match self.read_state(&[key::COUNT_MARK].into())? {
            Some(value) => read_mark(&value).ok_or_else(damaged)?,
            None => CountMark::default(),
        };
        let mut old = Vec::new();
        for kind in [key::ROUTED, key::BATCH] {
            let end = key::routed_from(kind, before);
            let mut note = |event_key: &Slice, value: &Slice| {
                let is_counted = match kind {
                    // Any other batch is still to be counted.
                    key::BATCH => batch_number(value).ok_or_else(damaged)? < mark.complete,
                    _ => true,
                };
                old.extend(is_counted.then(|| event_key.clone()));
                Ok::<_, JournalError>(())
            };
            for item in self.tables.state.range(&[kind], Some(&end)) {
                let (event_key, value) = item?;
                note(&event_key, &value)?;
            }
            for (event_key, value) in &self.writes.state {
                if let Some(value) = value
                    && event_key.first() == Some(&kind)
                    && **event_key < *end.as_slice()
                {
                    note(event_key, value)?;
                }
            }
        }
        let gone = old.into_iter().map(|event_key| (event_key, None));
        self.writes.state.extend(gone);
        Ok(())
    }

    /// Drops audit entries that were made before an instant.
    fn sweep_audit(&mut self, before: Timestamp) -> Result<(), JournalError> {
        let Some(from) = key::audit_before(AuditId::first_at(before)) else {
            return Ok(());
        };
        let mut old: BTreeSet<Slice> = BTreeSet::new();
        for item in self.tables.state.range(&from, Some(&[key::AUDIT + 1])) {
            old.insert(item?.0);
        }
        // The tables do not have the entries of earlier changes of this commit.
        let pending = self.pending.keys();
        let is_old = |entry_key: &&Slice| {
            entry_key.first() == Some(&key::AUDIT) && ***entry_key >= *from.as_slice()
        };
        old.extend(pending.filter(is_old).cloned());
        for entry_key in old {
            self.write_state(entry_key, None);
        }
        Ok(())
    }

    /// Has these parts rewritten, so that nothing that this commit removes stays in their files.
    fn mark_erased(&mut self, parts: BTreeSet<PartId>) {
        let sequence = self.sequence.to_be_bytes();
        for part in parts {
            let part_key = key::part_key(key::ERASED, part);
            self.write_state(part_key.into(), Some(sequence.as_slice().into()));
            self.writes.erased.push(part);
        }
    }

    /// Removes a contact from the decisions on its calls, also those of this commit.
    fn forget_in_decisions(&mut self, environment: u32, prefix: &[u8]) -> Result<(), JournalError> {
        let mut found: BTreeMap<Slice, Slice> = BTreeMap::new();
        for item in self.tables.decisions.prefix(prefix) {
            found.extend([item?]);
        }
        for (decision_key, value) in &self.writes.decisions {
            if decision_key.starts_with(prefix) {
                match value {
                    Some(value) => found.insert(decision_key.clone(), value.clone()),
                    None => found.remove(decision_key),
                };
            }
        }
        for (decision_key, value) in found {
            let damaged = || self.tables.decisions.damaged();
            let (at, decision) = read_decision(&value).ok_or_else(damaged)?;
            let key_without = key::forgotten_decision_key(environment, &decision_key);
            let key_without = key_without.ok_or_else(damaged)?;
            let value = write_decision(&decision.without_contact(), at).map_err(unavailable)?;
            self.writes.decisions.push((decision_key, None));
            self.writes
                .decisions
                .push((key_without.into(), Some(value.into())));
        }
        Ok(())
    }

    /// Writes a chunk of events.
    fn put_events(&mut self, events: &[RoutedEvent], position: u32) -> Result<(), JournalError> {
        let Some(latest) = events.iter().map(RoutedEvent::at).max() else {
            return Ok(());
        };
        let creation = key::creation(self.sequence, position);
        for (event, index) in events.iter().zip(0..) {
            if let RoutedEvent::Routed(call) = event
                && let Some(decision) = &call.decision
            {
                // A decision holds the caller's number, so its key is the contact's, where an erasure finds it.
                let environment = self.intern(call.environment.0);
                let contact = decision.caller.and_then(Caller::number);
                let decision_key = key::decision_key(environment, contact, &creation, index);
                let value = write_decision(decision, call.at).map_err(unavailable)?;
                self.writes
                    .decisions
                    .push((decision_key.into(), Some(value.into())));
            }
        }
        let chunk = write_events(events, false, Vec::new()).map_err(unavailable)?;
        let chunk_key = key::routed_key(key::ROUTED, latest, self.sequence, position);
        self.writes
            .state
            .push((chunk_key.into(), Some(chunk.into())));
        Ok(())
    }

    /// Writes a batch of SIP calls.
    fn put_batch(&mut self, batch: &RoutedBatch, position: u32) {
        let batch_key = key::routed_key(key::BATCH, batch.latest, self.sequence, position);
        let value = write_batch(batch, |id| self.intern(id));
        self.writes
            .state
            .push((batch_key.into(), Some(value.into())));
    }

    /// Raises the counters that follow from batches.
    fn count_batches(&mut self, counted: &BatchesCounted) -> Result<(), JournalError> {
        for some in counted.growth.chunks(COUNTERS_AT_ONCE) {
            for (counter, increment) in some {
                self.count(counter, *increment)?;
            }
            // Nobody waits for these counters, and the thread that answers calls may need this core.
            std::thread::yield_now();
        }
        let mark = write_mark(&counted.mark);
        self.write_state([key::COUNT_MARK].into(), Some(mark.into()));
        Ok(())
    }

    /// Raises a counter, unless the tables contain this commit already.
    fn count(&mut self, counter: &CountKey, increment: u64) -> Result<(), JournalError> {
        let damaged = || self.tables.state.damaged();
        let count_key: Slice = key::count_key(counter).into();
        match self.pending.entry(count_key) {
            Entry::Occupied(written) => {
                let write = self.writes.state.get_mut(*written.get());
                let value = write.and_then(|(_, value)| value.as_mut());
                let value = value.ok_or_else(damaged)?;
                let (count, _) = key::decode_count_value(value).ok_or_else(damaged)?;
                let count = count.saturating_add(increment);
                *value = key::count_value(count, self.sequence).into();
            }
            Entry::Vacant(unwritten) => {
                let stored = self.tables.state.get(unwritten.key())?;
                let (count, counted) = match stored {
                    None => (0, 0),
                    Some(value) => key::decode_count_value(&value).ok_or_else(damaged)?,
                };
                // A replay after a crash: adding the increment again would count it twice.
                if counted >= self.sequence {
                    return Ok(());
                }
                let value = key::count_value(count.saturating_add(increment), self.sequence);
                let write = (unwritten.key().clone(), Some(value.into()));
                unwritten.insert(self.writes.state.len());
                self.writes.state.push(write);
            }
        }
        Ok(())
    }

    /// The number that stands for a UUID; a new one if it has none.
    fn intern(&mut self, id: Uuid) -> u32 {
        let interner = self.tables.interner.read();
        if let Some(number) = interner.number(id) {
            return number;
        }
        let next = interner.len() + self.writes.interned.len();
        match self.interned.entry(id) {
            Entry::Occupied(number) => *number.get(),
            Entry::Vacant(vacant) => {
                // Four billion agents would not fit into memory.
                let number = *vacant.insert(u32::try_from(next).unwrap_or(u32::MAX));
                self.writes.interned.push(id);
                self.writes.state.push((
                    key::interned_key(number).into(),
                    Some(id.as_bytes().as_slice().into()),
                ));
                number
            }
        }
    }

    /// The UUID that a number stands for, also if this commit gave the number.
    fn resolve(&self, number: u32) -> Option<Uuid> {
        let interner = self.tables.interner.read();
        interner.id(number).or_else(|| {
            let index = (number as usize).checked_sub(interner.len())?;
            self.writes.interned.get(index).copied()
        })
    }

    /// The value of a key of `state` after the changes so far.
    fn read_state(&self, state_key: &Slice) -> Result<Option<Slice>, JournalError> {
        match self.pending.get(state_key) {
            Some(index) => Ok(self
                .writes
                .state
                .get(*index)
                .and_then(|(_, value)| value.clone())),
            None => self.tables.state.get(state_key),
        }
    }

    /// Writes to `state`, so that later changes of the commit can read it.
    fn write_state(&mut self, state_key: Slice, value: Option<Slice>) {
        self.pending
            .insert(state_key.clone(), self.writes.state.len());
        self.writes.state.push((state_key, value));
    }
}

/// How many counters of batches are raised before the thread yields: about 100 microseconds of work.
const COUNTERS_AT_ONCE: usize = 32;
