//! `[decisions]`: how many decisions are remembered.

use serde::{Deserialize, Serialize};

/// The `[decisions]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct DecisionsSpec {
    /// How many of the latest decisions of all environments can be searched; each takes about 200 bytes of memory.
    pub(crate) keep: u32,
}

impl Default for DecisionsSpec {
    fn default() -> Self {
        Self { keep: 100_000 }
    }
}

impl DecisionsSpec {
    /// How many are kept.
    pub(crate) fn kept(&self) -> usize {
        usize::try_from(self.keep).unwrap_or(usize::MAX)
    }
}
