//! The writer: runs commands, appends their changes together, applies the log's entries, answers.
//!
//! It applies the entries that the log returns and nothing else: those of this node, and those of others. So if
//! an entry of another node comes first, the commands of a batch run again on the newer state.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::apply::apply;
use crate::draft::Memory;
use crate::job::{Job, Task};
use crate::outbox::{Saved, restore};
use crate::shared::Shared;
use crate::{
    AppendError, Change, Draft, Entry, Journal, JournalError, LearnedTicket, Sequence, SubmitError,
};

/// The one writer.
pub(crate) struct Writer {
    /// The state shared by the engine's threads.
    shared: Arc<Shared>,
    /// The log.
    journal: Box<dyn Journal>,
    /// The last entry applied.
    position: Sequence,
    /// The entry that was appended here and is not applied yet, and how many of its facts are observations, which
    /// are visible already.
    own: Option<(Sequence, usize)>,
    /// The observations of an entry that was appended here and not confirmed: they are visible already.
    doubtful: Option<Vec<Change>>,
    /// Whether the log that nodes share could not be reached at the last attempt.
    is_away: bool,
    /// How much of what waits for the log the outbox has.
    saved: Saved,
    /// Memory of an earlier batch, for the next one.
    memory: Memory,
    /// When recovery of failed storage was last tried.
    probed: Instant,
    /// When a roll-up last began.
    rolled_up: Option<Instant>,
}

impl Writer {
    /// A writer to this journal.
    pub(crate) fn new(shared: Arc<Shared>, journal: Box<dyn Journal>) -> Self {
        Self {
            shared,
            position: journal.position(),
            journal,
            own: None,
            doubtful: None,
            is_away: false,
            saved: Saved::default(),
            memory: Memory::default(),
            probed: Instant::now(),
            // Calls that an earlier run left uncounted are counted at once.
            rolled_up: None,
        }
    }

    /// Goes on with what an earlier run has kept in the outbox; returns the learned calls.
    pub(crate) fn restore(&mut self) -> Result<Vec<LearnedTicket>, JournalError> {
        let Some(outbox) = self.journal.outbox() else {
            return Ok(Vec::new());
        };
        let kept = outbox.read()?;
        restore(&self.shared, kept)
    }

