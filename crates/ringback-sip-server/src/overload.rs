//! Budgets: how much of what is taken from whom.
//!
//! A peer's [`Bucket`]s bound what it may ask for. What all peers together ask for beyond the capacity
//! of the machine is shed by [`Pressure`]: the peers that ask for most are cut to an equal share, so
//! that those that ask for less lose nothing. A datagram that is taken in only to be dropped costs
//! about a third of one that is served, and a 503 nearly all of it. So what is shed is held back by
//! the system, in a [`Sieve`] before the socket; of what passes it, one in twenty is answered with 503, so
//! that the peer is told.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::sieve::{MOST_SOURCES, Mesh, Sieve};

/// A token bucket that fills in one second, in a single atomic (the generic cell rate algorithm).
///
/// Instants are durations since the server's start.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// When the bucket will be full again, in nanoseconds.
    full_at: AtomicU64,
}

impl Bucket {
    /// Whether a token is there.
    pub(crate) fn has(&self, rate: u32, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let token = SECOND / u64::from(rate.max(1));
        let full_at = self.full_at.load(Ordering::Relaxed).max(now);
        full_at.saturating_add(token).saturating_sub(now) <= SECOND
    }

    /// Takes a token; false if there is none. `rate` is in tokens per second, and the burst.
    pub(crate) fn take(&self, rate: u32, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let token = SECOND / u64::from(rate.max(1));
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(token);
            if next.saturating_sub(now) > SECOND {
                return false;
            }
            match self.full_at.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(current) => full_at = current,
            }
        }
    }
}

/// How a UDP thread keeps up with what comes, and who sends more than a fair share.
///
/// The queue is too long when even the shortest wait within a window is too long (as CoDel, RFC 8289,
/// sees it): a burst or a moment without the processor is not overload. Then what was done in the
/// window is what can be done, and the datagrams' own times tell how much was asked for meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// When the window began.
    begin: Duration,
    /// The shortest wait of the window so far.
    least_wait: Option<Duration>,
    /// The wait with which the window began.
    first_wait: Duration,
    /// The latest wait.
    last_wait: Duration,
    /// What each peer does.
    peers: Vec<Demand>,
    /// Where INVITEs came from lately, a sample.
    recent: ArrayVec<(IpAddr, usize), SAMPLES>,
    /// Which sample is replaced next.
    next_sample: usize,
    /// INVITEs until the next sample.
    until_sample: u32,
    /// Sources of peers that are held back.
    held: ArrayVec<(IpAddr, usize), MOST_SOURCES>,
    /// What can be done, in INVITEs a second, as far as it was seen lately.
    capacity: f64,
    /// What may be taken in; none: everything.
    limits: Option<Limits>,
    /// What stands before the socket.
    sieve: Sieve,
    /// Whether a sieve would not help: the system takes none, or there are too many sources.
    unsieved: bool,
    /// Since when what comes comes under these limits.
    changed: Duration,
    /// INVITEs taken in during the window and not served.
    unserved: u32,
    /// Spreads 503s among the refused.
    answers: u32,
}

/// An INVITE comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knock {
    /// Where its peer stands in the configuration.
    pub(crate) place: usize,
    /// Its source.
    pub(crate) ip: IpAddr,
    /// The peer's rate.
    pub(crate) rate: Option<u32>,
    /// Whether the peer is to be told when it is refused.
    pub(crate) wants_answers: bool,
}

/// What pressure means for an INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relief {
    /// It is served.
    Serve,
    /// It is refused, with an answer.
    Answer,
    /// It is dropped: there is no time for answers.
    Drop,
}

/// How much may be taken in, in INVITEs a second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Limits {
    /// Of each peer, of what is within its rate.
    share: f64,
    /// Of each peer, of what is beyond its rate, and is to be refused.
    surplus: f64,
}

/// What a peer asks for.
#[derive(Clone, Copy, Debug)]
struct Demand {
    /// INVITEs taken in during the window.
    taken: u32,
    /// INVITEs sent a second, those that were held back included.
    offered: f64,
    /// Its rate.
    rate: Option<u32>,
    /// Which part of its INVITEs is to be taken in.
    passes: f64,
    /// How many are taken in during a window at most, where the sieve does not know all sources.
    most: u32,
}

