//! A caller, targets and a clock around a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringback_sip_proto::check::{Role, Verdict, check};
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::{Message, Origin, Transport};
use ringback_sip_proxy::{
    Arrived, BranchName, Cause, Event, Hop, Invited, Keys, Output, Plan, Proxy, Settings, Taken,
    Target, Way,
};

/// A proxy, the time, and what it sent.
pub(crate) struct Bench {
    pub(crate) proxy: Proxy,
    pub(crate) now: Duration,
    /// What was sent and not looked at yet.
    pub(crate) sent: Vec<Sent>,
    /// What happened, but the end of calls.
    pub(crate) events: Vec<Event>,
    /// What the calls are made of.
    pub(crate) plan: Plan,
    /// How the caller comes.
    pub(crate) origin: Origin,
    /// Calls that ended.
    pub(crate) closed: usize,
}

/// A message that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) text: String,
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    pub(crate) way: Way,
}

impl Bench {
    /// With this many targets over UDP and the usual settings.
    pub(crate) fn new(targets: usize) -> Self {
        Self::with(targets, Settings::default())
    }

    /// With other settings.
    pub(crate) fn with(targets: usize, settings: Settings) -> Self {
        Self {
            proxy: Proxy::new(settings, [7; 16], 3, 11),
            now: Duration::from_secs(1_000),
            sent: Vec::new(),
            events: Vec::new(),
            plan: Plan {
                targets: (1..=targets).map(target).collect(),
                headers: Arc::from(*b"X-Ringback-Outcome: callback\r\n"),
                is_trusted: false,
            },
            origin: Origin {
                address: CALLER.parse().unwrap(),
                transport: Transport::Udp,
            },
            closed: 0,
        }
    }

    /// The caller, and the first target, on this transport.
    pub(crate) fn over(mut self, caller: Transport, target: Transport) -> Self {
        self.origin.transport = caller;
        for planned in &mut self.plan.targets {
            let hop = planned.hop.as_deref().unwrap();
            planned.hop = Some(Arc::new(Hop {
                transport: target,
                ..hop.clone()
            }));
        }
        self
    }

    /// Begins the usual call.
    pub(crate) fn call(&mut self) {
        let invite = request("INVITE");
        assert_eq!(self.request(&invite), Taken::No);
        self.begin(&invite);
    }

    /// The same, and takes out what was sent until the target rings.
    pub(crate) fn ringing(&mut self) -> Sent {
        self.call();
        let invite = self.take("INVITE");
        self.reply(&invite, "180 Ringing");
        self.sent.clear();
        invite
    }

    /// Begins a call with this INVITE, whatever the transactions say to it.
    pub(crate) fn begin(&mut self, invite: &str) {
        let (plan, origin, now) = (self.plan.clone(), self.origin, self.now);
        with_request(invite, origin, |arrived| {
            let invited = Invited {
                token: 42,
                numbers: b"1 2",
            };
            self.proxy.begin(now, arrived, invited, plan);
        });
        self.drain();
    }

    /// A request of the caller arrives.
    pub(crate) fn request(&mut self, text: &str) -> Taken {
        let (origin, now) = (self.origin, self.now);
        let taken = with_request(text, origin, |arrived| self.proxy.request(now, arrived));
        self.drain();
        taken
    }

    /// A target replies to a request that it got; whether the reply was expected.
    pub(crate) fn reply(&mut self, request: &Sent, status: &str) -> bool {
        self.receive(&reply_to(request, status, "b"))
    }

    /// A reply arrives.
    pub(crate) fn receive(&mut self, text: &str) -> bool {
        let message = Message::parse(text.as_bytes(), Framing::Datagram).unwrap();
        let branch = Keys::branch_of(&message);
        let is_expected = branch.is_some_and(|branch| self.proxy.reply(self.now, branch, &message));
        self.drain();
        is_expected
    }

    /// A target sends the call to others, which may be followed.
    pub(crate) fn redirect(&mut self, request: &Sent, targets: Vec<Target>) -> bool {
        let reply = reply_to(request, "302 Moved", "b");
        let message = Message::parse(reply.as_bytes(), Framing::Datagram).unwrap();
        let branch = Keys::branch_of(&message).unwrap();
        let is_expected = self.proxy.redirected(self.now, branch, &message, targets);
        self.drain();
        is_expected
    }

    /// What was sent with this branch did not arrive.
    pub(crate) fn fail(&mut self, request: &Sent, cause: Cause) {
        let Way::Out { branch, .. } = request.way else {
            panic!("not sent to a target: {request:?}");
        };
        self.proxy.failed(self.now, branch, cause);
        self.drain();
    }

    /// Nobody is at the address of a target.
    pub(crate) fn gone(&mut self, target: &Target) {
        let hop = target.hop.as_deref().unwrap();
        self.proxy.gone(self.now, (hop.transport, hop.address));
        self.drain();
    }

    /// Lets this many milliseconds pass.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while let Some(next) = self.proxy.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.proxy.timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Takes out the first message of this method or status.
    #[track_caller]
    pub(crate) fn take(&mut self, what: &str) -> Sent {
        let found = self.sent.iter().position(|sent| sent.what() == what);
        let found = found.unwrap_or_else(|| panic!("no {what} in {:#?}", self.log()));
        self.sent.remove(found)
    }

