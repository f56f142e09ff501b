//! Records of sessions: a version byte, then JSON with named fields.

use ringback_engine::Session;
use ringback_routing::{EnvironmentId, Timestamp, TokenHash, TokenId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::directory::DirectoryRecord;
use crate::key::{hex, read_hex};

/// A session.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredSession {
    cookie: String,
    opened_with: String,
    /// The environment of the token, and its identifier; nothing for the administrator's.
    token: Option<(Uuid, Uuid)>,
    chosen: Option<Uuid>,
    csrf_token: String,
    started_at: i64,
}

impl DirectoryRecord for Session {
    type Stored = StoredSession;

    fn store(&self) -> StoredSession {
        StoredSession {
            cookie: hex(&self.cookie.0),
            opened_with: hex(&self.opened_with.0),
            token: self.token.map(|(environment, id)| (environment.0, id.0)),
            chosen: self.chosen.map(|id| id.0),
            csrf_token: self.csrf_token.clone(),
            started_at: self.started_at.millis(),
        }
    }

    fn read(stored: StoredSession) -> Option<Self> {
        let token = stored.token;
        Some(Self {
            cookie: TokenHash(read_hex(&stored.cookie)?),
            opened_with: TokenHash(read_hex(&stored.opened_with)?),
            token: token.map(|(environment, id)| (EnvironmentId(environment), TokenId(id))),
            chosen: stored.chosen.map(EnvironmentId),
            csrf_token: stored.csrf_token,
            started_at: Timestamp::from_millis(stored.started_at),
        })
    }
}
