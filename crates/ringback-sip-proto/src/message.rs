//! A message as an index over the bytes that arrived: nothing is copied, nothing allocated.
//!
//! [`Message::parse`] walks over the header section once and notes where each header this crate
//! reads itself stands first, and how often it occurs. Typed readers ([`Message::cseq`],
//! [`Message::to`], ...) parse a value when asked. There is no limit on the number of headers, only
//! one on the size of the message ([`MAX_MESSAGE`]).
//!
//! Tolerated: a bare LF as a line end (every line end is read the same way by the framer, so the
//! two cannot disagree; CR alone is no line end), line ends before the start line (RFC 3261 §7.5),
//! bytes that are no UTF-8, and unknown headers with any value. A header line without a colon, or
//! whose name is no token, is an error.
//!
//! A message that breaks the rules is still indexed as far as it can be read, because the reply
//! that says so needs its `Via`, `From`, `To`, `Call-ID` and `CSeq`. What is wrong is shown by
//! [`Message::start`], [`Message::fault`] and the typed readers; in which order it counts is
//! decided in [`check`](crate::check).

mod header;
mod identity;
mod name_addr;
mod value;
mod via;

use std::fmt;

use rsip::Method;

use crate::lex::{self, Cursor, Octets};

pub use header::{HeaderLine, HeaderLines, HeaderName, Values};
pub use identity::{Digits, Identity, IdentitySource};
pub use name_addr::NameAddr;
pub use value::{BrokenParam, List, Param, Params, Value};
pub use via::Via;

pub(crate) use value::write_unfolded;
pub(crate) use via::write_number;

/// The longest message that is read, in bytes; a longer one is answered with 513.
pub const MAX_MESSAGE: usize = 65_536;

/// How the end of the message was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The bytes are one datagram: the body ends with it, bytes beyond `Content-Length` are
    /// ignored (RFC 3261 §18.3).
    Datagram,
    /// The bytes come from a stream, where `Content-Length` is required.
    Stream,
}

/// There is nothing to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only line ends, as sent to keep a flow alive")]
pub struct KeepAlive;

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'m> {
    /// `INVITE sip:a@h SIP/2.0`; the URI is not read yet.
    Request {
        /// The method, case-sensitive.
        method: &'m [u8],
        /// The request URI as sent.
        uri: &'m [u8],
    },
    /// `SIP/2.0 200 OK`.
    Response {
        /// 100 to 699.
        code: u16,
        /// The reason phrase; may be empty.
        reason: &'m [u8],
    },
    /// A request of another version than 2.0.
    OtherVersion {
        /// The method, case-sensitive.
        method: &'m [u8],
    },
    /// A request line that breaks the grammar.
    BrokenRequest {
        /// What stands before the first space, if it is a token; else empty.
        method: &'m [u8],
    },
    /// A status line that breaks the grammar or is of another version.
    BrokenResponse,
}

/// What is wrong with the header section or the framing; the first thing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Longer than [`MAX_MESSAGE`], or `Content-Length` says so on a stream.
    TooLarge,
    /// No empty line ends the header section.
    Unterminated,
    /// No `Content-Length` on a stream.
    NoLength,
    /// More than one `Content-Length`.
    RepeatedLength,
    /// `Content-Length` is no number.
    BadLength,
    /// `Content-Length` reaches beyond the datagram.
    ShortBody,
    /// A line that is no header.
    BadLine,
}

/// A header that is missing, repeated or malformed. Displays as a reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{problem} {name}")]
pub struct HeaderError {
    /// Which header.
    pub name: HeaderName,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// It is not there.
    Missing,
    /// It may be there only once.
    Duplicate,
    /// Its value breaks the grammar.
    Malformed,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Problem {
    /// The word for it in a reason phrase.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "Missing",
            Self::Duplicate => "Duplicate",
            Self::Malformed => "Malformed",
        }
    }
}

/// `CSeq`: the number and method of a request (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'m> {
    /// Less than 2³¹.
    pub number: u32,
    /// Case-sensitive.
    pub method: &'m [u8],
}

