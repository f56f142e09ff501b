//! Several peers at once; at least one sends more than a server can answer.
//!
//! The generator in [`load`](crate::load) needs a system call's work for each datagram. This one passes up to 64
//! INVITEs to the kernel in one large datagram that the kernel cuts (`UDP_SEGMENT`), so one core can offer
//! several times what another one serves. It keeps no list of calls: the id of a call contains its intended start
//! and its target, and the reply brings the id back.

use std::fs;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use crate::batch::{self, BATCH, Receiver};
use crate::cpu::CpuTimes;
use crate::figures;
use crate::load::Arrivals;
use crate::population::{self, Population};
use crate::sip::{Call, Reply, Template};

/// The stream of one peer from one port.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Its name in the report.
    pub name: &'static str,
    /// The peer's address; one of loopback.
    pub address: Ipv4Addr,
    /// The kind of request.
    pub request: Request,
    /// When requests start; only the closed loop and even arrivals.
    pub arrivals: Arrivals,
    /// Whether it starts only when measuring starts, so that the start of the flood is measured too.
    pub sudden: bool,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Returning calls; every final response gets its ACK.
    Invite,
    /// OPTIONS.
    Options,
}

/// Streams that run at the same time.
#[derive(Clone, Debug)]
pub struct Mix<'s> {
    /// The server's address.
    pub server: SocketAddr,
    /// Processes whose time is measured.
    pub processes: &'s [u32],
    /// Callers are drawn from this many contacts.
    pub contacts: u64,
    /// How long the load runs before measuring starts.
    pub warm_up: Duration,
    /// How long measuring lasts.
    pub duration: Duration,
    /// The streams; at most 16.
    pub streams: &'s [Stream],
}

/// The result of a mix.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By stream.
    pub streams: Vec<Tally>,
    /// The measured time, in seconds.
    pub seconds: f64,
    /// Processor time of the server in that time, in nanoseconds.
    pub server_time: u64,
    /// Datagrams that the kernel dropped at the server's sockets, from the start.
    pub kernel_drops: u64,
}

/// The result of a stream. Requests count by the time at which they were meant to be sent.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Its name in the report.
    pub name: &'static str,
    /// The kind of request.
    pub request: Request,
    /// Requests sent.
    pub sent: u64,
    /// Of those: INVITEs redirected to the right target, and OPTIONS answered with 200.
    pub served: u64,
    /// Of those: answered with 503.
    pub refused: u64,
    /// Of those: answered with another status or target.
    pub wrong: u64,
    /// Time from the intended start to the answer of served requests, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Tally {
    /// Empty figures.
    fn new(stream: &Stream) -> io::Result<Self> {
        Ok(Self {
            name: stream.name,
            request: stream.request,
            sent: 0,
            served: 0,
            refused: 0,
            wrong: 0,
            latency: figures::times().map_err(io::Error::other)?,
        })
    }

    /// Requests that were not answered.
    #[must_use]
    pub fn silent(&self) -> u64 {
        self.sent
            .saturating_sub(self.served + self.refused + self.wrong)
    }

    /// Requests that were not served.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.served)
    }

    /// A quantile of the latency, in milliseconds.
    #[must_use]
    pub fn milliseconds(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }
}

impl Outcome {
    /// INVITEs served per second, of all streams.
    #[must_use]
    pub fn served_per_second(&self) -> f64 {
        let served: u64 = self.calls().map(|tally| tally.served).sum();
        served as f64 / self.seconds
    }

    /// INVITEs sent per second, of all streams.
    #[must_use]
    pub fn offered_per_second(&self) -> f64 {
        let sent: u64 = self.calls().map(|tally| tally.sent).sum();
        sent as f64 / self.seconds
    }

    /// The part of one core that the server kept busy.
    #[must_use]
    pub fn busy(&self) -> f64 {
        self.server_time as f64 / 1e9 / self.seconds
    }

    /// All figures as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let streams: Vec<Value> = self
            .streams
            .iter()
            .map(|tally| {
                json!({
                    "name": tally.name,
                    "sent": tally.sent,
                    "served": tally.served,
                    "refused": tally.refused,
                    "wrong": tally.wrong,
                    "silent": tally.silent(),
                    "latency_ms": {
                        "p50": tally.milliseconds(0.5),
                        "p99": tally.milliseconds(0.99),
                        "max": tally.milliseconds(1.0),
                    },
                })
            })
            .collect();
        json!({
            "seconds": self.seconds,
            "offered_per_second": self.offered_per_second(),
            "served_per_second": self.served_per_second(),
            "server_busy": self.busy(),
            "kernel_drops": self.kernel_drops,
            "streams": streams,
        })
    }

    /// The streams that send INVITEs.
    fn calls(&self) -> impl Iterator<Item = &Tally> {
        self.streams
            .iter()
            .filter(|tally| tally.request == Request::Invite)
    }
}

