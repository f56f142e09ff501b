//! The expected content of an archive, kept in the simplest way.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use ringback_engine::{
    AnswerId, Archive, AuditEntry, AuditId, Call, Change, CountMark, ErasedHash, ErasureSecret,
    KeptAnswer, LogPlace, RoutedEvent, StoredCounts, StoredDirectory, Tombstone,
};
use ringback_routing::{Assignment, ContactHash, ContactRights, E164, EnvironmentId, Timestamp};

/// The result of all facts.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Everything that an archive shows, without events.
    pub(crate) shown: Shown,
    /// The place in a log that nodes share. Not compared: in a cluster the journal sets it.
    pub(crate) place: Option<LogPlace>,
    /// The answers that are kept. An archive finds them by name alone.
    pub(crate) answers: BTreeMap<AnswerId, KeptAnswer>,
    /// Events of incoming calls: those of each commit, and the latest time among them.
    routed: Vec<(Timestamp, Vec<RoutedEvent>)>,
}

/// Everything that an archive shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    pub(crate) directory: StoredDirectory,
    pub(crate) counts: StoredCounts,
    pub(crate) mark: CountMark,
    pub(crate) calls: BTreeMap<(EnvironmentId, Arc<str>), Call>,
    pub(crate) audit: BTreeMap<AuditId, AuditEntry>,
    pub(crate) erasure_secret: Option<ErasureSecret>,
    pub(crate) tombstones: BTreeMap<ErasedHash, Timestamp>,
    routed: Vec<RoutedEvent>,
}

