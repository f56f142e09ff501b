//! Reading back what was committed.

use std::collections::HashMap;
use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use lsm_tree::Slice;
use ringback_engine::{
    AnswerId, Archive, AuditEntry, AuditId, BackupError, Call, CountMark, ErasureSecret,
    JournalError, KeptAnswer, LogPlace, RoutedDecision, RoutedEvent, Session, StoredCounts,
    StoredDirectory, Tombstone,
};
use ringback_routing::{
    AgentId, Assignment, ContactHash, ContactRights, E164, EnvironmentId, Timestamp, TokenHash,
};
use uuid::Uuid;

use crate::backup::{self, Copy};
use crate::batch::{read_batch, read_mark};
use crate::interner::Interner;
use crate::key;
use crate::sid_filter::SidHash;
use crate::stored::answer::{read_answer, read_answered_at};
use crate::stored::directory::{self, DirectoryRecord};
use crate::stored::opt_out::{read_opt_out, read_reassignment};
use crate::stored::place::read_place;
use crate::stored::routed::{read_decision, read_events};
use crate::table::Table;
use crate::tables::{SHARDS, Tables};
use crate::writes::Writes;

impl Archive for Tables {
    fn directory(&self) -> Result<StoredDirectory, JournalError> {
        self.read_directory()
            .map_err(|error| self.state.located(error))
    }

    fn counts(&self) -> Result<StoredCounts, JournalError> {
        self.read_counts()
            .map_err(|error| self.state.located(error))
    }

    fn count_mark(&self) -> Result<CountMark, JournalError> {
        let read = || match self.state.get(&[key::COUNT_MARK])? {
            None => Ok(CountMark::default()),
            Some(value) => read_mark(&value).ok_or_else(|| self.state.damaged()),
        };
        read().map_err(|error| self.state.located(error))
    }

    fn place(&self) -> Result<Option<LogPlace>, JournalError> {
        let read = || match self.state.get(&[key::PLACE])? {
            None => Ok(None),
            Some(value) => {
                let place = read_place(&value).ok_or_else(|| self.state.damaged())?;
                Ok(Some(place))
            }
        };
        read().map_err(|error| self.state.located(error))
    }

    fn visit_routed(
        &self,
        since: Timestamp,
        visitor: &mut dyn FnMut(RoutedEvent),
    ) -> Result<(), JournalError> {
        self.visit_events(since, visitor)
            .map_err(|error| self.state.located(error))
    }

    fn damaged_places(&self) -> u64 {
        self.alarm.damaged()
    }

    fn call(&self, environment: EnvironmentId, sid: &str) -> Result<Option<Call>, JournalError> {
        let Some(number) = self.interner.read().number(environment.0) else {
            return Ok(None);
        };
        let sid_key = key::sid_key(&self.sid_secret, number, sid);
        if !self.sid_filter.may_have(&sid_key) {
            return Ok(None);
        }
        let Some(value) = self.sids.get(&sid_key)? else {
            return Ok(None);
        };
        let interner = self.interner.read();
        key::decode_sid_value(environment, sid, &value, |number| interner.id(number))
            .map(Some)
            .ok_or_else(|| self.sids.damaged())
    }

    fn visit_calls(
        &self,
        environment: EnvironmentId,
        contact: E164,
        within: Range<Timestamp>,
        visitor: &mut dyn FnMut(Call),
    ) -> Result<(), JournalError> {
        let Some(number) = self.interner.read().number(environment.0) else {
            return Ok(());
        };
        let [from, to] = [within.start, within.end].map(|at| key::calls_from(number, contact, at));
        for item in self.calls.range(&from, Some(&to)) {
            let (call_key, value) = item?;
            visitor(self.decode(&self.interner.read(), &call_key, &value)?);
        }
        Ok(())
    }

