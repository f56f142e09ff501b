//! Requests that go to a target: the forwarded INVITE (RFC 3261 §16.6), its CANCEL (§9.1) and its ACK (§17.1.1.3).

use ringback_sip_proto::message::{HeaderLine, HeaderName, StartLine, Value};
use ringback_sip_proto::{Message, Origin, Transport};

use crate::key::BranchName;
use crate::plan::{Hop, Plan, Target};

/// What is written from: the INVITE as it came, and where it goes.
#[derive(Clone, Copy)]
pub(crate) struct Forwarded<'f, 'm> {
    /// The INVITE.
    pub(crate) message: &'f Message<'m>,
    /// Where it came from.
    pub(crate) origin: Origin,
    /// What is changed in it.
    pub(crate) plan: &'f Plan,
    /// The target.
    pub(crate) target: &'f Target,
    /// Where it leads.
    pub(crate) hop: &'f Hop,
    /// Our branch.
    pub(crate) branch: BranchName,
}

impl Forwarded<'_, '_> {
    /// Appends the INVITE as the target gets it: our `Via` in front, with the request URI and `Max-Forwards` changed,
    /// `received` and `rport` of the sender filled in (§18.2.1), the decision in its headers; all else as it came.
    pub(crate) fn write_invite(&self, out: &mut Vec<u8>) {
        let message = self.message;
        self.write_start(b"INVITE", out);
        out.extend_from_slice(&self.target.record_route);
        if message.count(HeaderName::MaxForwards) == 0 {
            out.extend_from_slice(b"Max-Forwards: 70\r\n");
        }
        let mut is_top_via = true;
        for line in message.lines() {
            match HeaderName::from_bytes(line.name) {
                Some(HeaderName::Via) if is_top_via => {
                    is_top_via = false;
                    write_senders_via(message, self.origin, line.value, out);
                }
                Some(HeaderName::MaxForwards) => write_hops(message, out),
                // A caller does not choose the way of a new call.
                Some(HeaderName::Route) => {}
                Some(HeaderName::PAssertedIdentity) if !self.target.keeps_identity => {}
                None if self.is_replaced(&line) => {}
                _ => out.extend_from_slice(line.raw),
            }
        }
        out.extend_from_slice(&self.plan.headers);
        let lacks_length = message.count(HeaderName::ContentLength) == 0;
        if self.hop.transport.is_stream() && lacks_length {
            write_content_length(message.body().len(), out);
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(message.body());
    }

    /// Appends the CANCEL of the INVITE: request URI, top `Via`, From, To, Call-ID and CSeq number are those of the
    /// INVITE. `reason` is whole lines.
    pub(crate) fn write_cancel(&self, reason: &[u8], out: &mut Vec<u8>) {
        self.write_start(b"CANCEL", out);
        self.copy(HeaderName::From, "From", out);
        self.copy(HeaderName::To, "To", out);
        self.write_rest("CANCEL", reason, out);
    }

    /// Appends the ACK of a final reply that is no 2xx: To is that of the reply, all else that of the INVITE.
    pub(crate) fn write_ack(&self, reply: &Message<'_>, out: &mut Vec<u8>) {
        self.write_start(b"ACK", out);
        self.copy(HeaderName::From, "From", out);
        copy(reply, HeaderName::To, "To", out);
        self.write_rest("ACK", &[], out);
    }

    /// Appends the request line and our `Via`.
    fn write_start(&self, method: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(method);
        out.push(b' ');
        out.extend_from_slice(self.target.uri.as_bytes());
        write_via(self.hop, out);
        self.branch.write(out);
        out.extend_from_slice(b";rport\r\n");
    }

    /// Appends what CANCEL and ACK share behind `To`.
    fn write_rest(&self, method: &str, lines: &[u8], out: &mut Vec<u8>) {
        self.copy(HeaderName::CallId, "Call-ID", out);
        out.extend_from_slice(b"CSeq: ");
        let number = self.message.cseq().map_or(0, |cseq| cseq.number);
        write_number(number as usize, out);
        out.push(b' ');
        out.extend_from_slice(method.as_bytes());
        out.extend_from_slice(b"\r\nMax-Forwards: 70\r\n");
        out.extend_from_slice(lines);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }

    /// Appends a header of the INVITE.
    fn copy(&self, name: HeaderName, label: &str, out: &mut Vec<u8>) {
        copy(self.message, name, label, out);
    }

    /// Whether this line says what only we say: the decision.
    fn is_replaced(&self, line: &HeaderLine<'_>) -> bool {
        is_decision(line.name) && (!self.plan.is_trusted || names(&self.plan.headers, line.name))
    }
}

/// Appends the rest of a request line, and our `Via` up to its branch.
pub(crate) fn write_via(hop: &Hop, out: &mut Vec<u8>) {
    out.extend_from_slice(b" SIP/2.0\r\nVia: SIP/2.0/");
    out.extend_from_slice(match hop.transport {
        Transport::Udp => b"UDP ",
        Transport::Tcp => b"TCP ",
        Transport::Tls => b"TLS ",
    });
    out.extend_from_slice(hop.sent_by.as_bytes());
    out.extend_from_slice(b";branch=");
}

/// Appends the line of the sender's `Via`, which has this value, with `received` and `rport` (RFC 3261 §18.2.1).
pub(crate) fn write_senders_via(
    message: &Message<'_>,
    origin: Origin,
    value: Value<'_>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"Via: ");
    match message.top_via() {
        Some(via) => {
            via.write_answered(origin, out);
            out.extend_from_slice(value.split_first().1);
        }
        None => out.extend_from_slice(value.as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `Max-Forwards`, one less.
pub(crate) fn write_hops(message: &Message<'_>, out: &mut Vec<u8>) {
    let hops = message.max_forwards().ok().flatten().unwrap_or(70);
    out.extend_from_slice(b"Max-Forwards: ");
    write_number(usize::from(hops.saturating_sub(1)), out);
    out.extend_from_slice(b"\r\n");
}

/// Whether a header of this name says what only we say: the decision.
pub(crate) fn is_decision(name: &[u8]) -> bool {
    name.get(..DECISION.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(DECISION))
}

/// Whether one of these lines has this name.
fn names(lines: &[u8], name: &[u8]) -> bool {
    lines.split(|byte| *byte == b'\n').any(|line| {
        line.split_at_checked(name.len())
            .is_some_and(|(start, rest)| {
                start.eq_ignore_ascii_case(name) && rest.first() == Some(&b':')
            })
    })
}

/// Appends the first line of a header, as it came.
fn copy(message: &Message<'_>, name: HeaderName, label: &str, out: &mut Vec<u8>) {
    if let Some(value) = message.first(name) {
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the `Reason` lines of a CANCEL (RFC 3326), which go along with ours.
pub(crate) fn write_reason(cancel: &Message<'_>, out: &mut Vec<u8>) {
    for line in cancel.lines().filter(|line| line.is_named(b"Reason")) {
        out.extend_from_slice(line.raw);
    }
}

/// Appends `Content-Length`.
pub(crate) fn write_content_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    write_number(length, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal.
pub(crate) fn write_number(number: usize, out: &mut Vec<u8>) {
    if number >= 10 {
        write_number(number / 10, out);
    }
    out.push(b'0' + (number % 10) as u8);
}

/// The status of a reply; 0 if it is none.
pub(crate) fn status_of(message: &Message<'_>) -> u16 {
    match message.start() {
        StartLine::Response { code, .. } => code,
        _ => 0,
    }
}

/// What the headers that say a decision start with.
const DECISION: &[u8] = b"X-Ringback-";
