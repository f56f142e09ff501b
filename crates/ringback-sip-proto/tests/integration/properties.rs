//! What parses prints back and parses the same, in whatever spelling it comes.

use proptest::prelude::*;
use ringback_sip_proto::message::{Framing, HeaderName, NameAddr, StartLine, Value};
use ringback_sip_proto::{Message, Scheme, Transport, Uri};

use crate::exercise;

/// How one header line is spelled.
#[derive(Clone, Copy, Debug)]
struct Spelling {
    /// 0: as is, 1: capitals, 2: small letters.
    case: u8,
    /// The compact form, if there is one.
    compact: bool,
    /// Space before the colon.
    space: bool,
    /// A fold behind the colon.
    fold: bool,
}

fn spelling() -> impl Strategy<Value = Spelling> {
    (0..3_u8, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(case, compact, space, fold)| Spelling {
            case,
            compact,
            space,
            fold,
        },
    )
}

impl Spelling {
    fn write(self, name: &str, value: &str, out: &mut String) {
        let compact = match name {
            "Via" => "v",
            "From" => "f",
            "To" => "t",
            "Call-ID" => "i",
            "Content-Length" => "l",
            other => other,
        };
        let name = if self.compact { compact } else { name };
        match self.case {
            1 => out.push_str(&name.to_ascii_uppercase()),
            2 => out.push_str(&name.to_ascii_lowercase()),
            _ => out.push_str(name),
        }
        out.push_str(if self.space { " \t:" } else { ":" });
        out.push_str(if self.fold { "\r\n  \t" } else { " " });
        out.push_str(value);
        out.push_str("\r\n");
    }
}

const TOKEN: &str = "[A-Za-z0-9.!%*_+`'~-]{1,12}";
const HOST: &str =
    "([a-z][a-z0-9-]{0,8}\\.){0,2}[a-z]{1,6}|\\[2001:db8::[0-9a-f]{1,4}\\]|192\\.0\\.2\\.[1-9]";

/// A user part, escapes included.
fn user() -> impl Strategy<Value = String> {
    "([A-Za-z0-9_.!~*'()&=+$,;?/-]|%[0-9A-F]{2}){1,20}"
}

/// A `sip:` or `sips:` URI.
fn sip_uri() -> impl Strategy<Value = String> {
    (
        "sips?",
        proptest::option::of(user()),
        HOST,
        proptest::option::of(any::<u16>()),
        // A map: no name may appear more than once (RFC 3261 §19.1.1).
        proptest::collection::btree_map(
            "[a-z]{1,6}",
            proptest::option::of("[A-Za-z0-9._-]{1,6}"),
            0..4,
        ),
    )
        .prop_map(|(scheme, user, host, port, params)| {
            let mut uri = format!("{scheme}:");
            if let Some(user) = user {
                uri += &format!("{user}@");
            }
            uri += &host;
            if let Some(port) = port {
                uri += &format!(":{port}");
            }
            for (name, value) in params {
                uri += &format!(";{name}");
                if let Some(value) = value {
                    uri += &format!("={value}");
                }
            }
            uri
        })
}

/// A name-addr without a tag.
fn name_addr() -> impl Strategy<Value = String> {
    (
        proptest::option::of("[^\"\\\\\\x00-\\x1f\\x7f]{0,20}"),
        sip_uri(),
    )
        .prop_map(|(name, uri)| match name {
            Some(name) => format!("\"{name}\" <{uri}>"),
            None => format!("<{uri}>"),
        })
}

