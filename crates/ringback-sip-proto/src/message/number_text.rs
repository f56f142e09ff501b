//! Text that may be a phone number: what a URI or a header says about who calls and who is called.

use super::header::HeaderName;
use super::name_addr::NameAddr;
use super::value::Value;
use super::{Message, StartLine};
use crate::lex::{self, Octets};
use crate::uri::{Scheme, Uri, is_visual_separator, reads_as, user_before_anything};

/// Where the caller's number is read, in the order of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentitySource {
    /// `P-Asserted-Identity` (RFC 3325), from peers trusted for it.
    PAssertedIdentity,
    /// `Remote-Party-ID`, likewise.
    RemotePartyId,
    /// `From`.
    From,
    /// `P-Preferred-Identity` (RFC 3325 §9.2): what a user agent asks to be asserted.
    PPreferredIdentity,
    /// `Diversion` (RFC 5806): who was called before and has diverted the call, the latest first.
    Diversion,
}

impl IdentitySource {
    /// The header it is: one that is indexed, or another.
    const fn header(self) -> (Option<HeaderName>, Option<&'static str>) {
        match self {
            Self::PAssertedIdentity => (Some(HeaderName::PAssertedIdentity), None),
            Self::RemotePartyId => (Some(HeaderName::RemotePartyId), None),
            Self::From => (Some(HeaderName::From), None),
            Self::PPreferredIdentity => (None, Some("P-Preferred-Identity")),
            Self::Diversion => (None, Some("Diversion")),
        }
    }
}

/// A candidate for a phone number, unescaped and without URI around it, in a fixed buffer.
///
/// The user part of a `sip:` URI up to its first semicolon, the number of a `tel:` URI, or bare
/// text. Where a `phone-context` holds the leading digits of a global number (RFC 3966 §5.1.5)
/// and the number is a local one, they stand in front. Visual separators are kept: normalization
/// by country is for whoever knows the country.
///
/// Empty means that no user was named. `anonymous` stands for any user at `anonymous.invalid`.
/// What cannot be read, or is too long for any number, is `?`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NumberText {
    /// The characters.
    text: [u8; Self::CAPACITY],
    /// How many there are.
    length: u8,
}

impl NumberText {
    /// The longest text kept, in bytes. E.164 needs 16; the rest is for separators.
    pub const CAPACITY: usize = 63;

    /// The characters, ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text
            .get(..usize::from(self.length))
            .and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or("?")
    }

    /// What a URI names.
    #[must_use]
    pub fn from_uri(uri: &Uri<'_>) -> Self {
        if uri.scheme() == Scheme::Other {
            return Self::unreadable();
        }
        let nowhere = uri
            .host()
            .is_some_and(|host| host.as_bytes().eq_ignore_ascii_case(b"anonymous.invalid"));
        if nowhere {
            return Self::from_bytes(b"anonymous");
        }
        Self::from_user(
            uri.user().unwrap_or_default(),
            uri.param("phone-context").unwrap_or_default(),
        )
    }

    /// What a user part names. `context` is the `phone-context` that stands elsewhere in the URI.
    fn from_user(user: &[u8], context: &[u8]) -> Self {
        let (number, params) = lex::split_once(user, b';');
        let mut text = Self::empty();
        let is_local = number.first().is_some_and(|&first| first != b'+');
        if is_local {
            let context = params
                .unwrap_or_default()
                .split(|&byte| byte == b';')
                .find_map(|param| match lex::split_once(param, b'=') {
                    (name, Some(value)) if reads_as(name, "phone-context") => Some(value),
                    _ => None,
                })
                .unwrap_or(context);
            if is_global_prefix(context) {
                for (byte, _) in lex::unescape(context) {
                    if !is_visual_separator(byte) {
                        text.push(byte);
                    }
                }
            }
        }
        if lex::find(b'%', number).is_none() {
            text.push_all(number);
        } else {
            for (byte, _) in lex::unescape(number) {
                text.push(byte);
            }
        }
        text.finish()
    }

    /// What a header value names: a name-addr, a URI or bare text.
    #[must_use]
    pub fn from_value(value: Value<'_>) -> Self {
        if let Some(address) = NameAddr::parse_any_name(value) {
            return Self::from_uri_bytes(address.uri_bytes());
        }
        let bytes = value.as_bytes();
        let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let text = lex::trim(bytes.get(..end).unwrap_or_default());
        let text = text
            .strip_prefix(b"\"")
            .and_then(|text| text.strip_suffix(b"\""))
            .unwrap_or(text);
        Self::from_bytes(text)
    }

    /// What URI text names. A user without characters is empty here, though the grammar wants one;
    /// and a user is read whatever is wrong with the host behind it.
    fn from_uri_bytes(uri: &[u8]) -> Self {
        match Uri::parse(uri) {
            Ok(uri) => Self::from_uri(&uri),
            Err(_) => match (
                user_before_anything(uri),
                uri.split(|&byte| byte == b':').nth(1),
            ) {
                (Some(user), _) => Self::from_user(user, b""),
                (None, Some([] | [b'@', ..])) => Self::empty(),
                _ => Self::unreadable(),
            },
        }
    }

    /// Bare text.
    fn from_bytes(bytes: &[u8]) -> Self {
        let mut text = Self::empty();
        text.push_all(bytes);
        text.finish()
    }

    /// No characters.
    const fn empty() -> Self {
        Self {
            text: [0; Self::CAPACITY],
            length: 0,
        }
    }

    /// What stands for unreadable text.
    const fn unreadable() -> Self {
        let mut text = Self::empty();
        text.text[0] = b'?';
        text.length = 1;
        text
    }

    /// Adds a character; beyond the capacity only the length grows, by one.
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(usize::from(self.length)) {
            *place = if byte.is_ascii_graphic() || byte == b' ' {
                byte
            } else {
                b'?'
            };
            self.length += 1;
        } else {
            self.length = u8::MAX;
        }
    }

    /// Adds characters.
    fn push_all(&mut self, bytes: &[u8]) {
        let start = usize::from(self.length);
        let place = self.text.get_mut(start..start + bytes.len());
        match place {
            Some(place) if lex::position(bytes, is_not_graphic).is_none() => {
                place.copy_from_slice(bytes);
                self.length += bytes.len() as u8;
            }
            _ => bytes.iter().for_each(|&byte| self.push(byte)),
        }
    }

    /// Turns what did not fit into what is unreadable.
    fn finish(self) -> Self {
        if self.length == u8::MAX {
            Self::unreadable()
        } else {
            self
        }
    }
}

