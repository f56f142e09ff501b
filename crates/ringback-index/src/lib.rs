//! The concurrent tables: read without locks, updated in place, and never rehashed while anybody waits.
//!
//! - [`ContactIndex`]: contacts and the calls remembered of them, as a decision asks for them
//!   ([`Contacts`](ringback_routing::Contacts)). It stands on a table of its own, which grows and shrinks by
//!   one bucket at a time.
//! - [`Generation`]: answers of some seconds, each entered once, all forgotten together.
//!
//! This crate is pure: no runtime, socket, file or clock. All its atomics are in these tables; the decision
//! itself, in `ringback-routing`, knows none.

mod contact_index;
mod generation;
mod table;

pub use contact_index::{ContactIndex, Observed};
pub use generation::Generation;
