//! Fields of a body that mean nothing here: they are ignored, and named in the answer.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::HeaderValue;
use parking_lot::Mutex;

/// The fields of one request's body that were ignored. Clones share the list: whoever reads the body
/// adds to it, and whoever writes the answer's headers takes it from there.
#[derive(Clone, Debug, Default)]
pub(crate) struct IgnoredFields(Arc<Mutex<Names>>);

/// The first of the ignored fields, each once.
#[derive(Debug, Default)]
struct Names {
    /// As they stand in the header.
    shown: Vec<String>,
    /// The length of these.
    bytes: usize,
    /// Whether there are others.
    more: bool,
}

impl IgnoredFields {
    /// The list of a request, to which the middleware holds the other end.
    pub(crate) fn of(request: &Request) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Adds a field by its full name, as `targets.0.weigth`.
    pub(crate) fn add(&self, name: &str) {
        let mut names = self.0.lock();
        if names.more {
            return;
        }
        let name = shown(name);
        if names.shown.contains(&name) {
            return;
        }
        let bytes = names.bytes + name.len() + SEPARATOR.len();
        if names.shown.len() >= MAX_NAMES || bytes > MAX_BYTES {
            names.more = true;
        } else {
            names.bytes = bytes;
            names.shown.push(name);
        }
    }

    /// The value of the header; `None`: no field was ignored.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let names = self.0.lock();
        if names.shown.is_empty() {
            return None;
        }
        let mut text = names.shown.join(SEPARATOR);
        if names.more {
            text.push_str(SEPARATOR);
            text.push_str(CUT);
        }
        HeaderValue::try_from(text).ok()
    }
}

/// A name in the characters of a token (RFC 9110 §5.6.2), others percent-encoded as bytes of UTF-8, cut
/// off where it is long.
fn shown(name: &str) -> String {
    if name.is_empty() {
        return "\"\"".to_owned();
    }
    let mut text = String::new();
    for byte in name.bytes() {
        if text.len() >= MAX_NAME_BYTES {
            text.push_str(CUT);
            break;
        }
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _infallible = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The header that names ignored fields.
pub(crate) const HEADER: &str = "x-ignored-fields";

/// What stands between two names.
const SEPARATOR: &str = ", ";

/// What stands for the rest of a name, and of the names.
const CUT: &str = "...";

/// The most fields that are named.
const MAX_NAMES: usize = 20;

/// The longest name, but for the mark that it was cut off.
const MAX_NAME_BYTES: usize = 64;

/// The longest value of the header, but for the mark that there is more.
const MAX_BYTES: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
        let ignored = IgnoredFields::default();
        for name in names {
            ignored.add(name);
        }
        let header = ignored.header();
        header.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn each_field_is_named_once() {
        assert_eq!(header_of([]), "");
        assert_eq!(header_of(["b", "a", "b"]), "b, a");
        assert_eq!(header_of(["targets.0.weigth"]), "targets.0.weigth");
    }

    #[test]
    fn a_name_is_safe_text() {
        assert_eq!(header_of([""]), "\"\"");
        assert_eq!(header_of(["a, b"]), "a%2C%20b");
        assert_eq!(
            header_of(["x\r\nSet-Cookie: a=b"]),
            "x%0D%0ASet-Cookie%3A%20a%3Db"
        );
        assert_eq!(
            header_of(["%2C", "\"", "\u{0}", "é"]),
            "%252C, %22, %00, %C3%A9"
        );
    }

    #[test]
    fn the_header_is_bounded() {
        let long = "x".repeat(100_000);
        assert_eq!(header_of([long.as_str()]), format!("{}...", "x".repeat(64)));
        let many: Vec<String> = (0..100).map(|number| format!("f{number}")).collect();
        let header = header_of(many.iter().map(String::as_str));
        assert!(
            header.starts_with("f0, f1, ") && header.ends_with(", f19, ..."),
            "{header}"
        );
        let wide: Vec<String> = (0..100)
            .map(|number| format!("{number}{}", "\u{1}".repeat(99)))
            .collect();
        let header = header_of(wide.iter().map(String::as_str));
        assert!(
            header.len() < 1_024 && header.ends_with(", ..."),
            "{header}"
        );
    }
}
