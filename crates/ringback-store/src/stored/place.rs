//! The place in a log that nodes share: a version byte, the cluster (16), the sequence (8, big-endian), the chain (16).

use ringback_engine::LogPlace;
use uuid::Uuid;

/// The version that is written.
const VERSION: u8 = 1;

/// The stored form of a place.
pub(crate) fn write_place(place: &LogPlace) -> Vec<u8> {
    let mut to = vec![VERSION];
    to.extend_from_slice(place.cluster.as_bytes());
    to.extend_from_slice(&place.sequence.to_be_bytes());
    to.extend_from_slice(&place.chain);
    to
}

/// Reads a place.
pub(crate) fn read_place(bytes: &[u8]) -> Option<LogPlace> {
    let (&VERSION, bytes) = bytes.split_first()? else {
        return None;
    };
    let (cluster, bytes) = bytes.split_first_chunk::<16>()?;
    let (sequence, chain) = bytes.split_first_chunk::<8>()?;
    Some(LogPlace {
        cluster: Uuid::from_bytes(*cluster),
        sequence: u64::from_be_bytes(*sequence),
        chain: chain.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_place_are_these() {
        let place = LogPlace {
            cluster: Uuid::from_u128(1),
            sequence: 2,
            chain: [3; 16],
        };
        let bytes = write_place(&place);
        let expected = [&[1][..], &[0; 15], &[1], &[0; 7], &[2], &[3; 16]].concat();
        assert_eq!(bytes, expected);
        assert_eq!(read_place(&bytes), Some(place));
        assert_eq!(read_place(&bytes[..40]), None);
        assert_eq!(read_place(&[&[2], &bytes[1..]].concat()), None);
    }
}
