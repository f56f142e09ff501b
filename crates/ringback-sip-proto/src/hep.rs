//! HEPv3, the mirror protocol of Kamailio, OpenSIPS, FreeSWITCH and Asterisk.
//!
//! A packet is `HEP3`, its whole length in two bytes, then chunks: vendor, type, length (its own
//! six bytes included), value; all in network order. Over UDP a packet is a datagram, over TCP
//! [`HepFramer`] cuts the stream by the length. Chunks of another vendor than 0 (generic) and of
//! unknown types are skipped, as the protocol asks. Only a compressed payload is copied, and nothing
//! panics. The older versions 1 and 2 are recognized by their first byte, but not read.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use crate::lex;
use crate::message::MAX_MESSAGE;
use crate::origin::Transport;

/// One mirrored message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HepPacket<'m> {
    /// Address family, chunk 1: 2 for IPv4, 10 for IPv6.
    pub family: Option<u8>,
    /// IP protocol, chunk 2: 6 TCP, 17 UDP.
    pub protocol: Option<u8>,
    /// Source address, chunk 3 or 5.
    pub source: Option<IpAddr>,
    /// Destination address, chunk 4 or 6.
    pub destination: Option<IpAddr>,
    /// Source port, chunk 7.
    pub source_port: Option<u16>,
    /// Destination port, chunk 8.
    pub destination_port: Option<u16>,
    /// Time of capture in seconds since the epoch, chunk 9.
    pub seconds: Option<u32>,
    /// Microseconds to add to it, chunk 10.
    pub microseconds: Option<u32>,
    /// What the payload is, chunk 11; 1 is SIP.
    pub payload_type: Option<u8>,
    /// Who captured it, chunk 12.
    pub capture_id: Option<u32>,
    /// The shared secret, chunk 14.
    pub key: Option<&'m [u8]>,
    /// The message, chunk 15 or 16; to be read with [`HepPacket::message`].
    pub payload: &'m [u8],
    /// Whether the payload is compressed: it came in chunk 16.
    pub is_compressed: bool,
}

/// Why a packet was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HepError {
    /// It does not start with `HEP3`: another protocol. Ignore it.
    #[error("not a HEPv3 packet")]
    Magic,
    /// It is HEP of this version, which is not 3: have the sender speak version 3.
    #[error("HEP of version {0}, which is not read")]
    Version(u8),
    /// It is shorter than it says.
    #[error("packet is cut off")]
    Short,
    /// A chunk says it is longer than the packet, or shorter than its own header.
    #[error("chunk {0} has a wrong length")]
    Chunk(u16),
    /// It carries no message.
    #[error("no payload")]
    NoPayload,
    /// The compressed payload is none of zlib, gzip and raw deflate, or is damaged.
    #[error("compressed payload cannot be read")]
    Compression,
}

/// `payload_type` of a SIP message.
pub const PAYLOAD_SIP: u8 = 1;

impl<'m> HepPacket<'m> {
    /// Reads one packet; bytes beyond its length are ignored. Of a repeated chunk the last counts.
    ///
    /// # Errors
    ///
    /// If it is no HEPv3 packet, is cut off, holds a chunk of a wrong length, or no payload.
    pub fn parse(bytes: &'m [u8]) -> Result<Self, HepError> {
        let length = packet_length(bytes)?.ok_or(HepError::Short)?;
        let mut rest = bytes.get(HEADER..length).ok_or(HepError::Short)?;
        let mut packet = Self::default();
        let mut has_payload = false;
        while !rest.is_empty() {
            let &[v0, v1, t0, t1, l0, l1, ..] = rest else {
                return Err(HepError::Short);
            };
            let vendor = u16::from_be_bytes([v0, v1]);
            let kind = u16::from_be_bytes([t0, t1]);
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let wrong = HepError::Chunk(kind);
            let value = rest.get(HEADER..length).ok_or(wrong)?;
            rest = rest.get(length..).ok_or(wrong)?;
            if vendor != 0 {
                continue;
            }
            match kind {
                1 => packet.family = Some(u8::from_be_bytes(exact(value, wrong)?)),
                2 => packet.protocol = Some(u8::from_be_bytes(exact(value, wrong)?)),
                3 => packet.source = Some(Ipv4Addr::from(exact::<4>(value, wrong)?).into()),
                4 => packet.destination = Some(Ipv4Addr::from(exact::<4>(value, wrong)?).into()),
                5 => packet.source = Some(Ipv6Addr::from(exact::<16>(value, wrong)?).into()),
                6 => packet.destination = Some(Ipv6Addr::from(exact::<16>(value, wrong)?).into()),
                7 => packet.source_port = Some(u16::from_be_bytes(exact(value, wrong)?)),
                8 => packet.destination_port = Some(u16::from_be_bytes(exact(value, wrong)?)),
                9 => packet.seconds = Some(u32::from_be_bytes(exact(value, wrong)?)),
                10 => packet.microseconds = Some(u32::from_be_bytes(exact(value, wrong)?)),
                11 => packet.payload_type = Some(u8::from_be_bytes(exact(value, wrong)?)),
                12 => packet.capture_id = Some(u32::from_be_bytes(exact(value, wrong)?)),
                14 => packet.key = Some(value),
                15 | 16 => {
                    packet.payload = value;
                    packet.is_compressed = kind == 16;
                    has_payload = true;
                }
                _ => {}
            }
        }
        has_payload.then_some(packet).ok_or(HepError::NoPayload)
    }

