//! The grammar of what people, gateways and spreadsheets put around a number.
//!
//! Everything here borrows from the text or works in buffers of fixed size.

use super::MAX_USER_BYTES;
use crate::lex;

/// What is left of a text when brackets and quotes are taken off.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unwrapped<'t> {
    /// A URI or bare text, and the display name before it.
    Address(&'t [u8], &'t [u8]),
    /// Brackets or quotes that are not closed.
    Broken,
}

/// Takes brackets, quotes and the display name off a text.
pub(super) fn unwrap(value: &[u8]) -> Unwrapped<'_> {
    let value = trim(value);
    let (display_name, rest) = match value {
        [b'"', quoted @ ..] => match split_quoted(quoted) {
            // Quotes with nothing behind them are a quoted value, as in CSV.
            Some((inner, b"")) => return Unwrapped::Address(inner.trim_ascii(), b""),
            Some((inner, rest @ [b'<', ..])) => (inner, rest),
            _ => return Unwrapped::Broken,
        },
        _ => match lex::find(b'<', value) {
            Some(bracket) => value.split_at(bracket),
            None => return Unwrapped::Address(value, b""),
        },
    };
    let address = rest.get(1..).unwrap_or_default();
    match lex::split_once(address, b'>') {
        (address, Some(_)) => Unwrapped::Address(address.trim_ascii(), display_name),
        _ => Unwrapped::Broken,
    }
}

/// Whether the host is the one that stands for anonymity (RFC 3323 §4.1.1.3), whoever the user is.
pub(super) fn is_anonymous_host(host: &[u8]) -> bool {
    match host.get(..ANONYMOUS_HOST.len()) {
        Some(name) if name.eq_ignore_ascii_case(ANONYMOUS_HOST) => {
            let rest = &host[ANONYMOUS_HOST.len()..];
            let rest = rest.strip_prefix(b".").unwrap_or(rest);
            rest.first().is_none_or(|byte| b":;?>, \t".contains(byte))
        }
        _ => false,
    }
}

/// Whether the word stands for a caller who withholds the number; case, spaces and punctuation do
/// not matter.
pub(super) fn is_withheld(word: &[u8]) -> bool {
    let mut letters = [0; LONGEST_WITHHELD];
    let mut length = 0;
    for byte in word {
        if byte.is_ascii_alphanumeric() {
            let Some(letter) = letters.get_mut(length) else {
                return false;
            };
            *letter = byte.to_ascii_lowercase();
            length += 1;
        } else if !matches!(
            byte,
            b' ' | b'\t' | b'-' | b'_' | b'.' | b'"' | b'\'' | b'(' | b')'
        ) {
            return false;
        }
    }
    WITHHELD
        .iter()
        .any(|known| known.as_bytes() == &letters[..length])
}

/// The value without what a spreadsheet puts around a number so that it stays text: an apostrophe before
/// it, or `="` and `"` around it.
pub(super) fn without_spreadsheet(value: &[u8]) -> &[u8] {
    let value = trim(value);
    if let [b'=', b'"', inner @ .., b'"'] = value {
        return inner;
    }
    let apostrophe = APOSTROPHES
        .iter()
        .find_map(|apostrophe| value.strip_prefix(apostrophe.as_bytes()));
    match apostrophe {
        Some(rest) if !rest.is_empty() => rest,
        _ => value,
    }
}

/// What stands behind `sip:` or `sips:`, of either case.
pub(super) fn without_sip_scheme(address: &[u8]) -> Option<&[u8]> {
    strip_scheme(address, b"sip:").or_else(|| strip_scheme(address, b"sips:"))
}

/// What stands behind a scheme that has nothing but a number behind it.
pub(super) fn without_number_scheme(address: &[u8]) -> Option<&[u8]> {
    let mut schemes = NUMBER_SCHEMES.iter();
    let rest = schemes.find_map(|scheme| strip_scheme(address, scheme.as_bytes()))?;
    Some(rest.strip_prefix(b"//").unwrap_or(rest))
}

