//! A contact's phone: sends an INVITE over UDP, reads the final reply, acknowledges it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ringback_sip_proto::Message;
use ringback_sip_proto::message::{Framing, NameAddr, StartLine};
use uuid::Uuid;

/// A phone.
pub(super) struct Caller {
    /// Its socket.
    socket: UdpSocket,
    /// The server.
    server: SocketAddr,
}

/// A final reply.
#[derive(Debug)]
pub(super) struct Reply {
    /// The status code.
    pub(super) status: u16,
    /// The reason phrase.
    pub(super) phrase: String,
    /// The URI of the first Contact.
    pub(super) contact: Option<String>,
    /// `X-Ringback-Outcome`.
    pub(super) outcome: String,
    /// `X-Ringback-Reason`.
    pub(super) reason: String,
}

impl Reply {
    /// What counts, in one line.
    pub(super) fn summary(&self) -> String {
        let contact = self.contact.as_deref().unwrap_or("nowhere");
        format!(
            "{} to {contact}, {} by {}",
            self.status, self.outcome, self.reason
        )
    }
}

impl Caller {
    /// A phone on a free port of this address.
    pub(super) fn new(own: Ipv4Addr, server: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((own, 0))?;
        Ok(Self { socket, server })
    }

    /// Dials a number, again if the server is too busy (503); `None`: there is no reply in time.
    pub(super) fn call(&self, dialed: &str, caller: &str) -> io::Result<Option<Reply>> {
        let mut reply = self.dial(dialed, caller)?;
        for _ in 0..REDIALS {
            if reply.as_ref().is_none_or(|reply| reply.status != 503) {
                break;
            }
            reply = self.dial(dialed, caller)?;
        }
        Ok(reply)
    }

    /// Dials a number once.
    fn dial(&self, dialed: &str, caller: &str) -> io::Result<Option<Reply>> {
        let local = self.socket.local_addr()?;
        let server = self.server;
        let call_id = format!("{}@{}", Uuid::new_v4(), local.ip());
        let via = format!(
            "Via: SIP/2.0/UDP {local};rport;branch=z9hG4bK{}",
            Uuid::new_v4().simple()
        );
        // RFC 3323 §4.1.1.3 for a caller who withholds the number.
        let from = if caller.starts_with('+') {
            format!("From: <sip:{caller}@{local}>;tag=1")
        } else {
            "From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1".to_owned()
        };
        let invite = format!(
            "INVITE sip:{dialed}@{server} SIP/2.0\r\n\
             {via}\r\nMax-Forwards: 70\r\n{from}\r\nTo: <sip:{dialed}@{server}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: <sip:{local}>\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let begun = Instant::now();
        let mut again_after = T1;
        let mut has_reply = false;
        let mut buffer = vec![0; MAX_DATAGRAM];
        while begun.elapsed() < PATIENCE {
            // Nothing is sent again once somebody rings.
            if !has_reply {
                self.socket.send_to(invite.as_bytes(), server)?;
            }
            self.socket.set_read_timeout(Some(again_after))?;
            again_after *= 2;
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if is_timeout(&error) => continue,
                Err(error) => return Err(error),
            };
            has_reply = true;
            let datagram = buffer.get(..length).unwrap_or_default();
            let Some((reply, to)) = read(datagram, &call_id) else {
                continue;
            };
            let ack = format!(
                "ACK sip:{dialed}@{server} SIP/2.0\r\n\
                 {via}\r\nMax-Forwards: 70\r\n{from}\r\nTo: {to}\r\n\
                 Call-ID: {call_id}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
            );
            // That of a 2xx goes to whoever answered, and not through the server.
            let answered = reply.contact.as_deref().filter(|_| reply.status < 300);
            let address = answered.and_then(|uri| uri.rsplit('@').next()?.parse().ok());
            let whom = address.unwrap_or(server);
            self.socket.send_to(ack.as_bytes(), whom)?;
            if address.is_some() {
                let bye = ack.replace("ACK", "BYE").replace("CSeq: 1", "CSeq: 2");
                self.socket.send_to(bye.as_bytes(), whom)?;
            }
            return Ok(Some(reply));
        }
        Ok(None)
    }
}

/// Reads the final reply to this call, and its To.
fn read(datagram: &[u8], call_id: &str) -> Option<(Reply, String)> {
    let message = Message::parse(datagram, Framing::Datagram).ok()?;
    let StartLine::Response {
        code: status @ 200..,
        reason,
    } = message.start()
    else {
        return None;
    };
    if message.call_id().ok()? != call_id.as_bytes() {
        return None;
    }
    let header = |name: &str| {
        message
            .header(name)
            .next()
            .map(|value| value.text().into_owned())
    };
    let contact = message
        .header("Contact")
        .next()
        .and_then(|value| value.list().next());
    let contact = contact
        .and_then(NameAddr::parse)
        .map(|contact| String::from_utf8_lossy(contact.uri_bytes()).into_owned());
    // The reason of a refusal also stands in the Reason header (RFC 3326).
    let reply = Reply {
        status,
        phrase: String::from_utf8_lossy(reason).into_owned(),
        contact,
        outcome: header("X-Ringback-Outcome").unwrap_or_default(),
        reason: header("X-Ringback-Reason").unwrap_or_default(),
    };
    Some((reply, header("To")?))
}

/// Whether only time has run out.
fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The first retransmission interval (RFC 3261 §17.1.1.2).
const T1: Duration = Duration::from_millis(500);

/// How long a reply is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a number is dialed again while the server is too busy.
const REDIALS: usize = 10;

/// The longest datagram, in bytes.
const MAX_DATAGRAM: usize = 65_536;