/// Runs a mix to its end. `epoch` must be the same for all runs against one server, and later than that of any
/// server before: ids are times since then, and must never repeat.
///
/// # Errors
/// A socket fails.
pub fn run(mix: &Mix<'_>, epoch: Instant) -> io::Result<Outcome> {
    let mut senders = mix
        .streams
        .iter()
        .zip(0..1 << STREAM_BITS)
        .map(|(stream, index)| Sender::new(mix, *stream, index))
        .collect::<io::Result<Vec<_>>>()?;
    let drops_before = kernel_drops(mix.server.port());
    let clock = Clock(epoch);
    let begin = clock.now();
    let mut window = Window {
        from: u64::MAX,
        until: u64::MAX,
    };
    for sender in &mut senders {
        sender.due_from = begin;
    }
    let mut before = CpuTimes::default();
    let mut end = u64::MAX;
    loop {
        let mut now = clock.now();
        if window.from == u64::MAX && now - begin >= mix.warm_up.as_micros() as u64 {
            before = CpuTimes::read(mix.processes);
            now = clock.now();
            window.from = now;
            for sender in senders.iter_mut().filter(|sender| sender.stream.sudden) {
                sender.due_from = now;
            }
            end = now + mix.duration.as_micros() as u64;
        }
        if now >= end {
            break;
        }
        for sender in &mut senders {
            sender.receive(&clock, &window)?;
            if window.from != u64::MAX || !sender.stream.sudden {
                sender.send(&clock, &window)?;
            }
        }
    }
    window.until = clock.now();
    let server_time = CpuTimes::read(mix.processes).since(&before);
    while clock.now() < window.until + PATIENCE.as_micros() as u64 {
        for sender in &mut senders {
            sender.receive(&clock, &window)?;
        }
    }
    Ok(Outcome {
        streams: senders.into_iter().map(|sender| sender.tally).collect(),
        seconds: (window.until - window.from) as f64 / 1e6,
        server_time,
        kernel_drops: kernel_drops(mix.server.port()).saturating_sub(drops_before),
    })
}

/// A request without an answer is lost after this time.
const PATIENCE: Duration = Duration::from_millis(500);

/// The bits of an id for the stream.
const STREAM_BITS: u32 = 4;

/// The bits of an id for the microsecond at which the call was meant to start.
const TIME_BITS: u32 = 33;

/// The bits of an id that distinguish calls of one microsecond.
const SEQUENCE_BITS: u32 = 20;

/// The bits of an id for the line that called the caller.
const LINE_BITS: u32 = 7;

/// The population: as many lines as fit into an id.
pub const WORLD: Population = Population::SMALL;

/// Requests up to this many microseconds late are still sent; older ones are neither sent nor counted.
const ARREARS: f64 = 20_000.0;

/// A stream with fewer requests per second sends them one by one.
const FAST: f64 = 5_000.0;

/// Microseconds since the first run against a server.
struct Clock(Instant);

impl Clock {
    /// The current time.
    fn now(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// The range of intended times of requests that count.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// The first moment.
    from: u64,
    /// The moment after the last.
    until: u64,
}

impl Window {
    /// Whether a request meant for this time counts.
    const fn holds(&self, at: u64) -> bool {
        at >= self.from && at < self.until
    }
}

/// The fields of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    /// The stream.
    stream: u64,
    /// When the call was meant to start, in microseconds.
    at: u64,
    /// Distinguishes calls of one microsecond.
    sequence: u64,
    /// The line that called the caller.
    line: u64,
}

impl Id {
    /// The id as a number.
    const fn write(self) -> u64 {
        let time = self.at & ((1 << TIME_BITS) - 1);
        let sequence = self.sequence & ((1 << SEQUENCE_BITS) - 1);
        ((self.stream << TIME_BITS | time) << SEQUENCE_BITS | sequence) << LINE_BITS | self.line
    }

    /// The id of a number.
    const fn read(id: u64) -> Self {
        Self {
            stream: id >> (TIME_BITS + SEQUENCE_BITS + LINE_BITS),
            at: id >> (SEQUENCE_BITS + LINE_BITS) & ((1 << TIME_BITS) - 1),
            sequence: id >> LINE_BITS & ((1 << SEQUENCE_BITS) - 1),
            line: id & ((1 << LINE_BITS) - 1),
        }
    }
}

