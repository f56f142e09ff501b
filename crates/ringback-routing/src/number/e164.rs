//! The canonical form of a phone number.

use std::fmt;
use std::num::NonZeroU64;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::plan;

/// A phone number in E.164 form: `+`, then 7 to 15 digits, the first of them not 0.
///
/// Kept as the integer that the digits spell (below 10^15, so 50 bits). Equal numbers are equal integers, because
/// no country code starts with 0. An `Option` of it takes no more room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct E164(NonZeroU64);

impl E164 {
    /// From the digits after the `+`, as an integer; `None` if that is no 7 to 15 digits.
    #[must_use]
    pub const fn from_digits(digits: u64) -> Option<Self> {
        match NonZeroU64::new(digits) {
            Some(number) if digits >= 1_000_000 && digits < 1_000_000_000_000_000 => {
                Some(Self(number))
            }
            _ => None,
        }
    }

    /// The digits after the `+`, as an integer.
    #[must_use]
    pub const fn digits(self) -> u64 {
        self.0.get()
    }

    /// Reads the canonical text (`+` and digits, nothing else); shape only.
    #[must_use]
    pub fn from_canonical(text: &[u8]) -> Option<Self> {
        match text {
            [b'+', digits @ ..] => Self::from_ascii_digits(digits),
            _ => None,
        }
    }

    /// Whether the calling code is assigned and the length is possible in its numbering plan.
    ///
    /// The number need not be in use. Takes a few nanoseconds.
    #[must_use]
    pub fn is_possible(self) -> bool {
        plan::is_possible(self)
    }

    /// Whether the number, in either spelling of its subscriber, is in a range that its numbering plan assigns.
    /// Costs a few pattern matches.
    #[must_use]
    pub fn is_valid(self) -> bool {
        let subscriber = self.subscriber();
        [Some(subscriber), subscriber.respelled()]
            .into_iter()
            .flatten()
            .filter_map(plan::to_library)
            .any(|number| PHONE_NUMBER_UTIL.is_valid_number(&number))
    }

    /// The one spelling that stands for all numbers of the same subscriber:
    ///
    /// - Mexico: without the 1 that stood behind 52 for mobile telephones until 2019;
    /// - Argentina: without the 9 behind 54 that mobile telephones have when they are called from abroad;
    /// - Brazil: a mobile number with its ninth digit, which was added between 2012 and 2016.
    ///
    /// Numbers are compared by this spelling, and shown as they were written. Takes a nanosecond.
    #[must_use]
    pub const fn subscriber(self) -> Self {
        let digits = self.digits();
        let known = match digits {
            MEXICO_MOBILE..MEXICO_MOBILE_END => 520_000_000_000 + (digits - MEXICO_MOBILE),
            ARGENTINA_MOBILE..ARGENTINA_MOBILE_END => 540_000_000_000 + (digits - ARGENTINA_MOBILE),
            // 55, two digits of the area, eight of the subscriber: those that start with 6 to 9 are mobile.
            551_000_000_000..560_000_000_000 if digits / 10_000_000 % 10 >= 6 => {
                let (area, eight) = (digits / 100_000_000, digits % 100_000_000);
                area * 1_000_000_000 + 900_000_000 + eight
            }
            _ => return self,
        };
        match NonZeroU64::new(known) {
            Some(known) => Self(known),
            None => self,
        }
    }

    /// The other spelling of this [`subscriber`](Self::subscriber); `None` if there is only one. `self` must be
    /// the subscriber.
    #[must_use]
    pub const fn respelled(self) -> Option<Self> {
        let digits = self.digits();
        let other = match digits {
            520_000_000_000..530_000_000_000 => MEXICO_MOBILE + (digits - 520_000_000_000),
            540_000_000_000..550_000_000_000 => ARGENTINA_MOBILE + (digits - 540_000_000_000),
            5_510_000_000_000..5_600_000_000_000 => {
                let (area, nine) = (digits / 1_000_000_000, digits % 1_000_000_000);
                area * 100_000_000 + nine % 100_000_000
            }
            _ => return None,
        };
        // Accept it only if its subscriber is this number.
        match Self::from_digits(other) {
            Some(other) if other.subscriber().digits() == digits => Some(other),
            _ => None,
        }
    }

    /// The number grouped as its country does: `+55 11 98765-4321`.
    #[must_use]
    pub fn formatted(self) -> String {
        match plan::to_library(self) {
            Some(number) => number
                .format_as(PhoneNumberFormat::International)
                .into_owned(),
            None => self.to_string(),
        }
    }

