//! The remembered calls as readers see them: the index, and the store for what the index lacks. The index lacks
//! the milliseconds and call ids that decide which of two calls in one second is newer, and, until it is loaded,
//! some contacts.
//!
//! The cost of one more call does not depend on how many calls its contact has: once the calls of a contact were
//! read from the store, they are kept here exactly, and updated with each recorded call.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard, RwLock};
use ringback_index::{ContactIndex, Observed};
use ringback_routing::{
    AgentSlot, ContactUnreadable, Contacts, Direction, Directory, E164, EnvironmentId,
    EnvironmentSlot, LearnedCall, RecentCalls, RememberedCall, Timestamp,
};

use crate::journal::ALL_TIMES;
use crate::learned::{Ahead, LearnedTicket};
use crate::{Archive, Call, CallsSwept, Clock, JournalError, SystemClock};

/// The remembered calls, correct from the first moment: from the index, and until it is loaded from the store
/// too.
pub struct ContactView {
    /// The index.
    pub(crate) index: ContactIndex,
    /// Whether every stored contact is in the index.
    pub(crate) whole: AtomicBool,
    /// The committed data.
    archive: Arc<dyn Archive>,
    /// The directory that readers see.
    directory: Arc<ArcSwap<Directory>>,
    /// Contacts forgotten while the index is being loaded: a loader may have read their calls before.
    forgotten: RwLock<HashSet<(EnvironmentId, E164), RandomState>>,
    /// The exact calls of contacts that were read from the store. Its lock is held while the index gets what was
    /// read, so that the latest read is also the last write.
    exact: Mutex<ExactContacts>,
    /// Learned calls that are not durable yet. Its lock is held while the index changes because of them. Lock it
    /// after `exact`.
    ahead: Mutex<Ahead>,
    /// Parts of the contacts that could not be loaded, in the form that [`Archive::visit_contacts`] takes.
    pub(crate) unloaded: Mutex<Vec<(usize, usize)>>,
    /// Contacts that changed and could not be read back: their entry in the index is out of date.
    unreadable: Mutex<HashSet<(EnvironmentId, E164), RandomState>>,
    /// Whether `unreadable` holds any.
    has_unreadable: AtomicBool,
    /// Contacts, by their subscribers, of which a call was written in their other spelling: few. Some of these calls may
    /// be gone.
    respelled: RwLock<HashSet<(EnvironmentId, E164), RandomState>>,
    /// When a failure to read a contact was last logged, in seconds since 1970.
    read_failure_told: AtomicI64,
}

impl ContactView {
    /// An empty index over this archive; set `whole` if there is nothing to load. For the seed see
    /// [`ContactIndex::new`].
    pub(crate) fn new(
        seed: u64,
        archive: Arc<dyn Archive>,
        directory: Arc<ArcSwap<Directory>>,
        whole: bool,
    ) -> Self {
        Self {
            index: ContactIndex::new(seed),
            whole: AtomicBool::new(whole),
            archive,
            directory,
            forgotten: RwLock::default(),
            exact: Mutex::default(),
            ahead: Mutex::default(),
            unloaded: Mutex::default(),
            unreadable: Mutex::default(),
            has_unreadable: AtomicBool::new(false),
            respelled: RwLock::default(),
            read_failure_told: AtomicI64::new(i64::MIN),
        }
    }

    /// How many contacts are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The agents that called since then, each with every number that it called from; see [`ContactIndex::dialed_from`].
    pub fn dialed_from(&self, since: Timestamp) -> impl Iterator<Item = (AgentSlot, E164)> {
        self.index.dialed_from(since)
    }

    /// Whether no contact is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Makes a call visible that has become durable.
    pub(crate) fn apply(&self, directory: &Directory, call: &Call) {
        let (Some(environment), Some(agent)) = (
            directory.environment_by_id(call.environment),
            directory.agent_by_id(call.agent),
        ) else {
            return;
        };
        let key = (call.environment, call.contact.subscriber());
        self.note_spelling(call.environment, call.contact);
        let mut exact = self.exact.lock();
        if let Some(calls) = exact.contacts.get_mut(&key) {
            remember(directory, calls, call.clone());
            let ids = (call.environment, environment.slot);
            self.replace(directory, ids, call.contact, calls);
            return;
        }
        if self.whole.load(Ordering::Acquire) {
            let seen = RememberedCall {
                source: agent.slot,
                from: call.from,
                started_at: call.started_at,
                status: call.status,
            };
            let exists = |source| directory.agent(source).is_some();
            let observed = self
                .index
                .observe_among(environment.slot, call.contact, &seen, exists);
            if matches!(observed, Observed::Kept | Observed::Ignored) {
                return;
            }
        }
        // Only the store can order calls of one second. For a crowded contact the store has too many calls, so
        // keep its exact calls from now on: a call that was crowded out stays forgotten, even if an entry becomes
        // free.
        match self.read_exact(directory, call.environment, call.contact) {
            Ok(mut calls) => {
                remember(directory, &mut calls, call.clone());
                let ids = (call.environment, environment.slot);
                self.replace(directory, ids, call.contact, &calls);
                exact.enter(key, calls);
                self.mark_readable(call.environment, call.contact);
            }
            Err(error) => {
                let mut unreadable = self.unreadable.lock();
                unreadable.insert(key);
                self.has_unreadable.store(true, Ordering::Release);
                drop(unreadable);
                self.tell_read_failure(&error);
            }
        }
    }

