//! Puts any bytes through everything a socket layer calls, and checks what must hold for all bytes.
//!
//! Shared with the fuzz targets, so it uses nothing but the crate.

use ringback_sip_proto::message::{Framing, HeaderName, StartLine};
use ringback_sip_proto::{
    Action, Answer, Frame, HepFrame, HepFramer, HepPacket, Identity, IdentitySource, Input,
    MAX_MESSAGE, Message, PreparedAnswer, PreparedTarget, Redirector, Reply, Settings,
    StreamFramer, Transport,
};

/// Every setting on, so that every writer runs.
pub(crate) const SETTINGS: Settings = Settings {
    decision_headers: true,
    contact_headers: true,
};

/// A decision with everything in it.
pub(crate) const ANSWER: Answer<'static> = Answer {
    outcome: "callback",
    reason: "returned_call",
    agent: Some("6f2b1c00-0000-4000-8000-000000000001"),
    source_agent: Some("6f2b1c00-0000-4000-8000-000000000002"),
};

/// Targets of every kind, usable or not.
pub(crate) const TARGETS: [&str; 5] = [
    "sip:agent@agents.example.com",
    "sips:agent@agents.example.com",
    "sip:agent@agents.example.com;transport=tls",
    "sip:+551130000000@gw.example.com",
    "sip:agent@[2001:db8::7]:5080;transport=tcp?Subject=hello",
];

/// Handles one message and answers it if it asks for a route; returns the reply.
pub(crate) fn handle(bytes: &[u8], transport: Transport) -> Option<(Reply, Vec<u8>)> {
    let redirector = Redirector::new([9; 16]);
    let input = Input {
        bytes,
        source: "203.0.113.9:5062".parse().ok()?,
        transport,
        draining: false,
    };
    // What is in the buffer before stays there.
    let mut out = b"before".to_vec();
    let reply = match redirector.handle(input, &mut out) {
        Action::Reply(reply) => Some(reply),
        Action::Invite(invite) => {
            for source in [
                IdentitySource::PAssertedIdentity,
                IdentitySource::RemotePartyId,
                IdentitySource::From,
            ] {
                for identity in invite.caller(source) {
                    check_identity(&identity);
                }
            }
            let message = invite.message();
            let prefixes = ["1234#".into(), "9".into()];
            for identity in std::iter::once(invite.request_uri_identity(&prefixes))
                .chain(message.header_identities("To", &prefixes))
                .chain(message.header_identities("X-Any", &[]))
            {
                check_identity(&identity);
            }
            let start = out.len();
            for reply in [
                redirector.forward(&invite, "sip:hop.example.com", &mut out),
                redirector.overloaded(&invite, Some(10), &mut out),
            ] {
                assert!(matches!(reply.status, 302 | 480 | 503 | 513));
            }
            out.truncate(start);
            let targets = TARGETS.map(|target| PreparedTarget::new(target, &ANSWER, SETTINGS));
            let answer = PreparedAnswer::new(&ANSWER, SETTINGS);
            Some(redirector.answer(&invite, &answer, &targets, &mut out))
        }
        Action::Absorb | Action::Response(..) | Action::Drop(_) => None,
    };
    let written = out.split_off(b"before".len());
    assert_eq!(out, b"before");
    assert_eq!(reply.is_none(), written.is_empty());
    let reply = reply?;
    check_reply(bytes, transport, &reply, &written);
    Some((reply, written))
}

/// What holds for whoever is named: a number has digits, and nothing but digits.
fn check_identity(identity: &Identity) {
    if let Identity::Number(digits) = identity {
        assert!(!digits.as_bytes().is_empty());
        for digits in [digits.as_bytes(), digits.context()] {
            assert!(digits.iter().all(u8::is_ascii_digit));
        }
        let zero = digits.bracketed_zero();
        assert!(zero.is_none_or(|zero| digits.as_bytes().get(zero) == Some(&b'0')));
    }
}

/// What holds for every reply to every request.
fn check_reply(bytes: &[u8], transport: Transport, reply: &Reply, written: &[u8]) {
    let framing = if transport.is_stream() {
        Framing::Stream
    } else {
        Framing::Datagram
    };
    let request = Message::parse(bytes, framing).expect("it was answered");
    let read = Message::parse(written, Framing::Stream).expect("it is no keep-alive");
    assert!(matches!(read.start(), StartLine::Response { code, reason }
            if code == reply.status && !reason.is_empty()));
    // Headers are repeated, compact names in full; what is ours has its limits.
    assert!(written.len() <= 2 * bytes.len() + OURS, "a reply swells");
    if written.len() > MAX_MESSAGE {
        // On a stream, a request of nearly the greatest length is answered by what is longer.
        assert!(transport.is_stream());
        return;
    }
    assert_eq!(read.fault(), None, "{}", String::from_utf8_lossy(written));
    assert_eq!(read.body(), b"");
    assert_ne!(request.method_bytes(), b"ACK");
    // Nothing copied may start a line of its own.
    let lines = written.split(|&byte| byte == b'\n').count();
    assert_eq!(lines, read.lines().count() + 3);
    for line in read.lines() {
        assert!(!line.value.is_folded() && !line.value.as_bytes().contains(&b'\r'));
        assert!(KNOWN.contains(&line.name), "{line:?}");
    }
    let vias = (read.count(HeaderName::Via), request.count(HeaderName::Via));
    // A short 513 may have the top one alone: what it answers is almost as long as a datagram can be.
    assert!(
        vias.0 == vias.1 || (reply.status == 513 && vias.0 == 1),
        "{vias:?}"
    );
    for name in [
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
        HeaderName::CSeq,
    ] {
        assert_eq!(read.count(name), request.count(name).min(1));
    }
    // A request that was good enough to route has a reply without a fault.
    if reply.status == 302 {
        assert!(read.to().is_ok_and(|to| to.tag().is_some()));
        assert_eq!(read.cseq(), request.cseq());
        assert!(read.top_via().is_some_and(|via| via.is_sound()));
        check_sources(&request, reply, &read);
        assert!(read.header("Contact").count() > 0);
    }
}

