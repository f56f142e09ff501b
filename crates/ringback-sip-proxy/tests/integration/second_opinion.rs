//! A second opinion: the transactions of `sipx-sip`, which others wrote, see the same call and must send the same
//! messages at the same times.

use std::time::Duration;

use bytes::Bytes;
use sipx_sip::transaction::{Output, Reliability, Timer, Timers, sent_messages};
use sipx_sip::{ClientTransaction, Limits, Message, ServerTransaction, parse_datagram};

use ringback_sip_proto::Transport;
use ringback_sip_proxy::{Settings, Way};

use crate::support::{Bench, Sent, reply_to, request};

#[test]
fn others_send_the_same_messages_at_the_same_times() {
    let mut random = 1_u64;
    let mut roll = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for trace in 0..2_000 {
        let (caller, target) = [
            (Transport::Udp, Transport::Udp),
            (Transport::Tcp, Transport::Udp),
            (Transport::Udp, Transport::Tcp),
        ][trace % 3];
        // One target, so that only the transactions decide; and no reply timeout before Timer B.
        let settings = Settings {
            reply_timeout: Duration::from_secs(1_000),
            ..Settings::default()
        };
        let mut bench = Bench::with(1, settings).over(caller, target);
        bench.call();
        let sent = bench.sent.clone();
        let (trying, invite) = (&sent[0], &sent[1]);
        let mut client = Other::client(&invite.text, target);
        let mut server = Other::server(&request("INVITE"), caller);
        server.respond(&trying.text);
        let mut final_status = None;
        for _ in 0..roll(8) {
            let pause = [roll(40), 500, roll(5_000), roll(40_000)][roll(4) as usize];
            bench.wait(pause);
            client.wait(pause);
            server.wait(pause);
            match roll(4) {
                0 => {
                    bench.request(&request("INVITE"));
                    server.receive(&request("INVITE"));
                }
                1 if final_status.is_some_and(|status: &str| !status.starts_with('2')) => {
                    bench.request(&request("ACK"));
                    server.receive(&request("ACK"));
                }
                _ => {
                    let provisional = ["100 Trying", "180 Ringing", "183 Session"];
                    let last = ["200 OK", "302 Moved", "404 Nobody", "486 Busy", "603 No"];
                    let status = match (final_status, roll(3)) {
                        (Some(status), _) => status,
                        (None, 0) => *final_status.insert(last[roll(5) as usize]),
                        (None, _) => provisional[roll(3) as usize],
                    };
                    let before = bench.sent.len();
                    bench.reply(invite, status);
                    client.reply(&reply_to(invite, status, "b"));
                    // What went up because of it is what the transaction was told to send.
                    let up = bench.sent[before..]
                        .iter()
                        .find(|sent| matches!(sent.way, Way::Back(_)));
                    if let Some(up) = up {
                        server.respond(&up.text);
                    }
                }
            }
            if client.is_over {
                // Timer B: the caller is told so by whoever uses the transaction.
                break;
            }
        }
        if !client.is_over {
            bench.wait(100_000);
            client.wait(100_000);
            server.wait(100_000);
        }
        let ours = |is_up: bool| -> Vec<String> {
            let sent = bench
                .sent
                .iter()
                .filter(|sent| matches!(sent.way, Way::Back(_)) == is_up);
            sent.map(line).collect()
        };
        let until = client.over_at;
        let early = |lines: Vec<String>| -> Vec<String> {
            let at = |line: &String| line.split(' ').next().and_then(|at| at.parse().ok());
            let is_early = |line: &String| {
                until.is_none_or(|until| at(line).is_some_and(|at: u128| at < until))
            };
            lines.into_iter().filter(is_early).collect()
        };
        assert_eq!(
            early(ours(false)),
            early(client.sent),
            "trace {trace}: to the target"
        );
        assert_eq!(
            early(ours(true)),
            early(server.sent),
            "trace {trace}: to the caller"
        );
    }
}

/// A message as it is compared: the time, and what matters of it.
fn line(sent: &Sent) -> String {
    let at = sent
        .at
        .saturating_sub(Duration::from_secs(1_000))
        .as_millis();
    summary(at, &sent.text)
}

