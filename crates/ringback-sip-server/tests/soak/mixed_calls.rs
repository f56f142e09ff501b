//! Mixed calls for a while: answered, busy, cancelled, with lost packets, past targets that are gone or silent.
//!
//! Every call must end, what the server counts must be what the callers saw, and memory must stay where it is.
//! A quarter of a minute of calls by default; `RINGBACK_SOAK_SECONDS=3600` makes it an hour, and
//! `RINGBACK_SOAK_RATE` is the number of calls a second.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    CALLBACK, CONTACT, OURS, PATIENCE, Program, invite, program, status, target, values,
};
use arc_swap::Guard;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use ringback_index::ContactIndex;
use ringback_routing::{CallVia, Directory, EnvironmentId, ForwardedCall, LearnedCall, Timestamp};
use ringback_sip_server::{DecidedCall, Events, SipConfig, SipServer, SipSpec, Snapshots};

#[test]
fn mixed_calls_all_end_as_they_are_counted_and_leave_no_memory() {
    let seconds = setting("RINGBACK_SOAK_SECONDS", 15);
    let rate = setting("RINGBACK_SOAK_RATE", 60);
    let seed = setting("RINGBACK_SOAK_SEED", u64::from(std::process::id()));
    eprintln!("{rate} calls a second for {seconds} seconds, seed {seed}");
    let targets = Targets::new();
    let counting = Counting::new(&targets.uris());
    let server = Running::start(&counting);
    let mut load = Load::new(server.address, targets, seed);

    let length = Duration::from_secs(seconds);
    let begin = Instant::now();
    let mut early = None;
    let mut told = 0;
    while begin.elapsed() < length {
        let wanted = (begin.elapsed().as_secs_f64() * rate as f64) as u64;
        while load.begun < wanted {
            load.begin();
        }
        load.turn();
        let minutes = begin.elapsed().as_secs() / 60;
        if minutes > told {
            told = minutes;
            eprintln!("{told} min: {} calls, {} KiB", load.begun, resident());
        }
        // What a server needs while it is busy is there by then: calls stay for half a minute.
        if early.is_none() && begin.elapsed() > (length / 4).max(Duration::from_secs(10)) {
            early = Some(resident());
        }
    }
    let end = Instant::now();
    while server.forward_metric("transactions") > 0 || load.is_open() {
        assert!(
            end.elapsed() < 2 * PATIENCE + HALF_A_MINUTE,
            "a call never ends"
        );
        load.turn();
    }
    let late = resident();
    eprintln!(
        "{} calls: {:?}; {} KiB after a quarter, {late} KiB in the end",
        load.begun,
        load.ended,
        early.unwrap_or_default()
    );

    let counted = |status: u16| server.ended(status);
    for status in [200, 408, 486, 487, 500] {
        let seen = load.ended.get(&status).copied().unwrap_or_default();
        assert_eq!(counted(status), seen, "calls that ended with {status}");
    }
    assert_eq!(
        load.ended.values().sum::<u64>(),
        load.begun,
        "each call ended once"
    );
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(number(&counting.decided), load.begun);
    assert_eq!(number(&counting.answered), counted(200));
    assert_eq!(
        load.wrong, 0,
        "calls that ended in another way than they should"
    );
    let refused = server.forward_metric("failovers_total{cause=\"refused\"}");
    let silent = server.forward_metric("failovers_total{cause=\"timeout\"}");
    assert!(
        refused > 0 && silent > 0,
        "{refused} refused, {silent} silent"
    );
    let most = early.unwrap_or(late) + ROOM;
    assert!(late < most, "{late} KiB in the end, after {early:?}");
}

/// A number from the environment of the test.
fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap()
}

/// Counts what the server tells.
#[derive(Debug)]
struct Counting {
    program: Program,
    decided: AtomicU64,
    answered: AtomicU64,
}

impl Counting {
    /// The returning calls of the usual contact go to these targets.
    fn new(targets: &[String]) -> Arc<Self> {
        let program = program();
        program.change_agent(CALLBACK, |agent| {
            let ranked = (0..).zip(targets);
            agent.targets = ranked.map(|(rank, uri)| target(uri, rank, 0)).collect();
        });
        Arc::new(Self {
            program,
            decided: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        })
    }
}

