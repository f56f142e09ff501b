//! Numbering plans: which lengths are possible behind each calling code.
//!
//! The plans are read from the library once. After that a number in full takes two table look-ups; [`read`] asks
//! the library only about numbers that its rules could change or refuse.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber};

use super::E164;

/// Reads the digits after a `+`, and removes a trunk prefix among them; `None` if not readable.
///
/// Takes a few nanoseconds for a number as E.164 writes it; for others the library is asked.
pub(super) fn read(digits: &[u8]) -> Option<E164> {
    if let Some(number) = read_plain(digits) {
        return Some(number);
    }
    let mexican = digits.strip_prefix(b"52").and_then(read_former_mexican);
    mexican.or_else(|| {
        // With more digits than this, no trunk prefix or carrier code can explain the rest.
        let assigned = digits.len() <= MAX_DIGITS && PLANS.of(lead(digits)?).is_some();
        if !assigned {
            return None;
        }
        let number = read_by_library(digits)?;
        if E164::from_ascii_digits(digits) == Some(number) {
            Some(number)
        } else {
            settle(number)
        }
    })
}

/// Reads the digits after a `+`, if the library would not change them.
pub(super) fn read_plain(digits: &[u8]) -> Option<E164> {
    let number = E164::from_ascii_digits(digits)?;
    // The library's plan of Mexico no longer has the 1 of mobile telephones, but people and carriers still dial
    // it.
    if digits.len() == 13 && digits.starts_with(b"521") {
        return Some(number);
    }
    let plan = PLANS.of(lead(digits)?)?;
    if plan.lengths & 1 << digits.len() == 0 {
        return None;
    }
    // Seven digits less a calling code of at most three leave four or more, so two digits exist.
    let national = &digits[usize::from(plan.code_length)..];
    let national_lead = usize::from(national[0] - b'0') * 10 + usize::from(national[1] - b'0');
    (plan.altered >> national_lead & 1 == 0).then_some(number)
}

/// Reads a Mexican number behind a prefix that was dialed within the country until 2019: `01` and `02` before
/// other areas, `044` and `045` before mobile telephones. No current number starts with 0.
pub(super) fn read_former_mexican(digits: &[u8]) -> Option<E164> {
    let prefixes: [&[u8]; 4] = [b"01", b"02", b"044", b"045"];
    let ten = prefixes
        .iter()
        .find_map(|prefix| digits.strip_prefix(*prefix).filter(|rest| rest.len() == 10))?;
    let mut full = *b"520000000000";
    full[2..].copy_from_slice(ten);
    (ten[0] != b'0').then(|| read_plain(&full)).flatten()
}

/// The number that reads back as itself: a client that sends back what we print must get the same number.
///
/// The library cuts one trunk prefix at a time, so that a second one is left of `+49 00 30 123456`.
pub(super) fn settle(mut number: E164) -> Option<E164> {
    for _ in 0..MAX_ALTERATIONS {
        let text = number.to_string();
        let digits = &text.as_bytes()[1..];
        let again = read_plain(digits).or_else(|| read_by_library(digits))?;
        if again == number {
            return Some(number);
        }
        number = again;
    }
    None
}

/// Whether the length is possible for the calling code.
pub(super) fn is_possible(number: E164) -> bool {
    let number = number.subscriber();
    let Some((plan, length)) = split(number) else {
        return false;
    };
    // The library counts no more than ten leading zeros in a national number.
    let others = (length - u32::from(plan.code_length)).saturating_sub(MAX_LEADING_ZEROS);
    let past_zeros = number.digits() % 10_u64.pow(length - u32::from(plan.code_length));
    plan.lengths & 1 << length != 0 && (others == 0 || past_zeros >= 10_u64.pow(others - 1))
}

/// The number in the library's type; `None` if its calling code is not assigned.
pub(super) fn to_library(number: E164) -> Option<PhoneNumber> {
    let (plan, length) = split(number)?;
    let national_length = length - u32::from(plan.code_length);
    let national_number = number.digits() % 10_u64.pow(national_length);
    let leading_zeros = national_length - count_digits(national_number);
    Some(PhoneNumber {
        country_code: i32::from(plan.code),
        national_number,
        italian_leading_zero: (leading_zeros > 0).then_some(true),
        number_of_leading_zeros: (leading_zeros > 1).then_some(leading_zeros.cast_signed()),
        ..PhoneNumber::default()
    })
}

