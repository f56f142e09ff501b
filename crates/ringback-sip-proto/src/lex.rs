//! Characters and the one cursor that reads them: RFC 3261 §25.1.
//!
//! Owns the lexical rules that several grammars share: tokens, linear white space (folds
//! included), quoted strings and percent escapes. Nothing here can panic: every access is checked.

use std::ops::Range;

/// Walks over bytes, never past their end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'m> {
    /// What is walked over.
    bytes: &'m [u8],
    /// Offset of the next byte; at most the length.
    at: usize,
}

impl<'m> Cursor<'m> {
    /// Starts at the first byte.
    pub(crate) fn new(bytes: &'m [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next byte.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next byte, left in place.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Everything not read yet.
    pub(crate) fn rest(&self) -> &'m [u8] {
        tail(self.bytes, self.at)
    }

    /// True once every byte was read.
    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Reads this byte if it is the next one.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    /// Passes over so many bytes.
    pub(crate) fn skip(&mut self, length: usize) {
        self.at = self.bytes.len().min(self.at + length);
    }

    /// Skips linear white space, folds included.
    pub(crate) fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// Reads the longest run of bytes that are in the table, possibly none.
    #[inline]
    pub(crate) fn take_in(&mut self, table: &[bool; 256]) -> &'m [u8] {
        self.take_while(|byte| table[byte as usize])
    }

    /// Reads up to the first byte that satisfies the condition, or to the end; see [`position`].
    #[inline]
    pub(crate) fn take_before(&mut self, stops: impl Fn(Octets) -> u64) -> &'m [u8] {
        let rest = self.rest();
        let length = position(rest, stops).unwrap_or(rest.len());
        self.at += length;
        head(rest, length)
    }

    /// Reads the longest run of bytes that satisfy the condition, possibly none.
    #[inline]
    pub(crate) fn take_while(&mut self, accepts: impl Fn(u8) -> bool) -> &'m [u8] {
        let rest = self.rest();
        let length = rest
            .iter()
            .position(|&byte| !accepts(byte))
            .unwrap_or(rest.len());
        self.at += length;
        head(rest, length)
    }

    /// Reads up to this byte; nothing is read if it is not there.
    pub(crate) fn take_until(&mut self, byte: u8) -> Option<&'m [u8]> {
        let rest = self.rest();
        let length = find(byte, rest)?;
        self.at += length;
        rest.get(..length)
    }

    /// Reads a quoted string, the quotes included; nothing is read if it has no end.
    pub(crate) fn take_quoted(&mut self) -> Option<&'m [u8]> {
        let rest = self.rest();
        let end = quoted_end(rest)?;
        self.at += end;
        rest.get(..end)
    }
}

/// The bytes up to an offset that is not beyond their end. Were it, that would be a mistake of ours, which tests
/// find; nothing that comes in may end the process for it.
#[inline]
pub(crate) fn head(bytes: &[u8], at: usize) -> &[u8] {
    debug_assert!(at <= bytes.len(), "{at} is beyond the end");
    bytes.get(..at).unwrap_or(bytes)
}

/// The bytes from such an offset on.
#[inline]
pub(crate) fn tail(bytes: &[u8], at: usize) -> &[u8] {
    debug_assert!(at <= bytes.len(), "{at} is beyond the end");
    bytes.get(at..).unwrap_or_default()
}

/// The bytes from one such offset to another.
#[inline]
pub(crate) fn cut(bytes: &[u8], range: Range<usize>) -> &[u8] {
    debug_assert!(
        range.start <= range.end && range.end <= bytes.len(),
        "{range:?} is beyond the end"
    );
    bytes.get(range).unwrap_or_default()
}

/// The bytes before such an offset, and those from it on.
#[inline]
pub(crate) fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    debug_assert!(at <= bytes.len(), "{at} is beyond the end");
    bytes.split_at_checked(at).unwrap_or((bytes, &[]))
}

