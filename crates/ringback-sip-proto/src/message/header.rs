//! Header lines and the names this crate reads itself.

use std::fmt;

use super::value::Value;
use crate::lex;

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
    /// `P-Asserted-Identity` (RFC 3325).
    PAssertedIdentity,
    /// `Remote-Party-ID` (draft-ietf-sip-privacy-04, as devices send it).
    RemotePartyId,
}

impl HeaderName {
    /// Every one of them, in the order of their discriminants.
    pub(crate) const ALL: [Self; 11] = [
        Self::Via,
        Self::CallId,
        Self::CSeq,
        Self::From,
        Self::To,
        Self::MaxForwards,
        Self::ContentLength,
        Self::ContentType,
        Self::Require,
        Self::PAssertedIdentity,
        Self::RemotePartyId,
    ];

    /// Reads a name in any case, compact forms included.
    #[must_use]
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        let candidate = match name {
            [letter] => {
                return match letter.to_ascii_lowercase() {
                    b'v' => Some(Self::Via),
                    b'i' => Some(Self::CallId),
                    b'f' => Some(Self::From),
                    b't' => Some(Self::To),
                    b'l' => Some(Self::ContentLength),
                    b'c' => Some(Self::ContentType),
                    _ => None,
                };
            }
            [_, _] => Self::To,
            [_, _, _] => Self::Via,
            [b'F' | b'f', _, _, _] => Self::From,
            [_, _, _, _] => Self::CSeq,
            [b'R' | b'r', _, _, _, _, _, _] => Self::Require,
            [_, _, _, _, _, _, _] => Self::CallId,
            _ => match (name.len(), name.first()) {
                (12, Some(b'M' | b'm')) => Self::MaxForwards,
                (12, _) => Self::ContentType,
                (14, _) => Self::ContentLength,
                (15, _) => Self::RemotePartyId,
                (19, _) => Self::PAssertedIdentity,
                _ => return None,
            },
        };
        name.eq_ignore_ascii_case(candidate.as_str().as_bytes())
            .then_some(candidate)
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

    /// Offset of the next line.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// True if the next line is the empty one.
    pub(crate) fn at_empty_line(&self) -> bool {
        matches!(
            self.section.get(self.at..),
            Some([b'\n', ..] | [b'\r', b'\n', ..])
        )
    }

    /// The next line up to and with its end, all its folds included.
    pub(crate) fn next_raw(&mut self) -> Option<&'m [u8]> {
        let rest = self
            .section
            .get(self.at..)
            .filter(|rest| !rest.is_empty())?;
        let mut end = 0;
        loop {
            let Some(found) = memchr::memchr(b'\n', rest.get(end..).unwrap_or_default()) else {
                end = rest.len();
                break;
            };
            end += found + 1;
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        self.at += end;
        rest.get(..end)
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

/// Splits a line at its colon; `None` if it is no header line.
pub(crate) fn split_line(line: &[u8]) -> Option<HeaderLine<'_>> {
    let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    let name = match name {
        [rest @ .., b' ' | b'\t'] => {
            let mut name = rest;
            while let [rest @ .., b' ' | b'\t'] = name {
                name = rest;
            }
            name
        }
        name => name,
    };
    Some(HeaderLine {
        name,
        value: Value::new(value.get(1..)?),
    })
}

/// True if the text is a header name.
pub(crate) fn is_name(name: &[u8]) -> bool {
    lex::is_token_text(name)
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
    fn discriminants_are_places_in_all() {
        for (place, name) in HeaderName::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, place);
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