/// The number that the library read; `None` if it is not E.164, not possible, possible only within its area, or
/// has an extension.
pub(super) fn from_library(number: &PhoneNumber) -> Option<E164> {
    if PHONE_NUMBER_UTIL.is_possible_number_with_reason(number) != Ok(NumberLengthType::IsPossible)
        || number.extension.is_some()
    {
        return None;
    }
    let leading_zeros = if number.italian_leading_zero() {
        u32::try_from(number.number_of_leading_zeros()).ok()?
    } else {
        0
    };
    let national_length = leading_zeros.checked_add(count_digits(number.national_number))?;
    10_u64
        .checked_pow(national_length)
        .and_then(|scale| scale.checked_mul(u64::try_from(number.country_code).ok()?))
        .and_then(|code| code.checked_add(number.national_number))
        .and_then(E164::from_digits)
}

/// Builds the tables now, so that no call waits for it.
pub(super) fn load() {
    LazyLock::force(&PLANS);
    BUILT.store(true, Ordering::Release);
}

/// Whether [`load`] has built the tables.
pub(super) fn is_loaded() -> bool {
    BUILT.load(Ordering::Acquire)
}

/// The numbering plan behind one calling code.
#[derive(Clone, Copy)]
struct Plan {
    /// The calling code.
    code: u16,
    /// How many digits it has.
    code_length: u8,
    /// Bit n is set if numbers of n digits, calling code included, are possible.
    lengths: u16,
    /// Bit n is set if the library might change national numbers that start with the two digits of n, because
    /// they could be a trunk prefix or a carrier code.
    altered: u128,
}

/// The plans of all calling codes.
struct Plans {
    /// Index in `plans`, by the first three digits of a number.
    by_lead: [u16; 1000],
    /// The first is an empty plan, for calling codes that are not assigned.
    plans: Vec<Plan>,
}

impl Plans {
    /// Reads every plan from the library.
    fn from_library() -> Self {
        let mut built = Self {
            by_lead: [0; 1000],
            plans: vec![Plan::of(0)],
        };
        for code in PHONE_NUMBER_UTIL.get_supported_calling_codes() {
            let Some(code) = u16::try_from(code)
                .ok()
                .filter(|code| (1..1000).contains(code))
            else {
                continue;
            };
            let plan = Plan::of(code);
            let width = 10_usize.pow(3 - u32::from(plan.code_length));
            let index = u16::try_from(built.plans.len()).unwrap_or_default();
            built.by_lead[usize::from(code) * width..][..width].fill(index);
            built.plans.push(plan);
        }
        built
    }

    /// The plan of the numbers that start with these three digits.
    fn of(&self, lead: usize) -> Option<&Plan> {
        match self.by_lead[lead] {
            0 => None,
            index => self.plans.get(usize::from(index)),
        }
    }
}

impl Plan {
    /// Reads the plan of one calling code from the library.
    fn of(code: u16) -> Self {
        let code_length = count_digits(u64::from(code));
        let possible = |national_length: u32| {
            // Only the length counts, so any digits will do.
            let number = PhoneNumber {
                country_code: i32::from(code),
                national_number: 10_u64.pow(national_length - 1),
                ..PhoneNumber::default()
            };
            PHONE_NUMBER_UTIL.is_possible_number_with_reason(&number)
                == Ok(NumberLengthType::IsPossible)
        };
        // Two leading zeros may be the start of more zeros than the library counts.
        let mut plan = Self {
            code,
            code_length: code_length as u8,
            lengths: 0,
            altered: 1,
        };
        for total in 7..=15_u32 {
            plan.lengths |= u16::from(possible(total - code_length)) << total;
        }
        // The library cuts a trunk prefix 0 only from a possible number, and only if a possible number is left.
        let lengths = (7..=15_u32).map(|total| total - code_length);
        let mut cut = lengths.map(|length| possible(length) && possible(length - 1));
        if cut.any(|cut| cut) && !WITHOUT_TRUNK_PREFIX.contains(&code) {
            plan.mark_altered((0, 9));
        }
        for &(altered_code, first, last) in ALTERED {
            if altered_code == code {
                plan.mark_altered((first, last));
            }
        }
        plan
    }

