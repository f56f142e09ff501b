//! The remembered calls as readers see them: the index, and what the index leaves to the store: the
//! milliseconds and call ids that settle which of two calls of one second is newer, and every contact
//! until the index is whole.
//!
//! What one more call costs does not depend on the calls that its contact has: of a contact whose calls
//! were once read from the store, the exact calls are kept and go along with what is recorded.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use ringback_index::{ContactIndex, Observed};
use ringback_routing::{
    AgentSlot, ContactUnreadable, Contacts, Direction, Directory, E164, EnvironmentId,
    EnvironmentSlot, LearnedCall, RecentCalls, RememberedCall, Timestamp,
};

use crate::journal::ALL_TIMES;
use crate::learned::{Ahead, LearnedTicket};
use crate::{Archive, Call, CallsSwept, Clock, JournalError, SystemClock};

/// The remembered calls, right from the first moment: the index where it is whole, and the store
/// behind it until then.
pub struct ContactView {
    /// The index.
    pub(crate) index: ContactIndex,
    /// Whether every stored contact is in the index.
    pub(crate) whole: AtomicBool,
    /// What was committed.
    archive: Arc<dyn Archive>,
    /// The published directory.
    directory: Arc<ArcSwap<Directory>>,
    /// Contacts forgotten while the index is loaded: what was read of them before may come late.
    forgotten: RwLock<HashSet<(EnvironmentId, E164), RandomState>>,
    /// The exact calls of contacts that were read from the store. Held while what the index has of a contact
    /// is replaced by what was read, so that who reads last also writes last.
    exact: Mutex<ExactContacts>,
    /// Learned calls that are not durable yet. Held while the index is changed by what it has or loses; locked after
    /// `exact`.
    ahead: Mutex<Ahead>,
    /// Parts of the contacts that could not be loaded, as [`Archive::visit_contacts`] takes them.
    pub(crate) unloaded: Mutex<Vec<(usize, usize)>>,
    /// Contacts that changed and could not be read back: what the index has of them is out of date.
    unreadable: Mutex<HashSet<(EnvironmentId, E164), RandomState>>,
    /// Whether there are any.
    has_unreadable: AtomicBool,
    /// When, in seconds since 1970, it was last logged that a contact could not be read.
    read_failure_told: AtomicI64,
}

