//! Retell: `x-retell-signature: v=<milliseconds>,d=<hexadecimal HMAC-SHA256 over body and milliseconds>`.

use ringback_routing::Timestamp;

use super::{is_hmac, is_recent, only_if};
use crate::request::Request;

/// Checks the proof.
pub(super) fn is_proven(secret: &str, request: &Request<'_>, now: Timestamp) -> Option<()> {
    let signature = (request.header)("x-retell-signature")?;
    let (time, digest) = signature.strip_prefix("v=")?.split_once(",d=")?;
    only_if(is_recent(time.parse().ok()?, now))?;
    only_if(is_hmac(secret, &[request.body, time.as_bytes()], digest))
}