impl Pressure {
    /// A batch is taken in, the first datagram of which has waited so long. Given is what must stand
    /// before the socket from now on, if that changes.
    pub(crate) fn batch(&mut self, now: Duration, waited: Duration) -> Option<&Sieve> {
        let elapsed = now.saturating_sub(self.begin);
        let mut is_changed = false;
        if elapsed >= WINDOW {
            is_changed = self.turn(elapsed);
            if is_changed {
                self.changed = now;
            }
            self.begin = now;
            self.first_wait = waited;
        }
        self.last_wait = waited;
        self.least_wait = Some(self.least_wait.map_or(waited, |least| least.min(waited)));
        is_changed.then_some(&self.sieve)
    }

    /// Whether there is more to do than can be done.
    pub(crate) fn is_high(&self) -> bool {
        self.limits.is_some()
    }

    /// The system took no sieve.
    pub(crate) fn sieve_failed(&mut self) {
        self.unsieved = true;
    }

    /// Counts an INVITE and says what to do about it.
    pub(crate) fn invite(&mut self, knock: &Knock) -> Relief {
        if self.peers.len() <= knock.place {
            self.peers.resize(knock.place + 1, Demand::default());
        }
        let Some(peer) = self.peers.get_mut(knock.place) else {
            return Relief::Serve;
        };
        peer.taken += 1;
        peer.rate = knock.rate;
        let (taken, most, passes) = (peer.taken, peer.most, peer.passes);
        if self.until_sample == 0 {
            self.until_sample = SAMPLE_EACH;
            self.sample(knock);
        }
        self.until_sample -= 1;
        if self.limits.is_none() || passes >= 1.0 {
            return Relief::Serve;
        }
        // What is over the peer's rate is told so anyway.
        if knock.wants_answers && knock.rate.is_none() {
            self.answers = self.answers.wrapping_add(1);
            if self.answers.is_multiple_of(ONE_IN) {
                return Relief::Answer;
            }
        }
        if taken > most {
            self.unserved += 1;
            Relief::Drop
        } else {
            Relief::Serve
        }
    }

    /// Remembers where an INVITE came from.
    fn sample(&mut self, knock: &Knock) {
        let sample = (knock.ip, knock.place);
        if self.recent.try_push(sample).is_err() {
            self.next_sample = (self.next_sample + 1) % SAMPLES;
            if let Some(oldest) = self.recent.get_mut(self.next_sample) {
                *oldest = sample;
            }
        }
    }

    /// Draws the conclusions of a window that took so long; says whether the sieve changes.
    fn turn(&mut self, elapsed: Duration) -> bool {
        let least_wait = self.least_wait.take();
        let unserved = std::mem::take(&mut self.unserved);
        let seconds = elapsed.as_secs_f64();
        let is_whole = elapsed < 2 * WINDOW;
        let bound = if self.is_high() { GOOD_WAIT } else { LONG_WAIT };
        let excess = least_wait
            .filter(|_| is_whole)
            .and_then(|least| least.checked_sub(bound));
        if self.limits.is_none() && excess.is_none() {
            self.peers.fill(Demand::default());
            self.unsieved = false;
            return false;
        }
        if self.begin.saturating_sub(self.first_wait) < self.changed {
            // This came before the sieve was what it is, and tells nothing about it.
            for peer in &mut self.peers {
                peer.taken = 0;
            }
            return false;
        }
        let taken: u32 = self.peers.iter().map(|peer| peer.taken).sum();
        // A queue that grows holds more than was taken from it.
        let growth = self.last_wait.as_secs_f64() - self.first_wait.as_secs_f64();
        let stretch = (seconds / (seconds - growth).max(seconds / MOST_STRETCH)).min(MOST_STRETCH);
        for peer in &mut self.peers {
            let part = if self.unsieved { 1.0 } else { peer.passes };
            peer.observe(seconds / stretch * part.max(LEAST_PART));
        }
        if let Some(excess) = excess {
            let drained = (excess.as_secs_f64() / DRAIN.as_secs_f64()).min(MOST_DRAINED);
            let done = f64::from(taken.saturating_sub(unserved)) / seconds;
            // The processor may have been away for a part of the window.
            let known = if self.capacity > 0.0 {
                self.capacity
            } else {
                done
            };
            self.capacity = known + (done - known) * NEWS;
            let budget = self.capacity * (1.0 - drained);
            let offered: f64 = self.peers.iter().map(|peer| peer.offered).sum();
            // A queue that already shrinks fast enough needs no help.
            if self.limits.is_some() || offered > budget * TOLERANCE {
                self.limits = Some(Limits::fit(&self.peers, budget));
            }
        } else {
            let step = match least_wait.filter(|_| is_whole) {
                Some(least) if least > GOOD_WAIT / 2 => 1.0,
                Some(least) if least > GOOD_WAIT / 10 => WIDER,
                _ => MUCH_WIDER,
            };
            self.limits = self
                .limits
                .and_then(|limits| limits.wider(&self.peers, step));
        }
        for peer in &mut self.peers {
            peer.passes = self.limits.map_or(1.0, |limits| limits.part(peer));
            let allowed = peer.offered * peer.passes * WINDOW.as_secs_f64();
            peer.most = if self.unsieved {
                allowed as u32
            } else {
                // What waits already does so although it passed no sieve, and a window may be long.
                SLACK.saturating_add((allowed * 1.5) as u32)
            };
        }
        self.resieve()
    }