    /// Sets a contact's calls in the index: these, and the learned calls that the index shows.
    fn replace(
        &self,
        directory: &Directory,
        (id, environment): (EnvironmentId, EnvironmentSlot),
        contact: E164,
        calls: &[Call],
    ) {
        let mut calls = calls.to_vec();
        let ahead = self.ahead.lock();
        for call in ahead.shown(id, contact) {
            remember(directory, &mut calls, call.clone());
        }
        self.index
            .replace(environment, contact, &packed(directory, &calls));
    }

    /// Whether a stored call is not remembered, and would be if it were recorded again.
    pub(crate) fn misses(&self, directory: &Directory, call: &Call) -> bool {
        let (Some(environment), Some(agent)) = (
            directory.environment_by_id(call.environment),
            directory.agent_by_id(call.agent),
        ) else {
            return false;
        };
        if !self.whole.load(Ordering::Acquire) {
            return false;
        }
        let recent = self.index.calls(environment.slot, call.contact);
        let known = || {
            let calls = recent.iter();
            calls.filter(move |known| directory.agent(known.source).is_some())
        };
        let second = call.started_at.seconds();
        if let Some(known) = known().find(|known| {
            (known.source, known.from) == (agent.slot, call.from.map(E164::subscriber))
        }) {
            return known.started_at.seconds() < second;
        }
        known().count() < RecentCalls::LIMIT
            || known().any(|known| known.started_at.seconds() < second)
    }

    /// Keeps a learned call until it is durable. Shows it at once if memory alone can order it: not while
    /// contacts are loaded, and not beside a call of the same second. `None` if the agent is unknown or not
    /// outbound.
    pub(crate) fn learn(&self, directory: &Directory, call: LearnedCall) -> Option<LearnedTicket> {
        self.learn_or_not(directory, call, false)
    }

    /// The same for a call that an earlier run has learned, and the outbox has.
    pub(crate) fn learn_again(
        &self,
        directory: &Directory,
        call: LearnedCall,
    ) -> Option<LearnedTicket> {
        self.learn_or_not(directory, call, true)
    }

