//! What numbers are wrapped in: name-addrs (RFC 3261 §20.10), `sip:`, `sips:` and `tel:` URIs
//! (RFC 3261 §19.1, RFC 3966), escapes and visual separators.
//!
//! Everything here borrows from the text or works in buffers of fixed size.

/// What is left of a value when its wrapping is taken off.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unwrapped<'a> {
    /// The user part of a URI, or the bare text: a number with parameters, maybe.
    User(&'a [u8]),
    /// Nobody: no user part, or the host that stands for anonymity.
    Anonymous,
    /// Brackets or quotes that are not closed.
    Broken,
}

/// Takes the wrapping off a name-addr, a URI or bare text; also gives the display name.
pub(super) fn unwrap(value: &[u8]) -> (Unwrapped<'_>, &[u8]) {
    let value = trim(value);
    let (display_name, rest) = match value {
        [b'"', quoted @ ..] => match split_quoted(quoted) {
            // Quotes with nothing behind them are a quoted value, as in CSV.
            Some((inner, b"")) => return (unwrap_address(inner.trim_ascii()), b""),
            Some((inner, rest @ [b'<', ..])) => (inner, rest),
            _ => return (Unwrapped::Broken, b""),
        },
        _ => match position(value, b"<") {
            Some(bracket) => value.split_at(bracket),
            None => return (unwrap_address(value), b""),
        },
    };
    let address = &rest[1..];
    match position(address, b">") {
        Some(end) => (unwrap_address(address[..end].trim_ascii()), display_name),
        None => (Unwrapped::Broken, display_name),
    }
}

/// Whether the host is the one that stands for anonymity (RFC 3323 §4.1.1.3), whoever the user is.
pub(super) fn is_anonymous_host(host: &[u8]) -> bool {
    match host.get(..ANONYMOUS_HOST.len()) {
        Some(name) if name.eq_ignore_ascii_case(ANONYMOUS_HOST) => {
            let rest = &host[ANONYMOUS_HOST.len()..];
            let rest = rest.strip_prefix(b".").unwrap_or(rest);
            rest.first().is_none_or(|byte| b":;?>, \t".contains(byte))
        }
        _ => false,
    }
}

/// Whether the word stands for a caller who withholds the number; case, spaces and punctuation do
/// not matter.
pub(super) fn is_withheld(word: &[u8]) -> bool {
    let mut letters = [0; LONGEST_WITHHELD];
    let mut length = 0;
    for byte in word {
        if byte.is_ascii_alphanumeric() {
            let Some(letter) = letters.get_mut(length) else {
                return false;
            };
            *letter = byte.to_ascii_lowercase();
            length += 1;
        } else if !matches!(
            byte,
            b' ' | b'\t' | b'-' | b'_' | b'.' | b'"' | b'\'' | b'(' | b')'
        ) {
            return false;
        }
    }
    WITHHELD
        .iter()
        .any(|known| known.as_bytes() == &letters[..length])
}

/// Whether a gateway spells one of the words of [`is_withheld`] by these digits.
pub(super) fn is_spelled_on_keypad(digits: &[u8]) -> bool {
    std::str::from_utf8(digits).is_ok_and(|digits| {
        digits
            .parse()
            .is_ok_and(|digits: u64| KEYPAD_WORDS.contains(&digits))
    })
}

/// The value without what a spreadsheet puts around a number so that it stays text: an apostrophe before
/// it, or `="` and `"` around it.
pub(super) fn without_spreadsheet(value: &[u8]) -> &[u8] {
    let value = trim(value);
    if let [b'=', b'"', inner @ .., b'"'] = value {
        return inner;
    }
    let apostrophe = APOSTROPHES
        .iter()
        .find_map(|apostrophe| value.strip_prefix(apostrophe.as_bytes()));
    match apostrophe {
        Some(rest) if !rest.is_empty() => rest,
        _ => value,
    }
}

