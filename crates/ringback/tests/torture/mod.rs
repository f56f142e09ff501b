//! Every message of `fixtures/sip`, byte for byte, against the running server; each is followed by
//! a good INVITE that must be routed.

mod mutated;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::scenario::{Manifest, start};
use crate::sipp::own_address;
use crate::world::World;

/// One line of the manifest.
struct Fixture {
    /// Name of the file.
    name: String,
    /// The message.
    bytes: Vec<u8>,
    /// What it gets over UDP.
    udp: String,
    /// What it gets over TCP.
    tcp: String,
}

/// A world in which the good INVITE is routed.
fn world() -> World {
    Manifest::read().world("campaigns").clone()
}

/// Reads the manifest and the files it names.
fn fixtures() -> Vec<Fixture> {
    let manifest = fs::read_to_string(folder().join("manifest.tsv")).expect("there is a manifest");
    let lines = manifest.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, udp, tcp, _] = columns[..] else {
            panic!("a line of the manifest has four columns: {line}");
        };
        Fixture {
            name: name.to_owned(),
            bytes: fs::read(folder().join(name)).expect("a message can be read"),
            udp: udp.to_owned(),
            tcp: if tcp == "=" { udp } else { tcp }.to_owned(),
        }
    };
    lines.map(read).collect()
}