/// The same as the server holds it.
#[derive(Clone, Debug)]
struct Shared(Arc<Counting>);

impl Snapshots for Shared {
    type Contacts = ContactIndex;

    fn directory(&self) -> Guard<Arc<Directory>> {
        self.0.program.directory.load()
    }

    fn contacts(&self) -> &ContactIndex {
        &self.0.program.contacts
    }
}

impl Events for Shared {
    fn decided(&self, _call: &DecidedCall<'_, '_>, _via: CallVia) {
        self.0.decided.fetch_add(1, Ordering::Relaxed);
    }

    fn learned(&self, _call: LearnedCall) {}

    fn forwarded(
        &self,
        _environment: EnvironmentId,
        _call_id: &[u8],
        _at: Timestamp,
        _call: &ForwardedCall,
    ) -> bool {
        true
    }

    fn answered(&self, _environment: EnvironmentId, _call_id: &[u8], _at: Timestamp) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// A running server.
struct Running {
    server: SipServer<Shared>,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Running {
    fn start(counting: &Arc<Counting>) -> Self {
        let mut spec = SipSpec {
            udp: vec!["127.0.0.1:0".to_owned()],
            mode: "forward".to_owned(),
            workers: 2,
            ..SipSpec::default()
        };
        spec.forward.probe = 0;
        // So that targets that are down are tried again and again.
        spec.forward.hold_down = 2;
        let config = SipConfig::try_from(spec).unwrap();
        let server = SipServer::bind(config, [7; 16], Shared(Arc::clone(counting))).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let running = server.clone();
        runtime.spawn(async move { running.run().await });
        Self {
            address: server.addresses().udp[0],
            server,
            runtime: Some(runtime),
        }
    }

    /// The sum of all metrics that begin and end so.
    fn sum(&self, start: &str, end: &str) -> u64 {
        let mut page = String::new();
        self.server.write_metrics(&mut page);
        let lines = page.lines().filter_map(|line| line.rsplit_once(' '));
        let values = lines.filter(|(name, _)| name.starts_with(start) && name.ends_with(end));
        values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    fn forward_metric(&self, name: &str) -> u64 {
        let name = format!("ringback_forward_{name}");
        self.sum(&name, &name)
    }

    /// How many calls ended with a status.
    fn ended(&self, status: u16) -> u64 {
        let end = format!(",status=\"{status}\"}}");
        self.sum("ringback_forward_calls_total{", &end)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}

/// The targets of all calls, in the order in which they are tried.
struct Targets {
    /// Nobody listens there.
    gone: SocketAddr,
    /// Takes everything and says nothing.
    silent: UdpSocket,
    /// Does what a call wants.
    agent: UdpSocket,
}

impl Targets {
    fn new() -> Self {
        let open = || UdpSocket::bind("127.0.0.2:0").unwrap();
        let gone = open().local_addr().unwrap();
        let (silent, agent) = (open(), open());
        for socket in [&silent, &agent] {
            socket.set_nonblocking(true).unwrap();
        }
        Self {
            gone,
            silent,
            agent,
        }
    }

    fn uris(&self) -> [String; 3] {
        let address = |socket: &UdpSocket| socket.local_addr().unwrap();
        [self.gone, address(&self.silent), address(&self.agent)]
            .map(|address| format!("sip:agent@{address}"))
    }
}

/// What a call is meant to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Answered,
    Busy,
    Cancelled,
}

/// Something that is sent until it is answered.
#[derive(Debug)]
struct Again {
    bytes: String,
    at: Instant,
    interval: Duration,
}

impl Again {
    fn new(bytes: String) -> Self {
        Self {
            bytes,
            at: Instant::now(),
            interval: T1,
        }
    }

    /// What is to be sent by now.
    fn due(again: &mut Option<Self>, now: Instant) -> Option<String> {
        let again = again.as_mut().filter(|again| now >= again.at)?;
        again.at = now + again.interval;
        again.interval = (again.interval * 2).min(T2);
        Some(again.bytes.clone())
    }
}

/// A call, on both sides of the server.
#[derive(Debug)]
struct Call {
    kind: Kind,
    /// Whether some of its packets are lost.
    is_lossy: bool,
    /// The INVITE as the caller sent it.
    text: String,
    /// It, until there is a reply.
    invite: Option<Again>,
    /// The CANCEL, until there is a reply.
    cancel: Option<Again>,
    has_hung_up: bool,
    /// The INVITE as the agent got it, and from whom.
    asked: Option<(String, SocketAddr)>,
    /// The final reply of the agent, until there is an ACK; the ACK of a 2xx does not go through the server.
    reply: Option<Again>,
    /// The final reply that the caller got, and when.
    ended: Option<(u16, Instant)>,
}

/// Callers and targets.
struct Load {
    caller: UdpSocket,
    targets: Targets,
    random: SmallRng,
    calls: HashMap<u64, Call>,
    begun: u64,
    /// How many calls ended with a status.
    ended: HashMap<u16, u64>,
    /// How many of them should have ended in another way.
    wrong: u64,
    /// When timers were last looked at.
    looked_at: Instant,
}

impl Load {
    fn new(server: SocketAddr, targets: Targets, seed: u64) -> Self {
        let caller = UdpSocket::bind("127.0.0.1:0").unwrap();
        caller.connect(server).unwrap();
        caller
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        Self {
            caller,
            targets,
            random: SmallRng::seed_from_u64(seed),
            calls: HashMap::new(),
            begun: 0,
            ended: HashMap::new(),
            wrong: 0,
            looked_at: Instant::now(),
        }
    }

    /// Whether a call has no final reply, or is remembered for a reply that comes again.
    fn is_open(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Begins a call.
    fn begin(&mut self) {
        let number = self.begun;
        self.begun += 1;
        let kind = match self.random.random_range(0..4) {
            0 => Kind::Busy,
            1 => Kind::Cancelled,
            _ => Kind::Answered,
        };
        let text = invite(OURS, CONTACT, &format!("soak-{number}"));
        let call = Call {
            kind,
            is_lossy: self.random.random_bool(0.3),
            invite: Some(Again::new(text.clone())),
            text,
            cancel: None,
            has_hung_up: false,
            asked: None,
            reply: None,
            ended: None,
        };
        self.calls.insert(number, call);
    }

    /// Takes what arrived and does what is due.
    fn turn(&mut self) {
        let mut room = [0; 4_096];
        while let Ok(length) = self.caller.recv(&mut room) {
            self.at_caller(&String::from_utf8_lossy(&room[..length]));
            if self.looked_at.elapsed() > TICK {
                break;
            }
        }
        while let Ok((length, from)) = self.targets.agent.recv_from(&mut room) {
            self.at_agent(&String::from_utf8_lossy(&room[..length]), from);
        }
        while self.targets.silent.recv(&mut room).is_ok() {}
        if self.looked_at.elapsed() > TICK {
            self.looked_at = Instant::now();
            self.timers();
        }
    }

    /// Sends what is due, and forgets calls that ended some time ago.
    fn timers(&mut self) {
        let now = self.looked_at;
        let Self {
            calls,
            caller,
            targets,
            random,
            ..
        } = self;
        calls.retain(|_, call| {
            for again in [&mut call.invite, &mut call.cancel] {
                if let Some(bytes) = Again::due(again, now)
                    && arrives(call.is_lossy, random)
                {
                    caller.send(bytes.as_bytes()).unwrap();
                }
            }
            if let Some(bytes) = Again::due(&mut call.reply, now)
                && let Some((_, from)) = &call.asked
                && arrives(call.is_lossy, random)
            {
                targets.agent.send_to(bytes.as_bytes(), from).unwrap();
            }
            call.ended.is_none_or(|(_, at)| now < at + HALF_A_MINUTE)
        });
    }

    /// A reply arrives at the caller.
    fn at_caller(&mut self, reply: &str) {
        let Some(call) = number(reply).and_then(|number| self.calls.get_mut(&number)) else {
            return;
        };
        if !arrives(call.is_lossy, &mut self.random) {
            return;
        }
        let status = status(reply);
        if values(reply, "CSeq")[0].ends_with("CANCEL") {
            call.cancel = None;
            return;
        }
        call.invite = None;
        if status < 200 {
            if call.kind == Kind::Cancelled && !call.has_hung_up && call.ended.is_none() {
                call.has_hung_up = true;
                call.cancel = Some(Again::new(call.text.replace("INVITE", "CANCEL")));
            }
            return;
        }
        call.cancel = None;
        if status < 300 {
            call.reply = None;
        } else if arrives(call.is_lossy, &mut self.random) {
            let ack = call.text.replace("INVITE", "ACK");
            self.caller.send(ack.as_bytes()).unwrap();
        }
        if call.ended.is_some() {
            return;
        }
        call.ended = Some((status, Instant::now()));
        *self.ended.entry(status).or_default() += 1;
        let is_right = match call.kind {
            Kind::Answered => status == 200,
            Kind::Busy => status == 486,
            Kind::Cancelled => status == 487,
        };
        // Where packets are lost, one in a hundred thousand calls is silent for too long.
        let may_be_silent = call.is_lossy && status == 408;
        if !is_right && !may_be_silent {
            eprintln!("{call:?}");
            self.wrong += 1;
        }
    }

    /// A request arrives at the agent.
    fn at_agent(&mut self, request: &str, from: SocketAddr) {
        let Some(call) = number(request).and_then(|number| self.calls.get_mut(&number)) else {
            return;
        };
        if !arrives(call.is_lossy, &mut self.random) {
            return;
        }
        let mut send = |reply: &str| {
            if arrives(call.is_lossy, &mut self.random) {
                let reply = reply_to(request, reply);
                self.targets.agent.send_to(reply.as_bytes(), from).unwrap();
            }
        };
        if request.starts_with("INVITE") {
            send("180 Ringing");
            if call.asked.is_none() {
                call.reply = match call.kind {
                    Kind::Answered => Some("200 OK"),
                    Kind::Busy => Some("486 Busy Here"),
                    Kind::Cancelled => None,
                }
                .map(|status| Again::new(reply_to(request, status)));
                call.asked = Some((request.to_owned(), from));
            }
        } else if request.starts_with("CANCEL") {
            send("200 OK");
            if let Some((asked, _)) = &call.asked
                && call.reply.is_none()
                && call.kind == Kind::Cancelled
            {
                let reply = reply_to(asked, "487 Request Terminated");
                call.reply = Some(Again::new(reply));
            }
        } else if request.starts_with("ACK") {
            call.reply = None;
        }
    }
}

/// Whether a packet of a call arrives.
fn arrives(is_lossy: bool, random: &mut impl Rng) -> bool {
    !is_lossy || !random.random_bool(0.03)
}

/// The number of a call in one of its messages.
fn number(message: &str) -> Option<u64> {
    let call_id = *values(message, "Call-ID").first()?;
    call_id.strip_prefix("soak-")?.parse().ok()
}

/// The reply to a request.
fn reply_to(request: &str, status: &str) -> String {
    let mut reply = format!("SIP/2.0 {status}\r\n");
    for line in request.lines() {
        match line.split(':').next() {
            Some("Via" | "From" | "Call-ID" | "CSeq") => reply += &format!("{line}\r\n"),
            Some("To") => reply += &format!("{line};tag=agent\r\n"),
            _ => {}
        }
    }
    reply + "Contact: <sip:agent@127.0.0.2>\r\nContent-Length: 0\r\n\r\n"
}

/// The first interval of retransmissions.
const T1: Duration = Duration::from_millis(500);

/// The longest one.
const T2: Duration = Duration::from_secs(4);

/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(10);

/// How long calls are remembered after their end, on both sides.
const HALF_A_MINUTE: Duration = Duration::from_secs(33);

/// How much more memory may be resident in the end, in KiB: what the allocator keeps of the busiest moment.
const ROOM: u64 = 24 * 1_024;