    /// Learned calls that are not durable yet, to be kept in the outbox.
    pub(crate) fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock()
    }

    /// Keeps a learned call, which the outbox has or has not.
    fn learn_or_not(
        &self,
        directory: &Directory,
        call: LearnedCall,
        is_saved: bool,
    ) -> Option<LearnedTicket> {
        let environment = directory.environment_by_id(call.environment)?;
        let agent = directory.agent_of(call.environment, call.agent)?;
        if agent.record.direction != Direction::Outbound {
            return None;
        }
        let seen = RememberedCall {
            source: agent.slot,
            from: call.from,
            started_at: call.started_at,
            status: call.status,
        };
        self.note_spelling(call.environment, call.contact);
        let mut ahead = self.ahead.lock();
        // A later status of a known call has the same second: the commit shows it, because it can read the store.
        let is_shown = call.is_new
            && self.whole.load(Ordering::Acquire)
            && self.show_ahead(directory, environment.slot, call.contact, &seen);
        Some(ahead.enter(call, is_shown, is_saved))
    }

    /// A learned call that is not durable yet, and whether it is its first message; `None` if its contact was
    /// forgotten meanwhile.
    pub(crate) fn learned(&self, ticket: &LearnedTicket) -> Option<(Call, bool)> {
        self.ahead.lock().find(ticket)
    }

    /// Drops learned calls that were recorded.
    pub(crate) fn settle(&self, tickets: &[LearnedTicket]) {
        let mut ahead = self.ahead.lock();
        for ticket in tickets {
            ahead.remove(ticket);
        }
    }

    /// Removes a learned call that was not recorded: the contact is shown as it is stored.
    pub(crate) fn withdraw(&self, directory: &Directory, ticket: &LearnedTicket) {
        let (id, contact) = ticket.contact();
        let was_shown = self.ahead.lock().remove(ticket);
        let Some(environment) = directory.environment_by_id(id).filter(|_| was_shown) else {
            return;
        };
        let mut exact = self.exact.lock();
        match self.read_exact(directory, id, contact) {
            Ok(calls) => {
                self.replace(directory, (id, environment.slot), contact, &calls);
                exact.enter((id, contact.subscriber()), calls);
            }
            Err(error) => self.tell_read_failure(&error),
        }
    }

    /// Makes visible that a contact was forgotten.
    pub(crate) fn forget(&self, directory: &Directory, id: EnvironmentId, contact: E164) {
        if !self.whole.load(Ordering::Acquire) {
            // From here on no loader enters calls that it has read before.
            self.forgotten.write().insert((id, contact.subscriber()));
        }
        let mut exact = self.exact.lock();
        exact.remove(&(id, contact.subscriber()));
        self.respelled.write().remove(&(id, contact.subscriber()));
        self.mark_readable(id, contact);
        let mut ahead = self.ahead.lock();
        ahead.forget(id, contact);
        if let Some(environment) = directory.environment_by_id(id) {
            self.index
                .replace(environment.slot, contact, &RecentCalls::default());
        }
    }

    /// Makes visible that old calls were dropped.
    pub(crate) fn sweep(&self, directory: &Directory, sweep: &CallsSwept) {
        let Some(environment) = directory.environment_by_id(sweep.environment) else {
            return;
        };
        for contact in &sweep.contacts {
            let key = (sweep.environment, contact.subscriber());
            if let Some(calls) = self.exact.lock().contacts.get_mut(&key) {
                calls.retain(|call| sweep.keeps(call.started_at));
            }
            // With the lock held, a call is learned before the contact is read here, or after it is written.
            let _ahead = self.ahead.lock();
            let calls = self.index.calls(environment.slot, *contact);
            let is_kept = |call: &&RememberedCall| {
                sweep.keeps(call.started_at) && directory.agent(call.source).is_some()
            };
            let kept: RecentCalls = calls.iter().filter(is_kept).cloned().collect();
            if kept.iter().count() < calls.iter().count() {
                self.index.replace(environment.slot, *contact, &kept);
            }
        }
    }

    /// Enters a contact loaded from the store, unless it was changed or forgotten meanwhile.
    pub(crate) fn enter_loaded(
        &self,
        directory: &Directory,
        id: EnvironmentId,
        contact: E164,
        calls: &[Call],
    ) {
        let Some(environment) = directory.environment_by_id(id) else {
            return;
        };
        let mut kept = Vec::new();
        for call in calls {
            self.note_spelling(id, call.contact);
            remember(directory, &mut kept, call.clone());
        }
        // Held until the contact is entered: an erasure comes before or after, not in between.
        let forgotten = self.forgotten.read();
        if !forgotten.contains(&(id, contact.subscriber())) {
            let recent = packed(directory, &kept);
            self.index
                .insert_if_absent(environment.slot, contact, &recent);
        }
    }

    /// Notes that every stored contact is in the index: from now on the index alone answers.
    pub(crate) fn loaded(&self) {
        let mut forgotten = self.forgotten.write();
        self.whole.store(true, Ordering::Release);
        *forgotten = HashSet::default();
        drop(forgotten);
        let directory = self.directory.load();
        let mut ahead = self.ahead.lock();
        ahead.show_hidden(|call| {
            let (Some(environment), Some(agent)) = (
                directory.environment_by_id(call.environment),
                directory.agent_of(call.environment, call.agent),
            ) else {
                return false;
            };
            let seen = RememberedCall {
                source: agent.slot,
                from: call.from,
                started_at: call.started_at,
                status: call.status,
            };
            self.show_ahead(&directory, environment.slot, call.contact, &seen)
        });
    }

    /// Shows a learned call that is not durable yet; false if only the store can order it.
    fn show_ahead(
        &self,
        directory: &Directory,
        environment: EnvironmentSlot,
        contact: E164,
        seen: &RememberedCall,
    ) -> bool {
        let exists = |source| directory.agent(source).is_some();
        let observed = self.index.observe_among(environment, contact, seen, exists);
        matches!(observed, Observed::Kept | Observed::Crowded)
    }

    /// Notes that a contact may be shown by this spelling.
    fn note_spelling(&self, id: EnvironmentId, contact: E164) {
        let subscriber = contact.subscriber();
        if subscriber != contact {
            self.respelled.write().insert((id, subscriber));
        }
    }

    /// The spellings that a contact may be shown by: the first call that counts decides.
    pub(crate) fn spellings(
        &self,
        id: EnvironmentId,
        subscriber: E164,
    ) -> impl Iterator<Item = E164> + use<> {
        let other = subscriber
            .respelled()
            .filter(|_| self.respelled.read().contains(&(id, subscriber)));
        std::iter::once(subscriber).chain(other)
    }

    /// Whether the index alone tells which contacts are stored, and when they were called.
    pub(crate) fn is_complete(&self) -> bool {
        self.whole.load(Ordering::Acquire) && !self.is_damaged()
    }

    /// Whether stored data could not be read, and still cannot.
    pub(crate) fn is_damaged(&self) -> bool {
        self.has_unreadable.load(Ordering::Acquire) || !self.unloaded.lock().is_empty()
    }

    /// Reads the contacts again that could not be read back.
    pub(crate) fn reread(&self, directory: &Directory) {
        if !self.has_unreadable.load(Ordering::Acquire) {
            return;
        }
        let unreadable: Vec<_> = self.unreadable.lock().iter().copied().collect();
        for (id, contact) in unreadable {
            let mut exact = self.exact.lock();
            match self.read_exact(directory, id, contact) {
                Ok(calls) => {
                    if let Some(environment) = directory.environment_by_id(id) {
                        self.replace(directory, (id, environment.slot), contact, &calls);
                        exact.enter((id, contact.subscriber()), calls);
                    }
                    self.mark_readable(id, contact);
                }
                Err(error) => self.tell_read_failure(&error),
            }
        }
    }

    /// Notes that the index is up to date for a contact.
    fn mark_readable(&self, id: EnvironmentId, contact: E164) {
        if self.has_unreadable.load(Ordering::Acquire) {
            let mut unreadable = self.unreadable.lock();
            unreadable.remove(&(id, contact.subscriber()));
            self.has_unreadable
                .store(!unreadable.is_empty(), Ordering::Release);
        }
    }

    /// Whether the index is known to be out of date for a contact.
    fn is_unreadable(&self, id: EnvironmentId, contact: E164) -> bool {
        self.has_unreadable.load(Ordering::Acquire)
            && self.unreadable.lock().contains(&(id, contact.subscriber()))
    }

    /// Logs that a contact could not be read, at most once a minute: each of its calls would log it.
    fn tell_read_failure(&self, error: &JournalError) {
        let now = SystemClock.now().seconds();
        let told = self.read_failure_told.load(Ordering::Relaxed);
        if now.saturating_sub(told) >= TOLD_EVERY_SECONDS
            && self
                .read_failure_told
                .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::error!(%error, "a contact could not be read; its calls are answered with 503");
        }
    }

    /// The calls that decide for a contact, newest first: the stored ones, and learned ones that are not stored
    /// yet.
    pub(crate) fn exact(
        &self,
        directory: &Directory,
        id: EnvironmentId,
        contact: E164,
    ) -> Result<Vec<Call>, JournalError> {
        // Read these before the store: a call that is dropped here later is in the store by then.
        let shown: Vec<Call> = self.ahead.lock().shown(id, contact).cloned().collect();
        let known = self
            .exact
            .lock()
            .contacts
            .get(&(id, contact.subscriber()))
            .cloned();
        let mut calls = match known {
            Some(calls) => calls,
            None => self.read_exact(directory, id, contact)?,
        };
        calls.retain(|call| directory.agent_of(id, call.agent).is_some());
        for call in shown {
            remember(directory, &mut calls, call);
        }
        Ok(calls)
    }

    /// The stored calls of a contact: only those in the seconds that the index has, if that is enough.
    fn read_exact(
        &self,
        directory: &Directory,
        id: EnvironmentId,
        contact: E164,
    ) -> Result<Vec<Call>, JournalError> {
        let mut kept = Vec::new();
        if self.whole.load(Ordering::Acquire) && !self.is_unreadable(id, contact) {
            let Some(environment) = directory.environment_by_id(id) else {
                return Ok(kept);
            };
            let recent = self.index.calls(environment.slot, contact);
            let of_agent = |call: &&RememberedCall| directory.agent(call.source).is_some();
            let wanted: Vec<&RememberedCall> = recent.iter().filter(of_agent).collect();
            let mut read = None;
            for call in &wanted {
                let second = call.started_at.seconds();
                // Calls are newest first, so those of one second are adjacent.
                if read.replace(second) == Some(second) {
                    continue;
                }
                let within = Timestamp::from_seconds(second)..Timestamp::from_seconds(second + 1);
                self.archive
                    .visit_calls(id, contact, within, &mut |stored| {
                        if wanted.iter().any(|call| {
                            call.from == stored.from.map(E164::subscriber)
                                && call.started_at.seconds() == second
                                && directory.identity(call.source) == Some((id, stored.agent))
                        }) {
                            remember(directory, &mut kept, stored);
                        }
                    })?;
            }
            if kept.len() == wanted.len() {
                return Ok(kept);
            }
            // A call that is not durable yet has displaced a stored one.
            kept.clear();
        }
        self.archive
            .visit_calls(id, contact, ALL_TIMES, &mut |stored| {
                remember(directory, &mut kept, stored);
            })?;
        Ok(kept)
    }
}

