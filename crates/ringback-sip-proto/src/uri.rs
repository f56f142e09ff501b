//! `sip:`, `sips:` and `tel:` URIs (RFC 3261 §19.1, RFC 3966); every other scheme is recognized.
//!
//! A URI is read once, without copying; comparison follows RFC 3261 §19.1.4. Tolerated beyond the
//! grammar, because devices send it: `#` in a user part, `_` in a host name, a third colon before
//! the IPv4 tail of an IPv6 reference (RFC 5118 §4.10), the zone of a link-local address
//! (`[fe80::1%eth0]`), and a local `tel:` number without `phone-context`.

mod compare;
mod target;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::lex::{self, Cursor};

pub(crate) use target::read_target;
pub use target::{PLACEHOLDERS, TargetError, destination, validate_target};

/// What kind of URI it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`.
    Sip,
    /// `sips:`: TLS on every hop.
    Sips,
    /// `tel:`: a phone number.
    Tel,
    /// A well-formed scheme that this crate does not read.
    Other,
}

/// Why a URI could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// It does not start with a scheme and a colon.
    #[error("no scheme")]
    Scheme,
    /// The user or password is empty or holds a character it may not.
    #[error("malformed user part")]
    User,
    /// The host is missing, or neither a name nor an address.
    #[error("malformed host")]
    Host,
    /// The port is no number up to 65535.
    #[error("malformed port")]
    Port,
    /// A parameter is empty or holds a character it may not.
    #[error("malformed parameter")]
    Param,
    /// A header is malformed.
    #[error("malformed header")]
    Header,
    /// A `tel:` URI without a single digit, or with something that is none.
    #[error("malformed number")]
    Number,
    /// What follows the scheme is empty or holds space, quotes or control characters.
    #[error("malformed URI")]
    Opaque,
}

/// The host of a URI or a sent-by.
#[derive(Clone, Copy, Debug)]
pub struct Host<'m> {
    /// As sent, an IPv6 address with its brackets.
    text: &'m [u8],
}

/// A URI, read but not copied.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'m> {
    /// All of it.
    text: &'m [u8],
    /// What kind it is.
    scheme: Scheme,
    /// User part of a `sip:` URI, the number of a `tel:` URI; escaped.
    user: Option<&'m [u8]>,
    /// What follows the user after a colon.
    password: Option<&'m [u8]>,
    /// Host of a `sip:` or `sips:` URI.
    host: Option<Host<'m>>,
    /// Port, if written.
    port: Option<u16>,
    /// From the first semicolon to the headers; may be empty.
    params: &'m [u8],
    /// What follows the question mark.
    headers: Option<&'m [u8]>,
}

impl<'m> Uri<'m> {
    /// Reads a URI of any scheme.
    ///
    /// # Errors
    ///
    /// If there is no scheme, or if a `sip:`, `sips:` or `tel:` URI breaks its grammar. Of other
    /// schemes only the characters are checked.
    pub fn parse(text: &'m [u8]) -> Result<Self, UriError> {
        let end = scheme_end(text).ok_or(UriError::Scheme)?;
        let (scheme, rest) = lex::split(text, end);
        let rest = lex::tail(rest, 1);
        let scheme = if scheme == b"sip" || scheme.eq_ignore_ascii_case(b"sip") {
            Scheme::Sip
        } else if scheme.eq_ignore_ascii_case(b"sips") {
            Scheme::Sips
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            Scheme::Tel
        } else {
            Scheme::Other
        };
        let mut uri = Self {
            text,
            scheme,
            user: None,
            password: None,
            host: None,
            port: None,
            params: &[],
            headers: None,
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => uri.read_sip(rest)?,
            Scheme::Tel => uri.read_tel(rest)?,
            Scheme::Other if rest.is_empty() || !rest.iter().all(|&byte| is_opaque(byte)) => {
                return Err(UriError::Opaque);
            }
            Scheme::Other => {}
        }
        Ok(uri)
    }

