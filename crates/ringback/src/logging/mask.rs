//! Keeps phone numbers and stored keys out of the log, whoever writes them.
//!
//! What this program logs is masked where it is written. This is the last line of defense, between the
//! formatted line and standard error: it masks what looks like a number all the same, and it knows
//! nothing of what dependencies consider worth a line. So while numbers are masked, dependencies are
//! heard from `warn` on only.

use std::borrow::Cow;
use std::io::{self, Stderr, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Standard error, with numbers masked unless they may be shown.
#[derive(Clone, Debug)]
pub(super) struct MaskedOutput {
    /// Whether numbers are written in full; changes with the configuration.
    pub(super) full: Arc<AtomicBool>,
}

/// Takes one line.
#[derive(Debug)]
pub(super) enum LineWriter {
    /// As it is.
    Plain(Stderr),
    /// Masked by the rules for this program's lines, or for those of dependencies.
    Masked(Stderr, Origin),
    /// Not at all.
    Nothing,
}

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This program's, which knows what a number is.
    Own,
    /// A dependency's: whatever might be a number is taken for one.
    Dependency,
}

impl<'a> MakeWriter<'a> for MaskedOutput {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter::Masked(io::stderr(), Origin::Dependency)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter {
        if self.full.load(Ordering::Relaxed) {
            return LineWriter::Plain(io::stderr());
        }
        if is_own(metadata.target()) {
            LineWriter::Masked(io::stderr(), Origin::Own)
        } else if *metadata.level() <= Level::WARN {
            LineWriter::Masked(io::stderr(), Origin::Dependency)
        } else {
            LineWriter::Nothing
        }
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write_all(line)?,
            Self::Masked(output, origin) => {
                let text = String::from_utf8_lossy(line);
                output.write_all(mask(&text, *origin).as_bytes())?;
            }
            Self::Nothing => {}
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(output) | Self::Masked(output, _) => output.flush(),
            Self::Nothing => Ok(()),
        }
    }
}

/// A text of an event, masked as a line of it would be; `None`: nothing is heard of this event.
pub(crate) fn masked_line(metadata: &Metadata<'_>, text: &str) -> Option<String> {
    let origin = match (is_own(metadata.target()), *metadata.level() <= Level::WARN) {
        (true, _) => Origin::Own,
        (false, true) => Origin::Dependency,
        (false, false) => return None,
    };
    Some(mask(text, origin).into_owned())
}

/// A text from outside, as a Call-ID, in which what may be a number is masked unless numbers are shown.
pub(crate) fn masked_unless(full: bool, text: &str) -> Cow<'_, str> {
    if full {
        Cow::Borrowed(text)
    } else {
        mask(text, Origin::Dependency)
    }
}

/// Masks what may be a phone number, but for its last two digits, and long runs of hexadecimal digits,
/// which may be a stored key.
fn mask(text: &str, origin: Origin) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut copied = 0;
    let mut rest = 0;
    while let Some(start) = find(text, rest, |byte| byte.is_ascii_hexdigit()) {
        let end = find(text, start, |byte| !byte.is_ascii_hexdigit()).unwrap_or(text.len());
        let run = text.get(start..end).unwrap_or_default();
        rest = end;
        let is_number = run.bytes().all(|byte| byte.is_ascii_digit())
            && run.len() >= LEAST_DIGITS
            && (origin == Origin::Dependency || has_plus(text, start));
        let shown = if is_number {
            let hidden = run.len() - 2;
            format!("{:*<hidden$}{}", "", run.get(hidden..).unwrap_or_default())
        } else if run.len() >= LEAST_HEX {
            format!("[{} hex digits]", run.len())
        } else if origin == Origin::Dependency {
            mask_digits(run)
        } else {
            continue;
        };
        masked.push_str(text.get(copied..start).unwrap_or_default());
        masked.push_str(&shown);
        copied = end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(masked)
}

/// Masks long runs of decimal digits among hexadecimal ones.
fn mask_digits(run: &str) -> String {
    let mut masked = String::with_capacity(run.len());
    let mut rest = run;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        if digits >= LEAST_DIGITS {
            let hidden = digits - 2;
            masked.extend(std::iter::repeat_n('*', hidden));
            masked.push_str(number.get(hidden..).unwrap_or_default());
        } else {
            masked.push_str(number);
        }
        let letters = after
            .bytes()
            .take_while(|byte| !byte.is_ascii_digit())
            .count();
        let (letters, after) = after.split_at(letters);
        masked.push_str(letters);
        rest = after;
    }
    masked
}

/// The first byte from here on for which this holds.
fn find(text: &str, from: usize, holds: impl Fn(&u8) -> bool) -> Option<usize> {
    let bytes = text.as_bytes().get(from..)?;
    Some(from + bytes.iter().position(holds)?)
}

/// Whether a `+` stands before this place, as it is or escaped.
fn has_plus(text: &str, at: usize) -> bool {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    before.ends_with(b"+")
}

/// Whether the target is a module of this program.
fn is_own(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    name == "ringback" || name.starts_with("ringback_")
}

/// The shortest phone number.
const LEAST_DIGITS: usize = 7;

/// So many hexadecimal digits in a row may be a key; identifiers have hyphens.
const LEAST_HEX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_own_lines_are_masked_and_nothing_else() {
        for (line, masked) in [
            ("to +5511987654321 at", "to +***********21 at"),
            ("contacts=12345678 calls=1", "contacts=12345678 calls=1"),
            (
                "2026-11-27T14:55:51.123456Z  INFO ringback: ready",
                "2026-11-27T14:55:51.123456Z  INFO ringback: ready",
            ),
            (
                "id=0193f7a2-0000-7000-8000-123456789012",
                "id=0193f7a2-0000-7000-8000-123456789012",
            ),
            ("key 0001020304050607ff is", "key [18 hex digits] is"),
            ("+123456 é +1234567", "+123456 é +*****67"),
            ("", ""),
        ] {
            assert_eq!(mask(line, Origin::Own), masked, "{line}");
        }
    }

    #[test]
    fn whatever_may_be_a_number_is_masked_in_lines_of_dependencies() {
        for (line, masked) in [
            ("parsed 11987654321 as BR", "parsed *********21 as BR"),
            ("call-12025550142-x", "call-*********42-x"),
            ("ab12025550142cd", "ab*********42cd"),
            ("took 123456us", "took 123456us"),
            (
                "2026-11-27T14:55:51.123456Z  WARN log: x",
                "2026-11-27T14:55:51.123456Z  WARN log: x",
            ),
        ] {
            assert_eq!(mask(line, Origin::Dependency), masked, "{line}");
        }
        assert_eq!(masked_unless(true, "12025550142"), "12025550142");
    }

    #[test]
    fn targets_of_this_program_are_told_from_others() {
        assert!(
            is_own("ringback") && is_own("ringback::serve") && is_own("ringback_sip_server::udp")
        );
        assert!(!is_own("ringbackend") && !is_own("log") && !is_own("rlibphonenumber::x"));
    }
}
