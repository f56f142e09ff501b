//! Broken messages against the running server, by every door: UDP, TCP, HEP over UDP and over TCP. Now
//! and then comes a good INVITE, which must be routed; at the end the log must know of no panic.
//!
//! The peers are learned from, so that what is broken reaches the recording of calls, too.
//! `RINGBACK_FUZZ_CASES` makes the runs longer: a tenth of it for UDP and HEP, a hundredth for TCP.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use ringback_testkit::{Mutator, Server, ServerBuilder};

use super::{Connection, LIMIT, contains, good_invite, status, world};
use crate::sipp::own_address;

/// A server that learns, and what is broken: the fixtures, and messages that make it learn.
struct Target {
    /// The server.
    server: Server,
    /// Breaks messages.
    mutator: Mutator,
}

impl Target {
    /// Starts it.
    fn new() -> Self {
        let server = ServerBuilder::new(env!("CARGO_BIN_EXE_ringback"))
            .config("[[sip.peers]]\naddress = ['127.0.0.0/8']\ncountry = 'BR'\nlearn = true\n")
            .arg("--hep=127.0.0.1:0")
            .start();
        let made = world().make(&server);
        let mut mutator = Mutator::new();
        let outbound = format!(
            "INVITE sip:+5521988887777@gw.example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP pbx.example.com;branch=z9hG4bK-learn;rport\r\n\
             From: <sip:+551130030001@pbx.example.com>;tag=1\r\n\
             To: <sip:+5521988887777@gw.example.com>\r\n\
             Call-ID: learn\r\nCSeq: 1 INVITE\r\nX-Ringback-Agent: {}\r\n\
             Content-Length: 0\r\n\r\n",
            made.agent("sales"),
        );
        let header = outbound.split_once("\r\n").map_or("", |(_, header)| header);
        for start in ["180 Ringing", "200 OK", "486 Busy Here", "302 Moved"] {
            mutator.add(format!("SIP/2.0 {start}\r\n{header}"));
        }
        // More often than chance would have it.
        for _ in 0..24 {
            mutator.add(outbound.clone());
        }
        Self { server, mutator }
    }

    /// Runs so many broken messages, but for those whose reply would leave this machine.
    fn run(
        &self,
        cases: u64,
        make: fn(&Mutator, u64) -> Vec<u8>,
        mut send: impl FnMut(u64, &[u8]),
    ) {
        let (mut sent, mut done) = (0, 0);
        Mutator::seeds(cases, |seed| {
            done += 1;
            for percent in [1, 10, 50, 100] {
                if done == cases * percent / 100 {
                    eprintln!("{percent:>3} %: {}", self.resident());
                }
            }
            let bytes = make(&self.mutator, seed);
            if !contains(&bytes.to_ascii_lowercase(), b"maddr") {
                sent += 1;
                send(sent, &bytes);
            }
        });
        assert!(sent > cases / 2, "{sent} of {cases}");
    }

    /// The server's memory, in words: for people, since it depends on allocator and machine.
    fn resident(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.id()));
        let status = status.expect("the server runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        line.unwrap_or_default().to_owned()
    }

    /// Ends the server, which must have been in good health.
    fn end(mut self) {
        let metrics = self.metrics();
        let output = self.server.stop();
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        eprintln!("{metrics}");
    }

    /// What was counted, but for zeros.
    fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.server.url());
        let text = ureq::get(url)
            .call()
            .and_then(|mut answer| answer.body_mut().read_to_string())
            .expect("there are metrics");
        let counts = text.lines().filter(|line| {
            line.starts_with("ringback_sip_") && line.contains("total") && !line.ends_with(" 0")
        });
        counts.flat_map(|line| [line, "\n"]).collect()
    }
}

/// A peer on UDP that places good calls between what it sends.
struct Caller {
    /// The socket, at an address of its own: replies go to any port that a broken Via names.
    socket: UdpSocket,
    /// Calls placed.
    placed: usize,
}

