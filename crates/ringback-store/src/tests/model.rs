//! What an archive ought to show, kept in the plainest way.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use ringback_engine::{Archive, Call, Change, CountMark, RoutedEvent, StoredCounts};
use ringback_routing::{Agent, AgentId, Environment, EnvironmentId, PhoneNumber, Timestamp, Token};

/// Everything that was committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    environments: Vec<Environment>,
    agents: Vec<Agent>,
    numbers: Vec<PhoneNumber>,
    tokens: Vec<Token>,
    departed: HashMap<AgentId, String>,
    counts: StoredCounts,
    mark: CountMark,
    routed: Vec<RoutedEvent>,
    calls: BTreeMap<(EnvironmentId, Arc<str>), Call>,
}

impl Model {
    /// The model after these commits.
    pub(super) fn after<'a>(commits: impl IntoIterator<Item = &'a Vec<Change>>) -> Self {
        let mut model = Self::default();
        for commit in commits {
            model.commit(commit);
        }
        model
    }

    /// Commits.
    pub(super) fn commit(&mut self, changes: &[Change]) {
        for change in changes {
            match change.clone() {
                Change::EnvironmentPut(new) => put(&mut self.environments, new, |one| one.id),
                Change::EnvironmentRemoved(id) => {
                    self.environments.retain(|one| one.id != id);
                    self.tokens.retain(|one| one.environment != id);
                }
                Change::TokenPut(new) => put(&mut self.tokens, new, |one| one.id),
                Change::TokenRemoved(_, id) => self.tokens.retain(|one| one.id != id),
                Change::AgentPut(new) => {
                    self.departed.remove(&new.id);
                    put(&mut self.agents, new, |one| one.id);
                }
                Change::AgentRemoved(_, id, name) => {
                    self.agents.retain(|one| one.id != id);
                    self.departed.insert(id, name);
                }
                Change::NumberPut(new) => put(&mut self.numbers, new, |one| one.id),
                Change::NumberRemoved(_, id) => self.numbers.retain(|one| one.id != id),
                Change::CallPut(call) => {
                    self.calls
                        .insert((call.environment, call.sid.clone()), call);
                }
                Change::ContactForgotten(environment, contact) => {
                    self.calls.retain(|_, call| {
                        (call.environment, call.contact.subscriber())
                            != (environment, contact.subscriber())
                    });
                    for event in &mut self.routed {
                        if let RoutedEvent::Routed(call) = event
                            && call.environment == environment
                            && let Some(decision) = &mut call.decision
                            && decision.is_about(contact)
                        {
                            *decision = Arc::new(decision.without_contact());
                        }
                    }
                }
                Change::Routed(events) => self.routed.extend(events),
                Change::BatchRouted(batch) => self.routed.push(RoutedEvent::Batch(batch)),
                Change::Counted(key, increment) => {
                    *self.counts.entry(key).or_default() += increment;
                }
                Change::BatchesCounted(counted) => {
                    for (key, increment) in counted.growth {
                        *self.counts.entry(key).or_default() += increment;
                    }
                    self.mark = counted.mark;
                }
            }
        }
    }

    /// Sweeps.
    pub(super) fn sweep(&mut self, keep: impl Fn(&Call) -> bool) -> u64 {
        let before = self.calls.len();
        self.calls.retain(|_, call| keep(call));
        (before - self.calls.len()) as u64
    }

    /// Reads an archive to the end.
    pub(super) fn read(archive: &dyn Archive) -> Self {
        let directory = archive.directory().unwrap();
        let mut calls = BTreeMap::new();
        for part in 0..3 {
            archive
                .visit_contacts(part, 3, &mut |environment, contact, visited| {
                    assert!(!visited.is_empty());
                    for call in visited {
                        assert_eq!((environment, contact), (call.environment, call.contact));
                        let key = (call.environment, call.sid.clone());
                        assert_eq!(calls.insert(key, call.clone()), None, "visited twice");
                    }
                    ControlFlow::Continue(())
                })
                .unwrap();
        }
        Self {
            environments: directory.environments,
            agents: directory.agents,
            numbers: directory.numbers,
            tokens: directory.tokens,
            departed: directory.departed,
            counts: archive.counts().unwrap(),
            mark: archive.count_mark().unwrap(),
            routed: archive
                .routed_since(Timestamp::from_millis(i64::MIN))
                .unwrap(),
            calls,
        }
    }

    /// Checks that an archive shows this in every way that it can be asked.
    pub(super) fn assert_shown_by(&self, archive: &dyn Archive) {
        assert_eq!(Self::read(archive), *self);
        for call in self.calls.values() {
            let found = archive.call(call.environment, &call.sid).unwrap();
            assert_eq!(found.as_ref(), Some(call));
            let mut found = archive.calls_to(call.environment, call.contact).unwrap();
            found.sort_by(|one, other| one.sid.cmp(&other.sid));
            let expected: Vec<Call> = self
                .calls
                .values()
                .filter(|other| {
                    (other.environment, other.contact) == (call.environment, call.contact)
                })
                .cloned()
                .collect();
            assert_eq!(found, expected);
        }
        for since in -5..15 {
            let since = Timestamp::from_millis(since);
            let mut expected = self.routed.clone();
            expected.retain(|event| event.at() >= since);
            assert_eq!(archive.routed_since(since).unwrap(), expected);
        }
    }
}

/// Replaces the record with the same id in its place, or adds it at the end.
fn put<T, I: PartialEq>(records: &mut Vec<T>, new: T, id: impl Fn(&T) -> I) {
    match records.iter_mut().find(|one| id(one) == id(&new)) {
        Some(existing) => *existing = new,
        None => records.push(new),
    }
}