/// A user part without its password, cut at the first `;` into what names the user and parameters.
///
/// A colon behind a number and a word is that of an extension (`ext: 7`).
pub(super) fn split_user(user: &[u8]) -> (&[u8], &[u8]) {
    let is_of_extension = |before: &[u8]| {
        let word = before.trim_ascii_end();
        let word = word.strip_suffix(b".").unwrap_or(word);
        let ends_in_letter = |byte: &u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
        word.last().is_some_and(ends_in_letter) && word.iter().any(u8::is_ascii_digit)
    };
    let user = match lex::find(b':', user) {
        Some(colon) if !is_of_extension(&user[..colon]) => &user[..colon],
        _ => user,
    };
    let (name, params) = lex::split_once(user, b';');
    (name, params.unwrap_or_default())
}

/// Whether another number stands where parameters do, as in a list of numbers.
pub(super) fn is_list(parameters: &[u8]) -> bool {
    parameters.split(|byte| *byte == b';').any(|parameter| {
        let digits = parameter
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .count();
        let is_named = lex::find(b'=', parameter).is_some()
            || parameter
                .trim_ascii()
                .first()
                .is_some_and(u8::is_ascii_alphabetic);
        !is_named && digits > MAX_EXTENSION_DIGITS
    })
}

/// The text without the prefixes that stand one behind another at its start, each taken off once; `prefixes` are
/// longest first.
pub(super) fn without_prefixes<'t>(mut text: &'t [u8], prefixes: &[Box<str>]) -> &'t [u8] {
    let mut taken = 0_u64;
    loop {
        let next = prefixes
            .iter()
            .take(64)
            .enumerate()
            .find_map(|(index, prefix)| {
                let rest = text.strip_prefix(prefix.as_bytes())?;
                (taken >> index & 1 == 0).then_some((index, rest))
            });
        let Some((index, rest)) = next else {
            return text;
        };
        taken |= 1 << index;
        let separators = rest
            .iter()
            .take_while(|byte| b" -.()".contains(byte))
            .count();
        text = lex::tail(rest, separators);
    }
}

/// A text whose escapes have been decoded, in a buffer of fixed size.
pub(super) struct Unescaped {
    /// The decoded bytes, then zeros.
    bytes: [u8; MAX_USER_BYTES],
    /// How many bytes count.
    length: usize,
}

impl Unescaped {
    /// Decodes `%` and two hexadecimal digits; `None` if an escape is broken or the text too long.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let mut decoded = Self {
            bytes: [0; MAX_USER_BYTES],
            length: 0,
        };
        let mut rest = text;
        while let [first, tail @ ..] = rest {
            let (byte, tail) = match (first, tail) {
                (b'%', [high, low, tail @ ..]) => {
                    (lex::hex_value(*high)? << 4 | lex::hex_value(*low)?, tail)
                }
                (b'%', _) => return None,
                _ => (*first, tail),
            };
            *decoded.bytes.get_mut(decoded.length)? = byte;
            decoded.length += 1;
            rest = tail;
        }
        Some(decoded)
    }

    /// The decoded bytes without spaces and quotes around them.
    pub(super) fn as_bytes(&self) -> &[u8] {
        let text = self.bytes[..self.length].trim_ascii();
        match text {
            [b'"', inner @ .., b'"'] => inner.trim_ascii(),
            _ => text,
        }
    }
}

/// The text without white space and invisible characters around it.
fn trim(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    let is_odd = |byte: Option<&u8>| byte.is_some_and(|byte| !byte.is_ascii());
    if !is_odd(text.first()) && !is_odd(text.last()) {
        return text;
    }
    std::str::from_utf8(text).map_or(text, |letters| {
        letters
            .trim_matches(|letter: char| letter.is_whitespace() || is_invisible(letter))
            .as_bytes()
    })
}

/// What stands behind the scheme, which is of either case.
fn strip_scheme<'a>(uri: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = uri.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// What stands before the closing quote, and behind it without spaces.
fn split_quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&text[..index], text[index + 1..].trim_ascii())),
            _ => {}
        }
    }
    None
}

/// Whether the character has no width: soft hyphens, joiners, marks of direction, byte order marks.
pub(super) const fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}'
    )
}

