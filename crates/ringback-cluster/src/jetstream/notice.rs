//! What a node tells the others because somebody has asked for it, as JSON.

use serde::{Deserialize, Serialize};

use super::Recovery;
use crate::snapshot::{is_proof, prove};

/// What a node tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub(super) enum Notice {
    /// A node will not return: it is not shown any more.
    Forget {
        /// Its name.
        node: String,
    },
    /// The log is to be made anew from what a node has.
    Recover {
        /// The name of this node.
        base: String,
        /// Where the new log begins.
        first: u64,
        /// When the stream was made that is to be replaced, in milliseconds since 1970; none if there is none.
        replaces: Option<i64>,
        /// Proves that whoever tells it has the secret.
        proof: String,
    },
}

impl Notice {
    /// Tells a node to make the log anew.
    pub(super) fn recover(recovery: &Recovery, secret: &[u8; 32]) -> Self {
        Self::Recover {
            base: recovery.base.clone(),
            first: recovery.first,
            replaces: recovery.replaces,
            proof: prove(secret, &proved(recovery)),
        }
    }

    /// The recovery that this node is to begin, if it is told so by one that has the secret.
    pub(super) fn is_for(&self, node: &str, secret: &[u8; 32]) -> Option<Recovery> {
        let Self::Recover {
            base,
            first,
            replaces,
            proof,
        } = self
        else {
            return None;
        };
        let recovery = Recovery {
            base: base.clone(),
            first: *first,
            replaces: *replaces,
        };
        let is_for = base == node && is_proof(secret, &proved(&recovery), proof);
        is_for.then_some(recovery)
    }

    /// The bytes of a message.
    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are written as JSON")
    }

    /// Reads a message; none if it is something else.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// What is proved.
fn proved(recovery: &Recovery) -> String {
    let replaces = recovery.replaces.unwrap_or(-1);
    format!("recover {} {} {replaces}", recovery.base, recovery.first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_secret_tells_a_node_to_make_the_log_anew() {
        let secret = [1; 32];
        let recovery = Recovery {
            base: "a".to_owned(),
            first: 7,
            replaces: Some(1),
        };
        let notice = Notice::recover(&recovery, &secret);
        let read = Notice::read(&notice.write()).unwrap();
        assert_eq!(read, notice);
        assert_eq!(read.is_for("a", &secret), Some(recovery));
        assert_eq!(read.is_for("b", &secret), None);
        assert_eq!(read.is_for("a", &[2; 32]), None);
        let forget = Notice::Forget {
            node: "a".to_owned(),
        };
        assert_eq!(Notice::read(&forget.write()), Some(forget.clone()));
        assert_eq!(forget.is_for("a", &secret), None);
        assert_eq!(Notice::read(b"{}"), None);
    }
}
