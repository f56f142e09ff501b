//! Reading a number by the rules of an environment or of a SIP peer.

use rlibphonenumber::{CountryCodeSource, PHONE_NUMBER_UTIL};
use serde::{Deserialize, Serialize};

use super::{Country, E164, plan};

/// The caller, as far as the signaling says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A readable number.
    Number(E164),
    /// The caller withheld the number.
    Anonymous,
    /// The text is neither a number nor a word for a withheld number.
    Invalid,
}

impl Caller {
    /// The number, if there is a readable one.
    #[must_use]
    pub const fn number(self) -> Option<E164> {
        match self {
            Self::Number(number) => Some(number),
            Self::Anonymous | Self::Invalid => None,
        }
    }
}

/// A number as it was written: its digits, and those marks of the surrounding text that a country's rules need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenNumber<'n> {
    /// The digits, in ASCII.
    pub digits: &'n [u8],
    /// Whether a plus came first.
    pub plus: bool,
    /// The digits that make local ones global (`phone-context=+55`, RFC 3966 §5.1.5); empty if none are given.
    pub context: &'n [u8],
    /// The index of a zero in brackets behind other digits, as in `+44 (0)20`. It is a digit only where the
    /// country dials it from abroad.
    pub bracketed_zero: Option<usize>,
    /// Whether a mark behind the number, as in `555012x`, may hide another digit: then the number must be complete.
    pub may_go_on: bool,
}

/// The rules by which digits are read: those of an environment or of a SIP peer.
///
/// A number in full is read without allocation, in nanoseconds. Words that gateways spell on a keypad
/// (`+266696687`) are anonymous. Short codes, numbers without their area, more than 15 digits, and digits without
/// `+`, prefix or country are invalid: we never guess.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberRules {
    /// Country in which numbers without `+` or international prefix are read.
    pub country: Option<Country>,
    /// The digits that stand for `+`; `None`: the country's own, and `00` unless that differs. A text without a
    /// digit: only `+` counts. If it is set, no other prefix is read as `+`.
    pub international_prefix: Option<String>,
    /// What digits without `+` or international prefix are.
    pub form: NumberForm,
}

impl NumberRules {
    /// Reads a number.
    #[must_use]
    pub fn read(&self, number: WrittenNumber<'_>) -> Caller {
        self.borrowed().read(number)
    }

    /// These rules, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> NumberRulesRef<'_> {
        NumberRulesRef {
            country: self.country,
            international_prefix: self.international_prefix.as_deref(),
            form: self.form,
        }
    }
}

/// How digits are read that have neither `+` nor an international prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumberForm {
    /// As dialed within the country. If that reading is merely possible, and the same digits with a plus are a
    /// valid number, the digits are read with a plus.
    #[default]
    National,
    /// As E.164 without its plus; digits with a leading 0 are still read by the country.
    E164,
}

impl NumberForm {
    /// Every form.
    pub const ALL: [Self; 2] = [Self::National, Self::E164];

    /// The name in JSON and configuration files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::National => "national",
            Self::E164 => "e164",
        }
    }
}

/// Borrowed [`NumberRules`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumberRulesRef<'a> {
    /// Country in which numbers without `+` or international prefix are read.
    pub country: Option<Country>,
    /// The digits that stand for `+`, if not the country's own.
    pub international_prefix: Option<&'a str>,
    /// How digits without `+` or international prefix are read.
    pub form: NumberForm,
}

