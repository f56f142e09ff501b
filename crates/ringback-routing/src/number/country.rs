//! Countries: which exist, their calling codes and their international prefixes.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, Region};
use serde::{Deserialize, Serialize};

use super::{E164, plan};

/// A country or territory with a numbering plan, as ISO 3166-1 alpha-2 (and `XK`, `AC`, `TA`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

/// The text names no country that has phone numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an ISO 3166-1 alpha-2 country code")]
pub struct UnknownCountry(pub String);

impl Country {
    /// The country that a number belongs to, if its digits show it.
    ///
    /// None for global services (`+800`), and for numbers under a shared calling code that no country of it has
    /// in use. Costs a few pattern matches: not for the call path.
    #[must_use]
    pub fn of(number: E164) -> Option<Self> {
        let region = PHONE_NUMBER_UTIL.get_region_for_number(&plan::to_library(number)?)?;
        region.as_region_str().parse().ok()
    }

    /// The two capital letters.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }

    /// The calling code, such as 55.
    #[must_use]
    pub fn calling_code(self) -> u16 {
        self.entry().calling_code
    }

    /// The digits dialed from this country before a foreign number. `00` where the library knows no single
    /// prefix: most of these countries have a carrier code behind `00` (Brazil, Korea, Thailand), which gateways
    /// leave out. A peer that sends a carrier code sets it in its own prefix.
    pub(super) fn international_prefix(self) -> &'static [u8] {
        self.entry().international_prefix.as_bytes()
    }

    /// The digits dialed before a number of another area of this country; empty where there are none.
    pub(super) fn trunk_prefix(self) -> &'static str {
        &self.entry().trunk_prefix
    }

    /// Whether this country dials other areas behind a trunk prefix, and these digits lack it.
    pub(super) fn lacks_trunk_prefix(self, digits: &[u8]) -> bool {
        let prefix = self.trunk_prefix();
        !prefix.is_empty() && !digits.starts_with(prefix.as_bytes())
    }

    /// Whether the digits begin with the calling code.
    pub(super) fn leads(self, digits: &[u8]) -> bool {
        let mut code = self.calling_code();
        let mut length = code.checked_ilog10().map_or(0, |log| log as usize + 1);
        let Some(lead) = digits.get(..length) else {
            return false;
        };
        while length > 0 {
            length -= 1;
            if u16::from(lead[length].wrapping_sub(b'0')) != code % 10 {
                return false;
            }
            code /= 10;
        }
        true
    }

    /// The country in the library's type; `None` if the library does not know it.
    pub(super) fn region(self) -> Option<Region> {
        Region::from_code(self.code()).ok()
    }

    /// The country's row in the table.
    fn entry(self) -> &'static Entry {
        &COUNTRIES[self.index()]
    }

    /// Index in the table of all pairs of letters.
    fn index(self) -> usize {
        let [first, second] = self.0;
        usize::from(first - b'A') * 26 + usize::from(second - b'A')
    }
}

impl FromStr for Country {
    type Err = UnknownCountry;

    /// Reads two letters in either case; refuses pairs that the library does not know as a country.
    fn from_str(text: &str) -> Result<Self, UnknownCountry> {
        if let &[first, second] = text.as_bytes()
            && first.is_ascii_alphabetic()
            && second.is_ascii_alphabetic()
        {
            let country = Self([first.to_ascii_uppercase(), second.to_ascii_uppercase()]);
            if country.entry().calling_code != 0 {
                return Ok(country);
            }
        }
        Err(UnknownCountry(text.to_owned()))
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

/// The dialing rules of one pair of letters.
#[derive(Clone, Default)]
struct Entry {
    /// The calling code; 0: no country has these letters.
    calling_code: u16,
    /// The digits dialed before a foreign number.
    international_prefix: String,
    /// The digits dialed before a number of another area; empty where there are none.
    trunk_prefix: String,
}

/// One entry for every pair of letters, `AA` to `ZZ`.
static COUNTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let mut countries = vec![Entry::default(); 26 * 26];
    for region in PHONE_NUMBER_UTIL.get_supported_regions() {
        let calling_code = PHONE_NUMBER_UTIL.get_country_code_for_region(region);
        let calling_code = calling_code.and_then(|code| u16::try_from(code).ok());
        if let (&[first, second], Some(calling_code)) =
            (region.as_region_str().as_bytes(), calling_code)
        {
            countries[Country([first, second]).index()] = Entry {
                calling_code,
                international_prefix: prefix_from(region, calling_code),
                trunk_prefix: trunk_prefix_of(region).unwrap_or_default(),
            };
        }
    }
    countries
});

