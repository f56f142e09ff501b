//! Overload: how many INVITEs are accepted, and from which peers.
//!
//! [`Pressure`] sheds the calls beyond the capacity of the machine: the peers that send most are cut to an equal
//! share, so that peers that send less lose nothing. A datagram that is received only to be dropped costs about a
//! third of one that is served, and a 503 nearly all of it. So the system drops the excess, in a [`PacketFilter`]
//! before the socket. Of the INVITEs that pass it, one in twenty is answered with 503, so that the peer learns of
//! the overload.

use std::net::IpAddr;
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::admission::packet_filter::{MOST_SOURCES, PacketFilter, SourceFilter};

/// Whether a UDP thread keeps up with its datagrams, and which peers send more than a fair share.
///
/// Overload is a queue that [stands](QueueWatch); a burst, or a moment without the processor, is no overload.
/// While the queue stands, the number of calls done in a window is the capacity, and the datagrams' times of
/// arrival show how many were offered in that time.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// Whether the queue stands.
    watch: QueueWatch,
    /// Whether INVITEs that waited too long are refused: true from when the queue stands until it is gone.
    stands: bool,
    /// The start of the window.
    begin: Duration,
    /// The shortest wait of the window so far.
    least_wait: Option<Duration>,
    /// The wait at the start of the window.
    first_wait: Duration,
    /// The latest wait.
    last_wait: Duration,
    /// The demand of each peer, by its index.
    peers: Vec<Demand>,
    /// A sample of the sources of recent INVITEs, with their peers.
    recent: ArrayVec<(IpAddr, usize), SAMPLES>,
    /// The sample that was last replaced.
    next_sample: usize,
    /// INVITEs until the next sample.
    until_sample: u32,
    /// The sources that are held back, with their peers.
    held: ArrayVec<(IpAddr, usize), MOST_SOURCES>,
    /// The capacity in INVITEs per second, by recent windows.
    capacity: f64,
    /// How many INVITEs are accepted; `None`: all.
    limits: Option<Limits>,
    /// The packet filter before the socket.
    filter: PacketFilter,
    /// Whether a packet filter does not help: the system accepts none, or there are too many sources.
    unfiltered: bool,
    /// When the limits last changed; datagrams that arrived earlier were not filtered by them.
    changed: Duration,
    /// For how long there have been limits.
    limited: Duration,
    /// Whether limits are needed, if the rest of the window confirms it.
    is_due: bool,
    /// INVITEs received during the window and not served.
    unserved: u32,
    /// Counts refused INVITEs, to answer one in [`ONE_IN`].
    answers: u32,
}

/// Distinguishes a queue that stands from one that a stall of the machine or a burst has left.
///
/// A queue is long while nothing waits for less than [`LONG_WAIT`], or while it fills most of the socket's room.
/// A queue that is long for [`STANDING_TIME`] stands (in the sense of CoDel, RFC 8289), unless it is being worked
/// off: then the datagrams' times of arrival advance faster than the clock. Only time in which the thread was
/// running counts, so a stall of the machine, however long, proves nothing.
#[derive(Debug, Default)]
struct QueueWatch {
    /// How many datagrams the socket has room for, roughly; 0 if that is unknown.
    room: f64,
    /// When the latest batch was received.
    latest: Duration,
    /// The time for which the queue has been long.
    standing: Stretch,
    /// The time for which the queue has been watched for growth.
    growing: Stretch,
    /// Datagrams received during `growing`.
    taken: u32,
    /// How long the first datagram of the latest batch had waited.
    waited: Duration,
    /// By how much that wait has grown while the thread was running.
    grown: Duration,
    /// Whether the queue fills most of the socket's room.
    is_full: bool,
}

/// A stretch of time in which the thread was running.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    /// When the first datagram at the start of the stretch arrived; `None`: it has not begun.
    first_arrival: Option<Duration>,
    /// Its length so far.
    ran: Duration,
}

/// The state of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// It is short, or being worked off, or its state is not known yet.
    Passing,
    /// It grows although the thread is running, and will soon overflow the socket.
    Overflowing,
    /// It has been long for too long.
    Standing,
}

