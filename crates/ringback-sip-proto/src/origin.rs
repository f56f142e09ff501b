//! Where a message came from, as far as a reply depends on it.

use std::net::{IpAddr, SocketAddr};

/// The transport a message arrived over, which is the transport its reply leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One message per datagram.
    Udp,
    /// A stream framed by `Content-Length`.
    Tcp,
    /// The same inside TLS.
    Tls,
}

impl Transport {
    /// True where `Content-Length` alone tells one message from the next.
    #[must_use]
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }
}

/// The sender's address and the transport: what RFC 3261 §18.2.1 writes into the top `Via`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Source address of the packet or connection.
    pub address: SocketAddr,
    /// How it came.
    pub transport: Transport,
}

impl Origin {
    /// The source address as it is written on the wire: IPv4 for an IPv4-mapped one.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}
