//! Behavior of the wire layer and the redirect core as a socket layer sees it.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod answers;
mod exercise;
mod fixtures;
mod hep;
mod mutation;
mod properties;
