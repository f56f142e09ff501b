//! The secret itself: `Authorization: Bearer`, `Authorization: Basic` with any user, or `X-Api-Key`.

use data_encoding::BASE64;

use super::{are_equal, only_if};
use crate::request::Request;

/// Checks the proof.
pub(super) fn is_proven(secret: &str, request: &Request<'_>) -> Option<()> {
    if let Some(key) = (request.header)("x-api-key")
        && are_equal(key, secret)
    {
        return Some(());
    }
    let (scheme, credentials) = (request.header)("authorization")?.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return only_if(are_equal(credentials, secret));
    }
    only_if(scheme.eq_ignore_ascii_case("basic"))?;
    let decoded = String::from_utf8(BASE64.decode(credentials.as_bytes()).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    only_if(are_equal(password, secret))
}
