//! Where everything stands in a message: offsets into its bytes, so that an index is as good for bytes that are kept
//! as for those that just arrived.

use std::ops::Range;

use super::header::{self, HeaderLines, HeaderName, Values};
use super::{Fault, Framing, KeepAlive, MAX_MESSAGE, StartLine, Value};
use crate::lex;

/// Where everything stands in a message.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// What the first line says.
    start: Start,
    /// The header lines, without the empty line behind them.
    pub(super) section: Span,
    /// What follows the empty line, as far as `Content-Length` says.
    pub(super) body: Span,
    /// Where each known header stands.
    slots: [Slot; HeaderName::ALL.len()],
    /// What is wrong, if anything.
    pub(super) fault: Option<Fault>,
    /// Bytes of the whole message, if they are known: what a stream framer cuts off.
    pub(super) length: Option<usize>,
}

/// A part of a message, by offsets into its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Where it starts.
    start: u32,
    /// Where it ends.
    end: u32,
}

/// The first line, as [`StartLine`].
#[derive(Clone, Copy, Debug)]
enum Start {
    /// A request.
    Request { method: Span, uri: Span },
    /// A response.
    Response { code: u16, reason: Span },
    /// A request of another version.
    OtherVersion { method: Span },
    /// A request line that breaks the grammar.
    BrokenRequest { method: Span },
    /// A status line that does.
    BrokenResponse,
}

/// Where a known header stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Number of its lines; if there is none, all else says nothing.
    pub(super) count: u32,
    /// Its first line, with the end of it.
    pub(super) line: Span,
    /// The value on that line.
    value: Span,
    /// True if that line reads `Name: value`, spelled as in a reply and with a CRLF, the only
    /// CR in it, at its end: it may stand in a reply as it is.
    pub(super) is_plain: bool,
}

impl Span {
    /// From one offset to another, both within a message.
    fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= MOST_BYTES, "no more is indexed");
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Where it starts.
    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    /// From where to where.
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The part itself, of the bytes that were indexed.
    #[inline]
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        lex::cut(bytes, self.range())
    }
}

impl Slot {
    /// That of a header that is not there.
    const NONE: Self = Self {
        count: 0,
        line: Span { start: 0, end: 0 },
        value: Span { start: 0, end: 0 },
        is_plain: false,
    };
}

impl Index {
    /// The index of nothing.
    pub(super) const fn new() -> Self {
        Self {
            start: Start::BrokenResponse,
            section: Span { start: 0, end: 0 },
            body: Span { start: 0, end: 0 },
            slots: [Slot::NONE; HeaderName::ALL.len()],
            fault: None,
            length: None,
        }
    }

    /// Indexes the bytes of one datagram, or of one message cut from a stream; in place, which spares a copy.
    ///
    /// # Errors
    ///
    /// If there are no bytes but line ends.
    pub(super) fn read(&mut self, bytes: &[u8], framing: Framing) -> Result<(), KeepAlive> {
        self.fault = (bytes.len() > MAX_MESSAGE).then_some(Fault::TooLarge);
        // Too large anyway; what is behind could not be addressed.
        let bytes = bytes.get(..MOST_BYTES).unwrap_or(bytes);
        let begin = bytes
            .iter()
            .position(|&byte| !matches!(byte, b'\r' | b'\n'))
            .ok_or(KeepAlive)?;
        let text = lex::tail(bytes, begin);
        let head = begin + lex::find(b'\n', text).map_or(text.len(), |at| at + 1);
        let line = strip_line_end(lex::cut(bytes, begin..head));
        self.start = Start::of(read_start_line(line), begin, begin + line.len());
        match self.walk(bytes, head) {
            Some(body) => self.frame(bytes, body, framing),
            None => self.note(Fault::Unterminated),
        }
        Ok(())
    }

