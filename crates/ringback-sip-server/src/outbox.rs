//! Packets that wait to be sent: any number of them, in one reused buffer.

use std::net::SocketAddr;

/// Packets to be sent, one behind the other. Once the buffer has grown to its usual size, nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The bytes of all packets, and of the one being written.
    pub(crate) bytes: Vec<u8>,
    /// The position and destination of each packet.
    packets: Vec<Transmit>,
    /// The local address of packets that are added now.
    local: Option<LocalAddress>,
}

/// A packet to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transmit {
    /// Where it starts in the buffer.
    start: usize,
    /// Where it ends.
    end: usize,
    /// Where it goes.
    pub(crate) destination: SocketAddr,
    /// The local address to send from, if there are several.
    pub(crate) local: Option<LocalAddress>,
}

/// One of our own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum LocalAddress {
    /// IPv4.
    V4([u8; 4]),
    /// IPv6, with the interface, which a link-local address needs.
    V6([u8; 16], u32),
}

impl Outbox {
    /// An empty outbox with room for this many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// Sets the local address of packets that are added from now on.
    pub(crate) fn leave_from(&mut self, local: Option<LocalAddress>) {
        self.local = local;
    }

    /// Adds what was written into the buffer from `start` on as a packet.
    pub(crate) fn transmit(&mut self, start: usize, destination: SocketAddr) {
        self.packets.push(Transmit {
            start,
            end: self.bytes.len(),
            destination,
            local: self.local,
        });
    }

    /// The bytes of all packets, and the list of packets, which the caller may sort and remove.
    pub(crate) fn packets(&mut self) -> (&[u8], &mut Vec<Transmit>) {
        (&self.bytes, &mut self.packets)
    }

    /// Removes all packets, and frees memory beyond this many bytes.
    pub(crate) fn clear(&mut self, most_bytes: usize) {
        self.packets.clear();
        self.bytes.clear();
        if self.bytes.capacity() > most_bytes {
            self.bytes.shrink_to(most_bytes);
        }
    }
}

impl Transmit {
    /// Its length in bytes.
    pub(crate) fn length(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// The packet itself, in the buffer of its [`Outbox`].
    pub(crate) fn bytes<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        debug_assert!(self.end <= buffer.len(), "not the buffer of this packet");
        buffer.get(self.start..self.end).unwrap_or_default()
    }
}
