//! Requests of a call that was answered, where we stay in the path (RFC 3261 §16.4 to §16.6, §16.11): forwarded by
//! their Route without any state, and their replies back.
//!
//! Our Record-Route holds a keyed hash over Call-ID and the caller's tag, so that only the two parties of a call can
//! use us. The branch of a request is a keyed hash over what a retransmission, its CANCEL and its ACK repeat, and over
//! where the reply goes, so that a reply cannot be made up.

use std::net::{IpAddr, SocketAddr};

use ringback_sip_proto::check::Request;
use ringback_sip_proto::message::{HeaderLine, HeaderName, Value, Via};
use ringback_sip_proto::{Message, Origin, Transport, Uri};

use crate::key::{Keys, Purpose, STATELESS, hex, write_hex};
use crate::plan::Hop;
use crate::reply::write_upward;
use crate::request::{is_decision, write_content_length, write_hops, write_senders_via, write_via};

/// The way of a request that bears our Route.
#[derive(Clone, Debug)]
pub struct InDialog<'m> {
    /// The request URI that it has next.
    request_uri: &'m [u8],
    /// The URI that says where it goes: that of the next Route, else the request URI.
    pub next: &'m [u8],
    /// How many Route values come off at the top.
    own: usize,
    /// Whether the last Route value comes off too, because it is the request URI now.
    takes_last: bool,
    /// A Route value that is added at the end, for a strict router.
    added: Option<&'m [u8]>,
}

/// What may be changed in a request by who sends it and who gets it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust {
    /// Whether the sender may say what only we say: `X-Ringback-*`.
    pub is_sender_trusted: bool,
    /// Whether the receiver may see who the sender really is (RFC 3325).
    pub keeps_identity: bool,
}

/// Where the reply to a stateless request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The address.
    pub address: SocketAddr,
    /// Whether it goes over a connection.
    pub is_stream: bool,
}

impl Keys {
    /// Appends the Record-Route line of a call, with its end: `address` is our own host and port over
    /// this transport.
    pub fn write_record_route(
        &self,
        request: &Request<'_>,
        (transport, address): (Transport, &str),
        out: &mut Vec<u8>,
    ) {
        let (scheme, rest): (&[u8], &[u8]) = match transport {
            Transport::Udp => (b"sip:", b";lr>\r\n"),
            Transport::Tcp => (b"sip:", b";transport=tcp;lr>\r\n"),
            Transport::Tls => (b"sips:", b";lr>\r\n"),
        };
        let tag = request.from.tag().unwrap_or_default();
        out.extend_from_slice(b"Record-Route: <");
        out.extend_from_slice(scheme);
        write_hex(self.route(request.call_id, tag), 16, out);
        out.push(b'@');
        out.extend_from_slice(address.as_bytes());
        out.extend_from_slice(rest);
    }

