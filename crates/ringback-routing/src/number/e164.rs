//! The canonical form of a phone number.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A phone number in E.164 form: `+`, then 7 to 15 digits, the first of them not 0.
///
/// Kept as the integer that the digits spell (below 10^15, so 50 bits): equal numbers are equal
/// integers, because no country code starts with 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct E164(u64);

impl E164 {
    /// From the digits after the `+`, as an integer; `None` if that is no 7 to 15 digits.
    #[must_use]
    pub const fn from_digits(digits: u64) -> Option<Self> {
        if digits >= 1_000_000 && digits < 1_000_000_000_000_000 {
            Some(Self(digits))
        } else {
            None
        }
    }

    /// The digits after the `+`, as an integer.
    #[must_use]
    pub const fn digits(self) -> u64 {
        self.0
    }

    /// Reads the canonical text (`+` and digits, nothing else); shape only.
    #[must_use]
    pub fn from_canonical(text: &[u8]) -> Option<Self> {
        let [b'+', first @ b'1'..=b'9', rest @ ..] = text else {
            return None;
        };
        if rest.len() < 6 || rest.len() > 14 {
            return None;
        }
        let mut digits = u64::from(first - b'0');
        for byte in rest {
            if !byte.is_ascii_digit() {
                return None;
            }
            digits = digits * 10 + u64::from(byte - b'0');
        }
        Some(Self(digits))
    }
}

impl fmt::Display for E164 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "+{}", self.0)
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for E164 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for E164 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parsed = if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::from_canonical(text.as_bytes())
        } else {
            Self::from_digits(u64::deserialize(deserializer)?)
        };
        parsed.ok_or_else(|| serde::de::Error::custom("not an E.164 number"))
    }
}