    /// What the first line says.
    pub(super) fn start_line<'m>(&self, bytes: &'m [u8]) -> StartLine<'m> {
        match self.start {
            Start::Request { method, uri } => StartLine::Request {
                method: method.of(bytes),
                uri: uri.of(bytes),
            },
            Start::Response { code, reason } => StartLine::Response {
                code,
                reason: reason.of(bytes),
            },
            Start::OtherVersion { method } => StartLine::OtherVersion {
                method: method.of(bytes),
            },
            Start::BrokenRequest { method } => StartLine::BrokenRequest {
                method: method.of(bytes),
            },
            Start::BrokenResponse => StartLine::BrokenResponse,
        }
    }

    /// Where a known header stands.
    #[inline]
    pub(super) fn slot(&self, name: HeaderName) -> &Slot {
        &self.slots[name as usize]
    }

    /// The value of the first line of a header.
    #[inline]
    pub(super) fn first<'m>(&self, bytes: &'m [u8], name: HeaderName) -> Option<Value<'m>> {
        let slot = self.slot(name);
        (slot.count > 0).then(|| Value::trimmed(slot.value.of(bytes)))
    }

    /// The value of each line of a header, in order.
    pub(super) fn known<'m>(&self, bytes: &'m [u8], name: HeaderName) -> Values<'m> {
        let slot = self.slot(name);
        Values::new(
            name,
            self.first(bytes, name),
            slot.count.saturating_sub(1),
            self.lines_from(bytes, slot.line.range().end),
        )
    }

    /// The header lines from this offset on.
    pub(super) fn lines_from<'m>(&self, bytes: &'m [u8], at: usize) -> HeaderLines<'m> {
        HeaderLines::new(lex::head(bytes, self.section.range().end), at)
    }

    /// Walks over the header lines, the first of which starts at `start`; gives where the body starts, if the empty
    /// line before it is there.
    fn walk(&mut self, bytes: &[u8], mut start: usize) -> Option<usize> {
        let section = start;
        loop {
            let text = lex::tail(bytes, start);
            let empty_line = match text {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] => 1,
                _ => 0,
            };
            if empty_line > 0 {
                self.section = Span::new(section, start);
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
                self.section = Span::new(section, bytes.len());
                return None;
            }
            start += line.len();
        }
    }

    /// Notes where the header on this line stands, which starts at this offset. The line has no line end in it; a
    /// CRLF follows.
    #[inline]
    fn index_usual(&mut self, line: &[u8], start: usize) {
        let end = start + line.len();
        let whole = Span::new(start, end + 2);
        match header::split_usual(line) {
            Some((Some(name), [b' ', text @ ..])) if lex::is_trimmed(text) => {
                self.fill(name, whole, Span::new(end - text.len(), end), true);
            }
            Some((Some(name), rest)) => self.fill(name, whole, trimmed(rest, end), false),
            // Well known, but never read.
            Some((None, _)) => {}
            None => self.index_split(line, end, whole),
        }
    }

    /// The same for a line that may be folded or end in another way.
    #[cold]
    fn index_other(&mut self, line: &[u8], start: usize) {
        let end = start + line.len();
        self.index_split(line, end, Span::new(start, end));
    }

    /// The same for any name in any spelling; the line ends at this offset.
    fn index_split(&mut self, line: &[u8], end: usize, whole: Span) {
        let Some((name, rest)) = header::split_name(line) else {
            self.note(Fault::BadLine);
            return;
        };
        if let Some(name) = HeaderName::from_bytes(name) {
            self.fill(name, whole, trimmed(rest, end), false);
        }
    }

    /// Notes one line of a header that is read here.
    #[inline]
    fn fill(&mut self, name: HeaderName, line: Span, value: Span, is_plain: bool) {
        let slot = &mut self.slots[name as usize];
        slot.count += 1;
        if slot.count == 1 {
            (slot.line, slot.value, slot.is_plain) = (line, value, is_plain);
        }
    }

    /// Finds the body, which starts at this offset, by `Content-Length`, and what is wrong with it.
    fn frame(&mut self, bytes: &[u8], head: usize, framing: Framing) {
        self.body = Span::new(head, bytes.len());
        let value = self.first(bytes, HeaderName::ContentLength);
        let length = match (value, self.slot(HeaderName::ContentLength).count) {
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
        if total <= bytes.len() {
            self.body = Span::new(head, total);
        } else {
            self.override_fault(Fault::ShortBody);
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

impl Start {
    /// Takes down a line that was read, and stands from one offset to another.
    fn of(line: StartLine<'_>, start: usize, end: usize) -> Self {
        // A method starts the line; the URI follows its space; a reason ends the line.
        let method = |method: &[u8]| Span::new(start, start + method.len());
        match line {
            StartLine::Request { method: name, uri } => {
                let at = start + name.len() + 1;
                Self::Request {
                    method: method(name),
                    uri: Span::new(at, at + uri.len()),
                }
            }
            StartLine::Response { code, reason } => Self::Response {
                code,
                reason: Span::new(end - reason.len(), end),
            },
            StartLine::OtherVersion { method: name } => Self::OtherVersion {
                method: method(name),
            },
            StartLine::BrokenRequest { method: name } => Self::BrokenRequest {
                method: method(name),
            },
            StartLine::BrokenResponse => Self::BrokenResponse,
        }
    }
}

/// Where a text without the white space around it stands, if with it it ends at this offset.
fn trimmed(text: &[u8], end: usize) -> Span {
    let from_start = lex::trim_start(text);
    let start = end - from_start.len();
    Span::new(start, start + lex::trim_end(from_start).len())
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

/// How much of a message is indexed, whatever its length: as far as offsets reach.
const MOST_BYTES: usize = u32::MAX as usize;
