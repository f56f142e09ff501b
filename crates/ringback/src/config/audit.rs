//! `[audit]`: how long it is kept who changed what.

use serde::{Deserialize, Serialize};

use super::fault::Faults;

/// The `[audit]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct AuditSpec {
    /// For how many days audit entries are kept, 1 to 36,500; default 400.
    days: u32,
}

impl Default for AuditSpec {
    fn default() -> Self {
        Self { days: 400 }
    }
}

impl AuditSpec {
    /// For how many days audit entries are kept.
    pub(super) fn check(&self, faults: &mut Faults<'_>) -> u32 {
        if !(1..=MOST_DAYS).contains(&self.days) {
            let message = format!("must be from 1 to {MOST_DAYS}");
            faults.add("audit.days", message);
        }
        self.days
    }
}

/// A hundred years.
const MOST_DAYS: u32 = 36_500;
