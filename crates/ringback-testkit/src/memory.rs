//! A journal in memory, as simple as possible and failing on demand, and a clock that stands still.

use std::collections::{HashMap, VecDeque};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use ringback_engine::{
    AnswerId, AppendError, Archive, AuditEntry, AuditId, Call, Change, Clock, CountMark, Entry,
    ErasureSecret, Journal, JournalError, Kept, KeptAnswer, LogPlace, Outbox, RoutedEvent,
    Sequence, StoredCounts, StoredDirectory, Tombstone,
};
use ringback_routing::{E164, EnvironmentId, Timestamp};

use crate::model::{Model, is_to};

/// One node of a log in memory. Clones share the node's state, as a restarted engine shares its data directory.
/// [`Self::beside`] makes another node on the same log.
#[derive(Clone, Default)]
pub struct MemoryJournal {
    /// The log, which all nodes share.
    log: Arc<Mutex<SharedLog>>,
    /// The number of this node.
    node: usize,
    /// The entries that the node has read from the log.
    state: Arc<Mutex<NodeState>>,
    /// Actions to run before appends.
    interposed: Arc<Mutex<VecDeque<Interposed>>>,
    /// Whether writes fail.
    failing: Arc<AtomicBool>,
    /// Whether the log cannot be reached.
    away: Arc<AtomicBool>,
    /// What the node keeps meanwhile; none if it has no place for that.
    kept: Arc<Mutex<Option<Vec<Kept>>>>,
    /// Whether an append gets no answer.
    confirmation: Arc<Mutex<Confirmation>>,
    /// The contact that cannot be read.
    damaged: Arc<Mutex<Option<E164>>>,
    /// The number of calls read for single contacts.
    visited: Arc<AtomicU64>,
    /// Where the loading of contacts is held.
    gate: Arc<Gate>,
}

/// Whether appends are confirmed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Confirmation {
    /// All are.
    #[default]
    Given,
    /// The next one is not; the log has it, or not.
    WillLack(bool),
    /// One was not, and nobody knows what became of it.
    Lacking,
}

/// An action to run before an append.
type Interposed = Box<dyn FnOnce() + Send>;

/// A log that several nodes append to.
#[derive(Default)]
struct SharedLog {
    /// The entries, and which node appended each.
    entries: Vec<(usize, Vec<Change>)>,
    /// How many nodes were made in addition to the first.
    others: usize,
    /// The functions to call for new entries, and the node of each.
    watchers: Vec<(usize, Arc<dyn Fn() + Send + Sync>)>,
}

/// The state of a node.
#[derive(Default)]
struct NodeState {
    /// How many entries it has read.
    position: usize,
    /// The result of these entries.
    model: Model,
}

/// A point in the loading of contacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// Everything was read from the store; nothing was shown yet.
    Read,
    /// Every contact was shown; the visit has not ended.
    Shown,
    /// The visit has ended.
    #[default]
    Done,
}

/// Stops threads that load contacts at a point.
#[derive(Default)]
struct Gate {
    /// The point up to which they may go, and how many of them have shown their contacts.
    state: Mutex<(Load, usize)>,
    /// Signaled when the state changes.
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

    /// Notes that one thread has shown its contacts.
    fn visited(&self) {
        self.state.lock().1 += 1;
        self.changed.notify_all();
    }
}

impl MemoryJournal {
    /// Another node on the same log, which has read nothing from it yet.
    pub fn beside(&self) -> Self {
        let mut log = self.log.lock();
        log.others += 1;
        Self {
            log: Arc::clone(&self.log),
            node: log.others,
            ..Self::default()
        }
    }

    /// All facts of the log, of all nodes.
    pub fn facts(&self) -> Vec<Change> {
        let log = self.log.lock();
        let entries = log.entries.iter();
        entries.flat_map(|(_, facts)| facts.clone()).collect()
    }

    /// Runs this before the next append, as an action of another node. Each call adds one for one more append.
    pub fn interpose(&self, other: impl FnOnce() + Send + 'static) {
        self.interposed.lock().push_back(Box::new(other));
    }