impl NumberRulesRef<'_> {
    /// Reads a number.
    #[must_use]
    pub fn read(self, number: WrittenNumber<'_>) -> Caller {
        if number.plus
            && number.bracketed_zero.is_none()
            && !number.may_go_on
            && let Some(number) = plan::read_plain(number.digits)
            && !is_spelled_on_keypad(number)
        {
            return Caller::Number(number);
        }
        self.read_uncommon(number)
    }

    /// Builds the tables and compiles the country's patterns now, so that no call waits for them.
    pub fn warm_up(self) {
        plan::load();
        // Any digits will do: a national number runs through all patterns.
        for digits in ["0234567890", "234567890"] {
            let _ = self.read(WrittenNumber {
                digits: digits.as_bytes(),
                ..WrittenNumber::default()
            });
        }
    }

    /// Whether some rules were [warmed up](Self::warm_up) in this process.
    #[must_use]
    pub fn is_any_warm() -> bool {
        plan::is_loaded()
    }

    /// Reads a number that is not plain E.164.
    fn read_uncommon(self, number: WrittenNumber<'_>) -> Caller {
        match self.resolve_either(number) {
            Some(read) if is_spelled_on_keypad(read) => Caller::Anonymous,
            Some(_) if number.may_go_on && self.goes_on(number) => Caller::Invalid,
            Some(read) => Caller::Number(read),
            // Some gateways send a prefix before the keypad word.
            None => match std::str::from_utf8(number.digits).map(str::parse) {
                Ok(Ok(digits)) if KEYPAD_WORDS.contains(&digits) => Caller::Anonymous,
                _ => Caller::Invalid,
            },
        }
    }

    /// Whether the number is also readable with one more digit behind it.
    fn goes_on(self, number: WrittenNumber<'_>) -> bool {
        let mut longer = [0; MAX_DIGITS];
        joined(&mut longer, number.digits, b"0")
            .is_some_and(|digits| self.resolve(WrittenNumber { digits, ..number }).is_some())
    }

    /// The number that the digits mean, with or without a zero in brackets in a full number: whichever is valid.
    /// If both are valid, or both merely possible, the text is ambiguous and gives `None`.
    ///
    /// Countries with trunk prefix 0 cut the zero anyway. Of the others, some keep it (land lines in Italy) and
    /// some never had it.
    fn resolve_either(self, number: WrittenNumber<'_>) -> Option<E164> {
        let read = self.resolve(number);
        // The library may know more prefixes than we do; 00 is the common one.
        let is_full = number.plus
            || number.digits.starts_with(b"00")
            || self.strip_international_prefix(number.digits).is_some();
        let Some(zero) = number.bracketed_zero.filter(|_| is_full) else {
            return read;
        };
        let mut digits = [0; MAX_DIGITS];
        let (before, behind) = number.digits.split_at_checked(zero)?;
        let digits = joined(&mut digits, before, behind.strip_prefix(b"0")?)?;
        match (read, self.resolve(WrittenNumber { digits, ..number })) {
            (Some(read), Some(without)) if read != without => {
                match (read.is_valid(), without.is_valid()) {
                    (true, false) => Some(read),
                    (false, true) => Some(without),
                    _ => None,
                }
            }
            (read, without) => read.or(without),
        }
    }

    /// The number that the digits mean in their context (RFC 3966 §5.1.5).
    fn resolve(self, number: WrittenNumber<'_>) -> Option<E164> {
        let digits = number.digits;
        if number.plus {
            // No calling code starts with 0, so the plus was put before a number that already had its prefix.
            return plan::read(digits.strip_prefix(b"00").unwrap_or(digits));
        }
        if let Some(international) = self.strip_international_prefix(digits) {
            return plan::read(international);
        }
        if !number.context.is_empty() {
            let mut global = [0; MAX_DIGITS];
            return plan::read(joined(&mut global, number.context, digits)?);
        }
        match self.form {
            NumberForm::E164 if digits.first() != Some(&b'0') => plan::read(digits),
            NumberForm::E164 => self.read_national(digits),
            NumberForm::National => {
                let full = || plan::read(digits).filter(|full| full.is_valid());
                let is_home = |country: Country| country.leads(digits);
                match self.read_national(digits) {
                    Some(national) if self.is_doubtful(digits, national) => {
                        full().or(Some(national))
                    }
                    // Behind the country's own code, old spellings are still in use that the library does not
                    // know.
                    None if self.country.is_some_and(is_home) => full(),
                    national => national,
                }
            }
        }
    }

    /// Whether digits that read nationally are more likely a full number without its plus, provided that is
    /// valid: the national number is possible by its length alone, or the digits begin with the country's own
    /// calling code where a national number would begin with the trunk prefix. (In Germany nearly every number
    /// behind 49 is valid, and 49 is an area as well.)
    fn is_doubtful(self, digits: &[u8], national: E164) -> bool {
        let is_home =
            |country: Country| country.leads(digits) && country.lacks_trunk_prefix(digits);
        self.country.is_some_and(is_home) || !national.is_valid()
    }

    /// The digits behind the international prefix; `None` if they do not start with it.
    fn strip_international_prefix(self, digits: &[u8]) -> Option<&[u8]> {
        let own: &[u8] = self.country.map_or(b"00", Country::international_prefix);
        let prefix = self.international_prefix.map_or(own, str::as_bytes);
        let mut rest = digits;
        for digit in prefix.iter().filter(|byte| byte.is_ascii_digit()) {
            rest = rest.strip_prefix(&[*digit])?;
        }
        // No calling code starts with 0, so this was not the prefix.
        (rest.len() < digits.len() && rest.first() != Some(&b'0')).then_some(rest)
    }

    /// Reads digits as they are dialed within the country.
    fn read_national(self, digits: &[u8]) -> Option<E164> {
        let country = self.country?;
        let region = country.region()?;
        if digits.len() > MAX_NATIONAL_DIGITS {
            return None;
        }
        if country.code() == "MX"
            && let Some(number) = plan::read_former_mexican(digits)
        {
            return Some(number);
        }
        let text = std::str::from_utf8(digits).ok()?;
        let number = PHONE_NUMBER_UTIL
            .parse_and_keep_raw_input(text, Some(region))
            .ok()?;
        if number.country_code_source() == CountryCodeSource::FromNumberWithIdd {
            // The library knows every prefix of the country, but the peer's setting counts more.
            if self.international_prefix.is_some() {
                return None;
            }
        } else if digits.starts_with(b"00") && !PHONE_NUMBER_UTIL.is_valid_number(&number) {
            // Possible by its length, but meant as a foreign number: 00 is not the prefix of this peer.
            return None;
        }
        plan::settle(plan::from_library(&number)?)
    }
}

/// Whether a gateway spells a word for a withheld number with these digits.
fn is_spelled_on_keypad(number: E164) -> bool {
    KEYPAD_WORDS.contains(&number.digits())
}

/// Two sequences of digits joined in the buffer; `None` if they do not fit.
fn joined<'b>(buffer: &'b mut [u8; MAX_DIGITS], first: &[u8], second: &[u8]) -> Option<&'b [u8]> {
    let length = first.len() + second.len();
    buffer.get_mut(..first.len())?.copy_from_slice(first);
    buffer.get_mut(first.len()..length)?.copy_from_slice(second);
    buffer.get(..length)
}

/// Words for a withheld number as gateways spell them on a keypad, and send as numbers: ANONYMOUS, RESTRICTED,
/// BLOCKED, UNKNOWN and UNAVAILABLE.
const KEYPAD_WORDS: [u64; 5] = [
    266_696_687,
    7_378_742_833,
    2_562_533,
    8_656_696,
    86_282_452_253,
];

/// The most digits that are read at all: an international prefix, a carrier code, a trunk prefix and 15.
const MAX_DIGITS: usize = 32;