impl Contacts for ContactView {
    fn prefetch(&self, environment: EnvironmentSlot, contact: E164) {
        self.index.prefetch([(environment, contact)]);
    }

    fn likely_source(&self, environment: EnvironmentSlot, contact: E164) -> Option<AgentSlot> {
        self.index.likely_source(environment, contact)
    }

    fn calls(
        &self,
        environment: EnvironmentSlot,
        contact: E164,
    ) -> Result<RecentCalls, ContactUnreadable> {
        let calls = self.index.calls(environment, contact);
        let is_known = !calls.is_empty() || self.whole.load(Ordering::Acquire);
        if is_known && !self.has_unreadable.load(Ordering::Acquire) {
            return Ok(calls);
        }
        let directory = self.directory.load();
        let Some(environment) = directory.environment(environment) else {
            return Ok(calls);
        };
        let id = environment.record.id;
        if is_known && !self.is_unreadable(id, contact) {
            return Ok(calls);
        }
        match self.read_exact(&directory, id, contact) {
            Ok(calls) => Ok(packed(&directory, &calls)),
            Err(error) => {
                self.tell_read_failure(&error);
                Err(ContactUnreadable)
            }
        }
    }
}

/// The exact calls of the contacts that were last read from the store.
#[derive(Debug, Default)]
struct ExactContacts {
    /// Their calls, newest first: the calls in the index, with milliseconds and call ids.
    contacts: HashMap<(EnvironmentId, E164), Vec<Call>, RandomState>,
    /// The contacts in the order in which they were read.
    order: VecDeque<(EnvironmentId, E164)>,
}