/// The number without what is dialed after it, and whether a mark of an extension may stand for a digit instead;
/// `None` if something else stands there.
///
/// After a comma anything may follow that a telephone can dial, or nothing; `w` and `p` need a digit, because
/// letters also stand for digits (`1800POOL`). Behind a word for an extension, or `#`, its digits may be missing, as
/// where a form joins two fields; but an `x` that closes up with a digit may hide another one (`555012x`).
pub(super) fn without_post_dial(name: &[u8]) -> Option<(&[u8], bool)> {
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
pub(super) fn without_fraction(number: &[u8]) -> Option<&[u8]> {
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

/// A user part without its password, cut at the first `;` into what names the user and parameters.
///
/// A colon behind a number and a word is that of an extension (`ext: 7`).
pub(super) fn split_user(user: &[u8]) -> (&[u8], &[u8]) {
    let is_of_extension = |before: &[u8]| {
        let word = before.trim_ascii_end();
        let word = word.strip_suffix(b".").unwrap_or(word);
        let ends_in_letter = |byte: &u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
        word.last().is_some_and(ends_in_letter) && word.iter().any(u8::is_ascii_digit)
    };
    let user = match position(user, b":") {
        Some(colon) if !is_of_extension(&user[..colon]) => &user[..colon],
        _ => user,
    };
    match position(user, b";") {
        Some(semicolon) => (&user[..semicolon], &user[semicolon + 1..]),
        None => (user, b""),
    }
}

/// Whether another number stands where parameters do, as in a list of numbers.
pub(super) fn is_list(parameters: &[u8]) -> bool {
    parameters.split(|byte| *byte == b';').any(|parameter| {
        let digits = parameter
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .count();
        let is_named = position(parameter, b"=").is_some()
            || parameter
                .trim_ascii()
                .first()
                .is_some_and(u8::is_ascii_alphabetic);
        !is_named && digits > MAX_EXTENSION_DIGITS
    })
}

/// The value of the first parameter of this name.
pub(super) fn parameter<'a>(parameters: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    parameters
        .split(|byte| *byte == b';')
        .find_map(|parameter| {
            let equals = position(parameter, b"=").unwrap_or(parameter.len());
            let (key, value) = parameter.split_at(equals);
            key.trim_ascii()
                .eq_ignore_ascii_case(name)
                .then(|| value.strip_prefix(b"=").unwrap_or(value).trim_ascii())
        })
}

/// A text whose escapes have been decoded, in a buffer of fixed size.
pub(super) struct Unescaped {
    /// The decoded bytes, then zeros.
    bytes: [u8; MAX_USER_BYTES],
    /// How many bytes count.
    length: usize,
}

impl Unescaped {
    /// Decodes `%` and two hexadecimal digits; `None` if an escape is broken or the text too long.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let mut decoded = Self {
            bytes: [0; MAX_USER_BYTES],
            length: 0,
        };
        let mut rest = text;
        while let [first, tail @ ..] = rest {
            let (byte, tail) = match (first, tail) {
                (b'%', [high, low, tail @ ..]) => (hex(*high)? << 4 | hex(*low)?, tail),
                (b'%', _) => return None,
                _ => (*first, tail),
            };
            *decoded.bytes.get_mut(decoded.length)? = byte;
            decoded.length += 1;
            rest = tail;
        }
        Some(decoded)
    }

    /// The decoded bytes without spaces and quotes around them.
    pub(super) fn as_bytes(&self) -> &[u8] {
        let text = self.bytes[..self.length].trim_ascii();
        match text {
            [b'"', inner @ .., b'"'] => inner.trim_ascii(),
            _ => text,
        }
    }
}

/// The digits of a number, in a buffer of fixed size.
#[derive(Clone, Copy)]
pub(super) struct Digits {
    /// ASCII digits, then zeros.
    digits: [u8; MAX_DIGITS],
    /// How many digits there are.
    length: u8,
    /// Whether a plus came first.
    pub(super) plus: bool,
    /// The place of a zero that stood in brackets behind other digits, as in `+44 (0)20`; none is 0.
    bracketed_zero: u8,
}

