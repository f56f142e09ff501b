//! The expiry of a certificate: the one field that operators have to watch.

use ringback_routing::Timestamp;

/// When a certificate in DER expires (RFC 5280 §4.1.2.5); `None` if it cannot be read.
pub(crate) fn expires_at(certificate: &[u8]) -> Option<Timestamp> {
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(outer, SEQUENCE)?;
    // The version is optional; without it the certificate is of version 1.
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    let (_serial_number, fields) = element(fields, INTEGER)?;
    let (_signature, fields) = element(fields, SEQUENCE)?;
    let (_issuer, fields) = element(fields, SEQUENCE)?;
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    not_after.parse().ok()
}

/// Reads a time into the form of RFC 3339, and returns the bytes behind it.
fn time(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (text, century, rest) = if let Some((text, rest)) = element(bytes, UTC_TIME) {
        let text = std::str::from_utf8(text).ok()?;
        // RFC 5280 §4.1.2.5.1: two digits of a year from 1950 to 2049.
        let century = if text < "50" { "20" } else { "19" };
        (text, century, rest)
    } else {
        let (text, rest) = element(bytes, GENERALIZED_TIME)?;
        (std::str::from_utf8(text).ok()?, "", rest)
    };
    let digits = format!("{century}{}", text.strip_suffix('Z')?);
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to);
    let time = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?
    );
    Some((time, rest))
}

/// The content of the first element, if it has this tag, and the bytes behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first != tag {
        return None;
    }
    let (&short, mut rest) = rest.split_first()?;
    let mut length = usize::from(short);
    if short >= LONG_FORM {
        let count = usize::from(short & !LONG_FORM);
        if count > 4 {
            return None;
        }
        let (bytes, after) = rest.split_at_checked(count)?;
        length = bytes
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    rest.split_at_checked(length)
}

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
/// See [`SEQUENCE`].
const INTEGER: u8 = 0x02;
/// The version of a certificate.
const VERSION: u8 = 0xa0;
/// A time with a year of two digits.
const UTC_TIME: u8 = 0x17;
/// A time with a year of four digits.
const GENERALIZED_TIME: u8 = 0x18;
/// The bit of a length that has bytes of its own.
const LONG_FORM: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate that expires at the beginning of this day.
    fn certificate(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut parameters =
            rcgen::CertificateParams::new(vec!["sip.example.com".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, month, day) in [(2027, 2, 28), (2049, 12, 31), (2050, 1, 1), (4096, 6, 1)] {
            let expected = format!("{year}-{month:02}-{day:02}T00:00:00.000Z");
            let read = expires_at(&certificate(year, month, day)).unwrap();
            assert_eq!(read.to_string(), expected);
        }
    }

    #[test]
    fn a_damaged_certificate_has_no_end_and_does_no_harm() {
        let whole = certificate(2027, 2, 28);
        // Nothing behind the validity is read, but the outer lengths must fit.
        for length in 0..whole.len() {
            assert_eq!(expires_at(&whole[..length]), None, "{length}");
        }
        for index in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[index] ^= 1 << bit;
                let _whatever_is_read = expires_at(&damaged);
            }
        }
    }
}
