//! The engine: the state for readers, and the entry for commands.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ringback_routing::{
    AgentId, CallVia, Caller, ContactUnreadable, Decision, Directory, E164, EnvironmentId,
    ForwardedCall, LearnedCall, RecentCalls, Timestamp, TokenHash,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::command::{Incoming, decide_from_memory};
use crate::command::{RecordLearned, is_opted_out};
use crate::contact_view::{ContactView, remember};
use crate::job::{Job, Submitted};
use crate::observed::{Arrival, Observed, Route, count_kind};
use crate::session::{Session, Sessions};
use crate::shared::{ROUTED_KNOWN_MILLIS, Shared};
use crate::writer::Writer;
use crate::{
    AnswerId, AnsweredCall, AuditEntry, AuditId, BackupError, Call, CallbackStatistics, Clock,
    Command, CommandError, DecisionRecord, ErasureSecret, Journal, JournalError, KeptAnswer,
    LearnedRecorded, LearnedTicket, NewCall, RoutedDecision, Sequence, SubmitError, Tombstone,
    hash_sid, housekeeping,
};

/// The engine's handle; clones share one engine.
#[derive(Clone)]
pub struct Engine {
    /// What the engine's threads share.
    shared: Arc<Shared>,
    /// Passes commands to the writer.
    jobs: mpsc::Sender<Job>,
    /// The writer's thread and the housekeeping threads.
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// Calls that an earlier run had learned and not recorded.
    learned: Arc<Mutex<Vec<LearnedTicket>>>,
}

/// What waits for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingForLog {
    /// Calls that were learned or routed, and answers.
    pub calls: u64,
    /// How many learned calls have had no room in the outbox since the start: a crash loses them.
    pub dropped: u64,
}

/// The condition of storage and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether the last commit succeeded, so that writes are accepted.
    pub storage_available: bool,
    /// Whether every stored contact is in memory; until then the store is read for missing ones.
    pub index_whole: bool,
    /// Whether stored data is damaged, or cannot be read at present: a contact that is not in memory may get no
    /// answer.
    pub index_damaged: bool,
    /// The number of damaged positions known in storage.
    pub damaged_places: u64,
}

/// What an engine keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineSettings {
    /// For how many days audit entries are kept. Default 400.
    pub audit_days: u32,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { audit_days: 400 }
    }
}

/// The result of a command that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    /// The result.
    pub output: T,
    /// An entry of the log up to which the state contains what the command has changed.
    pub sequence: Sequence,
}

