//! Identifiers: UUIDs outside of the process, small slots on the call path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use uuid::Uuid;

/// Defines a newtype over [`Uuid`] that prints and parses in the hyphenated form.
macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::try_parse(text).map(Self)
            }
        }
    };
}

uuid_newtype! {
    /// Names a tenant.
    EnvironmentId
}
uuid_newtype! {
    /// Names a connector.
    ConnectorId
}
uuid_newtype! {
    /// Names an agent.
    AgentId
}
uuid_newtype! {
    /// Names a phone number's entry (not its digits).
    NumberId
}
uuid_newtype! {
    /// Names an API token (not its secret).
    TokenId
}

/// Reads an identifier in the one form that the API takes: 36 characters with hyphens.
#[must_use]
pub fn read_id(text: &str) -> Option<Uuid> {
    if text.len() == 36 {
        Uuid::try_parse(text).ok()
    } else {
        None
    }
}

/// Index of an environment in this process's [`Directory`](crate::Directory); never stored.
///
/// Part of a contact's packed key, so at most [`EnvironmentSlot::LIMIT`] environments exist at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvironmentSlot(pub u16);

impl EnvironmentSlot {
    /// How many environments one process holds: 14 bits beside the 50 bits of a number.
    pub const LIMIT: usize = 1 << 14;
}

/// Index of an agent in this process's [`Directory`](crate::Directory); never stored, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentSlot(pub u32);

/// A list of agents; up to four are kept inline, which is enough for most lists.
pub type AgentSlots = SmallVec<[AgentSlot; 4]>;
