//! A journal in memory, as naive as possible and failing on demand, and a clock that stands still.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use ringback_engine::{
    Archive, Call, Change, Clock, CountMark, Journal, JournalError, RoutedEvent, StoredCounts,
    StoredDirectory,
};
use ringback_routing::{E164, EnvironmentId, Timestamp};

/// A journal whose clones share one state, as a restarted engine shares its data directory.
#[derive(Clone, Default)]
pub struct MemoryJournal {
    /// What was committed.
    state: Arc<Mutex<State>>,
    /// Whether writes fail.
    failing: Arc<AtomicBool>,
    /// The contact that cannot be read.
    damaged: Arc<Mutex<Option<E164>>>,
    /// How many calls were read for single contacts.
    visited: Arc<AtomicU64>,
    /// Where the loading of contacts is held.
    gate: Arc<Gate>,
}

/// How far the loading of contacts may go, or has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// What is stored has been read, nothing of it shown.
    Read,
    /// Every contact has been shown; the end has not been told.
    Shown,
    /// To the end.
    #[default]
    Done,
}

/// Holds those that load contacts.
#[derive(Default)]
struct Gate {
    /// How far they may go, and how many of them have shown their contacts.
    state: Mutex<(Load, usize)>,
    /// Signaled when that changes.
    changed: Condvar,
}

impl Gate {
    /// Waits until loading may go beyond this point.
    fn pass(&self, point: Load) {
        let mut state = self.state.lock();
        while state.0 <= point {
            self.changed.wait(&mut state);
        }
    }

    /// Notes that one of them has shown its contacts.
    fn visited(&self) {
        self.state.lock().1 += 1;
        self.changed.notify_all();
    }
}

/// What was committed.
#[derive(Default)]
struct State {
    /// Everything but calls, in order.
    changes: Vec<Change>,
    /// The calls.
    calls: HashMap<(EnvironmentId, Arc<str>), Call>,
}

impl MemoryJournal {
    /// Lets every write fail from now on, or none.
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// Lets every read of this contact's calls fail from now on.
    pub fn damage(&self, contact: Option<E164>) {
        *self.damaged.lock() = contact;
    }

