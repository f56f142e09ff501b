//! Callers, targets, and a network that loses, repeats and reorders messages, over many seeds.
//!
//! `RINGBACK_SEEDS=FROM..TO` runs other seeds than the few hundred of an ordinary test run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use ringback_sip_proto::check::{Role, Verdict, check};
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::{Message, Origin, Transport};
use ringback_sip_proxy::{
    Arrived, Cause, Event, Hop, Invited, Keys, Output, Plan, Proxy, Settings, Taken, Target, Way,
};

#[test]
fn whatever_the_network_does_every_call_ends_once_and_nothing_is_left() {
    let seeds = std::env::var("RINGBACK_SEEDS").ok().map(|text| {
        let (from, to) = text.split_once("..").expect("FROM..TO");
        from.parse().unwrap()..to.parse().unwrap()
    });
    let mut seen = BTreeSet::new();
    for seed in seeds.unwrap_or(0..300) {
        let mut world = World::new(seed);
        world.run();
        world.check();
        seen.extend(
            world
                .calls
                .iter()
                .flat_map(|call| call.finals.iter().map(|(status, _)| *status)),
        );
    }
    for status in [200, 408, 486, 487, 500, 603] {
        assert!(
            seen.contains(&status),
            "no call ended in {status}: {seen:?}"
        );
    }
}

/// One run.
struct World {
    seed: u64,
    random: u64,
    now: Duration,
    proxy: Proxy,
    /// What will happen, and when; the number keeps the order of what happens at once.
    future: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    /// What each of them is.
    happenings: Vec<Option<Happening>>,
    calls: Vec<Call>,
    /// The targets' transactions, by our branch.
    targets: BTreeMap<u64, Ringing>,
    /// Our branches that were sent.
    tried: BTreeSet<u64>,
    /// Share of messages that are lost, in hundredths.
    loss: u64,
}

/// Something that happens.
enum Happening {
    /// The caller does what is due.
    Caller(usize),
    /// A message reaches the proxy from the caller.
    FromCaller(String),
    /// A message reaches the proxy from a target.
    FromTarget(String),
    /// A message reaches the caller.
    AtCaller(usize, String),
    /// A message reaches a target.
    AtTarget(u64, String),
    /// A target does what is due.
    Target(u64),
    /// The network tells that nobody is there.
    Refused(u64),
}

/// A call, as the caller and the network see it.
#[derive(Default)]
struct Call {
    /// What each target does.
    behaviors: Vec<Behavior>,
    /// When the caller hangs up.
    hangs_up_at: Option<Duration>,
    /// The caller has heard something, so that it may hang up.
    has_provisional: bool,
    /// The final reply that it heard.
    heard: Option<u16>,
    /// When it sends its INVITE or CANCEL again.
    interval: Duration,
    began: bool,
    has_hung_up: bool,
    cancel_answered: bool,
    /// The proxy got the CANCEL, before the final reply went up.
    cancel_arrived: bool,
    /// Each final reply that the proxy sent up: its status and the bytes.
    finals: Vec<(u16, String)>,
    /// INVITEs to new targets that were sent after the CANCEL arrived.
    tried_after_cancel: usize,
    /// 2xx that the proxy took.
    answers_in: usize,
    answers_up: usize,
    closed: usize,
    told: Vec<Event>,
}

/// What a target does with an INVITE.
#[derive(Clone, Copy, Debug)]
enum Behavior {
    /// It takes the call after a while.
    Answers(u64),
    /// It refuses the call after a while.
    Refuses(u64, u16),
    /// It rings and rings.
    RingsForEver,
    /// It hears nothing.
    IsSilent,
    /// Nobody is there.
    IsClosed,
}

