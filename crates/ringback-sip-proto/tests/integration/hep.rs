//! HEPv3 packets as the usual capture agents send them.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use ringback_sip_proto::hep::HepError;
use ringback_sip_proto::{HepFrame, HepFramer, HepPacket, MAX_MESSAGE};

/// One chunk.
fn chunk(vendor: u16, kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(6 + value.len()).unwrap_or(u16::MAX);
    let mut chunk = Vec::new();
    for number in [vendor, kind, length] {
        chunk.extend_from_slice(&number.to_be_bytes());
    }
    chunk.extend_from_slice(value);
    chunk
}

/// A packet of these chunks.
fn packet_of(chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    let length = u16::try_from(6 + chunks.len()).unwrap_or(u16::MAX);
    [b"HEP3", &length.to_be_bytes()[..], &chunks].concat()
}

/// A packet as an agent on IPv4 and UDP sends it.
fn packet(message: &[u8]) -> Vec<u8> {
    packet_of(&[
        chunk(0, 1, &[2]),
        chunk(0, 2, &[17]),
        chunk(0, 3, &[203, 0, 113, 9]),
        chunk(0, 4, &[198, 51, 100, 1]),
        chunk(0, 7, &5060_u16.to_be_bytes()),
        chunk(0, 8, &5070_u16.to_be_bytes()),
        chunk(0, 9, &1_800_000_000_u32.to_be_bytes()),
        chunk(0, 10, &250_000_u32.to_be_bytes()),
        chunk(0, 11, &[1]),
        chunk(0, 12, &2001_u32.to_be_bytes()),
        chunk(0, 14, b"secret"),
        chunk(9, 15, b"a chunk of another vendor"),
        chunk(0, 17, b"a correlation id, not read"),
        chunk(0, 15, message),
    ])
}

const INVITE: &[u8] = b"INVITE sip:+5511987654321@gw.example.com SIP/2.0\r\n\
    Via: SIP/2.0/TCP 203.0.113.9;branch=z9hG4bKh\r\n\
    From: <sip:+551130000000@pbx.example.com>;tag=1\r\n\
    To: <sip:+5511987654321@gw.example.com>\r\n\
    Call-ID: h1\r\n\
    CSeq: 1 INVITE\r\n\r\n";

#[test]
fn packet_tells_who_sent_what_when() {
    let bytes = packet(INVITE);
    let read = HepPacket::parse(&bytes).unwrap();
    assert_eq!(read.source_address(), "203.0.113.9:5060".parse().ok());
    assert_eq!(read.destination_address(), "198.51.100.1:5070".parse().ok());
    assert_eq!(read.captured_at(), Some(1_800_000_000_250_000));
    assert_eq!(read.capture_id, Some(2001));
    assert_eq!(read.payload, INVITE);
    assert!(read.is_sip());
    assert!(read.has_key(b"secret"));
    assert!(!read.has_key(b"secre") && !read.has_key(b"Secret") && !read.has_key(b""));
}

#[test]
fn addresses_may_be_ipv6() {
    let source: std::net::Ipv6Addr = "2001:db8::9".parse().unwrap();
    let bytes = packet_of(&[
        chunk(0, 1, &[10]),
        chunk(0, 2, &[6]),
        chunk(0, 5, &source.octets()),
        chunk(0, 6, &[0; 16]),
        chunk(0, 7, &[0, 80]),
        chunk(0, 15, INVITE),
    ]);
    let read = HepPacket::parse(&bytes).unwrap();
    assert_eq!(read.source_address(), "[2001:db8::9]:80".parse().ok());
    assert_eq!(read.destination_address(), None);
    assert!(read.transport().is_stream());
    assert!(!read.has_key(b""), "no key is no key");
}

#[test]
fn broken_packets_say_why() {
    let whole = packet(INVITE);
    for length in 0..whole.len() {
        let error = HepPacket::parse(&whole[..length]).unwrap_err();
        assert_eq!(error, HepError::Short, "{length} bytes");
    }
    assert_eq!(HepPacket::parse(b"HEXPxxxxx"), Err(HepError::Magic));
    assert_eq!(HepPacket::parse(b"HEP3\0\x05"), Err(HepError::Short));
    assert_eq!(HepPacket::parse(&packet_of(&[])), Err(HepError::NoPayload));
    for (chunks, error) in [
        (vec![chunk(0, 3, &[1, 2, 3])], HepError::Chunk(3)),
        (vec![chunk(0, 7, &[])], HepError::Chunk(7)),
        (vec![vec![0, 0, 0, 15, 0, 5]], HepError::Chunk(15)),
        (vec![vec![0, 0, 0, 15, 0, 7]], HepError::Chunk(15)),
        (vec![vec![0, 0, 0]], HepError::Short),
    ] {
        assert_eq!(HepPacket::parse(&packet_of(&chunks)), Err(error));
    }
}