impl QueueWatch {
    /// Notes that a batch of this many datagrams was received, the first of which waited this long.
    fn batch(&mut self, now: Duration, waited: Duration, count: u32) -> Queue {
        let elapsed = now.saturating_sub(self.latest);
        let ran = elapsed.min(MOST_RUN);
        // The growth of the wait while the thread was running. A stall also makes it grow; that part does not
        // count.
        let stalled = elapsed - ran;
        self.grown = (self.grown + waited)
            .saturating_sub(self.waited)
            .saturating_sub(stalled)
            .min(waited);
        (self.latest, self.waited) = (now, waited);
        let arrival = now.saturating_sub(waited);
        if stalled > Duration::ZERO {
            // Datagrams that arrived during a stall say nothing about growth.
            self.growing = Stretch::default();
            self.is_full = false;
            self.taken = 0;
        }
        self.taken = self.taken.saturating_add(count);
        let mut queue = Queue::Passing;
        if let Some((lasted, advance)) = self.growing.pass(arrival, ran, GROWING_TIME) {
            let taken = f64::from(std::mem::take(&mut self.taken));
            // The queue's length, if datagrams arrive as before. A burst that arrived all at once does not count.
            let is_steady = advance * MOST_GROWTH > lasted;
            let backlog = taken / advance.as_secs_f64() * self.grown.as_secs_f64();
            self.is_full = is_steady && self.room > 0.0 && backlog > self.room * FULL;
            if self.is_full && advance.as_secs_f64() < lasted.as_secs_f64() * GROWTH {
                queue = Queue::Overflowing;
            }
        }
        if waited <= LONG_WAIT && !self.is_full {
            self.standing = Stretch::default();
        } else if let Some((lasted, advance)) = self.standing.pass(arrival, ran, STANDING_TIME)
            && advance.as_secs_f64() < lasted.as_secs_f64() * WORKED_OFF
        {
            queue = Queue::Standing;
        }
        queue
    }
}

impl Stretch {
    /// By how much the arrivals have advanced since the start of the stretch.
    fn advance(&self, arrival: Duration) -> Option<Duration> {
        Some(arrival.saturating_sub(self.first_arrival?))
    }

    /// Adds running time to the stretch; the first datagram now is one that arrived at this time. Once the
    /// stretch is long enough, returns its length and by how much the arrivals have advanced, and begins the next
    /// one.
    fn pass(
        &mut self,
        arrival: Duration,
        ran: Duration,
        length: Duration,
    ) -> Option<(Duration, Duration)> {
        let Some(advance) = self.advance(arrival) else {
            self.first_arrival = Some(arrival);
            return None;
        };
        self.ran += ran;
        if self.ran < length {
            return None;
        }
        let whole = (self.ran, advance);
        *self = Self {
            first_arrival: Some(arrival),
            ran: Duration::ZERO,
        };
        Some(whole)
    }
}

/// An INVITE that was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arriving {
    /// The index of its peer in the configuration.
    pub(crate) index: usize,
    /// Its source.
    pub(crate) ip: IpAddr,
    /// The peer's rate.
    pub(crate) rate: Option<u32>,
    /// Whether the peer gets a reply when the INVITE is refused.
    pub(crate) wants_answers: bool,
}

/// What happens to an INVITE under pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is served.
    Serve,
    /// It is refused with 503.
    Answer,
    /// It is dropped: there is no time for a reply.
    Drop,
}

/// How many INVITEs are accepted, per second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Limits {
    /// From each peer, of those within its rate.
    share: f64,
    /// From each peer, of those beyond its rate, which are then refused.
    surplus: f64,
}

/// The demand of a peer.
#[derive(Clone, Copy, Debug)]
struct Demand {
    /// INVITEs received during the window.
    taken: u32,
    /// INVITEs sent per second, including those held back.
    offered: f64,
    /// Its rate.
    rate: Option<u32>,
    /// The part of its INVITEs that is accepted, from 0 to 1.
    passes: f64,
    /// The most INVITEs accepted during a window, in case the packet filter does not know all sources.
    most: u32,
}

impl Pressure {
    /// Nothing is known yet. The socket has this many bytes of room.
    pub(crate) fn new(room_bytes: usize) -> Self {
        Self {
            watch: QueueWatch {
                room: room_bytes as f64 / DATAGRAM_BYTES,
                ..QueueWatch::default()
            },
            ..Self::default()
        }
    }

