//! The transports: UDP, TCP and TLS, and HEP from programs that mirror their messages.

pub(crate) mod acceptor;
pub(crate) mod hep;
pub(crate) mod service;
pub(crate) mod stream;
pub(crate) mod udp;
pub(crate) mod undelivered;
