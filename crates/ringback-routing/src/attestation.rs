//! How far a network vouches for a caller's number (SHAKEN, RFC 8588).

use std::fmt;
use std::str::FromStr;

/// How far a network vouches for a caller's number; A is the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attestation {
    /// It knows where the call came into it.
    C,
    /// It knows the customer, but not whether the number is the customer's.
    B,
    /// It knows the customer, and that the number may be used.
    A,
}

/// The text is not one of `A`, `B` and `C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an attestation is A, B or C")]
pub struct UnknownAttestation;

impl FromStr for Attestation {
    type Err = UnknownAttestation;

    fn from_str(text: &str) -> Result<Self, UnknownAttestation> {
        match text {
            "A" => Ok(Self::A),
            "B" => Ok(Self::B),
            "C" => Ok(Self::C),
            _ => Err(UnknownAttestation),
        }
    }
}

impl fmt::Display for Attestation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        })
    }
}

impl Attestation {
    /// The level that a verification status tells (ETSI TS 124 229 §7.2A.20, ATIS-1000074): that of
    /// `TN-Validation-Passed-A`, or for `TN-Validation-Passed` the one that `indicated` gives. Anything else, a failed
    /// validation too, is none.
    #[must_use]
    pub fn of_verstat(verstat: &[u8], indicated: impl FnOnce() -> Option<Self>) -> Option<Self> {
        let passed = verstat.get(..PASSED.len())?;
        if !passed.eq_ignore_ascii_case(PASSED) {
            return None;
        }
        match verstat.get(PASSED.len()..)? {
            b"" => indicated(),
            b"-A" => Some(Self::A),
            b"-B" => Some(Self::B),
            b"-C" => Some(Self::C),
            _ => None,
        }
    }
}

/// The status of a number that was validated.
const PASSED: &[u8] = b"TN-Validation-Passed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_told_by_what_passed_alone() {
        let level = |text: &str| Attestation::of_verstat(text.as_bytes(), || Some(Attestation::B));
        for (text, expected) in [
            ("TN-Validation-Passed-A", Some(Attestation::A)),
            ("tn-validation-passed-C", Some(Attestation::C)),
            ("TN-Validation-Passed", Some(Attestation::B)),
            ("TN-Validation-Passed-A-Diverted", None),
            ("TN-Validation-Passed-D", None),
            ("TN-Validation-Failed-A", None),
            ("No-TN-Validation", None),
            ("", None),
        ] {
            assert_eq!(level(text), expected, "{text}");
        }
        assert!(Attestation::A > Attestation::B && Attestation::B > Attestation::C);
        assert_eq!("B".parse(), Ok(Attestation::B));
        assert_eq!("b".parse::<Attestation>(), Err(UnknownAttestation));
        assert_eq!(Attestation::C.to_string(), "C");
    }
}