    /// All of it, as sent.
    #[must_use]
    pub fn as_bytes(&self) -> &'m [u8] {
        self.text
    }

    /// What kind it is.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The user part, or the number of a `tel:` URI; still escaped.
    #[must_use]
    pub fn user(&self) -> Option<&'m [u8]> {
        self.user
    }

    /// The password, still escaped.
    #[must_use]
    pub fn password(&self) -> Option<&'m [u8]> {
        self.password
    }

    /// The host; `tel:` and other URIs have none.
    #[must_use]
    pub fn host(&self) -> Option<Host<'m>> {
        self.host
    }

    /// The port, if written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The parameters, in order: name, and value if there is an equals sign; still escaped.
    pub fn params(&self) -> impl Iterator<Item = (&'m [u8], Option<&'m [u8]>)> + use<'m> {
        split_params(self.params)
    }

    /// The first parameter of this name, compared in any case and with escapes read; without a value
    /// it is empty.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'m [u8]> {
        self.params()
            .find(|(key, _)| reads_as(key, name))
            .map(|(_, value)| value.unwrap_or_default())
    }

    /// The headers behind the question mark, still escaped.
    #[must_use]
    pub fn headers(&self) -> Option<&'m [u8]> {
        self.headers
    }

    /// True if both mean the same: RFC 3261 §19.1.4, RFC 3966 §4.
    ///
    /// Other schemes are compared byte by byte.
    #[must_use]
    pub fn is_equivalent(&self, other: &Uri<'_>) -> bool {
        compare::equivalent(self, other)
    }

    /// Reads what follows `sip:` or `sips:`.
    #[inline]
    fn read_sip(&mut self, rest: &'m [u8]) -> Result<(), UriError> {
        let mut rest = rest;
        if let (userinfo, Some(tail)) = lex::split_once(rest, b'@') {
            rest = tail;
            let (user, password) = lex::split_once(userinfo, b':');
            if user.is_empty() || !is_escaped(user, &USER) {
                return Err(UriError::User);
            }
            if password.is_some_and(|password| !is_escaped(password, &PASSWORD)) {
                return Err(UriError::User);
            }
            self.user = Some(user);
            self.password = password;
        }
        let mut cursor = Cursor::new(rest);
        self.host = Some(Host::read(&mut cursor).ok_or(UriError::Host)?);
        if cursor.eat(b':') {
            let digits = cursor.take_while(|byte| byte.is_ascii_digit());
            self.port = Some(port(digits).ok_or(UriError::Port)?);
        }
        let rest = cursor.rest();
        if rest.is_empty() {
            return Ok(());
        }
        let (params, headers) = lex::split_once(rest, b'?');
        if !params.is_empty() && params.first() != Some(&b';') {
            return Err(if self.port.is_some() {
                UriError::Port
            } else {
                UriError::Host
            });
        }
        self.params = params;
        self.check_params()?;
        if headers.is_some_and(|headers| !is_headers(headers)) {
            return Err(UriError::Header);
        }
        self.headers = headers;
        Ok(())
    }

    /// Reads what follows `tel:`.
    fn read_tel(&mut self, rest: &'m [u8]) -> Result<(), UriError> {
        let end = lex::find(b';', rest).unwrap_or(rest.len());
        let (number, params) = rest.split_at_checked(end).ok_or(UriError::Number)?;
        let sound = match number {
            [b'+', digits @ ..] => {
                digits.iter().any(u8::is_ascii_digit)
                    && digits
                        .iter()
                        .all(|&byte| byte.is_ascii_digit() || is_visual_separator(byte))
            }
            digits => {
                digits.iter().any(|&byte| is_phone_digit(byte))
                    && digits
                        .iter()
                        .all(|&byte| is_phone_digit(byte) || is_visual_separator(byte))
            }
        };
        if !sound {
            return Err(UriError::Number);
        }
        self.user = Some(number);
        self.params = params;
        self.check_params()
    }

    /// Refuses a broken parameter.
    fn check_params(&self) -> Result<(), UriError> {
        let sound = self.params().all(|(name, value)| {
            !name.is_empty()
                && is_escaped(name, &PARAM)
                && value.is_none_or(|value| !value.is_empty() && is_escaped(value, &PARAM_VALUE))
        });
        sound.then_some(()).ok_or(UriError::Param)
    }
}

