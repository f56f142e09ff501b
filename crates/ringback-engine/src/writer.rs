//! The writer: runs commands, commits their changes together, applies them, answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::draft::Memory;
use crate::engine::{Shared, concerns_directory};
use crate::{Change, Draft, Journal};

/// What the writer is asked to do.
pub(crate) enum Job {
    /// Run a command on the draft; what it returns is called when the batch is durable (`true`) or
    /// could not be made so.
    Run(Box<dyn FnOnce(&mut Draft<'_>) -> Answer + Send>),
    /// Make durable what was observed of SIP calls.
    Tick,
    /// Commit what is there and end.
    Stop,
}

/// Answers a client.
pub(crate) type Answer = Box<dyn FnOnce(bool) + Send>;

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
}

impl Writer {
    /// A writer to this journal.
    pub(crate) fn new(shared: Arc<Shared>, journal: Box<dyn Journal>) -> Self {
        Self {
            shared,
            journal,
            memory: Memory::default(),
            probed: Instant::now(),
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
        let mut answers = Vec::new();
        let mut stop = false;
        let mut takes_observed = false;
        while draft.len() < CHANGES_AT_ONCE
            && let Some(job) = jobs.next()
        {
            match job {
                Job::Run(run) => answers.push(run(&mut draft)),
                Job::Tick => takes_observed = true,
                Job::Stop => stop = true,
            }
        }
        let (mut memory, directory, decisions) = draft.finish();
        let changes = &mut memory.changes;
        let commanded = changes.len();
        takes_observed |= stop || changes.iter().any(concerns_routed_calls);
        let mut noted = 0;
        if takes_observed {
            // In front: a call is stored before the answer to it, which is read back in this order.
            let observed = shared.observed.take_pending(&shared.directory.load());
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
            shared.observed.recycle(observed);
            if changes.iter().any(concerns_directory) {
                shared.observed.settle(&shared.directory.load());
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
                shared.observed.decided(environment, decision);
            }
        } else {
            shared.observed.give_back(observed);
        }
        for answer in answers {
            // Without changes of its own a command needs no storage: its answer stands.
            answer(stored || commanded == 0);
        }
        changes.clear();
        self.memory = memory;
        stop
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

/// Whether this change is about calls that came in.
const fn concerns_routed_calls(change: &Change) -> bool {
    matches!(change, Change::Routed(_))
}

/// How often failed storage is tried at least.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// How many jobs are taken from the queue at once.
const JOBS_AT_ONCE: usize = 1_024;

/// After how many changes a commit is not made larger: a sync takes milliseconds while tables are
/// written, and must weigh little even then.
const CHANGES_AT_ONCE: usize = 16_384;
