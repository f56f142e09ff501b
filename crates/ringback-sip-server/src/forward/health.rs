//! How targets are: which are passed over, what probes found, and how calls went.
//!
//! A target that gave no reply at all, or refused the connection, is held down for a while; any reply ends that. What a
//! target replies to a call never counts against it: a status would be a weapon in the hands of whoever can make it send
//! one. Probes take a target down after some failures in a row, and two successes bring it back.

use std::net::SocketAddr;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;
use ringback_routing::{EnvironmentId, HeldTarget, TargetState, Timestamp};
use ringback_sip_proto::Transport;
use ringback_sip_proxy::{Attempt, Cause, Target};

use crate::clock::Now;
use crate::status::TargetHealth;

/// What a target is known by: health is that of an address, whoever has it.
pub(crate) type Way = (Transport, SocketAddr);

/// How targets are.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Those that are passed over.
    down: DashMap<Way, Down, RandomState>,
    /// What probes found.
    probed: DashMap<Way, Probed, RandomState>,
    /// How calls of an environment went.
    tried: DashMap<(EnvironmentId, Way), Tried, RandomState>,
}

/// What a probe found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    /// A final reply, after this long.
    Replied(u16, Duration),
    /// Nothing.
    Silent,
}

/// Why a target is passed over.
#[derive(Clone, Copy, Debug)]
struct Down {
    /// Until when, by the uptime of the server, as it was silent or refused.
    held_until: Option<Duration>,
    /// Whether probes say so.
    by_probes: bool,
    /// Since when.
    since: Timestamp,
}

/// What probes found of a target.
#[derive(Clone, Copy, Debug)]
struct Probed {
    /// Since when it is up; `None`: it has not replied yet, or is down.
    up_since: Option<Timestamp>,
    /// Failures in a row.
    failures: u32,
    /// Successes in a row.
    successes: u32,
    /// How long the last reply took.
    rtt: Option<Duration>,
    /// The last reply.
    last_status: Option<u16>,
}

/// How calls went.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    /// All that were sent there.
    calls: u64,
    /// Those that another target was tried for, or would have been.
    failures: u64,
}

impl Probe {
    /// Whether the target can take calls.
    pub(crate) const fn is_life(self) -> bool {
        matches!(self, Self::Replied(status, _) if status != 408 && status != 503)
    }
}

impl Health {
    /// Notes how an attempt went; a target that is down now is passed over for `hold_down`. Gives the way of a
    /// target that was up so far and has refused the call: whatever waits there waits in vain.
    pub(crate) fn note(&self, attempt: &Attempt, now: Now, hold_down: Duration) -> Option<Way> {
        let way = attempt.way?;
        if attempt.first_reply.is_some() {
            self.heard(way);
            return None;
        }
        let is_down = matches!(attempt.cause, Some(Cause::Timeout | Cause::Refused));
        if !is_down || hold_down.is_zero() {
            return None;
        }
        if self.down.len() >= MOST_NOTED {
            self.down.retain(|_, down| down.is_on(now.uptime));
        }
        let held_until = Some(now.uptime + hold_down);
        let was_up = match self.down.entry(way) {
            Entry::Occupied(mut entry) if entry.get().is_on(now.uptime) => {
                entry.get_mut().held_until = held_until;
                false
            }
            entry => {
                entry.insert(Down {
                    held_until,
                    by_probes: false,
                    since: now.wall,
                });
                true
            }
        };
        if was_up {
            tracing::warn!(target = %way.1, cause = ?attempt.cause, "a target gave no reply: it is passed over for a while");
        }
        (was_up && attempt.cause == Some(Cause::Refused)).then_some(way)
    }

    /// Counts a call of an environment at a target.
    pub(crate) fn count_call(&self, environment: EnvironmentId, way: Way, is_failure: bool) {
        let key = (environment, way);
        if self.tried.len() >= MOST_NOTED && !self.tried.contains_key(&key) {
            return;
        }
        let mut tried = self.tried.entry(key).or_default();
        tried.calls += 1;
        tried.failures += u64::from(is_failure);
    }