    /// Notes that a batch of this many datagrams was received, the first of which waited this long. Returns the
    /// new packet filter for the socket, if it changes.
    pub(crate) fn batch(
        &mut self,
        now: Duration,
        waited: Duration,
        count: u32,
    ) -> Option<&PacketFilter> {
        let queue = self.watch.batch(now, waited, count);
        self.stands |= queue == Queue::Standing;
        self.is_due |= queue != Queue::Passing;
        let elapsed = now.saturating_sub(self.begin);
        let mut is_changed = false;
        if elapsed >= WINDOW {
            is_changed = self.turn(elapsed, waited);
            if is_changed {
                self.changed = now;
            }
            self.begin = now;
            self.first_wait = waited;
        }
        self.last_wait = waited;
        self.least_wait = Some(self.least_wait.map_or(waited, |least| least.min(waited)));
        is_changed.then_some(&self.filter)
    }

    /// Whether there are limits.
    pub(crate) fn is_high(&self) -> bool {
        self.limits.is_some()
    }

    /// Whether an INVITE that waited this long must be refused, unless it was answered before.
    ///
    /// While no queue stands, an INVITE that waited through a stall is answered, however late: a late 302 is
    /// better than a 503, and its sender waits until its transaction ends.
    pub(crate) fn is_late(&self, waited: Duration) -> bool {
        waited > if self.stands { LATE } else { TRANSACTION_TIME }
    }

