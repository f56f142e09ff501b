//! Packets that wait to be sent: any number of them, in one buffer that is used again.

use std::net::SocketAddr;

/// Packets to be sent, one behind the other. Once it has grown to what is usual, nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The bytes of all packets, and of one that is being written.
    pub(crate) bytes: Vec<u8>,
    /// Where each packet is and goes.
    packets: Vec<Transmit>,
    /// From which of our addresses the packets leave that are added now.
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
    /// Which of our addresses it leaves from, if there are several.
    pub(crate) local: Option<LocalAddress>,
}

/// One of our own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LocalAddress {
    /// IPv4.
    V4([u8; 4]),
    /// IPv6, with the interface, which a link-local address needs.
    V6([u8; 16], u32),
}

impl Outbox {
    /// An empty one with room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// Has the packets that are added from now on leave from this address of ours.
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

    /// The bytes of all packets, and the packets, to be put into another order and taken off.
    pub(crate) fn packets(&mut self) -> (&[u8], &mut Vec<Transmit>) {
        (&self.bytes, &mut self.packets)
    }

    /// Forgets all packets. Room for more than so many bytes is given back.
    pub(crate) fn clear(&mut self, most_bytes: usize) {
        self.packets.clear();
        self.bytes.clear();
        if self.bytes.capacity() > most_bytes {
            self.bytes.shrink_to(most_bytes);
        }
    }
}

impl Transmit {
    /// How long it is.
    pub(crate) fn length(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// The packet itself, in the buffer of its [`Outbox`].
    pub(crate) fn bytes<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        debug_assert!(self.end <= buffer.len(), "not the buffer of this packet");
        buffer.get(self.start..self.end).unwrap_or_default()
    }
}