#[test]
fn every_datagram_gets_its_reply_and_the_next_call_is_routed() {
    let server = start(&toml::Table::new());
    let _made = world().make(&server);
    let peer = Listener::new(server.address("sip_udp"));
    let mut failures = Vec::new();
    for fixture in fixtures() {
        // The one message whose reply would leave this machine.
        let here = peer.address.ip().to_string();
        let bytes = replace(
            &fixture.bytes,
            b"maddr=203.0.113.77",
            format!("maddr={here}").as_bytes(),
        );
        let call_id = format!("after-{}", fixture.name);
        peer.send(&bytes);
        peer.send(good_invite(peer.address, "UDP", &call_id).as_bytes());
        let mut outcome = "drop".to_owned();
        let mut routed = false;
        let begun = Instant::now();
        while !(routed && (outcome != "drop" || fixture.udp == "drop")) {
            let Ok(reply) = peer
                .replies
                .recv_timeout(LIMIT.saturating_sub(begun.elapsed()))
            else {
                break;
            };
            if contains(&reply, call_id.as_bytes()) {
                routed = status(&reply).starts_with("302 ");
            } else {
                outcome = status(&reply);
            }
        }
        if !routed {
            failures.push(format!("{}: the next call was not routed", fixture.name));
        }
        if !matches(&outcome, &fixture.udp) {
            failures.push(format!("{}: {outcome}, not {}", fixture.name, fixture.udp));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_stream_gets_its_replies_and_the_next_call_is_routed() {
    let server = start(&toml::Table::new());
    let _made = world().make(&server);
    let address = server.address("sip_tcp");
    let mut failures = Vec::new();
    for fixture in fixtures() {
        if let Err(failure) = play_stream(address, &fixture) {
            failures.push(format!("{}: {failure}", fixture.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Sends one message over a connection of its own; says what was wrong with the answer.
fn play_stream(server: SocketAddr, fixture: &Fixture) -> Result<(), String> {
    let mut stream = Connection::new(server);
    stream.send(&fixture.bytes);
    let invite = |stream: &mut Connection| {
        let call_id = format!("after-{}", fixture.name);
        stream.send(good_invite(stream.address(), "TCP", &call_id).as_bytes());
        match stream.next() {
            Some(reply) if status(&reply).starts_with("302 ") => Ok(()),
            other => Err(format!("the next call was not routed: {other:?}")),
        }
    };
    if fixture.tcp == "wait" {
        // Not a whole message, and now it never will be: nobody can be answered.
        stream.close();
        let rest = stream.next();
        if rest.is_some() {
            return Err(format!("{rest:?}, not an end in silence"));
        }
        return invite(&mut Connection::new(server));
    }
    let mut ended = false;
    for expected in fixture.tcp.split(" | ") {
        let (expected, ends) = match expected.strip_suffix(" close") {
            Some(expected) => (expected, true),
            None => (expected, false),
        };
        if expected != "drop" {
            let reply = stream
                .next()
                .ok_or_else(|| format!("no reply, not {expected}"))?;
            let outcome = if reply == b"\r\n" {
                "pong".to_owned()
            } else {
                status(&reply)
            };
            if !matches(&outcome, expected) {
                return Err(format!("{outcome}, not {expected}"));
            }
        }
        ended |= ends;
    }
    if ended {
        let rest = stream.next();
        if rest.is_some() {
            return Err(format!("{rest:?}, not the end of the connection"));
        }
        return invite(&mut Connection::new(server));
    }
    invite(&mut stream)
}

/// Sockets on a loopback address of their own, at every port that a Via of the fixtures names: the
/// replies come to the address that the request came from and to the port of its Via.
struct Listener {
    /// Where requests are sent from.
    address: SocketAddr,
    /// Sends them.
    socket: UdpSocket,
    /// What came, on whichever port.
    replies: Receiver<Vec<u8>>,
}

impl Listener {
    /// The ports that the fixtures name; 5060 where they name none.
    const PORTS: [u16; 4] = [5_062, 5_099, 6_050, 19_823];

    /// Takes an address.
    fn new(server: SocketAddr) -> Self {
        let ip = own_address();
        let bind = |port: u16| UdpSocket::bind((ip, port)).expect("no port is taken");
        let socket = bind(5_060);
        let address = socket.local_addr().expect("a bound socket has an address");
        let (sender, replies) = mpsc::channel();
        for socket in Self::PORTS.map(bind).into_iter().chain(socket.try_clone()) {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while let Ok(length) = socket.recv(&mut buffer) {
                    if sender.send(buffer[..length].to_vec()).is_err() {
                        return;
                    }
                }
            });
        }
        socket.connect(server).expect("the server can be reached");
        Self {
            address,
            socket,
            replies,
        }
    }

    /// Sends a datagram.
    fn send(&self, bytes: &[u8]) {
        self.socket.send(bytes).expect("a datagram can be sent");
    }
}

/// A connection that reads replies one by one.
struct Connection {
    /// The connection.
    stream: TcpStream,
    /// What was read and not yet given out.
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    fn new(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("the server takes connections");
        stream
            .set_read_timeout(Some(LIMIT))
            .expect("a timeout can be set");
        stream
            .set_nodelay(true)
            .expect("small packets can be sent at once");
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Its address here.
    fn address(&self) -> SocketAddr {
        self.stream
            .local_addr()
            .expect("a connection has an address")
    }

    /// Sends. The server may have had enough already: the missing reply tells as much.
    fn send(&mut self, bytes: &[u8]) {
        let _closed = self.stream.write_all(bytes);
    }

    /// Says that nothing more will come.
    fn close(&self) {
        let _closed = self.stream.shutdown(Shutdown::Write);
    }

    /// The next reply, or a lone CRLF; `None`: the connection has ended.
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let end = if self.buffer.starts_with(b"\r\n") {
                Some(2)
            } else {
                // No reply of a redirect server has a body.
                position(&self.buffer, b"\r\n\r\n").map(|at| at + 4)
            };
            if let Some(end) = end {
                return Some(self.buffer.drain(..end).collect());
            }
            let mut piece = [0; 4_096];
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    assert!(
                        self.buffer.is_empty(),
                        "half a reply: {}",
                        self.buffer.escape_ascii()
                    );
                    return None;
                }
                Ok(length) => self.buffer.extend_from_slice(&piece[..length]),
                Err(error) => panic!("neither a reply nor an end: {error}"),
            }
        }
    }
}

/// An INVITE that the world routes.
fn good_invite(from: SocketAddr, transport: &str, call_id: &str) -> String {
    format!(
        "INVITE sip:+551130030001@127.0.0.1 SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {from};branch=z9hG4bK-{call_id}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:+5511987654321@{from}>;tag=good\r\n\
         To: <sip:+551130030001@127.0.0.1>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:{from}>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Whether a status line is what the manifest asks for.
fn matches(outcome: &str, expected: &str) -> bool {
    match expected {
        "accept" => ["302 ", "404 ", "480 "]
            .iter()
            .any(|status| outcome.starts_with(status)),
        _ => outcome == expected,
    }
}

/// Status and reason phrase.
fn status(reply: &[u8]) -> String {
    let line = reply
        .split(|&byte| byte == b'\r')
        .next()
        .unwrap_or_default();
    let line = line.strip_prefix(b"SIP/2.0 ").unwrap_or(line);
    line.escape_ascii().to_string()
}

/// Whether a text is in another.
fn contains(text: &[u8], part: &[u8]) -> bool {
    position(text, part).is_some()
}

/// Where a text is in another.
fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// The text with another part.
fn replace(text: &[u8], part: &[u8], other: &[u8]) -> Vec<u8> {
    match position(text, part) {
        Some(at) => [&text[..at], other, &text[at + part.len()..]].concat(),
        None => text.to_vec(),
    }
}

/// Where the messages are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sip")
}

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(10);