/// A message on the wire, indexed.
#[derive(Clone, Debug)]
pub struct Message<'m> {
    /// What the first line says.
    start: StartLine<'m>,
    /// The header lines, without the empty line behind them.
    section: &'m [u8],
    /// What follows the empty line, as far as `Content-Length` says.
    body: &'m [u8],
    /// Where each known header stands.
    slots: [Slot<'m>; HeaderName::ALL.len()],
    /// What is wrong, if anything.
    fault: Option<Fault>,
    /// Bytes of the whole message, if they are known: what a stream framer cuts off.
    length: Option<usize>,
}

/// Where a known header stands.
#[derive(Clone, Copy, Debug, Default)]
struct Slot<'m> {
    /// The value on its first line.
    first: Option<Value<'m>>,
    /// Number of its lines.
    count: u32,
    /// Offset in the header section of its first line.
    start: u32,
    /// Offset in the header section of the line after its first.
    after: u32,
    /// True if the first line reads `Name: value`, spelled as in a reply and with a CRLF, the only
    /// CR in it, at its end: it may stand in a reply as it is.
    is_plain: bool,
}

impl<'m> Message<'m> {
    /// Indexes the bytes of one datagram, or of one message cut from a stream.
    ///
    /// # Errors
    ///
    /// If there are no bytes but line ends. Whatever else is wrong is shown by the message itself.
    pub fn parse(bytes: &'m [u8], framing: Framing) -> Result<Self, KeepAlive> {
        let begin = bytes
            .iter()
            .position(|&byte| !matches!(byte, b'\r' | b'\n'))
            .ok_or(KeepAlive)?;
        let text = bytes.get(begin..).unwrap_or_default();
        let line_end = lex::find(b'\n', text).map_or(text.len(), |at| at + 1);
        let (line, rest) = text.split_at_checked(line_end).unwrap_or((text, &[]));
        let mut message = Self {
            start: read_start_line(strip_line_end(line)),
            section: &[],
            body: &[],
            slots: [Slot::default(); HeaderName::ALL.len()],
            fault: (bytes.len() > MAX_MESSAGE).then_some(Fault::TooLarge),
            length: None,
        };
        let head = begin + line_end;
        if let Some(section) = message.index(rest) {
            message.frame(bytes, head + section, framing);
        } else {
            message.note(Fault::Unterminated);
        }
        Ok(message)
    }

