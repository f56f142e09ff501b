//! jambonz: `Jambonz-Signature: t=<seconds>,v1=<hexadecimal HMAC-SHA256 over t, a dot and the body>`. While secrets
//! rotate there are several `v1`, of which any one may hold.

use ringback_routing::Timestamp;

use super::{is_hmac, is_recent, only_if};
use crate::request::{Method, Request};

/// Checks the proof.
pub(super) fn is_proven(secret: &str, request: &Request<'_>, now: Timestamp) -> Option<()> {
    let signature = (request.header)("jambonz-signature")?;
    let values = |name: &'static str| {
        let parts = signature.split(',').map(str::trim);
        parts.filter_map(move |part| part.strip_prefix(name)?.strip_prefix('='))
    };
    let time = values("t").next()?;
    let seconds: i64 = time.parse().ok()?;
    only_if(is_recent(seconds.checked_mul(1_000)?, now))?;
    let body = match request.method {
        Method::Get => &[],
        Method::Post => request.body,
    };
    let parts = [time.as_bytes(), b".", body];
    only_if(
        values("v1")
            .take(MOST_SIGNATURES)
            .any(|digest| is_hmac(secret, &parts, digest)),
    )
}

/// The most signatures that are tried.
const MOST_SIGNATURES: usize = 4;
