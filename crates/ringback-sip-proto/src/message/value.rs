//! The value of a header line: folds, lists and parameters (RFC 3261 §7.3.1).

use std::borrow::Cow;

use crate::lex::{self, Cursor, Octets, TOKEN};

/// The value of one header line as it stands on the wire, without white space around it.
///
/// It may be folded over several lines and may hold a comma-separated list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'m>(&'m [u8]);

impl<'m> Value<'m> {
    /// Wraps the text of a value; white space around it is dropped.
    #[must_use]
    pub fn new(bytes: &'m [u8]) -> Self {
        Self(lex::trim(bytes))
    }

    /// Wraps a text without white space around it.
    pub(crate) const fn trimmed(bytes: &'m [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes on the wire, folds included.
    #[must_use]
    pub fn as_bytes(self) -> &'m [u8] {
        self.0
    }

    /// True if the value goes over more than one line.
    #[must_use]
    pub fn is_folded(self) -> bool {
        memchr::memchr2(b'\r', b'\n', self.0).is_some()
    }

    /// The values of a comma-separated list, quoted strings and angle brackets kept whole.
    pub fn list(self) -> List<'m> {
        List(Some(self.0))
    }

    /// The first value of the list, and the rest of the line with the comma that starts it.
    #[must_use]
    pub fn split_first(self) -> (Self, &'m [u8]) {
        let end = value_end(self.0);
        let (first, rest) = lex::split(self.0, end);
        (Self::new(first), rest)
    }

    /// Appends the value as one line: each fold becomes one space (RFC 3261 §7.3.1).
    pub fn write_unfolded(self, out: &mut Vec<u8>) {
        write_unfolded(self.0, out);
    }

    /// The value as text on one line, with what is no UTF-8 replaced. For tools and slow paths.
    #[must_use]
    pub fn text(self) -> Cow<'m, str> {
        if self.is_folded() {
            let mut line = Vec::with_capacity(self.0.len());
            self.write_unfolded(&mut line);
            Cow::Owned(String::from_utf8_lossy(&line).into_owned())
        } else {
            String::from_utf8_lossy(self.0)
        }
    }
}

/// Iterates over the values of a comma-separated list.
#[derive(Clone, Debug)]
pub struct List<'m>(Option<&'m [u8]>);

impl<'m> Iterator for List<'m> {
    type Item = Value<'m>;

    fn next(&mut self) -> Option<Value<'m>> {
        let rest = self.0?;
        let (first, tail) = Value(rest).split_first();
        self.0 = tail.get(1..);
        Some(first)
    }
}

/// The parameters behind a header value: `;name=value;name`, white space allowed everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Params<'m>(Cursor<'m>);

/// One parameter; the value is raw, so a quoted string keeps its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'m> {
    /// The name, in any case.
    pub name: &'m [u8],
    /// What follows the equals sign.
    pub value: Option<&'m [u8]>,
    /// Offset of the end of the name in the text read.
    pub(crate) name_end: usize,
}

/// A parameter that breaks the grammar; nothing behind it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenParam;

impl<'m> Params<'m> {
    /// Reads from the first semicolon on.
    pub(crate) fn new(bytes: &'m [u8]) -> Self {
        Self(Cursor::new(bytes))
    }

    /// The first parameter of this name, compared in any case; without a value it is empty.
    #[must_use]
    pub fn get(mut self, name: &str) -> Option<&'m [u8]> {
        self.find_map(|param| {
            let param = param.ok()?;
            param
                .name
                .eq_ignore_ascii_case(name.as_bytes())
                .then_some(param.value.unwrap_or_default())
        })
    }

    /// One parameter, or the reason why there is none.
    fn read(&mut self) -> Option<Param<'m>> {
        let cursor = &mut self.0;
        if !cursor.eat(b';') {
            return None;
        }
        cursor.skip_space();
        let name = cursor.take_in(&TOKEN);
        if name.is_empty() {
            return None;
        }
        let name_end = cursor.at();
        cursor.skip_space();
        let value = if cursor.eat(b'=') {
            cursor.skip_space();
            let value = if cursor.peek() == Some(b'"') {
                cursor.take_quoted()?
            } else {
                cursor.take_before(ends_value)
            };
            if value.is_empty() {
                return None;
            }
            Some(value)
        } else {
            None
        };
        cursor.skip_space();
        matches!(cursor.peek(), None | Some(b';')).then_some(Param {
            name,
            value,
            name_end,
        })
    }
}

