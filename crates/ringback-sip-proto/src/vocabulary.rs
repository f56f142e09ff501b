//! The types of the `rsip` crate, made from what our own parser read.
//!
//! `rsip` is the vocabulary that Rust's SIP programs share: methods, status codes, URIs, whole
//! messages. Library users, tools and tests get these from a [`Message`]; the call path uses only
//! [`Method`](rsip::Method), which is `Copy`. Nothing here lets `rsip` parse: one parser reads the
//! wire, so that two can never disagree about what a message says.
//!
//! Why not its parser. `rsip` 0.4, fed with what peers really send:
//!
//! | on the wire | `rsip` 0.4 |
//! |---|---|
//! | `sip:john.doe@host` | no user, host `john.doe@host` |
//! | `sip:a@[2001:db8::1]`, `tel:+1` | the whole message is refused |
//! | a folded line, `To :`, an unknown method | the whole message is refused |
//! | compact header names | not recognized as the header they are |
//! | several values in one line | not split |
//! | `Content-Length` negative, repeated, beyond the datagram | accepted, and ignored |
//! | a parameter that is a quoted string | refused |
//! | `invite` | counts as INVITE; methods are case-sensitive |
//! | a byte that is no UTF-8 | the whole message is refused |
//! | a binary body | damaged when written |
//!
//! and it takes 3.6 µs and 50 allocations for an INVITE that the index here reads in a fraction of
//! a microsecond with none. It also allocates on every typed access, while a redirect has to be
//! made without a single allocation. The tests of this module hold the first and the last rows, so
//! that a better release of `rsip` is noticed.
//!
//! What the types cannot hold is an error here: an unknown method, a URI that is neither `sip:` nor
//! `sips:` (they would be printed with `//`), URI headers. Text that is no UTF-8 is replaced, folds
//! become spaces, bodies are kept byte by byte. An IPv6 host becomes a
//! [`Domain`](rsip::Domain) with its brackets, because `rsip` prints an address without them.

use rsip::headers::{Header, UntypedHeader, untyped};
use rsip::{Auth, Headers, HostWithPort, Param, StatusCode, Version};

use crate::message::{HeaderLine, Message, StartLine};
use crate::uri::{Scheme, Uri};

/// Why a message or URI has no counterpart in `rsip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// It is a response where a request was asked for, the other way round, or malformed.
    #[error("not that kind of message")]
    Kind,
    /// A method that `rsip` has no name for.
    #[error("unknown method")]
    Method,
    /// A URI that is broken, or that `rsip` cannot hold.
    #[error("no sip or sips URI, or one with headers")]
    Uri,
}

impl TryFrom<&Uri<'_>> for rsip::Uri {
    type Error = VocabularyError;

    fn try_from(uri: &Uri<'_>) -> Result<Self, VocabularyError> {
        let scheme = match uri.scheme() {
            Scheme::Sip => rsip::Scheme::Sip,
            Scheme::Sips => rsip::Scheme::Sips,
            Scheme::Tel | Scheme::Other => return Err(VocabularyError::Uri),
        };
        let (Some(host), None) = (uri.host(), uri.headers()) else {
            return Err(VocabularyError::Uri);
        };
        let host = match host.ip() {
            Some(ip) if ip.is_ipv4() && host.as_bytes().first() != Some(&b'[') => {
                rsip::Host::IpAddr(ip)
            }
            _ => rsip::Host::Domain(text(host.as_bytes()).into()),
        };
        Ok(Self {
            scheme: Some(scheme),
            auth: uri.user().map(|user| Auth {
                user: text(user),
                password: uri.password().map(text),
            }),
            host_with_port: HostWithPort {
                host,
                port: uri.port().map(Into::into),
            },
            params: uri
                .params()
                .map(|(name, value)| param(name, value))
                .collect(),
            headers: Vec::new(),
        })
    }
}

impl TryFrom<&Message<'_>> for rsip::Request {
    type Error = VocabularyError;

    fn try_from(message: &Message<'_>) -> Result<Self, VocabularyError> {
        let StartLine::Request { uri, .. } = message.start() else {
            return Err(VocabularyError::Kind);
        };
        let uri = Uri::parse(uri).map_err(|_| VocabularyError::Uri)?;
        Ok(Self {
            method: message.method().ok_or(VocabularyError::Method)?,
            uri: (&uri).try_into()?,
            version: Version::V2,
            headers: headers(message),
            body: message.body().to_vec(),
        })
    }
}

