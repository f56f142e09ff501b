//! The digits of a number as it was written, and what about them matters to whoever reads them by country.

use super::text::{MAX_EXTENSION_DIGITS, Unescaped, is_invisible};
use crate::lex;

/// The digits of a number as it was written, in a buffer of fixed size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digits {
    /// ASCII digits: those of the number, those of its context, then zeros.
    digits: [u8; Self::CAPACITY],
    /// How many digits the number has.
    length: u8,
    /// How many digits the context has.
    context: u8,
    /// Whether a plus came first.
    plus: bool,
    /// The index of a zero that stood in brackets behind other digits; none is 0.
    bracketed_zero: u8,
    /// Whether a mark behind the number may hide another digit.
    may_go_on: bool,
}

impl Digits {
    /// The most digits that are read, those of the context among them: an international prefix, a carrier code, a
    /// trunk prefix and 15.
    pub const CAPACITY: usize = 32;

    /// The digits, in ASCII; at least one.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        lex::head(&self.digits, usize::from(self.length))
    }

    /// Whether a plus came first.
    #[must_use]
    pub const fn has_plus(&self) -> bool {
        self.plus
    }

    /// The digits that go before a local number to make it a global one (`phone-context=+55`, RFC 3966 §5.1.5), in
    /// ASCII; empty if none are told.
    #[must_use]
    pub fn context(&self) -> &[u8] {
        let start = usize::from(self.length);
        lex::cut(&self.digits, start..start + usize::from(self.context))
    }

    /// The index of a zero that stood in brackets behind other digits, as in `+44 (0)20`: whether it is dialed is a
    /// matter of the country.
    #[must_use]
    pub fn bracketed_zero(&self) -> Option<usize> {
        (self.bracketed_zero > 0).then_some(usize::from(self.bracketed_zero))
    }

    /// Whether a mark behind the number, as in `555012x`, may hide another digit.
    #[must_use]
    pub const fn may_go_on(&self) -> bool {
        self.may_go_on
    }

    /// Reads a plus and 7 to 15 digits, as E.164 writes a number; `None` if it is anything else.
    pub(super) fn plain(text: &[u8]) -> Option<Self> {
        let [b'+', digits @ ..] = text else {
            return None;
        };
        if !(7..=15).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let mut read = Self {
            plus: true,
            length: digits.len() as u8,
            ..Self::NONE
        };
        read.digits[..digits.len()].copy_from_slice(digits);
        Some(read)
    }

    /// Reads a number and what is dialed after it; `None` if it is no number.
    pub(super) fn read(name: &[u8]) -> Option<Self> {
        let (number, may_go_on) = without_post_dial(name)?;
        let mut read = Self::read_digits(without_fraction(number)?)?;
        read.may_go_on = may_go_on;
        Some(read)
    }

    /// These local digits within a context, which is escaped: a domain says nothing about digits. `None` if it is
    /// broken, or they are too many together.
    pub(super) fn within(mut self, context: &[u8]) -> Option<Self> {
        if context.is_empty() {
            return Some(self);
        }
        let context = Unescaped::decode(context)?;
        if !context.as_bytes().starts_with(b"+") {
            return Some(self);
        }
        let context = Self::read_digits(context.as_bytes())?;
        let start = usize::from(self.length);
        self.digits
            .get_mut(start..start + usize::from(context.length))?
            .copy_from_slice(context.as_bytes());
        self.context = context.length;
        Some(self)
    }

    /// No digits, for readers to fill.
    const NONE: Self = Self {
        digits: [0; Self::CAPACITY],
        length: 0,
        context: 0,
        plus: false,
        bracketed_zero: 0,
        may_go_on: false,
    };

    /// Reads digits, a plus before them, and visual separators anywhere; `None` if there is anything
    /// else, no digit, or more digits than any dialed number has.
    fn read_digits(text: &[u8]) -> Option<Self> {
        let mut read = Self::NONE;
        if has_other_ending(text) {
            return None;
        }
        if let Some(bracket) = text.windows(3).position(|three| three == b"(0)") {
            let before = std::str::from_utf8(&text[..bracket]).ok()?;
            let digits = before
                .chars()
                .filter(|letter| digit_value(*letter).is_some());
            read.bracketed_zero = u8::try_from(digits.count()).ok()?;
        }
        if text.is_ascii() {
            for byte in text {
                match byte {
                    b'0'..=b'9' => read.push(byte - b'0')?,
                    b'+' => read.push_plus()?,
                    b' ' | b'\t' | b'-' | b'.' | b'(' | b')' | b'/' | b'[' | b']' | b'~' => {}
                    _ => return None,
                }
            }
        } else {
            for letter in std::str::from_utf8(text).ok()?.chars() {
                if let Some(digit) = digit_value(letter) {
                    read.push(digit)?;
                } else if matches!(letter, '+' | '\u{FF0B}') {
                    read.push_plus()?;
                } else if !is_separator(letter) {
                    return None;
                }
            }
        }
        (read.length > 0).then_some(read)
    }

    /// Adds a digit, if there is room.
    fn push(&mut self, digit: u8) -> Option<()> {
        *self.digits.get_mut(usize::from(self.length))? = b'0' + digit;
        self.length += 1;
        Some(())
    }

    /// Notes the plus, if it is the first and nothing precedes it.
    fn push_plus(&mut self) -> Option<()> {
        let first = self.length == 0 && !self.plus;
        self.plus = true;
        first.then_some(())
    }
}

