//! The ways that messages come and go: UDP, TCP and TLS, and what other programs mirror over HEP.

pub(crate) mod acceptor;
pub(crate) mod hep;
pub(crate) mod service;
pub(crate) mod stream;
pub(crate) mod udp;
