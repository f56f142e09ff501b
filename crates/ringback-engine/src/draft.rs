//! The state that a batch of commands will leave.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use ringback_routing::{Caller, Decision, Directory, E164, EnvironmentId, Timestamp};
use uuid::Uuid;

use crate::apply::{apply_to_directory, concerns_directory};
use crate::choices::Choices;
use crate::contact_view::ContactView;
use crate::observed::count_key;
use crate::session::Sessions;
use crate::shared::{ROUTED_KNOWN_MILLIS, Shared};
use crate::{
    AnswerId, AnsweredCall, Call, Change, CommandError, CountKind, DecisionRecord, ErasureSecret,
    RoutedDecision, RoutedEvent,
};

/// The state that a command reads and changes: the published state, the changes of earlier commands in the same
/// batch, and its own.
pub struct Draft<'a> {
    /// What the engine's threads share.
    shared: &'a Shared,
    /// The directory with the batch's changes.
    directory: Arc<Directory>,
    /// The batch's changes.
    changes: Vec<Change>,
    /// The index in `changes` of the latest record of each call, with the hash of its environment and id.
    calls: HashTable<(u64, usize)>,
    /// Hashes environments and call ids for `calls`.
    hashing: RandomState,
    /// Contacts that the batch forgets.
    forgotten: HashSet<(EnvironmentId, E164)>,
    /// Decisions on calls that the batch routes, and the environments of these calls.
    routed: HashMap<u64, (EnvironmentId, Arc<RoutedDecision>)>,
    /// Calls that the batch reports as answered.
    answered: HashSet<u64>,
    /// Requests whose first answers the batch keeps.
    answers: HashSet<AnswerId>,
    /// The secret of erasures, if the batch sets it.
    erasure_secret: Option<ErasureSecret>,
    /// Decisions to be shown once the batch is durable.
    decisions: Vec<(EnvironmentId, DecisionRecord)>,
    /// When the batch was started.
    begun: Timestamp,
    /// The random and time values of the current command.
    choices: Choices,
}

impl<'a> Draft<'a> {
    /// An empty batch on the published state, in the memory of an earlier one.
    pub(crate) fn new(shared: &'a Shared, now: Timestamp, memory: Memory) -> Self {
        Self {
            shared,
            directory: shared.directory.load_full(),
            changes: memory.changes,
            calls: memory.calls,
            hashing: RandomState::default(),
            forgotten: HashSet::new(),
            routed: HashMap::new(),
            answered: HashSet::new(),
            answers: HashSet::new(),
            erasure_secret: None,
            decisions: Vec::new(),
            begun: now,
            choices: Choices::new(now),
        }
    }