impl std::fmt::Debug for Digits {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |digits| std::str::from_utf8(digits).unwrap_or_default();
        let plus = if self.plus { "+" } else { "" };
        write!(formatter, "{plus}{}", text(self.as_bytes()))?;
        match self.context() {
            [] => Ok(()),
            context => write!(formatter, " within +{}", text(context)),
        }
    }
}

/// The number without what is dialed after it, and whether a mark of an extension may stand for a digit instead;
/// `None` if something else stands there.
///
/// After a comma anything may follow that a telephone can dial, or nothing; `w` and `p` need a digit, because
/// letters also stand for digits (`1800POOL`). Behind a word for an extension, or `#`, its digits may be missing, as
/// where a form joins two fields; but an `x` that closes up with a digit may hide another one (`555012x`).
fn without_post_dial(name: &[u8]) -> Option<(&[u8], bool)> {
    let is_mark = |byte: &u8| {
        matches!(byte, b',' | b'#') || byte.is_ascii_alphabetic() || CYRILLIC.contains(byte)
    };
    let Some(mark) = name.iter().position(is_mark) else {
        return Some((name, false));
    };
    let (number, rest) = name.split_at(mark);
    if !number.iter().any(u8::is_ascii_digit) {
        return Some((name, false));
    }
    let is_dialed = |byte: &u8| {
        byte.is_ascii_digit()
            || matches!(
                byte.to_ascii_lowercase(),
                b'*' | b'#' | b',' | b'w' | b'p' | b' ' | b'-'
            )
    };
    let has_digit = rest.iter().any(u8::is_ascii_digit);
    let (word, extension) = EXTENSION_WORDS
        .iter()
        .find_map(|word| {
            let (start, rest) = rest.split_at_checked(word.len())?;
            start
                .eq_ignore_ascii_case(word.as_bytes())
                .then_some((*word, rest))
        })
        .unwrap_or_default();
    let is_extension = |byte: &u8| byte.is_ascii_digit() || b" .:=-#)]".contains(byte);
    let fits = match rest.first()? {
        b',' => rest.iter().all(is_dialed),
        // More digits are a number behind the code of an account or a service.
        b'#' => {
            let digits = rest[1..].trim_ascii();
            digits.len() <= MAX_EXTENSION_DIGITS && digits.iter().all(u8::is_ascii_digit)
        }
        b'w' | b'W' | b'p' | b'P' if word.is_empty() => has_digit && rest.iter().all(is_dialed),
        _ => !word.is_empty() && extension.iter().all(is_extension),
    };
    let closes_up = number.last().is_some_and(u8::is_ascii_digit);
    fits.then_some((number, word == "x" && !has_digit && closes_up))
}

