//! Replies: their status lines, the headers they copy, and where they go.
//!
//! A reply is appended to a buffer of the caller; a buffer that is used again makes this free of
//! allocation. Copied are every `Via` in order, `From`, `To`, `Call-ID` and `CSeq` (RFC 3261
//! §8.2.6.2), each on one line: a fold becomes a space. `Record-Route` is not copied: no dialog is
//! made. The To tag is a keyed hash over what a retransmission repeats, so that a stateless server
//! gives the same one every time (§8.2.7), and a CANCEL the one of its INVITE (§9.2).

use std::hash::Hasher;
use std::net::SocketAddr;
use std::ops::Range;

use rsip::Method;
use siphasher::sip::SipHasher13;

use crate::check::{Defect, Refusal, Request};
use crate::lex;
use crate::message::{HeaderName, MAX_MESSAGE, Message, StartLine, Value, Via};
use crate::message::{write_number, write_unfolded};
use crate::origin::Origin;

/// A reply that was written, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Where to send it: the source of the request; over UDP perhaps at another port.
    pub destination: SocketAddr,
    /// Where `maddr` asks to send it instead, over UDP. Whoever sends follows this only to somebody
    /// known: a request may name anybody.
    pub maddr: Option<SocketAddr>,
    /// The status code.
    pub status: u16,
    /// The method answered; `None` if SIP does not know it.
    pub method: Option<Method>,
    /// Why the request was refused, if it was.
    pub refusal: Option<Refusal>,
}

/// What a reply is written from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered<'r, 'm> {
    /// The request.
    message: &'r Message<'m>,
    /// Its method, if SIP knows it.
    method: Option<Method>,
    /// Its top `Via`.
    via: &'r Via<'m>,
    /// Where it came from.
    origin: Origin,
    /// Its From tag, empty if there is none.
    from_tag: &'m [u8],
    /// True if it has a To tag, which then is that of the reply.
    has_to_tag: bool,
    /// Keyed hash of what a retransmission repeats.
    fingerprint: u64,
}

impl<'r, 'm> Answered<'r, 'm> {
    /// A request that was refused: its headers may be broken.
    pub(crate) fn refused(
        key: TagKey,
        message: &'r Message<'m>,
        via: &'r Via<'m>,
        origin: Origin,
    ) -> Self {
        let from = message.from().ok();
        Self {
            message,
            method: message.method(),
            via,
            origin,
            from_tag: from.and_then(|from| from.tag()).unwrap_or_default(),
            has_to_tag: message.to().is_ok_and(|to| to.tag().is_some()),
            fingerprint: fingerprint(key, message, via),
        }
    }

    /// A request that passed every check.
    pub(crate) fn accepted(
        message: &'r Message<'m>,
        request: &'r Request<'m>,
        origin: Origin,
        fingerprint: u64,
    ) -> Self {
        Self {
            message,
            method: request.method,
            via: &request.via,
            origin,
            from_tag: request.from.tag().unwrap_or_default(),
            has_to_tag: request.to.tag().is_some(),
            fingerprint,
        }
    }
}

impl Answered<'_, '_> {
    /// Writes everything up to the headers of one's own, behind this status line.
    pub(crate) fn write_head(&self, key: TagKey, status_line: &[u8], out: &mut Vec<u8>) {
        out.reserve(USUAL_LENGTH);
        out.extend_from_slice(status_line);
        out.extend_from_slice(b"\r\n");
        self.write_copied(key, out);
    }

    /// Writes the whole reply to a request that is refused.
    pub(crate) fn write_refusal(
        &self,
        key: TagKey,
        refusal: Refusal,
        retry_after: Option<u32>,
        out: &mut Vec<u8>,
    ) -> Reply {
        let status = refusal.status();
        out.extend_from_slice(b"SIP/2.0 ");
        write_number(u64::from(status), out);
        out.push(b' ');
        refusal.write_reason(out);
        out.extend_from_slice(b"\r\n");
        self.write_copied(key, out);
        match refusal {
            Refusal::UnknownMethod | Refusal::MethodNotAllowed => write_header("Allow", ALLOW, out),
            Refusal::Extension => write_unsupported(self.message.required_extensions(), out),
            Refusal::ProxyExtension => write_unsupported(self.message.required_of_proxies(), out),
            _ => {}
        }
        if let Some(seconds) = retry_after {
            out.extend_from_slice(b"Retry-After: ");
            write_number(u64::from(seconds), out);
            out.extend_from_slice(b"\r\n");
        }
        write_end(out);
        self.refused_reply(refusal)
    }