/// The trunk prefix of a region, taken from a number that the library formats for dialing within it.
fn trunk_prefix_of(region: Region) -> Option<String> {
    let example = PHONE_NUMBER_UTIL.get_example_number(region).ok()?;
    let written = example.format_as(PhoneNumberFormat::National);
    let digits: String = written.chars().filter(char::is_ascii_digit).collect();
    let number = example.national_number.to_string();
    let prefix = digits.strip_suffix(&number)?;
    // In Italy a leading 0 is a part of the number.
    (!example.italian_leading_zero()).then(|| prefix.to_owned())
}

/// The international prefix of a region, taken from a number that the library formats for dialing from it.
fn prefix_from(region: Region, calling_code: u16) -> String {
    let (country_code, national_number) = if calling_code == 44 {
        (1, 2_125_550_100)
    } else {
        (44, 2_079_460_000)
    };
    let foreign = PhoneNumber {
        country_code,
        national_number,
        ..PhoneNumber::default()
    };
    let full = foreign.format_as(PhoneNumberFormat::International);
    let dialed = foreign.format_out_of_country_calling_number(region);
    dialed
        .strip_suffix(full.trim_start_matches('+'))
        .map(|prefix| {
            prefix
                .chars()
                .filter(char::is_ascii_digit)
                .collect::<String>()
        })
        .filter(|prefix| !prefix.is_empty())
        .unwrap_or_else(|| "00".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_either_case_name_a_country() {
        for text in ["BR", "br", "bR"] {
            assert_eq!(text.parse::<Country>().unwrap().to_string(), "BR");
        }
        assert_eq!(
            serde_json::from_str::<Country>("\"gb\"").unwrap().code(),
            "GB"
        );
        assert_eq!(
            serde_json::to_string(&"xk".parse::<Country>().unwrap()).unwrap(),
            "\"XK\""
        );
    }

    #[test]
    fn pairs_that_name_no_country_are_refused() {
        for text in [
            "ZZ", "XX", "AA", "UK", "EU", "AQ", "001", "", "B", "BRA", "B1", "+5", "ÄÖ", "é",
        ] {
            assert_eq!(
                text.parse::<Country>(),
                Err(UnknownCountry(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn calling_codes_are_those_of_the_itu() {
        for (country, code) in [
            ("BR", 55),
            ("US", 1),
            ("CA", 1),
            ("GB", 44),
            ("JE", 44),
            ("RU", 7),
            ("XK", 383),
        ] {
            assert_eq!(
                country.parse::<Country>().unwrap().calling_code(),
                code,
                "{country}"
            );
        }
    }

    #[test]
    fn international_prefixes_are_those_dialed_there() {
        for (country, prefix) in [
            ("BR", "00"),
            ("GB", "00"),
            ("DE", "00"),
            ("MX", "00"),
            ("FI", "00"),
            ("KR", "00"),
            ("US", "011"),
            ("JM", "011"),
            ("AU", "0011"),
            ("JP", "010"),
            ("RU", "810"),
            ("KZ", "810"),
            ("TH", "00"),
            ("UA", "00"),
            ("KE", "000"),
            ("NG", "009"),
            ("CU", "119"),
        ] {
            let known = country.parse::<Country>().unwrap().international_prefix();
            assert_eq!(known, prefix.as_bytes(), "{country}");
        }
    }

    #[test]
    fn a_number_tells_its_country_where_the_plan_does() {
        for (number, country) in [
            ("+5511987654321", Some("BR")),
            ("+12125550100", Some("US")),
            ("+14165550100", Some("CA")),
            ("+442079460000", Some("GB")),
            ("+390612345678", Some("IT")),
            ("+80012345678", None),
            ("+10000000000", None),
            ("+2101234567", None),
        ] {
            let number = E164::from_canonical(number.as_bytes()).unwrap();
            let found = Country::of(number).map(String::from);
            assert_eq!(found.as_deref(), country, "{number}");
        }
    }
}
