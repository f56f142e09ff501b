//! Sessions of the web console: a token is shown once, a cookie stands for it for twelve hours.
//!
//! Sessions are facts of the log, so that they outlast a restart and hold on every node of a cluster. Only hashes of
//! cookies and of tokens are in them. Whether the token of a session has ended, whoever asks finds out.

use std::collections::HashMap;

use parking_lot::RwLock;
use ringback_routing::{EnvironmentId, Timestamp, TokenHash, TokenId};

use crate::{Change, Command, CommandError, Draft};

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The hash of its cookie, which names it.
    pub cookie: TokenHash,
    /// The hash of the token that it was opened with: the administrator's may be another one after a restart.
    pub opened_with: TokenHash,
    /// The same token, of an environment; `None`: the administrator's.
    pub token: Option<(EnvironmentId, TokenId)>,
    /// The environment that the administrator chose.
    pub chosen: Option<EnvironmentId>,
    /// What unsafe methods have to carry.
    pub csrf_token: String,
    /// When it was opened.
    pub started_at: Timestamp,
}

impl Session {
    /// How long a session lasts, in seconds.
    pub const LIFETIME_SECONDS: i64 = 12 * 60 * 60;

    /// When it ends.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        let lifetime = Self::LIFETIME_SECONDS * 1_000;
        self.started_at.plus_millis(lifetime)
    }
}

/// The sessions that stand in the log, by the hash of their cookie.
#[derive(Debug, Default)]
pub(crate) struct Sessions(RwLock<HashMap<TokenHash, Session>>);

impl Sessions {
    /// Those that were stored.
    pub(crate) fn load(stored: HashMap<TokenHash, Session>) -> Self {
        Self(RwLock::new(stored))
    }

    /// The session of this cookie, if it has not ended.
    pub(crate) fn find(&self, cookie: &TokenHash, now: Timestamp) -> Option<Session> {
        let open = self.0.read();
        let session = open.get(cookie)?;
        (session.expires_at() > now).then(|| session.clone())
    }

    /// Applies a fact; facts about other things do nothing.
    pub(crate) fn apply(&self, fact: &Change) {
        match fact {
            Change::SessionPut(session) => {
                self.0.write().insert(session.cookie, (**session).clone());
            }
            Change::SessionEnded(cookie) => {
                self.0.write().remove(cookie);
            }
            _ => {}
        }
    }

    /// Those that have ended by themselves and, where there are too many, those that end first.
    fn to_drop(&self, now: Timestamp) -> Vec<TokenHash> {
        let open = self.0.read();
        let (mut kept, ended): (Vec<&Session>, Vec<&Session>) = open
            .values()
            .partition(|session| session.expires_at() > now);
        kept.sort_unstable_by_key(|session| session.started_at);
        let surplus = (kept.len() + 1).saturating_sub(MOST);
        let dropped = ended.into_iter().chain(kept.into_iter().take(surplus));
        dropped.map(|session| session.cookie).collect()
    }
}

/// Opens a session, or changes the environment of one. Those that have ended are dropped.
#[derive(Clone, Debug)]
pub struct PutSession(pub Session);

impl Command for PutSession {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let Self(session) = self;
        if let Some((environment, token)) = session.token
            && !draft.directory().has_token(environment, token)
        {
            return Err(CommandError::TokenEnded);
        }
        let now = draft.now();
        for cookie in draft.sessions().to_drop(now) {
            if cookie != session.cookie {
                draft.change(Change::SessionEnded(cookie));
            }
        }
        draft.change(Change::SessionPut(Box::new(session.clone())));
        Ok(())
    }
}

/// Ends a session; one that is not there, too.
#[derive(Clone, Copy, Debug)]
pub struct EndSession(pub TokenHash);

impl Command for EndSession {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        draft.change(Change::SessionEnded(self.0));
        Ok(())
    }
}

/// How many sessions may be open at once.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// The session with this number, opened at this second.
    fn session(number: u64, second: i64) -> Session {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        Session {
            cookie: TokenHash(hash),
            opened_with: TokenHash([9; 32]),
            token: None,
            chosen: None,
            csrf_token: "csrf".to_owned(),
            started_at: Timestamp::from_seconds(second),
        }
    }

    #[test]
    fn sessions_end_after_twelve_hours_and_are_bounded() {
        let sessions = Sessions::default();
        let put = |session| sessions.apply(&Change::SessionPut(Box::new(session)));
        put(session(0, 1_000));
        put(session(1, 2_000));
        let cookie = session(1, 0).cookie;
        let end = Timestamp::from_seconds(2_000 + Session::LIFETIME_SECONDS);
        assert!(sessions.find(&cookie, end.plus_millis(-1)).is_some());
        assert_eq!(sessions.find(&cookie, end), None);
        assert!(sessions.to_drop(Timestamp::from_seconds(2_000)).is_empty());
        assert_eq!(
            sessions.to_drop(end.plus_millis(-1)),
            [session(0, 0).cookie]
        );
        for number in 2..MOST as u64 {
            put(session(number, 3_000));
        }
        let first = [session(0, 0).cookie];
        assert_eq!(sessions.to_drop(Timestamp::from_seconds(3_000)), first);
        sessions.apply(&Change::SessionEnded(cookie));
        assert_eq!(sessions.find(&cookie, Timestamp::from_seconds(2_000)), None);
    }
}