impl<'m> Host<'m> {
    /// Reads a host: a name, an IPv4 address or an IPv6 reference.
    pub(crate) fn read(cursor: &mut Cursor<'m>) -> Option<Self> {
        if cursor.peek() == Some(b'[') {
            let rest = cursor.rest();
            let end = lex::find(b']', rest)?;
            let text = rest.get(..=end)?;
            let (address, zone) = lex::split_once(text.get(1..end)?, b'%');
            ipv6(address)?;
            if zone.is_some_and(|zone| !is_zone(zone)) {
                return None;
            }
            cursor.take_until(b']');
            cursor.eat(b']');
            return Some(Self { text });
        }
        let text = cursor.take_in(&HOST);
        (!text.is_empty()).then_some(Self { text })
    }

    /// Takes a text that breaks the grammar for a host.
    pub(crate) const fn from_text(text: &'m [u8]) -> Self {
        Self { text }
    }

    /// As sent, an IPv6 address with its brackets.
    #[must_use]
    pub fn as_bytes(&self) -> &'m [u8] {
        self.text
    }

    /// True for an address that is good on one link of one machine alone (RFC 4007 §11).
    #[must_use]
    pub fn has_zone(&self) -> bool {
        self.text.first() == Some(&b'[') && lex::find(b'%', self.text).is_some()
    }

    /// The address in canonical form (IPv4 for an IPv4-mapped one); `None` for a name, and for an
    /// address with a zone, which means nothing elsewhere.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.text {
            [b'[', address @ .., b']'] => ipv6(address).map(|ip| IpAddr::V6(ip).to_canonical()),
            [b'0'..=b'9', ..] => ipv4(self.text).map(IpAddr::V4),
            _ => None,
        }
    }
}

/// Offset of the colon behind the scheme: `ALPHA *(ALPHA / DIGIT / "+" / "-" / ".") ":"`.
pub(crate) fn scheme_end(text: &[u8]) -> Option<usize> {
    if let [b's', b'i', b'p', b':', ..] = text {
        return Some(3);
    }
    if !text.first()?.is_ascii_alphabetic() {
        return None;
    }
    let end = text
        .iter()
        .position(|&byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'+' | b'-' | b'.'))?;
    (text.get(end) == Some(&b':')).then_some(end)
}

/// Reads a port of one digit or more, up to 65535.
pub(crate) fn port(digits: &[u8]) -> Option<u16> {
    lex::decimal(digits).and_then(|port| u16::try_from(port).ok())
}

/// A visual separator in a phone number (RFC 3966 §3).
pub(crate) const fn is_visual_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'(' | b')')
}

/// Splits `;name=value;name`, which starts with a semicolon or is empty.
fn split_params<'m>(
    params: &'m [u8],
) -> impl Iterator<Item = (&'m [u8], Option<&'m [u8]>)> + use<'m> {
    let mut rest = params;
    std::iter::from_fn(move || {
        let text = rest.get(1..)?;
        let end = lex::find(b';', text).unwrap_or(text.len());
        let (param, tail) = text.split_at_checked(end)?;
        rest = tail;
        Some(lex::split_once(param, b'='))
    })
}

/// Reads four numbers up to 255 of one to three digits, without leading zeros.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split(|&byte| byte == b'.');
    for octet in &mut octets {
        *octet = match *parts.next()? {
            [one @ b'0'..=b'9'] => one - b'0',
            [ten @ b'1'..=b'9', one @ b'0'..=b'9'] => (ten - b'0') * 10 + (one - b'0'),
            ref part @ [b'1' | b'2', b'0'..=b'9', b'0'..=b'9'] => {
                u8::try_from(lex::decimal(part)?).ok()?
            }
            _ => return None,
        };
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// Reads an IPv6 address; tolerates a third colon before an IPv4 tail (RFC 5118 §4.10).
fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut fixed = [0_u8; 48];
    let at = text.find(":::")?;
    let (before, after) = (text.get(..at)?, text.get(at + 1..)?);
    let length = before.len() + after.len();
    fixed
        .get_mut(..before.len())?
        .copy_from_slice(before.as_bytes());
    fixed
        .get_mut(before.len()..length)?
        .copy_from_slice(after.as_bytes());
    let fixed = std::str::from_utf8(fixed.get(..length)?).ok()?;
    fixed.contains('.').then(|| fixed.parse().ok()).flatten()
}

/// True for the name of an interface, or its number (RFC 6874 writes `%25` before it).
fn is_zone(zone: &[u8]) -> bool {
    !zone.is_empty() && is_escaped(zone, &ZONE)
}