/// Length of the quoted string that these bytes start with, both quotes included.
pub(crate) fn quoted_end(bytes: &[u8]) -> Option<usize> {
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        let skip = memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        at += skip;
        if bytes.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Place of the first such byte.
///
/// Eight bytes at a time and inlined: header lines and URI parts are so short that a call into a
/// vectorized search costs more than the search.
#[inline]
pub(crate) fn find(byte: u8, text: &[u8]) -> Option<usize> {
    let first_of = |chunk: [u8; 8]| {
        let found = Octets::new(chunk).is(byte);
        (found != 0).then(|| found.trailing_zeros() as usize / 8)
    };
    let (chunks, tail) = text.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        if let Some(at) = first_of(*chunk) {
            return Some(index * 8 + at);
        }
    }
    match text.last_chunk::<8>() {
        // Some bytes are looked at again: none of those is it.
        Some(last) => first_of(*last).map(|at| text.len() - 8 + at),
        None => tail.iter().position(|&other| other == byte),
    }
}

/// Eight bytes that are looked at together.
///
/// Every condition gives a word in which the high bit is set of the first byte that satisfies it, in
/// the order of the text; bits above that one mean nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Octets(u64);

impl Octets {
    /// One in every byte.
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    /// The high bit of every byte.
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

    /// The bytes in the order of a text.
    #[inline]
    pub(crate) const fn new(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// Which is less than this number, at most 128.
    #[inline]
    pub(crate) const fn below(self, limit: u8) -> u64 {
        self.0.wrapping_sub(Self::ONES * limit as u64) & !self.0 & Self::HIGH
    }

    /// Which is this byte.
    #[inline]
    pub(crate) const fn is(self, byte: u8) -> u64 {
        Self(self.0 ^ (Self::ONES * byte as u64)).below(1)
    }

    /// Which is space or a control character: what no header value of one word holds.
    #[inline]
    pub(crate) const fn is_invisible(self) -> u64 {
        self.below(33) | self.is(127)
    }

    /// Which is `<` or `>`.
    #[inline]
    pub(crate) const fn is_bracket(self) -> u64 {
        // They differ by one bit.
        Self(self.0 & !(Self::ONES * 2)).is(b'<')
    }
}

/// Place of the first byte that satisfies the condition, which no letter may do.
#[inline]
pub(crate) fn position(text: &[u8], is_it: impl Fn(Octets) -> u64) -> Option<usize> {
    let first_of = |chunk: [u8; 8]| {
        let found = is_it(Octets::new(chunk));
        (found != 0).then(|| found.trailing_zeros() as usize / 8)
    };
    let (chunks, tail) = text.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        if let Some(at) = first_of(*chunk) {
            return Some(index * 8 + at);
        }
    }
    if tail.is_empty() {
        return None;
    }
    if let Some(last) = text.last_chunk::<8>() {
        // Some bytes are looked at again: none of those is it.
        return first_of(*last).map(|at| text.len() - 8 + at);
    }
    let mut padded = [b'a'; 8];
    for (room, &byte) in padded.iter_mut().zip(tail) {
        *room = byte;
    }
    first_of(padded)
}

/// Splits at the first such byte.
#[inline]
pub(crate) fn split_once(text: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    match find(byte, text).and_then(|at| text.split_at_checked(at)) {
        Some((before, after)) => (before, after.get(1..)),
        None => (text, None),
    }
}

/// White space between the parts of a header value: the line ends are folds there.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A character of `token`: RFC 3261 §25.1.
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// The characters of `token`: RFC 3261 §25.1.
pub(crate) static TOKEN: [bool; 256] = table(b"-.!%*_+`'~");

/// True for one or more token characters.
pub(crate) fn is_token_text(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token)
}

/// The bytes without white space at either end.
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    if is_trimmed(bytes) {
        return bytes;
    }
    trim_end(trim_start(bytes))
}

/// True if neither the first nor the last byte is white space; a text of one byte may be either.
#[inline]
pub(crate) fn is_trimmed(bytes: &[u8]) -> bool {
    matches!(bytes, [first, .., last] if !is_space(*first) && !is_space(*last))
}

/// True if there is a CR or LF, and perhaps if there is another character below 14.
#[inline]
pub(crate) fn may_be_folded(text: &[u8]) -> bool {
    position(text, |bytes| bytes.below(14)).is_some()
}

