//! The load generator: returning calls over UDP against any SIP redirect server.
//!
//! One call is an INVITE, the 302, and the ACK. The generator never sleeps: it has a core of its own and polls.
//! So the server spends no time on waking *it* up, and calls start on time. In the open loop, latency counts from
//! the time at which a call was *meant* to start, so a stall also delays every call behind it (no coordinated
//! omission).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::batch::{self, BATCH, Receiver};
use crate::cpu::CpuTimes;
use crate::figures;
use crate::population::{self, Callers, Population};
use crate::sip::{Call, Reply, Template};

/// When calls start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// Closed loop: this many calls at once, each followed by the next.
    InFlight(usize),
    /// Open loop: this many calls per second, at equal distances.
    Even(f64),
    /// Open loop: this many calls per second on average, each independent of all others.
    Poisson(f64),
}

/// Which answers are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// 302 to the target of the line that called the caller.
    Target,
    /// 302 to any target: the floor responder knows no callers.
    AnyTarget,
}

/// A run of load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server's address.
    pub server: SocketAddr,
    /// Processes whose time is measured, their descendants included.
    pub processes: Vec<u32>,
    /// The contacts and lines to draw from.
    pub population: Population,
    /// How callers are drawn.
    pub callers: Callers,
    /// Whether to mix other calls in: of 100 calls, ten come from strangers and five from anonymous callers; and
    /// one INVITE in 100 is sent twice. Only in the open loop.
    pub mixed: bool,
    /// The number of ports that calls are sent from.
    pub sockets: usize,
    /// When calls start.
    pub arrivals: Arrivals,
    /// How long the load runs before measuring starts.
    pub warm_up: Duration,
    /// How long measuring lasts.
    pub duration: Duration,
    /// Which answers are right.
    pub expect: Expect,
    /// Seed of callers and arrivals.
    pub seed: u64,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Calls answered while measuring.
    pub answered: u64,
    /// The measured time, in seconds.
    pub seconds: f64,
    /// Calls started in that time.
    pub started: u64,
    /// Of those, calls that got no answer within half a second.
    pub lost: u64,
    /// Wrong answers.
    pub wrong: u64,
    /// Processor time of the server in that time, in nanoseconds.
    pub server_time: u64,
    /// Time from the intended start to the answer, in nanoseconds.
    pub latency: Histogram<u64>,
    /// How late the generator itself was, in nanoseconds; only in the open loop.
    pub lateness: Histogram<u64>,
}

impl Outcome {
    /// Processor time of the server per call, in microseconds.
    #[must_use]
    pub fn cpu_per_call(&self) -> f64 {
        self.server_time as f64 / 1e3 / self.answered.max(1) as f64
    }

    /// The part of one core that the server kept busy.
    #[must_use]
    pub fn busy(&self) -> f64 {
        self.server_time as f64 / 1e9 / self.seconds
    }

    /// Calls answered per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// The part of the calls that was lost.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.lost as f64 / self.started.max(1) as f64
    }

    /// All figures as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let microseconds = |histogram: &Histogram<u64>, quantile| {
            histogram.value_at_quantile(quantile) as f64 / 1e3
        };
        json!({
            "answered": self.answered,
            "started": self.started,
            "lost": self.lost,
            "wrong": self.wrong,
            "seconds": self.seconds,
            "calls_per_second": self.rate(),
            "cpu_us_per_call": self.cpu_per_call(),
            "server_busy": self.busy(),
            "latency_us": {
                "p50": microseconds(&self.latency, 0.5),
                "p90": microseconds(&self.latency, 0.9),
                "p99": microseconds(&self.latency, 0.99),
                "p99_9": microseconds(&self.latency, 0.999),
                "max": self.latency.max() as f64 / 1e3,
            },
            "generator_lateness_us": {
                "p50": microseconds(&self.lateness, 0.5),
                "p99": microseconds(&self.lateness, 0.99),
                "p99_9": microseconds(&self.lateness, 0.999),
                "max": self.lateness.max() as f64 / 1e3,
            },
        })
    }
}