    /// How long nothing must arrive until the filter is [lifted](Self::lift); `None`: there is no filter.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.is_high().then_some(IDLE_TIME)
    }

    /// Notes that the filter before the socket was removed, because nothing arrived for a while.
    pub(crate) fn lift(&mut self) {
        let room = self.watch.room;
        let unfiltered = self.unfiltered;
        *self = Self {
            unfiltered,
            ..Self::default()
        };
        self.watch.room = room;
    }

    /// Notes that the system did not accept the packet filter.
    pub(crate) fn filter_failed(&mut self) {
        self.unfiltered = true;
    }

    /// Counts an INVITE and decides what happens to it.
    pub(crate) fn invite(&mut self, arriving: &Arriving) -> Admission {
        if self.peers.len() <= arriving.index {
            self.peers.resize(arriving.index + 1, Demand::default());
        }
        let Some(peer) = self.peers.get_mut(arriving.index) else {
            return Admission::Serve;
        };
        peer.taken += 1;
        peer.rate = arriving.rate;
        let (taken, most, passes) = (peer.taken, peer.most, peer.passes);
        if self.until_sample == 0 {
            self.until_sample = SAMPLE_EACH;
            self.sample(arriving);
        }
        self.until_sample -= 1;
        // Until the queue stands, every INVITE received is served.
        if !self.stands || self.limits.is_none() || passes >= 1.0 {
            return Admission::Serve;
        }
        // A peer with a rate gets 503 for INVITEs over its rate anyway.
        if arriving.wants_answers && arriving.rate.is_none() {
            self.answers = self.answers.wrapping_add(1);
            if self.answers.is_multiple_of(ONE_IN) {
                return Admission::Answer;
            }
        }
        if taken > most {
            self.unserved += 1;
            Admission::Drop
        } else {
            Admission::Serve
        }
    }

    /// Adds the source of an INVITE to the sample.
    fn sample(&mut self, arriving: &Arriving) {
        let sample = (arriving.ip, arriving.index);
        if self.recent.try_push(sample).is_err() {
            self.next_sample = (self.next_sample + 1) % SAMPLES;
            if let Some(oldest) = self.recent.get_mut(self.next_sample) {
                *oldest = sample;
            }
        }
    }

    /// Evaluates a window of this length; `waited` is the wait of the first datagram behind it. Returns whether
    /// the packet filter changes.
    fn turn(&mut self, elapsed: Duration, waited: Duration) -> bool {
        let least_wait = self.least_wait.take();
        let unserved = std::mem::take(&mut self.unserved);
        let seconds = elapsed.as_secs_f64();
        // A longer window had a stall or a time without work in it, so its waits show nothing.
        let is_whole = elapsed < 2 * WINDOW;
        let taken: u32 = self.peers.iter().map(|peer| peer.taken).sum();
        let done = f64::from(taken.saturating_sub(unserved)) / seconds;
        if self.is_due && self.capacity <= 0.0 {
            self.capacity = done;
        }
        let good_wait = self.good_wait();
        let excess = least_wait
            .filter(|_| is_whole)
            .and_then(|least| least.checked_sub(good_wait));
        let is_due = std::mem::take(&mut self.is_due);
        if self.limits.is_none() && (excess.is_none() || !is_due) {
            self.peers.fill(Demand::default());
            self.unfiltered = false;
            self.stands = false;
            return false;
        }
        let was_idle = elapsed >= IDLE_TIME && waited <= LONG_WAIT;
        let has_stalled = !is_whole && waited > LONG_WAIT;
        let is_old = self.begin.saturating_sub(self.first_wait) < self.changed;
        if has_stalled || (is_old && !was_idle) {
            // These INVITEs arrived before the current packet filter, or during a stall: they do not show the
            // capacity.
            for peer in &mut self.peers {
                peer.taken = 0;
            }
            return false;
        }
        // A queue that grows holds more datagrams than were taken from it.
        let growth = self.last_wait.as_secs_f64() - self.first_wait.as_secs_f64();
        let stretch = (seconds / (seconds - growth).max(seconds / MOST_STRETCH)).min(MOST_STRETCH);
        // The filter let only a part of the INVITEs pass, so more were offered than were received.
        for peer in &mut self.peers {
            let part = if self.unfiltered { 1.0 } else { peer.passes };
            peer.observe(seconds / stretch * part.max(LEAST_PART));
        }
        if let Some(excess) = excess {
            let mut drained = (excess.as_secs_f64() / DRAIN.as_secs_f64()).min(MOST_DRAINED);
            if self.watch.is_full {
                // Datagrams without room were not seen: the demand may be much higher.
                drained = MOST_DRAINED;
            }
            // The processor may have been away for a part of the window, so that too little was done: change the
            // capacity slowly.
            let known = if self.capacity > 0.0 {
                self.capacity
            } else {
                done
            };
            self.capacity = known + (done - known) * NEWS;
            let budget = self.capacity * (1.0 - drained);
            let offered: f64 = self.peers.iter().map(|peer| peer.offered).sum();
            // A queue that already shrinks fast enough needs no limits.
            if self.limits.is_some() || offered > budget * TOLERANCE {
                self.limits = Some(Limits::fit(&self.peers, budget));
            }
        } else if was_idle {
            self.limits = None;
        } else {
            let step = match least_wait.filter(|_| is_whole) {
                Some(least) if least > good_wait / 2 => 1.0,
                Some(least) if least > good_wait / 10 => WIDER,
                Some(_) => MUCH_WIDER,
                // The thread had nothing to do for a while: the longer, the wider the limits become.
                None => MUCH_WIDER.powf(seconds / WINDOW.as_secs_f64()),
            };
            self.limits = self
                .limits
                .and_then(|limits| limits.wider(&self.peers, step));
        }
        if self.limits.is_none() {
            self.stands = false;
            self.limited = Duration::ZERO;
        } else {
            // Limits that last show that more calls are offered than can be done.
            self.limited += elapsed.min(2 * WINDOW);
            self.stands |= self.limited >= STANDING_TIME;
        }
        for peer in &mut self.peers {
            peer.passes = self.limits.map_or(1.0, |limits| limits.part(peer));
            let allowed = peer.offered * peer.passes * WINDOW.as_secs_f64();
            peer.most = if self.unfiltered {
                allowed as u32
            } else {
                // What already waits did not pass this filter, and a window may be long.
                SLACK.saturating_add((allowed * 1.5) as u32)
            };
        }
        self.rebuild_filter()
    }

    /// The wait to aim at: less than [`GOOD_WAIT`] if the socket has little room.
    fn good_wait(&self) -> Duration {
        if self.watch.room > 0.0 && self.capacity > 0.0 {
            let full = Duration::from_secs_f64(self.watch.room / self.capacity);
            GOOD_WAIT.min(full / 4)
        } else {
            GOOD_WAIT
        }
    }

    /// Builds the packet filter; returns whether it differs enough from the current one.
    fn rebuild_filter(&mut self) -> bool {
        let part = |index: usize| self.peers.get(index).map_or(1.0, |peer| peer.passes);
        let held = &mut self.held;
        for (ip, index) in &self.recent {
            if let Some((_, known)) = held.iter_mut().find(|(held, _)| held == ip) {
                // A reload may have moved the source to another peer.
                *known = *index;
            } else if part(*index) < 1.0 {
                self.unfiltered |= held.try_push((*ip, *index)).is_err();
            }
        }
        held.retain(|(_, index)| part(*index) < 1.0);
        let filter = &self.filter;
        let source_filter = |&(ip, index): &(IpAddr, usize)| SourceFilter {
            ip,
            passes: (part(index) * f64::from(u32::MAX)) as u32,
        };
        let next = if self.unfiltered {
            PacketFilter::default()
        } else {
            PacketFilter {
                sources: self.held.iter().map(source_filter).collect(),
            }
        };
        let is_alike = next.sources.len() == filter.sources.len()
            && next.sources.iter().all(|new| {
                let old = filter.sources.iter().find(|old| old.ip == new.ip);
                old.is_some_and(|old| new.passes.abs_diff(old.passes) <= old.passes / NOTABLE)
            });
        if !is_alike {
            self.filter = next;
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
    /// Ends a window: what was received is all that was sent in this many seconds. Starts counting again.
    fn observe(&mut self, seconds: f64) {
        let offered = f64::from(self.taken) / seconds;
        // Rise at once, fall smoothly.
        self.offered = offered.max(f64::midpoint(self.offered, offered));
        self.taken = 0;
    }

    /// The offered INVITEs within its rate.
    fn worth(&self) -> f64 {
        self.offered.min(self.rate.map_or(f64::INFINITY, f64::from))
    }

    /// The offered INVITEs beyond its rate.
    fn surplus(&self) -> f64 {
        self.offered - self.worth()
    }
}

impl Limits {
    /// The limits with which all peers together stay within the budget: first the INVITEs within their rates,
    /// then those beyond; of both, the same for each peer.
    fn fit(peers: &[Demand], budget: f64) -> Self {
        let share = level(peers.iter().map(Demand::worth), budget);
        let rest = budget - peers.iter().map(Demand::worth).sum::<f64>();
        Self {
            share,
            surplus: level(peers.iter().map(Demand::surplus), rest.max(0.0)),
        }
    }

    /// Limits that are wider by this factor; `None` if no peer needs them.
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

    /// The part of a peer's INVITEs that is accepted.
    fn part(&self, peer: &Demand) -> f64 {
        let allowed = peer.worth().min(self.share) + peer.surplus().min(self.surplus);
        if allowed >= peer.offered {
            return 1.0;
        }
        (allowed / peer.offered).max(LEAST_PART)
    }
}

/// The most that each may have, so that all together have this much; infinite if there is enough for all.
fn level(wanted: impl Iterator<Item = f64> + Clone, budget: f64) -> f64 {
    let (mut left, mut count) = (
        budget,
        wanted.clone().filter(|wanted| *wanted > 0.0).count(),
    );
    // A peer that wants less than an equal part leaves more to the others.
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

/// How long the queue is measured before limits change.
const WINDOW: Duration = Duration::from_millis(10);

/// A queue is long if nothing waits for less.
const LONG_WAIT: Duration = Duration::from_millis(50);

/// A queue that is long for this time stands.
const STANDING_TIME: Duration = Duration::from_millis(200);

/// How long a queue is watched before its growth counts.
const GROWING_TIME: Duration = Duration::from_millis(10);

/// The longest time between two batches that counts as running time.
const MOST_RUN: Duration = Duration::from_millis(10);

/// A queue is worked off if its arrivals advance faster than the clock by this factor.
const WORKED_OFF: f64 = 1.05;

/// A queue grows if its arrivals advance slower than the clock by this factor.
const GROWTH: f64 = 0.9;

/// Datagrams that arrived this many times faster than they are answered are a burst that is over already.
const MOST_GROWTH: u32 = 20;

/// A queue that fills this part of the socket's room is long, and must not grow.
const FULL: f64 = 0.6;

/// The room that a waiting INVITE of usual length takes in the socket: its buffer and the system's data about it.
const DATAGRAM_BYTES: f64 = 2_304.0;

/// How long an INVITE may have waited in a queue that stands and still be served: 200 ms less the time to answer
/// a batch.
const LATE: Duration = Duration::from_millis(190);

/// How long an INVITE may have waited in any case: after that its sender has given up (timer B, RFC 3261
/// §17.1.1.2).
const TRANSACTION_TIME: Duration = Duration::from_secs(32);

/// The wait to aim at under pressure, so that there is always something to do. What waits longer has left the
/// processor's caches before its turn comes.
const GOOD_WAIT: Duration = Duration::from_millis(5);

/// The time in which a queue that is too long should be worked off.
const DRAIN: Duration = Duration::from_millis(100);

/// The most of the capacity that is spent on working off a queue.
const MOST_DRAINED: f64 = 0.25;

/// The weight of a window in the known capacity.
const NEWS: f64 = 0.2;

/// How many times the capacity may be offered before anything is held back: a few calls that always wait, because
/// each is followed by the next, are no overload.
const TOLERANCE: f64 = 1.05;

/// The fastest growth of a queue that is believed, as a factor.
const MOST_STRETCH: f64 = 8.0;

/// The factor by which limits widen if the capacity allows more.
const WIDER: f64 = 1.05;

/// The factor by which limits widen if hardly anything waits.
const MUCH_WIDER: f64 = 1.1;

/// After this time without work the limits end.
const IDLE_TIME: Duration = Duration::from_millis(250);

/// The first step back to answering 503 beyond a peer's rate, in INVITEs per second.
const LEAST_SURPLUS: f64 = 100.0;

/// The smallest part of a peer's INVITEs that is accepted: without any, its demand would be unknown.
const LEAST_PART: f64 = 0.001;

/// The INVITEs accepted during a window in any case from a peer that is held back.
const SLACK: u32 = 64;

/// The packet filter changes if the part that passes changes by more than one in this many.
const NOTABLE: u32 = 20;

/// One in this many INVITEs of a peer that is held back is answered with 503.
const ONE_IN: u32 = 20;

/// The size of the sample of sources.
const SAMPLES: usize = 64;

/// One in this many INVITEs is added to the sample.
const SAMPLE_EACH: u32 = 32;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A simulated server with some peers and its own clock.
    struct Model {
        pressure: Pressure,
        now: f64,
        /// The datagrams in the socket: time of arrival, and peer.
        queue: VecDeque<(f64, usize)>,
        /// The next INVITE of each peer.
        next: Vec<f64>,
        /// For each peer, the fraction of an INVITE that has passed the packet filter so far.
        passed: Vec<f64>,
        /// Whether the system has a packet filter.
        can_filter: bool,
        /// How many datagrams the socket has room for.
        room: usize,
    }

    /// A peer of the model.
    #[derive(Clone, Copy)]
    struct ModelPeer {
        /// INVITEs a second.
        offered: f64,
        rate: Option<u32>,
        wants_answers: bool,
    }

    /// What happened to the INVITEs of a peer, per second.
    #[derive(Clone, Copy, Debug, Default)]
    struct Met {
        served: f64,
        answered: f64,
        dropped: f64,
        /// Refused because it waited for too long.
        late: f64,
        filtered: f64,
        /// There was no room in the socket.
        overflowed: f64,
        longest_wait: f64,
    }

    impl Met {
        fn lost(&self) -> f64 {
            self.refused() + self.overflowed
        }

        /// INVITEs that arrived and were not served.
        fn refused(&self) -> f64 {
            self.answered + self.dropped + self.late + self.filtered
        }
    }

    /// INVITEs a second that the model can serve.
    const CAPACITY: f64 = 100_000.0;

    /// The room of the model's socket, in datagrams.
    const ROOM: usize = 12_000;

    impl Model {
        fn new(peers: usize) -> Self {
            Self {
                pressure: Pressure::new(ROOM * 2_304),
                now: 10.0,
                queue: VecDeque::new(),
                next: vec![10.0; peers],
                passed: vec![0.0; peers],
                can_filter: true,
                room: ROOM,
            }
        }

        fn ip(index: usize) -> IpAddr {
            IpAddr::from([192, 0, 2, u8::try_from(index).unwrap()])
        }

        /// Lets the datagrams of all peers arrive up to now.
        fn arrive(&mut self, peers: &[ModelPeer], met: &mut [Met]) {
            for (index, peer) in peers.iter().enumerate() {
                while self.next[index] <= self.now {
                    let at = self.next[index];
                    self.next[index] += 1.0 / peer.offered;
                    let mut source_filters = self.pressure.filter.sources.iter();
                    let source_filter =
                        source_filters.find(|source_filter| source_filter.ip == Self::ip(index));
                    let part = source_filter
                        .filter(|_| self.can_filter)
                        .map_or(1.0, |source_filter| {
                            f64::from(source_filter.passes) / f64::from(u32::MAX)
                        });
                    self.passed[index] += part;
                    if self.passed[index] < 0.999_999 {
                        met[index].filtered += 1.0;
                        continue;
                    }
                    self.passed[index] -= 1.0;
                    if self.queue.len() < self.room {
                        self.queue.push_back((at, index));
                    } else {
                        met[index].overflowed += 1.0;
                    }
                }
            }
        }

        /// The machine stalls for this long; arriving datagrams wait. Returns those without room.
        fn stall(&mut self, seconds: f64, peers: &[ModelPeer]) -> Vec<f64> {
            let mut met = vec![Met::default(); peers.len()];
            self.now += seconds;
            self.arrive(peers, &mut met);
            met.iter().map(|met| met.overflowed).collect()
        }

        fn run(&mut self, seconds: f64, peers: &[ModelPeer]) -> Vec<Met> {
            for (next, peer) in self.next.iter_mut().zip(peers) {
                *next = self.now + 1.0 / peer.offered;
            }
            self.go_on(seconds, peers)
        }

        /// Runs with these peers for some time.
        fn go_on(&mut self, seconds: f64, peers: &[ModelPeer]) -> Vec<Met> {
            let mut met = vec![Met::default(); peers.len()];
            let end = self.now + seconds;
            while self.now < end {
                self.arrive(peers, &mut met);
                let batch: Vec<_> = self.queue.drain(..self.queue.len().min(64)).collect();
                let Some((first, _)) = batch.first() else {
                    self.now += 20e-6;
                    continue;
                };
                let now = Duration::from_secs_f64(self.now);
                let waited = Duration::from_secs_f64((self.now - first).max(0.0));
                let count = u32::try_from(batch.len()).unwrap();
                let filter = self.pressure.batch(now, waited, count);
                if filter.is_some() && !self.can_filter {
                    self.pressure.filter_failed();
                }
                for (at, index) in batch {
                    let arriving = Arriving {
                        index,
                        ip: Self::ip(index),
                        rate: peers[index].rate,
                        wants_answers: peers[index].wants_answers,
                    };
                    let met = &mut met[index];
                    met.longest_wait = met.longest_wait.max(self.now - at);
                    let waited = Duration::from_secs_f64((self.now - at).max(0.0));
                    if self.pressure.is_late(waited) {
                        met.late += 1.0 / seconds;
                        self.now += 0.9 / CAPACITY;
                        continue;
                    }
                    let (count, cost) = match self.pressure.invite(&arriving) {
                        Admission::Serve => (&mut met.served, 1.0),
                        Admission::Answer => (&mut met.answered, 0.9),
                        Admission::Drop => (&mut met.dropped, 0.35),
                    };
                    *count += 1.0 / seconds;
                    self.now += cost / CAPACITY;
                }
            }
            for met in &mut met {
                met.filtered /= seconds;
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
            // The socket of the model overflows before a larger flood is noticed.
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
        // As many as there is time for are accepted, to be refused with 503.
        assert!(met[0].served > 15_000.0, "{met:?}");
    }

    #[test]
    fn without_a_packet_filter_what_is_taken_in_is_bounded() {
        let mut model = Model::new(2);
        model.can_filter = false;
        let peers = [peer(1.5 * CAPACITY), peer(1_000.0)];
        model.run(2.0, &peers);
        let met = model.run(1.0, &peers);
        assert!(
            met[1].lost() == 0.0 && met[0].dropped > 0.4 * CAPACITY,
            "{met:?}"
        );
    }

    #[test]
    fn the_packet_filter_goes_when_the_flood_is_over() {
        let mut model = Model::new(1);
        model.run(0.5, &[peer(3.0 * CAPACITY)]);
        assert_eq!(model.pressure.filter.sources.len(), 1);
        model.run(0.5, &[peer(0.5 * CAPACITY)]);
        assert!(model.pressure.filter.sources.is_empty());
        let met = model.run(0.5, &[peer(0.5 * CAPACITY)]);
        assert!(met[0].lost() == 0.0, "{met:?}");
    }

    #[test]
    fn a_stall_is_no_overload_however_long_and_whatever_the_load() {
        for load in [0.2, 0.5, 0.7, 0.9] {
            for stall in [0.1, 0.3, 0.5, 1.0, 3.0] {
                let mut model = Model::new(2);
                let peers = [peer(load * 0.8 * CAPACITY), peer(load * 0.2 * CAPACITY)];
                model.run(0.5, &peers);
                for _ in 0..3 {
                    model.stall(stall, &peers);
                    let met = model.go_on(2.0, &peers);
                    for met in met {
                        assert_eq!(met.refused(), 0.0, "{load} {stall}: {met:?}");
                    }
                    assert!(!model.pressure.is_high(), "{load} {stall}");
                }
            }
        }
    }

    #[test]
    fn many_short_stalls_are_no_overload() {
        // The processor is away for a third of the time; half of the rest is needed.
        for stall in [0.004, 0.02, 0.06, 0.2] {
            let mut model = Model::new(2);
            let peers = [peer(0.3 * CAPACITY), peer(0.03 * CAPACITY)];
            model.run(0.1, &peers);
            for _ in 0..50 {
                let met = model.go_on(2.0 * stall, &peers);
                assert!(met.iter().all(|met| met.lost() == 0.0), "{stall}: {met:?}");
                let overflowed = model.stall(stall, &peers);
                assert_eq!(overflowed, [0.0, 0.0]);
            }
            assert!(!model.pressure.is_high(), "{stall}");
        }
    }

    #[test]
    fn a_burst_that_finds_room_is_served() {
        let mut model = Model::new(2);
        model.run(0.2, &[peer(1_000.0), peer(1_000.0)]);
        let burst = [peer(3.0 * CAPACITY), peer(1_000.0)];
        let during = model.run(0.010, &burst);
        let after = model.run(1.0, &[peer(1_000.0), peer(1_000.0)]);
        for met in during.iter().chain(&after) {
            assert_eq!(met.lost(), 0.0, "{met:?}");
        }
    }

    #[test]
    fn what_waited_is_served_late_while_no_queue_stands() {
        let mut pressure = Pressure::default();
        let seconds = Duration::from_secs_f64;
        assert!(!pressure.is_late(seconds(1.0)) && !pressure.is_late(seconds(3.0)));
        assert!(pressure.is_late(seconds(33.0)));
        pressure.stands = true;
        assert!(!pressure.is_late(seconds(0.18)) && pressure.is_late(seconds(0.2)));
    }

    #[test]
    fn one_short_wait_is_relief() {
        let mut pressure = Pressure::default();
        for round in 1..200 {
            let now = Duration::from_millis(5 * round);
            let waited = if round % 30 == 0 { 20 } else { 80 };
            pressure.batch(now, Duration::from_millis(waited), 64);
            assert!(!pressure.is_high());
        }
    }

    #[test]
    fn a_burst_within_a_stall_is_served() {
        let mut model = Model::new(1);
        model.run(0.2, &[peer(100.0)]);
        // These datagrams arrived together during the stall.
        let at = model.now;
        model.queue.extend((0..5_000).map(|_| (at, 0)));
        model.now += 0.4;
        model.next.fill(model.now);
        let met = model.go_on(1.0, &[peer(100.0)]);
        assert_eq!(met[0].lost(), 0.0, "{met:?}");
        assert!(!model.pressure.is_high());
    }

    #[test]
    fn a_queue_stands_after_two_tenths_of_a_second_of_long_waits() {
        let mut watch = QueueWatch::default();
        let stands_at = (0..1_000).find(|millis| {
            let now = Duration::from_millis(10_000 + millis);
            watch.batch(now, Duration::from_millis(60), 64) == Queue::Standing
        });
        assert!((200..=211).contains(&stands_at.unwrap()), "{stands_at:?}");
    }

    #[test]
    fn limits_end_with_the_flood_even_if_little_comes_afterwards() {
        // After a moment of overload one peer had its INVITEs held back for seconds, because hardly anything
        // arrived that could show the end of the overload.
        let mut model = Model::new(2);
        model.run(1.0, &[peer(3.0 * CAPACITY), peer(10.0)]);
        assert!(model.pressure.is_high());
        model.queue.clear();
        let later = Duration::from_secs_f64(model.now) + Duration::from_secs(1);
        model.pressure.batch(later, Duration::ZERO, 1);
        assert!(!model.pressure.is_high());
        assert!(model.pressure.filter.sources.is_empty());
    }

    #[test]
    fn limits_outlast_a_stall_within_the_flood() {
        let mut model = Model::new(2);
        let peers = [peer(2.0 * CAPACITY), peer(1_000.0)];
        model.run(1.0, &peers);
        model.stall(0.5, &peers);
        model.go_on(0.05, &peers);
        assert!(model.pressure.is_high());
        model.go_on(0.5, &peers);
        let met = model.go_on(1.0, &peers);
        assert!(
            met[0].served > 0.9 * CAPACITY && met[1].lost() == 0.0,
            "{met:?}"
        );
    }

    #[test]
    fn a_socket_with_little_room_is_protected_too() {
        let mut model = Model::new(2);
        model.room = 180;
        model.pressure = Pressure::new(180 * 2_304);
        let peers = [peer(3.0 * CAPACITY), peer(1_000.0)];
        model.run(2.0, &peers);
        let met = model.run(1.0, &peers);
        assert!(met[0].served > 0.85 * CAPACITY, "{met:?}");
        assert!(met[1].served > 0.97 * 1_000.0, "{met:?}");
    }
}
