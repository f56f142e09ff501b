//! Mutated messages: nothing panics, nothing malformed goes on, and every call ends.
//!
//! `RINGBACK_FUZZ_CASES` makes it longer, `RINGBACK_FUZZ_SEED` repeats a run.

use std::time::Duration;

use ringback_sip_proto::check::{Role, Verdict, check};
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::{Message, Origin, Refusal, Transport};
use ringback_sip_proxy::{Arrived, Invited, Keys, Output, Proxy, Settings, Taken, Trust};
use ringback_testkit::Mutator;

use crate::support::{Bench, CALLER, reply_to, request};

#[test]
fn mutated_messages_do_no_harm() {
    let mut mutator = Mutator::new();
    // Messages of a call that is the same in every run, its branches too.
    let mut bench = Bench::new(2);
    bench.call();
    let invite = bench.take("INVITE");
    let mut belonging: Vec<String> = ["INVITE", "CANCEL", "ACK", "BYE"].map(request).into();
    for status in [
        "100 Trying",
        "183 Session",
        "200 OK",
        "302 Moved",
        "486 Busy",
        "503 No",
        "603 No",
    ] {
        belonging.push(reply_to(&invite, status, "b"));
    }
    let mut route = Vec::new();
    crate::support::with_request(&request("INVITE"), bench.origin, |arrived| {
        let us = (Transport::Udp, crate::support::US);
        Keys::new([7; 16]).write_record_route(arrived.request, us, &mut route);
    });
    let route = String::from_utf8(route).unwrap();
    let routed = request("BYE").replace("From:", &format!("{}From:", &route[7..]));
    belonging.push(routed.replace("us.example>\r\nCall", "us.example>;tag=b\r\nCall"));
    for message in &belonging {
        mutator.add(message.as_bytes());
    }
    Mutator::seeds(Mutator::cases(CASES), |seed| {
        let mut call = Call::new();
        // What belongs to the call, broken in one way, and then any message at all.
        let whole = &belonging[usize::try_from(seed).unwrap() % belonging.len()];
        let cut = usize::try_from(seed / 11).unwrap() % whole.len();
        let mut broken = whole.clone().into_bytes();
        broken[cut] = b" \r\n;,<>\"@:%\0\xff"[usize::try_from(seed).unwrap() % 13];
        call.take(&broken);
        call.take(&mutator.message(seed));
        call.ends();
    });
}

/// A call that rings, and its proxy.
struct Call {
    proxy: Proxy,
    now: Duration,
    plan: ringback_sip_proxy::Plan,
}

impl Call {
    fn new() -> Self {
        let mut call = Self {
            proxy: Proxy::new(Settings::default(), [7; 16], 3, 11),
            now: Duration::from_secs(1_000),
            plan: Bench::new(2).plan,
        };
        call.take(request("INVITE").as_bytes());
        assert_eq!(call.proxy.calls(), 1);
        call
    }

    /// A message arrives, as whoever drives a proxy takes it.
    fn take(&mut self, bytes: &[u8]) {
        let origin = Origin {
            address: CALLER.parse().unwrap(),
            transport: Transport::Udp,
        };
        let keys = Keys::new([7; 16]);
        let Ok(message) = Message::parse(bytes, Framing::Datagram) else {
            return;
        };
        match check(&message, Role::Proxy) {
            Verdict::Response(_) => {
                if let Some(branch) = Keys::branch_of(&message) {
                    self.proxy.reply(self.now, branch, &message);
                }
                let mut out = Vec::new();
                if keys.write_stateless_reply(&message, &mut out).is_some() {
                    assert_sound(&out);
                }
            }
            Verdict::Route(request) => {
                let arrived = Arrived {
                    message: &message,
                    request: &request,
                    origin,
                    flow: 0,
                };
                if let Some(way) = keys.in_dialog(&message, &request) {
                    let mut out = Vec::new();
                    let hop = self.plan.targets[0].hop.as_deref().unwrap();
                    keys.write_in_dialog(&message, origin, &way, hop, Trust::default(), &mut out);
                    assert_sound(&out);
                }
                if self.proxy.request(self.now, arrived) == Taken::No
                    && bytes.starts_with(b"INVITE ")
                {
                    let invited = Invited {
                        token: 0,
                        numbers: b"",
                    };
                    self.proxy
                        .begin(self.now, arrived, invited, self.plan.clone());
                }
            }
            _ => {}
        }
        self.drain();
    }

    /// Everything ends.
    fn ends(&mut self) {
        while let Some(next) = self.proxy.deadline() {
            self.now = self.now.max(next);
            self.proxy.timeout(self.now);
            self.drain();
        }
        assert_eq!(self.proxy.calls(), 0);
    }

    fn drain(&mut self) {
        while let Some(output) = self.proxy.poll_output() {
            if let Output::Transmit(transmit) = output {
                assert_sound(transmit.bytes);
            }
        }
    }
}

/// Nothing malformed goes on.
fn assert_sound(bytes: &[u8]) {
    let message = Message::parse(bytes, Framing::Datagram).unwrap();
    let verdict = check(&message, Role::Proxy);
    assert!(
        matches!(
            verdict,
            // It may have had its last hop.
            Verdict::Route(_)
                | Verdict::Response(_)
                | Verdict::Accept(_)
                | Verdict::Refuse(Refusal::TooManyHops, _)
        ),
        "{verdict:?}: {}",
        bytes.escape_ascii()
    );
}

/// Cases of a run that nobody asked for.
const CASES: u64 = 5_000;
