//! What is left of an erased contact: a hash by which the erasure is known again, and no number.
//!
//! A backup that was taken before an erasure has the contact. The tombstones of later erasures, exported, tell a restore
//! which contacts to leave out. The secret that keys the hashes is a fact like any other: all nodes of a cluster have the
//! same one, and so does every backup.

use ringback_routing::{ContactKey, E164, EnvironmentId, Timestamp};
use sha2::{Digest, Sha256};

/// The secret that keys the hashes of erased contacts, and of those that asked for something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErasureSecret(pub [u8; 16]);

impl std::fmt::Debug for ErasureSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("ErasureSecret").finish()
    }
}

impl ErasureSecret {
    /// The hash of a contact, the same for both spellings of its number.
    #[must_use]
    pub fn hash(&self, environment: EnvironmentId, contact: E164) -> ErasedHash {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(environment.0.as_bytes());
        hash.update(contact.subscriber().digits().to_be_bytes());
        ErasedHash(first_bytes(&hash.finalize()))
    }

    /// What keys the hashes of contacts that asked for something: those of erased contacts are told in an export, and
    /// must not be comparable with them.
    #[must_use]
    pub fn contact_key(&self) -> ContactKey {
        ContactKey(first_bytes(&Sha256::digest(
            [b"contacts", self.0.as_slice()].concat(),
        )))
    }

    /// A name of the secret that tells nothing of it: hashes with different secrets cannot be compared.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        first_bytes(&Sha256::digest([b"erasures", self.0.as_slice()].concat()))
    }
}

/// The hash of an erased contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErasedHash(pub [u8; 16]);

/// What is left of an erased contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The hash of the contact.
    pub hash: ErasedHash,
    /// When it was erased, the last time.
    pub at: Timestamp,
}

/// The first bytes of a longer hash.
fn first_bytes<const LENGTH: usize>(hash: &[u8]) -> [u8; LENGTH] {
    let mut first = [0; LENGTH];
    for (to, from) in first.iter_mut().zip(hash) {
        *to = *from;
    }
    first
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    // Files with tombstones are kept for years, so the hashes must not change.
    #[test]
    fn hashes_are_pinned_and_differ_by_secret_environment_and_subscriber() {
        let secret = ErasureSecret([7; 16]);
        let environment = EnvironmentId(Uuid::from_u128(1));
        let number = |digits| E164::from_digits(digits).unwrap();
        let hash = secret.hash(environment, number(525_555_550_142));
        assert_eq!(
            format!("{:032x}", u128::from_be_bytes(hash.0)),
            "e90cd796ec3585cf8ae68a7bf147dd47"
        );
        assert_eq!(hash, secret.hash(environment, number(5_215_555_550_142)));
        assert_ne!(hash, secret.hash(environment, number(525_555_550_143)));
        let elsewhere = EnvironmentId(Uuid::from_u128(2));
        assert_ne!(hash, secret.hash(elsewhere, number(525_555_550_142)));
        let other = ErasureSecret([8; 16]);
        assert_ne!(hash, other.hash(environment, number(525_555_550_142)));
        assert_ne!(secret.id(), other.id());
    }
}