    /// Marks the national numbers that start with these pairs of digits, from the first to the last.
    fn mark_altered(&mut self, (first, last): (u32, u32)) {
        for lead in first..=last {
            self.altered |= 1 << lead;
        }
    }
}

/// Every plan, built on first use.
static PLANS: LazyLock<Plans> = LazyLock::new(Plans::from_library);

/// Whether the plans were built ahead of their first use.
static BUILT: AtomicBool = AtomicBool::new(false);

/// Reads the digits after a `+` with the library.
fn read_by_library(digits: &[u8]) -> Option<E164> {
    let mut text = String::with_capacity(1 + digits.len());
    text.push('+');
    text.push_str(std::str::from_utf8(digits).ok()?);
    from_library(&PHONE_NUMBER_UTIL.parse(&text, None).ok()?)
}

/// The plan of a number, and its length in digits, calling code included.
fn split(number: E164) -> Option<(&'static Plan, u32)> {
    let length = count_digits(number.digits());
    let lead = number.digits() / 10_u64.pow(length - 3);
    Some((PLANS.of(usize::try_from(lead).ok()?)?, length))
}

/// The first three digits, as a number.
fn lead(digits: &[u8]) -> Option<usize> {
    let leading = digits.get(..3)?;
    Some(
        leading
            .iter()
            .fold(0, |lead, digit| lead * 10 + usize::from(digit - b'0')),
    )
}

/// The length of a number in decimal digits.
const fn count_digits(number: u64) -> u32 {
    match number.checked_ilog10() {
        Some(log) => log + 1,
        None => 1,
    }
}

/// The most leading zeros that the library counts in a national number.
const MAX_LEADING_ZEROS: u32 = 10;

/// How often a number may change until it reads as itself: at most once for each digit that it can lose.
const MAX_ALTERATIONS: usize = 15;

/// The most digits that the library is asked about: 15, a trunk prefix and a carrier code.
const MAX_DIGITS: usize = 22;

/// Calling codes whose numbers keep a leading 0 (Italy). Adding more would only save time.
const WITHOUT_TRUNK_PREFIX: &[u16] = &[39];