impl Digits {
    /// Reads digits, a plus before them, and visual separators anywhere; `None` if there is anything
    /// else, no digit, or more digits than any dialed number has.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut read = Self {
            digits: [0; MAX_DIGITS],
            length: 0,
            plus: false,
            bracketed_zero: 0,
        };
        if has_other_ending(text) {
            return None;
        }
        if let Some(bracket) = text.windows(3).position(|three| three == b"(0)") {
            let before = String::from_utf8_lossy(&text[..bracket]);
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

    /// The digits, in ASCII.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digits[..usize::from(self.length)]
    }

    /// The same without the zero in brackets, which is not dialed from abroad; `None` if there is none.
    pub(super) fn without_bracketed_zero(mut self) -> Option<Self> {
        let place = usize::from(self.bracketed_zero);
        if place == 0 {
            return None;
        }
        self.digits.copy_within(place + 1.., place);
        self.length -= 1;
        self.bracketed_zero = 0;
        Some(self)
    }

    /// These digits, then others; `None` if they are too many together.
    pub(super) fn followed_by(mut self, others: &[u8]) -> Option<Self> {
        for digit in others {
            self.push(digit - b'0')?;
        }
        Some(self)
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

/// Takes the wrapping off a URI or bare text.
fn unwrap_address(address: &[u8]) -> Unwrapped<'_> {
    if let Some(rest) = strip_scheme(address, b"sip:").or_else(|| strip_scheme(address, b"sips:")) {
        unwrap_sip(rest)
    } else if let Some(rest) = NUMBER_SCHEMES
        .iter()
        .find_map(|scheme| strip_scheme(address, scheme.as_bytes()))
    {
        Unwrapped::User(rest.strip_prefix(b"//").unwrap_or(rest))
    } else if position(address, b"@").is_some() {
        unwrap_sip(address)
    } else if is_anonymous_host(address) {
        Unwrapped::Anonymous
    } else {
        Unwrapped::User(address)
    }
}

/// Takes the host off a SIP URI without its scheme.
fn unwrap_sip(address: &[u8]) -> Unwrapped<'_> {
    // An `@` within the user part is escaped, so that the first one ends it.
    if let Some(at) = position(address, b"@") {
        if is_anonymous_host(&address[at + 1..]) {
            return Unwrapped::Anonymous;
        }
        return Unwrapped::User(&address[..at]);
    }
    // Without a user part there is only a host. Some write the number alone: no host starts with a
    // plus or consists of digits.
    let end = address
        .iter()
        .position(|byte| b";?".contains(byte))
        .unwrap_or(address.len());
    let host = &address[..end];
    let is_number = match host {
        [b'+', ..] => true,
        [] => false,
        _ => host.iter().all(u8::is_ascii_digit),
    };
    if is_number {
        Unwrapped::User(host)
    } else {
        Unwrapped::Anonymous
    }
}

/// The text without white space and invisible characters around it.
fn trim(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(letters) if !text.is_ascii() => letters
            .trim_matches(|letter: char| letter.is_whitespace() || is_invisible(letter))
            .as_bytes(),
        _ => text.trim_ascii(),
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

/// What stands behind the scheme, which is of either case.
fn strip_scheme<'a>(uri: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = uri.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// What stands before the closing quote, and behind it without spaces.
fn split_quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    for (place, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&text[..place], text[place + 1..].trim_ascii())),
            _ => {}
        }
    }
    None
}

/// Where the byte is first found.
fn position(text: &[u8], byte: &[u8; 1]) -> Option<usize> {
    text.iter().position(|other| *other == byte[0])
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
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

/// Whether the character has no width: soft hyphens, joiners, marks of direction, byte order marks.
const fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}'
    )
}

/// What spreadsheets and typewriters put before a number so that it stays text.
const APOSTROPHES: [&str; 4] = ["'", "\u{2018}", "\u{2019}", "\u{02BC}"];

/// Schemes with nothing but a number behind them: RFC 3966, RFC 2806, RFC 5724, and what programs link to or prefix.
const NUMBER_SCHEMES: [&str; 5] = ["tel:", "callto:", "fax:", "sms:", "whatsapp:"];

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

