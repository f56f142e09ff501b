//! Housekeeping beside the writer: loading the index at start, the tick that makes observations durable, and the
//! hourly sweep of old calls.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringback_routing::{ContactHash, Directory, E164, EnvironmentId, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::job::{Job, Submitted};
use crate::shared::{ROUTED_KNOWN_MILLIS, Shared};
use crate::{CallsSwept, Change, Command, CommandError, Draft};

/// Loads every stored contact into the index, on all cores. Meanwhile the writer reads each contact that it
/// changes from the store; a contact that is in the index already is not overwritten.
pub(crate) fn load(shared: &Shared) {
    let parts = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for part in 0..parts {
            scope.spawn(move || load_share(shared, part, parts));
        }
    });
    finish_loading(shared, began);
}

/// Loads a share of the contacts. Unreadable parts are noted, as small as possible, so that damage in one file
/// position keeps no other contact out of memory.
fn load_share(shared: &Shared, part: usize, parts: usize) {
    if load_part(shared, part, parts) {
        return;
    }
    let pieces = (SMALLEST_SHARE / parts).max(1);
    for piece in part * pieces..(part + 1) * pieces {
        if !load_part(shared, piece, parts * pieces) {
            shared
                .contacts
                .unloaded
                .lock()
                .push((piece, parts * pieces));
        }
    }
}

/// Lets the index alone answer, if all contacts are loaded.
fn finish_loading(shared: &Shared, began: Instant) {
    if shared.stopping.load(Ordering::Acquire) {
        return;
    }
    if shared.contacts.unloaded.lock().is_empty() {
        shared.contacts.loaded();
        let contacts = shared.contacts.len();
        tracing::info!(
            contacts,
            duration_ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            "every contact is in memory"
        );
    } else {
        tracing::error!(
            "stored contacts cannot be read: calls of these contacts are answered with 503 until the \
             data directory is repaired; all others are served"
        );
    }
}

/// Loads again the parts that could not be read.
fn mend(shared: &Shared) {
    let directory = shared.directory.load_full();
    shared.contacts.reread(&directory);
    let unloaded = shared.contacts.unloaded.lock().clone();
    if unloaded.is_empty() {
        return;
    }
    let began = Instant::now();
    for (part, parts) in unloaded {
        if load_part(shared, part, parts) {
            let mut unloaded = shared.contacts.unloaded.lock();
            unloaded.retain(|other| *other != (part, parts));
            if unloaded.is_empty() {
                drop(unloaded);
                finish_loading(shared, began);
            }
        }
    }
}

/// Loads one part of the contacts; false if it cannot be read.
fn load_part(shared: &Shared, part: usize, parts: usize) -> bool {
    let result = shared
        .archive
        .visit_contacts(part, parts, &mut |id, contact, calls| {
            if shared.stopping.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            let directory = shared.directory.load();
            shared.contacts.enter_loaded(&directory, id, contact, calls);
            ControlFlow::Continue(())
        });
    match result {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, part, parts, "contacts could not be loaded");
            false
        }
    }
}

/// Makes the writer commit observations every tick, and sweeps once an hour from when the engine was opened.
pub(crate) fn tick(shared: &Shared, jobs: &mpsc::Sender<Job>, opened: Timestamp) {
    let mut swept = (Instant::now(), opened);
    let mut mended = Instant::now();
    while !shared.stopping.load(Ordering::Acquire) {
        // Shutting down wakes this thread early.
        std::thread::park_timeout(TICK);
        if matches!(
            jobs.try_send(Job::Tick),
            Err(mpsc::error::TrySendError::Closed(_))
        ) {
            return;
        }
        if mended.elapsed() >= MEND_INTERVAL && shared.contacts.is_damaged() {
            mend(shared);
            mended = Instant::now();
        }
        // By the wall clock too, because it goes on while a machine sleeps.
        let now = shared.clock.now();
        let is_due = swept.0.elapsed() >= SWEEP_INTERVAL
            || now.seconds() - swept.1.seconds() >= SWEEP_INTERVAL.as_secs().cast_signed();
        if is_due && shared.contacts.whole.load(Ordering::Acquire) {
            sweep(shared, jobs, now);
            swept = (Instant::now(), now);
        }
    }
}

