//! Reading back what was committed.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use lsm_tree::Slice;
use ringback_engine::{
    Archive, Call, CountMark, JournalError, RoutedDecision, RoutedEvent, StoredCounts,
    StoredDirectory,
};
use ringback_routing::{AgentId, E164, EnvironmentId, Timestamp};
use uuid::Uuid;

use crate::batch::{read_batch, read_mark};
use crate::interner::Interner;
use crate::key;
use crate::prepare::{Writes, drop_call};
use crate::sid_filter::SidHash;
use crate::stored::directory::{self, DirectoryRecord};
use crate::stored::routed::{read_decision, read_events};
use crate::tables::{SHARDS, Table, Tables};

/// How many calls a sweep removes without letting a commit in between.
const SWEEP_CHUNK: usize = 256;

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

    fn routed_since(&self, since: Timestamp) -> Result<Vec<RoutedEvent>, JournalError> {
        self.read_routed(since)
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
            // One shard at a time, so that no old version of the table is held for long.
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

    fn sweep(
        &self,
        keep: &mut dyn FnMut(&Call) -> bool,
        routed_before: Timestamp,
    ) -> Result<u64, JournalError> {
        let mut removed = 0;
        self.renew_sid_filter();
        let filter_wanted = self.sid_filter.is_being_built();
        let mut kept = Vec::new();
        for shard in 0..SHARDS {
            let mut doomed = Vec::new();
            for item in self.calls.shard(shard) {
                let (call_key, value) = item?;
                let call = self.decode(&self.interner.read(), &call_key, &value)?;
                if !keep(&call) {
                    doomed.push((call_key, value, call));
                    if doomed.len() == SWEEP_CHUNK {
                        removed += self.remove_calls(&mut doomed)?;
                    }
                } else if filter_wanted {
                    kept.extend(self.sid_hash(&call_key, &call.sid));
                }
            }
            removed += self.remove_calls(&mut doomed)?;
            if filter_wanted {
                self.sid_filter.visited(shard, &kept);
                kept.clear();
            }
        }
        self.sweep_routed(routed_before)?;
        Ok(removed)
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
            tokens: records(&self.state, key::TOKEN)?,
            departed,
        })
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

    /// See [`Archive::routed_since`].
    fn read_routed(&self, since: Timestamp) -> Result<Vec<RoutedEvent>, JournalError> {
        let mut decisions = self
            .read_decisions(since)
            .map_err(|error| self.decisions.located(error))?;
        let mut chunks = Vec::new();
        for item in self.state.range(
            &key::routed_from(key::ROUTED, since),
            Some(&[key::ROUTED + 1]),
        ) {
            let (item_key, value) = item?;
            let (Some(place), Some(mut events)) =
                (key::routed_place(&item_key), read_events(&value))
            else {
                return Err(self.state.damaged());
            };
            for (event, index) in events.iter_mut().zip(0..) {
                if let RoutedEvent::Routed(call) = event {
                    call.decision = decisions.remove(&(*place, index)).map(Arc::new);
                }
            }
            events.retain(|event| event.at() >= since);
            chunks.push((*place, events));
        }
        for item in self.state.range(
            &key::routed_from(key::BATCH, since),
            Some(&[key::BATCH + 1]),
        ) {
            let (item_key, value) = item?;
            let interner = self.interner.read();
            let batch = read_batch(&value, |number| interner.id(number));
            let (Some(place), Some(batch)) = (key::routed_place(&item_key), batch) else {
                return Err(self.state.damaged());
            };
            chunks.push((*place, vec![RoutedEvent::Batch(batch)]));
        }
        chunks.sort_unstable_by_key(|(place, _)| *place);
        Ok(chunks.into_iter().flat_map(|(_, events)| events).collect())
    }

    /// What was decided for calls that were routed since this instant, by the place of their chunk and
    /// their place in it.
    fn read_decisions(
        &self,
        since: Timestamp,
    ) -> Result<HashMap<([u8; 12], u32), RoutedDecision>, JournalError> {
        let mut decisions = HashMap::new();
        for shard in 0..SHARDS {
            for item in self.decisions.shard(shard) {
                let (item_key, value) = item?;
                let place = key::decode_decision_key(&item_key);
                let (Some(place), Some((at, decision))) = (place, read_decision(&value)) else {
                    return Err(self.decisions.damaged());
                };
                if at >= since {
                    decisions.insert(place, decision);
                }
            }
        }
        Ok(decisions)
    }

    /// Removes what is known of calls routed before this instant.
    fn sweep_routed(&self, before: Timestamp) -> Result<(), JournalError> {
        let mut old = Vec::new();
        for kind in [key::ROUTED, key::BATCH] {
            let oldest_kept = key::routed_from(kind, before);
            for item in self.state.range(&[kind], Some(&oldest_kept)) {
                old.push((item?.0, None));
            }
        }
        for chunk in old.chunks(SWEEP_CHUNK) {
            let writes = Writes {
                state: chunk.to_vec(),
                ..Writes::default()
            };
            self.apply_unlogged(|| Ok((writes, ())))?;
        }
        for shard in 0..SHARDS {
            let mut old = Vec::new();
            for item in self.decisions.shard(shard) {
                let (item_key, value) = item?;
                let (at, _) = read_decision(&value).ok_or_else(|| self.decisions.damaged())?;
                if at < before {
                    old.push((item_key, None));
                }
            }
            for chunk in old.chunks(SWEEP_CHUNK) {
                let writes = Writes {
                    decisions: chunk.to_vec(),
                    ..Writes::default()
                };
                self.apply_unlogged(|| Ok((writes, ())))?;
            }
        }
        Ok(())
    }

    /// Removes these calls, except those that have changed since they were read.
    fn remove_calls(&self, doomed: &mut Vec<(Slice, Slice, Call)>) -> Result<u64, JournalError> {
        if doomed.is_empty() {
            return Ok(0);
        }
        let doomed = std::mem::take(doomed);
        self.apply_unlogged(|| {
            let mut writes = Writes::default();
            for (call_key, value, call) in doomed {
                let number = self.interner.read().number(call.environment.0);
                if let Some(number) = number
                    && self.calls.get(&call_key)?.is_some_and(|now| now == value)
                {
                    drop_call(self, number, &call_key, &call, &mut writes)?;
                }
            }
            let removed = writes.calls.len() as u64;
            Ok((writes, removed))
        })
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
