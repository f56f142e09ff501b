//! What each path does. One module for each kind of thing.

pub(crate) mod agents;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod batch;
pub(crate) mod callback;
pub(crate) mod calls;
pub(crate) mod cluster;
pub(crate) mod connectors;
mod contact_batch;
pub(crate) mod contacts;
pub(crate) mod decisions;
pub(crate) mod environments;
pub(crate) mod erasures;
pub(crate) mod export;
pub(crate) mod lookup;
pub(crate) mod number_audit;
pub(crate) mod numbers;
pub(crate) mod opt_outs;
pub(crate) mod platforms;
pub(crate) mod probes;
pub(crate) mod problems;
pub(crate) mod reload;
pub(crate) mod remembered;
pub(crate) mod session;
pub(crate) mod statistics;
pub(crate) mod status;
pub(crate) mod targets;