/// The most digits of an extension that only `#` or `;` divides from its number.
const MAX_EXTENSION_DIGITS: usize = 6;

/// The host that stands for anonymity.
const ANONYMOUS_HOST: &[u8] = b"anonymous.invalid";

/// Such words as gateways spell them on a keypad, and send as numbers: ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and
/// UNAVAILABLE.
pub(super) const KEYPAD_WORDS: [u64; 5] = [
    266_696_687,
    7_378_742_833,
    2_562_533,
    8_656_696,
    86_282_452_253,
];

/// Words that stand for a caller who withholds the number, or whose number the network withholds,
/// as PBXs and carriers write them; lower case, without spaces and punctuation.
const WITHHELD: [&str; 26] = [
    "anonymous",
    "anonymouscaller",
    "anonymousinvalid",
    "blocked",
    "blockednumber",
    "calleridblocked",
    "hidden",
    "hiddennumber",
    "idunavailable",
    "nocallerid",
    "nonumber",
    "notavailable",
    "numberunavailable",
    "numberwithheld",
    "outofarea",
    "private",
    "privatecaller",
    "privatenumber",
    "restricted",
    "suppressed",
    "unavailable",
    "unknown",
    "unknowncaller",
    "unknownnumber",
    "withheld",
    "withheldnumber",
];

/// The longest of these words.
const LONGEST_WITHHELD: usize = 17;

/// The longest user part that is read.
pub(super) const MAX_USER_BYTES: usize = 256;

/// The most digits that are read: an international prefix, a carrier code, a trunk prefix and 15.
const MAX_DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withheld_words_fit_the_buffer() {
        let longest = WITHHELD.iter().map(|word| word.len()).max();
        assert_eq!(longest, Some(LONGEST_WITHHELD));
    }

    #[test]
    fn wrapping_is_taken_off() {
        for (value, user) in [
            ("+55", "+55"),
            ("  +55\t", "+55"),
            ("\"+55\"", "+55"),
            ("sip:a@b", "a"),
            ("SIPS:a@b:5061;transport=tcp?x=y@z", "a"),
            ("sip:a;b=c:secret@d", "a;b=c:secret"),
            ("sip:a?b=c@d", "a?b=c"),
            ("sip:+55", "+55"),
            ("sip:5511;user=phone", "5511"),
            ("TEL:+55;x=y", "+55;x=y"),
            ("a@b", "a"),
            ("<sip:a@b>;tag=1", "a"),
            ("Bob <sip:a@b>", "a"),
            ("\"<\\\"> \" <sip:a@b>;tag=1", "a"),
            ("\"x\"<tel:+55;y=z>", "+55;y=z"),
            ("urn:service:sos", "urn:service:sos"),
        ] {
            assert_eq!(
                unwrap(value.as_bytes()).0,
                Unwrapped::User(user.as_bytes()),
                "{value}"
            );
        }
        for value in [
            "sip:gw.example.com",
            "sip:192.0.2.1:5060",
            "sip:",
            "<sip:gw;lr>",
            "sip:a@ANONYMOUS.invalid",
        ] {
            assert_eq!(unwrap(value.as_bytes()).0, Unwrapped::Anonymous, "{value}");
        }
        for value in ["<sip:a@b", "\"a <sip:a@b>", "\"a\" sip:a@b", "\"a\\\""] {
            assert_eq!(unwrap(value.as_bytes()).0, Unwrapped::Broken, "{value}");
        }
    }

    #[test]
    fn anonymous_host_is_the_whole_host() {
        for host in [
            "anonymous.invalid",
            "Anonymous.Invalid.",
            "anonymous.invalid:5060",
            "anonymous.invalid;x",
        ] {
            assert!(is_anonymous_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "anonymous",
            "anonymous.invalid.example.com",
            "anonymous.invalids",
            "x.anonymous.invalid",
        ] {
            assert!(!is_anonymous_host(host.as_bytes()), "{host}");
        }
    }
}
