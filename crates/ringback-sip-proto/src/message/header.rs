//! Header lines and the names this crate reads itself.

use std::fmt;

use super::value::Value;
use crate::lex::{self, Cursor, TOKEN};

/// A header that the message layer finds without searching.
///
/// Every other header is found by its name with [`Message::header`](super::Message::header).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HeaderName {
    /// `Via`, `v`.
    Via,
    /// `Call-ID`, `i`.
    CallId,
    /// `CSeq`.
    CSeq,
    /// `From`, `f`.
    From,
    /// `To`, `t`.
    To,
    /// `Max-Forwards`.
    MaxForwards,
    /// `Content-Length`, `l`.
    ContentLength,
    /// `Content-Type`, `c`.
    ContentType,
    /// `Require`.
    Require,
    /// `Proxy-Require`.
    ProxyRequire,
    /// `Route`.
    Route,
    /// `Record-Route`.
    RecordRoute,
    /// `P-Asserted-Identity` (RFC 3325).
    PAssertedIdentity,
    /// `Remote-Party-ID` (draft-ietf-sip-privacy-04, as devices send it).
    RemotePartyId,
}

impl HeaderName {
    /// Every one of them, in the order of their discriminants.
    pub(crate) const ALL: [Self; 14] = [
        Self::Via,
        Self::CallId,
        Self::CSeq,
        Self::From,
        Self::To,
        Self::MaxForwards,
        Self::ContentLength,
        Self::ContentType,
        Self::Require,
        Self::ProxyRequire,
        Self::Route,
        Self::RecordRoute,
        Self::PAssertedIdentity,
        Self::RemotePartyId,
    ];

    /// Reads a name in any case, compact forms included.
    #[must_use]
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        let (&[first, ..], &[.., last]) = (name, name) else {
            return None;
        };
        // Length and the letters at both ends leave one candidate; letters differ by one bit.
        let candidate = match (name.len(), first | 0x20, last | 0x20) {
            (1, b'v', _) => return Some(Self::Via),
            (1, b'i', _) => return Some(Self::CallId),
            (1, b'f', _) => return Some(Self::From),
            (1, b't', _) => return Some(Self::To),
            (1, b'l', _) => return Some(Self::ContentLength),
            (1, b'c', _) => return Some(Self::ContentType),
            (2, b't', b'o') => Self::To,
            (3, b'v', b'a') => Self::Via,
            (4, b'f', b'm') => Self::From,
            (4, b'c', b'q') => Self::CSeq,
            (5, b'r', b'e') => Self::Route,
            (7, b'c', b'd') => Self::CallId,
            (7, b'r', b'e') => Self::Require,
            (12, b'm', b's') => Self::MaxForwards,
            (12, b'c', b'e') => Self::ContentType,
            (12, b'r', b'e') => Self::RecordRoute,
            (13, b'p', b'e') => Self::ProxyRequire,
            (14, b'c', b'h') => Self::ContentLength,
            (15, b'r', b'd') => Self::RemotePartyId,
            (19, b'p', b'y') => Self::PAssertedIdentity,
            _ => return None,
        };
        let expected = candidate.as_str().as_bytes();
        // Most senders write the name as we do, and that is compared faster.
        (name == expected || name.eq_ignore_ascii_case(expected)).then_some(candidate)
    }

    /// The name as it is written in a reply.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Via => "Via",
            Self::CallId => "Call-ID",
            Self::CSeq => "CSeq",
            Self::From => "From",
            Self::To => "To",
            Self::MaxForwards => "Max-Forwards",
            Self::ContentLength => "Content-Length",
            Self::ContentType => "Content-Type",
            Self::Require => "Require",
            Self::ProxyRequire => "Proxy-Require",
            Self::Route => "Route",
            Self::RecordRoute => "Record-Route",
            Self::PAssertedIdentity => "P-Asserted-Identity",
            Self::RemotePartyId => "Remote-Party-ID",
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One header line, folds included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderLine<'m> {
    /// The name as sent.
    pub name: &'m [u8],
    /// The value, which may be a list.
    pub value: Value<'m>,
    /// The whole line as sent, its folds and its end included: what a proxy copies.
    pub raw: &'m [u8],
}