    /// Takes out everything that was sent, in short: the time since the start of the test, where it went, method or
    /// status.
    pub(crate) fn log(&mut self) -> Vec<String> {
        let line = |sent: &Sent| {
            let at = sent.at.saturating_sub(Duration::from_secs(1_000));
            format!("{} {} {}", at.as_millis(), sent.whom(), sent.what())
        };
        let log = self.sent.iter().map(line).collect();
        self.sent.clear();
        log
    }

    /// Takes out everything that was sent, without the time.
    pub(crate) fn short(&mut self) -> Vec<String> {
        let line = |sent: &Sent| format!("{} {}", sent.whom(), sent.what());
        let log = self.sent.iter().map(line).collect();
        self.sent.clear();
        log
    }

    /// Waits long enough for everything to end, and checks that it did.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        self.wait(600_000);
        assert_eq!(self.proxy.calls(), 0, "a call is left");
        assert_eq!(self.proxy.deadline(), None, "a deadline is left");
    }

    /// Takes out what waits.
    fn drain(&mut self) {
        while let Some(output) = self.proxy.poll_output() {
            match output {
                Output::Transmit(transmit) => self.sent.push(Sent {
                    at: self.now,
                    text: String::from_utf8(transmit.bytes.to_vec()).unwrap(),
                    transport: transmit.transport,
                    address: transmit.address,
                    way: transmit.way,
                }),
                Output::Event(Event::Closed { token }) => {
                    assert_eq!(token, 42);
                    self.closed += 1;
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }
}

impl Sent {
    /// Its method or status.
    pub(crate) fn what(&self) -> &str {
        let mut words = self.text.split(' ');
        match words.next() {
            Some("SIP/2.0") => words.next().unwrap(),
            method => method.unwrap(),
        }
    }

    /// Who gets it: `up` is the caller, `T1` the first target.
    pub(crate) fn whom(&self) -> String {
        match self.way {
            Way::Back(_) => "up".to_owned(),
            Way::Out { socket, .. } => format!("T{socket}"),
        }
    }

    /// The lines of the head.
    pub(crate) fn lines(&self) -> Vec<&str> {
        let head = self.text.split("\r\n\r\n").next().unwrap();
        head.split("\r\n").collect()
    }

    /// The value of the first header of this name.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let start = format!("{name}: ");
        let lines = self.lines();
        let line = lines.iter().find_map(|line| line.strip_prefix(&*start));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.text))
    }

    /// Our branch.
    pub(crate) fn branch(&self) -> BranchName {
        let message = Message::parse(self.text.as_bytes(), Framing::Datagram).unwrap();
        Keys::branch_of(&message).unwrap()
    }
}

/// A target over UDP, `10.0.0.N:5060`, which the socket is named for too.
pub(crate) fn target(number: usize) -> Target {
    Target {
        uri: format!("sip:agent{number}@t{number}.example").into(),
        hop: Some(Arc::new(Hop {
            transport: Transport::Udp,
            address: format!("10.0.0.{number}:5060").parse().unwrap(),
            sent_by: US.into(),
            socket: u32::try_from(number).unwrap(),
        })),
        large: None,
        record_route: Arc::from(*b""),
        is_down: false,
        keeps_identity: false,
        is_followed: false,
    }
}

/// A request of the caller: the usual INVITE, or what belongs to it.
pub(crate) fn request(method: &str) -> String {
    format!(
        "{method} sip:+551130000000@us.example SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKcaller;rport\r\n\
         Max-Forwards: 70\r\n\
         From: Caller <sip:+5511987654321@192.0.2.1>;tag=a\r\n\
         To: <sip:+551130000000@us.example>\r\n\
         Call-ID: call@192.0.2.1\r\n\
         CSeq: 7 {method}\r\n\
         Contact: <sip:192.0.2.1>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// The reply of a target to a request that it got.
pub(crate) fn reply_to(request: &Sent, status: &str, tag: &str) -> String {
    let mut reply = format!("SIP/2.0 {status}\r\n");
    for line in request.lines() {
        let name = line.split(':').next().unwrap();
        if ["Via", "From", "Call-ID", "CSeq"].contains(&name) {
            reply += &format!("{line}\r\n");
        } else if name == "To" {
            let tag = if status.starts_with("100") {
                String::new()
            } else {
                format!(";tag={tag}")
            };
            reply += &format!("{line}{tag}\r\n");
        }
    }
    reply + "X-Target: yes\r\nContent-Length: 0\r\n\r\n"
}

/// Reads a request as whoever drives a proxy does.
pub(crate) fn with_request<T>(
    text: &str,
    origin: Origin,
    run: impl FnOnce(Arrived<'_, '_>) -> T,
) -> T {
    let framing = if origin.transport.is_stream() {
        Framing::Stream
    } else {
        Framing::Datagram
    };
    let message = Message::parse(text.as_bytes(), framing).unwrap();
    let Verdict::Route(request) = check(&message, Role::Proxy) else {
        panic!("refused: {text}");
    };
    run(Arrived {
        message: &message,
        request: &request,
        origin,
        flow: 5,
    })
}

/// Where the caller is.
pub(crate) const CALLER: &str = "192.0.2.1:5060";

/// Our sent-by.
pub(crate) const US: &str = "203.0.113.5:5060";