proptest! {
    #[test]
    fn uri_parts_print_back(text in sip_uri()) {
        let uri = Uri::parse(text.as_bytes()).unwrap();
        let mut printed = Vec::new();
        printed.extend_from_slice(if uri.scheme() == Scheme::Sips { b"sips:" } else { b"sip:" });
        if let Some(user) = uri.user() {
            printed.extend_from_slice(user);
            printed.push(b'@');
        }
        printed.extend_from_slice(uri.host().unwrap().as_bytes());
        if let Some(port) = uri.port() {
            printed.extend_from_slice(format!(":{port}").as_bytes());
        }
        for (name, value) in uri.params() {
            printed.push(b';');
            printed.extend_from_slice(name);
            if let Some(value) = value {
                printed.push(b'=');
                printed.extend_from_slice(value);
            }
        }
        prop_assert_eq!(printed, text.as_bytes());
        prop_assert!(uri.is_equivalent(&uri));
        // rsip holds the same, and what it prints we read as the same.
        let vocabulary = rsip::Uri::try_from(&uri).unwrap().to_string();
        let again = Uri::parse(vocabulary.as_bytes()).unwrap();
        prop_assert!(again.is_equivalent(&uri), "{} {}", text, vocabulary);
    }

    #[test]
    fn uri_reader_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(uri) = Uri::parse(&bytes) {
            prop_assert_eq!(uri.as_bytes(), &bytes[..]);
        }
    }

    #[test]
    fn name_addr_parts_are_found(text in name_addr(), tag in proptest::option::of(TOKEN)) {
        let value = match &tag {
            Some(tag) => format!("{text} ; tag = {tag}"),
            None => text.clone(),
        };
        let address = NameAddr::parse(Value::new(value.as_bytes())).unwrap();
        prop_assert_eq!(address.tag(), tag.as_ref().map(|tag| tag.as_bytes()));
        let mut printed = address.display_name().to_vec();
        if !printed.is_empty() {
            printed.push(b' ');
        }
        printed.push(b'<');
        printed.extend_from_slice(address.uri_bytes());
        printed.push(b'>');
        prop_assert_eq!(printed, text.as_bytes());
    }

    #[test]
    fn spelling_changes_nothing(
        uri in sip_uri(),
        from in name_addr(),
        to in name_addr(),
        tag in TOKEN,
        call_id in "[!-~]{1,30}",
        number in 0..(1_u32 << 31),
        branch in "[A-Za-z0-9]{1,10}",
        body in proptest::collection::vec(any::<u8>(), 0..50),
        spellings in proptest::collection::vec(spelling(), 6),
    ) {
        let mut text = format!("INVITE {uri} SIP/2.0\r\n");
        let values = [
            ("Via", format!("SIP/2.0/UDP h.example.net;branch=z9hG4bK{branch}")),
            ("From", format!("{from};tag={tag}")),
            ("To", to.clone()),
            ("Call-ID", call_id.clone()),
            ("CSeq", format!("{number} INVITE")),
            ("Content-Length", body.len().to_string()),
        ];
        for ((name, value), spelling) in values.iter().zip(&spellings) {
            spelling.write(name, value, &mut text);
        }
        text += "\r\n";
        let bytes = [text.as_bytes(), &body].concat();
        let message = Message::parse(&bytes, Framing::Stream).unwrap();
        prop_assert_eq!(message.fault(), None);
        prop_assert_eq!(
            message.start(),
            StartLine::Request { method: b"INVITE", uri: uri.as_bytes() }
        );
        for (name, value) in &values {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            prop_assert_eq!(message.first(name).unwrap().as_bytes(), value.as_bytes());
        }
        prop_assert_eq!(message.cseq().unwrap().number, number);
        prop_assert_eq!(message.call_id().unwrap(), call_id.as_bytes());
        prop_assert_eq!(message.from().unwrap().tag(), Some(tag.as_bytes()));
        prop_assert_eq!(message.body(), &body[..]);
        let branch = format!("z9hG4bK{branch}");
        prop_assert_eq!(message.top_via().unwrap().branch(), Some(branch.as_bytes()));
        // The reply is legal, and copies what was sent.
        if let Some((_, reply)) = exercise::handle(&bytes, Transport::Udp) {
            let reply = Message::parse(&reply, Framing::Stream).unwrap();
            for name in [HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
                prop_assert_eq!(reply.first(name), message.first(name));
            }
            let copied = reply.to().unwrap();
            prop_assert_eq!(copied.uri_bytes(), message.to().unwrap().uri_bytes());
            prop_assert!(copied.tag().is_some());
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        exercise::handle(&bytes, Transport::Udp);
        exercise::stream(&bytes, &[3, 50]);
        exercise::hep(&bytes);
    }
}