impl ContactView {
    /// An empty index over this archive; `whole` if there is nothing to load. The seed is that of
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
            read_failure_told: AtomicI64::new(i64::MIN),
        }
    }

    /// How many contacts are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no contact is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Shows a call that has become durable.
    pub(crate) fn apply(&self, directory: &Directory, call: &Call) {
        let (Some(environment), Some(agent)) = (
            directory.environment_by_id(call.environment),
            directory.agent_by_id(call.agent),
        ) else {
            return;
        };
        let key = (call.environment, call.contact.subscriber());
        let mut exact = self.exact.lock();
        if let Some(calls) = exact.contacts.get_mut(&key) {
            remember(directory, calls, call.clone());
            let place = (call.environment, environment.slot);
            self.replace(directory, place, call.contact, calls);
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
        // Of equal seconds the store knows more. Of a crowded contact it knows too much, from now on: what
        // was crowded out stays forgotten, also when a place becomes free.
        match self.read_exact(directory, call.environment, call.contact) {
            Ok(mut calls) => {
                remember(directory, &mut calls, call.clone());
                let place = (call.environment, environment.slot);
                self.replace(directory, place, call.contact, &calls);
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

    /// Sets a contact's calls in the index to these, and to those shown ahead of them.
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

    /// Whether a call that is stored is not remembered, and would be if it were recorded again.
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

    /// Keeps a learned call until it is durable, and shows it where memory alone can tell its place: not while
    /// contacts are loaded, nor beside a call of the same second. `None` if it is no call of an outbound agent.
    pub(crate) fn learn(&self, directory: &Directory, call: LearnedCall) -> Option<LearnedTicket> {
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
        let exists = |source| directory.agent(source).is_some();
        let mut ahead = self.ahead.lock();
        // How a known call goes on is of the same second: the commit shows it, which has the store to look at.
        let is_shown = call.is_new && self.whole.load(Ordering::Acquire) && {
            let observed = self
                .index
                .observe_among(environment.slot, call.contact, &seen, exists);
            matches!(observed, Observed::Kept | Observed::Crowded)
        };
        Some(ahead.enter(call, is_shown))
    }

    /// A learned call that is not durable yet, and whether it is seen for the first time; `None` if its contact was
    /// forgotten meanwhile.
    pub(crate) fn learned(&self, ticket: &LearnedTicket) -> Option<(Call, bool)> {
        self.ahead.lock().find(ticket)
    }

    /// Lets go of learned calls that were recorded.
    pub(crate) fn settle(&self, tickets: &[LearnedTicket]) {
        let mut ahead = self.ahead.lock();
        for ticket in tickets {
            ahead.remove(ticket);
        }
    }

    /// Takes back a learned call that was not recorded: the contact is shown as it is stored.
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

    /// Shows that a contact was forgotten.
    pub(crate) fn forget(&self, directory: &Directory, id: EnvironmentId, contact: E164) {
        if !self.whole.load(Ordering::Acquire) {
            // From here on no loader enters what it has read before.
            self.forgotten.write().insert((id, contact.subscriber()));
        }
        let mut exact = self.exact.lock();
        exact.remove(&(id, contact.subscriber()));
        self.mark_readable(id, contact);
        let mut ahead = self.ahead.lock();
        ahead.forget(id, contact);
        if let Some(environment) = directory.environment_by_id(id) {
            self.index
                .replace(environment.slot, contact, &RecentCalls::default());
        }
    }

    /// Shows that old calls were dropped.
    pub(crate) fn sweep(&self, directory: &Directory, sweep: &CallsSwept) {
        let Some(environment) = directory.environment_by_id(sweep.environment) else {
            return;
        };
        for contact in &sweep.contacts {
            let key = (sweep.environment, contact.subscriber());
            if let Some(calls) = self.exact.lock().contacts.get_mut(&key) {
                calls.retain(|call| sweep.keeps(call.started_at));
            }
            // What is learned meanwhile is entered before the contact is read, or after it is written.
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

    /// Enters a contact that was loaded from the store, unless it was changed or forgotten meanwhile.
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
            remember(directory, &mut kept, call.clone());
        }
        // Held until the contact is entered, so that whoever forgets it does so before or after.
        let forgotten = self.forgotten.read();
        if !forgotten.contains(&(id, contact.subscriber())) {
            let recent = packed(directory, &kept);
            self.index
                .insert_if_absent(environment.slot, contact, &recent);
        }
    }

    /// Every stored contact has been entered: from now on the index alone answers.
    pub(crate) fn loaded(&self) {
        let mut forgotten = self.forgotten.write();
        self.whole.store(true, Ordering::Release);
        *forgotten = HashSet::default();
    }

    /// Whether something stored could not be read, and has not been since.
    pub(crate) fn is_damaged(&self) -> bool {
        self.has_unreadable.load(Ordering::Acquire) || !self.unloaded.lock().is_empty()
    }

    /// Tries again to read the contacts that could not be read back.
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

    /// What the index has of a contact is up to date.
    fn mark_readable(&self, id: EnvironmentId, contact: E164) {
        if self.has_unreadable.load(Ordering::Acquire) {
            let mut unreadable = self.unreadable.lock();
            unreadable.remove(&(id, contact.subscriber()));
            self.has_unreadable
                .store(!unreadable.is_empty(), Ordering::Release);
        }
    }

    /// Whether what the index has of a contact is known to be out of date.
    fn is_unreadable(&self, id: EnvironmentId, contact: E164) -> bool {
        self.has_unreadable.load(Ordering::Acquire)
            && self.unreadable.lock().contains(&(id, contact.subscriber()))
    }

    /// Logs that a contact could not be read, once a minute: every call of it would.
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

    /// The calls by which a contact is decided, newest first: as they are stored, and those that are not yet.
    pub(crate) fn exact(
        &self,
        directory: &Directory,
        id: EnvironmentId,
        contact: E164,
    ) -> Result<Vec<Call>, JournalError> {
        // Before the store is read: what is let go of later is stored by then.
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

    /// The stored calls of a contact: only those of the seconds that the index has, if it can tell.
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
                // Newest first: those of one second stand one behind the other.
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
            // A call that is not durable yet stands in the place of one that is.
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
    fn warm(&self, contacts: &[(EnvironmentSlot, E164)]) {
        self.index.warm(contacts.iter().copied());
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

/// The exact calls of some contacts: those that were last read from the store.
#[derive(Debug, Default)]
struct ExactContacts {
    /// Their calls, newest first: what the index has, with milliseconds and call ids.
    contacts: HashMap<(EnvironmentId, E164), Vec<Call>, RandomState>,
    /// The contacts in the order in which they were read.
    order: VecDeque<(EnvironmentId, E164)>,
}

impl ExactContacts {
    /// Enters a contact; where there are too many, the one that was read first goes.
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

/// Adds a call to a contact's calls, of which those count that the rules name: of agents that exist the
/// newest of each line, the newest four lines, newest first. Calls may come in any order and more than once.
fn remember(directory: &Directory, calls: &mut Vec<Call>, call: Call) {
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

/// The same calls as the index keeps them.
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

/// Calls are as new as their start; of equal starts the greater call id is newer.
fn age_order(call: &Call) -> (Timestamp, &[u8]) {
    (call.started_at, call.sid.as_bytes())
}

/// How often it is logged at most that a contact cannot be read, in seconds.
const TOLD_EVERY_SECONDS: i64 = 60;

/// Of how many contacts the exact calls are kept.
const EXACT_CONTACTS: usize = 16_384;