/// A contact of a list.
#[derive(Clone, Copy, Debug)]
pub enum Listed<'c, K> {
    /// Its key, which is not before that of the contact shown before, and its calls.
    Contact(K, &'c [Call]),
    /// The calls of any contact. All contacts follow, in no order: perhaps some that were shown before.
    Unordered(&'c [Call]),
}

/// Offers the keys by which a subscriber with these calls is listed.
type ListedKeys<'k, K> = dyn Fn(E164, &Directory, &RecentCalls, &mut dyn FnMut(K)) + 'k;

/// Why an engine did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The stored state cannot be read.
    #[error("stored state cannot be read")]
    Journal(#[from] JournalError),
    /// A thread could not be started.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
}

impl Engine {
    /// Reads the stored state and starts the writer. Contacts are loaded in the background; until then the store
    /// is read for missing ones, so that the first decision is already correct.
    ///
    /// # Errors
    /// Stored state cannot be read, or a thread cannot be started.
    pub fn open(journal: impl Journal, clock: impl Clock) -> Result<Self, OpenError> {
        Self::open_with(journal, clock, EngineSettings::default())
    }

    /// The same with settings.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn open_with(
        mut journal: impl Journal,
        clock: impl Clock,
        settings: EngineSettings,
    ) -> Result<Self, OpenError> {
        let archive = journal.archive();
        let stored = archive.directory()?;
        // Without an environment there is no contact to load.
        let whole = stored.environments.is_empty();
        let mut directory = Directory::load(
            random_seed(),
            stored.environments,
            stored.agents,
            stored.numbers,
            stored.assignments,
            stored.tokens,
        );
        if let Some(secret) = archive.erasure_secret()? {
            directory.set_contact_key(secret.contact_key());
        }
        for connector in stored.connectors {
            directory.put_connector(connector);
        }
        for (contact, rights) in stored.contact_rights {
            directory.put_contact_rights(contact, rights);
        }
        let day_ago = clock.now().plus_millis(-ROUTED_KNOWN_MILLIS);
        let observed = Observed::load(&*archive, stored.departed, day_ago, &directory)?;
        let directory = Arc::new(ArcSwap::from_pointee(directory));
        let shared = Arc::new(Shared {
            contacts: ContactView::new(
                random_seed(),
                Arc::clone(&archive),
                Arc::clone(&directory),
                whole,
            ),
            directory,
            archive,
            observed,
            applied: watch::Sender::new(journal.position()),
            outbox_dropped: AtomicU64::new(0),
            sessions: Sessions::load(stored.sessions),
            storage_available: AtomicBool::new(true),
            refused_learned: AtomicU64::new(0),
            audit_days: settings.audit_days,
            stopping: AtomicBool::new(false),
            clock: Box::new(clock),
        });
        let (jobs, queue) = mpsc::channel(JOBS_QUEUED);
        let followed = jobs.downgrade();
        journal.watch(Box::new(move || {
            // If the queue is full, the writer will read the log soon anyway.
            if let Some(jobs) = followed.upgrade() {
                let _full = jobs.try_send(Job::Follow);
            }
        }));
        let mut writer = Writer::new(Arc::clone(&shared), Box::new(journal));
        // Apply what the log has beyond the archive.
        writer.follow()?;
        let learned = writer.restore()?;
        let mut threads = vec![
            spawn("writer", move || writer.run(queue))?,
            spawn("ticker", {
                let (shared, jobs) = (Arc::clone(&shared), jobs.clone());
                // Not when the thread gets the processor: the clock may be elsewhere by then.
                let opened = shared.clock.now();
                move || housekeeping::tick(&shared, &jobs, opened)
            })?,
        ];
        if !whole {
            threads.push(spawn("loader", {
                let shared = Arc::clone(&shared);
                move || housekeeping::load(&shared)
            })?);
        }
        Ok(Self {
            shared,
            jobs,
            threads: Arc::new(Mutex::new(threads)),
            learned: Arc::new(Mutex::new(learned)),
        })
    }

    /// Calls that an earlier run had learned and not recorded: they are known, and are to be recorded. Returns them
    /// once.
    #[must_use = "a call that is never recorded is kept in memory for good"]
    pub fn take_learned_before(&self) -> Vec<LearnedTicket> {
        std::mem::take(&mut *self.learned.lock())
    }

    /// What waits for the log.
    #[must_use]
    pub fn waiting(&self) -> WaitingForLog {
        let (learned, _) = self.shared.contacts.ahead().counts();
        WaitingForLog {
            calls: (learned + self.shared.observed.pending()) as u64,
            dropped: self.shared.outbox_dropped.load(Ordering::Relaxed),
        }
    }

    /// Runs a command in the writer; returns when its changes are durable and visible.
    ///
    /// # Errors
    /// The command is against the rules, or storage accepts no writes.
    pub async fn submit<C: Command>(&self, command: C) -> Result<C::Output, SubmitError> {
        Ok(self.submit_at(command).await?.output)
    }

    /// The same; also tells where it is in the log.
    ///
    /// # Errors
    /// The command is against the rules, or storage accepts no writes.
    pub async fn submit_at<C: Command>(
        &self,
        command: C,
    ) -> Result<Committed<C::Output>, SubmitError> {
        self.enqueue(command).await?.await
    }

    /// Passes a command to the writer. The returned future waits for the result, as [`Self::submit`] does, and also
    /// tells where it is in the log.
    /// Commands run in the order in which they were passed.
    ///
    /// # Errors
    /// The engine has been shut down.
    pub async fn enqueue<C: Command>(
        &self,
        command: C,
    ) -> Result<impl Future<Output = Result<Committed<C::Output>, SubmitError>> + use<C>, SubmitError>
    {
        let (reply, answer) = oneshot::channel();
        let job = Job::Run(Box::new(Submitted::new(command, reply)));
        self.jobs
            .send(job)
            .await
            .map_err(|_| SubmitError::ShuttingDown)?;
        Ok(async move { answer.await.unwrap_or(Err(SubmitError::ShuttingDown)) })
    }

    /// The last entry of the log that readers of this node see.
    #[must_use]
    pub fn applied(&self) -> Sequence {
        *self.shared.applied.borrow()
    }

    /// Waits until readers of this node see this entry of the log.
    pub async fn wait_until_applied(&self, sequence: Sequence) {
        let mut applied = self.shared.applied.subscribe();
        // The sender is there as long as this engine is.
        let _never_closed = applied.wait_for(|applied| *applied >= sequence).await;
    }

    /// The first answer to the request with this name, if one is kept; reads the store.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    pub fn kept_answer(&self, id: AnswerId) -> Result<Option<KeptAnswer>, JournalError> {
        self.shared.kept_answer(id, self.now())
    }

    /// The current directory.
    #[must_use]
    pub fn directory(&self) -> arc_swap::Guard<Arc<Directory>> {
        self.shared.directory.load()
    }

    /// The remembered calls.
    #[must_use]
    pub fn contacts(&self) -> &ContactView {
        &self.shared.contacts
    }

    /// What is remembered of a contact, newest first.
    ///
    /// # Errors
    /// Storage cannot be read.
    pub async fn calls_to(
        &self,
        environment: EnvironmentId,
        contact: E164,
    ) -> Result<Vec<Call>, SubmitError> {
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || {
            let directory = shared.directory.load();
            shared.contacts.exact(&directory, environment, contact)
        });
        match read.await {
            Ok(Ok(calls)) => Ok(calls),
            Ok(Err(error)) => {
                tracing::error!(%error, "a contact could not be read");
                Err(SubmitError::StorageUnavailable)
            }
            Err(_) => Err(SubmitError::ShuttingDown),
        }
    }

    /// Every call to a contact that is stored, newest first, whether it decides or not. Reads the store, and blocks.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    pub fn all_calls_to(
        &self,
        environment: EnvironmentId,
        contact: E164,
    ) -> Result<Vec<Call>, JournalError> {
        let directory = self.shared.directory.load();
        let mut calls = self.shared.archive.calls_to(environment, contact)?;
        calls.retain(|call| directory.agent_of(environment, call.agent).is_some());
        calls.sort_by(|left, right| {
            let newest = right.started_at.cmp(&left.started_at);
            newest.then_with(|| right.sid.cmp(&left.sid))
        });
        Ok(calls)
    }

    /// The recorded call that a decision matched; reads the store.
    ///
    /// # Errors
    /// Storage cannot be read.
    pub fn matched_call(
        &self,
        decision: &Decision<'_>,
        caller: Caller,
    ) -> Result<Option<Call>, SubmitError> {
        self.shared
            .matched_call(decision, caller)
            .map_err(|_| SubmitError::StorageUnavailable)
    }

    /// Decides about a call by dialed number and caller without storage, and counts nothing. The call that is
    /// returned is left out.
    ///
    /// # Errors
    /// What is remembered of the caller is not in memory, and cannot be read.
    pub fn decide_from_memory(
        &self,
        environment: EnvironmentId,
        dialed: Option<E164>,
        caller: Caller,
        is_verified: bool,
    ) -> Result<RoutedDecision, ContactUnreadable> {
        let directory = self.shared.directory.load();
        let contacts = &self.shared.contacts;
        let incoming = Incoming {
            dialed,
            caller,
            is_verified,
        };
        decide_from_memory(environment, incoming, self.now(), &directory, contacts)
    }

    /// The latest decision on a call that was asked about over HTTP within the last day.
    #[must_use]
    pub fn routed_decision(
        &self,
        environment: EnvironmentId,
        sid: &str,
    ) -> Option<Arc<RoutedDecision>> {
        let sid_hash = hash_sid(environment, sid.as_bytes());
        let known_since = self.now().plus_millis(-ROUTED_KNOWN_MILLIS);
        let known = self.shared.observed.routed_before(sid_hash, known_since);
        known.flatten()
    }

    /// Counts and logs a decision on a SIP call. Never blocks; durable within a second.
    pub fn decided_over_sip(
        &self,
        via: CallVia,
        decision: &Decision<'_>,
        dialed: Option<E164>,
        caller: Caller,
        call_id: &[u8],
        at: Timestamp,
    ) {
        let Some(environment) = decision.environment else {
            return;
        };
        let id = environment.record.id;
        self.shared.observed.arrived(Arrival {
            sid_hash: hash_sid(id, call_id),
            second: u32::try_from(at.seconds()).unwrap_or(u32::MAX),
            route: Route {
                environment: environment.slot,
                kind: count_kind(decision),
                agent: decision.agent.map(|agent| agent.slot),
                source: decision.source_agent.map(|agent| agent.slot),
            },
        });
        self.shared
            .observed
            .decided_over_sip(environment, |record| {
                record.fill(at, via, dialed, caller, decision, call_id);
            });
    }

    /// Adds to a decision on a SIP call what became of the call, or puts it in the place of what was known; `at` is
    /// when it was decided. False if the decision is not among the latest.
    pub fn forwarded_over_sip(
        &self,
        environment: EnvironmentId,
        call_id: &[u8],
        at: Timestamp,
        call: &ForwardedCall,
    ) -> bool {
        let directory = self.shared.directory.load();
        self.shared
            .observed
            .forwarded_over_sip(&directory, environment, call_id, at, call)
    }

    /// Makes an outbound call visible that was seen on the wire, so that the very next decision and reader know
    /// it.
    ///
    /// Does not wait for storage: [`Self::record_learned`] makes it durable. Returns `None`, and shows nothing,
    /// if that would refuse the call.
    #[must_use = "a call that is never recorded is kept in memory for good"]
    pub fn learned_over_sip(&self, call: LearnedCall) -> Option<LearnedTicket> {
        let latest = self.now().plus_millis(NewCall::MAX_AHEAD_MILLIS);
        if call.started_at > latest || call.started_at.millis() < 0 {
            return None;
        }
        let directory = self.shared.directory.load();
        // A later status of a call that was recorded before the opt-out is taken.
        if call.is_new && is_opted_out(&directory, call.environment, call.contact, self.now()) {
            self.shared.refused_learned.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.shared.contacts.learn(&directory, call)
    }

    /// How many learned calls were refused because their contacts have asked not to be called.
    #[must_use]
    pub fn refused_learned(&self) -> u64 {
        self.shared.refused_learned.load(Ordering::Relaxed)
    }

    /// Records learned calls of one environment, except those whose contacts were forgotten meanwhile. Calls that
    /// cannot be recorded are no longer shown. If storage accepts no writes, everything stays as it is, so that
    /// the caller can try again.
    ///
    /// # Errors
    /// Storage accepts no writes.
    pub async fn record_learned(
        &self,
        environment: EnvironmentId,
        tickets: &[LearnedTicket],
    ) -> Result<LearnedRecorded, SubmitError> {
        let command = RecordLearned {
            environment,
            tickets: tickets.to_vec(),
        };
        let result = self.submit(command).await?;
        let refused = result.unrecorded.iter();
        let refused =
            refused.filter(|(_, error)| matches!(error, Some(CommandError::ContactOptedOut)));
        self.shared
            .refused_learned
            .fetch_add(refused.count() as u64, Ordering::Relaxed);
        let contacts = &self.shared.contacts;
        if result.unrecorded.is_empty() {
            contacts.settle(tickets);
            return Ok(result);
        }
        let (withdrawn, recorded): (Vec<_>, Vec<_>) = tickets
            .iter()
            .cloned()
            .enumerate()
            .partition(|(index, _)| result.unrecorded.iter().any(|(other, _)| other == index));
        let recorded: Vec<_> = recorded.into_iter().map(|(_, ticket)| ticket).collect();
        contacts.settle(&recorded);
        let shared = Arc::clone(&self.shared);
        let withdraw = tokio::task::spawn_blocking(move || {
            let directory = shared.directory.load();
            for (_, ticket) in &withdrawn {
                shared.contacts.withdraw(&directory, ticket);
            }
        });
        withdraw.await.map_err(|_| SubmitError::ShuttingDown)?;
        Ok(result)
    }

    /// Notes that a SIP call was answered; counts it if it was routed as callback, once.
    pub fn answered_over_sip(&self, environment: EnvironmentId, call_id: &[u8], at: Timestamp) {
        let sid_hash = hash_sid(environment, call_id);
        let answered = AnsweredCall {
            environment,
            sid_hash,
            at,
        };
        self.shared
            .observed
            .answered_over_sip(&answered, &self.shared.directory.load());
    }

    /// Callbacks of an environment between two days (since 1970-01-01, UTC), both included.
    #[must_use]
    pub fn statistics(
        &self,
        environment: EnvironmentId,
        first_day: i32,
        last_day: i32,
    ) -> CallbackStatistics {
        let directory = self.shared.directory.load();
        self.shared
            .observed
            .statistics(&directory, environment, (first_day, last_day))
    }

    /// Callbacks to one agent between two days, both included: received and answered.
    #[must_use]
    pub fn agent_statistics(
        &self,
        environment: EnvironmentId,
        agent: AgentId,
        first_day: i32,
        last_day: i32,
    ) -> (u64, u64) {
        let directory = self.shared.directory.load();
        self.shared
            .observed
            .agent_statistics(&directory, environment, agent, (first_day, last_day))
    }

    /// Keeps about so many decisions of all environments from now on (100,000 unless this is said), and of each one
    /// the last 1,024 in any case.
    pub fn keep_decisions(&self, count: usize) {
        self.shared.observed.keep_decisions(count);
    }

    /// The latest decisions of an environment, newest first.
    #[must_use]
    pub fn decisions(&self, environment: EnvironmentId, limit: usize) -> Vec<DecisionRecord> {
        let directory = self.shared.directory.load();
        self.shared
            .observed
            .decisions(&directory, environment, limit)
    }

    /// The latest decisions of an environment before this sequence number that match, newest first. Calls are
    /// decided meanwhile.
    #[must_use]
    pub fn find_decisions(
        &self,
        environment: EnvironmentId,
        before: u64,
        limit: usize,
        matches: &dyn Fn(&DecisionRecord) -> bool,
    ) -> Vec<DecisionRecord> {
        let directory = self.shared.directory.load();
        self.shared
            .observed
            .find_decisions(&directory, environment, before, limit, matches)
    }

    /// The decisions of an environment after this sequence number, oldest first.
    #[must_use]
    pub fn decisions_after(
        &self,
        environment: EnvironmentId,
        sequence: u64,
    ) -> Vec<DecisionRecord> {
        let directory = self.shared.directory.load();
        self.shared
            .observed
            .decisions_after(&directory, environment, sequence)
    }

    /// A channel with the sequence number of the latest decision.
    #[must_use]
    pub fn subscribe_decisions(&self) -> watch::Receiver<u64> {
        self.shared.observed.subscribe()
    }

    /// Shows the audit entries, latest first, until the visitor stops: those before the entry with this identifier, or
    /// all. Reads the store, and blocks.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    pub fn visit_audit(
        &self,
        before: Option<AuditId>,
        visitor: &mut dyn FnMut(AuditEntry) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        self.shared.archive.visit_audit(before, visitor)
    }

    /// The audit entry with this identifier; reads the store.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    pub fn audit_entry(&self, id: AuditId) -> Result<Option<AuditEntry>, JournalError> {
        self.shared.archive.audit_entry(id)
    }

    /// Shows every stored call of an agent that exists, each once, in no order, until the visitor stops. Reads the
    /// store, and blocks for as long as that takes; calls that are recorded meanwhile may be shown or not.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    pub fn visit_calls(
        &self,
        visitor: &mut dyn FnMut(&Call) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let archive = &self.shared.archive;
        archive.visit_contacts(0, 1, &mut |environment, _, calls| {
            let directory = self.shared.directory.load();
            calls
                .iter()
                .filter(|call| directory.agent_of(environment, call.agent).is_some())
                .try_for_each(&mut *visitor)
        })
    }

    /// Shows the stored calls that decide for each contact of an environment, newest first, contacts in no order, until
    /// the visitor stops. A contact of two spellings is named by the one that was recorded first. Reads the whole
    /// store, and blocks for as long as that takes.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    pub fn visit_remembered(
        &self,
        environment: EnvironmentId,
        visitor: &mut dyn FnMut(E164, &[Call]) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let directory = self.shared.directory.load_full();
        let mut kept = Vec::new();
        let archive = &self.shared.archive;
        archive.visit_contacts(0, 1, &mut |id, _, calls| {
            if id != environment {
                return ControlFlow::Continue(());
            }
            kept.clear();
            for call in calls {
                remember(&directory, &mut kept, call.clone());
            }
            match kept.last() {
                Some(first) => visitor(first.contact, &kept),
                None => ControlFlow::Continue(()),
            }
        })
    }

    /// Shows contacts of an environment by number, each with the calls that decide for it, newest first, until the
    /// visitor stops: those whose number `is_wanted`. A contact of two spellings is named by the one that was recorded
    /// first. Blocks.
    ///
    /// Costs a walk over the contacts in memory for every few thousand contacts shown, which are read from the store. Until all
    /// contacts are in memory, and while some cannot be read, it reads the whole store instead; then contacts come in no
    /// order, so the visitor must see them all.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    pub fn visit_by_number(
        &self,
        environment: EnvironmentId,
        is_wanted: &dyn Fn(E164) -> bool,
        visitor: &mut dyn FnMut(Listed<'_, E164>) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let contacts = &self.shared.contacts;
        let listed =
            |subscriber: E164, _: &Directory, _: &RecentCalls, offer: &mut dyn FnMut(E164)| {
                contacts
                    .spellings(environment, subscriber)
                    .filter(|number| is_wanted(*number))
                    .for_each(offer);
            };
        self.visit_in_order(environment, &listed, &mut |listed| match listed {
            // What is known by another spelling has its turn there.
            Listed::Contact(number, calls)
                if calls
                    .last()
                    .is_none_or(|first| first.contact != number || !is_wanted(number)) =>
            {
                ControlFlow::Continue(())
            }
            listed => visitor(listed),
        })
    }

    /// Shows the contacts of an environment by their calls that decide, from the latest to the earliest second: those
    /// calls of which `is_wanted` holds by agent and second. A contact comes once for each of its seconds, with all of
    /// its calls. Otherwise as [`Self::visit_by_number`].
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    pub fn visit_by_time(
        &self,
        environment: EnvironmentId,
        is_wanted: &dyn Fn(AgentId, i64) -> bool,
        visitor: &mut dyn FnMut(Listed<'_, Reverse<i64>>) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let listed = |_: E164,
                      directory: &Directory,
                      calls: &RecentCalls,
                      offer: &mut dyn FnMut(Reverse<i64>)| {
            for call in calls.iter() {
                let second = call.started_at.seconds();
                let agent = directory.agent(call.source);
                if agent.is_some_and(|agent| is_wanted(agent.record.id, second)) {
                    offer(Reverse(second));
                }
            }
        };
        self.visit_in_order(environment, &listed, visitor)
    }

    /// Shows contacts by the keys that `keys` offers of them; see [`Self::visit_by_number`].
    fn visit_in_order<K: Ord + Copy>(
        &self,
        environment: EnvironmentId,
        keys: &ListedKeys<'_, K>,
        visitor: &mut dyn FnMut(Listed<'_, K>) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let contacts = &self.shared.contacts;
        let mut after = None;
        loop {
            let directory = self.shared.directory.load_full();
            let Some(slot) = directory.environment_by_id(environment).map(|it| it.slot) else {
                return Ok(());
            };
            if !contacts.is_complete() {
                return self.visit_remembered(environment, &mut |_, calls| {
                    visitor(Listed::Unordered(calls))
                });
            }
            let mut first: BTreeSet<(K, E164)> = BTreeSet::new();
            contacts.index.visit(slot, |contact, calls| {
                keys(contact, &directory, &calls, &mut |key| {
                    let entry = (key, contact);
                    let is_full = first.len() >= LISTED_AT_ONCE;
                    if after.is_some_and(|after| entry <= after)
                        || is_full && first.last().is_some_and(|last| entry >= *last)
                    {
                        return;
                    }
                    first.insert(entry);
                    if first.len() > LISTED_AT_ONCE {
                        first.pop_last();
                    }
                });
            });
            for (key, contact) in &first {
                let calls = contacts.exact(&directory, environment, *contact)?;
                if visitor(Listed::Contact(*key, &calls)).is_break() {
                    return Ok(());
                }
            }
            if first.len() < LISTED_AT_ONCE {
                return Ok(());
            }
            after = first.pop_last();
        }
    }

    /// The session of the console with this hash of its cookie, if it has not ended by itself.
    #[must_use]
    pub fn session(&self, cookie: &TokenHash) -> Option<Session> {
        self.shared.sessions.find(cookie, self.now())
    }

    /// The secret that keys the hashes of erased contacts; `None`: nothing was erased so far. Reads the store.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    pub fn erasure_secret(&self) -> Result<Option<ErasureSecret>, JournalError> {
        self.shared.archive.erasure_secret()
    }

    /// Shows what is left of erased contacts, until the visitor stops. Reads the store, and blocks.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    pub fn visit_tombstones(
        &self,
        visitor: &mut dyn FnMut(Tombstone) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        self.shared.archive.visit_tombstones(visitor)
    }

    /// Writes one state of everything that is stored as a stream; see [`Archive::write_backup`](crate::Archive).
    /// Blocks for as long as the stream takes.
    ///
    /// # Errors
    /// Storage cannot be read, or the stream cannot be written.
    pub fn write_backup(&self, to: &mut dyn std::io::Write) -> Result<(), BackupError> {
        self.shared.archive.write_backup(self.now(), to)
    }

    /// The same with the place in the log that nodes share, for another node.
    ///
    /// # Errors
    /// As [`Self::write_backup`].
    pub fn write_snapshot(&self, to: &mut dyn std::io::Write) -> Result<(), BackupError> {
        self.shared.archive.write_snapshot(self.now(), to)
    }

    /// The condition of storage and index.
    #[must_use]
    pub fn health(&self) -> Health {
        let contacts = &self.shared.contacts;
        let damaged_places = self.shared.archive.damaged_places();
        Health {
            storage_available: self.shared.storage_available.load(Ordering::Acquire),
            index_whole: contacts.whole.load(Ordering::Acquire),
            index_damaged: damaged_places > 0 || contacts.is_damaged(),
            damaged_places,
        }
    }

    /// The current time by the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Runs the submitted commands, makes everything durable and ends the threads. Blocks.
    pub fn shut_down(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let _already_stopped = self.jobs.blocking_send(Job::Stop);
        for thread in std::mem::take(&mut *self.threads.lock()) {
            thread.thread().unpark();
            let _panicked = thread.join();
        }
    }
}

/// A seed that nobody can foresee: the standard library keys its hashes with the system's entropy.
fn random_seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// Starts a named thread.
pub(crate) fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(OpenError::Thread)
}

/// How many contacts one walk over the index picks for a list: more than a page has.
const LISTED_AT_ONCE: usize = 2_048;

/// How many commands wait in the queue before clients have to wait.
const JOBS_QUEUED: usize = 1_024;