    /// The message, decompressed into `room` if need be; of what is longer than [`MAX_MESSAGE`] the
    /// start, and of compressed data that end early as much as they hold.
    ///
    /// # Errors
    ///
    /// If the payload is compressed and holds nothing that can be read, or is damaged.
    pub fn message<'p>(&self, room: &'p mut Vec<u8>) -> Result<&'p [u8], HepError>
    where
        'm: 'p,
    {
        if !self.is_compressed {
            return Ok(self.payload);
        }
        room.clear();
        let inflated = match *self.payload {
            [0x1f, 0x8b, ..] => inflate(GzDecoder::new(self.payload), room),
            [method, flags, ..] if is_zlib(method, flags) => {
                inflate(ZlibDecoder::new(self.payload), room)
            }
            _ => inflate(DeflateDecoder::new(self.payload), room),
        };
        match inflated {
            Ok(()) if !room.is_empty() => Ok(room),
            _ => Err(HepError::Compression),
        }
    }

    /// True if the payload is SIP, as far as the packet says.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        self.payload_type.is_none_or(|kind| kind == PAYLOAD_SIP)
    }

    /// True if the packet bears this key. Takes the same time wherever they differ.
    #[must_use]
    pub fn has_key(&self, key: &[u8]) -> bool {
        let sent = self.key.unwrap_or_default();
        let differing = sent
            .iter()
            .zip(key)
            .fold(0, |differing, (one, two)| differing | (one ^ two));
        self.key.is_some() && sent.len() == key.len() && differing == 0
    }

    /// Time of capture in microseconds since the epoch.
    #[must_use]
    pub fn captured_at(&self) -> Option<u64> {
        let seconds = u64::from(self.seconds?);
        let microseconds = u64::from(self.microseconds.unwrap_or_default());
        Some(seconds * 1_000_000 + microseconds)
    }

    /// Source address and port of the mirrored message.
    #[must_use]
    pub fn source_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.source?, self.source_port?))
    }

    /// Destination address and port of the mirrored message.
    #[must_use]
    pub fn destination_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.destination?, self.destination_port?))
    }

    /// What carried the mirrored message, as far as the packet says.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self.protocol {
            Some(6) => Transport::Tcp,
            _ => Transport::Udp,
        }
    }
}

/// What comes next in a stream of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HepFrame<'b> {
    /// Not enough bytes yet.
    Incomplete,
    /// One whole packet, to be read with [`HepPacket::parse`].
    Packet(&'b [u8]),
    /// No packet starts here: end the connection.
    Broken(HepError),
}

/// Cuts a stream into packets; a packet is at most 64 KiB, and so is what waits. Where nothing waits,
/// no memory is held.
#[derive(Debug, Default)]
pub struct HepFramer {
    /// What was pushed and not dropped yet.
    buffer: Vec<u8>,
    /// Bytes at the start that were handed out.
    consumed: usize,
    /// Why nothing more is read.
    broken: Option<HepError>,
}

impl HepFramer {
    /// An empty framer; allocates nothing before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was read from the connection. After [`HepFrame::Broken`] it is thrown away.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        self.buffer.drain(..self.consumed.min(self.buffer.len()));
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that wait for the rest of their packet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len().saturating_sub(self.consumed)
    }

    /// Bytes of memory that are held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next frame. What it borrows is gone with the next call.
    pub fn next_frame(&mut self) -> HepFrame<'_> {
        if let Some(error) = self.broken {
            return HepFrame::Broken(error);
        }
        if self.pending() == 0 {
            self.buffer = Vec::new();
            self.consumed = 0;
            return HepFrame::Incomplete;
        }
        let bytes = lex::tail(&self.buffer, self.consumed);
        match packet_length(bytes) {
            Err(error) => {
                self.broken = Some(error);
                HepFrame::Broken(error)
            }
            Ok(Some(length)) if bytes.len() >= length => {
                self.consumed += length;
                HepFrame::Packet(lex::head(bytes, length))
            }
            Ok(_) => HepFrame::Incomplete,
        }
    }
}

/// Bytes of a packet's header, and of a chunk's.
const HEADER: usize = 6;

/// Length of the packet that starts here; `None` while its header is not there as a whole.
fn packet_length(bytes: &[u8]) -> Result<Option<usize>, HepError> {
    let start = bytes.get(..4).unwrap_or(bytes);
    if !b"HEP3".starts_with(start) {
        return Err(match *start {
            // The header of version 1 and 2 starts with the number.
            [version @ (1 | 2), ..] => HepError::Version(version),
            [b'H', b'E', b'P', digit @ b'0'..=b'9'] => HepError::Version(digit - b'0'),
            _ => HepError::Magic,
        });
    }
    match bytes {
        &[_, _, _, _, high, low, ..] => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            (length >= HEADER)
                .then_some(Some(length))
                .ok_or(HepError::Short)
        }
        _ => Ok(None),
    }
}

/// A value that must have this length.
fn exact<const N: usize>(value: &[u8], error: HepError) -> Result<[u8; N], HepError> {
    value.try_into().map_err(|_| error)
}

/// Whether a zlib stream starts with these two bytes (RFC 1950 §2.2).
fn is_zlib(method: u8, flags: u8) -> bool {
    method & 0x0f == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
}

/// Appends the start of what a decoder gives: as much as the longest message has. Data that end early
/// are no error, for a capture agent may cut them off.
fn inflate(decoder: impl Read, room: &mut Vec<u8>) -> io::Result<()> {
    let limit = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX);
    match decoder.take(limit).read_to_end(room) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(()),
    }
}
