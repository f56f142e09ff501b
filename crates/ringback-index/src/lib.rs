//! The concurrent tables: read without locks, updated in place, and never rehashed while anybody waits.
//!
//! - [`ContactIndex`]: contacts and the calls remembered of them, as a decision asks for them
//!   ([`Contacts`](ringback_routing::Contacts)). It stands on a [`Table`], which grows and shrinks by one
//!   bucket at a time.
//! - [`Generation`]: answers of some seconds, each entered once, all forgotten together.
//!
//! This crate is pure: no runtime, socket, file, clock or entropy.
//!
//! What threads share comes from one module, `sync`. With `--cfg ringback_loom` that module is made of
//! [loom](https://docs.rs/loom), and the tests named `loom_tests` run a few threads on a very small table in
//! every order that up to three preemptions and the memory model allow:
//!
//! ```text
//! RUSTFLAGS="--cfg ringback_loom" CARGO_TARGET_DIR=target/loom cargo model
//! ```

#[cfg(not(ringback_loom))]
mod contact_index;
mod generation;
mod sync;
mod table;

#[cfg(not(ringback_loom))]
pub use contact_index::{ContactIndex, Observed};
pub use generation::Generation;
pub use table::Table;