/// The number without a decimal ending of zeros; `None` if it is a fraction.
///
/// A lone point behind seven or more digits that nothing divides is a decimal point. So is the last point before a
/// single 0, a lone one before two zeros, and a lone one behind seven or more digits with one or two behind it.
/// Elsewhere a point divides a number as a space does.
fn without_fraction(number: &[u8]) -> Option<&[u8]> {
    let Some(point) = number.iter().rposition(|byte| *byte == b'.') else {
        return Some(number);
    };
    let (whole, fraction) = (&number[..point], &number[point + 1..]);
    if fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
        return Some(number);
    }
    let is_lone = !whole.contains(&b'.');
    let digits = whole.iter().filter(|byte| byte.is_ascii_digit()).count();
    let plain = whole.strip_prefix(b"+").unwrap_or(whole);
    let is_undivided = is_lone && digits >= 7 && plain.iter().all(u8::is_ascii_digit);
    let is_zero = fraction.iter().all(|byte| *byte == b'0');
    if is_zero && (is_undivided || fraction.len() == 1 || is_lone && fraction.len() == 2) {
        Some(whole)
    } else if is_undivided || is_lone && digits >= 7 && fraction.len() <= 2 {
        None
    } else {
        Some(number)
    }
}

/// Whether a slash stands before another ending of the number, as in `030 123456/57`: these are two numbers.
///
/// A number whose groups are all divided by slashes (`01/23/45/67/89`) is one.
fn has_other_ending(text: &[u8]) -> bool {
    let Some(slash) = text.iter().rposition(|byte| *byte == b'/') else {
        return false;
    };
    let count = |part: &[u8]| part.iter().filter(|byte| byte.is_ascii_digit()).count();
    let (before, after) = (&text[..slash], &text[slash + 1..]);
    let group = before.rsplit(|byte| *byte == b'/').next().map_or(0, count);
    let is_grouped = text
        .iter()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'/'));
    count(before) >= 7 && (1..=3).contains(&count(after)) && !(is_grouped && group <= 4)
}

/// The value of a digit in the scripts in which numbers are commonly pasted: ASCII, full width,
/// Arabic-Indic and its eastern form.
fn digit_value(letter: char) -> Option<u8> {
    let zero = match letter {
        '0'..='9' => '0',
        '\u{FF10}'..='\u{FF19}' => '\u{FF10}',
        '\u{0660}'..='\u{0669}' => '\u{0660}',
        '\u{06F0}'..='\u{06F9}' => '\u{06F0}',
        _ => return None,
    };
    u8::try_from(u32::from(letter) - u32::from(zero)).ok()
}

/// Whether the character only groups digits, or is invisible.
fn is_separator(letter: char) -> bool {
    letter.is_whitespace()
        || is_invisible(letter)
        || matches!(
            letter,
            '-' | '.'
                | '('
                | ')'
                | '/'
                | '['
                | ']'
                | '~'
                | '\u{00B7}'
                | '\u{2010}'..='\u{2015}'
                | '\u{2022}'
                | '\u{2053}'
                | '\u{2212}'
                | '\u{223C}'
                | '\u{30FC}'
                | '\u{FF08}'
                | '\u{FF09}'
                | '\u{FF0D}'..='\u{FF0F}'
                | '\u{FF3B}'
                | '\u{FF3D}'
                | '\u{FF5E}'
        )
}

/// Words for an extension, longer ones before those that they begin with: English, Spanish, Portuguese, French,
/// Italian and Russian.
const EXTENSION_WORDS: [&str; 15] = [
    "extensión",
    "extension",
    "extn",
    "ext",
    "xtn",
    "xt",
    "x",
    "anexo",
    "interno",
    "int",
    "poste",
    "ramal",
    "доб",
    "Доб",
    "ДОБ",
];

/// The first bytes of Cyrillic letters in UTF-8.
const CYRILLIC: [u8; 2] = [0xD0, 0xD1];
