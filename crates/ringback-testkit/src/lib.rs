//! Test support: a running server as a process, clients of its API, and peers that speak SIP to it.
//!
//! Whatever goes wrong here is the test's failure, so functions panic and say what they saw. Nothing
//! sleeps: a server is ready when it says so, a reply is waited for with a deadline.

mod api;
mod server;
mod sip;

pub use api::{Api, Reply};
pub use server::{Output, Server, ServerBuilder, run};
pub use sip::{SipPeer, SipReply};