    /// Drops the actions that no append has run.
    pub fn clear_interposed(&self) {
        self.interposed.lock().clear();
    }

    /// Lets every write fail from now on, or none.
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// Lets the log not be reached from now on, or again.
    pub fn cut_off(&self, is_away: bool) {
        self.away.store(is_away, Ordering::SeqCst);
    }

    /// Gives the node an outbox that has this.
    pub fn set_outbox(&self, kept: Vec<Kept>) {
        *self.kept.lock() = Some(kept);
    }

    /// Leaves the next append unconfirmed, and shows nothing more of the log, until [`Self::confirm`]; the log has
    /// it, or not.
    pub fn leave_unconfirmed(&self, is_kept: bool) {
        *self.confirmation.lock() = Confirmation::WillLack(is_kept);
    }

    /// Lets it be known what became of an append that was not confirmed.
    pub fn confirm(&self) {
        *self.confirmation.lock() = Confirmation::Given;
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

    /// Lets threads that load contacts go to this point and no further.
    pub fn hold_load(&self, point: Load) {
        let mut state = self.gate.state.lock();
        state.0 = point;
        self.gate.changed.notify_all();
    }

    /// Waits until this many loaders have shown all their contacts, counted since the journal was made.
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
    fn position(&self) -> Sequence {
        Sequence(self.state.lock().position as u64)
    }

    fn append(
        &mut self,
        expected: Sequence,
        facts: &mut Vec<Change>,
    ) -> Result<Sequence, AppendError> {
        let interposed = self.interposed.lock().pop_front();
        if let Some(interposed) = interposed {
            interposed();
        }
        self.check()?;
        if self.away.load(Ordering::SeqCst) {
            return Err(AppendError::Unreachable);
        }
        let mut confirmation = self.confirmation.lock();
        if *confirmation == Confirmation::Lacking {
            return Err(AppendError::Unreachable);
        }
        let mut log = self.log.lock();
        if expected != Sequence(log.entries.len() as u64) {
            return Err(AppendError::Conflict);
        }
        if facts.is_empty() {
            return Ok(expected);
        }
        if let Confirmation::WillLack(is_kept) = *confirmation {
            *confirmation = Confirmation::Lacking;
            if is_kept {
                log.entries.push((self.node, facts.clone()));
            }
            return Err(AppendError::Unconfirmed);
        }
        log.entries.push((self.node, std::mem::take(facts)));
        let sequence = Sequence(log.entries.len() as u64);
        let watchers = log.watchers.clone();
        drop(log);
        for (_, wake) in watchers.iter().filter(|(node, _)| *node != self.node) {
            wake();
        }
        Ok(sequence)
    }

    fn committed(&mut self) -> Result<Option<Entry>, JournalError> {
        let is_silent = *self.confirmation.lock() == Confirmation::Lacking;
        if is_silent || self.away.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let mut state = self.state.lock();
        let log = self.log.lock();
        let Some((node, facts)) = log.entries.get(state.position) else {
            return Ok(None);
        };
        let is_own = *node == self.node;
        let mut facts = facts.clone();
        facts.retain(|fact| is_own || !fact.is_local());
        state.position += 1;
        state.model.commit(&facts);
        let sequence = Sequence(state.position as u64);
        Ok(Some(Entry {
            sequence,
            facts,
            is_own,
        }))
    }

    fn watch(&mut self, wake: Box<dyn Fn() + Send + Sync>) {
        self.log.lock().watchers.push((self.node, wake.into()));
    }

    fn recover(&mut self) -> Result<(), JournalError> {
        if *self.confirmation.lock() == Confirmation::Lacking {
            return Err(JournalError::Unavailable("told to be silent".into()));
        }
        self.check()
    }

    fn outbox(&mut self) -> Option<&mut dyn Outbox> {
        let has_one = self.kept.lock().is_some();
        has_one.then_some(self as &mut dyn Outbox)
    }

    fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(self.clone())
    }
}