/// A running stream.
struct Sender {
    /// What it sends, and when.
    stream: Stream,
    /// Its number in ids.
    index: u64,
    /// The socket, connected to the server.
    socket: UdpSocket,
    /// Receives the replies.
    receiver: Receiver,
    /// Requests to be sent.
    requests: Vec<Template>,
    /// The ACK of a call.
    ack: Template,
    /// ACKs to be sent, one behind the other.
    acks: Vec<u8>,
    /// The length of each ACK; when one of another length comes, the others are sent first.
    ack_length: usize,
    /// The targets by line.
    targets: Vec<String>,
    /// The random numbers for callers.
    random: SmallRng,
    /// Callers are drawn from this many contacts.
    contacts: u64,
    /// Open loop: when the first request was due.
    due_from: u64,
    /// Open loop: requests sent, and those given up because they were late.
    done: f64,
    /// Requests sent, whether they count or not.
    sequence: u64,
    /// Closed loop: requests that wait for an answer.
    waiting: usize,
    /// When the last answer came.
    answered_at: u64,
    /// The result so far.
    tally: Tally,
}

impl Sender {
    /// Opens the port.
    fn new(mix: &Mix<'_>, stream: Stream, index: u64) -> io::Result<Self> {
        // Port numbers have five digits in the prebuilt messages.
        let socket = loop {
            let socket = batch::open(SocketAddrV4::new(stream.address, 0).into())?;
            if socket.local_addr()?.port() >= 10_000 {
                break socket;
            }
        };
        socket.connect(mix.server)?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        let request = match stream.request {
            Request::Invite => Template::invite(port),
            Request::Options => Template::options(port),
        };
        Ok(Self {
            stream,
            index,
            socket,
            receiver: Receiver::new(),
            requests: vec![request; BATCH],
            ack: Template::ack(port),
            acks: Vec::with_capacity(BATCH * 1_024),
            ack_length: 0,
            targets: (0..WORLD.all_lines()).map(population::target).collect(),
            random: SmallRng::seed_from_u64(population::mix(index ^ u64::from(port))),
            contacts: mix.contacts,
            due_from: 0,
            done: 0.0,
            sequence: 0,
            waiting: 0,
            answered_at: 0,
            tally: Tally::new(&stream)?,
        })
    }

    /// Sends a batch of the requests that are due.
    fn send(&mut self, clock: &Clock, window: &Window) -> io::Result<()> {
        let now = clock.now();
        match self.stream.arrivals {
            Arrivals::InFlight(most) => {
                if self.waiting > 0 && now.saturating_sub(self.answered_at) > 200_000 {
                    // Do not wait for lost requests.
                    (self.waiting, self.answered_at) = (0, now);
                }
                let free = most.saturating_sub(self.waiting).min(BATCH);
                self.waiting += free;
                self.send_batch(free, window, |_| now)
            }
            Arrivals::Even(rate) | Arrivals::Poisson(rate) => {
                let period = 1e6 / rate;
                // The first one is due at once.
                let due = (now - self.due_from) as f64 / period + 1.0;
                self.done = self.done.max(due - ARREARS / period);
                let count = (due - self.done) as usize;
                let least = if rate < FAST { 1 } else { BATCH / 2 };
                if count < least {
                    return Ok(());
                }
                let count = count.min(BATCH);
                let first = self.due_from as f64 + self.done * period;
                self.done += count as f64;
                self.send_batch(count, window, |index| {
                    (first + index as f64 * period) as u64
                })
            }
        }
    }

    /// Sends this many requests, which were meant to be sent at these times.
    fn send_batch(
        &mut self,
        count: usize,
        window: &Window,
        at: impl Fn(usize) -> u64,
    ) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        for (index, request) in self.requests.iter_mut().take(count).enumerate() {
            let contact = population::random_contact(&mut self.random, self.contacts);
            self.sequence += 1;
            let id = Id {
                stream: self.index,
                at: at(index),
                sequence: self.sequence,
                line: WORLD.line(contact),
            };
            request.set(&Call::returning(&WORLD, id.write(), contact));
            if window.holds(id.at) {
                self.tally.sent += 1;
            }
        }
        let requests = self.requests.get(..count).unwrap_or_default();
        let slices: smallvec::SmallVec<[IoSlice<'_>; BATCH]> = requests
            .iter()
            .map(|request| IoSlice::new(request.bytes()))
            .collect();
        let length = requests.first().map_or(0, |first| first.bytes().len());
        send_cut(&self.socket, &slices, length)
    }

