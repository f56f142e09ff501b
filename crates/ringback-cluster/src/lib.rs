//! The log of Ringback on a NATS JetStream stream that several nodes share.
//!
//! [`replica`] decides everything and touches nothing: a state machine that gets messages, acknowledgements and the
//! time, and says what to publish, read and apply. Its tests run several nodes over a stream with faults on virtual
//! time. `docs/design/cluster.md` tells why it is as it is.

mod jetstream;
mod journal;
mod link;
mod outbox;
pub mod replica;
pub mod snapshot;
mod wire;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use jetstream::{
    Access, ClusterHandle, ClusterSettings, ClusterStatus, Condition, Data, ForgetError,
    JetStreamLink, JoinError, Member, NodeStatus, Peer, Recovery, RecoveryError, StreamStatus,
    join,
};
pub use journal::{ClusterJournal, Codec};
pub use link::Link;
pub use outbox::OutboxFile;
pub use wire::{AppendId, Chain, MessageError, Place};
