//! The proofs by which platforms show who they are: one file for each kind.
//!
//! A proof is checked over the bytes received, before they are parsed, and compared in constant time. A missing proof
//! is a wrong one. A time that is signed may differ from ours by 300 seconds, both ways.

mod bearer;
mod jambonz;
mod retell;
mod telnyx;
mod twilio;
mod ultravox;
mod vapi;

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::hmac;
use ringback_routing::{Dialect, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::request::Request;

/// Whether a request proves that the platform knows the secret.
#[must_use]
pub fn is_proven(dialect: Dialect, secret: &str, request: &Request<'_>, now: Timestamp) -> bool {
    let proven = match dialect {
        Dialect::Twilio => twilio::is_proven(secret, request),
        Dialect::Telnyx => telnyx::is_proven(secret, request, now),
        Dialect::Retell => retell::is_proven(secret, request, now),
        Dialect::Jambonz => jambonz::is_proven(secret, request, now),
        Dialect::Ultravox => ultravox::is_proven(secret, request, now),
        Dialect::Vapi => vapi::is_proven(secret, request),
        Dialect::RtJson
        | Dialect::Drachtio
        | Dialect::FreeSwitch
        | Dialect::RustPbx
        | Dialect::ElevenLabs
        | Dialect::Text => bearer::is_proven(secret, request),
    };
    proven.is_some()
}

/// Whether a text can be the secret of a connector: for Telnyx a public key in base64, for others 1 to 512 printable
/// characters.
#[must_use]
pub fn is_secret(dialect: Dialect, secret: &str) -> bool {
    match dialect {
        Dialect::Telnyx => telnyx::public_key(secret).is_some(),
        _ => {
            let printable = secret.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            printable && (1..=512).contains(&secret.len())
        }
    }
}

/// `Some` if a condition holds: proofs are chains of conditions.
fn only_if(holds: bool) -> Option<()> {
    holds.then_some(())
}

/// Whether two texts are equal, in a time that tells nothing of where they differ, nor how long the secret is.
fn are_equal(given: &str, secret: &str) -> bool {
    let hash = |text: &str| Sha256::digest(text.as_bytes());
    hash(given).ct_eq(&hash(secret)).into()
}

/// Whether this, in hexadecimal, is the HMAC-SHA256 of these parts, one behind the other.
fn is_hmac(secret: &str, parts: &[&[u8]], hex: &str) -> bool {
    let Ok(tag) = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()) else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, &parts.concat(), &tag).is_ok()
}

/// Whether an instant, in milliseconds since 1970, is near enough.
fn is_recent(millis: i64, now: Timestamp) -> bool {
    now.millis().abs_diff(millis) <= MOST_MILLIS
}

/// How far a signed time may lie from ours, in milliseconds.
const MOST_MILLIS: u64 = 300_000;