impl HeaderLine<'_> {
    /// True if this line bears the name, in any case and in either form, long or compact.
    #[must_use]
    pub fn is_named(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
            || long_name(self.name).eq_ignore_ascii_case(long_name(name))
    }
}

/// Iterates over header lines in the order they were sent.
#[derive(Clone, Debug)]
pub struct HeaderLines<'m> {
    /// The header section, without the empty line that ends it.
    section: &'m [u8],
    /// Offset of the next line in the section.
    at: usize,
}

impl<'m> HeaderLines<'m> {
    /// Iterates from this offset on, which must be the start of a line.
    pub(crate) fn new(section: &'m [u8], at: usize) -> Self {
        Self { section, at }
    }

    /// The next line up to and with its end, all its folds included.
    fn next_raw(&mut self) -> Option<&'m [u8]> {
        let rest = self
            .section
            .get(self.at..)
            .filter(|rest| !rest.is_empty())?;
        let line = first_line(rest);
        self.at += line.len();
        Some(line)
    }
}

impl<'m> Iterator for HeaderLines<'m> {
    type Item = HeaderLine<'m>;

    fn next(&mut self) -> Option<HeaderLine<'m>> {
        loop {
            // A line that is no header was noted when the message was read.
            if let Some(line) = split_line(self.next_raw()?) {
                return Some(line);
            }
        }
    }
}

/// Iterates over the values of one known header, one for each line.
#[derive(Clone, Debug)]
pub struct Values<'m> {
    /// Which header.
    name: HeaderName,
    /// The value of the first line, until it was given out.
    first: Option<Value<'m>>,
    /// How many lines come after it.
    left: u32,
    /// The lines after the first.
    lines: HeaderLines<'m>,
}

impl<'m> Values<'m> {
    /// Starts with the first value; `lines` come after it.
    pub(crate) fn new(
        name: HeaderName,
        first: Option<Value<'m>>,
        left: u32,
        lines: HeaderLines<'m>,
    ) -> Self {
        Self {
            name,
            first,
            left,
            lines,
        }
    }
}

impl<'m> Iterator for Values<'m> {
    type Item = Value<'m>;

    fn next(&mut self) -> Option<Value<'m>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        self.left = self.left.checked_sub(1)?;
        let line = self
            .lines
            .find(|line| HeaderName::from_bytes(line.name) == Some(self.name))?;
        Some(line.value)
    }
}

/// True if a header may be called this: names are tokens (RFC 3261 §25.1).
#[must_use]
pub fn is_header_name(name: &[u8]) -> bool {
    lex::is_token_text(name)
}

/// True if a line that starts with this byte goes on with the one before.
pub(crate) fn is_fold(first: Option<&u8>) -> bool {
    matches!(first, Some(b' ' | b'\t'))
}

/// The first line up to and with its end, all its folds included; all of it if there is no end.
pub(crate) fn first_line(text: &[u8]) -> &[u8] {
    memchr::memchr_iter(b'\n', text)
        .map(|found| found + 1)
        .find(|&end| !is_fold(text.get(end)))
        .and_then(|end| text.get(..end))
        .unwrap_or(text)
}

/// The header at the start of a line, if it is read here, and what follows its colon; for a line
/// that is written as most senders write it. Much faster than [`split_line`], which decides the rest.
#[inline]
pub(crate) fn split_usual(line: &[u8]) -> Option<(Option<HeaderName>, &[u8])> {
    /// Tries the usual spellings one after the other.
    macro_rules! usual {
        ($($text:literal => $name:expr),*) => {{
            $(if let Some(rest) = line.strip_prefix($text) {
                return Some(($name, rest));
            })*
            None
        }};
    }
    match line.first()? {
        b'V' => usual!(b"Via:" => Some(HeaderName::Via)),
        b'F' => usual!(b"From:" => Some(HeaderName::From)),
        b'T' => usual!(b"To:" => Some(HeaderName::To)),
        b'C' => usual!(
            b"Call-ID:" => Some(HeaderName::CallId),
            b"CSeq:" => Some(HeaderName::CSeq),
            b"Contact:" => None,
            b"Content-Length:" => Some(HeaderName::ContentLength),
            b"Content-Type:" => Some(HeaderName::ContentType)
        ),
        b'M' => usual!(b"Max-Forwards:" => Some(HeaderName::MaxForwards)),
        b'P' => usual!(b"P-Asserted-Identity:" => Some(HeaderName::PAssertedIdentity)),
        b'R' => usual!(
            b"Record-Route:" => Some(HeaderName::RecordRoute),
            b"Route:" => Some(HeaderName::Route)
        ),
        b'A' => usual!(b"Allow:" => None),
        b'S' => usual!(b"Supported:" => None),
        b'U' => usual!(b"User-Agent:" => None),
        _ => None,
    }
}

