//! `From`, `To` and the identity headers: a name, a URI, parameters (RFC 3261 §20.10).

use super::value::{Params, Value};
use crate::lex::{self, Cursor, Octets, is_space};
use crate::uri::{Uri, UriError};

/// A `name-addr` or `addr-spec` with its header parameters.
///
/// The URI is only checked for its shape (a scheme, no space, no quote): it may be of any scheme,
/// and a broken one is the business of whoever reads it.
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'m> {
    /// The display name as sent, with its quotes if it has any; may be empty.
    display_name: &'m [u8],
    /// The URI, without brackets.
    uri: &'m [u8],
    /// What follows it, from the first semicolon on.
    params: &'m [u8],
    /// The `tag` parameter.
    tag: Option<&'m [u8]>,
}

impl<'m> NameAddr<'m> {
    /// Reads one value; `None` if it breaks the grammar in a way that leaves its meaning open.
    ///
    /// Refused: an unterminated quote or bracket, a comma or semicolon in an unquoted name, a
    /// space inside the URI, a comma or question mark in a URI without brackets (RFC 3261 §20),
    /// anything but parameters behind. Accepted beyond the grammar: other characters, UTF-8 among
    /// them, in an unquoted name.
    #[must_use]
    pub fn parse(value: Value<'m>) -> Option<Self> {
        let bytes = value.as_bytes();
        let mut cursor = Cursor::new(bytes);
        let (display_name, uri) = if cursor.peek() == Some(b'<') {
            (&[][..], bracketed(&mut cursor)?)
        } else if cursor.peek() == Some(b'"') {
            let name = cursor.take_quoted()?;
            cursor.skip_space();
            (name, bracketed(&mut cursor)?)
        } else {
            let mark = memchr::memchr3(b'<', b';', b'"', bytes);
            match mark.and_then(|at| Some((at, *bytes.get(at)?))) {
                Some((at, b'<')) => {
                    let name = lex::trim_end(bytes.get(..at)?);
                    if name.iter().any(|&byte| !is_name(byte)) {
                        return None;
                    }
                    cursor.take_until(b'<');
                    (name, bracketed(&mut cursor)?)
                }
                Some((_, b'"')) => return None,
                _ => {
                    let uri = cursor.take_while(|byte| byte != b';' && !is_space(byte));
                    if uri.iter().any(|byte| matches!(byte, b',' | b'?')) {
                        return None;
                    }
                    (&[][..], uri)
                }
            }
        };
        Self::finish(display_name, uri, cursor)
    }

    /// The same, but a display name that breaks the grammar is taken as it is: `"A <sip:a@h>`. The
    /// URI then is what stands in the first brackets.
    #[must_use]
    pub fn parse_any_name(value: Value<'m>) -> Option<Self> {
        Self::parse(value).or_else(|| Self::parse_behind_name(value))
    }

    /// Reads the brackets behind a broken display name, and what follows them.
    #[cold]
    fn parse_behind_name(value: Value<'m>) -> Option<Self> {
        let mut cursor = Cursor::new(value.as_bytes());
        let name = lex::trim_end(cursor.take_until(b'<')?);
        // Nothing before the brackets, or other brackets before them: not the name is broken.
        if name.is_empty() || name.contains(&b'>') {
            return None;
        }
        let uri = bracketed(&mut cursor)?;
        Self::finish(name, uri, cursor)
    }

    /// Reads what follows the URI.
    fn finish(display_name: &'m [u8], uri: &'m [u8], mut cursor: Cursor<'m>) -> Option<Self> {
        if !is_uri(uri) {
            return None;
        }
        cursor.skip_space();
        let params = cursor.rest();
        let mut tag = None;
        for param in Params::new(params) {
            let param = param.ok()?;
            if param.name.eq_ignore_ascii_case(b"tag") {
                if tag.is_some() {
                    return None;
                }
                tag = Some(param.value?);
            }
        }
        Some(Self {
            display_name,
            uri,
            params,
            tag,
        })
    }

    /// The display name as sent, with its quotes if it has any; may be empty.
    #[must_use]
    pub fn display_name(&self) -> &'m [u8] {
        self.display_name
    }

    /// The URI as sent, without brackets.
    #[must_use]
    pub fn uri_bytes(&self) -> &'m [u8] {
        self.uri
    }

    /// The URI, read.
    ///
    /// # Errors
    ///
    /// If it is a broken `sip:`, `sips:` or `tel:` URI; the header around it is sound all the same.
    pub fn uri(&self) -> Result<Uri<'m>, UriError> {
        Uri::parse(self.uri)
    }

    /// The `tag` parameter.
    #[must_use]
    pub fn tag(&self) -> Option<&'m [u8]> {
        self.tag
    }

    /// The header parameters.
    #[must_use]
    pub fn params(&self) -> Params<'m> {
        Params::new(self.params)
    }
}