/// True for an IPv6 address without brackets, with or without a zone.
pub(crate) fn is_bare_ipv6(text: &[u8]) -> bool {
    let (address, zone) = lex::split_once(text, b'%');
    ipv6(address).is_some() && zone.is_none_or(is_zone)
}

/// True if an escaped text reads as this one, in any case.
pub(crate) fn reads_as(escaped: &[u8], text: &str) -> bool {
    escaped.eq_ignore_ascii_case(text.as_bytes())
        || (lex::find(b'%', escaped).is_some()
            && lex::unescape(escaped)
                .map(|(byte, _)| byte.to_ascii_lowercase())
                .eq(text.bytes().map(|byte| byte.to_ascii_lowercase())))
}

/// True if every byte is in the table or part of a `%HH`.
#[inline]
fn is_escaped(text: &[u8], table: &[bool; 256]) -> bool {
    let mut rest = text;
    loop {
        let Some(at) = rest.iter().position(|&byte| !table[byte as usize]) else {
            return true;
        };
        rest = match rest.get(at..) {
            Some([b'%', high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                tail
            }
            _ => return false,
        };
    }
}

/// True for `name=value&name=value`.
fn is_headers(headers: &[u8]) -> bool {
    headers.split(|&byte| byte == b'&').all(|header| {
        let (name, value) = lex::split_once(header, b'=');
        !name.is_empty()
            && is_escaped(name, &HEADER)
            && value.is_some_and(|value| is_escaped(value, &HEADER))
    })
}

/// A digit of a local number (RFC 3966 §3: `phonedigit-hex`, without separators).
const fn is_phone_digit(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b'*' | b'#')
}

/// A character of a URI whose scheme is not read.
const fn is_opaque(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>')
}

