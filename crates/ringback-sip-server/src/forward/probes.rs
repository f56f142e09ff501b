//! OPTIONS to every target, now and then: what is down is known before a call finds out.
//!
//! One task sends them, from the sockets that calls leave from, and again until a reply comes or the reply timeout has
//! passed. Replies come wherever replies come, and are told apart by their branch. What they say is the business of
//! [`health`](crate::forward::health).

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use ringback_routing::Directory;
use ringback_sip_proto::{Transport, destination};
use ringback_sip_proxy::{Hop, Keys, Transmit, Way as ProxyWay};

use crate::clock::Now;
use crate::forward::Forward;
use crate::forward::health::{Probe, Way};
use crate::forward::streams::NOBODY;
use crate::forward::target::for_each_target;
use crate::forward::worker::send_by;
use crate::policy::Policy;
use crate::program::Program;
use crate::shared::{Phase, Shared, reached};

/// The probes that wait for a reply.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// By name.
    waiting: DashMap<u64, Waiting, RandomState>,
    /// How many there have been.
    number: AtomicU64,
    /// After how many failures in a row a target is down.
    down_after: AtomicU32,
}

/// A probe that waits for a reply.
#[derive(Clone, Debug)]
struct Waiting {
    /// What is asked.
    asked: Asked,
    /// When it was first sent.
    sent_at: Duration,
    /// When it is sent again, and how long after the time before.
    again: (Duration, Duration),
}

/// What is asked.
#[derive(Clone, Debug)]
struct Asked {
    /// The destination, as a URI.
    uri: Arc<str>,
    /// One of the ways that it leads.
    hop: Arc<Hop>,
}

/// The targets that are asked now and then, by their ways: when it is next done.
type Schedule = HashMap<Way, (Asked, Duration), RandomState>;

impl Probes {
    /// A final reply to a probe came; late ones are not looked at.
    pub(crate) fn replied(&self, forward: &Forward, name: u64, status: u16, now: Now) {
        if status < 200 {
            return;
        }
        if let Some((_, waiting)) = self.waiting.remove(&name) {
            let took = now.uptime.saturating_sub(waiting.sent_at);
            self.tell(forward, &waiting.asked, Probe::Replied(status, took), now);
        }
    }

    /// Counts what a probe found, and tells it.
    fn tell(&self, forward: &Forward, asked: &Asked, probe: Probe, now: Now) {
        let way = (asked.hop.transport, asked.hop.address);
        forward.counters.probed(probe);
        let down_after = self.down_after.load(Ordering::Relaxed);
        forward.health.probed(way, probe, down_after, now);
    }

    /// Sends what is due, and gives up what was silent for too long.
    fn turn<P: Program>(&self, shared: &Arc<Shared<P>>, policy: &Policy, schedule: &mut Schedule) {
        let now = shared.now();
        let config = &policy.forward;
        self.down_after.store(config.probe_down, Ordering::Relaxed);
        let mut silent = Vec::new();
        let mut to_send = Vec::new();
        for mut waiting in self.waiting.iter_mut() {
            let name = *waiting.key();
            if now.uptime >= waiting.sent_at + config.settings.reply_timeout {
                silent.push(name);
            } else if now.uptime >= waiting.again.0 && waiting.asked.is_datagram() {
                let pause = (waiting.again.1 * 2).min(config.settings.t2);
                waiting.again = (now.uptime + pause, pause);
                to_send.push((name, waiting.asked.clone()));
            }
        }
        for name in silent {
            if let Some((_, waiting)) = self.waiting.remove(&name) {
                self.tell(&shared.forward, &waiting.asked, Probe::Silent, now);
            }
        }
        for (asked, next_at) in schedule.values_mut() {
            if now.uptime < *next_at {
                continue;
            }
            *next_at = now.uptime + jittered(&shared.forward, self.number(), config.probe);
            let name = self.name(&shared.forward);
            let waiting = Waiting {
                asked: asked.clone(),
                sent_at: now.uptime,
                again: (now.uptime + config.settings.t1, config.settings.t1),
            };
            self.waiting.insert(name, waiting);
            to_send.push((name, asked.clone()));
        }
        for (name, asked) in to_send {
            asked.send(shared, name);
        }
    }

