//! Housekeeping beside the writer: loading the index at start, the tick that makes observations
//! durable, and the sweep of what is too old.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringback_routing::{Directory, EnvironmentId, Timestamp};
use tokio::sync::mpsc;

use crate::engine::{ROUTED_KNOWN_MILLIS, Shared, recent};
use crate::writer::Job;

/// Loads every stored contact into the index, with all cores. Until that is done the writer rebuilds
/// the contacts that it touches from the store, and a contact that is there already is left alone.
pub(crate) fn load(shared: &Shared) {
    let parts = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let began = Instant::now();
    let succeeded = std::thread::scope(|scope| {
        let loaders: Vec<_> = (0..parts)
            .map(|part| scope.spawn(move || load_part(shared, part, parts)))
            .collect();
        loaders
            .into_iter()
            .all(|loader| loader.join().unwrap_or(false))
    });
    if succeeded {
        shared.contacts.loaded(&shared.directory.load());
        let contacts = shared.contacts.len();
        tracing::info!(contacts, elapsed = ?began.elapsed(), "every contact is in memory");
    }
}

/// Loads one part of the contacts; false if it was broken off.
fn load_part(shared: &Shared, part: usize, parts: usize) -> bool {
    let mut stopped = false;
    let result = shared
        .archive
        .visit_contacts(part, parts, &mut |id, contact, calls| {
            if shared.stopping.load(Ordering::Relaxed) {
                stopped = true;
                return ControlFlow::Break(());
            }
            let directory = shared.directory.load();
            if let Some(environment) = directory.environment_by_id(id) {
                let calls = recent(&directory, calls.to_vec());
                shared
                    .contacts
                    .index
                    .insert_if_absent(environment.slot, contact, &calls);
            }
            ControlFlow::Continue(())
        });
    match result {
        Ok(()) => !stopped,
        Err(error) => {
            tracing::error!(%error, "contacts could not be loaded; they are looked up in the store");
            false
        }
    }
}

/// Has the writer make observations durable every so often, and sweeps once an hour.
pub(crate) fn tick(shared: &Shared, jobs: &mpsc::Sender<Job>) {
    let mut swept = Instant::now();
    while !shared.stopping.load(Ordering::Acquire) {
        // Shutting down wakes this thread early.
        std::thread::park_timeout(TICK);
        if matches!(
            jobs.try_send(Job::Tick),
            Err(mpsc::error::TrySendError::Closed(_))
        ) {
            return;
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
    shared.observed.expire(routed_before);
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

/// How often old calls are dropped.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// A day, in seconds.
const DAY_SECONDS: i64 = 24 * 60 * 60;