    fn visit_contacts(
        &self,
        part: usize,
        parts: usize,
        visitor: &mut dyn FnMut(EnvironmentId, E164, &[Call]) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let parts = parts.max(1);
        let mut calls: Vec<Call> = Vec::new();
        let filter_wanted = self.sid_filter.is_being_built();
        let mut seen = Vec::new();
        for shard in part * SHARDS / parts..(part + 1) * SHARDS / parts {
            // One shard at a time: a range keeps an old version of the table alive while it is read.
            for item in self.calls.shard(shard) {
                let (call_key, value) = item?;
                let call = self.decode(&self.interner.read(), &call_key, &value)?;
                if filter_wanted {
                    seen.extend(self.sid_hash(&call_key, &call.sid));
                }
                if let Some(first) = calls.first()
                    && (first.environment, first.contact.subscriber())
                        != (call.environment, call.contact.subscriber())
                {
                    if visitor(first.environment, first.contact, &calls).is_break() {
                        return Ok(());
                    }
                    calls.clear();
                }
                calls.push(call);
            }
            if let Some(first) = calls.first() {
                if visitor(first.environment, first.contact, &calls).is_break() {
                    return Ok(());
                }
                calls.clear();
            }
            if filter_wanted {
                self.sid_filter.visited(shard, &seen);
                seen.clear();
            }
        }
        Ok(())
    }

