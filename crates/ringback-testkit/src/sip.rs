//! A SIP peer on UDP: sends requests, reads replies. It has a parser of its own, so that it does not repeat
//! mistakes of the server.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use uuid::Uuid;

/// A peer with one socket.
#[derive(Debug)]
pub struct SipPeer {
    /// The socket, connected to the server.
    socket: UdpSocket,
    /// The socket's address.
    local: SocketAddr,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipReply {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub phrase: String,
    /// Header fields in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole reply, as received.
    pub text: String,
}

impl SipReply {
    /// Reads a reply.
    ///
    /// # Panics
    /// It is not a reply.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default();
        let mut words = start.splitn(3, ' ');
        assert_eq!(words.next(), Some("SIP/2.0"), "{text}");
        let status = words.next().and_then(|word| word.parse().ok());
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.trim().to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Self {
            status: status.unwrap_or_else(|| panic!("no status in {text}")),
            phrase: words.next().unwrap_or_default().to_owned(),
            headers,
            text: text.to_owned(),
        }
    }

    /// The first value of a header; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let name = name.to_ascii_lowercase();
        let found = self.headers.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The URIs of the Contact header fields, in order.
    #[must_use]
    pub fn contacts(&self) -> Vec<String> {
        self.headers
            .iter()
            .filter(|(name, _)| name == "contact" || name == "m")
            .filter_map(|(_, value)| {
                let (_, rest) = value.split_once('<')?;
                Some(rest.split_once('>')?.0.to_owned())
            })
            .collect()
    }
}

impl SipPeer {
    /// A peer of the server at this address.
    ///
    /// # Panics
    /// There is no free port.
    #[must_use]
    pub fn new(server: SocketAddr) -> Self {
        let any = if server.is_ipv6() {
            "[::1]:0"
        } else {
            "127.0.0.1:0"
        };
        let socket = UdpSocket::bind(any).expect("a port is free");
        socket
            .connect(server)
            .expect("the server's address is reachable");
        socket
            .set_read_timeout(Some(REPLY_LIMIT))
            .expect("a timeout can be set");
        let local = socket.local_addr().expect("a bound socket has an address");
        Self { socket, local }
    }

    /// An INVITE to a dialed number from a caller; a caller without `+` is sent as it is, such as `anonymous`.
    #[must_use]
    pub fn invite_text(&self, dialed: &str, caller: &str, call_id: &str) -> String {
        let local = self.local;
        let host = if caller.starts_with('+') {
            "192.0.2.1"
        } else {
            "anonymous.invalid"
        };
        let branch = Uuid::new_v4().simple().to_string();
        format!(
            "INVITE sip:{dialed}@{local} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};rport;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{caller}@{host}>;tag=1\r\n\
             To: <sip:{dialed}@{local}>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: 1 INVITE\r\n\
             Contact: <sip:test@{local}>\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }

    /// Sends an INVITE and waits for the reply, with retransmissions by RFC 3261 §17.1.1.2.
    ///
    /// # Panics
    /// There is none in time.
    #[must_use]
    pub fn invite(&self, dialed: &str, caller: &str) -> SipReply {
        let call_id = Uuid::new_v4().to_string();
        self.exchange(&self.invite_text(dialed, caller, &call_id), &call_id)
    }

    /// Sends INVITEs until one is served: on a machine that is busy with other work, an INVITE may be refused as
    /// too late (503), and a caller tries again.
    ///
    /// # Panics
    /// There is no reply in time, or every one is 503.
    #[must_use]
    pub fn invite_until_served(&self, dialed: &str, caller: &str) -> SipReply {
        (0..REPEATS)
            .map(|_| self.invite(dialed, caller))
            .find(|reply| reply.status != 503)
            .unwrap_or_else(|| panic!("{REPEATS} calls in a row were refused with 503"))
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Panics
    /// There is none in time.
    #[must_use]
    pub fn exchange(&self, request: &str, call_id: &str) -> SipReply {
        for _ in 0..REPEATS {
            self.send(request);
            while let Some(reply) = self.receive() {
                if reply.header("call-id") == call_id {
                    return reply;
                }
            }
        }
        panic!("no reply to {request}")
    }

    /// Sends a datagram.
    ///
    /// # Panics
    /// It cannot be sent.
    pub fn send(&self, text: &str) {
        // If the server is gone, the socket reports an error; the missing reply shows the same.
        let _refused = self.socket.send(text.as_bytes());
    }

    /// Waits for a reply; `None`: there was none in time.
    #[must_use]
    pub fn receive(&self) -> Option<SipReply> {
        let mut buffer = vec![0; 65_536];
        let length = loop {
            match self.socket.recv(&mut buffer) {
                // The process was stopped and goes on.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.ok()?,
            }
        };
        let text = String::from_utf8_lossy(buffer.get(..length)?);
        Some(SipReply::read(&text))
    }

    /// Sends the ACK of a final reply to this request (RFC 3261 §17.1.1.3).
    pub fn ack(&self, request: &str, reply: &SipReply) {
        let mut ack = String::new();
        for line in request.split("\r\n") {
            match line.split_once(':').map_or(line, |(name, _)| name) {
                "Via" | "From" | "Call-ID" | "Max-Forwards" => ack += &format!("{line}\r\n"),
                start if start.starts_with("INVITE ") => {
                    ack += &format!("{}\r\n", line.replacen("INVITE", "ACK", 1));
                }
                "To" => ack += &format!("To: {}\r\n", reply.header("to")),
                "CSeq" => ack += "CSeq: 1 ACK\r\n",
                _ => {}
            }
        }
        self.send(&format!("{ack}Content-Length: 0\r\n\r\n"));
    }
}

/// How long to wait for a reply before the request is sent again.
const REPLY_LIMIT: Duration = Duration::from_millis(500);

/// How often a request is sent at most.
const REPEATS: usize = 20;
