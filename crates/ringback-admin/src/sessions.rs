//! The sessions of the console: a token is shown once, a cookie stands for it for twelve hours.
//!
//! Sessions are kept in memory: the end of the server ends them. Only hashes of cookies are kept.

use std::collections::HashMap;
use std::fmt::Write as _;

use parking_lot::Mutex;
use ringback_engine::hash_secret;
use ringback_routing::{EnvironmentId, Timestamp, TokenHash};

use crate::auth::Principal;
use crate::error::ApiError;

/// The open sessions, by the hash of their cookie.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<SessionKey, Session>>);

/// The hash of a session's cookie.
pub(crate) type SessionKey = TokenHash;

/// A session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Whose token it was opened with.
    pub(crate) principal: Principal,
    /// The environment that the administrator chose.
    pub(crate) chosen: Option<EnvironmentId>,
    /// What unsafe methods have to carry.
    pub(crate) csrf_token: String,
    /// When it ends.
    pub(crate) expires_at: Timestamp,
}

impl Sessions {
    /// Opens a session, and returns its cookie and what is kept of it. Where there are too many, the one that ends
    /// first makes room.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn open(
        &self,
        principal: Principal,
        now: Timestamp,
    ) -> Result<(String, Session), ApiError> {
        let cookie = random_text()?;
        let session = Session {
            principal,
            chosen: None,
            csrf_token: random_text()?,
            expires_at: now.plus_millis(LIFETIME_SECONDS * 1_000),
        };
        let mut open = self.0.lock();
        if open.len() >= MOST {
            open.retain(|_, session| session.expires_at > now);
        }
        if open.len() >= MOST {
            let first = open
                .iter()
                .min_by_key(|(_, session)| session.expires_at.millis());
            if let Some(key) = first.map(|(key, _)| *key) {
                open.remove(&key);
            }
        }
        open.insert(hash_secret(&cookie), session.clone());
        Ok((cookie, session))
    }

    /// The session of a cookie, if it has not ended.
    pub(crate) fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Session> {
        let open = self.0.lock();
        let session = open.get(key)?;
        (session.expires_at > now).then(|| session.clone())
    }

    /// Has the administrator's session act in an environment, or in none.
    pub(crate) fn choose(&self, key: &SessionKey, environment: Option<EnvironmentId>) {
        if let Some(session) = self.0.lock().get_mut(key) {
            session.chosen = environment;
        }
    }

    /// Ends a session.
    pub(crate) fn end(&self, key: &SessionKey) {
        self.0.lock().remove(key);
    }
}

/// 256 random bits, in hexadecimal digits.
fn random_text() -> Result<String, ApiError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "no random numbers to make a session of");
        ApiError::Internal
    })?;
    let mut text = String::with_capacity(64);
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// How long a session lasts.
pub(crate) const LIFETIME_SECONDS: i64 = 12 * 60 * 60;

/// How many sessions may be open at once.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_after_twelve_hours_and_are_bounded() {
        let (sessions, now) = (Sessions::default(), Timestamp::from_seconds(1_000));
        let (first, _) = sessions.open(Principal::Administrator, now).unwrap();
        let later = now.plus_millis(1);
        for _ in 0..MOST {
            sessions.open(Principal::Administrator, later).unwrap();
        }
        assert_eq!(sessions.0.lock().len(), MOST);
        assert!(sessions.find(&hash_secret(&first), later).is_none());
        let (last, _) = sessions.open(Principal::Administrator, later).unwrap();
        let end = later.plus_millis(LIFETIME_SECONDS * 1_000);
        let before = end.plus_millis(-1);
        assert!(sessions.find(&hash_secret(&last), before).is_some());
        assert!(sessions.find(&hash_secret(&last), end).is_none());
    }
}
