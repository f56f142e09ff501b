//! What an agent's target may look like.

use super::{Scheme, Uri, UriError, reads_as};

/// Why a URI cannot be a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It breaks the grammar.
    #[error("not a valid URI")]
    Malformed(#[source] UriError),
    /// Neither `sip:` nor `sips:`.
    #[error("not a SIP URI")]
    Scheme,
    /// `transport=tls` is deprecated (RFC 5630 §3.1.4): write a `sips:` URI, or a name whose
    /// NAPTR records say TLS.
    #[error("transport=tls is not allowed, use a sips URI")]
    TransportTls,
}

/// Checks a URI for use as a target of a redirect.
///
/// # Errors
///
/// If it is no `sip:` or `sips:` URI, is malformed, or asks for `transport=tls`.
pub fn validate_target(text: &str) -> Result<(), TargetError> {
    read_target(text.as_bytes()).map(|_| ())
}

/// The same, returning what was read.
pub(crate) fn read_target(text: &[u8]) -> Result<Uri<'_>, TargetError> {
    let uri = Uri::parse(text).map_err(TargetError::Malformed)?;
    if !matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) {
        return Err(TargetError::Scheme);
    }
    if uri.host().is_some_and(|host| host.has_zone()) {
        // It means something on this machine alone, and a target is for others.
        return Err(TargetError::Malformed(UriError::Host));
    }
    let tls = uri.params().any(|(name, value)| {
        reads_as(name, "transport") && value.is_some_and(|value| reads_as(value, "tls"))
    });
    if tls {
        return Err(TargetError::TransportTls);
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_sip_uris_without_transport_tls() {
        for text in [
            "sip:a@h",
            "sips:a@h:5061",
            "sip:h;transport=tcp",
            "sip:a@[::1]?X-A=b",
            "sip:a;transport=tls@h",
            "sip:a@h;transport=tls-sctp",
            "sip:a@h;x=tls?transport=tls",
        ] {
            assert_eq!(validate_target(text), Ok(()), "{text}");
        }
        assert_eq!(validate_target("tel:+1"), Err(TargetError::Scheme));
        assert_eq!(validate_target("http://h"), Err(TargetError::Scheme));
        for text in [
            "sip:a@h;Transport=TLS",
            "sip:a@h;transport=%74ls",
            "sips:a@h;transport=%54%4C%53",
            "sip:h;%74ransport=tls",
            "sip:h;lr;%54RANSPOR%74=t%6Cs;x=y?A=b",
            "sip:h;transport=udp;transport=t%6cs",
        ] {
            assert_eq!(
                validate_target(text),
                Err(TargetError::TransportTls),
                "{text}"
            );
        }
        for text in [
            "",
            "a@h",
            "sip:a b@h",
            "sip:a@h>",
            "sip:a@h\r\nX: y",
            "<sip:a@h>",
            "sip:é@h",
            "sip:a@[fe80::1%eth0]",
        ] {
            assert!(
                matches!(validate_target(text), Err(TargetError::Malformed(_))),
                "{text}"
            );
        }
    }
}