impl std::fmt::Debug for NumberText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(formatter)
    }
}

impl<'m> Message<'m> {
    /// What a source says about the caller: every value of every line, in order; of `Remote-Party-ID` those that are
    /// not of the party called.
    ///
    /// Nothing if the header is not there.
    pub fn caller(&self, source: IdentitySource) -> impl Iterator<Item = NumberText> + use<'m> {
        let (indexed, other) = source.header();
        let indexed = indexed.map(|name| self.known(name)).into_iter().flatten();
        let other = other.map(|name| self.header(name)).into_iter().flatten();
        indexed
            .chain(other)
            .flat_map(Value::list)
            .filter(move |value| source != IdentitySource::RemotePartyId || !is_of_called(*value))
            .map(NumberText::from_value)
    }

    /// What the request URI's user names; `None` of anything but a request that can be read.
    #[must_use]
    pub fn request_uri_number(&self) -> Option<NumberText> {
        match self.start {
            StartLine::Request { uri, .. } => Some(NumberText::from_uri_bytes(uri)),
            _ => None,
        }
    }

    /// What each value of a header names.
    pub fn header_numbers<'n>(
        &self,
        name: &'n str,
    ) -> impl Iterator<Item = NumberText> + use<'m, 'n> {
        self.header(name)
            .flat_map(Value::list)
            .map(NumberText::from_value)
    }
}

/// Whether a value of `Remote-Party-ID` tells of the party called.
fn is_of_called(value: Value<'_>) -> bool {
    NameAddr::parse(value)
        .and_then(|address| address.params().get("party"))
        .is_some_and(|party| party.eq_ignore_ascii_case(b"called"))
}

/// What is to be replaced in a number's text, spaces besides.
const fn is_not_graphic(bytes: Octets) -> u64 {
    bytes.is_invisible() | bytes.is_beyond_ascii()
}

/// A plus sign and digits, with or without separators, perhaps escaped.
fn is_global_prefix(context: &[u8]) -> bool {
    let mut bytes = lex::unescape(context).map(|(byte, _)| byte);
    let mut has_digit = false;
    bytes.next() == Some(b'+')
        && bytes.all(|byte| {
            has_digit |= byte.is_ascii_digit();
            byte.is_ascii_digit() || is_visual_separator(byte)
        })
        && has_digit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_out_of_every_shape() {
        for (text, number) in [
            ("<sip:+5511987654321@gw;user=phone>", "+5511987654321"),
            ("sip:+5511987654321@gw", "+5511987654321"),
            (
                "\"X\" <tel:+55-11-98765-4321>;party=calling",
                "+55-11-98765-4321",
            ),
            ("<tel:11987654321;phone-context=+55>", "+5511987654321"),
            ("<tel:7042;phone-context=example.com>", "7042"),
            ("<tel:+1201;phone-context=+55>", "+1201"),
            (
                "<sip:11987;phone-context=+5-5;x=y@gw;user=phone>",
                "+5511987",
            ),
            ("<sip:%2B5511@gw>", "+5511"),
            ("<tel:11987;%70hone-context=%2B5-5>", "+5511987"),
            ("<sip:11987;phone-conte%78t=+55@gw>", "+5511987"),
            ("<sip:+5511987654321@[fe80::1%eth0]>", "+5511987654321"),
            ("<sip:+5511987654321@fe80::1%eth0>", "+5511987654321"),
            (
                "<sip:+5511987654321@b\u{fc}ro.example.com>",
                "+5511987654321",
            ),
            ("<sip:+5511987654321@my_gw.example.com>", "+5511987654321"),
            ("<sip:+5511987654321:x@>", "+5511987654321"),
            ("\"B <sip:+5511987654321@gw>", "+5511987654321"),
            ("<sip:+5511@a@b>", "?"),
            ("<tel:+5511@a>", "?"),
            ("<sip:+5511:secret@gw>", "+5511"),
            ("+5511987654321", "+5511987654321"),
            ("\"5511\";x=y", "5511"),
            ("<sip:anonymous@anonymous.invalid>", "anonymous"),
            ("<sip:x@Anonymous.Invalid>", "anonymous"),
            ("<sip:gw.example.com>", ""),
            ("<sip:@gw>", ""),
            ("<sip:>", ""),
            ("<isbn:2983792873>", "?"),
            ("<sip:a%0Ab@h>", "a?b"),
            ("Restricted", "Restricted"),
        ] {
            let read = NumberText::from_value(Value::new(text.as_bytes()));
            assert_eq!(read.as_str(), number, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_unreadable() {
        let fits = "1".repeat(NumberText::CAPACITY);
        let read = |text: &str| NumberText::from_value(Value::new(text.as_bytes()));
        assert_eq!(read(&fits).as_str(), fits);
        assert_eq!(read(&format!("{fits}1")).as_str(), "?");
        assert_eq!(read(&fits.repeat(9)).as_str(), "?");
    }
}