    /// The instant of the current command: the same however often it runs.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.choices.now()
    }

    /// A new identifier: the one with this index among those of the command, the same however often it runs.
    #[must_use]
    pub fn new_id(&self, index: usize) -> Uuid {
        self.choices.id(index)
    }

    /// Begins a command, with its choices if it ran before.
    pub(crate) fn begin_command(&mut self, choices: Option<Choices>) {
        self.choices = choices.unwrap_or_else(|| Choices::new(self.begun));
    }

    /// Ends a command and returns its choices.
    pub(crate) fn end_command(&mut self) -> Choices {
        std::mem::replace(&mut self.choices, Choices::new(self.begun))
    }

    /// The directory with the changes so far.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The directory with the changes so far, to keep while the draft changes.
    #[must_use]
    pub fn shared_directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// The remembered calls, without those of this batch.
    #[must_use]
    pub fn contacts(&self) -> &ContactView {
        &self.shared.contacts
    }

    /// The open sessions, without those of this batch.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// A number greater than that of any role set before.
    #[must_use]
    pub fn next_set_sequence(&self) -> u64 {
        self.directory.greatest_set_sequence() + 1
    }

    /// Adds a change and applies it to the draft. Use [`Self::put_call`] for calls.
    pub fn change(&mut self, change: Change) {
        if concerns_directory(&change) {
            apply_to_directory(Arc::make_mut(&mut self.directory), &change);
        } else if let Change::ContactForgotten(environment, contact) = &change {
            // `call` must not find the contact's calls from earlier in this batch; later ones count again.
            let changes = &self.changes;
            self.calls.retain(|(_, index)| {
                call_at(changes, *index).is_some_and(|call| {
                    (call.environment, call.contact.subscriber())
                        != (*environment, contact.subscriber())
                })
            });
            self.forgotten.insert((*environment, contact.subscriber()));
            self.forget_in_decisions(*environment, *contact);
        } else if let Change::Answered(kept) = &change {
            self.answers.insert(kept.id);
        } else if let Change::ErasureSecretSet(secret) = &change {
            self.erasure_secret = Some(*secret);
        }
        self.changes.push(change);
    }

    /// Removes a contact from the decisions of this batch.
    fn forget_in_decisions(&mut self, environment: EnvironmentId, contact: E164) {
        for (of, decision) in self.routed.values_mut() {
            if *of == environment && decision.is_about(contact) {
                *decision = Arc::new(decision.without_contact());
            }
        }
        self.decisions
            .retain(|(of, record)| *of != environment || !record.is_about(contact));
    }

    /// The call with this id, unless its agent was deleted or its contact forgotten.
    ///
    /// # Errors
    /// Storage cannot be read.
    pub fn call(
        &self,
        environment: EnvironmentId,
        sid: &str,
    ) -> Result<Option<Call>, CommandError> {
        if !self.calls.is_empty() {
            let hash = self.hashing.hash_one((environment, sid));
            let changes = &self.changes;
            let recorded = self.calls.find(hash, |(known, index)| {
                *known == hash && names(changes, *index, environment, sid)
            });
            if let Some(call) = recorded.and_then(|(_, index)| call_at(changes, *index)) {
                return Ok(Some(call.clone()));
            }
        }
        let stored = self
            .shared
            .archive
            .call(environment, sid)
            .map_err(|error| {
                tracing::error!(%error, "a call could not be read");
                CommandError::StorageUnavailable
            })?;
        // The store drops the calls of a deleted agent later, in a sweep.
        Ok(stored.filter(|call| {
            self.directory.agent_by_id(call.agent).is_some()
                && !self
                    .forgotten
                    .contains(&(environment, call.contact.subscriber()))
        }))
    }

    /// Whether the batch forgets this contact.
    pub(crate) fn forgets(&self, environment: EnvironmentId, contact: E164) -> bool {
        self.forgotten
            .contains(&(environment, contact.subscriber()))
    }

    /// Makes room for this many calls to come.
    pub fn reserve_calls(&mut self, calls: usize) {
        self.changes.reserve(calls);
        self.calls.reserve(calls, |(hash, _)| *hash);
    }

    /// Records a call, or the higher status of a known one.
    pub fn put_call(&mut self, call: Call) {
        let hash = self.hashing.hash_one((call.environment, &*call.sid));
        let changes = &self.changes;
        let entry = self.calls.entry(
            hash,
            |(known, index)| *known == hash && names(changes, *index, call.environment, &call.sid),
            |(hash, _)| *hash,
        );
        let record = (hash, self.changes.len());
        match entry {
            Entry::Occupied(mut entry) => *entry.get_mut() = record,
            Entry::Vacant(entry) => {
                entry.insert(record);
            }
        }
        self.changes.push(Change::CallPut(call));
    }

    /// The call that a decision has matched, as recorded.
    ///
    /// # Errors
    /// Storage cannot be read.
    pub fn matched_call(
        &self,
        decision: &Decision<'_>,
        caller: Caller,
    ) -> Result<Option<Call>, CommandError> {
        self.shared.matched_call(decision, caller)
    }

    /// Whether this call id was routed within the last day, and the decision if it was asked about over HTTP.
    #[must_use]
    pub fn routed_before(&self, sid_hash: u64) -> Option<Option<Arc<RoutedDecision>>> {
        if let Some((_, decision)) = self.routed.get(&sid_hash) {
            return Some(Some(Arc::clone(decision)));
        }
        let known_since = self.known_since();
        self.shared.observed.routed_before(sid_hash, known_since)
    }

    /// Calls routed before this instant are forgotten.
    fn known_since(&self) -> Timestamp {
        self.now().plus_millis(-ROUTED_KNOWN_MILLIS)
    }

    /// Adds an incoming call that was routed, and raises the counter of this kind.
    pub fn routed(&mut self, event: RoutedEvent, kind: Option<CountKind>) {
        if let RoutedEvent::Routed(call) = &event {
            if let Some(decision) = &call.decision {
                let decision = (call.environment, Arc::clone(decision));
                self.routed.insert(call.sid_hash, decision);
            }
            if let Some(key) = count_key(call, kind) {
                self.changes.push(Change::Counted(key, 1));
            }
        }
        self.changes.push(Change::Routed(vec![event]));
    }

    /// Adds that a routed call was answered; counts it the first time.
    ///
    /// # Errors
    /// The call is not known.
    pub fn answered(&mut self, call: AnsweredCall) -> Result<(), CommandError> {
        let count =
            self.shared
                .observed
                .check_answered(&call, self.known_since(), &self.directory)?;
        // What is observed does not have the answers of this batch yet.
        if let Some(key) = count
            && self.answered.insert(call.sid_hash)
        {
            self.changes.push(Change::Counted(key, 1));
            self.changes
                .push(Change::Routed(vec![RoutedEvent::Answered(call)]));
        }
        Ok(())
    }

    /// The secret that keys the hashes of erased contacts. The first command that needs it makes it.
    ///
    /// # Errors
    /// Storage cannot be read.
    pub(crate) fn erasure_secret(&mut self) -> Result<ErasureSecret, CommandError> {
        if let Some(secret) = self.erasure_secret {
            return Ok(secret);
        }
        let stored = self.shared.archive.erasure_secret().map_err(|error| {
            tracing::error!(%error, "the secret of erasures could not be read");
            CommandError::StorageUnavailable
        })?;
        Ok(stored.unwrap_or_else(|| {
            let made = ErasureSecret(self.choices.secret());
            self.change(Change::ErasureSecretSet(made));
            made
        }))
    }

    /// Whether an answer to the request with this name is kept.
    pub(crate) fn is_answered(&self, id: AnswerId) -> Result<bool, CommandError> {
        if self.answers.contains(&id) {
            return Ok(true);
        }
        let kept = self.shared.kept_answer(id, self.now()).map_err(|error| {
            tracing::error!(%error, "an answer that was kept could not be read");
            CommandError::StorageUnavailable
        })?;
        Ok(kept.is_some())
    }

    /// Adds a decision to the decision log, which shows it once the batch is durable.
    pub fn decided(&mut self, environment: EnvironmentId, record: DecisionRecord) {
        self.decisions.push((environment, record));
    }

    /// The changes behind the first ones of this number.
    pub(crate) fn changes_since(&self, first: usize) -> &[Change] {
        self.changes.get(first..).unwrap_or_default()
    }

    /// How many changes the batch has.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// The changes, and the decisions to show.
    pub(crate) fn finish(mut self) -> (Memory, Vec<(EnvironmentId, DecisionRecord)>) {
        self.calls.clear();
        let memory = Memory {
            changes: self.changes,
            calls: self.calls,
        };
        (memory, self.decisions)
    }
}

/// Memory that is passed from batch to batch instead of being allocated for each.
#[derive(Default)]
pub(crate) struct Memory {
    /// The changes; empty when a batch starts.
    pub(crate) changes: Vec<Change>,
    /// An empty table of calls.
    calls: HashTable<(u64, usize)>,
}

/// The call that this change records, if it records one.
fn call_at(changes: &[Change], index: usize) -> Option<&Call> {
    match changes.get(index) {
        Some(Change::CallPut(call)) => Some(call),
        _ => None,
    }
}

/// Whether this change records the call with this id.
fn names(changes: &[Change], index: usize, environment: EnvironmentId, sid: &str) -> bool {
    call_at(changes, index).is_some_and(|call| &*call.sid == sid && call.environment == environment)
}
