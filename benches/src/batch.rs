//! UDP with many datagrams per system call.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
use socket2::{Domain, Socket, Type};

/// The most datagrams per system call.
pub const BATCH: usize = 64;

/// The buffer size for one datagram, in bytes.
const ROOM: usize = 2_048;

/// The receive buffer requested from the kernel, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Opens a UDP socket with a large receive buffer.
///
/// # Errors
/// The address is in use or not ours.
pub fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Receives datagrams in batches.
#[derive(Debug)]
pub struct Receiver {
    /// Headers for lengths and senders.
    headers: MultiHeaders<SockaddrIn>,
    /// Buffers for the datagrams.
    buffers: Box<[[u8; ROOM]; BATCH]>,
    /// Length and sender of each datagram of the last batch.
    received: Vec<(usize, SocketAddrV4)>,
}

impl Receiver {
    /// Allocates the buffers for a batch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: Box::new([[0; ROOM]; BATCH]),
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Receives the datagrams that have arrived, at most a batch; waits for the first one if the socket blocks.
    /// Returns their number; 0 if the socket does not block and none has arrived.
    ///
    /// # Errors
    /// Any failure of the system call, except a refusal by the peer's host.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received.clear();
        let mut places = self
            .buffers
            .each_mut()
            .map(|buffer| [IoSliceMut::new(buffer)]);
        let results = match recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            places.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        ) {
            Ok(results) => results,
            Err(nix::Error::EAGAIN | nix::Error::EINTR | nix::Error::ECONNREFUSED) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        for message in results {
            let sender = message.address.map_or(
                SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0),
                SocketAddrV4::from,
            );
            self.received.push((message.bytes, sender));
        }
        Ok(self.received.len())
    }

    /// The datagrams of the last batch, with their senders.
    pub fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddrV4)> {
        self.received
            .iter()
            .zip(self.buffers.iter())
            .map(|((length, sender), buffer)| (buffer.get(..*length).unwrap_or_default(), *sender))
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends datagrams in one system call, as many as the kernel accepts at once; returns how many that are. A
/// datagram without an address goes to the address that the socket is connected to.
///
/// # Errors
/// Any failure of the system call, except a refusal by the peer's host.
pub fn send(socket: &UdpSocket, datagrams: &[(&[u8], Option<SocketAddrAny>)]) -> io::Result<usize> {
    let mut control: [_; BATCH] = std::array::from_fn(|_| SendAncillaryBuffer::default());
    let parts: smallvec::SmallVec<[[IoSlice<'_>; 1]; BATCH]> = datagrams
        .iter()
        .take(BATCH)
        .map(|(bytes, _)| [IoSlice::new(bytes)])
        .collect();
    let mut messages: smallvec::SmallVec<[MMsgHdr<'_>; BATCH]> = parts
        .iter()
        .zip(datagrams)
        .zip(&mut control)
        .map(|((part, (_, address)), control)| match address {
            Some(address) => MMsgHdr::new_with_addr(address, part, control),
            None => MMsgHdr::new(part, control),
        })
        .collect();
    match sendmmsg(socket, &mut messages, SendFlags::empty()) {
        Ok(sent) => Ok(sent),
        Err(rustix::io::Errno::CONNREFUSED) => Ok(1),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_arrives_with_its_sender() {
        let here: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (left, right) = (open(here).unwrap(), open(here).unwrap());
        left.connect(right.local_addr().unwrap()).unwrap();
        let datagrams: [(&[u8], _); 3] = [(b"a", None), (b"bc", None), (b"", None)];
        assert_eq!(send(&left, &datagrams).unwrap(), 3);
        let mut receiver = Receiver::new();
        assert_eq!(receiver.receive(&right).unwrap(), 3);
        let sender = left.local_addr().unwrap();
        let received: Vec<_> = receiver
            .datagrams()
            .map(|(bytes, from)| (bytes.to_vec(), SocketAddr::V4(from)))
            .collect();
        assert_eq!(
            received,
            [
                (b"a".to_vec(), sender),
                (b"bc".to_vec(), sender),
                (Vec::new(), sender)
            ]
        );
    }
}