    /// The name of the next probe.
    fn name(&self, forward: &Forward) -> u64 {
        // What is random in it is another one at each start.
        let seed = forward.hasher.hash_one("probes");
        forward.keys.probe(seed, self.number())
    }

    /// A number that no probe had.
    fn number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }
}

impl Asked {
    /// Whether it may be lost.
    fn is_datagram(&self) -> bool {
        self.hop.transport == Transport::Udp
    }

    /// Sends a probe. One that cannot be sent gets no reply, and that is what counts.
    fn send<P: Program>(&self, shared: &Arc<Shared<P>>, name: u64) {
        let mut bytes = Vec::new();
        Keys::write_probe(&self.uri, &self.hop, name, &mut bytes);
        let hop = &self.hop;
        let transmit = Transmit {
            bytes: &bytes,
            transport: hop.transport,
            address: hop.address,
            way: ProxyWay::Back(0),
        };
        if self.is_datagram() {
            let thread = shared.forward.ways.thread_of(hop.socket);
            if let Err(error) = send_by(shared, thread, &transmit) {
                tracing::debug!(%error, "a probe was not sent");
            }
        } else {
            let streams = &shared.forward.streams;
            streams.send_out(shared, &transmit, hop.socket, NOBODY);
        }
    }
}

/// Probes all targets until the server stops.
pub(crate) async fn run<P: Program>(shared: Arc<Shared<P>>) {
    let forward = &shared.forward;
    let mut phase = shared.phase();
    let mut schedule = Schedule::default();
    let mut scanned: Option<(usize, Duration)> = None;
    loop {
        let policy = shared.policy.load_full();
        if policy.forward.probe.is_zero() {
            schedule.clear();
            scanned = None;
            forward.probes.waiting.clear();
            forward.health.forget_probes(|_| false);
        } else {
            let directory = shared.program.directory();
            let now = shared.now().uptime;
            // Only the place of what is in force is compared; names change by themselves, so that all is looked at
            // now and then.
            let version = Arc::as_ptr(&directory) as usize;
            let is_new = scanned.is_none_or(|(before, at)| before != version || now >= at);
            if is_new {
                scanned = Some((version, now + SCAN_PAUSE));
                scan(
                    forward,
                    &directory,
                    policy.forward.probe,
                    now,
                    &mut schedule,
                );
                forward
                    .health
                    .forget_probes(|way| schedule.contains_key(way));
            }
            forward.probes.turn(&shared, &policy, &mut schedule);
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _ = reached(&mut phase, Phase::Stopped) => return,
        }
    }
}

/// Takes in the ways of all targets, and forgets the others. A new one is asked within the interval.
fn scan(
    forward: &Forward,
    directory: &Directory,
    interval: Duration,
    now: Duration,
    schedule: &mut Schedule,
) {
    let mut found = Schedule::default();
    let mut uris = HashMap::<String, (), RandomState>::default();
    for_each_target(directory, |uri| {
        uris.extend(destination(uri).map(|uri| (uri, ())));
    });
    for uri in uris.into_keys() {
        let uri: Arc<str> = uri.into();
        for hop in forward.ways.all(&uri, &forward.names) {
            let way = (hop.transport, hop.address);
            let known = schedule.get(&way).map(|(_, next_at)| *next_at);
            let next_at = known.unwrap_or_else(|| {
                let number = forward.probes.number();
                now + jittered(forward, number, interval) / 2
            });
            if found.len() < MOST_PROBED {
                let uri = Arc::clone(&uri);
                found.insert(way, (Asked { uri, hop }, next_at));
            }
        }
    }
    *schedule = found;
}

/// About this long, a fifth more or less, so that not everything comes at once.
fn jittered(forward: &Forward, number: u64, interval: Duration) -> Duration {
    let share = (forward.hasher.hash_one(number) % 401) as u32;
    interval * (800 + share) / 1_000
}

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(100);

/// After how long all targets are looked at again, though nothing has changed but names.
const SCAN_PAUSE: Duration = Duration::from_secs(5);

/// How many ways are probed.
const MOST_PROBED: usize = 16_384;
