//! Mirrored messages.

/// A HEPv3 packet as an agent on IPv4 and UDP sends it, of a message that was captured at this second since 1970.
#[must_use]
pub fn hep_packet(message: &[u8], captured: u32) -> Vec<u8> {
    let mut packet = b"HEP3\0\0".to_vec();
    let chunks: [(u16, u16, &[u8]); 12] = [
        (0, 1, &[2]),
        (0, 2, &[17]),
        (0, 3, &[203, 0, 113, 9]),
        (0, 4, &[198, 51, 100, 1]),
        (0, 7, &5060_u16.to_be_bytes()),
        (0, 8, &5070_u16.to_be_bytes()),
        (0, 9, &captured.to_be_bytes()),
        (0, 10, &250_000_u32.to_be_bytes()),
        (0, 11, &[1]),
        (0, 12, &2001_u32.to_be_bytes()),
        (9, 15, b"a chunk of another vendor"),
        // A message too long for its length field is one more kind of broken packet.
        (0, 15, message),
    ];
    for (vendor, kind, value) in chunks {
        let length = u16::try_from(6 + value.len()).unwrap_or(u16::MAX);
        for number in [vendor, kind, length] {
            packet.extend_from_slice(&number.to_be_bytes());
        }
        packet.extend_from_slice(value);
    }
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet
}