    /// The way of a request in a dialog; `None`: it does not bear a Route of ours.
    #[must_use]
    pub fn in_dialog<'m>(
        &self,
        message: &Message<'m>,
        request: &Request<'m>,
    ) -> Option<InDialog<'m>> {
        let tags = [request.from.tag(), Some(request.to.tag()?)];
        let is_own = |uri: &Uri<'_>| {
            let token = uri.user().filter(|user| user.len() == 16).and_then(hex);
            token.is_some_and(|token| {
                tags.iter()
                    .flatten()
                    .any(|tag| self.route(request.call_id, tag) == token)
            })
        };
        let routes = || {
            message
                .known(HeaderName::Route)
                .flat_map(Value::list)
                .filter_map(uri_of)
        };
        // §16.4: a strict router put us into the request URI, and the request URI at the end.
        let takes_last = is_own(&request.uri);
        let count = routes().count();
        let values = message.known(HeaderName::Route).flat_map(Value::list);
        if values.count() != count {
            // Nobody knows where it would go.
            return None;
        }
        let mut request_uri = request.uri.as_bytes();
        let left = if takes_last {
            request_uri = routes().last()?;
            count - 1
        } else {
            count
        };
        // Two values where transport or address differ (RFC 5658).
        let own = routes()
            .take(left.min(2))
            .take_while(|uri| Uri::parse(uri).is_ok_and(|uri| is_own(&uri)))
            .count();
        if own == 0 && !takes_last {
            return None;
        }
        let mut way = InDialog {
            request_uri,
            next: request_uri,
            own,
            takes_last,
            added: None,
        };
        if let Some(next) = routes().take(left).nth(own) {
            way.next = next;
            if Uri::parse(next).is_ok_and(|uri| uri.param("lr").is_none()) {
                // §16.6 step 6: the next one is a strict router.
                way.added = Some(request_uri);
                way.request_uri = next;
                way.own += 1;
            }
        }
        Some(way)
    }

    /// Appends a request in a dialog as it goes on.
    pub fn write_in_dialog(
        &self,
        message: &Message<'_>,
        origin: Origin,
        way: &InDialog<'_>,
        hop: &Hop,
        trust: Trust,
        out: &mut Vec<u8>,
    ) {
        let mut below = Vec::new();
        if let Some(via) = message.top_via() {
            via.write_answered(origin, &mut below);
        }
        let hash = Via::parse(Value::new(&below)).map_or(0, |via| self.stateless(message, &via));
        out.extend_from_slice(message.method_bytes());
        out.push(b' ');
        out.extend_from_slice(way.request_uri);
        write_via(hop, out);
        out.extend_from_slice(STATELESS);
        write_hex(hash, 16, out);
        out.extend_from_slice(b";rport\r\n");
        if message.count(HeaderName::MaxForwards) == 0 {
            out.extend_from_slice(b"Max-Forwards: 70\r\n");
        }
        let mut is_top_via = true;
        let mut route = 0;
        let last = message
            .known(HeaderName::Route)
            .flat_map(Value::list)
            .count()
            .saturating_sub(usize::from(way.takes_last));
        for line in message.lines() {
            match HeaderName::from_bytes(line.name) {
                Some(HeaderName::Via) if is_top_via => {
                    is_top_via = false;
                    write_senders_via(message, origin, line.value, out);
                }
                Some(HeaderName::MaxForwards) => write_hops(message, out),
                Some(HeaderName::Route) => write_route(&line, way.own..last, &mut route, out),
                Some(HeaderName::PAssertedIdentity) if !trust.keeps_identity => {}
                None if !trust.is_sender_trusted && is_decision(line.name) => {}
                _ => out.extend_from_slice(line.raw),
            }
        }
        if let Some(added) = way.added {
            out.extend_from_slice(b"Route: <");
            out.extend_from_slice(added);
            out.extend_from_slice(b">\r\n");
        }
        if hop.transport.is_stream() && message.count(HeaderName::ContentLength) == 0 {
            write_content_length(message.body().len(), out);
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(message.body());
    }

    /// Appends a reply to a request that was forwarded without state; gives where it goes. `None`: it is none.
    pub fn write_stateless_reply(
        &self,
        message: &Message<'_>,
        out: &mut Vec<u8>,
    ) -> Option<ReplyTo> {
        let mut vias = message.vias();
        let ours = vias.next()??;
        let below = vias.next()??;
        let hash = ours.branch()?.strip_prefix(STATELESS)?;
        if hash.len() != 16 || hex(hash)? != self.stateless(message, &below) {
            return None;
        }
        let ip = match below.received() {
            Some(received) => literal(received)?,
            None => below.sent_by().ip()?,
        };
        let port = below.rport().or_else(|| below.port()).unwrap_or(5_060);
        let is_stream = !below.transport().eq_ignore_ascii_case(b"UDP");
        write_upward(message, is_stream, out);
        Some(ReplyTo {
            address: SocketAddr::new(ip, port),
            is_stream,
        })
    }

    /// Whether a reply claims to be to a request that was forwarded without state.
    #[must_use]
    pub fn is_stateless(message: &Message<'_>) -> bool {
        let via = message.top_via();
        via.and_then(|via| via.branch())
            .is_some_and(|branch| branch.starts_with(STATELESS))
    }

    /// What stands for a call in our Record-Route.
    fn route(&self, call_id: &[u8], tag: &[u8]) -> u64 {
        self.hash(Purpose::Route, &[call_id, tag])
    }

    /// The branch of a request that is forwarded without state, by the `Via` below ours as we wrote it.
    fn stateless(&self, message: &Message<'_>, below: &Via<'_>) -> u64 {
        let number = message.cseq().map_or(0, |cseq| cseq.number);
        let port = below.port().map_or([0; 3], |port| {
            let [high, low] = port.to_be_bytes();
            [1, high, low]
        });
        let rport = below.rport().unwrap_or_default().to_be_bytes();
        self.hash(
            Purpose::Stateless,
            &[
                message.call_id().unwrap_or_default(),
                &number.to_be_bytes(),
                &below.transport().to_ascii_uppercase(),
                &below.sent_by().as_bytes().to_ascii_lowercase(),
                &port,
                below.branch().unwrap_or_default(),
                below.received().unwrap_or_default(),
                &rport,
            ],
        )
    }
}

/// Appends the values of a Route line whose places among all values are in `kept`; the line as it came if that is all
/// of them.
fn write_route(
    line: &HeaderLine<'_>,
    kept: std::ops::Range<usize>,
    place: &mut usize,
    out: &mut Vec<u8>,
) {
    let first = *place;
    *place += line.value.list().count();
    if kept.contains(&first) && *place <= kept.end {
        out.extend_from_slice(line.raw);
        return;
    }
    let mut separator: &[u8] = b"Route: ";
    for (place, value) in (first..).zip(line.value.list()) {
        if kept.contains(&place) {
            out.extend_from_slice(separator);
            value.write_unfolded(out);
            separator = b", ";
        }
    }
    if separator == b", " {
        out.extend_from_slice(b"\r\n");
    }
}

/// The URI of a Route value.
fn uri_of(value: Value<'_>) -> Option<&[u8]> {
    let text = value.as_bytes();
    let start = text.iter().position(|byte| *byte == b'<')? + 1;
    let length = text.get(start..)?.iter().position(|byte| *byte == b'>')?;
    text.get(start..start + length)
}

/// An address, an IPv6 one with or without its brackets.
fn literal(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    text.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}