    /// Whether these calls can be read.
    fn check_readable<'c>(
        &self,
        calls: impl IntoIterator<Item = &'c Call>,
    ) -> Result<(), JournalError> {
        let damaged = *self.damaged.lock();
        match damaged {
            Some(damaged) if calls.into_iter().any(|call| call.contact == damaged) => {
                Err(JournalError::Damaged("told to be damaged".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// How many calls were read for single contacts so far.
    pub fn calls_visited(&self) -> u64 {
        self.visited.load(Ordering::SeqCst)
    }

    /// Holds whoever loads contacts at this point, or lets them go on to it.
    pub fn hold_load(&self, point: Load) {
        let mut state = self.gate.state.lock();
        state.0 = point;
        self.gate.changed.notify_all();
    }

    /// Waits until so many loaders have shown all their contacts, since the journal was made.
    pub fn wait_for_loaders(&self, loaders: usize) {
        let mut state = self.gate.state.lock();
        while state.1 < loaders {
            self.gate.changed.wait(&mut state);
        }
    }

    /// Whether writes work.
    fn check(&self) -> Result<(), JournalError> {
        if self.failing.load(Ordering::SeqCst) {
            Err(JournalError::Unavailable("told to fail".into()))
        } else {
            Ok(())
        }
    }
}

impl Journal for MemoryJournal {
    fn commit(&mut self, changes: &[Change]) -> Result<(), JournalError> {
        self.check()?;
        let mut state = self.state.lock();
        for change in changes {
            match change {
                Change::CallPut(call) => {
                    state
                        .calls
                        .insert((call.environment, call.sid.clone()), call.clone());
                }
                Change::ContactForgotten(environment, contact) => {
                    state.calls.retain(|_, call| {
                        (call.environment, call.contact.subscriber())
                            != (*environment, contact.subscriber())
                    });
                    for change in &mut state.changes {
                        if let Change::Routed(events) = change {
                            forget_in_decisions(events, *environment, *contact);
                        }
                    }
                }
                other => state.changes.push(other.clone()),
            }
        }
        Ok(())
    }

    fn recover(&mut self) -> Result<(), JournalError> {
        self.check()
    }

    fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(self.clone())
    }
}

impl Archive for MemoryJournal {
    fn directory(&self) -> Result<StoredDirectory, JournalError> {
        let mut stored = StoredDirectory::default();
        for change in &self.state.lock().changes {
            match change {
                Change::EnvironmentPut(environment) => {
                    put(&mut stored.environments, environment, |one| one.id);
                }
                Change::EnvironmentRemoved(id) => stored.environments.retain(|one| one.id != *id),
                Change::TokenPut(token) => put(&mut stored.tokens, token, |one| one.id),
                Change::TokenRemoved(_, id) => stored.tokens.retain(|one| one.id != *id),
                Change::AgentPut(agent) => put(&mut stored.agents, agent, |one| one.id),
                Change::AgentRemoved(_, id, name) => {
                    stored.agents.retain(|one| one.id != *id);
                    stored.departed.insert(*id, name.clone());
                }
                Change::NumberPut(number) => put(&mut stored.numbers, number, |one| one.id),
                Change::NumberRemoved(_, id) => stored.numbers.retain(|one| one.id != *id),
                _ => {}
            }
        }
        Ok(stored)
    }

    fn counts(&self) -> Result<StoredCounts, JournalError> {
        let mut counts = StoredCounts::new();
        for change in &self.state.lock().changes {
            match change {
                Change::Counted(key, count) => *counts.entry(*key).or_default() += count,
                Change::BatchesCounted(counted) => {
                    for (key, count) in &counted.growth {
                        *counts.entry(*key).or_default() += count;
                    }
                }
                _ => {}
            }
        }
        Ok(counts)
    }

    fn count_mark(&self) -> Result<CountMark, JournalError> {
        let state = self.state.lock();
        let mut newest_first = state.changes.iter().rev();
        let mark = newest_first.find_map(|change| match change {
            Change::BatchesCounted(counted) => Some(counted.mark),
            _ => None,
        });
        Ok(mark.unwrap_or_default())
    }

    fn routed_since(&self, _since: Timestamp) -> Result<Vec<RoutedEvent>, JournalError> {
        let state = self.state.lock();
        let routed = state.changes.iter().filter_map(|change| match change {
            Change::Routed(events) => Some(events.clone()),
            Change::BatchRouted(batch) => Some(vec![RoutedEvent::Batch(batch.clone())]),
            _ => None,
        });
        Ok(routed.flatten().collect())
    }

    fn call(&self, environment: EnvironmentId, sid: &str) -> Result<Option<Call>, JournalError> {
        Ok(self
            .state
            .lock()
            .calls
            .get(&(environment, sid.into()))
            .cloned())
    }

    fn visit_calls(
        &self,
        environment: EnvironmentId,
        contact: E164,
        within: Range<Timestamp>,
        visitor: &mut dyn FnMut(Call),
    ) -> Result<(), JournalError> {
        let state = self.state.lock();
        let calls = state.calls.values();
        let calls: Vec<Call> = calls
            .filter(|call| {
                (call.environment, call.contact.subscriber()) == (environment, contact.subscriber())
                    && within.contains(&call.started_at)
            })
            .cloned()
            .collect();
        self.check_readable(&calls)?;
        for call in calls {
            self.visited.fetch_add(1, Ordering::SeqCst);
            visitor(call);
        }
        Ok(())
    }

    fn visit_contacts(
        &self,
        part: usize,
        parts: usize,
        visitor: &mut dyn FnMut(EnvironmentId, E164, &[Call]) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let mut contacts: HashMap<(EnvironmentId, E164), Vec<Call>> = HashMap::new();
        for call in self.state.lock().calls.values() {
            contacts
                .entry((call.environment, call.contact.subscriber()))
                .or_default()
                .push(call.clone());
        }
        let share =
            (part as u64 * SHARES / parts as u64)..((part as u64 + 1) * SHARES / parts as u64);
        self.gate.pass(Load::Read);
        for ((environment, contact), calls) in contacts {
            if !share.contains(&(contact.digits() % SHARES)) {
                continue;
            }
            self.check_readable(&calls)?;
            if visitor(environment, contact, &calls).is_break() {
                break;
            }
        }
        self.gate.visited();
        self.gate.pass(Load::Shown);
        Ok(())
    }

    fn sweep(
        &self,
        keep: &mut dyn FnMut(&Call) -> bool,
        _routed_before: Timestamp,
    ) -> Result<u64, JournalError> {
        let mut state = self.state.lock();
        let before = state.calls.len();
        state.calls.retain(|_, call| keep(call));
        Ok((before - state.calls.len()) as u64)
    }
}

/// Forgets a contact in what was decided for its calls.
fn forget_in_decisions(events: &mut [RoutedEvent], environment: EnvironmentId, contact: E164) {
    for event in events {
        if let RoutedEvent::Routed(call) = event
            && call.environment == environment
            && let Some(decision) = &mut call.decision
            && decision.is_about(contact)
        {
            *decision = Arc::new(decision.without_contact());
        }
    }
}

/// Into how many shares contacts can be divided.
const SHARES: u64 = 256;

/// Replaces the record with the same id, or adds it.
fn put<T: Clone, I: PartialEq>(all: &mut Vec<T>, new: &T, id: impl Fn(&T) -> I) {
    match all.iter_mut().find(|one| id(one) == id(new)) {
        Some(place) => *place = new.clone(),
        None => all.push(new.clone()),
    }
}

/// A clock that stands until it is moved.
#[derive(Clone)]
pub struct StillClock(Arc<AtomicI64>);

impl StillClock {
    /// A clock that stands at this second since 1970.
    pub fn at(second: i64) -> Self {
        Self(Arc::new(AtomicI64::new(second * 1_000)))
    }

    /// Moves the clock.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
