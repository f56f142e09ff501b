//! The SIP sockets of Ringback: UDP, TCP and TLS listeners, peers, overload, and learning.
//!
//! Bytes come in here, are read and answered by `ringback-sip-proto`, and are decided upon by
//! `ringback-routing`. Where the directory and the contacts come from, and who counts decisions,
//! the embedding program says.

mod config;
mod peers;
mod spec;
mod tls;

pub use config::{ConfigProblem, SipConfig, SipConfigError};
pub use spec::{HepSpec, PeerSpec, SipSpec, TlsSpec};
