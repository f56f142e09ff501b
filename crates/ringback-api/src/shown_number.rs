//! Phone numbers in answers, which a token may not see whole.

use std::fmt;

use ringback_routing::E164;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number as an answer shows it: whole, or to a masked token with stars for all but its last two digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownNumber {
    /// The number.
    Whole(E164),
    /// What is left of one: `+`, stars, and two digits.
    Masked(String),
}

impl From<E164> for ShownNumber {
    fn from(number: E164) -> Self {
        Self::Whole(number)
    }
}

impl fmt::Display for ShownNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(formatter),
            Self::Masked(text) => text.fmt(formatter),
        }
    }
}

impl Serialize for ShownNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ShownNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match E164::from_canonical(text.as_bytes()) {
            Some(number) => Ok(Self::Whole(number)),
            None if is_masked(&text) => Ok(Self::Masked(text)),
            None => Err(serde::de::Error::custom("not an E.164 number")),
        }
    }
}

/// Whether this is `+`, stars, and two digits.
fn is_masked(text: &str) -> bool {
    let shown = text
        .strip_prefix('+')
        .map(|rest| rest.trim_start_matches('*'));
    shown.is_some_and(|shown| {
        let stars = text.len() - shown.len() - 1;
        stars > 0 && shown.len() == 2 && shown.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_masked_numbers_are_read_as_they_are_written() {
        let number = E164::from_digits(5_511_987_654_321).unwrap();
        for shown in [
            ShownNumber::from(number),
            ShownNumber::Masked(number.masked().to_string()),
        ] {
            let written = serde_json::to_string(&shown).unwrap();
            assert_eq!(
                serde_json::from_str::<ShownNumber>(&written).unwrap(),
                shown
            );
        }
        for broken in ["", "+", "+**", "+*1", "**21", "+*21 ", "+5*21", "+*2x"] {
            let written = format!("\"{broken}\"");
            assert!(
                serde_json::from_str::<ShownNumber>(&written).is_err(),
                "{broken}"
            );
        }
    }
}