    /// Makes the sieve anew; says whether it differs enough from what stands before the socket.
    fn resieve(&mut self) -> bool {
        let part = |place: usize| self.peers.get(place).map_or(1.0, |peer| peer.passes);
        let held = &mut self.held;
        for (ip, place) in &self.recent {
            if let Some((_, known)) = held.iter_mut().find(|(held, _)| held == ip) {
                // A reload may have given it to another peer.
                *known = *place;
            } else if part(*place) < 1.0 {
                self.unsieved |= held.try_push((*ip, *place)).is_err();
            }
        }
        held.retain(|(_, place)| part(*place) < 1.0);
        let sieve = &self.sieve;
        let mesh = |&(ip, place): &(IpAddr, usize)| Mesh {
            ip,
            passes: (part(place) * f64::from(u32::MAX)) as u32,
        };
        let next = if self.unsieved {
            Sieve::default()
        } else {
            Sieve {
                sources: self.held.iter().map(mesh).collect(),
            }
        };
        let is_alike = next.sources.len() == sieve.sources.len()
            && next.sources.iter().all(|new| {
                let old = sieve.sources.iter().find(|old| old.ip == new.ip);
                old.is_some_and(|old| new.passes.abs_diff(old.passes) <= old.passes / NOTABLE)
            });
        if !is_alike {
            self.sieve = next;
        }
        !is_alike
    }
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            taken: 0,
            offered: 0.0,
            rate: None,
            passes: 1.0,
            most: u32::MAX,
        }
    }
}

impl Demand {
    /// Concludes how much was offered: what was taken in is all that came in so many seconds. Begins
    /// to count again.
    fn observe(&mut self, seconds: f64) {
        let offered = f64::from(self.taken) / seconds;
        // Up at once, down smoothly.
        self.offered = offered.max(f64::midpoint(self.offered, offered));
        self.taken = 0;
    }

    /// What is within its rate.
    fn worth(&self) -> f64 {
        self.offered.min(self.rate.map_or(f64::INFINITY, f64::from))
    }

    /// What is beyond its rate.
    fn surplus(&self) -> f64 {
        self.offered - self.worth()
    }
}

impl Limits {
    /// The limits under which the peers together have so much taken in: first what is within their
    /// rates, then what is not; of both, the same of each.
    fn fit(peers: &[Demand], budget: f64) -> Self {
        let share = level(peers.iter().map(Demand::worth), budget);
        let rest = budget - peers.iter().map(Demand::worth).sum::<f64>();
        Self {
            share,
            surplus: level(peers.iter().map(Demand::surplus), rest.max(0.0)),
        }
    }

    /// Limits that are wider by so much; none if nobody needs them.
    fn wider(self, peers: &[Demand], step: f64) -> Option<Self> {
        let greatest = |of: fn(&Demand) -> f64| peers.iter().map(of).fold(0.0, f64::max);
        let mut wider = self;
        if self.share < greatest(Demand::worth) {
            wider.share *= step;
        } else {
            wider.share = f64::INFINITY;
            wider.surplus = self.surplus.max(LEAST_SURPLUS) * step;
        }
        let is_wide = wider.share.is_infinite() && wider.surplus >= greatest(Demand::surplus);
        (!is_wide).then_some(wider)
    }