    /// The address and status of a refusal.
    fn refused_reply(&self, refusal: Refusal) -> Reply {
        Reply {
            refusal: Some(refusal),
            ..self.reply(refusal.status())
        }
    }

    /// The longest reply, in bytes, that the transport carries or the other side need read.
    pub(crate) fn limit(&self) -> usize {
        if self.origin.transport.is_stream() {
            MAX_MESSAGE
        } else {
            MAX_DATAGRAM
        }
    }

    /// Replaces a reply, written from `start` on, by a short 513 if it is too long.
    ///
    /// A reply repeats most of its request, so one to a request of nearly the greatest length may
    /// have no room for anything else.
    #[inline]
    pub(crate) fn fit(&self, key: TagKey, reply: Reply, start: usize, out: &mut Vec<u8>) -> Reply {
        if out.len() - start <= self.limit() {
            return reply;
        }
        self.write_short(key, start, out)
    }

    /// Writes a 513 of as few bytes as possible: compact names, and if need be the top `Via` alone,
    /// which is enough for whoever sent the request.
    #[cold]
    pub(crate) fn write_short(&self, key: TagKey, start: usize, out: &mut Vec<u8>) -> Reply {
        for keeps_vias in [true, false] {
            out.truncate(start);
            out.extend_from_slice(b"SIP/2.0 513 Message Too Large\r\nv:");
            self.via.write_answered(self.origin, out);
            let mut vias = self.message.known(HeaderName::Via);
            let top_line = vias.next().filter(|_| keeps_vias);
            if let Some(top_line) = top_line.filter(|line| *line != self.via.value()) {
                write_unfolded(top_line.split_first().1, out);
            }
            out.extend_from_slice(b"\r\n");
            for value in vias.filter(|_| keeps_vias) {
                write_short_header(b"v:", value, out);
            }
            for (name, label) in [
                (HeaderName::From, &b"f:"[..]),
                (HeaderName::To, b"t:"),
                (HeaderName::CallId, b"i:"),
                (HeaderName::CSeq, b"CSeq:"),
            ] {
                let Some(value) = self.message.first(name) else {
                    continue;
                };
                write_short_header(label, value, out);
                if name == HeaderName::To && !self.has_to_tag {
                    self.append_to_tag(key, out);
                }
            }
            out.extend_from_slice(b"l:0\r\n\r\n");
            if out.len() - start <= self.limit() {
                break;
            }
        }
        self.refused_reply(Refusal::TooLarge)
    }

    /// Appends the To tag to the line written last.
    fn append_to_tag(&self, key: TagKey, out: &mut Vec<u8>) {
        // Every line written ends with these two bytes.
        out.truncate(out.len() - 2);
        out.extend_from_slice(b";tag=");
        write_tag(key.tag(self.fingerprint, self.from_tag), out);
        out.extend_from_slice(b"\r\n");
    }

    /// The address and status of a reply that is no refusal.
    pub(crate) fn reply(&self, status: u16) -> Reply {
        Reply {
            destination: self.via.reply_address(self.origin),
            maddr: self.via.maddr_address(self.origin),
            status,
            method: self.method,
            refusal: None,
        }
    }

    /// Writes the headers that are copied from the request.
    fn write_copied(&self, key: TagKey, out: &mut Vec<u8>) {
        let mut vias = self.message.known(HeaderName::Via);
        if let Some(top) = vias.next() {
            out.extend_from_slice(b"Via: ");
            self.via.write_answered(self.origin, out);
            if top != self.via.value() {
                write_unfolded(top.split_first().1, out);
            }
            out.extend_from_slice(b"\r\n");
        }
        for value in vias {
            out.extend_from_slice(b"Via: ");
            value.write_unfolded(out);
            out.extend_from_slice(b"\r\n");
        }
        let mut copy = Copied::new(self.message);
        copy.line(HeaderName::From, b"From: ", out);
        let has_to = copy.line(HeaderName::To, b"To: ", out);
        if has_to && !self.has_to_tag {
            copy.flush(out);
            self.append_to_tag(key, out);
        }
        copy.line(HeaderName::CallId, b"Call-ID: ", out);
        copy.line(HeaderName::CSeq, b"CSeq: ", out);
        copy.flush(out);
    }
}

/// Writes the replies that a transaction makes itself. Holds no state but its key, so each worker may have a copy.
#[derive(Clone, Debug)]
pub struct Responder {
    /// Stands for randomness in To tags.
    key: TagKey,
}

