//! Cutting a stream into lines, in bounded memory.

use memchr::memchr;

/// The longest line, in bytes, without its end.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024;

/// One line of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line, without its end.
    Whole(&'a [u8]),
    /// A line of more than [`MAX_LINE_BYTES`]; it was not kept.
    TooLong,
}

/// Cuts pieces of a stream into lines. A line within one piece is not copied.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// Whether the line has grown too long and is being skipped.
    skipping: bool,
    /// Whether `begun` has been given out as a line and is to be emptied.
    given: bool,
}

impl LineSplitter {
    /// The next line whose end is in `data`, which is advanced; `None`: more data is needed.
    pub(crate) fn next_line<'s, 'd: 's>(&'s mut self, data: &mut &'d [u8]) -> Option<Line<'s>> {
        self.forget_given();
        let Some(end) = memchr(b'\n', data) else {
            self.keep(data);
            *data = &[];
            return None;
        };
        let (line, rest) = data.split_at(end);
        *data = rest.get(1..).unwrap_or_default();
        if self.skipping || self.begun.len() + line.len() > MAX_LINE_BYTES {
            self.begun.clear();
            self.skipping = false;
            return Some(Line::TooLong);
        }
        if self.begun.is_empty() {
            return Some(Line::Whole(line));
        }
        self.begun.extend_from_slice(line);
        self.given = true;
        Some(Line::Whole(&self.begun))
    }

    /// What stands behind the last line end, if anything does.
    pub(crate) fn last_line(&mut self) -> Option<Line<'_>> {
        self.forget_given();
        if self.skipping {
            Some(Line::TooLong)
        } else if self.begun.is_empty() {
            None
        } else {
            Some(Line::Whole(&self.begun))
        }
    }

    /// Keeps the beginning of a line, unless it is too long already.
    fn keep(&mut self, data: &[u8]) {
        if self.skipping || self.begun.len() + data.len() > MAX_LINE_BYTES {
            self.begun.clear();
            self.skipping = true;
        } else {
            self.begun.extend_from_slice(data);
        }
    }

    /// Empties what was given out.
    fn forget_given(&mut self) {
        if self.given {
            self.begun.clear();
            self.given = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the lines of a text that comes in pieces of this size; `None`: too long.
    fn lengths(text: &[u8], piece: usize) -> Vec<Option<usize>> {
        let mut splitter = LineSplitter::default();
        let mut lengths = Vec::new();
        let length = |line: Line<'_>| match line {
            Line::Whole(line) => Some(line.len()),
            Line::TooLong => None,
        };
        for mut data in text.chunks(piece) {
            while let Some(line) = splitter.next_line(&mut data) {
                lengths.push(length(line));
            }
            assert!(splitter.begun.len() <= MAX_LINE_BYTES);
        }
        lengths.extend(splitter.last_line().map(length));
        lengths
    }

    #[test]
    fn lines_are_the_same_however_the_stream_is_cut() {
        let mut text = b"a\n\nbc\r\n".to_vec();
        text.extend(vec![b'x'; MAX_LINE_BYTES]);
        text.push(b'\n');
        text.extend(vec![b'y'; MAX_LINE_BYTES + 1]);
        text.extend(b"\nd");
        let expected = [
            Some(1),
            Some(0),
            Some(3),
            Some(MAX_LINE_BYTES),
            None,
            Some(1),
        ];
        for piece in [1, 2, 7, 1_000, 65_536, 65_537, text.len()] {
            assert_eq!(lengths(&text, piece), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut splitter = LineSplitter::default();
        let piece = vec![b'x'; 10_000];
        for _ in 0..1_000 {
            assert_eq!(splitter.next_line(&mut piece.as_slice()), None);
            assert!(splitter.begun.capacity() <= 2 * MAX_LINE_BYTES);
        }
        assert_eq!(splitter.last_line(), Some(Line::TooLong));
    }

    #[test]
    fn a_stream_that_ends_with_a_line_end_has_no_further_line() {
        assert_eq!(lengths(b"a\n", 1), [Some(1)]);
        assert_eq!(lengths(b"", 1), []);
    }
}
