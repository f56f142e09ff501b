//! A HEPv3 packet, as a datagram and on a stream. What is no packet is mirrored in one, so that SIP
//! messages can be the corpus.

#![no_main]

#[path = "../../tests/integration/exercise.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::hep(bytes);
    if !bytes.starts_with(b"HEP3") {
        exercise::hep(&mirrored(bytes));
    }
});

/// A packet around a payload, as an agent on IPv4 and UDP sends it.
fn mirrored(payload: &[u8]) -> Vec<u8> {
    let chunks: [(u16, &[u8]); 8] = [
        (1, &[2]),
        (2, &[17]),
        (3, &[203, 0, 113, 9]),
        (7, &5060_u16.to_be_bytes()),
        (9, &1_750_000_000_u32.to_be_bytes()),
        (11, &[1]),
        (14, b"key"),
        (15, payload),
    ];
    let mut packet = b"HEP3\0\0".to_vec();
    for (kind, value) in chunks {
        let length = u16::try_from(6 + value.len()).unwrap_or(u16::MAX);
        packet.extend([0, 0]);
        packet.extend(kind.to_be_bytes());
        packet.extend(length.to_be_bytes());
        packet.extend(value);
    }
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet
}