    /// What the first line says.
    #[must_use]
    pub fn start(&self) -> StartLine<'m> {
        self.start
    }

    /// What is wrong with the framing or the header section, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The body, as far as `Content-Length` says.
    #[must_use]
    pub fn body(&self) -> &'m [u8] {
        self.body
    }

    /// The method of a request, as sent; empty for a response.
    #[must_use]
    pub fn method_bytes(&self) -> &'m [u8] {
        match self.start {
            StartLine::Request { method, .. }
            | StartLine::OtherVersion { method }
            | StartLine::BrokenRequest { method } => method,
            StartLine::Response { .. } | StartLine::BrokenResponse => &[],
        }
    }

    /// The method of a request, if SIP knows it.
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        method_from_bytes(self.method_bytes())
    }

    /// Every header line in order.
    pub fn lines(&self) -> HeaderLines<'m> {
        HeaderLines::new(self.section, 0)
    }

    /// How many lines this header has.
    #[must_use]
    pub fn count(&self, name: HeaderName) -> usize {
        self.slot(name).count as usize
    }

    /// The value of each line of this header, in order; each may be a list.
    #[must_use]
    pub fn known(&self, name: HeaderName) -> Values<'m> {
        let slot = self.slot(name);
        Values::new(
            name,
            slot.first,
            slot.count.saturating_sub(1),
            HeaderLines::new(self.section, slot.after as usize),
        )
    }

    /// The value of the first line of this header.
    #[must_use]
    pub fn first(&self, name: HeaderName) -> Option<Value<'m>> {
        self.slot(name).first
    }

    /// The value of each line of any header, in order; long and compact names are the same.
    pub fn header<'n>(&self, name: &'n str) -> impl Iterator<Item = Value<'m>> + use<'m, 'n> {
        let known = HeaderName::from_bytes(name.as_bytes()).map(|name| self.known(name));
        let other = known
            .is_none()
            .then(|| self.lines())
            .into_iter()
            .flatten()
            .filter(move |line| line.is_named(name.as_bytes()))
            .map(|line| line.value);
        known.into_iter().flatten().chain(other)
    }

    /// The one value of a header that may occur only once.
    ///
    /// # Errors
    ///
    /// If it is missing or repeated.
    pub fn single(&self, name: HeaderName) -> Result<Value<'m>, HeaderError> {
        let problem = match self.slot(name).count {
            0 => Problem::Missing,
            1 => Problem::Malformed,
            _ => Problem::Duplicate,
        };
        match (problem, self.first(name)) {
            (Problem::Malformed, Some(value)) => Ok(value),
            _ => Err(HeaderError { name, problem }),
        }
    }

    /// Every `Via` value in order, over all lines; `None` for one that cannot be read.
    pub fn vias(&self) -> impl Iterator<Item = Option<Via<'m>>> + use<'m> {
        self.known(HeaderName::Via)
            .flat_map(Value::list)
            .map(Via::parse)
    }

    /// The top `Via`, if it says where a reply would go.
    #[must_use]
    pub fn top_via(&self) -> Option<Via<'m>> {
        let value = self.first(HeaderName::Via)?;
        Via::parse(value.split_first().0)
    }

    /// `CSeq`.
    ///
    /// # Errors
    ///
    /// If it is missing, repeated or malformed; a number of 2³¹ or more is malformed (§8.1.1.5).
    pub fn cseq(&self) -> Result<CSeq<'m>, HeaderError> {
        self.read(HeaderName::CSeq, |value| {
            let mut cursor = Cursor::new(value.as_bytes());
            let digits = cursor.take_while(|byte| byte.is_ascii_digit());
            let number = lex::decimal(digits).filter(|&number| number < 1 << 31)?;
            let gap = cursor.at();
            cursor.skip_space();
            let method = cursor.take_in(&lex::TOKEN);
            (cursor.at() > gap && !method.is_empty() && cursor.is_done()).then_some(CSeq {
                number: u32::try_from(number).ok()?,
                method,
            })
        })
    }

    /// `Call-ID`: any text without white space or control characters.
    ///
    /// # Errors
    ///
    /// If it is missing, repeated, empty or holds such a character.
    pub fn call_id(&self) -> Result<&'m [u8], HeaderError> {
        self.read(HeaderName::CallId, |value| {
            let text = value.as_bytes();
            let sound = !text.is_empty() && lex::position(text, Octets::is_invisible).is_none();
            sound.then_some(text)
        })
    }

    /// `From`.
    ///
    /// # Errors
    ///
    /// If it is missing, repeated or malformed.
    pub fn from(&self) -> Result<NameAddr<'m>, HeaderError> {
        self.read(HeaderName::From, NameAddr::parse)
    }

    /// `To`. Nobody is shown its display name here, so a broken one does not matter.
    ///
    /// # Errors
    ///
    /// If it is missing, repeated or malformed.
    pub fn to(&self) -> Result<NameAddr<'m>, HeaderError> {
        self.read(HeaderName::To, NameAddr::parse_any_name)
    }

    /// `Max-Forwards`; a message of RFC 2543 has none.
    ///
    /// # Errors
    ///
    /// If it is repeated or no number up to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        if self.count(HeaderName::MaxForwards) == 0 {
            return Ok(None);
        }
        self.read(HeaderName::MaxForwards, |value| {
            u8::try_from(lex::decimal(value.as_bytes())?).ok()
        })
        .map(Some)
    }

    /// Every option tag of `Require`, then those of `Proxy-Require`, in order.
    pub fn required_extensions(&self) -> impl Iterator<Item = Value<'m>> + use<'m> {
        self.known(HeaderName::Require)
            .chain(self.header("Proxy-Require"))
            .flat_map(Value::list)
            .filter(|tag| !tag.as_bytes().is_empty())
    }

    /// Bytes of the whole message, line ends before it included, if the head says how many.
    pub(crate) fn length(&self) -> Option<usize> {
        self.length
    }

    /// The first line of this header, its end included, if it may stand in a reply as it is; and
    /// where it starts in the header section.
    pub(crate) fn plain_line(&self, name: HeaderName) -> Option<std::ops::Range<usize>> {
        let slot = self.slot(name);
        slot.is_plain
            .then_some(slot.start as usize..slot.after as usize)
    }

    /// The header lines, without the empty line behind them.
    pub(crate) fn section(&self) -> &'m [u8] {
        self.section
    }

    /// Where a known header stands.
    #[inline]
    fn slot(&self, name: HeaderName) -> Slot<'m> {
        self.slots.get(name as usize).copied().unwrap_or_default()
    }

    /// Reads the one value of a header.
    fn read<T>(
        &self,
        name: HeaderName,
        parse: impl FnOnce(Value<'m>) -> Option<T>,
    ) -> Result<T, HeaderError> {
        parse(self.single(name)?).ok_or(HeaderError {
            name,
            problem: Problem::Malformed,
        })
    }

    /// Walks over the header lines; returns the bytes up to and with the empty line, if it is there.
    fn index(&mut self, rest: &'m [u8]) -> Option<usize> {
        let mut start = 0;
        loop {
            let text = rest.get(start..).unwrap_or_default();
            let empty_line = match text {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] => 1,
                _ => 0,
            };
            if empty_line > 0 {
                self.section = rest.get(..start).unwrap_or_default();
                return Some(start + empty_line);
            }
            // The first CR or LF nearly always starts the one CRLF of a line.
            let end = memchr::memchr2(b'\r', b'\n', text).unwrap_or(text.len());
            if let Some((line, [b'\r', b'\n', below @ ..])) = text.split_at_checked(end)
                && !header::is_fold(below.first())
            {
                self.index_usual(line, start);
                start += end + 2;
                continue;
            }
            let line = header::first_line(text);
            if !line.is_empty() {
                self.index_other(line, start);
            }
            if !line.ends_with(b"\n") {
                self.section = rest;
                return None;
            }
            start += line.len();
        }
    }

    /// Notes where the header on this line stands. The line has no line end in it; a CRLF follows.
    #[inline]
    fn index_usual(&mut self, line: &'m [u8], start: usize) {
        match header::split_usual(line) {
            Some((Some(name), rest)) => {
                let (value, is_plain) = match rest {
                    [b' ', text @ ..] if lex::is_trimmed(text) => (Value::trimmed(text), true),
                    _ => (Value::new(rest), false),
                };
                self.fill(name, value, start, start + line.len() + 2, is_plain);
            }
            // Well known, but never read.
            Some((None, _)) => {}
            None => self.index_split(line, start, start + line.len() + 2),
        }
    }

    /// The same for a line that may be folded or end in another way.
    #[cold]
    fn index_other(&mut self, line: &'m [u8], start: usize) {
        self.index_split(line, start, start + line.len());
    }

    /// The same for any name in any spelling; the line ends at this offset.
    fn index_split(&mut self, line: &'m [u8], start: usize, end: usize) {
        let Some(line) = header::split_line(line) else {
            self.note(Fault::BadLine);
            return;
        };
        if let Some(name) = HeaderName::from_bytes(line.name) {
            self.fill(name, line.value, start, end, false);
        }
    }

    /// Notes one line of a header that is read here.
    #[inline]
    fn fill(
        &mut self,
        name: HeaderName,
        value: Value<'m>,
        start: usize,
        end: usize,
        is_plain: bool,
    ) {
        let Some(slot) = self.slots.get_mut(name as usize) else {
            return;
        };
        slot.count += 1;
        if slot.first.is_none() {
            let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            *slot = Slot {
                first: Some(value),
                count: 1,
                start: offset(start),
                after: offset(end),
                is_plain,
            };
        }
    }

    /// Finds the body by `Content-Length`, and what is wrong with it.
    fn frame(&mut self, bytes: &'m [u8], head: usize, framing: Framing) {
        let rest = bytes.get(head..).unwrap_or_default();
        self.body = rest;
        let mut values = self.known(HeaderName::ContentLength);
        let length = match (values.next(), self.count(HeaderName::ContentLength)) {
            (None, _) => {
                if framing == Framing::Stream {
                    self.override_fault(Fault::NoLength);
                }
                return;
            }
            (Some(value), 1) => lex::decimal(value.as_bytes()),
            (Some(_), _) => {
                self.override_fault(Fault::RepeatedLength);
                return;
            }
        };
        let Some(length) = length else {
            self.override_fault(Fault::BadLength);
            return;
        };
        let total =
            usize::try_from(length).map_or(usize::MAX, |length| head.saturating_add(length));
        if framing == Framing::Stream {
            if total > MAX_MESSAGE {
                self.override_fault(Fault::TooLarge);
                return;
            }
            self.length = Some(total);
        }
        match bytes.get(head..total) {
            Some(body) => self.body = body,
            None => self.override_fault(Fault::ShortBody),
        }
    }

    /// Notes a fault unless there is one already.
    fn note(&mut self, fault: Fault) {
        self.fault = self.fault.or(Some(fault));
    }

    /// Notes a fault of the framing, which counts before a bad line.
    fn override_fault(&mut self, fault: Fault) {
        if matches!(self.fault, None | Some(Fault::BadLine)) {
            self.fault = Some(fault);
        }
    }
}