    fn visit_audit(
        &self,
        before: Option<AuditId>,
        visitor: &mut dyn FnMut(AuditEntry) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let from = match before.map(key::audit_before) {
            None => vec![key::AUDIT],
            Some(Some(from)) => from.to_vec(),
            Some(None) => return Ok(()),
        };
        for item in self.state.range(&from, Some(&[key::AUDIT + 1])) {
            let (_, value) = item.map_err(|error| self.state.located(error))?;
            let entry = directory::read(&value).ok_or_else(|| self.state.damaged())?;
            if visitor(entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn audit_entry(&self, id: AuditId) -> Result<Option<AuditEntry>, JournalError> {
        let value = self.state.get(&key::audit_key(id));
        let value = value.map_err(|error| self.state.located(error))?;
        value
            .map(|value| directory::read(&value).ok_or_else(|| self.state.damaged()))
            .transpose()
    }

    fn erasure_secret(&self) -> Result<Option<ErasureSecret>, JournalError> {
        let value = self.state.get(&[key::ERASURE_SECRET]);
        let value = value.map_err(|error| self.state.located(error))?;
        let read = |value: Slice| {
            let secret = (*value).try_into();
            secret.map(ErasureSecret).map_err(|_| self.state.damaged())
        };
        value.map(read).transpose()
    }

    fn visit_tombstones(
        &self,
        visitor: &mut dyn FnMut(Tombstone) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        for item in self.state.prefix(&[key::TOMBSTONE]) {
            let (item_key, value) = item.map_err(|error| self.state.located(error))?;
            let tombstone = key::decode_tombstone(&item_key, &value);
            if visitor(tombstone.ok_or_else(|| self.state.damaged())?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn kept_answer(&self, id: AnswerId) -> Result<Option<KeptAnswer>, JournalError> {
        let value = self.state.get(&key::answer_key(id));
        let value = value.map_err(|error| self.state.located(error))?;
        value
            .map(|value| read_answer(id, &value).ok_or_else(|| self.state.damaged()))
            .transpose()
    }

    fn write_backup(&self, at: Timestamp, to: &mut dyn io::Write) -> Result<(), BackupError> {
        backup::write(self, at, to, Copy::Backup)
    }

    fn write_snapshot(&self, at: Timestamp, to: &mut dyn io::Write) -> Result<(), BackupError> {
        backup::write(self, at, to, Copy::Snapshot)
    }

    fn tidy(&self, routed_before: Timestamp) -> Result<(), JournalError> {
        self.renew_sid_filter();
        self.remove_answers(routed_before)?;
        self.remove_decisions(routed_before)
    }
}

impl Tables {
    /// See [`Archive::directory`].
    fn read_directory(&self) -> Result<StoredDirectory, JournalError> {
        let mut departed = HashMap::new();
        for item in self.state.prefix(&[key::DEPARTED]) {
            let (item_key, name) = item?;
            let id = item_key.get(1..).and_then(|id| Uuid::from_slice(id).ok());
            let name = std::str::from_utf8(&name).ok();
            let (Some(id), Some(name)) = (id, name) else {
                return Err(self.state.damaged());
            };
            departed.insert(AgentId(id), name.to_owned());
        }
        Ok(StoredDirectory {
            environments: records(&self.state, key::ENVIRONMENT)?,
            agents: records(&self.state, key::AGENT)?,
            numbers: records(&self.state, key::NUMBER)?,
            assignments: self.read_assignments()?,
            tokens: records(&self.state, key::TOKEN)?,
            connectors: records(&self.state, key::CONNECTOR)?,
            sessions: self.read_sessions()?,
            departed,
            contact_rights: self.read_contact_rights()?,
        })
    }

    /// What contacts asked for.
    fn read_contact_rights(&self) -> Result<HashMap<ContactHash, ContactRights>, JournalError> {
        let mut all = HashMap::new();
        for kind in [key::OPT_OUT, key::REASSIGNED] {
            for item in self.state.prefix(&[kind]) {
                let (item_key, value) = item?;
                let mut put = || {
                    let contact = key::decode_contact_rights_key(&item_key)?;
                    let none = |environment| move || ContactRights::none(environment);
                    if kind == key::OPT_OUT {
                        let (environment, opt_out) = read_opt_out(&value)?;
                        let rights = all.entry(contact).or_insert_with(none(environment));
                        rights.opt_out = Some(opt_out);
                    } else {
                        let (environment, from) = read_reassignment(&value)?;
                        let rights = all.entry(contact).or_insert_with(none(environment));
                        rights.counts_from = Some(from);
                    }
                    Some(())
                };
                put().ok_or_else(|| self.state.damaged())?;
            }
        }
        Ok(all)
    }

    /// The sessions that were not ended.
    fn read_sessions(&self) -> Result<HashMap<TokenHash, Session>, JournalError> {
        self.state
            .prefix(&[key::SESSION])
            .map(|item| {
                let (_, value) = item?;
                let session: Session =
                    directory::read(&value).ok_or_else(|| self.state.damaged())?;
                Ok((session.cookie, session))
            })
            .collect()
    }

    /// The assignments of numbers to agents, in order of assignment.
    fn read_assignments(&self) -> Result<Vec<Assignment>, JournalError> {
        let mut assignments = Vec::new();
        for item in self.state.prefix(&[key::ASSIGNED]) {
            let (item_key, value) = item?;
            let order = key::assignment_order(&value);
            let assignment = order.zip(key::decode_assignment_key(&item_key));
            assignments.push(assignment.ok_or_else(|| self.state.damaged())?);
        }
        assignments.sort_unstable_by_key(|(order, _)| *order);
        Ok(assignments.into_iter().map(|(_, one)| one).collect())
    }

    /// See [`Archive::counts`].
    fn read_counts(&self) -> Result<StoredCounts, JournalError> {
        self.state
            .prefix(&[key::COUNT])
            .map(|item| {
                let (item_key, value) = item?;
                key::decode_count_key(&item_key)
                    .zip(key::decode_count_value(&value))
                    .map(|(counter, (count, _))| (counter, count))
                    .ok_or_else(|| self.state.damaged())
            })
            .collect()
    }

    /// See [`Archive::visit_routed`].
    fn visit_events(
        &self,
        since: Timestamp,
        visitor: &mut dyn FnMut(RoutedEvent),
    ) -> Result<(), JournalError> {
        let mut decisions = self
            .read_decisions(since)
            .map_err(|error| self.decisions.located(error))?;
        for item in self.routed(since, &[key::ROUTED, key::BATCH]) {
            let (item_key, value) = item?;
            if item_key.first() == Some(&key::BATCH) {
                let interner = self.interner.read();
                let batch = read_batch(&value, |number| interner.id(number));
                visitor(RoutedEvent::Batch(
                    batch.ok_or_else(|| self.state.damaged())?,
                ));
                continue;
            }
            let (Some(position), Some(events)) =
                (key::routed_position(&item_key), read_events(&value))
            else {
                return Err(self.state.damaged());
            };
            for (mut event, index) in events.into_iter().zip(0..) {
                if let RoutedEvent::Routed(call) = &mut event {
                    call.decision = decisions.remove(&(*position, index)).map(Arc::new);
                }
                if event.at() >= since && !matches!(event, RoutedEvent::Answered(_)) {
                    visitor(event);
                }
            }
        }
        for item in self.routed(since, &[key::ROUTED]) {
            let events = read_events(&item?.1).ok_or_else(|| self.state.damaged())?;
            let answers = events
                .into_iter()
                .filter(|event| event.at() >= since && matches!(event, RoutedEvent::Answered(_)));
            answers.for_each(&mut *visitor);
        }
        Ok(())
    }

    /// The records of this kind in `state`, chunks of events or batches, since this instant: in the order of time
    /// and, within it, of the log.
    fn routed(
        &self,
        since: Timestamp,
        kinds: &[u8],
    ) -> impl Iterator<Item = Result<(Slice, Slice), JournalError>> {
        let mut ranges: Vec<_> = kinds
            .iter()
            .map(|kind| {
                let range = self
                    .state
                    .range(&key::routed_from(*kind, since), Some(&[kind + 1]));
                range.peekable()
            })
            .collect();
        std::iter::from_fn(move || {
            let next = ranges.iter_mut().filter_map(|range| {
                // An error ends the reading, so it comes first.
                let order = match range.peek()? {
                    Ok((item_key, _)) => item_key.get(1..).map(<[u8]>::to_vec),
                    Err(_) => None,
                };
                Some((order, range))
            });
            next.min_by(|(left, _), (right, _)| left.cmp(right))
                .and_then(|(_, range)| range.next())
        })
    }

    /// The decisions on calls that were routed since this instant, by the position of their chunk in the log and
    /// their index in it.
    fn read_decisions(
        &self,
        since: Timestamp,
    ) -> Result<HashMap<([u8; 12], u32), RoutedDecision>, JournalError> {
        let mut decisions = HashMap::new();
        for shard in 0..SHARDS {
            for item in self.decisions.shard(shard) {
                let (item_key, value) = item?;
                let position = key::decode_decision_key(&item_key);
                let (Some(position), Some((at, decision))) = (position, read_decision(&value))
                else {
                    return Err(self.decisions.damaged());
                };
                if at >= since {
                    decisions.insert(position, decision);
                }
            }
        }
        Ok(decisions)
    }

    /// Removes the decisions on calls that were routed before this instant. They are not shown once their events
    /// are removed.
    fn remove_decisions(&self, before: Timestamp) -> Result<(), JournalError> {
        for shard in 0..SHARDS {
            let mut old = Vec::new();
            for item in self.decisions.shard(shard) {
                let (item_key, value) = item?;
                let (at, _) = read_decision(&value).ok_or_else(|| self.decisions.damaged())?;
                if at < before {
                    old.push((item_key, None));
                }
            }
            for chunk in old.chunks(REMOVED_AT_ONCE) {
                let writes = Writes {
                    decisions: chunk.to_vec(),
                    ..Writes::default()
                };
                self.apply_unlogged(|| Ok((writes, ())))?;
            }
        }
        Ok(())
    }

    /// Removes the answers that were kept before this instant. They are not given any more.
    fn remove_answers(&self, before: Timestamp) -> Result<(), JournalError> {
        let is_old = |value: &[u8]| {
            let at = read_answered_at(value).ok_or_else(|| self.state.damaged())?;
            Ok::<_, JournalError>(at < before)
        };
        let mut old = Vec::new();
        for item in self.state.prefix(&[key::ANSWER]) {
            let (item_key, value) = item.map_err(|error| self.state.located(error))?;
            if is_old(&value)? {
                old.push(item_key);
            }
        }
        for chunk in old.chunks(REMOVED_AT_ONCE) {
            self.apply_unlogged(|| {
                let mut writes = Writes::default();
                for item_key in chunk {
                    // The name may have been used again meanwhile.
                    let value = self.state.get(item_key)?;
                    if value.is_some_and(|value| is_old(&value).unwrap_or(false)) {
                        writes.state.push((item_key.clone(), None));
                    }
                }
                Ok((writes, ()))
            })?;
        }
        Ok(())
    }

    /// The hash of the id of a call with this key in `calls`.
    fn sid_hash(&self, call_key: &[u8], sid: &str) -> Option<SidHash> {
        let environment = key::call_environment(call_key)?;
        Some(key::sid_key(&self.sid_secret, environment, sid))
    }

    /// The call that this entry of `calls` holds.
    fn decode(
        &self,
        interner: &Interner,
        call_key: &[u8],
        value: &[u8],
    ) -> Result<Call, JournalError> {
        key::decode_call(call_key, value, |number| interner.id(number))
            .ok_or_else(|| self.calls.damaged())
    }
}

/// Every record of this kind, in the order of creation.
fn records<T: DirectoryRecord>(state: &Table, kind: u8) -> Result<Vec<T>, JournalError> {
    let mut records = Vec::new();
    for item in state.prefix(&[kind]) {
        let (_, value) = item?;
        let record = value
            .split_first_chunk::<12>()
            .and_then(|(creation, record)| Some((*creation, directory::read::<T>(record)?)));
        records.push(record.ok_or_else(|| state.damaged())?);
    }
    records.sort_unstable_by_key(|(creation, _)| *creation);
    Ok(records.into_iter().map(|(_, record)| record).collect())
}

/// How many records the background removes before it lets a commit in between.
const REMOVED_AT_ONCE: usize = 256;