/// Runs a plan to its end.
///
/// # Errors
/// A socket fails, or nothing is answered at all.
pub fn run(plan: &Plan) -> io::Result<Outcome> {
    Generator::new(plan)?.run()
}

/// The highest rate, in even arrivals per second, at which less than one call in a thousand is lost; accurate to
/// about two in a hundred.
///
/// # Errors
/// As [`run`].
pub fn most(plan: &Plan, from: f64) -> io::Result<Outcome> {
    let attempt = |rate: f64| {
        run(&Plan {
            arrivals: Arrivals::Even(rate),
            ..plan.clone()
        })
    };
    let holds = |rate: f64, outcome: &Outcome| {
        outcome.loss() < 0.001 && outcome.started as f64 > 0.99 * rate * outcome.seconds
    };
    let mut low = from;
    let mut best = attempt(low)?;
    while !holds(low, &best) {
        low /= 2.0;
        best = attempt(low)?;
    }
    let mut high = low;
    loop {
        high *= 1.5;
        let outcome = attempt(high)?;
        if !holds(high, &outcome) {
            break;
        }
        (low, best) = (high, outcome);
    }
    while high / low > 1.02 {
        let middle = f64::midpoint(low, high);
        let outcome = attempt(middle)?;
        if holds(middle, &outcome) {
            (low, best) = (middle, outcome);
        } else {
            high = middle;
        }
    }
    Ok(best)
}

/// A call is lost after this time.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many calls the open loop tracks at once.
const OPEN_SLOTS: usize = 1 << 20;

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Its id; 0: the slot is free.
    id: u64,
    /// The line that was dialed.
    line: u32,
    /// The line whose inbound agent must take the call.
    expected: u32,
    /// When it was meant to start, in nanoseconds since the start of the run.
    intended: u64,
}

impl Slot {
    /// A call that was just made.
    fn new(dialing: &Dialing, intended: u64) -> Self {
        Self {
            id: dialing.call.id,
            line: dialing.line as u32,
            expected: dialing.expected as u32,
            intended,
        }
    }
}

/// One port that calls come from.
struct Endpoint {
    /// The socket, connected to the server.
    socket: UdpSocket,
    /// Receives the replies.
    receiver: Receiver,
    /// INVITEs to be sent.
    invites: InviteQueue,
    /// The ACK of a call.
    ack: Template,
    /// ACKs to be sent.
    acks: Vec<Vec<u8>>,
    /// How many of `acks` are in use.
    ack_count: usize,
}

