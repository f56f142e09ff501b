//! When two URIs mean the same: RFC 3261 §19.1.4 and RFC 3966 §4.

use super::{Host, Scheme, Uri, is_visual_separator, reads_as};
use crate::lex;

/// The rules of the two RFCs; URIs of other schemes are compared byte by byte.
pub(super) fn equivalent(one: &Uri<'_>, two: &Uri<'_>) -> bool {
    if one.scheme != two.scheme {
        return false;
    }
    match one.scheme {
        Scheme::Other => one.text == two.text,
        Scheme::Tel => {
            same_number(one.user, two.user)
                && params_within(one, two, |_| true)
                && params_within(two, one, |_| true)
        }
        Scheme::Sip | Scheme::Sips => {
            one.port == two.port
                && same_text(one.user, two.user)
                && same_host(one.host, two.host)
                && same_text(one.password, two.password)
                && params_within(one, two, must_be_in_both)
                && params_within(two, one, must_be_in_both)
                && headers_within(one.headers, two.headers)
                && headers_within(two.headers, one.headers)
        }
    }
}

/// Parameters that never match when one URI alone has them.
///
/// `transport` is in the examples of RFC 3261 §19.1.4, the others are in its rules.
fn must_be_in_both(name: &[u8]) -> bool {
    ["transport", "user", "ttl", "method", "maddr"]
        .iter()
        .any(|known| reads_as(name, known))
}

/// Case-sensitive, an escape being the same as its character unless that one is reserved.
fn same_text(one: Option<&[u8]>, two: Option<&[u8]>) -> bool {
    match (one, two) {
        (None, None) => true,
        (Some(one), Some(two)) => one == two || unescaped(one).eq(unescaped(two)),
        _ => false,
    }
}

/// The same without regard to case.
fn same_text_any_case(one: &[u8], two: &[u8]) -> bool {
    let fold = |(byte, reserved): (u8, bool)| (byte.to_ascii_lowercase(), reserved);
    unescaped(one).map(fold).eq(unescaped(two).map(fold))
}

/// Characters, each with whether it is a reserved one that was escaped.
fn unescaped(text: &[u8]) -> impl Iterator<Item = (u8, bool)> + '_ {
    lex::unescape(text).map(|(byte, escaped)| (byte, escaped && b";/?:@&=+$,".contains(&byte)))
}

/// Addresses by value, names in any case.
fn same_host(one: Option<Host<'_>>, two: Option<Host<'_>>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => {
            one.text.eq_ignore_ascii_case(two.text)
                || one.ip().is_some_and(|ip| two.ip() == Some(ip))
        }
        (None, None) => true,
        _ => false,
    }
}

/// Numbers without their visual separators, hexadecimal digits in any case.
fn same_number(one: Option<&[u8]>, two: Option<&[u8]>) -> bool {
    let digits = |number: Option<&[u8]>| -> Option<[u8; 32]> {
        let mut digits = [0; 32];
        let mut places = digits.iter_mut();
        for byte in number?.iter().filter(|&&byte| !is_visual_separator(byte)) {
            *places.next()? = byte.to_ascii_lowercase();
        }
        Some(digits)
    };
    match (digits(one), digits(two)) {
        (Some(one), Some(two)) => one == two,
        // Longer than any number: only the same text is the same.
        _ => one == two,
    }
}

/// Every parameter of the first URI is the same in the second, or may be left out there.
fn params_within(one: &Uri<'_>, two: &Uri<'_>, needed: impl Fn(&[u8]) -> bool) -> bool {
    one.params().all(|(name, value)| {
        let other = two
            .params()
            .find(|(other, _)| same_text_any_case(name, other));
        match other {
            Some((_, other)) => {
                same_text_any_case(value.unwrap_or_default(), other.unwrap_or_default())
            }
            None => !needed(name),
        }
    })
}

/// Every header of the first URI is in the second.
fn headers_within(one: Option<&[u8]>, two: Option<&[u8]>) -> bool {
    let headers = |text: Option<&'_ [u8]>| text.is_some_and(|text| !text.is_empty());
    match (one, two) {
        (Some(one), Some(two)) => one.split(|&byte| byte == b'&').all(|header| {
            let (name, value) = lex::split_once(header, b'=');
            two.split(|&byte| byte == b'&').any(|other| {
                let (other, other_value) = lex::split_once(other, b'=');
                same_text_any_case(name, other) && same_text(value, other_value)
            })
        }),
        (one, two) => !headers(one) && !headers(two),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, two: &str) -> bool {
        let one = Uri::parse(one.as_bytes()).unwrap();
        let two = Uri::parse(two.as_bytes()).unwrap();
        let same = equivalent(&one, &two);
        assert_eq!(same, equivalent(&two, &one), "not symmetric");
        same
    }

    #[test]
    fn equivalent_uris_are_found() {
        for (one, two) in [
            (
                "sip:%61lice@atlanta.com;transport=TCP",
                "sip:alice@AtlanTa.CoM;Transport=tcp",
            ),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:b@h;%54ransport=t%63p", "sip:b@h;transport=tcp"),
            (
                "sip:carol@chicago.com;a=1",
                "sip:carol@chicago.com;newparam=5",
            ),
            (
                "sip:b@h;transport=tcp?to=x&subject=y",
                "SIP:b@h;transport=tcp?subject=y&to=x",
            ),
            ("sip:a@[2001:db8:0::1]", "sip:a@[2001:DB8::1]"),
            ("tel:+1-201-555-0123", "tel:+1(201)5550123"),
            ("urn:a:b", "urn:a:b"),
        ] {
            assert!(same(one, two), "{one} {two}");
        }
    }

    #[test]
    fn different_uris_are_told_apart() {
        for (one, two) in [
            ("SIP:ALICE@h", "sip:alice@h"),
            ("sip:bob@h", "sip:bob@h:5060"),
            ("sip:bob@h", "sip:bob@h;transport=udp"),
            ("sip:bob@h", "sip:bob@h;user=phone"),
            ("sip:bob@h", "sip:bob@h;m%61ddr=192.0.2.1"),
            ("sip:bob@h", "sip:bob@h;%54ransport=tcp"),
            ("sip:bob@h:6000;transport=tcp", "sip:bob@h;transport=tcp"),
            ("sip:carol@h", "sip:carol@h?Subject=next"),
            ("sip:carol@h;security=on", "sip:carol@h;security=off"),
            ("sip:a%3Bb@h", "sip:a;b@h"),
            ("sip:a@h", "sips:a@h"),
            ("sip:h", "sip:a@h"),
            ("sip:a:x@h", "sip:a@h"),
            ("tel:+12015550123", "tel:+12015550124"),
            ("tel:12;phone-context=a.b", "tel:12;phone-context=c.d"),
            ("tel:12;phone-context=a.b", "tel:12"),
        ] {
            assert!(!same(one, two), "{one} {two}");
        }
    }
}