/// The bytes without white space at their start.
pub(crate) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    bytes
}

/// The bytes without white space at their end.
pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Reads one to nineteen digits or more as a number; more than 64 bits saturate.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        Some(number.saturating_mul(10).saturating_add(u64::from(digit)))
    })
}

/// The value of one hexadecimal digit.
pub(crate) const fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The bytes of an escaped text one by one, each with whether it was written as `%HH`.
///
/// A `%` without two hexadecimal digits stands for itself.
pub(crate) fn unescape(bytes: &[u8]) -> impl Iterator<Item = (u8, bool)> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || match *rest {
        [b'%', high, low, ref behind @ ..] => {
            if let (Some(high), Some(low)) = (hex_value(high), hex_value(low)) {
                rest = behind;
                Some((high << 4 | low, true))
            } else {
                rest = tail(rest, 1);
                Some((b'%', false))
            }
        }
        [first, ref tail @ ..] => {
            rest = tail;
            Some((first, false))
        }
        [] => None,
    })
}

/// A table that holds for every byte but control characters, space and these.
#[cfg(test)]
pub(crate) const fn table_without(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte > 32 && byte != 127;
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = false;
        index += 1;
    }
    table
}

/// A table that holds for letters, digits and the given others.
pub(crate) const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_string_ends_at_the_first_quote_that_is_not_escaped() {
        assert_eq!(quoted_end(br#""a\"b" c"#), Some(6));
        assert_eq!(quoted_end(br#""a\\" c"#), Some(5));
    }

    #[test]
    fn quoted_string_without_end_is_none() {
        for text in [
            &br#""abc"#[..],
            br#""abc\"#,
            br#""abc\""#,
            b"\"",
            b"abc",
            b"",
        ] {
            assert_eq!(quoted_end(text), None, "{text:?}");
        }
    }

    #[test]
    fn decimal_saturates_and_refuses_signs() {
        assert_eq!(decimal(b"0068"), Some(68));
        assert_eq!(decimal(b"99999999999999999999999"), Some(u64::MAX));
        for text in [&b""[..], b"-1", b"+1", b"1 ", b"0x1"] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_line_end_is_seen() {
        for index in 0..40 {
            for byte in [b'\r', b'\n'] {
                let mut text = [0xff_u8; 40];
                text[index] = byte;
                assert!(may_be_folded(&text));
                text[index] = b' ';
                assert!(!may_be_folded(&text));
            }
        }
    }

    #[test]
    fn find_agrees_with_a_plain_search() {
        let text: Vec<u8> = (0..=255).chain(0..=255).collect();
        for byte in 0..=255 {
            for start in 0..40 {
                for end in start..60 {
                    let text = &text[start..end];
                    let plain = text.iter().position(|&other| other == byte);
                    assert_eq!(find(byte, text), plain);
                }
            }
        }
        assert_eq!(find(0x80, b"\x81\x7f\x00\x01\x80\xff\x80\x80"), Some(4));
    }

    #[test]
    fn position_agrees_with_a_plain_search() {
        let text: Vec<u8> = (200..=255).chain(0..=255).collect();
        for start in 0..100 {
            for end in start..(start + 40) {
                let text = &text[start..end];
                let plain = text.iter().position(|&byte| byte < 33 || byte == 127);
                assert_eq!(position(text, Octets::is_invisible), plain);
            }
        }
    }

    #[test]
    fn conditions_agree_with_the_tables() {
        for byte in 0..=255_u8 {
            let text = [byte];
            let is_it = |is_it: fn(Octets) -> u64| position(&text, is_it).is_some();
            let visible = table_without(b"")[byte as usize];
            assert_eq!(is_it(Octets::is_invisible), !visible);
            assert_eq!(is_it(Octets::is_bracket), b"<>".contains(&byte));
        }
    }

    #[test]
    fn unescape_leaves_a_lone_percent_sign() {
        let text: Vec<_> = unescape(b"%41%4g%").collect();
        assert_eq!(
            text,
            [
                (b'A', true),
                (b'%', false),
                (b'4', false),
                (b'g', false),
                (b'%', false)
            ]
        );
    }
}