impl TryFrom<&Message<'_>> for rsip::Response {
    type Error = VocabularyError;

    fn try_from(message: &Message<'_>) -> Result<Self, VocabularyError> {
        let StartLine::Response { code, reason } = message.start() else {
            return Err(VocabularyError::Kind);
        };
        let status_code = match StatusCode::from(code) {
            StatusCode::Other(code, _) => StatusCode::Other(code, text(reason)),
            known => known,
        };
        Ok(Self {
            status_code,
            version: Version::V2,
            headers: headers(message),
            body: message.body().to_vec(),
        })
    }
}

impl TryFrom<&Message<'_>> for rsip::SipMessage {
    type Error = VocabularyError;

    fn try_from(message: &Message<'_>) -> Result<Self, VocabularyError> {
        match message.start() {
            StartLine::Response { .. } => Ok(Self::Response(message.try_into()?)),
            _ => Ok(Self::Request(message.try_into()?)),
        }
    }
}

/// Every header line, each under the variant of its name.
fn headers(message: &Message<'_>) -> Headers {
    message.lines().map(header).collect::<Vec<_>>().into()
}

/// One header line. The long name decides the variant, whatever form and case was sent.
fn header(line: HeaderLine<'_>) -> Header {
    /// Finds the variant whose name the line bears.
    macro_rules! by_name {
        ($($name:literal => $kind:ident),* $(,)?) => {
            $(if line.is_named($name) {
                return Header::$kind(untyped::$kind::new(line.value.text()));
            })*
        };
    }
    by_name! {
        b"Via" => Via,
        b"From" => From,
        b"To" => To,
        b"Call-ID" => CallId,
        b"CSeq" => CSeq,
        b"Max-Forwards" => MaxForwards,
        b"Contact" => Contact,
        b"Content-Length" => ContentLength,
        b"Content-Type" => ContentType,
        b"Accept" => Accept,
        b"Accept-Encoding" => AcceptEncoding,
        b"Accept-Language" => AcceptLanguage,
        b"Alert-Info" => AlertInfo,
        b"Allow" => Allow,
        b"Authentication-Info" => AuthenticationInfo,
        b"Authorization" => Authorization,
        b"Call-Info" => CallInfo,
        b"Content-Disposition" => ContentDisposition,
        b"Content-Encoding" => ContentEncoding,
        b"Content-Language" => ContentLanguage,
        b"Date" => Date,
        b"Error-Info" => ErrorInfo,
        b"Event" => Event,
        b"Expires" => Expires,
        b"In-Reply-To" => InReplyTo,
        b"MIME-Version" => MimeVersion,
        b"Min-Expires" => MinExpires,
        b"Organization" => Organization,
        b"Priority" => Priority,
        b"Proxy-Authenticate" => ProxyAuthenticate,
        b"Proxy-Authorization" => ProxyAuthorization,
        b"Proxy-Require" => ProxyRequire,
        b"Record-Route" => RecordRoute,
        b"Reply-To" => ReplyTo,
        b"Require" => Require,
        b"Retry-After" => RetryAfter,
        b"Route" => Route,
        b"Server" => Server,
        b"Subject" => Subject,
        b"Subscription-State" => SubscriptionState,
        b"Supported" => Supported,
        b"Timestamp" => Timestamp,
        b"Unsupported" => Unsupported,
        b"User-Agent" => UserAgent,
        b"Warning" => Warning,
        b"WWW-Authenticate" => WwwAuthenticate,
    }
    Header::Other(text(line.name), line.value.text().into_owned())
}

/// One URI parameter; only those are typed whose values cannot be lost by it.
fn param(name: &[u8], value: Option<&[u8]>) -> Param {
    if name.eq_ignore_ascii_case(b"lr") && value.is_none() {
        return Param::Lr;
    }
    if name.eq_ignore_ascii_case(b"user")
        && let Some(value) = value
    {
        return Param::User(text(value).into());
    }
    if name.eq_ignore_ascii_case(b"transport")
        && let Some(value) = value
    {
        for (known, transport) in [
            (&b"udp"[..], rsip::Transport::Udp),
            (b"tcp", rsip::Transport::Tcp),
            (b"tls", rsip::Transport::Tls),
            (b"sctp", rsip::Transport::Sctp),
            (b"ws", rsip::Transport::Ws),
            (b"wss", rsip::Transport::Wss),
        ] {
            if value.eq_ignore_ascii_case(known) {
                return Param::Transport(transport);
            }
        }
    }
    Param::Other(text(name).into(), value.map(|value| text(value).into()))
}

