//! What an agent's target may look like.

use std::ops::Range;

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
    /// A brace that is not of a placeholder, or a placeholder elsewhere than in the user part or a
    /// parameter.
    #[error(
        "only {{agent_id}}, {{source_agent_id}}, {{dialed}} and {{caller}} may stand in braces, in the user \
         part or a parameter"
    )]
    Placeholder,
}

/// What a target may leave open until there is a call: who takes it, whose call is returned, and
/// both numbers.
pub const PLACEHOLDERS: [&str; 4] = ["agent_id", "source_agent_id", "dialed", "caller"];

/// Checks a URI for use as a target of a redirect. It may hold [`PLACEHOLDERS`] in braces, in the user
/// part or a parameter.
///
/// # Errors
///
/// If it is no `sip:` or `sips:` URI, is malformed, asks for `transport=tls`, or holds other braces.
pub fn validate_target(text: &str) -> Result<(), TargetError> {
    if !text.contains(['{', '}']) {
        return read_target(text.as_bytes()).map(|_| ());
    }
    // An agent's id is neither number nor word; a number may be withheld.
    for number in ["+15551234567", "anonymous"] {
        let (filled, filled_at) = fill_samples(text, number)?;
        let uri = read_target(filled.as_bytes())?;
        let end = filled.len() - uri.headers.map_or(0, |headers| headers.len() + 1);
        let params = end.saturating_sub(uri.params.len())..end;
        let start = super::scheme_end(filled.as_bytes()).map_or(0, |colon| colon + 1);
        let user = start..start + uri.user.map_or(0, <[u8]>::len);
        let is_within = |outer: &Range<usize>, inner: &Range<usize>| {
            outer.start <= inner.start && inner.end <= outer.end
        };
        if !filled_at
            .iter()
            .all(|at| is_within(&user, at) || is_within(&params, at))
        {
            return Err(TargetError::Placeholder);
        }
    }
    Ok(())
}

/// Where a target leads, whoever is called there: scheme, host, port and transport, as a URI without a user. Two targets
/// with one destination are one place. `None`: it is no `sip:` or `sips:` URI.
#[must_use]
pub fn destination(target: &str) -> Option<String> {
    // Placeholders stand where nothing matters to this.
    let text = target.replace(['{', '}'], "");
    let uri = Uri::parse(text.as_bytes()).ok()?;
    let scheme = match uri.scheme() {
        Scheme::Sip => "sip",
        Scheme::Sips => "sips",
        Scheme::Tel | Scheme::Other => return None,
    };
    let host = uri.param("maddr").unwrap_or(uri.host()?.as_bytes());
    let mut destination = format!("{scheme}:{}", std::str::from_utf8(host).ok()?);
    if let Some(port) = uri.port() {
        destination.push_str(&format!(":{port}"));
    }
    if let Some(transport) = uri.param("transport") {
        destination.push_str(";transport=");
        destination.push_str(std::str::from_utf8(transport).ok()?);
    }
    destination.make_ascii_lowercase();
    Some(destination)
}

/// Fills placeholders with what might stand there; gives where they stand then.
fn fill_samples(text: &str, number: &str) -> Result<(String, Vec<Range<usize>>), TargetError> {
    let mut filled = String::new();
    let mut filled_at = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}').ok_or(TargetError::Placeholder)?;
        let cuts_escape = matches!(before.as_bytes(), [.., b'%'] | [.., b'%', _]);
        if before.contains('}') || cuts_escape || !PLACEHOLDERS.contains(&name) {
            return Err(TargetError::Placeholder);
        }
        filled.push_str(before);
        let start = filled.len();
        filled.push_str(if name.ends_with("agent_id") {
            "00000000-0000-0000-0000-000000000000"
        } else {
            number
        });
        filled_at.push(start..filled.len());
        rest = tail;
    }
    if rest.contains('}') {
        return Err(TargetError::Placeholder);
    }
    filled.push_str(rest);
    Ok((filled, filled_at))
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
    fn placeholders_stand_in_user_and_parameters() {
        for text in [
            "sip:{dialed}@h",
            "sips:{caller}@h:5061;user=phone",
            "sip:a-{agent_id}-{source_agent_id}@h;x={dialed};y=b{caller}?A=b",
            "sip:h;x={dialed}",
            "sip:%41{dialed}@h",
        ] {
            assert_eq!(validate_target(text), Ok(()), "{text}");
        }
        for text in [
            "sip:{other}@h",
            "sip:{}@h",
            "sip:{Dialed}@h",
            "sip:{{dialed}}@h",
            "sip:{dialed@h",
            "sip:dialed}@h",
            "sip:a}{dialed}@h",
            "sip:a@{agent_id}.h",
            "sip:a:{dialed}@h",
            "sip:a@h?X={caller}",
            "sip:%{dialed}@h",
            "sip:%4{agent_id}@h",
        ] {
            assert_eq!(
                validate_target(text),
                Err(TargetError::Placeholder),
                "{text}"
            );
        }
        for text in [
            "{agent_id}",
            "sip:a@h:{dialed}",
            "sip:a@{dialed}",
            "{dialed}:a@h",
        ] {
            assert!(validate_target(text).is_err(), "{text}");
        }
        assert_eq!(
            validate_target("sip:{dialed}@h;transport=%74ls"),
            Err(TargetError::TransportTls)
        );
        // What is written must have been filled in.
        assert!(read_target(b"sip:{dialed}@h").is_err());
    }

    #[test]
    fn a_destination_is_what_a_target_has_besides_the_user() {
        for (target, expected) in [
            ("sip:a@H.example", "sip:h.example"),
            (
                "SIP:{agent_id}@h.example:5070;x={dialed}?A=b",
                "sip:h.example:5070",
            ),
            ("sips:b:c@[::1];lr", "sips:[::1]"),
            ("sip:h;user=phone;Transport=TCP", "sip:h;transport=tcp"),
            ("sip:a@h.example;maddr=192.0.2.1", "sip:192.0.2.1"),
        ] {
            let found = destination(target);
            assert_eq!(found.as_deref(), Some(expected), "{target}");
            assert_eq!(destination(expected).as_deref(), Some(expected));
        }
        assert_eq!(destination("tel:+1"), None);
        assert_eq!(destination("sip:a b@h"), None);
    }

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
