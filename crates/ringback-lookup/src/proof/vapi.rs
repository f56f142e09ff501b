//! Vapi: the secret itself, in `X-Vapi-Secret` or `Authorization: Bearer`.

use super::{are_equal, only_if};
use crate::request::Request;

/// Checks the proof.
pub(super) fn is_proven(secret: &str, request: &Request<'_>) -> Option<()> {
    if let Some(given) = (request.header)("x-vapi-secret")
        && are_equal(given, secret)
    {
        return Some(());
    }
    let (scheme, credentials) = (request.header)("authorization")?.split_once(' ')?;
    only_if(scheme.eq_ignore_ascii_case("bearer") && are_equal(credentials.trim(), secret))
}
