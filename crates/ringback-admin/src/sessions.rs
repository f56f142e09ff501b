//! The sessions of the console as this node knows them: those of the log, and those that could not be stored.
//!
//! While nothing can be stored, signing in still works: such a session is kept in memory, and ends with the server.

use std::collections::HashMap;
use std::fmt::Write as _;

use parking_lot::Mutex;
use ringback_engine::{EndSession, Engine, PutSession, Session, SubmitError, hash_secret};
use ringback_routing::TokenHash;

use crate::auth::Principal;
use crate::error::ApiError;

/// The hash of a session's cookie.
pub(crate) type SessionKey = TokenHash;

/// The sessions.
pub(crate) struct Sessions {
    /// Has those of the log.
    engine: Engine,
    /// Those that could not be stored, or not as they are now.
    unstored: Mutex<HashMap<SessionKey, Session>>,
}

impl Sessions {
    /// Those of the log.
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            unstored: Mutex::default(),
        }
    }

    /// Opens a session with a token of this hash, and returns its cookie and what is kept of it.
    ///
    /// # Errors
    /// The token has ended, or the system gives no random numbers.
    pub(crate) async fn open(
        &self,
        principal: Principal,
        opened_with: TokenHash,
    ) -> Result<(String, Session), ApiError> {
        let cookie = random_text()?;
        let session = Session {
            cookie: hash_secret(&cookie),
            opened_with,
            token: match principal {
                Principal::Administrator => None,
                Principal::Tenant(environment, token) => Some((environment, token)),
            },
            chosen: None,
            csrf_token: random_text()?,
            started_at: self.engine.now(),
        };
        self.put(session.clone()).await?;
        Ok((cookie, session))
    }

    /// The session of a cookie, if it has not ended by itself or by [`Self::end`].
    pub(crate) fn find(&self, key: &SessionKey) -> Option<Session> {
        if let Some(session) = self.unstored.lock().get(key) {
            let is_open = session.expires_at() > self.engine.now();
            return is_open.then(|| session.clone());
        }
        self.engine.session(key)
    }

    /// Stores a session as it is now; keeps it in memory where that cannot be.
    ///
    /// # Errors
    /// Its token has ended, or the server goes down.
    pub(crate) async fn put(&self, session: Session) -> Result<(), ApiError> {
        let key = session.cookie;
        match self.engine.submit(PutSession(session.clone())).await {
            Ok(()) => {
                self.unstored.lock().remove(&key);
                Ok(())
            }
            Err(
                error @ (SubmitError::StorageUnavailable
                | SubmitError::ClusterUnavailable
                | SubmitError::LogFull
                | SubmitError::Conflict),
            ) => {
                tracing::warn!(%error, "a session cannot be stored; it ends with the server");
                let mut unstored = self.unstored.lock();
                let now = self.engine.now();
                unstored.retain(|_, session| session.expires_at() > now);
                if unstored.len() >= MOST_UNSTORED {
                    return Err(error.into());
                }
                unstored.insert(key, session);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a session.
    ///
    /// # Errors
    /// That cannot be stored, so the session goes on.
    pub(crate) async fn end(&self, key: &SessionKey) -> Result<(), ApiError> {
        let unstored = self.unstored.lock().remove(key);
        // One that could not be opened in the log may be there all the same.
        let ended = self.engine.submit(EndSession(*key)).await;
        match (ended, unstored) {
            (Err(_), Some(_)) if self.engine.session(key).is_none() => Ok(()),
            (ended, _) => Ok(ended?),
        }
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

/// How many sessions are kept in memory.
const MOST_UNSTORED: usize = 1_000;