/// Drops calls that are older than every window, and calls of deleted agents.
fn sweep(shared: &Shared, jobs: &mpsc::Sender<Job>, now: Timestamp) {
    let directory = shared.directory.load_full();
    // Calls of deleted agents count nowhere; they only take memory.
    shared.contacts.index.retain(|environment, call| {
        directory.environment(environment).is_some() && directory.agent(call.source).is_some()
    });
    let audit_age = i64::from(shared.audit_days) * DAY_SECONDS * 1_000;
    if !append(jobs, Change::AuditSwept(now.plus_millis(-audit_age))) {
        return;
    }
    let routed_before = now.plus_millis(-ROUTED_KNOWN_MILLIS);
    if !append(jobs, Change::RoutedSwept(routed_before)) {
        return;
    }
    if !sweep_opt_outs(jobs, &directory, now) {
        return;
    }
    if let Err(error) = shared.archive.tidy(routed_before) {
        tracing::error!(%error, "old events cannot be removed from storage yet");
    }
    let cutoffs = cutoffs(&directory, now);
    // An environment that this directory lacks is newer, and its calls must stay; or it was removed, and its agents
    // before it. So no call in it is old; the journal drops those whose agents it does not have either.
    let cutoff = |environment: EnvironmentId| {
        let cutoff = cutoffs.get(&environment).copied();
        cutoff.unwrap_or(Timestamp::from_seconds(0))
    };
    let mut swept = 0;
    for part in 0..SMALLEST_SHARE {
        let mut old: HashMap<EnvironmentId, Vec<E164>> = HashMap::new();
        let visited =
            shared
                .archive
                .visit_contacts(part, SMALLEST_SHARE, &mut |id, contact, calls| {
                    if shared.stopping.load(Ordering::Relaxed) {
                        return ControlFlow::Break(());
                    }
                    let before = cutoff(id);
                    if calls.iter().any(|call| {
                        call.started_at < before || directory.agent_of(id, call.agent).is_none()
                    }) {
                        old.entry(id).or_default().push(contact);
                    }
                    ControlFlow::Continue(())
                });
        if let Err(error) = visited {
            tracing::error!(%error, "old calls could not be searched for");
            return;
        }
        for (environment, contacts) in old {
            for contacts in contacts.chunks(SWEPT_AT_ONCE) {
                swept += contacts.len();
                let sweep = CallsSwept {
                    environment,
                    before: cutoff(environment),
                    contacts: contacts.to_vec(),
                };
                if !append(jobs, Change::CallsSwept(sweep)) {
                    return;
                }
            }
        }
    }
    if swept > 0 {
        tracing::info!(
            contacts = swept,
            "dropped calls that are older than every recency window"
        );
    }
}

/// Drops opt-outs that are over: they count nowhere. False if that failed.
fn sweep_opt_outs(jobs: &mpsc::Sender<Job>, directory: &Directory, now: Timestamp) -> bool {
    let mut over = directory
        .all_contact_rights()
        .filter_map(|(contact, rights)| {
            let opt_out = rights.opt_out.as_ref()?;
            (!opt_out.holds(now)).then_some((rights.environment, *contact))
        });
    loop {
        let contacts: Vec<_> = over.by_ref().take(SWEPT_AT_ONCE).collect();
        if contacts.is_empty() {
            return true;
        }
        if !run(jobs, EndOver { contacts }) {
            return false;
        }
    }
}

/// Ends the opt-outs of contacts, unless they hold again.
struct EndOver {
    /// The contacts.
    contacts: Vec<(EnvironmentId, ContactHash)>,
}

impl Command for EndOver {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        for (environment, contact) in &self.contacts {
            let rights = draft.directory().rights_by_hash(contact);
            let opt_out = rights.and_then(|rights| rights.opt_out.as_ref());
            if opt_out.is_some_and(|opt_out| !opt_out.holds(draft.now())) {
                draft.change(Change::OptOutEnded(*environment, *contact));
            }
        }
        Ok(())
    }
}

/// Makes the writer append a fact, and waits for it; false if that failed.
fn append(jobs: &mpsc::Sender<Job>, fact: Change) -> bool {
    run(jobs, Append { fact })
}

/// Makes the writer run a command of a sweep, and waits for it; false if that failed.
fn run(jobs: &mpsc::Sender<Job>, command: impl Command) -> bool {
    let (reply, answer) = oneshot::channel();
    let job = Job::Run(Box::new(Submitted::new(command, reply)));
    if jobs.blocking_send(job).is_err() {
        return false;
    }
    match answer.blocking_recv() {
        Ok(Ok(_committed)) => true,
        Ok(Err(error)) => {
            tracing::error!(%error, "what is old could not be dropped");
            false
        }
        Err(_) => false,
    }
}

/// Appends a fact that needs no check.
struct Append {
    /// The fact.
    fact: Change,
}

impl Command for Append {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        draft.change(self.fact.clone());
        Ok(())
    }
}

/// For each environment, the instant before which calls are older than its own window and every role's, plus a
/// day; in whole seconds.
fn cutoffs(directory: &Directory, now: Timestamp) -> HashMap<EnvironmentId, Timestamp> {
    let mut windows: HashMap<EnvironmentId, u64> = directory
        .environments()
        .map(|environment| {
            (
                environment.record.id,
                environment.record.recency_window_seconds,
            )
        })
        .collect();
    for agent in directory.all_agents() {
        let role = agent.record.role.as_ref();
        if let Some(window) = role.and_then(|role| role.recency_window_seconds)
            && let Some(longest) = windows.get_mut(&agent.record.environment)
        {
            *longest = window.max(*longest);
        }
    }
    let age = |window: u64| {
        i64::try_from(window)
            .unwrap_or(i64::MAX)
            .saturating_add(DAY_SECONDS)
            .saturating_mul(1_000)
    };
    windows
        .into_iter()
        .map(|(id, window)| {
            let cutoff = now.plus_millis(age(window).saturating_neg());
            (id, Timestamp::from_seconds(cutoff.seconds()))
        })
        .collect()
}

/// How long the count of a SIP call may stay undurable.
const TICK: Duration = Duration::from_millis(250);

/// How often unreadable parts are read again.
const MEND_INTERVAL: Duration = Duration::from_secs(2);

/// Into how many parts contacts are divided to find those that cannot be read, or have old calls.
const SMALLEST_SHARE: usize = 256;

/// How often old calls are dropped.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// How many contacts one fact sweeps: some milliseconds of work for the writer.
const SWEPT_AT_ONCE: usize = 256;

/// A day, in seconds.
const DAY_SECONDS: i64 = 24 * 60 * 60;