/// Text with what is no UTF-8 replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use rsip::headers::ToTypedHeader;
    use rsip::prelude::{HasHeaders, HeadersExt};

    use super::*;
    use crate::message::Framing;

    const INVITE: &[u8] =
        b"INVITE sips:john.doe@[2001:db8::1]:5061;transport=tcp;lr;x=y SIP/2.0\r\n\
        v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
        To :\r\n <sip:b@h>\r\n\
        f: \"\xff\" <sip:a@h>;tag=1\r\n\
        i: 1\r\n\
        CSEQ: 7 INVITE\r\n\
        X-Some: thing\r\n\
        l: 3\r\n\r\n\xff\x00\r";

    fn read(bytes: &[u8]) -> Message<'_> {
        Message::parse(bytes, Framing::Datagram).unwrap()
    }

    #[test]
    fn request_is_made_from_what_our_parser_read() {
        let request = rsip::Request::try_from(&read(INVITE)).unwrap();
        assert_eq!(request.method, rsip::Method::Invite);
        assert_eq!(
            request.uri.to_string(),
            "sips:john.doe@[2001:db8::1]:5061;transport=TCP;lr;x=y"
        );
        assert_eq!(request.uri.user(), Some("john.doe"));
        assert_eq!(request.call_id_header().unwrap().value(), "1");
        assert_eq!(request.cseq_header().unwrap().typed().unwrap().seq, 7);
        assert_eq!(request.to_header().unwrap().value(), "<sip:b@h>");
        assert_eq!(request.body, b"\xff\x00\r");
        assert!(
            request
                .headers()
                .iter()
                .any(|header| *header == Header::Other("X-Some".into(), "thing".into()))
        );
    }

    #[test]
    fn response_keeps_an_unknown_code_and_its_reason() {
        let bytes = b"SIP/2.0 299 Just So\r\nCall-ID: 1\r\n\r\n";
        let message = read(bytes);
        let response = rsip::Response::try_from(&message).unwrap();
        assert_eq!(
            response.status_code,
            StatusCode::Other(299, "Just So".into())
        );
        assert!(matches!(
            rsip::SipMessage::try_from(&message),
            Ok(rsip::SipMessage::Response(_))
        ));
        assert_eq!(
            rsip::Request::try_from(&message),
            Err(VocabularyError::Kind)
        );
    }

    #[test]
    fn what_rsip_cannot_hold_is_an_error() {
        for (line, error) in [
            ("invite sip:h SIP/2.0", VocabularyError::Method),
            ("INVITE tel:+1 SIP/2.0", VocabularyError::Uri),
            ("INVITE sip:h?a=b SIP/2.0", VocabularyError::Uri),
            ("INVITE sip:h:x SIP/2.0", VocabularyError::Uri),
            ("INVITE sip:h SIP/3.0", VocabularyError::Kind),
        ] {
            let text = format!("{line}\r\n\r\n");
            let request = rsip::Request::try_from(&read(text.as_bytes()));
            assert_eq!(request, Err(error), "{line}");
        }
    }

    /// Holds the reasons above. If this fails after an update, `rsip` got better: look again.
    #[test]
    fn rsip_still_misreads_what_peers_send() {
        let uri = rsip::Uri::try_from("sip:john.doe@host").unwrap();
        assert_eq!(uri.user(), None);
        assert!(rsip::Uri::try_from("sip:a@[2001:db8::1]").is_err());
        assert!(rsip::SipMessage::try_from(INVITE).is_err());
        let lower = b"invite sip:a@h SIP/2.0\r\nContent-Length: -9\r\n\r\n";
        let request = rsip::Request::try_from(&lower[..]).unwrap();
        assert_eq!(request.method, rsip::Method::Invite);
        let folded = b"INVITE sip:a@h SIP/2.0\r\nTo: a\r\n b\r\n\r\n";
        assert!(rsip::Request::try_from(&folded[..]).is_err());
    }
}