/// The same of any message.
fn summary(at: u128, text: &str) -> String {
    let header = |name: &str| {
        let start = format!("{name}: ");
        let value = text.lines().find_map(|line| line.strip_prefix(&*start));
        value.unwrap_or_default().trim()
    };
    let first = text.lines().next().unwrap();
    let parts = ["Via", "From", "To", "Call-ID", "CSeq"].map(header);
    format!("{at} {first} {parts:?}")
}

/// A transaction of the other library, its timers, and what it sent.
struct Other {
    transaction: Either,
    now: Duration,
    timers: Vec<(Timer, Duration)>,
    sent: Vec<String>,
    is_over: bool,
    /// When it gave up, if it did.
    over_at: Option<u128>,
}

enum Either {
    Client(Box<ClientTransaction>),
    Server(Box<ServerTransaction>),
}

impl Other {
    fn client(invite: &str, transport: Transport) -> Self {
        let Message::Request(invite) = parse(invite) else {
            panic!("a request");
        };
        let (client, outputs) =
            ClientTransaction::new(invite, reliability(transport), Timers::default());
        let mut other = Self::new(Either::Client(Box::new(client)));
        other.take(outputs);
        other
    }

    fn server(invite: &str, transport: Transport) -> Self {
        let Message::Request(invite) = parse(invite) else {
            panic!("a request");
        };
        let (server, outputs) =
            ServerTransaction::new(invite, reliability(transport), Timers::default());
        let mut other = Self::new(Either::Server(Box::new(server)));
        other.take(outputs);
        other
    }

    fn new(transaction: Either) -> Self {
        Self {
            transaction,
            now: Duration::ZERO,
            timers: Vec::new(),
            sent: Vec::new(),
            is_over: false,
            over_at: None,
        }
    }

    /// A reply of the target.
    fn reply(&mut self, text: &str) {
        let Message::Response(reply) = parse(text) else {
            panic!("a reply");
        };
        if let Either::Client(client) = &mut self.transaction {
            let outputs = client.on_response(reply);
            self.take(outputs);
        }
    }

    /// A reply for the caller.
    fn respond(&mut self, text: &str) {
        let Message::Response(reply) = parse(text) else {
            panic!("a reply");
        };
        if let Either::Server(server) = &mut self.transaction {
            let outputs = server.on_tu_response(reply);
            self.take(outputs);
        }
    }

    /// A request of the caller.
    fn receive(&mut self, text: &str) {
        let Message::Request(request) = parse(text) else {
            panic!("a request");
        };
        if let Either::Server(server) = &mut self.transaction {
            let outputs = server.on_request(&request);
            self.take(outputs);
        }
    }

    fn wait(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        loop {
            let next = self
                .timers
                .iter()
                .enumerate()
                .min_by_key(|(_, (_, at))| *at);
            let Some((index, at)) = next
                .map(|(index, (_, at))| (index, *at))
                .filter(|(_, at)| *at <= end)
            else {
                break;
            };
            self.now = at;
            let (timer, _) = self.timers.remove(index);
            let is_giving_up = timer == Timer::B;
            let outputs = match &mut self.transaction {
                Either::Client(client) => client.on_timer(timer),
                Either::Server(server) => server.on_timer(timer),
            };
            if is_giving_up && !outputs.is_empty() {
                self.is_over = true;
                self.over_at = Some(at.as_millis());
            }
            self.take(outputs);
        }
        self.now = end;
    }

    fn take(&mut self, outputs: Vec<Output>) {
        let at = self.now.as_millis();
        for message in sent_messages(&outputs) {
            let text = String::from_utf8(message.to_bytes().to_vec()).unwrap();
            self.sent.push(summary(at, &text));
        }
        for output in outputs {
            match output {
                Output::SetTimer { timer, after } => {
                    self.timers.retain(|(other, _)| *other != timer);
                    self.timers.push((timer, self.now + after));
                }
                Output::ClearTimer(timer) => self.timers.retain(|(other, _)| *other != timer),
                Output::Terminated(_) => self.timers.clear(),
                _ => {}
            }
        }
    }
}

/// Reads a message as the other library does.
fn parse(text: &str) -> Message {
    parse_datagram(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).unwrap()
}

/// Whether a transport repeats by itself.
fn reliability(transport: Transport) -> Reliability {
    if transport.is_stream() {
        Reliability::Reliable
    } else {
        Reliability::Unreliable
    }
}
