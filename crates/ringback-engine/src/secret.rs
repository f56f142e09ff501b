//! Token secrets: random, and stored as hashes.

use ringback_routing::TokenHash;
use sha2::{Digest, Sha256};

/// Makes a secret: the prefix, then 240 random bits as letters and digits.
///
/// # Errors
/// The operating system has no entropy.
pub fn generate_secret(prefix: &str) -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 48];
    getrandom::fill(&mut bytes)?;
    let mut secret = String::with_capacity(prefix.len() + bytes.len());
    secret.push_str(prefix);
    // 32 letters for the low five bits of each byte: 48 times 5 is 240 bits.
    secret.extend(
        bytes
            .iter()
            .filter_map(|byte| ALPHABET.chars().nth(usize::from(byte & 31))),
    );
    Ok(secret)
}

/// The stored hash of a secret. Secrets are random and long, so one round is enough.
#[must_use]
pub fn hash_secret(secret: &str) -> TokenHash {
    TokenHash(Sha256::digest(secret.as_bytes()).into())
}

/// Letters and digits that people do not confuse.
const ALPHABET: &str = "abcdefghijkmnpqrstuvwxyz23456789";
