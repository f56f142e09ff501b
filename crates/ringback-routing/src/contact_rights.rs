//! What contacts asked for: not to be called any more, or that calls to an earlier holder of the number no longer count.
//!
//! It is kept by a keyed hash of environment and number, and so outlives the erasure of the contact without holding
//! its number.

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::{E164, EnvironmentId, Timestamp};

/// The secret that keys the hashes of contacts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContactKey(pub [u8; 16]);

impl std::fmt::Debug for ContactKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("ContactKey").finish()
    }
}

impl ContactKey {
    /// The hash of a contact: the same for both spellings of its number, and another in another environment.
    #[must_use]
    pub fn hash(&self, environment: EnvironmentId, contact: E164) -> ContactHash {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(environment.0.as_bytes());
        hasher.write(&contact.subscriber().digits().to_be_bytes());
        ContactHash(hasher.finish128().as_bytes())
    }
}

/// The keyed hash of a contact: see [`ContactKey::hash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContactHash(pub [u8; 16]);

/// A contact's wish not to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptOut {
    /// Why, as a short word of whoever noted it.
    pub reason: Option<Arc<str>>,
    /// Until when it holds; `None`: for good.
    pub until: Option<Timestamp>,
    /// When it was first noted.
    pub created_at: Timestamp,
}

impl OptOut {
    /// Whether it holds at this instant.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What a contact asked for, and in which environment. The two are independent of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactRights {
    /// The environment that the contact is one of.
    pub environment: EnvironmentId,
    /// The wish not to be called; may be over.
    pub opt_out: Option<OptOut>,
    /// The number was given to somebody else: calls from before this instant do not count.
    pub counts_from: Option<Timestamp>,
}

impl ContactRights {
    /// Those of a contact that has asked for nothing.
    #[must_use]
    pub const fn none(environment: EnvironmentId) -> Self {
        Self {
            environment,
            opt_out: None,
            counts_from: None,
        }
    }

    /// The wish not to be called, if there is one that holds at this instant.
    #[must_use]
    pub fn opt_out_at(&self, now: Timestamp) -> Option<&OptOut> {
        self.opt_out.as_ref().filter(|opt_out| opt_out.holds(now))
    }

    /// Whether a call that started at this instant counts.
    #[must_use]
    pub fn counts(&self, started_at: Timestamp) -> bool {
        self.counts_from.is_none_or(|from| started_at >= from)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    // Hashes are stored for years, so they must not change.
    #[test]
    fn hashes_are_pinned_and_differ_by_key_environment_and_subscriber() {
        let key = ContactKey([7; 16]);
        let environment = EnvironmentId(Uuid::from_u128(1));
        let number = |digits| E164::from_digits(digits).unwrap();
        let hash = key.hash(environment, number(525_555_550_142));
        assert_eq!(
            format!("{:032x}", u128::from_be_bytes(hash.0)),
            "4d4f69053ccd9a29a258de524587b75a"
        );
        assert_eq!(hash, key.hash(environment, number(5_215_555_550_142)));
        assert_ne!(hash, key.hash(environment, number(525_555_550_143)));
        let elsewhere = EnvironmentId(Uuid::from_u128(2));
        assert_ne!(hash, key.hash(elsewhere, number(525_555_550_142)));
        let other = ContactKey([8; 16]);
        assert_ne!(hash, other.hash(environment, number(525_555_550_142)));
    }

    #[test]
    fn an_opt_out_holds_before_its_end_and_calls_count_from_the_day_on() {
        let at = Timestamp::from_seconds;
        let mut rights = ContactRights::none(EnvironmentId(Uuid::nil()));
        assert!(rights.opt_out_at(at(0)).is_none() && rights.counts(at(0)));
        rights.opt_out = Some(OptOut {
            reason: None,
            until: Some(at(10)),
            created_at: at(1),
        });
        rights.counts_from = Some(at(5));
        assert!(rights.opt_out_at(at(9)).is_some());
        assert!(rights.opt_out_at(at(10)).is_none());
        assert!(!rights.counts(at(4)) && rights.counts(at(5)));
    }
}
