//! Ultravox: `X-Ultravox-Webhook-Signature`, hexadecimal HMAC-SHA256 over the body and the text of
//! `X-Ultravox-Webhook-Timestamp` (ISO 8601). There may be several signatures, separated by commas, of which any one
//! may hold.

use ringback_routing::Timestamp;

use super::{is_hmac, is_recent, only_if};
use crate::request::Request;

/// Checks the proof.
pub(super) fn is_proven(secret: &str, request: &Request<'_>, now: Timestamp) -> Option<()> {
    let time = (request.header)("x-ultravox-webhook-timestamp")?;
    only_if(is_recent(millis(time)?, now))?;
    let signatures = (request.header)("x-ultravox-webhook-signature")?;
    let parts = [request.body, time.as_bytes()];
    only_if(
        signatures
            .split(',')
            .take(MOST_SIGNATURES)
            .any(|digest| is_hmac(secret, &parts, digest.trim())),
    )
}

/// An instant in ISO 8601, in milliseconds since 1970; without an offset it is in UTC.
fn millis(time: &str) -> Option<i64> {
    let instant = time
        .parse::<jiff::Timestamp>()
        .or_else(|_| format!("{time}Z").parse::<jiff::Timestamp>());
    instant.ok().map(jiff::Timestamp::as_millisecond)
}

/// The most signatures that are tried.
const MOST_SIGNATURES: usize = 4;