    /// Which part of a peer's INVITEs is to be taken in.
    fn part(&self, peer: &Demand) -> f64 {
        let allowed = peer.worth().min(self.share) + peer.surplus().min(self.surplus);
        if allowed >= peer.offered {
            return 1.0;
        }
        (allowed / peer.offered).max(LEAST_PART)
    }
}

/// How much each may have at most, so that all together have so much; infinite if there is enough.
fn level(wanted: impl Iterator<Item = f64> + Clone, budget: f64) -> f64 {
    let (mut left, mut count) = (
        budget,
        wanted.clone().filter(|wanted| *wanted > 0.0).count(),
    );
    // Whoever wants less than an equal part of what is left leaves more to the others.
    while count > 0 {
        let next = left / count as f64;
        let above = wanted.clone().filter(|wanted| *wanted > next);
        let satisfied: f64 = wanted.clone().filter(|wanted| *wanted <= next).sum();
        let still = above.count();
        if still == count {
            return next;
        }
        (left, count) = (budget - satisfied, still);
    }
    f64::INFINITY
}

/// How long pressure is watched before it is acted on.
const WINDOW: Duration = Duration::from_millis(10);

/// A wait that is too long if nothing waits shorter.
const LONG_WAIT: Duration = Duration::from_millis(10);

/// The wait that is aimed at under pressure, so that there is always something to do: what waits longer
/// is out of the processor's caches before its turn comes.
const GOOD_WAIT: Duration = Duration::from_millis(5);

/// In this time a queue that is too long is to be worked off.
const DRAIN: Duration = Duration::from_millis(100);

/// This part of what can be done is spent on working off a queue at most.
const MOST_DRAINED: f64 = 0.5;

/// How much a window counts for what is known of what can be done.
const NEWS: f64 = 0.2;

/// How much more than what can be done may be asked for before anything is held back: a few calls that
/// always wait, because each is followed by the next, are no overload.
const TOLERANCE: f64 = 1.05;

/// The fastest growth of a queue that is believed.
const MOST_STRETCH: f64 = 8.0;

/// By how much more is taken in where it turns out that it can be done.
const WIDER: f64 = 1.05;

/// By how much more is taken in where hardly anything waits.
const MUCH_WIDER: f64 = 1.1;

/// The first step back towards refusing in words what is beyond a peer's rate, in INVITEs a second.
const LEAST_SURPLUS: f64 = 100.0;

/// The smallest part of a peer's INVITEs that is taken in: without any, nothing is known of it.
const LEAST_PART: f64 = 0.001;

/// A peer that is held back has so many INVITEs taken in during a window in any case.
const SLACK: u32 = 64;

/// The sieve is changed where what passes changes by more than one part in so many.
const NOTABLE: u32 = 20;

/// One of so many INVITEs of a peer that is held back is answered with 503.
const ONE_IN: u32 = 20;

/// How many sources are remembered.
const SAMPLES: usize = 64;

