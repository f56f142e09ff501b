//! Telnyx: `telnyx-signature-ed25519` over `telnyx-timestamp`, a bar and the body. The secret is the public key of the
//! account.

use data_encoding::BASE64;
use ring::signature::{ED25519, UnparsedPublicKey};
use ringback_routing::Timestamp;

use super::{is_recent, only_if};
use crate::request::Request;

/// Checks the proof.
pub(super) fn is_proven(secret: &str, request: &Request<'_>, now: Timestamp) -> Option<()> {
    let signature = (request.header)("telnyx-signature-ed25519")?;
    let signature = BASE64.decode(signature.as_bytes()).ok()?;
    let time = (request.header)("telnyx-timestamp")?;
    let seconds: i64 = time.parse().ok()?;
    only_if(is_recent(seconds.checked_mul(1_000)?, now))?;
    let signed = [time.as_bytes(), b"|", request.body].concat();
    let key = UnparsedPublicKey::new(&ED25519, public_key(secret)?);
    key.verify(&signed, &signature).ok()
}

/// The public key: 32 bytes in base64.
pub(super) fn public_key(secret: &str) -> Option<Vec<u8>> {
    let key = BASE64.decode(secret.as_bytes()).ok()?;
    (key.len() == 32).then_some(key)
}