/// Only we say where the request came from, and the reply goes there.
fn check_sources(request: &Message<'_>, reply: &Reply, read: &Message<'_>) {
    let via = read.top_via().expect("it was read before");
    let text = via.value().text().to_ascii_lowercase();
    let count = |name: &str| {
        let mut params = text.split(';').skip(1);
        let is_it = |param: &str| param.split('=').next().is_some_and(|it| it.trim() == name);
        params.by_ref().filter(|param| is_it(param)).count()
    };
    if !text.contains('"') {
        assert!(count("rport") <= 1 && count("received") <= 1, "{text}");
    }
    assert!(
        via.received().is_none_or(|ip| ip == b"203.0.113.9"),
        "{text}"
    );
    assert_eq!(reply.destination.ip().to_string(), "203.0.113.9");
    // What is below the top value stands there as it came, however broken.
    let below = |message: &Message<'_>| -> Vec<Vec<u8>> {
        let values = message.known(HeaderName::Via).skip(1);
        let unfolded = |value: ringback_sip_proto::message::Value<'_>| {
            let mut line = Vec::new();
            value.write_unfolded(&mut line);
            line
        };
        values.map(unfolded).collect()
    };
    assert_eq!(below(request), below(read));
}

/// Cuts bytes as a stream, in pieces of these lengths over and over, and handles what comes out; gives the number of
/// messages.
pub(crate) fn stream(bytes: &[u8], pieces: &[usize]) -> usize {
    let mut messages = 0;
    let mut framer = StreamFramer::new();
    let mut lengths = pieces.iter().copied().chain([1]).cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(1).clamp(1, rest.len());
        let (piece, tail) = rest.split_at(length);
        rest = tail;
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Frame::Incomplete => break,
                Frame::Ping => {}
                Frame::Message(message) => {
                    messages += 1;
                    handle(message, Transport::Tcp);
                }
                Frame::Broken(message, _) => {
                    messages += 1;
                    handle(message, Transport::Tls);
                    rest = &[];
                }
            }
        }
    }
    messages
}

/// Reads bytes as a HEP packet and as a stream of them.
pub(crate) fn hep(bytes: &[u8]) {
    if let Ok(packet) = HepPacket::parse(bytes) {
        let _ = (
            packet.captured_at(),
            packet.source_address(),
            packet.has_key(b"key"),
        );
        let mut room = Vec::new();
        if let Ok(bytes) = packet.message(&mut room) {
            assert!(bytes.len() <= MAX_MESSAGE);
            if let Ok(message) = Message::parse(bytes, Framing::Datagram) {
                let _ = (message.call_id(), message.cseq(), message.to());
            }
        }
    }
    let mut framer = HepFramer::new();
    for piece in bytes.chunks(17) {
        framer.push(piece);
        while let HepFrame::Packet(packet) = framer.next_frame() {
            let _ = HepPacket::parse(packet);
        }
    }
}

/// The same; bytes that are no packet are mirrored in one.
pub(crate) fn mirrored(bytes: &[u8]) {
    hep(bytes);
    if !bytes.starts_with(b"HEP3") {
        hep(&packet(bytes));
    }
}

/// A packet around a payload, as an agent on IPv4 and UDP sends it.
fn packet(payload: &[u8]) -> Vec<u8> {
    let chunks: [(u16, &[u8]); 8] = [
        (1, &[2]),
        (2, &[17]),
        (3, &[203, 0, 113, 9]),
        (7, &5060_u16.to_be_bytes()),
        (9, &1_750_000_000_u32.to_be_bytes()),
        (11, &[1]),
        (14, b"key"),
        (15, payload),
    ];
    let mut packet = b"HEP3\0\0".to_vec();
    for (kind, value) in chunks {
        let length = u16::try_from(6 + value.len()).unwrap_or(u16::MAX);
        packet.extend([0, 0]);
        packet.extend(kind.to_be_bytes());
        packet.extend(length.to_be_bytes());
        packet.extend(value);
    }
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet
}

/// Bytes of a reply that no request has sent, at most: status, contacts, decision.
const OURS: usize = 4_096;

/// Every header a reply may have.
const KNOWN: [&[u8]; 24] = [
    b"Via",
    b"From",
    b"To",
    b"Call-ID",
    b"CSeq",
    b"Contact",
    b"Content-Length",
    b"Allow",
    b"Accept",
    b"Supported",
    b"Unsupported",
    b"Reason",
    b"Warning",
    b"Retry-After",
    b"X-Ringback-Outcome",
    b"X-Ringback-Reason",
    b"X-Ringback-Agent",
    b"X-Ringback-Source-Agent",
    b"Server",
    // Of a reply that has to be short.
    b"v",
    b"f",
    b"t",
    b"i",
    b"l",
];