    /// Works until a job tells it to stop, or no sender is left.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(JOBS_AT_ONCE);
        loop {
            if queue.blocking_recv_many(&mut jobs, JOBS_AT_ONCE) == 0 {
                return;
            }
            let mut waiting = jobs.drain(..).peekable();
            let mut stop = false;
            while waiting.peek().is_some() {
                stop |= self.batch(&mut waiting);
            }
            drop(waiting);
            if stop {
                // Clients still in the queue get an error instead of waiting for ever.
                queue.close();
                while let Ok(job) = queue.try_recv() {
                    jobs.push(job);
                }
                let mut waiting = jobs.drain(..).peekable();
                while waiting.peek().is_some() {
                    self.batch(&mut waiting);
                }
                return;
            }
        }
    }

    /// Runs jobs until there are enough changes for one entry, and appends them. Returns whether one of the jobs
    /// was to stop.
    fn batch(&mut self, jobs: &mut impl Iterator<Item = Job>) -> bool {
        self.try_follow();
        self.settle();
        let shared = Arc::clone(&self.shared);
        let mut draft = self.draft(&shared);
        let mut tasks = Vec::new();
        let mut stop = false;
        let mut ticked = false;
        while draft.len() < CHANGES_AT_ONCE
            && let Some(job) = jobs.next()
        {
            match job {
                Job::Run(mut task) => {
                    task.run(&mut draft);
                    tasks.push(task);
                }
                Job::Tick => ticked = true,
                Job::Follow => {}
                Job::Stop => stop = true,
            }
        }
        let was_certain = self.doubtful.is_none();
        let mut races = 0;
        let failure = loop {
            let failure = self.append_draft(draft, ticked, stop);
            if failure != Some(SubmitError::Conflict) || races == MOST_RACES {
                break failure;
            }
            races += 1;
            // The other entry may have changed what the commands read.
            self.try_follow();
            draft = self.draft(&shared);
            for task in &mut tasks {
                task.run(&mut draft);
            }
        };
        // What may still come into the log by itself must not go there by another way as well.
        let is_unconfirmed = was_certain && self.doubtful.is_some();
        let can_wait = failure == Some(SubmitError::ClusterUnavailable) && !is_unconfirmed;
        let waiting = if can_wait {
            self.defer(&mut tasks)
        } else {
            Vec::new()
        };
        if self.is_away && (ticked || stop || !waiting.is_empty()) {
            let is_saved = self.save();
            for task in waiting {
                let position = is_saved.then_some(self.position);
                task.answer(position.ok_or(SubmitError::ClusterUnavailable));
            }
        }
        for task in tasks {
            // The entry of these commands, or a later one: the state that their clients see contains it.
            task.answer(failure.clone().map_or(Ok(self.position), Err));
        }
        if ticked || stop {
            self.catch_up(stop);
            self.clear_outbox();
        }
        stop
    }

    /// Takes out the tasks that may take effect on this node alone, and has them do so.
    fn defer(&mut self, tasks: &mut Vec<Box<dyn Task>>) -> Vec<Box<dyn Task>> {
        if self.journal.outbox().is_none() {
            return Vec::new();
        }
        let shared = Arc::clone(&self.shared);
        let mut waiting: Vec<_> = tasks.extract_if(.., |task| task.can_wait()).collect();
        let directory = shared.directory.load_full();
        for task in &mut waiting {
            // One after the other: each sees what those before it have done.
            let mut draft = self.draft(&shared);
            task.run(&mut draft);
            let (mut memory, decisions) = draft.finish();
            shared.observed.defer(&memory.changes, &directory);
            for (environment, decision) in decisions {
                shared.observed.decided(&directory, environment, decision);
            }
            memory.changes.clear();
            self.memory = memory;
        }
        waiting
    }

    /// Has the outbox keep what waits for the log; false if it does not have all that must not be lost.
    fn save(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let Some(outbox) = self.journal.outbox() else {
            return false;
        };
        let now = shared.clock.now();
        let mut is_saved = true;
        let mut keep = |facts: &[Change], is_minor| {
            let kept = if facts.is_empty() {
                Ok(true)
            } else {
                outbox.keep(now, facts, is_minor)
            };
            match kept {
                Ok(has_room) => has_room,
                Err(error) => {
                    tracing::error!(%error, "the outbox takes nothing");
                    is_saved = false;
                    false
                }
            }
        };
        if let Some(doubtful) = &self.doubtful {
            keep(&Saved::default().add(doubtful), false);
        }
        // Everything, in pieces: what is taken is given back before the next piece is taken.
        loop {
            let has_more = shared.observed.has_much_pending();
            let pending = shared
                .observed
                .take_pending(&shared.directory.load(), false);
            let new = self.saved.add(&pending);
            shared.observed.give_back(pending);
            keep(&new, false);
            if !has_more {
                break;
            }
        }
        let learned = shared.contacts.ahead().take_unsaved();
        let (tickets, calls): (Vec<_>, Vec<_>) = learned.into_iter().unzip();
        let calls: Vec<Change> = calls.into_iter().map(Change::CallPut).collect();
        if keep(&calls, true) {
            let mut ahead = shared.contacts.ahead();
            for ticket in &tickets {
                ahead.was_saved(ticket);
            }
        } else {
            shared
                .outbox_dropped
                .fetch_add(tickets.len() as u64, Ordering::Relaxed);
        }
        is_saved
    }

    /// Empties the outbox once the log has all that is in it.
    fn clear_outbox(&mut self) {
        if self.is_away || self.doubtful.is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let Some(outbox) = self.journal.outbox() else {
            return;
        };
        let mut ahead = shared.contacts.ahead();
        ahead.prune();
        let (_, learned) = ahead.counts();
        drop(ahead);
        if !outbox.is_empty() && learned == 0 && shared.observed.pending() == 0 {
            match outbox.clear() {
                Ok(()) => self.saved = Saved::default(),
                Err(error) => tracing::error!(%error, "the outbox cannot be emptied"),
            }
        }
    }

    /// An empty draft on the state applied so far.
    fn draft<'a>(&mut self, shared: &'a Shared) -> Draft<'a> {
        Draft::new(shared, shared.clock.now(), std::mem::take(&mut self.memory))
    }

    /// Appends the changes of a draft. Adds the pending observations, on a tick or if the draft is about incoming
    /// calls. Returns the failure if the commands were not committed.
    fn append_draft(&mut self, draft: Draft<'_>, ticked: bool, stop: bool) -> Option<SubmitError> {
        let (mut memory, decisions) = draft.finish();
        let mut facts = std::mem::take(&mut memory.changes);
        self.memory = memory;
        let commanded = facts.len();
        let mut observed = 0;
        // While an entry may still come, nothing can be checked on it and numbered behind it.
        let is_certain = self.doubtful.is_none();
        if is_certain && (ticked || stop || facts.iter().any(concerns_routed_calls)) {
            // In front: a call must be stored before the answer to it, because they are read back in this order.
            let pending = self.take_observed(ticked);
            observed = pending.len();
            facts.splice(..0, pending);
        }
        let appended = if facts.is_empty() {
            self.probe();
            Ok(())
        } else if !is_certain {
            self.is_away = true;
            Err(SubmitError::ClusterUnavailable)
        } else {
            self.append(&mut facts, observed)
        };
        if facts.capacity() > self.memory.changes.capacity() {
            facts.clear();
            self.memory.changes = facts;
        }
        match appended {
            Ok(()) => {
                let directory = self.shared.directory.load_full();
                for (environment, decision) in decisions {
                    self.shared
                        .observed
                        .decided(&directory, environment, decision);
                }
                None
            }
            // A command without changes needs no storage, so its answer stands.
            Err(error) => Some(error).filter(|_| commanded > 0),
        }
    }

    /// Finds out what became of an entry that was not confirmed, if there is one. While nobody knows, nothing else
    /// is appended.
    fn settle(&mut self) {
        if self.doubtful.is_none() || self.journal.recover().is_err() || !self.try_follow() {
            return;
        }
        // It would have come by now.
        if let Some(observed) = self.doubtful.take() {
            self.shared.observed.give_back(observed);
            self.saved = Saved::default();
        }
    }

    /// The observations to make durable next; a tick may also begin a roll-up.
    fn take_observed(&mut self, ticked: bool) -> Vec<Change> {
        let due = self
            .rolled_up
            .is_none_or(|before| before.elapsed() >= ROLL_UP_INTERVAL);
        if ticked && due {
            self.rolled_up = Some(Instant::now());
        }
        let directory = self.shared.directory.load();
        self.shared.observed.take_pending(&directory, ticked && due)
    }

    /// Makes observations durable that one commit did not take. Yields between two pieces, because SIP calls may
    /// need this core.
    fn catch_up(&mut self, stop: bool) {
        let shared = Arc::clone(&self.shared);
        for _ in 0..LOOK_UPS_AT_ONCE {
            if !shared.observed.prepare_roll_up(&shared.directory.load()) {
                break;
            }
            std::thread::yield_now();
        }
        for _ in 0..COMMITS_AT_ONCE {
            if self.doubtful.is_some() || !shared.observed.has_much_pending() {
                break;
            }
            std::thread::yield_now();
            let observed = self.take_observed(false);
            if !self.commit_observed(observed) {
                return;
            }
        }
        if stop {
            self.finish();
        }
    }

    /// Leaves little to count at the next start. The next start would count it correctly anyway, so the number of
    /// commits is limited and a shutdown does not take long.
    fn finish(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.rolled_up = None;
        for _ in 0..COMMITS_AT_END {
            if self.doubtful.is_some() {
                return;
            }
            let observed = self.take_observed(true);
            if observed.is_empty() || !self.commit_observed(observed) {
                return;
            }
            if !shared.observed.is_rolling_up() && !shared.observed.has_much_pending() {
                return;
            }
            let look_up = || shared.observed.prepare_roll_up(&shared.directory.load());
            for _ in 0..LOOK_UPS_AT_ONCE {
                if !look_up() {
                    break;
                }
            }
        }
    }

    /// Appends observations without commands; false if that failed.
    fn commit_observed(&mut self, mut observed: Vec<Change>) -> bool {
        let length = observed.len();
        length == 0 || self.append(&mut observed, length).is_ok()
    }

    /// Applies all entries of the log that are not applied yet.
    pub(crate) fn follow(&mut self) -> Result<(), JournalError> {
        while let Some(entry) = self.journal.committed()? {
            self.show(entry);
        }
        Ok(())
    }

    /// Follows the log. If it cannot be read, writes are refused until it can, and routing goes on.
    fn try_follow(&mut self) -> bool {
        let followed = self.follow();
        if let Err(error) = &followed {
            self.note_failure(error);
        }
        followed.is_ok()
    }

    /// Applies an entry.
    fn show(&mut self, entry: Entry) {
        let Entry {
            sequence,
            mut facts,
            is_own,
        } = entry;
        let own = self.own.take_if(|(own, _)| *own == sequence);
        let confirmed = self.doubtful.take_if(|_| is_own).map(|kept| kept.len());
        if let Some(observed) = own.map(|(_, observed)| observed).or(confirmed) {
            // Observations of this node are visible already.
            let observed = facts.drain(..observed.min(facts.len())).collect();
            self.shared.observed.made_durable(observed);
        }
        apply(&self.shared, &facts);
        self.forget_in_outbox(&facts);
        self.position = sequence;
        self.shared.applied.send_replace(sequence);
        facts.clear();
        if facts.capacity() > self.memory.changes.capacity() {
            self.memory.changes = facts;
        }
    }

    /// Removes contacts that were forgotten from what waits in the outbox.
    fn forget_in_outbox(&mut self, facts: &[Change]) {
        let Some(outbox) = self.journal.outbox().filter(|outbox| !outbox.is_empty()) else {
            return;
        };
        for fact in facts {
            if let Change::ContactForgotten(environment, contact) = fact
                && let Err(error) = outbox.forget(*environment, *contact)
            {
                // A later start drops it: it finds the erasure.
                tracing::error!(%error, "an erased contact cannot be removed from the outbox yet");
            }
        }
    }

    /// Tries to recover failed storage although no write comes: a client that was told of the failure stays away
    /// until it is told otherwise.
    fn probe(&mut self) {
        if self.shared.storage_available.load(Ordering::Acquire)
            || self.probed.elapsed() < PROBE_INTERVAL
        {
            return;
        }
        if self.journal.recover().is_ok() {
            self.note_available();
        }
        self.probed = Instant::now();
    }

    /// Notes that storage accepts writes again.
    fn note_available(&self) {
        tracing::info!("storage takes writes again");
        self.shared.storage_available.store(true, Ordering::Release);
    }

    /// Appends facts, of which the first `observed` are observations of this node, and applies the log up to
    /// them. If the append fails, the observations are kept for later.
    fn append(&mut self, facts: &mut Vec<Change>, observed: usize) -> Result<(), SubmitError> {
        let was_available = self.shared.storage_available.load(Ordering::Acquire);
        let ready = if was_available {
            Ok(())
        } else {
            self.journal.recover().map_err(AppendError::from)
        };
        match ready.and_then(|()| self.journal.append(self.position, facts)) {
            Ok(sequence) => {
                if !was_available {
                    self.note_available();
                }
                self.is_away = false;
                self.saved = Saved::default();
                self.own = Some((sequence, observed));
                // If the entry cannot be read back, the command is committed, but nobody can see its effect yet.
                if self.try_follow() {
                    Ok(())
                } else {
                    Err(SubmitError::StorageUnavailable)
                }
            }
            Err(error) => {
                let observed = facts.drain(..observed).collect();
                if matches!(error, AppendError::Unconfirmed) {
                    self.doubtful = Some(observed);
                } else {
                    self.shared.observed.give_back(observed);
                }
                match error {
                    AppendError::Conflict => Err(SubmitError::Conflict),
                    AppendError::Unreachable | AppendError::Unconfirmed => {
                        self.is_away = true;
                        Err(SubmitError::ClusterUnavailable)
                    }
                    AppendError::Full => Err(SubmitError::LogFull),
                    AppendError::Journal(error) => {
                        self.note_failure(&error);
                        Err(SubmitError::StorageUnavailable)
                    }
                }
            }
        }
    }

    /// Notes that storage accepts no writes.
    fn note_failure(&self, error: &JournalError) {
        if self.shared.storage_available.swap(false, Ordering::AcqRel) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, cause, "storage takes no writes; routing goes on");
        }
    }
}

/// Whether this change is about incoming calls.
const fn concerns_routed_calls(change: &Change) -> bool {
    matches!(change, Change::Routed(_))
}

/// The shortest time between two tries to recover failed storage.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// How often a roll-up begins.
const ROLL_UP_INTERVAL: Duration = Duration::from_mins(1);

/// How many pieces of SIP calls get their counters looked up between two commits.
const LOOK_UPS_AT_ONCE: usize = 32;

/// How many commits of SIP calls may follow one another while commands wait.
const COMMITS_AT_ONCE: usize = 8;

/// How many commits a shutdown makes to finish a roll-up.
const COMMITS_AT_END: usize = 64;

/// How often the commands of a batch run again because other entries came first.
const MOST_RACES: usize = 20;

/// How many jobs are taken from the queue at once.
const JOBS_AT_ONCE: usize = 1_024;

/// A commit with this many changes takes no more: a sync takes milliseconds while tables are written, and the
/// rest of the commit should take longer than that.
const CHANGES_AT_ONCE: usize = 16_384;