/// What spreadsheets and typewriters put before a number so that it stays text.
const APOSTROPHES: [&str; 4] = ["'", "\u{2018}", "\u{2019}", "\u{02BC}"];

/// The host that stands for anonymity.
const ANONYMOUS_HOST: &[u8] = b"anonymous.invalid";

/// Schemes with nothing but a number behind them: RFC 3966, RFC 2806, RFC 5724, and what programs link to or prefix.
const NUMBER_SCHEMES: [&str; 5] = ["tel:", "callto:", "fax:", "sms:", "whatsapp:"];

/// The most digits of an extension that only `#` or `;` divides from its number.
pub(super) const MAX_EXTENSION_DIGITS: usize = 6;

/// Words that stand for a caller who withholds the number, or whose number the network withholds,
/// as PBXs and carriers write them; lower case, without spaces and punctuation.
const WITHHELD: [&str; 26] = [
    "anonymous",
    "anonymouscaller",
    "anonymousinvalid",
    "blocked",
    "blockednumber",
    "calleridblocked",
    "hidden",
    "hiddennumber",
    "idunavailable",
    "nocallerid",
    "nonumber",
    "notavailable",
    "numberunavailable",
    "numberwithheld",
    "outofarea",
    "private",
    "privatecaller",
    "privatenumber",
    "restricted",
    "suppressed",
    "unavailable",
    "unknown",
    "unknowncaller",
    "unknownnumber",
    "withheld",
    "withheldnumber",
];

/// The longest of these words.
const LONGEST_WITHHELD: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withheld_words_fit_the_buffer() {
        let longest = WITHHELD.iter().map(|word| word.len()).max();
        assert_eq!(longest, Some(LONGEST_WITHHELD));
    }

    #[test]
    fn wrapping_is_taken_off() {
        for (value, address, name) in [
            ("+55", "+55", ""),
            ("  +55\t", "+55", ""),
            ("\"+55\"", "+55", ""),
            ("sip:a@b", "sip:a@b", ""),
            ("<sip:a@b>;tag=1", "sip:a@b", ""),
            ("Bob <sip:a@b>", "sip:a@b", "Bob "),
            ("\"<\\\"> \" <sip:a@b>;tag=1", "sip:a@b", "<\\\"> "),
            ("\"x\"<tel:+55;y=z>", "tel:+55;y=z", "x"),
        ] {
            let unwrapped = Unwrapped::Address(address.as_bytes(), name.as_bytes());
            assert_eq!(unwrap(value.as_bytes()), unwrapped, "{value}");
        }
        for value in ["<sip:a@b", "\"a <sip:a@b>", "\"a\" sip:a@b", "\"a\\\""] {
            assert_eq!(unwrap(value.as_bytes()), Unwrapped::Broken, "{value}");
        }
    }

    #[test]
    fn anonymous_host_is_the_whole_host() {
        for host in [
            "anonymous.invalid",
            "Anonymous.Invalid.",
            "anonymous.invalid:5060",
            "anonymous.invalid;x",
        ] {
            assert!(is_anonymous_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "anonymous",
            "anonymous.invalid.example.com",
            "anonymous.invalids",
            "x.anonymous.invalid",
        ] {
            assert!(!is_anonymous_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn prefixes_one_behind_another_are_taken_off_once_each() {
        for (prefixes, text, number) in [
            (&["1234#", "9"][..], "1234#9+493023125142", "+493023125142"),
            (&["1234#", "9"], "91234#03023125142", "03023125142"),
            (
                &["1234#", "9"],
                "1234# 9-+49 30 23125142",
                "+49 30 23125142",
            ),
            (&["1234#", "9"], "9911", "911"),
            (&["1234#", "9"], "+493023125142", "+493023125142"),
            (&["99", "9"], "999011", "011"),
            (&["*31*", "0", "9"], "*31*90004930", "004930"),
            (&[], "1234#9", "1234#9"),
            (&["9"], "9", ""),
        ] {
            let prefixes: Vec<Box<str>> = prefixes.iter().map(|prefix| (*prefix).into()).collect();
            assert_eq!(
                without_prefixes(text.as_bytes(), &prefixes),
                number.as_bytes(),
                "{text}"
            );
        }
    }
}