impl ExactContacts {
    /// Adds a contact; at the limit, the contact that was read first is dropped.
    fn enter(&mut self, key: (EnvironmentId, E164), calls: Vec<Call>) {
        if self.contacts.insert(key, calls).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > EXACT_CONTACTS
            && let Some(first) = self.order.pop_front()
        {
            self.contacts.remove(&first);
        }
    }

    /// Removes a contact.
    fn remove(&mut self, key: &(EnvironmentId, E164)) {
        if self.contacts.remove(key).is_some() {
            self.order.retain(|other| other != key);
        }
    }
}

/// Adds a call to a contact's calls and keeps those that count: of agents that exist, the newest of each line,
/// the newest four lines, newest first. Calls may come in any order and more than once.
pub(crate) fn remember(directory: &Directory, calls: &mut Vec<Call>, call: Call) {
    let exists = |call: &Call| directory.agent_of(call.environment, call.agent).is_some();
    calls.retain(exists);
    if !exists(&call) {
        return;
    }
    let line = |call: &Call| (call.agent, call.from.map(E164::subscriber));
    match calls.iter_mut().find(|known| line(known) == line(&call)) {
        Some(known) if known.sid == call.sid => known.status = known.status.max(call.status),
        Some(known) if age_order(known) < age_order(&call) => *known = call,
        Some(_) => {}
        None => calls.push(call),
    }
    calls.sort_by(|left, right| age_order(right).cmp(&age_order(left)));
    calls.truncate(RecentCalls::LIMIT);
}

/// The calls in the form of the index.
fn packed(directory: &Directory, calls: &[Call]) -> RecentCalls {
    calls
        .iter()
        .filter_map(|call| {
            Some(RememberedCall {
                source: directory.agent_by_id(call.agent)?.slot,
                from: call.from.map(E164::subscriber),
                started_at: Timestamp::from_seconds(call.started_at.seconds()),
                status: call.status,
            })
        })
        .collect()
}

/// Sort key: a later start is newer, and of equal starts the greater call id.
fn age_order(call: &Call) -> (Timestamp, &[u8]) {
    (call.started_at, call.sid.as_bytes())
}

/// The shortest time between two log lines about unreadable contacts, in seconds.
const TOLD_EVERY_SECONDS: i64 = 60;

/// The number of contacts whose exact calls are kept.
const EXACT_CONTACTS: usize = 16_384;