impl Responder {
    /// With the key of the [`Redirector`](crate::Redirector) beside it, both give a request the same To tag.
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        Self {
            key: TagKey::new(key),
        }
    }

    /// Appends a reply without a body to a request that passed every check. `headers` are whole lines, each with
    /// its end. A To tag is added where the request has none, but not to a 100 (RFC 3261 §8.2.6.2).
    pub fn respond(
        &self,
        message: &Message<'_>,
        request: &Request<'_>,
        origin: Origin,
        status: (u16, &str),
        headers: &[u8],
        out: &mut Vec<u8>,
    ) -> Reply {
        let fingerprint = fingerprint(self.key, message, &request.via);
        let mut answered = Answered::accepted(message, request, origin, fingerprint);
        let (code, phrase) = status;
        answered.has_to_tag |= code == 100;
        out.extend_from_slice(b"SIP/2.0 ");
        write_number(u64::from(code), out);
        out.push(b' ');
        out.extend_from_slice(phrase.as_bytes());
        out.extend_from_slice(b"\r\n");
        answered.write_copied(self.key, out);
        out.extend_from_slice(headers);
        write_end(out);
        answered.reply(code)
    }
}

/// Appends the header that names the option tags that are not understood.
fn write_unsupported<'m>(tags: impl Iterator<Item = Value<'m>>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Unsupported: ");
    for (index, tag) in tags.enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        tag.write_unfolded(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Copies header lines of the request; those that follow one another, as they often do, at once.
struct Copied<'r, 'm> {
    /// The request.
    message: &'r Message<'m>,
    /// What of its bytes is to be copied next.
    pending: Range<usize>,
}

impl<'r, 'm> Copied<'r, 'm> {
    /// Nothing is copied yet.
    fn new(message: &'r Message<'m>) -> Self {
        Self {
            message,
            pending: 0..0,
        }
    }

    /// Copies the first line of a header, if it is there, with this text for its name.
    fn line(&mut self, name: HeaderName, label: &[u8], out: &mut Vec<u8>) -> bool {
        if let Some(line) = self.message.plain_line(name) {
            if line.start == self.pending.end {
                self.pending.end = line.end;
            } else {
                self.flush(out);
                self.pending = line;
            }
            return true;
        }
        self.flush(out);
        let Some(value) = self.message.first(name) else {
            return false;
        };
        out.extend_from_slice(label);
        value.write_unfolded(out);
        out.extend_from_slice(b"\r\n");
        true
    }

    /// Copies what is pending.
    fn flush(&mut self, out: &mut Vec<u8>) {
        let lines = lex::cut(self.message.bytes(), self.pending.clone());
        out.extend_from_slice(lines);
        self.pending.start = self.pending.end;
    }
}

/// The hash that a retransmission repeats: top `Via`, `Call-ID`, `CSeq` number, request URI.
pub(crate) fn fingerprint(key: TagKey, message: &Message<'_>, via: &Via<'_>) -> u64 {
    let first = |name| message.first(name).map(Value::as_bytes).unwrap_or_default();
    let transaction = match via.branch() {
        // A branch that is only the magic cookie is none (RFC 4475 §3.2.1).
        Some(branch) if branch != b"z9hG4bK" => branch,
        _ => via.value().as_bytes(),
    };
    let port = via.port().unwrap_or_default().to_le_bytes();
    let cseq = first(HeaderName::CSeq);
    let digits = cseq.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = lex::head(cseq, digits);
    let uri = match message.start() {
        StartLine::Request { uri, .. } => Some(uri),
        _ => None,
    };
    let mut text = HashedText::new(key);
    // No byte of a header value or URI is a line end.
    text.push(transaction);
    text.push(b"\n");
    text.push(via.sent_by().as_bytes());
    text.push(&[b'\n', port[0], port[1]]);
    text.push(first(HeaderName::CallId));
    text.push(b"\n");
    text.push(number);
    text.push(b"\n");
    if let Some(uri) = uri {
        text.push(uri);
        text.push(b"\n");
    }
    text.finish()
}

/// Gathers what is hashed: hashing one text is much faster than hashing its parts.
struct HashedText {
    /// The start of the text.
    bytes: [u8; 256],
    /// How much of it is used.
    length: usize,
    /// Has hashed what did not fit.
    hasher: SipHasher13,
}

impl HashedText {
    /// An empty text.
    fn new(key: TagKey) -> Self {
        Self {
            bytes: [0; 256],
            length: 0,
            hasher: key.hasher(),
        }
    }

    /// Adds a part.
    #[inline]
    fn push(&mut self, part: &[u8]) {
        let end = self.length + part.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(part);
            self.length = end;
        } else {
            self.spill(part);
        }
    }

    /// Hashes what is there, and then this part.
    #[cold]
    fn spill(&mut self, part: &[u8]) {
        self.hasher.write(lex::head(&self.bytes, self.length));
        self.hasher.write(part);
        self.length = 0;
    }

    /// The hash of the whole text.
    #[inline]
    fn finish(&mut self) -> u64 {
        self.hasher.write(lex::head(&self.bytes, self.length));
        self.hasher.finish()
    }
}