/// Reads `<...>` and returns what is inside.
fn bracketed<'m>(cursor: &mut Cursor<'m>) -> Option<&'m [u8]> {
    if !cursor.eat(b'<') {
        return None;
    }
    let inside = cursor.take_until(b'>')?;
    cursor.eat(b'>').then_some(inside)
}

/// A scheme, a colon, and something without space, quote, bracket or control character.
fn is_uri(text: &[u8]) -> bool {
    crate::uri::scheme_end(text).is_some() && lex::position(text, is_outside_uri).is_none()
}

/// No character of a URI, even of one that is not read yet.
const fn is_outside_uri(bytes: Octets) -> u64 {
    bytes.is_invisible() | bytes.is(b'"') | bytes.is_bracket()
}

/// A character that an unquoted display name may hold here.
const fn is_name(byte: u8) -> bool {
    (byte > 31 || is_space(byte)) && !matches!(byte, b',' | b';' | b'"' | b'<' | b'>' | 127)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<NameAddr<'_>> {
        NameAddr::parse(Value::new(text.as_bytes()))
    }

    #[test]
    fn reads_every_legal_shape() {
        for (text, name, uri, tag) in [
            ("<sip:a@h>", "", "sip:a@h", None),
            ("sip:a@h;tag=1", "", "sip:a@h", Some("1")),
            ("caller<sip:a@h>;tag=1;x", "caller", "sip:a@h", Some("1")),
            (
                "A. B. <sip:a@h;x=y?z=1> ; TAG = q",
                "A. B.",
                "sip:a@h;x=y?z=1",
                Some("q"),
            ),
            (
                r#""a \" <b>" <tel:+1-2;x=y>"#,
                r#""a \" <b>""#,
                "tel:+1-2;x=y",
                None,
            ),
            ("\"q\"\r\n\t<sip:@h>", "\"q\"", "sip:@h", None),
            (
                "<isbn:2983792873>;x=\"a;tag=b\"",
                "",
                "isbn:2983792873",
                None,
            ),
            ("Zoë <sip:a@h>", "Zoë", "sip:a@h", None),
        ] {
            let parsed = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(parsed.display_name(), name.as_bytes(), "{text}");
            assert_eq!(parsed.uri_bytes(), uri.as_bytes(), "{text}");
            assert_eq!(parsed.tag(), tag.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn any_display_name_may_stand_before_brackets() {
        let parse = |text: &'static str| NameAddr::parse_any_name(Value::new(text.as_bytes()));
        for (text, name, tag) in [
            ("\"A. User <sip:a@h>;tag=1", "\"A. User", Some("1")),
            ("Bell, A; x=\" <sip:a@h>", "Bell, A; x=\"", None),
            ("A \"B\" <sip:a@h> ;x", "A \"B\"", None),
            ("\"A\" \u{1}b <sip:a@h>", "\"A\" \u{1}b", None),
            ("\"A\" <sip:a@h>;tag=2", "\"A\"", Some("2")),
            ("<sip:a@h>", "", None),
        ] {
            let parsed = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(parsed.display_name(), name.as_bytes(), "{text}");
            assert_eq!(parsed.uri_bytes(), b"sip:a@h", "{text}");
            assert_eq!(parsed.tag(), tag.map(str::as_bytes), "{text}");
        }
        for text in [
            "<sip:a@h>, <sip:b@h>",
            "A> <sip:a@h>",
            "\"A <a@h>",
            "\"A < sip:a@h>",
            "\"A <sip:a@h",
            "\"A <sip:a@h> x",
            "\"A <sip:a@h>;tag=1;tag=2",
            "\"A\" sip:a@h",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn refuses_what_leaves_its_meaning_open() {
        for text in [
            "",
            "a@h",
            "\"A. User <sip:a@h>",
            "<sip:a@h",
            "\"A\" < a@h >",
            "< sip:a@h>",
            "<sip:a b@h>",
            "Bell, A <sip:a@h>;tag=1",
            "A \"B\" <sip:a@h>",
            "sip:a@h?x=y",
            "sip:a@h, sip:b@h",
            "<sip:a@h>, <sip:b@h>",
            "<sip:a@h> x",
            "<sip:a@h>;",
            "<sip:a@h>;tag",
            "<sip:a@h>;tag=",
            "<sip:a@h>;tag=1;tag=2",
            "\"x\" sip:a@h",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