impl Endpoint {
    /// Opens a port.
    fn new(server: SocketAddr) -> io::Result<Self> {
        // Port numbers have five digits in the prebuilt messages.
        let socket = loop {
            let socket = batch::open(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            if socket.local_addr()?.port() >= 10_000 {
                break socket;
            }
        };
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        Ok(Self {
            socket,
            receiver: Receiver::new(),
            invites: InviteQueue::new(port),
            ack: Template::ack(port),
            acks: (0..BATCH).map(|_| Vec::with_capacity(1_024)).collect(),
            ack_count: 0,
        })
    }

    /// Sends what is queued.
    fn flush(&mut self) -> io::Result<()> {
        let mut queued: smallvec::SmallVec<[(&[u8], Option<_>); 4 * BATCH]> = self
            .acks
            .iter()
            .take(self.ack_count)
            .map(|ack| (ack.as_slice(), None))
            .collect();
        queued.extend(self.invites.queued().map(|invite| (invite, None)));
        let mut rest = queued.as_slice();
        while !rest.is_empty() {
            match batch::send(&self.socket, rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        drop(queued);
        self.ack_count = 0;
        self.invites.clear();
        Ok(())
    }
}

/// INVITEs to be sent, in reused memory.
struct InviteQueue {
    /// INVITEs of callers with a number.
    numbered: Vec<Template>,
    /// How many of `numbered` are in use.
    numbered_count: usize,
    /// INVITEs of anonymous callers.
    anonymous: Vec<Template>,
    /// How many of `anonymous` are in use.
    anonymous_count: usize,
}

impl InviteQueue {
    /// An empty queue of INVITEs from this port.
    fn new(port: u16) -> Self {
        Self {
            numbered: vec![Template::invite(port); BATCH],
            numbered_count: 0,
            anonymous: vec![Template::anonymous_invite(port); BATCH],
            anonymous_count: 0,
        }
    }

    /// Queues an INVITE, twice if the call says so; the queue must not be full.
    fn push(&mut self, dialing: &Dialing) {
        let (invites, count) = if dialing.is_anonymous {
            (&mut self.anonymous, &mut self.anonymous_count)
        } else {
            (&mut self.numbered, &mut self.numbered_count)
        };
        for _ in 0..=usize::from(dialing.is_repeated) {
            if let Some(invite) = invites.get_mut(*count) {
                invite.set(&dialing.call);
                *count += 1;
            }
        }
    }

    /// Whether an INVITE that is sent twice might not fit.
    fn is_full(&self) -> bool {
        self.numbered_count.max(self.anonymous_count) + 2 > BATCH
    }

    /// Whether nothing is queued.
    fn is_empty(&self) -> bool {
        self.numbered_count + self.anonymous_count == 0
    }

    /// The queued INVITEs.
    fn queued(&self) -> impl Iterator<Item = &[u8]> {
        let numbered = self.numbered.iter().take(self.numbered_count);
        let anonymous = self.anonymous.iter().take(self.anonymous_count);
        numbered.chain(anonymous).map(Template::bytes)
    }

    /// Empties the queue.
    fn clear(&mut self) {
        (self.numbered_count, self.anonymous_count) = (0, 0);
    }
}

/// A call that is about to be made.
#[derive(Clone, Copy, Debug)]
struct Dialing {
    /// The varying fields of the INVITE.
    call: Call,
    /// The line that is dialed.
    line: u64,
    /// The line whose inbound agent must take it.
    expected: u64,
    /// Whether the caller withholds the number.
    is_anonymous: bool,
    /// Whether the INVITE is sent twice.
    is_repeated: bool,
}

impl Dialing {
    /// Draws a call.
    fn draw(plan: &Plan, random: &mut SmallRng, id: u64) -> Self {
        let contact = plan.callers.draw(random);
        let line = plan.population.line(contact);
        let returning = Self {
            call: Call::returning(&plan.population, id, contact),
            line,
            expected: line,
            is_anonymous: false,
            is_repeated: false,
        };
        if !plan.mixed {
            return returning;
        }
        let unclaimed = Self {
            expected: plan.population.default_line(line),
            ..returning
        };
        let drawn = random.random_range(0..100);
        let dialing = match drawn {
            0..10 => Self {
                call: Call {
                    caller: population::stranger(contact),
                    ..returning.call
                },
                ..unclaimed
            },
            10..15 => Self {
                is_anonymous: true,
                ..unclaimed
            },
            _ => returning,
        };
        Self {
            is_repeated: random.random_range(0..100) == 0,
            ..dialing
        }
    }
}

/// A run in progress.
struct Generator<'p> {
    /// The plan of the run.
    plan: &'p Plan,
    /// The ports.
    endpoints: Vec<Endpoint>,
    /// Calls that wait for their answers; call `id` is at index `id` modulo the length.
    slots: Vec<Slot>,
    /// The targets by line.
    targets: Vec<String>,
    /// The random numbers for callers and arrivals.
    random: SmallRng,
    /// When the run began.
    begin: Instant,
    /// Calls count from this time on, in nanoseconds since the start of the run; until it is known, the end of
    /// time.
    counts_from: u64,
    /// Calls meant to start after this do not count.
    counts_until: u64,
    /// The result so far.
    outcome: Outcome,
}

impl<'p> Generator<'p> {
    /// Opens the ports.
    fn new(plan: &'p Plan) -> io::Result<Self> {
        let slots = match plan.arrivals {
            Arrivals::InFlight(count) => count.max(1),
            Arrivals::Even(_) | Arrivals::Poisson(_) => OPEN_SLOTS,
        };
        let histogram = || figures::times().map_err(io::Error::other);
        let (latency, lateness) = (histogram()?, histogram()?);
        Ok(Self {
            plan,
            endpoints: (0..plan.sockets.max(1))
                .map(|_| Endpoint::new(plan.server))
                .collect::<io::Result<_>>()?,
            slots: vec![Slot::default(); slots],
            targets: (0..plan.population.all_lines())
                .map(population::target)
                .collect(),
            random: SmallRng::seed_from_u64(plan.seed),
            begin: Instant::now(),
            counts_from: u64::MAX,
            counts_until: u64::MAX,
            outcome: Outcome {
                answered: 0,
                seconds: 0.0,
                started: 0,
                lost: 0,
                wrong: 0,
                server_time: 0,
                latency,
                lateness,
            },
        })
    }

    /// Runs to the end.
    fn run(mut self) -> io::Result<Outcome> {
        // Ids must differ from those of earlier runs: a server that remembers answers would not have to decide.
        let mut next_id =
            (self.random.random::<u64>() >> 1) / self.slots.len() as u64 * self.slots.len() as u64;
        next_id = next_id.max(self.slots.len() as u64);
        self.begin = Instant::now();
        if matches!(self.plan.arrivals, Arrivals::InFlight(_)) {
            for _ in 0..self.slots.len() {
                self.start_call(next_id, 0)?;
                next_id += 1;
            }
            self.flush()?;
        }
        let mut due = 0.0;
        let warm_up = nanoseconds(self.plan.warm_up);
        let mut end = u64::MAX;
        let mut next_sweep = nanoseconds(PATIENCE);
        let mut before = CpuTimes::default();
        loop {
            let mut now = self.now();
            if self.counts_from == u64::MAX && now >= warm_up {
                before = CpuTimes::read(&self.plan.processes);
                now = self.now();
                self.counts_from = now;
                end = now + nanoseconds(self.plan.duration);
            }
            if now >= end {
                break;
            }
            match self.plan.arrivals {
                Arrivals::InFlight(_) => {
                    if now >= next_sweep {
                        self.restart_lost(now)?;
                        next_sweep = now + nanoseconds(PATIENCE) / 5;
                    }
                }
                Arrivals::Even(rate) | Arrivals::Poisson(rate) => {
                    for _ in 0..BATCH {
                        if due as u64 > now {
                            break;
                        }
                        if due as u64 >= self.counts_from {
                            self.outcome.lateness.saturating_record(now - due as u64);
                        }
                        self.start_call(next_id, due as u64)?;
                        next_id += 1;
                        due += match self.plan.arrivals {
                            Arrivals::Poisson(_) => {
                                -(1.0 - self.random.random::<f64>()).ln() * 1e9 / rate
                            }
                            _ => 1e9 / rate,
                        };
                    }
                    self.flush()?;
                }
            }
            self.receive(matches!(self.plan.arrivals, Arrivals::InFlight(_)))?;
        }
        self.counts_until = self.now();
        self.outcome.server_time = CpuTimes::read(&self.plan.processes).since(&before);
        self.outcome.seconds = (self.counts_until - self.counts_from) as f64 / 1e9;
        let answered = self.outcome.answered;
        while self.now() < self.counts_until + nanoseconds(PATIENCE) {
            self.receive(false)?;
        }
        self.outcome.answered = answered;
        let unanswered = self
            .slots
            .iter()
            .filter(|slot| slot.id != 0 && slot.intended >= self.counts_from)
            .count();
        self.outcome.lost += unanswered as u64;
        if answered == 0 {
            return Err(io::Error::other(format!(
                "{} answers nothing",
                self.plan.server
            )));
        }
        Ok(self.outcome)
    }

    /// Nanoseconds since the start of the run.
    fn now(&self) -> u64 {
        nanoseconds(self.begin.elapsed())
    }

    /// Queues the INVITE of a new call.
    fn start_call(&mut self, id: u64, intended: u64) -> io::Result<()> {
        let dialing = Dialing::draw(self.plan, &mut self.random, id);
        let index = (id % self.slots.len() as u64) as usize;
        let counts = intended >= self.counts_from;
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(());
        };
        if slot.id != 0 && slot.intended >= self.counts_from {
            self.outcome.lost += 1;
        }
        *slot = Slot::new(&dialing, intended);
        if counts {
            self.outcome.started += 1;
        }
        let endpoint = index % self.endpoints.len();
        if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
            if endpoint.invites.is_full() {
                endpoint.flush()?;
            }
            endpoint.invites.push(&dialing);
        }
        Ok(())
    }