/// One of so many INVITEs is a sample.
const SAMPLE_EACH: u32 = 32;

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn a_burst_of_one_second_passes_then_the_rate() {
        let bucket = Bucket::default();
        let start = Duration::from_secs(100);
        let take = |after: u64| bucket.take(50, start + Duration::from_millis(after));
        assert_eq!((0..80).filter(|_| take(0)).count(), 50);
        assert_eq!((0..80).filter(|_| take(100)).count(), 5);
        assert!(!take(119));
        assert!(take(120));
        assert_eq!((0..80).filter(|_| take(60_000)).count(), 50);
    }

    /// A server of a peer in each place, on time of its own.
    struct Model {
        pressure: Pressure,
        now: f64,
        /// What waits in the socket: when it came, from which peer.
        queue: VecDeque<(f64, usize)>,
        /// The next INVITE of each peer.
        next: Vec<f64>,
        /// Of each INVITE of a peer, which part of one is through the sieve.
        sifted: Vec<f64>,
        /// Whether the system has a sieve.
        can_sieve: bool,
    }

    /// A peer of the model.
    #[derive(Clone, Copy)]
    struct ModelPeer {
        /// INVITEs a second.
        offered: f64,
        rate: Option<u32>,
        wants_answers: bool,
    }

    /// What became of the INVITEs of a peer, a second.
    #[derive(Clone, Copy, Debug, Default)]
    struct Met {
        served: f64,
        answered: f64,
        dropped: f64,
        sieved: f64,
        /// There was no room in the socket.
        overflowed: f64,
        longest_wait: f64,
    }

    impl Met {
        fn lost(&self) -> f64 {
            self.answered + self.dropped + self.sieved + self.overflowed
        }
    }

    /// INVITEs a second that the model can serve.
    const CAPACITY: f64 = 100_000.0;

    /// What the socket of the model has room for.
    const ROOM: usize = 12_000;

    impl Model {
        fn new(peers: usize) -> Self {
            Self {
                pressure: Pressure::default(),
                now: 10.0,
                queue: VecDeque::new(),
                next: vec![10.0; peers],
                sifted: vec![0.0; peers],
                can_sieve: true,
            }
        }

        fn ip(place: usize) -> IpAddr {
            IpAddr::from([192, 0, 2, u8::try_from(place).unwrap()])
        }

        /// What the peers send comes in until now.
        fn arrive(&mut self, peers: &[ModelPeer], met: &mut [Met]) {
            for (place, peer) in peers.iter().enumerate() {
                while self.next[place] <= self.now {
                    let at = self.next[place];
                    self.next[place] += 1.0 / peer.offered;
                    let mut meshes = self.pressure.sieve.sources.iter();
                    let mesh = meshes.find(|mesh| mesh.ip == Self::ip(place));
                    let part = mesh
                        .filter(|_| self.can_sieve)
                        .map_or(1.0, |mesh| f64::from(mesh.passes) / f64::from(u32::MAX));
                    self.sifted[place] += part;
                    if self.sifted[place] < 0.999_999 {
                        met[place].sieved += 1.0;
                        continue;
                    }
                    self.sifted[place] -= 1.0;
                    if self.queue.len() < ROOM {
                        self.queue.push_back((at, place));
                    } else {
                        met[place].overflowed += 1.0;
                    }
                }
            }
        }

        fn run(&mut self, seconds: f64, peers: &[ModelPeer]) -> Vec<Met> {
            let mut met = vec![Met::default(); peers.len()];
            let end = self.now + seconds;
            for (next, peer) in self.next.iter_mut().zip(peers) {
                *next = self.now + 1.0 / peer.offered;
            }
            while self.now < end {
                self.arrive(peers, &mut met);
                let batch: Vec<_> = self.queue.drain(..self.queue.len().min(64)).collect();
                let Some((first, _)) = batch.first() else {
                    self.now += 20e-6;
                    continue;
                };
                let now = Duration::from_secs_f64(self.now);
                let waited = Duration::from_secs_f64((self.now - first).max(0.0));
                let sieve = self.pressure.batch(now, waited);
                if sieve.is_some() && !self.can_sieve {
                    self.pressure.sieve_failed();
                }
                for (at, place) in batch {
                    let knock = Knock {
                        place,
                        ip: Self::ip(place),
                        rate: peers[place].rate,
                        wants_answers: peers[place].wants_answers,
                    };
                    let met = &mut met[place];
                    met.longest_wait = met.longest_wait.max(self.now - at);
                    let (count, cost) = match self.pressure.invite(&knock) {
                        Relief::Serve => (&mut met.served, 1.0),
                        Relief::Answer => (&mut met.answered, 0.9),
                        Relief::Drop => (&mut met.dropped, 0.35),
                    };
                    *count += 1.0 / seconds;
                    self.now += cost / CAPACITY;
                }
            }
            for met in &mut met {
                met.sieved /= seconds;
                met.overflowed /= seconds;
            }
            met
        }
    }

    /// A peer without a rate that wants answers.
    const fn peer(offered: f64) -> ModelPeer {
        ModelPeer {
            offered,
            rate: None,
            wants_answers: true,
        }
    }

    #[test]
    fn without_pressure_everything_is_served() {
        let mut model = Model::new(2);
        let met = model.run(1.0, &[peer(90_000.0), peer(200.0)]);
        assert!(met.iter().all(|met| met.lost() == 0.0), "{met:?}");
        assert!(!model.pressure.is_high());
    }

    #[test]
    fn a_flood_is_cut_to_the_capacity_and_the_others_lose_nothing() {
        for flood in [1.5, 2.0, 3.0, 10.0] {
            let mut model = Model::new(3);
            let peers = [peer(flood * CAPACITY), peer(200.0), peer(10_000.0)];
            // The socket of the model overflows before a greater flood is noticed.
            if flood > 3.0 {
                model.run(0.2, &peers);
            }
            let met = model.run(2.0, &peers);
            let served: f64 = met.iter().map(|met| met.served).sum();
            assert!(served > 0.92 * CAPACITY, "{flood}: {met:?}");
            assert!(met[1].lost() + met[2].lost() == 0.0, "{flood}: {met:?}");
            assert!(met[0].answered > 0.03 * CAPACITY, "{flood}: {met:?}");
            assert!(met[1].longest_wait < 0.13, "{flood}: {met:?}");
        }
    }

    #[test]
    fn a_peer_to_be_met_with_silence_is_not_answered() {
        let mut model = Model::new(1);
        let silent = ModelPeer {
            wants_answers: false,
            ..peer(2.0 * CAPACITY)
        };
        let met = model.run(1.0, &[silent]);
        assert!(
            met[0].served > 0.95 * CAPACITY && met[0].answered == 0.0,
            "{met:?}"
        );
    }

    #[test]
    fn two_floods_are_cut_to_the_same() {
        let mut model = Model::new(3);
        let peers = [peer(3.0 * CAPACITY), peer(CAPACITY), peer(1_000.0)];
        model.run(0.3, &peers);
        let met = model.run(1.0, &peers);
        assert!(met[2].lost() == 0.0, "{met:?}");
        let ratio = met[0].served / met[1].served;
        assert!((0.85..1.15).contains(&ratio), "{met:?}");
    }

    #[test]
    fn what_is_beyond_a_rate_goes_first() {
        let mut model = Model::new(2);
        let limited = ModelPeer {
            rate: Some(1_000),
            ..peer(CAPACITY)
        };
        let peers = [limited, peer(70_000.0)];
        let met = model.run(2.0, &peers);
        assert!(met[1].lost() == 0.0, "{met:?}");
        // What there is time for is taken in, to be refused in words.
        assert!(met[0].served > 15_000.0, "{met:?}");
    }

    #[test]
    fn without_a_sieve_what_is_taken_in_is_bounded() {
        let mut model = Model::new(2);
        model.can_sieve = false;
        let peers = [peer(1.5 * CAPACITY), peer(1_000.0)];
        model.run(2.0, &peers);
        let met = model.run(1.0, &peers);
        assert!(
            met[1].lost() == 0.0 && met[0].dropped > 0.4 * CAPACITY,
            "{met:?}"
        );
    }

    #[test]
    fn the_sieve_goes_when_the_flood_is_over() {
        let mut model = Model::new(1);
        model.run(0.5, &[peer(3.0 * CAPACITY)]);
        assert_eq!(model.pressure.sieve.sources.len(), 1);
        model.run(0.5, &[peer(0.5 * CAPACITY)]);
        assert!(model.pressure.sieve.sources.is_empty());
        let met = model.run(0.5, &[peer(0.5 * CAPACITY)]);
        assert!(met[0].lost() == 0.0, "{met:?}");
    }

    #[test]
    fn a_moment_without_the_processor_is_no_overload() {
        let mut model = Model::new(2);
        let peers = [peer(0.6 * CAPACITY), peer(0.1 * CAPACITY)];
        for _ in 0..10 {
            model.run(0.2, &peers);
            model.now += 0.06;
            // What comes meanwhile waits.
            model.next.fill(model.now - 0.06);
        }
        assert!(!model.pressure.is_high());
    }

    #[test]
    fn one_short_wait_in_a_window_is_relief() {
        let mut pressure = Pressure::default();
        for window in 1..50 {
            let now = Duration::from_millis(11 * window);
            pressure.batch(now, Duration::from_millis(50));
            pressure.batch(now, Duration::from_millis(2));
            assert!(!pressure.is_high());
        }
    }

    #[test]
    fn a_rate_of_one_lets_one_pass_each_second() {
        let bucket = Bucket::default();
        let at = Duration::from_millis;
        assert!(bucket.take(1, at(0)) && !bucket.take(1, at(999)) && bucket.take(1, at(1_000)));
    }
}
