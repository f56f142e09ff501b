//! The writer: runs commands, commits their changes together, applies them, answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::draft::Memory;
use crate::job::Job;
use crate::shared::Shared;
use crate::{Change, Draft, Journal, SubmitError};

/// The one writer.
pub(crate) struct Writer {
    /// What the engine's threads share.
    shared: Arc<Shared>,
    /// Makes changes durable.
    journal: Box<dyn Journal>,
    /// Memory of the batch before, for the next one.
    memory: Memory,
    /// When it was last tried to bring failed storage back.
    probed: Instant,
    /// When stored counters were last begun to be brought up to the SIP calls.
    rolled_up: Option<Instant>,
}

impl Writer {
    /// A writer to this journal.
    pub(crate) fn new(shared: Arc<Shared>, journal: Box<dyn Journal>) -> Self {
        Self {
            shared,
            journal,
            memory: Memory::default(),
            probed: Instant::now(),
            // What a run before this one left is counted at once.
            rolled_up: None,
        }
    }

    /// Works until it is told to stop, or nobody is left to ask.
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
                // Whoever still waits is told, instead of being left waiting.
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

    /// Runs jobs until there are enough changes for one commit, and commits them. Tells whether one
    /// of the jobs was to stop.
    fn batch(&mut self, jobs: &mut impl Iterator<Item = Job>) -> bool {
        let shared = Arc::clone(&self.shared);
        let memory = std::mem::take(&mut self.memory);
        let mut draft = Draft::new(&shared, shared.clock.now(), memory);
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
                Job::Stop => stop = true,
            }
        }
        let (mut memory, directory, decisions) = draft.finish();
        let changes = &mut memory.changes;
        let commanded = changes.len();
        let mut noted = 0;
        if ticked || stop || changes.iter().any(concerns_routed_calls) {
            // In front: a call is stored before the answer to it, which is read back in this order.
            let observed = self.take_observed(ticked);
            noted = observed.len();
            changes.splice(..0, observed);
        }
        let stored = if changes.is_empty() {
            self.probe();
            true
        } else {
            self.commit(changes)
        };
        let observed = changes.drain(..noted).collect();
        if stored {
            shared.observed.made_durable(observed);
            if changes.iter().any(concerns_directory) {
                shared.directory.store(Arc::clone(&directory));
            }
            for change in &*changes {
                match change {
                    Change::CallPut(call) => shared.contacts.apply(&directory, call),
                    Change::ContactForgotten(environment, contact) => {
                        shared.contacts.forget(&directory, *environment, *contact);
                        shared.observed.apply(change, &directory);
                    }
                    _ => shared.observed.apply(change, &directory),
                }
            }
            for (environment, decision) in decisions {
                shared.observed.decided(&directory, environment, decision);
            }
        } else {
            shared.observed.give_back(observed);
        }
        // Without changes of its own a command needs no storage: its answer stands.
        let failed = !stored && commanded > 0;
        for task in tasks {
            task.answer(failed.then_some(SubmitError::StorageUnavailable));
        }
        changes.clear();
        self.memory = memory;
        if ticked || stop {
            self.catch_up(stop);
        }
        stop
    }

    /// What was observed and is to be made durable next; on a tick counters may begin to be brought up.
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

    /// Makes durable what one commit did not take. Between two pieces of that, which may hold the only core,
    /// SIP calls are answered.
    fn catch_up(&mut self, stop: bool) {
        let shared = Arc::clone(&self.shared);
        for _ in 0..LOOK_UPS_AT_ONCE {
            if !shared.observed.prepare_roll_up(&shared.directory.load()) {
                break;
            }
            std::thread::yield_now();
        }
        for _ in 0..COMMITS_AT_ONCE {
            if !shared.observed.has_much_pending() {
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

    /// Leaves little to be counted at the next start: it would be right anyway, so there is an end to what
    /// a shutdown waits for.
    fn finish(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.rolled_up = None;
        for _ in 0..COMMITS_AT_END {
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

    /// Commits what was observed alone; false if that failed.
    fn commit_observed(&mut self, observed: Vec<Change>) -> bool {
        let stored = observed.is_empty() || self.commit(&observed);
        if stored {
            self.shared.observed.made_durable(observed);
        } else {
            self.shared.observed.give_back(observed);
        }
        stored
    }

    /// Tries to bring failed storage back although nobody writes: whoever was told that it failed stays
    /// away until it is told otherwise.
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

    /// Notes that storage takes writes again.
    fn note_available(&self) {
        tracing::info!("storage takes writes again");
        self.shared.storage_available.store(true, Ordering::Release);
    }

    /// Commits; after a failure tries first to bring the journal back.
    fn commit(&mut self, changes: &[Change]) -> bool {
        let was_available = self.shared.storage_available.load(Ordering::Acquire);
        let result = if was_available {
            Ok(())
        } else {
            self.journal.recover()
        };
        match result.and_then(|()| self.journal.commit(changes)) {
            Ok(()) => {
                if !was_available {
                    self.note_available();
                }
                true
            }
            Err(error) => {
                if was_available {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "storage takes no writes; routing goes on");
                    self.shared
                        .storage_available
                        .store(false, Ordering::Release);
                }
                false
            }
        }
    }
}

/// Whether a change concerns the directory, so that a new one has to be published.
const fn concerns_directory(change: &Change) -> bool {
    !matches!(
        change,
        Change::CallPut(_)
            | Change::ContactForgotten(..)
            | Change::Routed(_)
            | Change::BatchRouted(_)
            | Change::Counted(..)
            | Change::BatchesCounted(_)
    )
}

/// Whether this change is about calls that came in.
const fn concerns_routed_calls(change: &Change) -> bool {
    matches!(change, Change::Routed(_))
}

/// How often failed storage is tried at least.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// How often stored counters are brought up to the SIP calls.
const ROLL_UP_INTERVAL: Duration = Duration::from_mins(1);

/// For how many pieces of SIP calls counters are looked up between two commits.
const LOOK_UPS_AT_ONCE: usize = 32;

/// How many commits of SIP calls follow one upon the other while commands wait.
const COMMITS_AT_ONCE: usize = 8;

/// How many commits are made at the end to bring counters up.
const COMMITS_AT_END: usize = 64;

/// How many jobs are taken from the queue at once.
const JOBS_AT_ONCE: usize = 1_024;

/// After how many changes a commit is not made larger: a sync takes milliseconds while tables are
/// written, and must weigh little even then.
const CHANGES_AT_ONCE: usize = 16_384;