    /// The number with a star for each digit but the last two, for logs.
    pub fn masked(self) -> impl fmt::Display {
        fmt::from_fn(move |formatter| {
            let hidden = self.0.ilog10() as usize - 1;
            write!(formatter, "+{:*<hidden$}{:02}", "", self.digits() % 100)
        })
    }

    /// Reads the digits after the `+`; shape only.
    pub(super) fn from_ascii_digits(text: &[u8]) -> Option<Self> {
        if !(7..=15).contains(&text.len()) || text[0] == b'0' {
            return None;
        }
        let mut digits = 0;
        for byte in text {
            if !byte.is_ascii_digit() {
                return None;
            }
            digits = digits * 10 + u64::from(byte - b'0');
        }
        Self::from_digits(digits)
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
            serializer.serialize_u64(self.digits())
        }
    }
}

impl<'de> Deserialize<'de> for E164 {
    /// Reads the canonical text, or the integer in binary formats; shape only.
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

/// `+52 1` and ten digits: from here,
const MEXICO_MOBILE: u64 = 5_210_000_000_000;
/// up to here.
const MEXICO_MOBILE_END: u64 = 5_220_000_000_000;
/// `+54 9` and ten digits: from here,
const ARGENTINA_MOBILE: u64 = 5_490_000_000_000;
/// up to here.
const ARGENTINA_MOBILE_END: u64 = 5_500_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_spellings_are_one_subscriber() {
        let number = |digits: u64| E164::from_digits(digits).unwrap();
        for (one, other, subscriber) in [
            (5_215_555_550_142, 525_555_550_142, 525_555_550_142),
            (5_491_123_456_789, 541_123_456_789, 541_123_456_789),
            (551_187_654_321, 5_511_987_654_321, 5_511_987_654_321),
            (551_199_999_999, 5_511_999_999_999, 5_511_999_999_999),
        ] {
            assert_eq!(number(one).subscriber(), number(subscriber));
            assert_eq!(number(other).subscriber(), number(subscriber));
            assert_eq!(
                number(subscriber).respelled(),
                Some(number(if one == subscriber { other } else { one }))
            );
        }
        // A land line has eight digits and never got a ninth, so these belong to somebody else.
        for alone in [551_134_567_890, 5_511_934_567_890, 12_025_550_119] {
            assert_eq!(number(alone).subscriber(), number(alone));
            assert_eq!(number(alone).respelled(), None);
        }
    }

    /// A number known to have the shape.
    fn number(text: &str) -> E164 {
        E164::from_canonical(text.as_bytes()).unwrap()
    }

    #[test]
    fn canonical_text_is_a_plus_and_seven_to_fifteen_digits() {
        for text in ["+1234567", "+5511987654321", "+123456789012345"] {
            assert_eq!(number(text).to_string(), text);
        }
        for text in [
            "",
            "+",
            "5511987654321",
            "+123456",
            "+1234567890123456",
            "+0123456789",
            "+55119876543a1",
            "+55 11987654321",
            " +5511987654321",
            "++5511987654321",
            "+5511987654321\n",
        ] {
            assert_eq!(E164::from_canonical(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn formats_as_the_country_does() {
        for (text, formatted) in [
            ("+5511987654321", "+55 11 98765-4321"),
            ("+12125550100", "+1 212-555-0100"),
            ("+442079460000", "+44 20 7946 0000"),
            ("+4930123456", "+49 30 123456"),
            ("+390612345678", "+39 06 1234 5678"),
            ("+80012345678", "+800 1234 5678"),
            ("+2101234567", "+2101234567"),
        ] {
            assert_eq!(number(text).formatted(), formatted);
        }
    }

    #[test]
    fn an_optional_number_takes_no_more_room() {
        assert_eq!(size_of::<Option<E164>>(), size_of::<u64>());
    }

    #[test]
    fn masked_numbers_show_the_last_two_digits() {
        assert_eq!(
            number("+5511987654321").masked().to_string(),
            "+***********21"
        );
        assert_eq!(
            number("+5511987654301").masked().to_string(),
            "+***********01"
        );
        assert_eq!(number("+1234500").masked().to_string(), "+*****00");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_the_same(digits in 1_000_000..1_000_000_000_000_000_u64) {
            let number = E164::from_digits(digits).unwrap();
            prop_assert_eq!(E164::from_canonical(number.to_string().as_bytes()), Some(number));
            let shown: String = number.formatted().chars().filter(char::is_ascii_digit).collect();
            prop_assert_eq!(shown, digits.to_string());
            let masked = number.masked().to_string();
            prop_assert_eq!(masked.len(), number.to_string().len());
            prop_assert!(number.to_string().ends_with(masked.trim_start_matches(['+', '*'])));
        }
    }
}