/// Splits a line at its colon; `None` if it is no header line: the name must be a token.
#[inline]
pub(crate) fn split_line(line: &[u8]) -> Option<HeaderLine<'_>> {
    let (name, rest) = split_name(line)?;
    let value = Value::new(rest);
    Some(HeaderLine {
        name,
        value,
        raw: line,
    })
}

/// The same; what follows the colon keeps the white space around it.
#[inline]
pub(super) fn split_name(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut cursor = Cursor::new(line);
    let name = cursor.take_in(&TOKEN);
    while cursor.eat(b' ') || cursor.eat(b'\t') {}
    (cursor.eat(b':') && !name.is_empty()).then(|| (name, cursor.rest()))
}

/// The long form of a compact name (RFC 3261 §20 and the IANA registry), else the name itself.
fn long_name(name: &[u8]) -> &[u8] {
    let &[letter] = name else {
        return name;
    };
    match letter.to_ascii_lowercase() {
        b'a' => b"Accept-Contact",
        b'b' => b"Referred-By",
        b'c' => b"Content-Type",
        b'd' => b"Request-Disposition",
        b'e' => b"Content-Encoding",
        b'f' => b"From",
        b'i' => b"Call-ID",
        b'j' => b"Reject-Contact",
        b'k' => b"Supported",
        b'l' => b"Content-Length",
        b'm' => b"Contact",
        b'n' => b"Identity-Info",
        b'o' => b"Event",
        b'r' => b"Refer-To",
        b's' => b"Subject",
        b't' => b"To",
        b'u' => b"Allow-Events",
        b'v' => b"Via",
        b'x' => b"Session-Expires",
        b'y' => b"Identity",
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_in_both_forms() {
        for name in HeaderName::ALL {
            let upper = name.as_str().to_ascii_uppercase();
            assert_eq!(HeaderName::from_bytes(upper.as_bytes()), Some(name));
        }
        assert_eq!(HeaderName::from_bytes(b"V"), Some(HeaderName::Via));
        assert_eq!(HeaderName::from_bytes(b"Vio"), None);
        assert_eq!(HeaderName::from_bytes(b""), None);
    }

    #[test]
    fn usual_lines_are_split_as_all_others() {
        for name in HeaderName::ALL {
            let line = format!("{name}: some value\r\n");
            let Some((found, rest)) = split_usual(line.as_bytes()) else {
                continue;
            };
            let split = split_line(line.as_bytes()).unwrap();
            assert_eq!(found, HeaderName::from_bytes(split.name));
            assert_eq!(Value::new(rest), split.value);
        }
        for line in ["Allow: x", "Contact: x", "Supported: x", "User-Agent:"] {
            let (found, rest) = split_usual(line.as_bytes()).unwrap();
            let split = split_line(line.as_bytes()).unwrap();
            assert_eq!(found, HeaderName::from_bytes(split.name));
            assert_eq!(Value::new(rest), split.value);
        }
        assert!(split_usual(b"Vi").is_none());
        assert!(split_usual(b"Date: x").is_none());
    }

    #[test]
    fn discriminants_are_indexes_in_all() {
        for (index, name) in HeaderName::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, index);
        }
    }

    #[test]
    fn compact_and_long_names_are_the_same_header() {
        let line = split_line(b"m: <sip:a@h>\r\n").unwrap();
        assert!(line.is_named(b"Contact"));
        assert!(line.is_named(b"M"));
        assert!(!line.is_named(b"To"));
    }

    #[test]
    fn space_before_the_colon_is_no_part_of_the_name() {
        let line = split_line(b"Subject \t :  x \r\n  y\r\n").unwrap();
        assert_eq!(line.name, b"Subject");
        assert_eq!(line.value.as_bytes(), b"x \r\n  y");
    }
}