/// A call at a target.
struct Ringing {
    call: usize,
    invite: String,
    behavior: Behavior,
    /// When it decides.
    decides_at: Duration,
    rings: bool,
    /// The final reply, sent again until it is acknowledged.
    reply: Option<String>,
    interval: Duration,
    acknowledged: bool,
    /// The proxy heard that it rings, while it waited for that.
    is_known_to_ring: bool,
    /// The proxy heard its final reply.
    is_known_to_have_ended: bool,
    cancel_sent: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let settings = Settings {
            invite_timeout: Duration::from_secs(60),
            failover: [408, 486, 500, 503].into_iter().collect(),
            ..Settings::default()
        };
        let mut world = Self {
            seed,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: Duration::ZERO,
            proxy: Proxy::new(settings, [9; 16], 0, seed),
            future: BinaryHeap::new(),
            happenings: Vec::new(),
            calls: Vec::new(),
            targets: BTreeMap::new(),
            tried: BTreeSet::new(),
            loss: [0, 5, 20, 40][(seed % 4) as usize],
        };
        for call in 0..4 {
            let behaviors = (0..1 + world.roll(3)).map(|_| world.behavior()).collect();
            let begins = Duration::from_millis(world.roll(3_000));
            let hangs_up =
                (world.roll(3) == 0).then(|| begins + Duration::from_millis(world.roll(40_000)));
            world.calls.push(Call {
                behaviors,
                hangs_up_at: hangs_up,
                interval: Duration::from_millis(500),
                ..Call::default()
            });
            world.later(begins, Happening::Caller(call));
            if let Some(at) = hangs_up {
                world.later(at, Happening::Caller(call));
            }
        }
        world
    }

    fn behavior(&mut self) -> Behavior {
        let after = [50, 3_000, 19_990, 20_010, 30_000][self.roll(5) as usize] + self.roll(100);
        match self.roll(8) {
            0..=2 => Behavior::Answers(after),
            3 => Behavior::Refuses(after, [486, 500, 503, 404][self.roll(4) as usize]),
            4 => Behavior::Refuses(after, [603, 486, 302, 480][self.roll(4) as usize]),
            5 => Behavior::RingsForEver,
            6 => Behavior::IsSilent,
            _ => Behavior::IsClosed,
        }
    }

    /// A number below this one.
    fn roll(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    fn later(&mut self, at: Duration, happening: Happening) {
        let number = self.happenings.len();
        self.happenings.push(Some(happening));
        self.future.push(Reverse((at, number as u64, number)));
    }

    /// The network takes a message: it may be lost, come twice, and be overtaken.
    fn carry(&mut self, happening: impl Fn() -> Happening) {
        let copies = if self.roll(100) < self.loss {
            0
        } else if self.roll(100) < 5 {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let most = 1 + self.roll(300);
            let delay = Duration::from_millis(1 + self.roll(most));
            self.later(self.now + delay, happening());
        }
    }

    fn run(&mut self) {
        let end = Duration::from_secs(600);
        loop {
            let next = self.future.peek().map(|Reverse((at, ..))| *at);
            let deadline = self.proxy.deadline();
            let Some(at) = next
                .into_iter()
                .chain(deadline)
                .min()
                .filter(|at| *at < end)
            else {
                return;
            };
            self.now = self.now.max(at);
            if deadline == Some(at) {
                self.proxy.timeout(self.now);
                self.drain();
                continue;
            }
            if let Some(Reverse((_, _, number))) = self.future.pop()
                && let Some(happening) = self.happenings[number].take()
            {
                self.happen(happening);
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Caller(call) => self.caller(call),
            Happening::FromCaller(text) => self.take_of_caller(&text),
            Happening::FromTarget(text) => self.take_of_target(&text),
            Happening::AtCaller(call, text) => self.at_caller(call, &text),
            Happening::AtTarget(branch, text) => self.at_target(branch, text),
            Happening::Target(branch) => self.target(branch),
            Happening::Refused(branch) => {
                self.proxy.failed(self.now, branch, Cause::Refused);
                self.drain();
            }
        }
    }

    /// The caller sends its INVITE until it hears something, and hangs up when it wants to.
    fn caller(&mut self, number: usize) {
        let now = self.now;
        let call = &mut self.calls[number];
        if call.heard.is_some() {
            return;
        }
        let wants_to_end = call.hangs_up_at.is_some_and(|at| now >= at);
        let method = match (call.began, call.has_provisional, wants_to_end) {
            (_, true, true) if !call.cancel_answered => "CANCEL",
            (_, false, _) => "INVITE",
            _ => return,
        };
        if method == "CANCEL" && !std::mem::replace(&mut call.has_hung_up, true) {
            call.interval = Duration::from_millis(500);
        }
        call.began = true;
        let again = now + call.interval;
        call.interval *= 2;
        let gives_up = call.interval > Duration::from_secs(40);
        self.carry(|| Happening::FromCaller(request(number, method)));
        if !gives_up {
            self.later(again, Happening::Caller(number));
        }
    }

    fn take_of_caller(&mut self, text: &str) {
        let (now, origin) = (self.now, origin());
        let message = Message::parse(text.as_bytes(), Framing::Datagram).unwrap();
        let Verdict::Route(request) = check(&message, Role::Proxy) else {
            panic!("{text}");
        };
        let arrived = Arrived {
            message: &message,
            request: &request,
            origin,
            flow: 0,
        };
        let number = call_of(&message);
        let taken = self.proxy.request(now, arrived);
        let call = &mut self.calls[number];
        match taken {
            Taken::Cancel => call.cancel_arrived |= call.finals.is_empty(),
            Taken::No if text.starts_with("INVITE") && call.closed == 0 => {
                let plan = Plan {
                    targets: (0..call.behaviors.len()).map(target).collect(),
                    headers: Arc::from(*b""),
                    is_trusted: false,
                };
                let invited = Invited {
                    token: number as u64,
                    numbers: b"",
                };
                self.proxy.begin(now, arrived, invited, plan);
            }
            _ => {}
        }
        self.drain();
    }

    fn take_of_target(&mut self, text: &str) {
        let message = Message::parse(text.as_bytes(), Framing::Datagram).unwrap();
        let branch = Keys::branch_of(&message).unwrap();
        let is_for_invite = text.contains("INVITE\r\n");
        let is_taken = self.proxy.reply(self.now, branch, &message);
        if let Some(ringing) = self
            .targets
            .get_mut(&branch.id)
            .filter(|_| is_taken && is_for_invite)
        {
            match text.as_bytes()[8] {
                b'1' => ringing.is_known_to_ring = true,
                digit => {
                    ringing.is_known_to_have_ended = true;
                    self.calls[ringing.call].answers_in += usize::from(digit == b'2');
                }
            }
        }
        self.drain();
    }

    fn at_caller(&mut self, number: usize, text: &str) {
        let status: u16 = text[8..11].parse().unwrap();
        let call = &mut self.calls[number];
        if text.contains("CSeq: 1 CANCEL") {
            call.cancel_answered = true;
            return;
        }
        call.has_provisional = true;
        if status < 200 {
            return;
        }
        call.heard = call.heard.or(Some(status));
        if status >= 300 {
            self.carry(|| Happening::FromCaller(request(number, "ACK")));
        } else {
            // The ACK of a 2xx goes straight to the target.
            for ringing in self
                .targets
                .values_mut()
                .filter(|ringing| ringing.call == number)
            {
                ringing.acknowledged |= ringing.reply.is_some();
            }
        }
    }

    /// A request reaches a target.
    fn at_target(&mut self, branch: u64, text: String) {
        let now = self.now;
        let message = Message::parse(text.as_bytes(), Framing::Datagram).unwrap();
        let number = call_of(&message);
        let host = text.split("sip:t").nth(1).unwrap();
        let target: usize = host.split('.').next().unwrap().parse().unwrap();
        let behavior = self.calls[number].behaviors[target];
        if matches!(behavior, Behavior::IsSilent) {
            return;
        }
        match text.split(' ').next().unwrap() {
            "INVITE" => {
                let after = match behavior {
                    Behavior::Answers(after) | Behavior::Refuses(after, _) => after,
                    _ => 10_000_000,
                };
                let decides_at = now + Duration::from_millis(after);
                let mut is_new = false;
                self.targets.entry(branch).or_insert_with(|| {
                    is_new = true;
                    Ringing {
                        call: number,
                        invite: text,
                        behavior,
                        decides_at,
                        rings: true,
                        reply: None,
                        interval: Duration::from_millis(500),
                        acknowledged: false,
                        is_known_to_ring: false,
                        is_known_to_have_ended: false,
                        cancel_sent: false,
                    }
                });
                if is_new {
                    self.later(decides_at, Happening::Target(branch));
                }
                let ringing = &self.targets[&branch];
                let status = if ringing.rings {
                    "180 Ringing"
                } else {
                    "100 Trying"
                };
                let reply = ringing.reply.clone();
                let reply = reply.unwrap_or_else(|| reply_to(&ringing.invite, status));
                self.carry(|| Happening::FromTarget(reply.clone()));
            }
            "CANCEL" => {
                let Some(ringing) = self.targets.get_mut(&branch) else {
                    return;
                };
                let mut replies = vec![reply_to(&text, "200 OK")];
                if std::mem::replace(&mut ringing.rings, false) {
                    let reply = reply_to(&ringing.invite, "487 Request Terminated");
                    ringing.reply = Some(reply.clone());
                    replies.push(reply);
                    self.later(now + Duration::from_millis(500), Happening::Target(branch));
                }
                for reply in replies {
                    self.carry(|| Happening::FromTarget(reply.clone()));
                }
            }
            _ => {
                if let Some(ringing) = self.targets.get_mut(&branch) {
                    ringing.acknowledged = true;
                }
            }
        }
    }

    /// A target decides, or sends its final reply again.
    fn target(&mut self, branch: u64) {
        let now = self.now;
        let Some(ringing) = self.targets.get_mut(&branch) else {
            return;
        };
        if ringing.acknowledged || ringing.interval > Duration::from_secs(20) {
            return;
        }
        if ringing.rings {
            if now < ringing.decides_at {
                return;
            }
            ringing.rings = false;
            let status = match ringing.behavior {
                Behavior::Refuses(_, status) => format!("{status} No"),
                _ => "200 OK".to_owned(),
            };
            ringing.reply = Some(reply_to(&ringing.invite, &status));
        }
        let Some(reply) = ringing.reply.clone() else {
            return;
        };
        let again = now + ringing.interval;
        ringing.interval *= 2;
        self.carry(|| Happening::FromTarget(reply.clone()));
        self.later(again, Happening::Target(branch));
    }

    /// Hands what the proxy sends to the network.
    fn drain(&mut self) {
        let mut sent = Vec::new();
        while let Some(output) = self.proxy.poll_output() {
            match output {
                Output::Transmit(transmit) => {
                    sent.push((
                        String::from_utf8(transmit.bytes.to_vec()).unwrap(),
                        transmit.way,
                    ));
                }
                Output::Event(event) => {
                    let call = &mut self.calls[usize::try_from(event.token()).unwrap()];
                    if matches!(event, Event::Closed { .. }) {
                        call.closed += 1;
                    } else {
                        call.told.push(event);
                    }
                }
            }
        }
        for (text, way) in sent {
            let message = Message::parse(text.as_bytes(), Framing::Datagram).unwrap();
            assert_eq!(message.fault(), None, "malformed: {text}");
            let verdict = check(&message, Role::Proxy);
            assert!(
                matches!(verdict, Verdict::Route(_) | Verdict::Response(_)),
                "malformed: {text}"
            );
            let number = call_of(&message);
            let call = &mut self.calls[number];
            match way {
                Way::Back(_) => {
                    if text.contains("CSeq: 1 INVITE") && text.as_bytes()[8] != b'1' {
                        let status = text[8..11].parse().unwrap();
                        call.answers_up += usize::from(text.as_bytes()[8] == b'2');
                        call.finals.push((status, text.clone()));
                    }
                    self.carry(|| Happening::AtCaller(number, text.clone()));
                }
                Way::Out { branch, .. } => {
                    let is_new = text.starts_with("INVITE") && self.tried.insert(branch);
                    let is_closed = text.split("sip:t").nth(1).is_some_and(|host| {
                        let target: usize = host.split('.').next().unwrap().parse().unwrap();
                        matches!(call.behaviors[target], Behavior::IsClosed)
                    });
                    if is_new && call.cancel_arrived {
                        call.tried_after_cancel += 1;
                    }
                    if text.starts_with("CANCEL")
                        && let Some(ringing) = self.targets.get_mut(&branch)
                    {
                        ringing.cancel_sent = true;
                    }
                    if is_closed {
                        self.carry(|| Happening::Refused(branch));
                    } else {
                        self.carry(|| Happening::AtTarget(branch, text.clone()));
                    }
                }
            }
        }
    }

    /// Whether everything is as it should be in the end.
    fn check(&self) {
        let seed = self.seed;
        assert_eq!(self.proxy.calls(), 0, "seed {seed}: a call is left");
        assert_eq!(
            self.proxy.deadline(),
            None,
            "seed {seed}: a deadline is left"
        );
        for (number, call) in self.calls.iter().enumerate() {
            let of = format!("seed {seed}, call {number}: {:?}", call.behaviors);
            if call.closed == 0 {
                assert!(
                    call.told.is_empty() && call.finals.is_empty(),
                    "{of}: not begun"
                );
                continue;
            }
            assert_eq!(call.closed, 1, "{of}");
            assert!(!call.finals.is_empty(), "{of}: no final reply went up");
            let refusals: BTreeSet<&str> = call
                .finals
                .iter()
                .filter(|(status, _)| *status >= 300)
                .map(|(_, text)| &**text)
                .collect();
            assert!(
                refusals.len() <= 1,
                "{of}: two final replies: {refusals:#?}"
            );
            let first_answer = call.finals.iter().position(|(status, _)| *status < 300);
            if let Some(at) = first_answer
                && call.finals[0].0 < 300
            {
                assert_eq!(at, 0);
                assert!(refusals.is_empty(), "{of}: a refusal after an answer");
            }
            assert_eq!(
                call.answers_in, call.answers_up,
                "{of}: an answer was kept back"
            );
            let told =
                |wanted: fn(&Event) -> bool| call.told.iter().filter(|event| wanted(event)).count();
            let ends = told(|event| matches!(event, Event::Answered { .. } | Event::Failed { .. }));
            assert_eq!(ends, 1, "{of}: {:?}", call.told);
            let attempts: Vec<u16> = call
                .told
                .iter()
                .filter_map(|event| match event {
                    Event::Attempt(attempt) => Some(attempt.target),
                    _ => None,
                })
                .collect();
            let distinct: BTreeSet<&u16> = attempts.iter().collect();
            assert_eq!(
                attempts.len(),
                distinct.len(),
                "{of}: told twice {:?}",
                call.told
            );
            assert_eq!(
                call.tried_after_cancel, 0,
                "{of}: tried after the caller hung up"
            );
        }
        for ringing in self.targets.values() {
            let was_left = ringing.rings
                && ringing.is_known_to_ring
                && !ringing.is_known_to_have_ended
                && !ringing.cancel_sent;
            assert!(
                !was_left,
                "seed {seed}, call {}: left ringing",
                ringing.call
            );
        }
    }
}

/// Where the callers are.
fn origin() -> Origin {
    Origin {
        address: "192.0.2.1:5060".parse().unwrap(),
        transport: Transport::Udp,
    }
}

fn target(number: usize) -> Target {
    Target {
        uri: format!("sip:t{number}.example").into(),
        hop: Some(Arc::new(Hop {
            transport: Transport::Udp,
            address: "10.0.0.1:5060".parse().unwrap(),
            sent_by: "203.0.113.5:5060".into(),
            socket: 0,
        })),
        large: None,
        record_route: Arc::from(*b""),
        is_down: false,
        keeps_identity: false,
        is_followed: false,
    }
}

/// What a caller sends.
fn request(call: usize, method: &str) -> String {
    format!(
        "{method} sip:b@us.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKc{call};rport\r\n\
         From: <sip:a@192.0.2.1>;tag={call}\r\nTo: <sip:b@us.example>\r\nCall-ID: {call}\r\n\
         CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Which call a message belongs to.
fn call_of(message: &Message<'_>) -> usize {
    std::str::from_utf8(message.call_id().unwrap())
        .unwrap()
        .parse()
        .unwrap()
}

/// The reply of a target.
fn reply_to(request: &str, status: &str) -> String {
    let mut reply = format!("SIP/2.0 {status}\r\n");
    for line in request.split("\r\n") {
        let name = line.split(':').next().unwrap();
        if ["Via", "From", "Call-ID", "CSeq"].contains(&name) {
            reply += &format!("{line}\r\n");
        } else if name == "To" {
            reply += &format!("{line};tag=t\r\n");
        }
    }
    reply + "Content-Length: 0\r\n\r\n"
}