    /// Sends what is queued at all ports.
    fn flush(&mut self) -> io::Result<()> {
        for endpoint in &mut self.endpoints {
            if endpoint.ack_count > 0 || !endpoint.invites.is_empty() {
                endpoint.flush()?;
            }
        }
        Ok(())
    }

    /// Receives the replies that have arrived, and sends their ACKs; if `go_on` is set, starts a new call for
    /// each that is done.
    fn receive(&mut self, go_on: bool) -> io::Result<()> {
        for index in 0..self.endpoints.len() {
            let Some(endpoint) = self.endpoints.get_mut(index) else {
                continue;
            };
            if endpoint.receiver.receive(&endpoint.socket)? == 0 {
                continue;
            }
            let now = nanoseconds(self.begin.elapsed());
            for (datagram, _) in endpoint.receiver.datagrams() {
                let Some(reply) = Reply::read(datagram) else {
                    continue;
                };
                let index = (reply.id % self.slots.len() as u64) as usize;
                let Some(slot) = self.slots.get_mut(index) else {
                    continue;
                };
                if slot.id != reply.id || reply.status < 200 {
                    continue;
                }
                let right = reply.status == 302
                    && match self.plan.expect {
                        Expect::AnyTarget => reply.contact.is_some(),
                        Expect::Target => {
                            let target = self.targets.get(slot.expected as usize);
                            reply.contact == target.map(String::as_bytes)
                        }
                    };
                if !right && self.counts_from != u64::MAX {
                    self.outcome.wrong += 1;
                }
                if slot.intended >= self.counts_from && slot.intended < self.counts_until {
                    self.outcome
                        .latency
                        .saturating_record(now.saturating_sub(slot.intended).max(1));
                }
                if self.counts_from != u64::MAX {
                    self.outcome.answered += 1;
                }
                let call = Call {
                    id: reply.id,
                    caller: 0,
                    dialed: self.plan.population.number(u64::from(slot.line)),
                };
                endpoint.ack.set(&call);
                if let Some(ack) = endpoint.acks.get_mut(endpoint.ack_count) {
                    ack.clear();
                    ack.extend_from_slice(endpoint.ack.bytes());
                    ack.extend_from_slice(reply.to);
                    ack.extend_from_slice(Template::ACK_END);
                    endpoint.ack_count += 1;
                }
                let id = slot.id;
                *slot = Slot::default();
                if go_on {
                    let id = id + self.slots.len() as u64;
                    let dialing = Dialing::draw(self.plan, &mut self.random, id);
                    if let Some(slot) = self.slots.get_mut(index) {
                        *slot = Slot::new(&dialing, now);
                    }
                    if now >= self.counts_from {
                        self.outcome.started += 1;
                    }
                    endpoint.invites.push(&dialing);
                }
            }
            endpoint.flush()?;
        }
        Ok(())
    }

    /// Closed loop: gives up calls that wait too long, and starts others instead.
    fn restart_lost(&mut self, now: u64) -> io::Result<()> {
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get(index).copied() else {
                continue;
            };
            if now.saturating_sub(slot.intended) > nanoseconds(PATIENCE) {
                self.start_call(slot.id + self.slots.len() as u64, now)?;
            }
        }
        self.flush()
    }
}

/// A duration in nanoseconds.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