impl Caller {
    /// A caller of the server.
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((own_address(), 0)).expect("a port is free");
        socket.connect(server).expect("the server can be reached");
        socket
            .set_read_timeout(Some(REPLY_LIMIT))
            .expect("a timeout can be set");
        Self { socket, placed: 0 }
    }

    /// Places a call, which must be routed. A datagram may be lost among large ones, and on a machine
    /// that is busy with other things a call may be refused as too late; then another is placed.
    fn place(&mut self) {
        for _ in 0..REPEATS {
            self.placed += 1;
            let call_id = format!("good-{}", self.placed);
            let from = self.socket.local_addr().expect("it is bound");
            let invite = good_invite(from, "UDP", &call_id);
            self.socket.send(invite.as_bytes()).expect("it is sent");
            match self.reply_to(&call_id) {
                Some(reply) if reply.starts_with("302 ") => return,
                Some(reply) => assert!(reply.starts_with("503 "), "{reply}"),
                None => {}
            }
        }
        panic!("{REPEATS} calls in a row were not routed");
    }

    /// Waits for the reply to a call, past those to what was broken; `None`: there is none.
    fn reply_to(&self, call_id: &str) -> Option<String> {
        let line = format!("Call-ID: {call_id}\r\n");
        let mut room = vec![0; 65_536];
        loop {
            let length = self.socket.recv(&mut room).ok()?;
            let reply = &room[..length];
            if contains(reply, line.as_bytes()) {
                return Some(status(reply));
            }
        }
    }
}

#[test]
fn calls_are_routed_between_broken_datagrams() {
    let target = Target::new();
    let mut caller = Caller::new(target.server.address("sip_udp"));
    target.run(
        Mutator::cases(10 * SMOKE) / 10,
        Mutator::message,
        |sent, bytes| {
            // Too long for a datagram is nothing that could be sent.
            let result = caller.socket.send(bytes);
            assert!(result.is_ok() || bytes.len() > 65_507);
            if sent % 32 == 0 {
                caller.place();
            }
        },
    );
    caller.place();
    target.end();
}

#[test]
fn calls_are_routed_between_broken_streams() {
    let target = Target::new();
    let server = target.server.address("sip_tcp");
    target.run(
        Mutator::cases(20 * SMOKE) / 100,
        Mutator::message,
        |sent, bytes| {
            read_to_end(server, bytes);
            if sent % 8 == 0 {
                let mut stream = Connection::new(server);
                let call_id = format!("good-{sent}");
                stream.send(good_invite(stream.address(), "TCP", &call_id).as_bytes());
                let reply = stream.next().expect("the call is answered");
                assert!(status(&reply).starts_with("302 "), "{}", status(&reply));
            }
        },
    );
    target.end();
}

#[test]
fn calls_are_routed_between_broken_mirrored_packets() {
    let target = Target::new();
    let hep = target.server.address("hep");
    let mut caller = Caller::new(target.server.address("sip_udp"));
    let mirror = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    target.run(
        Mutator::cases(10 * SMOKE) / 10,
        Mutator::packet,
        |sent, bytes| {
            let result = mirror.send_to(bytes, hep);
            assert!(result.is_ok() || bytes.len() > 65_507);
            if sent % 32 == 0 {
                read_to_end(hep, bytes);
                caller.place();
            }
        },
    );
    caller.place();
    target.end();
}

/// Sends bytes over a connection of their own and reads what comes, to the end of the connection,
/// which must come.
fn read_to_end(server: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server).expect("the server takes connections");
    stream
        .set_read_timeout(Some(LIMIT))
        .expect("a timeout can be set");
    // The server may have had enough before the end.
    let _closed = stream
        .write_all(bytes)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let mut replies = Vec::new();
    if let Err(error) = stream.read_to_end(&mut replies) {
        let kind = error.kind();
        assert!(
            !matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "the connection has no end"
        );
    }
}

/// Cases of a run that nobody asked for.
const SMOKE: u64 = 2_000;

/// How long a datagram may take until it counts as lost.
const REPLY_LIMIT: Duration = Duration::from_secs(1);

/// How often a call is placed again.
const REPEATS: usize = 20;