impl Refusal {
    /// The status code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::MethodNotAllowed => 405,
            Self::UriScheme => 416,
            Self::Extension | Self::ProxyExtension => 420,
            Self::NoDialog => 481,
            Self::Loop => 482,
            Self::TooManyHops => 483,
            Self::UnknownMethod => 501,
            Self::Draining | Self::Overload => 503,
            Self::Version => 505,
            Self::TooLarge => 513,
        }
    }

    /// Appends the reason phrase; a 400 names the header.
    fn write_reason(self, out: &mut Vec<u8>) {
        let phrase = match self {
            Self::Malformed(defect) => return defect.write_reason(out),
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::UriScheme => "Unsupported URI Scheme",
            Self::Extension | Self::ProxyExtension => "Bad Extension",
            Self::NoDialog => "Call/Transaction Does Not Exist",
            Self::Loop => "Loop Detected",
            Self::TooManyHops => "Too Many Hops",
            Self::UnknownMethod => "Not Implemented",
            Self::Draining | Self::Overload => "Service Unavailable",
            Self::Version => "Version Not Supported",
            Self::TooLarge => "Message Too Large",
        };
        out.extend_from_slice(phrase.as_bytes());
    }
}

impl Defect {
    /// Appends the reason phrase of the 400.
    fn write_reason(self, out: &mut Vec<u8>) {
        let phrase = match self {
            Self::Unterminated => "Missing Empty Line After Headers",
            Self::HeaderLine => "Malformed Header Line",
            Self::NoLength => "Missing Content-Length",
            Self::RepeatedLength => "Duplicate Content-Length",
            Self::BadLength => "Malformed Content-Length",
            Self::ShortBody => "Content-Length Exceeds Message",
            Self::RequestLine => "Malformed Request-Line",
            Self::RequestUri => "Malformed Request-URI",
            Self::CSeqMethod => "CSeq Method Does Not Match",
            Self::Missing(headers) => {
                out.extend_from_slice(b"Missing ");
                for (index, name) in headers.iter().enumerate() {
                    if index > 0 {
                        out.extend_from_slice(b", ");
                    }
                    out.extend_from_slice(name.as_str().as_bytes());
                }
                return;
            }
            Self::Header(error) => {
                out.extend_from_slice(error.problem.as_str().as_bytes());
                out.push(b' ');
                error.name.as_str()
            }
        };
        out.extend_from_slice(phrase.as_bytes());
    }
}

/// The key of the hashes that stand for randomness: To tags and fingerprints.
#[derive(Clone, Copy)]
pub(crate) struct TagKey([u8; 16]);

impl TagKey {
    /// Takes a key; the same one on every node gives the same tags.
    pub(crate) const fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// A fresh hasher.
    fn hasher(self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }

    /// The To tag of a request with this fingerprint and From tag.
    fn tag(self, fingerprint: u64, from_tag: &[u8]) -> u64 {
        let mut text = HashedText::new(self);
        text.push(&fingerprint.to_le_bytes());
        text.push(from_tag);
        text.finish()
    }
}

impl std::fmt::Debug for TagKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TagKey(..)")
    }
}

/// Appends a header of one's own.
#[inline]
pub(crate) fn write_header(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    write_unfolded(value.as_bytes(), out);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last header and the empty line.
pub(crate) fn write_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// Appends a header line without any space that is not needed.
fn write_short_header(label: &[u8], value: Value<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(label);
    value.write_unfolded(out);
    out.extend_from_slice(b"\r\n");
}

/// Appends sixteen hexadecimal digits.
fn write_tag(tag: u64, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0_u8; 16];
    for (index, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(tag >> (60 - 4 * index)) as usize & 15];
    }
    out.extend_from_slice(&text);
}

/// Bytes that are enough for nearly every reply.
const USUAL_LENGTH: usize = 1_024;

/// The longest reply that fits into a UDP datagram over IPv4.
pub const MAX_DATAGRAM: usize = 65_507;

/// The methods answered with something else than 405 or 501.
pub const ALLOW: &str = "INVITE, ACK, CANCEL, OPTIONS";
