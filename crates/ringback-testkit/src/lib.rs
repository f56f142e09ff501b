//! Test support: a running server as a process, clients of its API, peers that speak SIP to it, a journal in
//! memory for tests of the engine and its users, the battery that every journal passes, and broken messages.
//!
//! Any failure here fails the test, so functions panic and report what they saw. Nothing sleeps: a server is
//! ready when it says so, and every reply has a deadline.

mod api;
pub mod battery;
mod disk;
mod folder;
mod hep;
mod log;
mod memory;
mod model;
mod mutation;
mod nats;
mod server;
mod sip;

pub use api::{Api, Reply};
pub use disk::{SmallDisk, VolatileDisk};
pub use folder::copy_folder;
pub use hep::hep_packet;
pub use memory::{Load, MemoryJournal, StillClock};
pub use model::{Model, Shown, routed_since};
pub use mutation::{Case, Mutator};
pub use nats::NatsServers;
pub use server::{Output, Server, ServerBuilder, run};
pub use sip::{SipPeer, SipReply};