/// Calling code, and first and last of the leading pairs of national digits where the library cuts or rewrites
/// more than a trunk prefix 0 (`nationalPrefixForParsing` in its metadata). A pair too many costs time; a missing
/// pair would give one number two readings, so the tests compare with the library.
const ALTERED: &[(u16, u32, u32)] = &[
    (44, 18, 18),  // 18002 0: text relay
    (54, 11, 11),  // 15 behind the area code: mobile, rewritten as 9 before it
    (54, 20, 39),  // likewise
    (55, 90, 90),  // collect calls
    (61, 18, 18),  // 1831 and 1832: caller identification
    (86, 11, 12),  // carriers
    (86, 17, 17),  // carriers
    (241, 0, 9),   // the former 0
    (298, 10, 10), // carriers
    (352, 15, 15), // carriers
    (370, 80, 89), // the former trunk prefix 8
    (375, 0, 9),   // 0 beside 8
    (375, 80, 89), // 80 beside 8
    (378, 80, 99), // numbers without 0549
    (423, 10, 10), // carriers
    (506, 19, 19), // carriers
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The number that the library reads from digits in full.
    fn by_library(digits: &str) -> Option<E164> {
        from_library(&PHONE_NUMBER_UTIL.parse(format!("+{digits}"), None).ok()?)
    }

    /// The number that the library reads, read again until it does not change.
    fn settled_by_library(digits: &str) -> Option<E164> {
        let number = by_library(digits)?;
        let text = number.to_string();
        if &text[1..] == digits {
            Some(number)
        } else {
            settled_by_library(&text[1..])
        }
    }

    /// Whether we read the digits although the library refuses them.
    fn is_former_mexican(digits: &str) -> bool {
        let national = digits.strip_prefix("52").unwrap_or_default().as_bytes();
        national.len() == 11 && national[0] == b'1' || read_former_mexican(national).is_some()
    }

    /// Compares the table with the library for every calling code, length and pair of leading
    /// digits, with several tails.
    fn compare_with_library(tails: &[&str]) {
        let codes: Vec<i32> = PHONE_NUMBER_UTIL.get_supported_calling_codes().collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for first in 0..threads {
                let codes = codes.iter().skip(first).step_by(threads);
                scope.spawn(|| codes.for_each(|code| compare_code_with_library(*code, tails)));
            }
        });
    }

    /// Compares the table with the library for one calling code.
    fn compare_code_with_library(code: i32, tails: &[&str]) {
        for national_lead in 0..100 {
            for tail in tails {
                for length in 7..=15 {
                    let mut digits = format!("{code}{national_lead:02}{tail}");
                    digits.truncate(length);
                    if is_former_mexican(&digits) {
                        continue;
                    }
                    let plain = read_plain(digits.as_bytes());
                    if let Some(number) = plain {
                        assert_eq!(Some(number), by_library(&digits), "+{digits}");
                        assert!(number.is_possible(), "+{digits}");
                    }
                }
            }
        }
    }

    #[test]
    fn table_agrees_with_the_library_for_every_leading_pair() {
        compare_with_library(&["2345678901234", "0000000000000"]);
    }

    #[test]
    #[ignore = "minutes: `./test` runs it when the library or this file has changed"]
    fn table_agrees_with_the_library_for_every_leading_five() {
        let tails: Vec<String> = (0..1000)
            .map(|tail| format!("{tail:03}2345678901"))
            .collect();
        compare_with_library(&tails.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn most_numbers_are_read_without_the_library() {
        for digits in [
            "5511987654321",
            "551134567890",
            "12125550100",
            "442079460000",
            "447911123456",
            "4930123456",
            "4915112345678",
            "390612345678",
            "393471234567",
            "5491123456789",
            "525512345678",
            "33123456789",
            "33612345678",
            "61412345678",
            "61298765432",
            "81312345678",
            "819012345678",
            "79161234567",
            "78121234567",
            "8613812345678",
        ] {
            assert!(read_plain(digits.as_bytes()).is_some(), "{digits}");
        }
    }

    #[test]
    fn what_is_possible_is_a_matter_of_length_and_calling_code() {
        for (digits, possible) in [
            ("5511987654321", true),
            ("55119876543210", false),
            ("5511987", false),
            ("12125550100", true),
            ("1212555010", false),
            ("15550100", false), // seven digits are possible only within an area
            ("390612345678", true),
            ("2101234567", false), // not assigned
            ("9991234567", false),
            ("80012345678", true),
            ("100000000000000", false),
        ] {
            let number = E164::from_ascii_digits(digits.as_bytes()).unwrap();
            assert_eq!(number.is_possible(), possible, "{digits}");
            assert_eq!(
                PHONE_NUMBER_UTIL
                    .parse(format!("+{digits}"), None)
                    .is_ok_and(|parsed| {
                        PHONE_NUMBER_UTIL.is_possible_number_with_reason(&parsed)
                            == Ok(NumberLengthType::IsPossible)
                    }),
                possible,
                "{digits}"
            );
        }
    }

    #[test]
    fn trunk_prefixes_within_full_numbers_are_cut() {
        for (digits, number) in [
            ("49030123456", "+4930123456"),
            ("490030123456", "+4930123456"),
            ("310000000000", "+3100000"),
            ("4402079460000", "+442079460000"),
            ("33 0123456789", "+33123456789"),
            ("54111523456789", "+5491123456789"),
            ("390612345678", "+390612345678"),
            ("39612345678", "+39612345678"),
        ] {
            let digits = digits.replace(' ', "");
            let found = read(digits.as_bytes()).map(|number| number.to_string());
            assert_eq!(found.as_deref(), Some(number), "{digits}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn table_agrees_with_the_library(
            place in any::<proptest::sample::Index>(),
            national in "(0|00|15|1115|180020|90|)[0-9]{3,14}",
        ) {
            let codes: Vec<i32> = PHONE_NUMBER_UTIL.get_supported_calling_codes().collect();
            let digits = format!("{}{national}", codes[place.index(codes.len())]);
            prop_assume!(!is_former_mexican(&digits));
            prop_assert_eq!(read(digits.as_bytes()), settled_by_library(&digits));
        }

        #[test]
        fn table_agrees_with_the_library_on_unassigned_codes(digits in "[0-9]{1,30}") {
            prop_assume!(!is_former_mexican(&digits));
            prop_assert_eq!(read(digits.as_bytes()), settled_by_library(&digits));
            if let Some(number) = E164::from_ascii_digits(digits.as_bytes())
                && let Some(library) = to_library(number)
            {
                prop_assert_eq!(number.is_possible(), from_library(&library) == Some(number));
            }
        }
    }
}