/// The method of this name, compared case-sensitively (RFC 3261 §7.1); `None` if SIP knows none.
#[must_use]
pub fn method_from_bytes(method: &[u8]) -> Option<Method> {
    Some(match method {
        b"INVITE" => Method::Invite,
        b"ACK" => Method::Ack,
        b"CANCEL" => Method::Cancel,
        b"OPTIONS" => Method::Options,
        b"BYE" => Method::Bye,
        b"REGISTER" => Method::Register,
        b"SUBSCRIBE" => Method::Subscribe,
        b"NOTIFY" => Method::Notify,
        b"MESSAGE" => Method::Message,
        b"REFER" => Method::Refer,
        b"INFO" => Method::Info,
        b"UPDATE" => Method::Update,
        b"PRACK" => Method::PRack,
        b"PUBLISH" => Method::Publish,
        _ => return None,
    })
}

/// Cuts off CRLF or LF.
fn strip_line_end(line: &[u8]) -> &[u8] {
    match line {
        [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] | line => line,
    }
}

/// Reads the first line, without its line end.
fn read_start_line(line: &[u8]) -> StartLine<'_> {
    let is_response = line
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"));
    if is_response {
        return read_status_line(line).unwrap_or(StartLine::BrokenResponse);
    }
    let (method, rest) = lex::split_once(line, b' ');
    let method_is_token = lex::is_token_text(method);
    let broken = StartLine::BrokenRequest {
        method: if method_is_token { method } else { &[] },
    };
    let Some((uri, Some(version))) = rest.map(|rest| lex::split_once(rest, b' ')) else {
        return broken;
    };
    if !method_is_token || uri.is_empty() {
        return broken;
    }
    if version == b"SIP/2.0" || version.eq_ignore_ascii_case(b"SIP/2.0") {
        StartLine::Request { method, uri }
    } else if is_version(version) {
        StartLine::OtherVersion { method }
    } else {
        broken
    }
}

/// Reads `SIP/2.0 200 OK`; the space before an empty reason may be missing.
fn read_status_line(line: &[u8]) -> Option<StartLine<'_>> {
    let (version, rest) = line.split_at_checked(8)?;
    if !version.eq_ignore_ascii_case(b"SIP/2.0 ") {
        return None;
    }
    let (code, reason) = rest.split_at_checked(3)?;
    let code = u16::try_from(lex::decimal(code)?).ok()?;
    let reason = match reason {
        [] => reason,
        [b' ', reason @ ..] => reason,
        _ => return None,
    };
    (100..700)
        .contains(&code)
        .then_some(StartLine::Response { code, reason })
}

/// `"SIP" "/" 1*DIGIT "." 1*DIGIT`, in any case.
fn is_version(version: &[u8]) -> bool {
    let Some((name, number)) = version.split_at_checked(4) else {
        return false;
    };
    let mut parts = number.split(|&byte| byte == b'.');
    let digits = |part: Option<&[u8]>| {
        part.is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
    };
    name.eq_ignore_ascii_case(b"SIP/")
        && digits(parts.next())
        && digits(parts.next())
        && parts.next().is_none()
}