    /// Notes what a probe found; so many failures in a row take a target down.
    pub(crate) fn probed(&self, way: Way, probe: Probe, down_after: u32, now: Now) {
        if matches!(probe, Probe::Replied(..)) {
            self.heard(way);
        }
        let was_down = self.down.get(&way).is_some_and(|down| down.by_probes);
        let mut probed = self.probed.entry(way).or_insert(Probed {
            up_since: None,
            failures: 0,
            successes: 0,
            rtt: None,
            last_status: None,
        });
        if let Probe::Replied(status, took) = probe {
            probed.last_status = Some(status);
            probed.rtt = Some(took);
        }
        if probe.is_life() {
            probed.failures = 0;
            probed.successes = probed.successes.saturating_add(1);
            if !was_down && probed.up_since.is_none() {
                probed.up_since = Some(now.wall);
            } else if was_down && probed.successes >= UP_AFTER {
                probed.up_since = Some(now.wall);
                drop(probed);
                self.change(way, |down| down.by_probes = false);
                tracing::info!(target = %way.1, "a target replies to OPTIONS again");
            }
            return;
        }
        probed.successes = 0;
        probed.failures = probed.failures.saturating_add(1);
        if was_down || probed.failures < down_after {
            return;
        }
        probed.up_since = None;
        drop(probed);
        let mut down = self.down.entry(way).or_insert(Down {
            held_until: None,
            by_probes: true,
            since: now.wall,
        });
        down.by_probes = true;
        tracing::warn!(target = %way.1, ?probe, "a target is down: it does not reply to OPTIONS");
    }

    /// Forgets what probes found of all targets but these.
    pub(crate) fn forget_probes(&self, is_probed: impl Fn(&Way) -> bool) {
        if self.probed.is_empty() {
            return;
        }
        self.probed.retain(|way, _| is_probed(way));
        self.down.retain(|way, down| {
            down.by_probes &= is_probed(way);
            down.by_probes || down.held_until.is_some()
        });
    }

    /// Passes over targets that are down while others are left; if all of them are, they are tried all the same. What
    /// an operator has taken down comes last. `held` is what operators say of each target.
    pub(crate) fn pass_over(
        &self,
        targets: &mut Vec<Target>,
        held: &[Option<bool>],
        now: Duration,
    ) {
        if self.down.is_empty() && held.iter().all(Option::is_none) {
            return;
        }
        let ranks = targets.iter().zip(held).map(|(target, held)| {
            let way = target.hop.as_ref().map(|hop| (hop.transport, hop.address));
            way.map(|way| rank(*held, self.is_down(&way, now)))
        });
        let ranks: Vec<Option<Rank>> = ranks.collect();
        let Some(best) = ranks.iter().flatten().min().copied() else {
            return;
        };
        for target in &mut *targets {
            target.is_down = best > Rank::Up;
        }
        let mut ranks = ranks.into_iter();
        // A target without a way is tried by nobody, but counts as one that failed.
        targets.retain(|_| ranks.next().flatten().is_none_or(|rank| rank == best));
    }

    /// How a target is, as far as that is known without an operator.
    pub(crate) fn state(&self, way: &Way, now: Duration) -> TargetState {
        if self.is_down(way, now) {
            return TargetState::Down;
        }
        let is_up = !self.probed.is_empty()
            && self
                .probed
                .get(way)
                .is_some_and(|probed| probed.up_since.is_some());
        if is_up {
            TargetState::Up
        } else {
            TargetState::Unknown
        }
    }

    /// Whether a target is passed over that leads these ways.
    pub(crate) fn rank_of(
        &self,
        ways: impl IntoIterator<Item = Way>,
        held: Option<bool>,
        now: Duration,
    ) -> Rank {
        let mut ways = ways.into_iter().peekable();
        let is_down = ways.peek().is_some() && ways.all(|way| self.is_down(&way, now));
        rank(held, is_down)
    }