/// Characters of a host name; `_` is ours.
static HOST: [bool; 256] = lex::table(b"-._");
/// Characters of a zone that need no escape (RFC 6874 §2).
static ZONE: [bool; 256] = lex::table(b"-._~");
/// Characters of `user` that need no escape; `#` is ours.
static USER: [bool; 256] = lex::table(b"-_.!~*'()&=+$,;?/#");
/// Characters of `password` that need no escape.
static PASSWORD: [bool; 256] = lex::table(b"-_.!~*'()&=+$,");
/// Characters of a parameter's name that need no escape.
static PARAM: [bool; 256] = lex::table(b"-_.!~*'()[]/:&+$");
/// Characters of a parameter's value; a quoted `isub` or a base64 equals sign is tolerated.
static PARAM_VALUE: [bool; 256] = lex::table(b"-_.!~*'()[]/:&+$=,");
/// Characters of a header's name or value that need no escape.
pub(crate) static HEADER: [bool; 256] = lex::table(b"-_.!~*'()[]/?:+$");

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Uri<'_>, UriError> {
        Uri::parse(text.as_bytes())
    }

    #[test]
    fn reads_every_part_of_a_sip_uri() {
        let uri = parse("SIPS:a%20b:pw@[2001:db8::1]:5071;transport=TCP;lr?X-A=1&b=").unwrap();
        assert_eq!(uri.scheme(), Scheme::Sips);
        assert_eq!(uri.user(), Some(&b"a%20b"[..]));
        assert_eq!(uri.password(), Some(&b"pw"[..]));
        let host = uri.host().unwrap();
        assert_eq!(host.as_bytes(), b"[2001:db8::1]");
        assert_eq!(host.ip(), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(uri.port(), Some(5071));
        assert_eq!(uri.param("Transport"), Some(&b"TCP"[..]));
        assert_eq!(uri.param("lr"), Some(&b""[..]));
        assert_eq!(uri.headers(), Some(&b"X-A=1&b="[..]));
    }

    #[test]
    fn user_may_hold_reserved_characters() {
        let uri = parse("sip:user;par=u%40x,?/&=+$.net@example.com").unwrap();
        assert_eq!(uri.user(), Some(&b"user;par=u%40x,?/&=+$.net"[..]));
        assert_eq!(uri.host().unwrap().as_bytes(), b"example.com");
        assert_eq!(uri.params().count(), 0);
    }

    #[test]
    fn broken_uris_say_where() {
        for (text, error) in [
            ("", UriError::Scheme),
            ("user@example.com", UriError::Scheme),
            ("<sip:a@h>", UriError::Scheme),
            ("+5511", UriError::Scheme),
            ("sip:", UriError::Host),
            ("sip:@h", UriError::User),
            ("sip:a@", UriError::Host),
            ("sip:a@b@c", UriError::Host),
            ("sip:a%4@h", UriError::User),
            ("sip:a%zz@h", UriError::User),
            ("sip:a\"b@h", UriError::User),
            ("sip:2001:db8::10", UriError::Port),
            ("sip:[2001:db8::10", UriError::Host),
            ("sip:[2001:db8::1::2]", UriError::Host),
            ("sip:[::1]x", UriError::Host),
            ("sip:h:", UriError::Port),
            ("sip:h:65536", UriError::Port),
            ("sip:h:5060x", UriError::Port),
            ("sip:h;", UriError::Param),
            ("sip:h;;lr", UriError::Param),
            ("sip:h;a=", UriError::Param),
            ("sip:h?", UriError::Header),
            ("sip:h?a", UriError::Header),
            ("tel:", UriError::Number),
            ("tel:+", UriError::Number),
            ("tel:+12x", UriError::Number),
            ("tel:-.-", UriError::Number),
            ("tel:+1;", UriError::Param),
            ("mailto:", UriError::Opaque),
        ] {
            assert_eq!(parse(text).map(|uri| uri.scheme()), Err(error), "{text}");
        }
    }

    #[test]
    fn ipv6_reference_may_have_a_zone() {
        for text in ["[fe80::1%eth0]", "[FE80::1%25en0.2]", "[fe80::1%4]"] {
            let uri = format!("sip:a@{text}:5070;lr");
            let uri = parse(&uri).unwrap();
            let host = uri.host().unwrap();
            assert_eq!(host.as_bytes(), text.as_bytes());
            assert!(host.has_zone());
            assert_eq!(host.ip(), None);
            assert_eq!(uri.port(), Some(5070));
        }
        assert!(!parse("sip:[fe80::1]").unwrap().host().unwrap().has_zone());
        assert!(!parse("sip:h").unwrap().host().unwrap().has_zone());
        for text in [
            "[fe80::1%]",
            "[fe80::1%a b]",
            "[fe80::1%%]",
            "[h%eth0]",
            "[%eth0]",
        ] {
            assert_eq!(
                parse(&format!("sip:a@{text}")).map(|uri| uri.scheme()),
                Err(UriError::Host),
                "{text}"
            );
        }
    }

    #[test]
    fn names_of_parameters_are_read_with_their_escapes() {
        let uri = parse("sip:h;us%65r=phone;%4Cr").unwrap();
        assert_eq!(uri.param("user"), Some(&b"phone"[..]));
        assert_eq!(uri.param("lr"), Some(&b""[..]));
        assert_eq!(uri.param("use"), None);
    }

    #[test]
    fn four_small_numbers_are_an_address() {
        for text in ["0.0.0.0", "192.0.2.10", "255.255.255.255", "9.99.199.249"] {
            assert_eq!(ipv4(text.as_bytes()), text.parse().ok(), "{text}");
        }
        for text in [
            "256.1.1.1",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.",
            "1.2.3.a",
            "",
        ] {
            assert_eq!(ipv4(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn tel_numbers_may_be_global_or_local() {
        let uri = parse("tel:+55-(11)-98765.4321;ext=1").unwrap();
        assert_eq!(uri.user(), Some(&b"+55-(11)-98765.4321"[..]));
        assert_eq!(uri.param("ext"), Some(&b"1"[..]));
        let uri = parse("TEL:*67#12;phone-context=+1-914").unwrap();
        assert_eq!(uri.param("phone-context"), Some(&b"+1-914"[..]));
    }

    #[test]
    fn other_schemes_are_recognized() {
        for text in [
            "nobodyKnowsThis:opaque",
            "soap.beep://192.0.2.1:3002",
            "urn:a:b",
        ] {
            assert_eq!(parse(text).unwrap().scheme(), Scheme::Other);
        }
    }

    #[test]
    fn ipv6_reference_may_have_a_third_colon_before_ipv4() {
        let host = parse("sip:u@[2001:db8:::192.0.2.1]")
            .unwrap()
            .host()
            .unwrap();
        assert_eq!(host.ip(), Some("2001:db8::192.0.2.1".parse().unwrap()));
        assert!(parse("sip:u@[2001:db8:::1]").is_err());
    }
}
