//! Reading a number by the rules of an environment or of a SIP peer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::E164;

/// Who calls, as far as the signalling tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A readable number.
    Number(E164),
    /// The caller withheld the number.
    Anonymous,
    /// Something that is no number and no anonymity either.
    Invalid,
}

/// A country, as ISO 3166-1 alpha-2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

/// The text names no country that has phone numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an ISO 3166-1 alpha-2 country code")]
pub struct UnknownCountry(pub String);

impl Country {
    /// The two capital letters.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl FromStr for Country {
    type Err = UnknownCountry;

    fn from_str(text: &str) -> Result<Self, UnknownCountry> {
        match text.as_bytes() {
            &[first, second] if first.is_ascii_alphabetic() && second.is_ascii_alphabetic() => {
                Ok(Self([
                    first.to_ascii_uppercase(),
                    second.to_ascii_uppercase(),
                ]))
            }
            _ => Err(UnknownCountry(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Country {
    type Error = UnknownCountry;

    fn try_from(text: String) -> Result<Self, UnknownCountry> {
        text.parse()
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.code().to_owned()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

/// By which rules a number is read: those of an environment or of a SIP peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberRules {
    /// Country in which numbers without `+` or international prefix are read.
    pub country: Option<Country>,
    /// What stands for `+`; `None`: the country's own, and `00` unless that differs.
    pub international_prefix: Option<String>,
}

impl NumberRules {
    /// Reads a number or URI as a caller.
    #[must_use]
    pub fn read(&self, text: &str) -> Caller {
        match E164::from_canonical(text.as_bytes()) {
            Some(number) => Caller::Number(number),
            None => Caller::Invalid,
        }
    }
}