impl Outbox for MemoryJournal {
    fn keep(
        &mut self,
        at: Timestamp,
        facts: &[Change],
        _is_minor: bool,
    ) -> Result<bool, JournalError> {
        self.check()?;
        let facts = facts.to_vec();
        self.kept
            .lock()
            .get_or_insert_default()
            .push(Kept { at, facts });
        Ok(true)
    }

    fn read(&mut self) -> Result<Vec<Kept>, JournalError> {
        Ok(self.kept.lock().clone().unwrap_or_default())
    }

    fn forget(&mut self, environment: EnvironmentId, contact: E164) -> Result<(), JournalError> {
        for kept in self.kept.lock().iter_mut().flatten() {
            kept.forget(environment, contact);
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), JournalError> {
        *self.kept.lock() = Some(Vec::new());
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.kept.lock().iter().flatten().next().is_none()
    }
}

impl Archive for MemoryJournal {
    fn directory(&self) -> Result<StoredDirectory, JournalError> {
        Ok(self.state.lock().model.shown.directory.clone())
    }

    fn counts(&self) -> Result<StoredCounts, JournalError> {
        Ok(self.state.lock().model.shown.counts.clone())
    }

    fn count_mark(&self) -> Result<CountMark, JournalError> {
        Ok(self.state.lock().model.shown.mark)
    }

    fn place(&self) -> Result<Option<LogPlace>, JournalError> {
        Ok(self.state.lock().model.place)
    }

    fn visit_audit(
        &self,
        before: Option<AuditId>,
        visitor: &mut dyn FnMut(AuditEntry) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let audit = self.state.lock().model.shown.audit.clone();
        let entries = audit.into_iter().rev();
        let mut shown = entries.filter(|(id, _)| before.is_none_or(|before| *id < before));
        // Whether the visitor has stopped makes no difference here.
        let _stopped = shown.try_for_each(|(_, entry)| visitor(entry));
        Ok(())
    }

    fn audit_entry(&self, id: AuditId) -> Result<Option<AuditEntry>, JournalError> {
        Ok(self.state.lock().model.shown.audit.get(&id).cloned())
    }

    fn erasure_secret(&self) -> Result<Option<ErasureSecret>, JournalError> {
        Ok(self.state.lock().model.shown.erasure_secret)
    }

    fn visit_tombstones(
        &self,
        visitor: &mut dyn FnMut(Tombstone) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let tombstones = self.state.lock().model.shown.tombstones.clone();
        let mut shown = tombstones.into_iter();
        // Whether the visitor has stopped makes no difference here.
        let _stopped = shown.try_for_each(|(hash, at)| visitor(Tombstone { hash, at }));
        Ok(())
    }

    fn kept_answer(&self, id: AnswerId) -> Result<Option<KeptAnswer>, JournalError> {
        Ok(self.state.lock().model.answers.get(&id).cloned())
    }

    fn visit_routed(
        &self,
        since: Timestamp,
        visitor: &mut dyn FnMut(RoutedEvent),
    ) -> Result<(), JournalError> {
        let events = self.state.lock().model.routed_since(since);
        events.into_iter().for_each(visitor);
        Ok(())
    }

    fn call(&self, environment: EnvironmentId, sid: &str) -> Result<Option<Call>, JournalError> {
        let state = self.state.lock();
        let calls = &state.model.shown.calls;
        Ok(calls.get(&(environment, sid.into())).cloned())
    }

    fn visit_calls(
        &self,
        environment: EnvironmentId,
        contact: E164,
        within: Range<Timestamp>,
        visitor: &mut dyn FnMut(Call),
    ) -> Result<(), JournalError> {
        let state = self.state.lock();
        let calls = state.model.shown.calls.values();
        let calls: Vec<Call> = calls
            .filter(|call| is_to(call, environment, contact) && within.contains(&call.started_at))
            .cloned()
            .collect();
        drop(state);
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
        for call in self.state.lock().model.shown.calls.values() {
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
}

/// The number of shares into which contacts can be divided.
const SHARES: u64 = 256;

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub struct StillClock(Arc<AtomicI64>);

impl StillClock {
    /// A clock at this second since 1970.
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