impl Model {
    /// The model after these commits.
    pub fn after<'a>(commits: impl IntoIterator<Item = &'a Vec<Change>>) -> Self {
        let mut model = Self::default();
        for commit in commits {
            model.commit(commit);
        }
        model
    }

    /// Commits.
    pub fn commit(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply(change);
        }
    }

    /// Applies one change.
    fn apply(&mut self, change: &Change) {
        let shown = &mut self.shown;
        let directory = &mut shown.directory;
        match change.clone() {
            Change::EnvironmentPut(new) => put(&mut directory.environments, new, |one| one.id),
            Change::EnvironmentRemoved(id) => {
                directory.environments.retain(|one| one.id != id);
                directory.tokens.retain(|one| one.environment != id);
                directory.connectors.retain(|one| one.environment != id);
                let rights = &mut directory.contact_rights;
                rights.retain(|_, one| one.environment != id);
            }
            Change::TokenPut(new) => put(&mut directory.tokens, new, |one| one.id),
            Change::TokenRemoved(_, id) => directory.tokens.retain(|one| one.id != id),
            Change::ConnectorPut(new) => put(&mut directory.connectors, *new, |one| one.id),
            Change::ConnectorRemoved(_, id) => directory.connectors.retain(|one| one.id != id),
            Change::AgentPut(new) => {
                directory.departed.remove(&new.id);
                put(&mut directory.agents, new, |one| one.id);
            }
            Change::AgentRemoved(_, id, name) => {
                directory.agents.retain(|one| one.id != id);
                directory.departed.insert(id, name);
            }
            Change::NumberPut(new) => put(&mut directory.numbers, new, |one| one.id),
            Change::NumberRemoved(_, id) => {
                directory.numbers.retain(|one| one.id != id);
                directory.assignments.retain(|one| one.number != id);
            }
            Change::Assigned(new) => {
                if !directory.assignments.contains(&new) {
                    directory.assignments.push(new);
                }
            }
            Change::Unassigned(old) => directory.assignments.retain(|one| *one != old),
            Change::OwnersSet(number, agents) => {
                directory
                    .assignments
                    .retain(|one| one.number != number || agents.contains(&one.agent));
                for agent in agents {
                    self.apply(&Change::Assigned(Assignment { number, agent }));
                }
            }
            Change::CallPut(call) => {
                let key = (call.environment, Arc::clone(&call.sid));
                shown.calls.insert(key, call);
            }
            Change::ContactForgotten(environment, contact) => {
                shown
                    .calls
                    .retain(|_, call| !is_to(call, environment, contact));
                self.forget_in_decisions(environment, contact);
            }
            Change::CallsSwept(sweep) => {
                let agents = &directory.agents;
                shown.calls.retain(|_, call| {
                    !sweep
                        .contacts
                        .iter()
                        .any(|contact| is_to(call, sweep.environment, *contact))
                        || (sweep.keeps(call.started_at)
                            && agents.iter().any(|agent| agent.id == call.agent))
                });
            }
            Change::Routed(events) => {
                if let Some(latest) = events.iter().map(RoutedEvent::at).max() {
                    self.routed.push((latest, events));
                }
            }
            Change::BatchRouted(batch) => {
                let event = RoutedEvent::Batch(batch);
                self.routed.push((event.at(), vec![event]));
            }
            Change::Audited(entry) => {
                shown.audit.insert(entry.id, *entry);
            }
            Change::ErasureSecretSet(secret) => shown.erasure_secret = Some(secret),
            Change::Erased(Tombstone { hash, at }) => {
                shown.tombstones.insert(hash, at);
            }
            Change::OptedOut(environment, contact, opt_out) => {
                let rights = rights_of(directory, environment, contact);
                rights.opt_out = Some(opt_out);
            }
            Change::OptOutEnded(environment, contact) => {
                let rights = rights_of(directory, environment, contact);
                rights.opt_out = None;
                if rights.counts_from.is_none() {
                    directory.contact_rights.remove(&contact);
                }
            }
            Change::Reassigned(environment, contact, from) => {
                let rights = rights_of(directory, environment, contact);
                rights.counts_from = rights.counts_from.max(Some(from));
            }
            Change::Answered(kept) => {
                self.answers.insert(kept.id, *kept);
            }
            Change::SessionPut(session) => {
                directory.sessions.insert(session.cookie, *session);
            }
            Change::SessionEnded(cookie) => {
                directory.sessions.remove(&cookie);
            }
            Change::AuditSwept(before) => {
                shown.audit = shown.audit.split_off(&AuditId::first_at(before));
            }
            Change::RoutedSwept(before) => {
                let complete = shown.mark.complete;
                // SIP calls are counted from their batches until the counters contain them.
                self.routed.retain(|(latest, events)| {
                    *latest >= before
                        || matches!(&**events, [RoutedEvent::Batch(batch)] if batch.number >= complete)
                });
            }
            Change::Counted(key, increment) => {
                *shown.counts.entry(key).or_default() += increment;
            }
            Change::BatchesCounted(counted) => {
                for (key, increment) in counted.growth {
                    *shown.counts.entry(key).or_default() += increment;
                }
                shown.mark = counted.mark;
            }
            Change::Placed(place) => self.place = place,
        }
    }

    /// Removes a contact from the decisions on its calls.
    fn forget_in_decisions(&mut self, environment: EnvironmentId, contact: E164) {
        for event in self.routed.iter_mut().flat_map(|(_, events)| events) {
            if let RoutedEvent::Routed(call) = event
                && call.environment == environment
                && let Some(decision) = &mut call.decision
                && decision.is_about(contact)
            {
                *decision = Arc::new(decision.without_contact());
            }
        }
    }

    /// The events since this instant in the order in which an archive shows them.
    pub(crate) fn routed_since(&self, since: Timestamp) -> Vec<RoutedEvent> {
        let mut routed: Vec<_> = self.routed.iter().collect();
        routed.sort_by_key(|(latest, _)| *latest);
        let events = || {
            let events = routed.iter().flat_map(|(_, events)| events);
            events.filter(|event| event.at() >= since)
        };
        let is_answer = |event: &&RoutedEvent| matches!(event, RoutedEvent::Answered(_));
        let calls = events().filter(|event| !is_answer(event));
        calls.chain(events().filter(is_answer)).cloned().collect()
    }

    /// Everything that an archive should show.
    pub fn shown(&self) -> Shown {
        Shown {
            routed: self.routed_since(Timestamp::from_millis(i64::MIN)),
            ..self.shown.clone()
        }
    }

    /// Checks that an archive shows this in every way in which it can be read.
    pub fn assert_shown_by(&self, archive: &dyn Archive) {
        let shown = self.shown();
        assert_eq!(Shown::read(archive), shown);
        shown.assert_found_in(archive);
        self.assert_answers_kept_by(archive);
        for since in -5..15 {
            let since = Timestamp::from_millis(since);
            assert_eq!(routed_since(archive, since), self.routed_since(since));
        }
    }
}

/// What a contact asked for, to be changed.
fn rights_of(
    directory: &mut StoredDirectory,
    environment: EnvironmentId,
    contact: ContactHash,
) -> &mut ContactRights {
    let rights = directory.contact_rights.entry(contact);
    rights.or_insert_with(|| ContactRights::none(environment))
}

impl Model {
    /// Checks that an archive finds the answer of every request, and none of another one.
    pub fn assert_answers_kept_by(&self, archive: &dyn Archive) {
        for (id, answer) in &self.answers {
            let found = archive.kept_answer(*id).expect("readable");
            assert_eq!(found.as_ref(), Some(answer));
        }
        let unused = AnswerId([0xff; 16]);
        assert_eq!(archive.kept_answer(unused).expect("readable"), None);
    }
}