/// The most digits that the library is asked about: 15, and prefixes and carrier codes before them.
const MAX_NATIONAL_DIGITS: usize = 26;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringback_sip_proto::Identity;
    use rlibphonenumber::PhoneNumberType;

    use super::*;

    /// Rules from a country (empty: none) and a prefix.
    fn rules(country: &str, prefix: Option<&str>) -> NumberRules {
        NumberRules {
            country: (!country.is_empty()).then(|| country.parse().unwrap()),
            international_prefix: prefix.map(str::to_owned),
            form: NumberForm::National,
        }
    }

    /// The caller that a text reads as.
    fn read(rules: &NumberRules, text: impl AsRef<[u8]>) -> Caller {
        match Identity::from_text(text.as_ref()) {
            Identity::Number(digits) => rules.read(WrittenNumber {
                digits: digits.as_bytes(),
                plus: digits.has_plus(),
                context: digits.context(),
                bracketed_zero: digits.bracketed_zero(),
                may_go_on: digits.may_go_on(),
            }),
            Identity::Withheld | Identity::Nobody => Caller::Anonymous,
            Identity::Unreadable => Caller::Invalid,
        }
    }

    /// The reading as text: the number, `anonymous` or `invalid`.
    fn shown(caller: Caller) -> String {
        match caller {
            Caller::Number(number) => number.to_string(),
            Caller::Anonymous => "anonymous".to_owned(),
            Caller::Invalid => "invalid".to_owned(),
        }
    }

    /// Checks each text of a table.
    fn check(rules: &NumberRules, expected: &str, texts: &[&str]) {
        for text in texts {
            assert_eq!(shown(read(rules, text)), expected, "{text:?} by {rules:?}");
        }
    }

    #[test]
    fn one_number_in_many_spellings() {
        let full = [
            "+5511987654321",
            "005511987654321",
            "tel:+55-11-98765-4321",
            "sip:+5511987654321@gw;user=phone",
            "sips:+5511987654321@gw.example.com:5061;transport=tcp",
            "SIP:005511987654321@192.0.2.1",
            "sip:+5511987654321;npdi;rn=+551100@gw",
            "sip:+5511987654321:secret@gw",
            "sip:%2B5511987654321@gw",
            "sip:%2b55%2011%2098765%2D4321@gw;user=phone",
            "sip:+5511987654321@[2001:db8::1]:5060",
            "sip:+5511987654321",
            "+5511987654321@gw",
            "<sip:+5511987654321@gw>",
            "\"Bob\" <sip:+5511987654321@gw>;tag=1928301774",
            "Bob Smith <tel:+5511987654321>",
            "\"+1 (212) 555-0100\" <sip:+5511987654321@gw>",
            "\"a \\\" <b>\" <sip:+5511987654321@gw>",
            "\"Anonymous\" <sip:+5511987654321@gw>",
            "\"Bob <sip:+5511987654321@gw>",
            "Tel:+5511987654321;isub=12;phone-context=+1",
            "tel:11-98765-4321;phone-context=+55",
            "tel:011987654321;phone-context=+55",
            "tel:98765-4321;phone-context=+55-11",
            "sip:11987654321;phone-context=%2B55@gw;user=phone",
            "sip:11987654321;Phone-Context=+55@gw;user=phone",
            " +55 (11) 98765-4321 ",
            "+55.11.98765.4321",
            "+55/11/98765/4321",
            "(+55) 11 98765 4321",
            "\"+5511987654321\"",
            "00 55 (11) 98765-4321",
            "+55\u{a0}11\u{2011}98765\u{2013}4321",
            "\u{202a}+5511987654321\u{202c}",
            "\u{FF0B}\u{FF15}\u{FF15}11987654321",
            "+٥٥١١٩٨٧٦٥٤٣٢١",
            "+5511987654321,,123#",
            "+5511987654321,12",
            "+5511987654321;ext=12",
            "tel:+55-11-98765-4321;ext=1234",
            "tel:+5511987654321;postd=pp22",
            "sip:+5511987654321;ext=12@gw",
            "sip:+5511987654321,123@gw",
            "+5511987654321w123",
            "+5511987654321wwww1928#",
            "+5511987654321p22",
            "+55 11 98765-4321 x123",
            "+5511987654321x12",
            "+5511987654321X12",
            "+55 11 98765-4321 ext. 12",
            "+55 11 98765-4321 Ext 12",
            "+55 11 98765-4321 extension 12",
            "+55 11 98765-4321 ext:7",
            "+55 11 98765-4321 ext: 7",
            "+55 11 98765-4321 Ext. : 7",
            "+55 11 98765-4321 extn 7",
            "+55 11 98765-4321 EXTENSION: 7",
            "+55 11 98765-4321 extensión 7",
            "+55 11 98765-4321 ext#7",
            "+55 11 98765-4321 x.7",
            "+55 11 98765-4321 (x7)",
            "+55 11 98765-4321 (ext. 7)",
            "+55 11 98765-4321 [ext 7]",
            "+55 11 98765-4321 ramal 7",
            "+55 11 98765-4321 Ramal: 7",
            "+55 11 98765-4321 anexo 7",
            "+55 11 98765-4321 interno 7",
            "+55 11 98765-4321 int. 7",
            "+55 11 98765-4321 poste 7",
            "+55 11 98765-4321 доб. 7",
            "+55 11 98765-4321 ДОБ 7",
            "+55 11 98765-4321 #7",
            "+55 11 98765-4321 # 7",
            "+5511987654321#12",
            "+5511987654321#123456",
            "+5511987654321#",
            "sip:+5511987654321%23@gw",
            "+5511987654321;7",
            "+55 11 98765-4321 x",
            "+5511987654321x",
            "+55 11 98765-4321 ext",
            "+5511987654321 ext.",
            "+5511987654321ext",
            "+5511987654321 extension:",
            "+005511987654321",
            "+00 55 11 98765 4321",
            "+55 (011) 98765-4321",
            "+55 (0)11 98765-4321",
            "+55 (0) 11 98765-4321",
            "\u{2019}+5511987654321",
            "\u{feff}+5511987654321",
            "\u{feff}\"+5511987654321\"",
            "\u{a0}'+5511987654321\u{200b}",
            "\u{202a}tel:+5511987654321\u{202c}",
            "+55\u{200b}11\u{2060}98765\u{2009}4321",
            "+55 11 98765\u{30fc}4321",
            "+55\u{b7}11\u{b7}98765\u{2022}4321",
            "+55/11/98765/43/21",
            "tel://+5511987654321",
            "callto:+5511987654321",
            "callto://+55 11 98765 4321",
            "whatsapp:+5511987654321",
            "sms:+5511987654321",
            "fax:+55-11-98765-4321",
            "'+5511987654321",
            "'005511987654321",
            "=\"+5511987654321\"",
            "\"+5511987654321.0\"",
            "+5511987654321.0",
            "+5511987654321.00",
            "005511987654321.000",
        ];
        let national = [
            "11987654321",
            "011987654321",
            "(11) 98765-4321",
            "01511987654321", // by carrier 15
            "5511987654321",
            "tel:11987654321;phone-context=gw.example.com",
            "sip:11987654321@gw;user=phone",
            "\"Bob\" <sip:011987654321@gw>",
        ];
        for rules in [rules("", None), rules("BR", None), rules("BR", Some("00"))] {
            check(&rules, "+5511987654321", &full);
        }
        check(&rules("BR", None), "+5511987654321", &national);
        check(&rules("", None), "invalid", &national);
    }

    #[test]
    fn national_formats_of_many_countries() {
        for (country, expected, texts) in [
            (
                "BR",
                "+551134567890",
                &[
                    "1134567890",
                    "(11) 3456-7890",
                    "0 11 3456 7890",
                    "0 21 11 3456 7890",
                ][..],
            ),
            ("BR", "+558001234567", &["0800 123 4567"]),
            (
                "US",
                "+12125550100",
                &[
                    "2125550100",
                    "(212) 555-0100",
                    "1-212-555-0100",
                    "12125550100",
                    "212.555.0100",
                    "+1 212 555 0100",
                    "011 1 212 555 0100",
                ],
            ),
            (
                "US",
                "+442079460000",
                &[
                    "011442079460000",
                    "011 44 (0)20 7946 0000",
                    "+44 20 7946 0000",
                ],
            ),
            ("CA", "+14165550100", &["4165550100", "1 416 555 0100"]),
            (
                "GB",
                "+442079460000",
                &[
                    "020 7946 0000",
                    "(020) 7946 0000",
                    "00442079460000",
                    "+44 (0)20 7946 0000",
                ],
            ),
            ("GB", "+447911123456", &["07911 123456", "07911123456"]),
            ("GB", "+12125550100", &["0012125550100"]),
            (
                "DE",
                "+4930123456",
                &[
                    "030 123456",
                    "030/123456",
                    "+49 (0)30 123456",
                    "+49030123456",
                    "004930123456",
                ],
            ),
            ("DE", "+4915112345678", &["0151 12345678", "0151-12345678"]),
            (
                "IT",
                "+390612345678",
                &[
                    "06 1234 5678",
                    "0612345678",
                    "+39 06 1234 5678",
                    "00390612345678",
                ],
            ),
            (
                "IT",
                "+393471234567",
                &["347 123 4567", "3471234567", "+39 347 1234567"],
            ),
            (
                "AR",
                "+541145678901",
                &["011 4567-8901", "1145678901", "+54 11 4567-8901"],
            ),
            (
                "AR",
                "+5491123456789",
                &[
                    "011 15-2345-6789",
                    "11 15 2345 6789",
                    "+54 9 11 2345-6789",
                    "+54 11 15 2345 6789",
                ],
            ),
            (
                "MX",
                "+525512345678",
                &["55 1234 5678", "+52 55 1234 5678", "005255 1234 5678"],
            ),
            (
                "FR",
                "+33123456789",
                &[
                    "01 23 45 67 89",
                    "01.23.45.67.89",
                    "+33 (0)1 23 45 67 89",
                    "0033123456789",
                ],
            ),
            (
                "AU",
                "+61298765432",
                &["(02) 9876 5432", "02 9876 5432", "+61 2 9876 5432"],
            ),
            (
                "AU",
                "+5511987654321",
                &["0011 55 11 98765-4321", "+5511987654321"],
            ),
            ("JP", "+81312345678", &["03-1234-5678", "+81 3-1234-5678"]),
            (
                "JP",
                "+5511987654321",
                &["010 55 11 98765-4321", "0105511987654321"],
            ),
            (
                "RU",
                "+79161234567",
                &[
                    "8 (916) 123-45-67",
                    "89161234567",
                    "9161234567",
                    "+7 916 123-45-67",
                ],
            ),
            (
                "RU",
                "+5511987654321",
                &["8~10 55 11 98765-4321", "8105511987654321"],
            ),
            ("KE", "+5511987654321", &["0005511987654321"]),
            (
                "TZ",
                "+5511987654321",
                &["0005511987654321", "005511987654321"],
            ),
            ("CH", "+41446681800", &["044 668 18 00"]),
            ("IN", "+919876543210", &["98765 43210", "098765 43210"]),
            (
                "CN",
                "+8613812345678",
                &["138 1234 5678", "+86 138 1234 5678"],
            ),
        ] {
            check(&rules(country, None), expected, texts);
        }
    }

    #[test]
    fn another_international_prefix_takes_the_place_of_00() {
        let texts = [
            "005511987654321",
            "sip:005511987654321@gw",
            "00442079460000",
            "0044207946",
        ];
        for (country, prefix) in [
            ("US", None),
            ("AU", None),
            ("JP", None),
            ("RU", None),
            ("BR", Some("011")),
            ("", Some("011")),
            ("GB", Some("")),
            ("BR", Some("+")),
        ] {
            check(&rules(country, prefix), "invalid", &texts);
        }
        for (country, prefix) in [("", Some("011")), ("BR", Some("011")), ("GB", Some("0-11"))] {
            check(
                &rules(country, prefix),
                "+5511987654321",
                &["0115511987654321", "+5511987654321"],
            );
        }
        check(
            &rules("US", Some("00")),
            "+5511987654321",
            &["005511987654321"],
        );
        check(&rules("US", Some("00")), "invalid", &["0115511987654321"]);
        check(
            &rules("", Some("999")),
            "+5511987654321",
            &["9995511987654321"],
        );
        check(
            &rules("BR", Some("999")),
            "+5511987654321",
            &["11987654321", "9995511987654321"],
        );
    }

    #[test]
    fn withheld_numbers_are_anonymous() {
        for rules in [rules("", None), rules("BR", None), rules("US", Some("011"))] {
            check(
                &rules,
                "anonymous",
                &[
                    "",
                    " ",
                    "\"\"",
                    "<>",
                    "anonymous",
                    "Anonymous",
                    "ANONYMOUS",
                    "Restricted",
                    "unavailable",
                    "private",
                    "Unknown",
                    "withheld",
                    "Not Available",
                    "Private Number",
                    "OUT_OF_AREA",
                    "sip:anonymous@anonymous.invalid",
                    "sip:anonymous@gw.example.com",
                    "anonymous@gw",
                    "sip:Restricted@gw",
                    "sip:unavailable@unknown.invalid",
                    "sip:%61nonymous@gw",
                    "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1",
                    "anonymous.invalid",
                    "sip:gw.example.com",
                    "sip:@gw.example.com",
                    "sip:192.0.2.1:5060",
                    "sip:;user=phone@gw",
                    "sip:",
                    "tel:",
                    "<sip:gw.example.com>;tag=1",
                    "sip:+5511987654321@anonymous.invalid",
                    "sip:+5511987654321@Anonymous.Invalid:5060;user=phone",
                    "sip:%22%22@gw",
                    "\"Anonymous\" <sip:thisis@example.com>",
                    "Anonymous <sip:c8oqz84zk7z@privacy.example.org>",
                ],
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_invalid() {
        let long = format!("+{}", "5".repeat(300));
        let padded = format!("sip:{}+5511987654321@gw", "-".repeat(300));
        let huge = format!("{}+5511987654321", " ".repeat(100_000));
        for rules in [
            rules("", None),
            rules("BR", None),
            rules("US", None),
            rules("DE", None),
        ] {
            check(
                &rules,
                "invalid",
                &[
                    "+",
                    "++5511987654321",
                    "+55+11987654321",
                    "5511+987654321",
                    "+0155119876",
                    "+1",
                    "-",
                    "()",
                    "+55119876543210",
                    "+1234567890123456",
                    "+2101234567890",
                    "+9991234567",
                    "+1555010",
                    "4.93E+11",
                    "5.511987654321E+12",
                    "+5511987654321.5",
                    "+5511987654321.05",
                    "+5511987654xx",
                    "+55119876543xx1",
                    "+551198765432x",
                    "+493012345x",
                    "+5511987654321 ext a",
                    "+5511987654321 mobile",
                    "+5511987654321#1234567",
                    "1234567#5511987654321",
                    "+5511987654321##1",
                    "+5511987654321;5511987654322",
                    "+5511987654321; +5511987654322",
                    "+5511987654321/22",
                    "+55 11 98765-4321/2",
                    "+55 11 98765-4321 / 322",
                    "+493012345678/79",
                    "+5511987654321 / +5511987654322",
                    "+000 5511987654321",
                    "tel:863-1234;phone-context=+1-914-555",
                    "+1202555POOL",
                    "'",
                    "=5511987654321+1",
                    "+1-800-FLOWERS",
                    "sip:bob@example.com",
                    "Bob <sip:bob@example.com>",
                    "asterisk",
                    "*67",
                    "#31#",
                    "*31*5511987654321",
                    "112",
                    "911",
                    "190",
                    "110",
                    "urn:service:sos",
                    "h323:+5511987654321",
                    "mailto:a",
                    "sip:%zz@gw",
                    "sip:+5511987654321%@gw",
                    "sip:+5511987654321%3B@gw",
                    "<sip:+5511987654321@gw",
                    "\"Bob\" sip:+5511987654321@gw",
                    "tel:12345678;phone-context=+",
                    "tel:1987654321;phone-context=+999",
                    "00",
                    "0",
                    "000",
                    "+00",
                    "00+5511987654321",
                    "\u{0}",
                    "+5511987654321\u{0}",
                    "+५५११९८७६५४३२१",
                    &long,
                    &padded,
                    &huge,
                ],
            );
            assert_eq!(read(&rules, [b'+', b'5', 0xff, 0xfe]), Caller::Invalid);
        }
        // Without an area code a number is possible only within its area.
        check(&rules("US", None), "invalid", &["555-0100", "5550100"]);
        check(&rules("MX", None), "invalid", &["1234 5678"]);
        check(&rules("RU", None), "invalid", &["123-45-67"]);
    }

    /// Rules of a peer or tenant that sends E.164 without its plus.
    fn without_plus(country: &str) -> NumberRules {
        NumberRules {
            form: NumberForm::E164,
            ..rules(country, None)
        }
    }

    /// All 33 German mobile ranges used to be read as numbers in Hage, `+49 4917...`.
    #[test]
    fn digits_that_are_a_valid_number_with_a_plus_are_that_where_the_country_has_no_such_number() {
        let germany = rules("DE", None);
        check(&germany, "+491713920042", &["491713920042"]);
        check(&germany, "+4915228817386", &["4915228817386"]);
        for range in [
            "1511", "1512", "1514", "1515", "1516", "1517", "1520", "1521", "1522", "1523", "1525",
            "1526", "1529", "1570", "1573", "1575", "1577", "1578", "1579", "1590", "160", "162",
            "163", "170", "171", "172", "173", "174", "175", "176", "177", "178", "179",
        ] {
            let full = format!("49{range}3920042");
            assert_eq!(shown(read(&germany, &full)), format!("+{full}"));
            assert_eq!(
                shown(read(&germany, format!("0{}", &full[2..]))),
                format!("+{full}")
            );
        }
        // Both readings are valid, so the national one holds.
        check(&rules("US", None), "+12025550119", &["2025550119"]);
    }

    #[test]
    fn digits_without_plus_are_e164_where_the_rules_say_so() {
        check(&without_plus("US"), "+447700900142", &["447700900142"]);
        check(&without_plus(""), "+447700900142", &["447700900142"]);
        check(
            &without_plus("US"),
            "+12025550119",
            &["12025550119", "+12025550119"],
        );
        check(
            &without_plus("DE"),
            "+493023125142",
            &["493023125142", "03023125142", "00493023125142"],
        );
        check(&without_plus("US"), "+447700900142", &["011447700900142"]);
        check(&rules("US", None), "invalid", &["447700900142"]);
    }

    /// `493023125142.0` used to be read as another subscriber.
    #[test]
    fn what_spreadsheets_make_of_a_number_is_that_number() {
        let germany = rules("DE", None);
        check(
            &germany,
            "+493023125142",
            &[
                "493023125142.0",
                "493023125142.00",
                "'+493023125142",
                "=\"+493023125142\"",
                "03023125142.0",
            ],
        );
        check(
            &germany,
            "invalid",
            &[
                "493023125142.5",
                "+49 30 23125142.5",
                "030 23125142.5",
                "4.93023125142E+11",
                "4.93E+11",
            ],
        );
        check(
            &rules("US", None),
            "+12025550119",
            &[
                "2025550119.0",
                "202.555.0119",
                "202-555.0119",
                "(202) 555.0119",
            ],
        );
    }

    #[test]
    fn words_spelled_on_a_keypad_are_anonymous() {
        for rules in [
            rules("", None),
            rules("US", None),
            without_plus("DE"),
            rules("CN", None),
        ] {
            check(
                &rules,
                "anonymous",
                &[
                    "+266696687",
                    "+7378742833",
                    "+2562533",
                    "+8656696",
                    "+86282452253",
                    "sip:+266696687@gw",
                    "<tel:+7378742833>",
                    "00266696687",
                ][..if rules.country == "US".parse().ok() {
                    7
                } else {
                    8
                }],
            );
        }
        check(&rules("", None), "anonymous", &["266696687", "8656696"]);
    }

    #[test]
    fn two_spellings_of_a_subscriber_are_both_read_as_they_are_written() {
        check(
            &rules("MX", None),
            "+5215555550142",
            &["+52 1 55 5555 0142", "005215555550142"],
        );
        check(
            &rules("MX", None),
            "+525555550142",
            &["+52 55 5555 0142", "55 5555 0142"],
        );
        check(
            &rules("BR", None),
            "+551187654321",
            &["+551187654321", "11 8765-4321"],
        );
        check(&rules("AR", None), "+541123456789", &["+54 11 2345-6789"]);
    }

    /// Mexico dialed 01 before other areas, 044 and 045 before mobile telephones; address books still do.
    #[test]
    fn former_mexican_prefixes_are_taken_off() {
        let mexico = rules("MX", None);
        check(
            &mexico,
            "+525555550142",
            &[
                "01 55 5555 0142",
                "(01 55) 5555-0142",
                "015555550142",
                "044 55 5555 0142",
                "0445555550142",
                "045 55 5555 0142",
                "02 55 5555 0142",
                "52 55 5555 0142",
                "5201 55 5555 0142",
                "tel:01-55-5555-0142",
                "tel:5555550142;phone-context=+52",
                "tel:0445555550142;phone-context=+52",
            ],
        );
        check(&mexico, "+528001234567", &["01 800 123 4567"]);
        check(
            &mexico,
            "+5215555550142",
            &["5215555550142", "52 1 55 5555 0142"],
        );
        check(
            &without_plus("MX"),
            "+525555550142",
            &["015555550142", "0445555550142", "525555550142"],
        );
        for country in ["", "MX", "US", "DE"] {
            check(
                &rules(country, None),
                "+525555550142",
                &[
                    "+52 01 55 5555 0142",
                    "+52 (01) 55 5555 0142",
                    "+52 (01 55) 5555-0142",
                    "+52 044 55 5555 0142",
                    "+52 045 55 5555 0142",
                ],
            );
            check(&without_plus(country), "+5215555550142", &["5215555550142"]);
        }
        check(
            &mexico,
            "invalid",
            &[
                "044 5555 0142",
                "+52 044 5555 0142",
                "01 055 5555 014",
                "046 55 5555 0142",
                "+52 044 55 5555 01421",
            ],
        );
    }

    #[test]
    fn digits_with_the_own_calling_code_are_full_where_no_national_number_is_possible() {
        check(
            &rules("AR", None),
            "+5491123456789",
            &["5491123456789", "54 9 11 2345-6789"],
        );
        check(&rules("BR", None), "+551187654321", &["551187654321"]);
        // The calling codes of other countries are not looked for.
        check(&rules("US", None), "invalid", &["447700900142"]);
        check(&rules("BR", None), "invalid", &["5215555550142"]);
    }

    #[test]
    fn a_zero_in_brackets_counts_only_where_it_is_dialed_from_abroad() {
        for (expected, texts) in [
            (
                "+442079460000",
                &[
                    "+44 (0)20 7946 0000",
                    "0044 (0) 20 7946 0000",
                    "+44(0)2079460000",
                ][..],
            ),
            (
                "+34912345678",
                &["+34 (0)91 234 56 78", "+34 (0) 912345678"],
            ),
            (
                "+12025550119",
                &["+1 (0)202 555 0119", "+1 (0) 202-555-0119"],
            ),
            ("+393471234567", &["+39 (0)347 123 4567"]),
            ("+390612345678", &["+39 (0)6 1234 5678", "+39 06 1234 5678"]),
            ("+351212345678", &["+351 (0)21 234 5678"]),
            ("+4532123456", &["+45 (0)32 12 34 56"]),
        ] {
            check(&rules("", None), expected, texts);
            check(&rules("DE", None), expected, texts);
        }
    }

    /// Each of these used to be read as one long number.
    #[test]
    fn two_numbers_divided_by_a_slash_are_no_number() {
        let germany = rules("DE", None);
        check(
            &germany,
            "invalid",
            &[
                "030 123456/57",
                "030 123456 / 57",
                "030/123456/57",
                "(030) 12 34 56/7",
            ],
        );
        check(
            &germany,
            "+4930123456",
            &["030/123456", "030 / 12 34 56", "0049 (0)30 / 123456"],
        );
        check(
            &rules("BE", None),
            "+32475123456",
            &["0475/12 34 56", "0475/12/34/56", "+32 475/12.34.56"],
        );
    }

    /// An example of every kind of number in every country, written in every way: no text is read as another
    /// subscriber.
    #[test]
    fn no_number_is_read_as_that_of_another_subscriber() {
        let mut seen = 0;
        for region in PHONE_NUMBER_UTIL.get_supported_regions() {
            let Ok(country) = region.as_region_str().parse::<Country>() else {
                continue;
            };
            let of = |form| NumberRules {
                country: Some(country),
                international_prefix: None,
                form,
            };
            for (example, number) in examples(region) {
                seen += 1;
                let digits = number.digits().to_string();
                let national = example
                    .format_as(rlibphonenumber::PhoneNumberFormat::National)
                    .into_owned();
                for form in NumberForm::ALL {
                    let rules = of(form);
                    for text in [
                        format!("+{digits}"),
                        format!("tel:+{digits};ext=12"),
                        format!("+{digits}.0"),
                        format!("'+{digits}"),
                        format!("=\"+{digits}\""),
                        format!("+{digits},,12#"),
                        format!("+{digits} x123"),
                        format!("+{digits} ext. 123"),
                        format!("+{digits} ext:7"),
                        format!("+{digits} (x7)"),
                        format!("+{digits} #7"),
                        format!("+{digits}#"),
                        format!("+{digits} x"),
                        format!("+{digits} ext."),
                        format!("+00{digits}"),
                        format!("\u{2018}+{digits}"),
                        format!("callto:+{digits}"),
                        format!("+\u{202a}{digits}\u{200b}"),
                        format!("sip:+{digits}@gw;user=phone"),
                    ] {
                        assert_eq!(
                            shown(read(&rules, &text)),
                            format!("+{digits}"),
                            "{text} in {country:?}"
                        );
                    }
                    // A last digit may be hidden, and what a country cuts off may be added by hand.
                    let code = country.calling_code().to_string();
                    let (_, rest) = digits.split_at(code.len());
                    let short = &digits[..digits.len() - 1];
                    for text in [
                        format!("+{digits}x"),
                        format!("+{short}x"),
                        format!("+{digits}/7"),
                        format!("+{digits};{digits}"),
                        format!("+{code} (0){rest}"),
                        format!("00{code} (0) {rest}"),
                    ] {
                        let read = read(&rules, &text).number();
                        let is_meant =
                            read.is_none_or(|read| read.subscriber() == number.subscriber());
                        assert!(is_meant, "{text} in {country:?} is read as {read:?}");
                    }
                    for text in [
                        digits.clone(),
                        format!("{digits}.0"),
                        format!("{digits},5"),
                        format!("{digits} x5"),
                    ] {
                        let read = read(&rules, &text).number();
                        let is_meant = match form {
                            NumberForm::E164 => read == Some(number),
                            // If both are valid, the national reading holds, except for digits that would need a
                            // trunk prefix before them.
                            NumberForm::National => read.is_none_or(|read| {
                                let is_complete = !country.lacks_trunk_prefix(digits.as_bytes());
                                read == number || read.is_valid() && is_complete
                            }),
                        };
                        assert!(is_meant, "{text} in {country:?} is read as {read:?}");
                    }
                    if form == NumberForm::National {
                        let trunk = country.trunk_prefix();
                        let significant = example.get_national_significant_number();
                        let behind_trunk = format!("{trunk}{significant}");
                        for text in [
                            national.clone(),
                            format!("{national} x5"),
                            format!("{national},5"),
                            format!("'{national}"),
                            format!("{national}.0"),
                            behind_trunk.clone(),
                            format!("{behind_trunk}.0"),
                            format!("{behind_trunk};ext=12"),
                            format!("tel:{behind_trunk};phone-context=+{code}"),
                        ] {
                            let read = read(&rules, &text).number();
                            let is_meant =
                                read.is_none_or(|read| read.subscriber() == number.subscriber());
                            assert!(is_meant, "{text} in {country:?} is read as {read:?}");
                        }
                    }
                    // From abroad, by another country's rules: only full numbers are read.
                    let abroad = NumberRules {
                        country: None,
                        ..of(NumberForm::National)
                    };
                    assert_eq!(read(&abroad, format!("00{digits}")).number(), Some(number));
                    assert_eq!(read(&abroad, &digits).number(), None);
                }
            }
        }
        assert!(seen > 1_000, "{seen}");
    }

    /// The same numbers by the rules of every other country, as from a peer that serves many.
    #[test]
    fn a_number_of_one_country_is_not_read_as_a_merely_possible_one_of_another() {
        let regions: Vec<_> = PHONE_NUMBER_UTIL.get_supported_regions().collect();
        let numbers: Vec<E164> = regions
            .iter()
            .flat_map(|region| examples(*region))
            .map(|(_, number)| number)
            .collect();
        for region in regions {
            let Ok(country) = region.as_region_str().parse::<Country>() else {
                continue;
            };
            let [national, e164] = NumberForm::ALL.map(|form| NumberRules {
                country: Some(country),
                international_prefix: None,
                form,
            });
            let prefix = String::from_utf8_lossy(country.international_prefix()).into_owned();
            for number in &numbers {
                let digits = number.digits().to_string();
                for text in [format!("+{digits}"), format!("{prefix}{digits}")] {
                    assert_eq!(
                        read(&national, &text).number(),
                        Some(*number),
                        "{text} in {country:?}"
                    );
                }
                assert_eq!(
                    read(&e164, &digits).number(),
                    Some(*number),
                    "{digits} in {country:?}"
                );
                // The national reading holds only if both are valid.
                let read = read(&national, format!("{digits}.0")).number();
                let is_meant = read.is_none_or(|read| read == *number || read.is_valid());
                assert!(is_meant, "{digits} in {country:?} is read as {read:?}");
            }
        }
    }

    /// An example of every kind of number in a country.
    fn examples(region: rlibphonenumber::Region) -> Vec<(rlibphonenumber::PhoneNumber, E164)> {
        let kinds = [
            PhoneNumberType::FixedLine,
            PhoneNumberType::Mobile,
            PhoneNumberType::TollFree,
            PhoneNumberType::PremiumRate,
            PhoneNumberType::SharedCost,
            PhoneNumberType::VoIP,
            PhoneNumberType::PersonalNumber,
            PhoneNumberType::Pager,
            PhoneNumberType::UAN,
            PhoneNumberType::VoiceMail,
        ];
        let example = |kind| {
            let example = PHONE_NUMBER_UTIL
                .get_example_number_for_type_and_region(region, kind)
                .ok()?;
            let number = plan::from_library(&example)?;
            Some((example, number))
        };
        kinds.into_iter().filter_map(example).collect()
    }

    /// Some rules of every kind.
    fn any_rules() -> impl Strategy<Value = NumberRules> {
        let country = prop::sample::select(vec![
            "", "BR", "US", "DE", "IT", "AR", "JP", "RU", "KR", "CV",
        ]);
        let prefix =
            prop::sample::select(vec![None, Some("00"), Some("011"), Some("8~10"), Some("")]);
        (country, prefix).prop_map(|(country, prefix)| rules(country, prefix))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn any_text_is_read_without_panic(rules in any_rules(), text in any::<String>(), user in ".{0,40}") {
            let _ = read(&rules, &text);
            let _ = read(&rules, format!("\"{text}\" <sip:{user}@gw>"));
        }

        #[test]
        fn any_bytes_are_read_without_panic(rules in any_rules(), text in any::<Vec<u8>>()) {
            let _ = read(&rules, &text);
        }

        #[test]
        fn text_made_of_telephony_is_read_to_possible_numbers(
            rules in any_rules(),
            text in "(sip:|tel:|<|\"|)[-+0-9(). %;=@a-e<>\"~*#]{0,40}(;phone-context=\\+?[0-9a-z]{1,5}|;ext=1|@gw|)",
        ) {
            if let Caller::Number(number) = read(&rules, &text) {
                prop_assert!(number.is_possible());
                prop_assert_eq!(read(&rules, number.to_string()), Caller::Number(number));
            }
        }

        #[test]
        fn what_was_read_is_read_as_itself(
            rules in any_rules(),
            digits in "(\\+|00|011|0|)(1|39|44|49|54|55|7|81|86|370|375|)(0|00|15|1115|180020|90|)[0-9]{4,13}",
        ) {
            if let Caller::Number(number) = read(&rules, &digits) {
                prop_assert!(number.is_possible());
                prop_assert_eq!(read(&rules, number.to_string()), Caller::Number(number));
            }
        }

        #[test]
        fn wrapping_and_separators_do_not_matter(
            rules in any_rules(),
            digits in "(\\+|00|011|0|)[1-9][0-9]{6,14}",
            separators in prop::collection::vec(prop::sample::select(vec!["", " ", "-", ".", "(", ")"]), 20),
        ) {
            let expected = read(&rules, &digits);
            let mut grouped = String::new();
            for (digit, separator) in digits.chars().zip(&separators) {
                grouped.extend([digit.to_string(), (*separator).to_owned()]);
            }
            // A lone point may be that of a fraction, and so may the last one before one digit.
            let behind = grouped.rsplit_once('.').map(|(_, behind)| behind);
            let is_short = behind.is_some_and(|behind| behind.matches(char::is_numeric).count() < 2);
            if is_short || grouped.matches('.').count() == 1 {
                grouped = grouped.replace('.', "-");
            }
            // A zero in brackets may be one that is not dialed.
            let grouped = grouped.replace("(0)", "0");
            prop_assert_eq!(read(&rules, &grouped), expected);
            for wrapped in [
                format!("tel:{digits}"),
                format!("sip:{digits}@gw"),
                format!("sips:{}@gw;user=phone", digits.replace('+', "%2B")),
                format!("\"Anonymous\" <sip:{digits}@gw;user=phone>;tag=1"),
            ] {
                let read = read(&rules, &wrapped);
                let same = read == expected || (expected == Caller::Invalid && read == Caller::Anonymous);
                prop_assert!(same, "{} read as {:?}", wrapped, read);
            }
        }
    }
}