impl<'m> Iterator for Params<'m> {
    type Item = Result<Param<'m>, BrokenParam>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.skip_space();
        if self.0.is_done() {
            return None;
        }
        let param = self.read();
        if param.is_none() {
            self.0 = Cursor::new(&[]);
        }
        Some(param.ok_or(BrokenParam))
    }
}

/// Appends text as one line: every run of white space that holds a line end becomes one space.
#[inline]
pub(crate) fn write_unfolded(text: &[u8], out: &mut Vec<u8>) {
    if lex::may_be_folded(text) {
        write_folded(text, out);
    } else {
        out.extend_from_slice(text);
    }
}

/// The same for a text that is folded.
#[cold]
fn write_folded(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        let (line, tail) = lex::split(rest, at);
        out.extend_from_slice(lex::trim_end(line));
        out.push(b' ');
        rest = lex::trim_start(tail);
    }
    out.extend_from_slice(rest);
}

/// Length of the first value of a list, up to its comma.
fn value_end(bytes: &[u8]) -> usize {
    if lex::find(b',', bytes).is_none() {
        return bytes.len();
    }
    let mut at = 0;
    loop {
        let rest = lex::tail(bytes, at);
        let Some(found) = memchr::memchr3(b',', b'"', b'<', rest) else {
            return bytes.len();
        };
        at += found;
        let from = lex::tail(bytes, at);
        let skip = match from.first() {
            Some(b'"') => lex::quoted_end(from),
            Some(b'<') => memchr::memchr(b'>', from).map(|end| end + 1),
            _ => return at,
        };
        // What has no end reaches to the end of the line: its reader will refuse it.
        let Some(skip) = skip else {
            return bytes.len();
        };
        at += skip;
    }
}

/// No character of an unquoted parameter value: that is wider than the grammar, as devices are.
#[inline]
const fn ends_value(bytes: Octets) -> u64 {
    bytes.is_invisible() | bytes.is(b';') | bytes.is(b',') | bytes.is(b'"') | bytes.is_bracket()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_keeps_quotes_and_brackets_whole() {
        let value = Value::new(br#" "a, \"b" <sip:x,y@h>;p="1,2" , <sip:z@h> "#);
        let values: Vec<_> = value.list().map(Value::as_bytes).collect();
        assert_eq!(
            values,
            [&br#""a, \"b" <sip:x,y@h>;p="1,2""#[..], b"<sip:z@h>"]
        );
    }

    #[test]
    fn list_of_empty_values_ends() {
        assert_eq!(Value::new(b",,").list().count(), 3);
        assert_eq!(Value::new(b"").list().count(), 1);
        assert_eq!(Value::new(b"\"x,").list().count(), 1);
    }

    #[test]
    fn values_end_where_the_table_says() {
        let table = lex::table_without(b";,\"<>");
        for byte in 0..=255_u8 {
            let ends = lex::position(&[byte], ends_value).is_some();
            assert_eq!(ends, !table[byte as usize]);
        }
    }

    #[test]
    fn folds_become_one_space() {
        let mut line = Vec::new();
        Value::new(b"a \r\n\t b\r\n c").write_unfolded(&mut line);
        assert_eq!(line, b"a b c");
    }

    #[test]
    fn params_allow_space_everywhere() {
        let params = Params::new(b" ; a = 1 ;\r\n b;c=\"x;y\"");
        assert_eq!(params.get("A"), Some(&b"1"[..]));
        assert_eq!(params.get("b"), Some(&b""[..]));
        assert_eq!(params.get("c"), Some(&b"\"x;y\""[..]));
        assert_eq!(params.get("d"), None);
    }

    #[test]
    fn broken_params_are_told() {
        for text in [";", ";;a", ";a=", ";=1", "a", ";a=1 2", ";a=\"x", ";a,b"] {
            let broken = Params::new(text.as_bytes()).any(|param| param.is_err());
            assert!(broken, "{text}");
        }
    }
}
