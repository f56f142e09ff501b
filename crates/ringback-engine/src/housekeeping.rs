//! Housekeeping beside the writer: loading the index at start, the tick that makes observations
//! durable, and the sweep of what is too old.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringback_routing::{Directory, EnvironmentId, Timestamp};
use tokio::sync::mpsc;

use crate::job::Job;
use crate::shared::{ROUTED_KNOWN_MILLIS, Shared};

/// Loads every stored contact into the index, with all cores. Until that is done the writer rebuilds
/// the contacts that it touches from the store, and a contact that is there already is left alone.
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

/// Loads a share of the contacts; what of it cannot be read is noted, in parts as small as possible, so
/// that damage in one place keeps nothing else out of memory.
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

/// Lets the index alone answer, if all of it has been loaded.
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
            "stored contacts cannot be read: questions about them are answered with 503 until the data \
             directory is mended; every other contact is served"
        );
    }
}

/// Tries again to load what could not be read.
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

/// Has the writer make observations durable every so often, and sweeps once an hour.
pub(crate) fn tick(shared: &Shared, jobs: &mpsc::Sender<Job>) {
    let mut swept = Instant::now();
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
        if swept.elapsed() >= SWEEP_INTERVAL && shared.contacts.whole.load(Ordering::Acquire) {
            sweep(shared);
            swept = Instant::now();
        }
    }
}

/// Drops calls that no role can want any more, and calls of agents that are gone.
fn sweep(shared: &Shared) {
    let now = shared.clock.now();
    let directory = shared.directory.load_full();
    let cutoffs = cutoffs(&directory, now);
    shared.contacts.index.retain(|environment, call| {
        let Some(environment) = directory.environment(environment) else {
            return false;
        };
        let cutoff = cutoffs.get(&environment.record.id);
        directory.agent(call.source).is_some()
            && cutoff.is_none_or(|cutoff| call.started_at.seconds() >= cutoff.seconds())
    });
    let routed_before = now.plus_millis(-ROUTED_KNOWN_MILLIS);
    let routed_before = shared.observed.expire(routed_before);
    let swept = shared.archive.sweep(
        &mut |call| {
            directory.agent_of(call.environment, call.agent).is_some()
                && cutoffs
                    .get(&call.environment)
                    .is_some_and(|cutoff| call.started_at >= *cutoff)
        },
        routed_before,
    );
    match swept {
        Ok(0) => {}
        Ok(calls) => tracing::info!(calls, "calls past every recency window were dropped"),
        Err(error) => tracing::error!(%error, "old calls could not be dropped"),
    }
}

/// Before when an environment's calls are past its own and every role's window, and a day more.
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
        .map(|(id, window)| (id, now.plus_millis(age(window).saturating_neg())))
        .collect()
}

/// How long a SIP call's count may stay undurable.
const TICK: Duration = Duration::from_millis(250);

/// How often it is tried again to read what could not be read.
const MEND_INTERVAL: Duration = Duration::from_secs(2);

/// Into how many parts contacts are divided to find out which of them cannot be read.
const SMALLEST_SHARE: usize = 256;

/// How often old calls are dropped.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// A day, in seconds.
const DAY_SECONDS: i64 = 24 * 60 * 60;