    /// Whether nothing is down.
    pub(crate) fn is_all_well(&self) -> bool {
        self.down.is_empty()
    }

    /// How a target is that leads these ways, and how the calls of an environment went there.
    pub(crate) fn of(
        &self,
        ways: &[Way],
        environment: EnvironmentId,
        now: Duration,
    ) -> TargetHealth {
        let mut health = TargetHealth::default();
        let state = |way: &Way| self.state(way, now);
        let is = |wanted: TargetState| ways.iter().any(|way| state(way) == wanted);
        health.state = if is(TargetState::Up) {
            TargetState::Up
        } else if is(TargetState::Unknown) || ways.is_empty() {
            TargetState::Unknown
        } else {
            TargetState::Down
        };
        for way in ways {
            if let Some(probed) = self.probed.get(way) {
                health.rtt = health.rtt.into_iter().chain(probed.rtt).min();
                health.last_status = probed.last_status.or(health.last_status);
                if health.state == TargetState::Up {
                    health.since = health.since.into_iter().chain(probed.up_since).min();
                }
            }
            if health.state == TargetState::Down {
                let since = self.down.get(way).map(|down| down.since);
                health.since = health.since.into_iter().chain(since).max();
            }
            if let Some(tried) = self.tried.get(&(environment, *way)) {
                health.calls += tried.calls;
                health.failures += tried.failures;
            }
        }
        health
    }

    /// How many targets are down.
    pub(crate) fn count(&self, now: Duration) -> usize {
        self.down.iter().filter(|down| down.is_on(now)).count()
    }

    /// A reply came: nobody is held down any more who replies.
    fn heard(&self, way: Way) {
        if !self.down.is_empty() && self.change(way, |down| down.held_until = None) {
            tracing::info!(target = %way.1, "a target replies again");
        }
    }

    /// Changes why a target is down; true if it is not any more.
    fn change(&self, way: Way, change: impl FnOnce(&mut Down)) -> bool {
        let Entry::Occupied(mut entry) = self.down.entry(way) else {
            return false;
        };
        change(entry.get_mut());
        let is_up = !entry.get().by_probes && entry.get().held_until.is_none();
        if is_up {
            entry.remove();
        }
        is_up
    }

    /// Whether a target is down; what was long enough is forgotten.
    fn is_down(&self, way: &Way, now: Duration) -> bool {
        if self.down.is_empty() {
            return false;
        }
        let Some(down) = self.down.get(way).map(|down| *down) else {
            return false;
        };
        let is_on = down.is_on(now);
        if !is_on {
            self.down.remove_if(way, |_, down| !down.is_on(now));
        }
        is_on
    }
}

impl Down {
    /// Whether it still is.
    fn is_on(&self, now: Duration) -> bool {
        self.by_probes || self.held_until.is_some_and(|until| until > now)
    }
}

/// How willingly a target is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// It is up, as far as is known.
    Up,
    /// It is down.
    Down,
    /// An operator has taken it down.
    HeldDown,
}

/// The rank of a target; an operator's word counts first.
const fn rank(held: Option<bool>, is_down: bool) -> Rank {
    match held {
        Some(true) => Rank::Up,
        Some(false) => Rank::HeldDown,
        None if is_down => Rank::Down,
        None => Rank::Up,
    }
}

/// What an operator says of the target with this URI: whether it is up.
pub(crate) fn held(all: &[HeldTarget], uri: &str) -> Option<bool> {
    if all.is_empty() {
        return None;
    }
    let destination = ringback_sip_proto::destination(uri)?;
    let found = all.iter().find(|held| held.destination == destination);
    found.map(|held| held.is_up)
}

/// How many targets are noted before those are forgotten that were long enough.
const MOST_NOTED: usize = 65_536;

/// How many successes in a row bring a target back.
const UP_AFTER: u32 = 2;
