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
use crate::job::Job;
use crate::shared::Shared;
use crate::{AppendError, Change, Draft, Entry, Journal, JournalError, Sequence, SubmitError};

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
            memory: Memory::default(),
            probed: Instant::now(),
            // Calls that an earlier run left uncounted are counted at once.
            rolled_up: None,
        }
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
        for task in tasks {
            // The entry of these commands, or a later one: the state that their clients see contains it.
            task.answer(failure.clone().map_or(Ok(self.position), Err));
        }
        if ticked || stop {
            self.catch_up(stop);
        }
        stop
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
        self.position = sequence;
        self.shared.applied.send_replace(sequence);
        facts.clear();
        if facts.capacity() > self.memory.changes.capacity() {
            self.memory.changes = facts;
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