    /// Receives the replies that have arrived, and sends their ACKs.
    fn receive(&mut self, clock: &Clock, window: &Window) -> io::Result<()> {
        for _ in 0..4 {
            let count = self.receiver.receive(&self.socket)?;
            if count == 0 {
                break;
            }
            let now = clock.now();
            self.answered_at = now;
            for (datagram, _) in self.receiver.datagrams() {
                let Some(reply) = Reply::read(datagram).filter(|reply| reply.status >= 200) else {
                    continue;
                };
                let id = Id::read(reply.id);
                if id.stream != self.index {
                    continue;
                }
                // Answers come in order, except within a batch: earlier requests are answered or lost, so do not
                // wait for them.
                let behind = self.sequence.wrapping_sub(id.sequence) & ((1 << SEQUENCE_BITS) - 1);
                self.waiting = self.waiting.min(behind as usize);
                if window.holds(id.at) {
                    let target = self.targets.get(id.line as usize);
                    let is_right = match self.stream.request {
                        Request::Invite => {
                            reply.status == 302 && reply.contact == target.map(String::as_bytes)
                        }
                        Request::Options => reply.status == 200,
                    };
                    match (is_right, reply.status) {
                        (true, _) => {
                            self.tally.served += 1;
                            let latency = now.saturating_sub(id.at) * 1_000;
                            self.tally.latency.saturating_record(latency.max(1));
                        }
                        (false, 503) => self.tally.refused += 1,
                        (false, _) => self.tally.wrong += 1,
                    }
                }
                if self.stream.request == Request::Invite {
                    self.ack.set(&Call {
                        id: reply.id,
                        caller: 0,
                        dialed: WORLD.number(id.line),
                    });
                    let (ack, end) = (self.ack.bytes(), Template::ACK_END);
                    let length = ack.len() + reply.to.len() + end.len();
                    if length != self.ack_length {
                        send_buffer(&self.socket, &mut self.acks, self.ack_length)?;
                        self.ack_length = length;
                    }
                    for part in [ack, reply.to, end] {
                        self.acks.extend_from_slice(part);
                    }
                }
            }
            send_buffer(&self.socket, &mut self.acks, self.ack_length)?;
            if count < BATCH {
                break;
            }
        }
        Ok(())
    }
}

/// Sends and empties a buffer of datagrams of this length.
fn send_buffer(socket: &UdpSocket, buffer: &mut Vec<u8>, length: usize) -> io::Result<()> {
    if !buffer.is_empty() {
        send_cut(socket, &[IoSlice::new(buffer)], length)?;
        buffer.clear();
    }
    Ok(())
}

/// Sends datagrams of one length as a large one that the kernel cuts.
fn send_cut(socket: &UdpSocket, parts: &[IoSlice<'_>], length: usize) -> io::Result<()> {
    let piece = u16::try_from(length).map_err(io::Error::other)?;
    let control = [ControlMessage::UdpGsoSegments(&piece)];
    loop {
        let sent =
            sendmsg::<SockaddrIn>(socket.as_raw_fd(), parts, &control, MsgFlags::empty(), None);
        match sent {
            Ok(_) | Err(Errno::ECONNREFUSED) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Datagrams for this port that the kernel dropped, without room or by a filter.
fn kernel_drops(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let local = format!(":{port:04X}");
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(1).is_some_and(|field| field.ends_with(&local)))
        .filter_map(|fields| fields.last()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back() {
        let id = Id {
            stream: 11,
            at: 7_200_000_001,
            sequence: 1_048_575,
            line: 99,
        };
        assert_eq!(Id::read(id.write()), id);
    }

    #[test]
    fn a_batch_is_cut_into_its_datagrams() {
        let (left, right) = (
            batch::open("127.0.0.1:0".parse().unwrap()).unwrap(),
            batch::open("127.0.0.1:0".parse().unwrap()).unwrap(),
        );
        left.connect(right.local_addr().unwrap()).unwrap();
        send_cut(&left, &[IoSlice::new(b"abcdef"), IoSlice::new(b"gh")], 3).unwrap();
        let mut receiver = Receiver::new();
        let mut received = Vec::new();
        while received.len() < 3 {
            receiver.receive(&right).unwrap();
            received.extend(receiver.datagrams().map(|(bytes, _)| bytes.to_vec()));
        }
        assert_eq!(received, [&b"abc"[..], b"def", b"gh"]);
    }
}