impl Shown {
    /// Reads everything from an archive.
    pub fn read(archive: &dyn Archive) -> Self {
        let mut calls = BTreeMap::new();
        for part in 0..3 {
            archive
                .visit_contacts(part, 3, &mut |environment, contact, visited| {
                    assert!(!visited.is_empty());
                    for call in visited {
                        assert!(is_to(call, environment, contact));
                        let key = (call.environment, call.sid.clone());
                        assert_eq!(calls.insert(key, call.clone()), None, "visited twice");
                    }
                    ControlFlow::Continue(())
                })
                .expect("readable");
        }
        Self {
            directory: archive.directory().expect("readable"),
            counts: archive.counts().expect("readable"),
            mark: archive.count_mark().expect("readable"),
            routed: routed_since(archive, Timestamp::from_millis(i64::MIN)),
            calls,
            audit: read_audit(archive),
            erasure_secret: archive.erasure_secret().expect("readable"),
            tombstones: read_tombstones(archive),
        }
    }

    /// Takes the latest audit entry out.
    pub fn take_latest_audit(&mut self) -> Option<AuditEntry> {
        self.audit.pop_last().map(|(_, entry)| entry)
    }

    /// The same without the calls of deleted agents, which a backup leaves out.
    #[must_use]
    pub fn without_calls_of_deleted_agents(mut self) -> Self {
        let agents = &self.directory.agents;
        self.calls
            .retain(|_, call| agents.iter().any(|agent| agent.id == call.agent));
        self
    }

    /// Checks that an archive finds every call by its id and by its contact, and every audit entry by its id.
    pub fn assert_found_in(&self, archive: &dyn Archive) {
        for (id, entry) in &self.audit {
            let found = archive.audit_entry(*id).expect("readable");
            assert_eq!(found.as_ref(), Some(entry));
            let mut next = None;
            let visited = archive.visit_audit(Some(*id), &mut |entry| {
                next = Some(entry.id);
                ControlFlow::Break(())
            });
            visited.expect("readable");
            let before = self.audit.range(..id).next_back();
            assert_eq!(next, before.map(|(id, _)| *id));
        }
        for call in self.calls.values() {
            let found = archive.call(call.environment, &call.sid);
            assert_eq!(found.expect("readable").as_ref(), Some(call));
            let found = archive.calls_to(call.environment, call.contact);
            let mut found = found.expect("readable");
            found.sort_by(|one, other| one.sid.cmp(&other.sid));
            let expected: Vec<Call> = self
                .calls
                .values()
                .filter(|other| is_to(other, call.environment, call.contact))
                .cloned()
                .collect();
            assert_eq!(found, expected);
        }
    }
}

/// The audit entries of an archive, which shows the latest first.
fn read_audit(archive: &dyn Archive) -> BTreeMap<AuditId, AuditEntry> {
    let mut entries = Vec::new();
    let visited = archive.visit_audit(None, &mut |entry| {
        entries.push((entry.id, entry));
        ControlFlow::Continue(())
    });
    visited.expect("readable");
    assert!(entries.is_sorted_by(|(one, _), (other, _)| one > other));
    entries.into_iter().collect()
}

/// What is left of erased contacts in an archive.
fn read_tombstones(archive: &dyn Archive) -> BTreeMap<ErasedHash, Timestamp> {
    let mut tombstones = Vec::new();
    let visited = archive.visit_tombstones(&mut |tombstone| {
        tombstones.push((tombstone.hash, tombstone.at));
        ControlFlow::Continue(())
    });
    visited.expect("readable");
    assert!(tombstones.is_sorted_by(|(one, _), (other, _)| one < other));
    tombstones.into_iter().collect()
}

/// The events that an archive shows since this instant.
pub fn routed_since(archive: &dyn Archive, since: Timestamp) -> Vec<RoutedEvent> {
    let mut events = Vec::new();
    let visited = archive.visit_routed(since, &mut |event| events.push(event));
    visited.expect("readable");
    events
}

/// Whether a call went to this contact, in either spelling.
pub(crate) fn is_to(call: &Call, environment: EnvironmentId, contact: E164) -> bool {
    (call.environment, call.contact.subscriber()) == (environment, contact.subscriber())
}

/// Replaces the record with the same id where it is, or adds it at the end.
fn put<T, I: PartialEq>(records: &mut Vec<T>, new: T, id: impl Fn(&T) -> I) {
    match records.iter_mut().find(|one| id(one) == id(&new)) {
        Some(existing) => *existing = new,
        None => records.push(new),
    }
}