#[test]
fn stream_is_cut_by_length() {
    let stream = [packet(INVITE), packet(b"x"), packet(INVITE)].concat();
    for piece in [1, 5, 7, 1000, stream.len()] {
        let mut framer = HepFramer::new();
        let mut payloads = Vec::new();
        for bytes in stream.chunks(piece) {
            framer.push(bytes);
            while let HepFrame::Packet(packet) = framer.next_frame() {
                payloads.push(HepPacket::parse(packet).unwrap().payload.to_vec());
            }
        }
        assert_eq!(payloads, [INVITE, b"x", INVITE]);
    }
}

#[test]
fn stream_of_something_else_is_broken() {
    let mut framer = HepFramer::new();
    framer.push(b"GET");
    assert_eq!(framer.next_frame(), HepFrame::Broken(HepError::Magic));
    framer.push(&packet(INVITE));
    assert_eq!(framer.next_frame(), HepFrame::Broken(HepError::Magic));
}

// They were counted as malformed, so that nobody learned which setting was wrong.
#[test]
fn older_versions_are_told_apart_from_nonsense() {
    // Version, header length, IPv4, UDP, two ports, two addresses, the message.
    let old = |version: u8| {
        [
            &[version, 16, 2, 17, 0x13, 0xc4, 0x13, 0xc4][..],
            &[9; 8],
            INVITE,
        ]
        .concat()
    };
    for version in [1, 2] {
        let error = HepError::Version(version);
        assert_eq!(HepPacket::parse(&old(version)), Err(error));
        let mut framer = HepFramer::new();
        framer.push(&old(version));
        assert_eq!(framer.next_frame(), HepFrame::Broken(error));
    }
    assert_eq!(HepPacket::parse(b"HEP4\0\x06"), Err(HepError::Version(4)));
    assert_eq!(HepPacket::parse(b"\x03\x10"), Err(HepError::Magic));
}

/// The same bytes compressed in each way that agents use.
fn compressed(bytes: &[u8]) -> [Vec<u8>; 3] {
    let level = Compression::default();
    let mut zlib = ZlibEncoder::new(Vec::new(), level);
    let mut gzip = GzEncoder::new(Vec::new(), level);
    let mut deflate = DeflateEncoder::new(Vec::new(), level);
    zlib.write_all(bytes).unwrap();
    gzip.write_all(bytes).unwrap();
    deflate.write_all(bytes).unwrap();
    [
        zlib.finish().unwrap(),
        gzip.finish().unwrap(),
        deflate.finish().unwrap(),
    ]
}

// A payload in chunk 16 counted as malformed: "no payload".
#[test]
fn compressed_payloads_are_read() {
    for payload in compressed(INVITE) {
        let bytes = packet_of(&[chunk(0, 11, &[1]), chunk(0, 16, &payload)]);
        let read = HepPacket::parse(&bytes).unwrap();
        assert!(read.is_compressed && read.is_sip());
        let mut room = Vec::new();
        assert_eq!(read.message(&mut room), Ok(INVITE));
        // What the agent has cut off is missing, and the rest is read.
        let cut = packet_of(&[chunk(0, 16, &payload[..payload.len() - 12])]);
        let read = HepPacket::parse(&cut).unwrap();
        let start = read.message(&mut room).unwrap();
        assert!(start.starts_with(b"INVITE sip:") && INVITE.starts_with(start));
    }
    let plain = packet(INVITE);
    let read = HepPacket::parse(&plain).unwrap();
    assert_eq!(read.message(&mut Vec::new()), Ok(INVITE));
}

#[test]
fn compressed_payloads_are_bounded_and_damage_is_told() {
    for payload in compressed(&vec![b'x'; 10_000_000]) {
        assert!(payload.len() < 60_000);
        let bytes = packet_of(&[chunk(0, 16, &payload)]);
        let mut room = Vec::new();
        let read = HepPacket::parse(&bytes).unwrap();
        assert_eq!(read.message(&mut room).unwrap().len(), MAX_MESSAGE);
    }
    for payload in [
        &b"INVITE sip:a@b SIP/2.0"[..],
        &[0x1f, 0x8b, 8],
        &[0x78, 0x9c],
        &[],
    ] {
        let bytes = packet_of(&[chunk(0, 16, payload)]);
        let read = HepPacket::parse(&bytes).unwrap();
        assert_eq!(read.message(&mut Vec::new()), Err(HepError::Compression));
    }
    let [mut damaged, ..] = compressed(INVITE);
    damaged[20] ^= 0xff;
    let bytes = packet_of(&[chunk(0, 16, &damaged)]);
    let read = HepPacket::parse(&bytes).unwrap();
    assert_ne!(read.message(&mut Vec::new()), Ok(INVITE));
}

#[test]
fn a_stream_that_waits_holds_no_memory() {
    let mut framer = HepFramer::new();
    framer.push(&packet(&[b'x'; 60_000]));
    assert!(matches!(framer.next_frame(), HepFrame::Packet(_)));
    assert_eq!(framer.next_frame(), HepFrame::Incomplete);
    assert_eq!((framer.pending(), framer.capacity()), (0, 0));
    framer.push(b"HEP");
    assert_eq!(framer.next_frame(), HepFrame::Incomplete);
    assert_eq!(framer.pending(), 3);
}
