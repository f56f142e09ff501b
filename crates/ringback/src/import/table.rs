//! Records of delimiter-separated text (RFC 4180), each in bounded memory.
//!
//! A record that is too long, or that ends with the file inside a quoted field, is told apart from a whole
//! one. After a record that is too long, reading goes on with the next line, so that a quote that nobody
//! closes costs the records that it swallowed, not the rest of the file.

use std::io::{self, BufRead};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

/// Reads records.
pub(crate) struct Table {
    /// The text.
    content: Box<dyn BufRead + Send>,
    /// Finds fields.
    parser: Reader,
    /// The fields of the record read last, one behind the other.
    text: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// How many there are.
    count: usize,
    /// The line on which the next byte stands, from 1.
    line: u64,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A record that starts on this line; its fields can be asked for.
    Whole {
        /// The line, from 1.
        line: u64,
        /// Whether the file ends with it, without a line break.
        is_unended: bool,
    },
    /// A record that starts on this line and is longer than what is taken.
    TooLong {
        /// The line, from 1.
        line: u64,
        /// The line on which it was given up.
        last_line: u64,
    },
    /// A record that starts on this line, and in whose quoted field the file ends.
    CutOff {
        /// The line, from 1.
        line: u64,
        /// The last line of the file.
        last_line: u64,
    },
}

impl Table {
    /// The records of a text that stands behind so many lines.
    pub(crate) fn new(content: Box<dyn BufRead + Send>, delimiter: u8, lines_before: u64) -> Self {
        Self {
            content,
            parser: ReaderBuilder::new().delimiter(delimiter).build(),
            text: vec![0; LONGEST_RECORD],
            ends: vec![0; MOST_FIELDS],
            count: 0,
            line: 1 + lines_before,
        }
    }

    /// Reads the next record; empty lines are none.
    pub(crate) fn read(&mut self) -> io::Result<Option<Record>> {
        self.count = 0;
        if !self.skip_line_breaks()? {
            return Ok(None);
        }
        let line = self.line;
        let (mut written, mut consumed) = (0, 0);
        loop {
            let input = self.content.fill_buf()?;
            let at_end = input.is_empty();
            // Inside a quoted field a line break is text; anywhere else it ends the record.
            let input = if at_end { b"\n" } else { input };
            let text = self.text.get_mut(written..).unwrap_or_default();
            let ends = self.ends.get_mut(self.count..).unwrap_or_default();
            let (result, used, added, ended) = self.parser.read_record(input, text, ends);
            let breaks = line_breaks(input.get(..used).unwrap_or_default());
            written += added;
            self.count += ended;
            consumed += used;
            if !at_end {
                self.line += breaks;
                self.content.consume(used);
            }
            match result {
                ReadRecordResult::Record | ReadRecordResult::End => {
                    return Ok(Some(Record::Whole {
                        line,
                        is_unended: at_end,
                    }));
                }
                ReadRecordResult::InputEmpty if at_end => {
                    self.count = 0;
                    return Ok(Some(Record::CutOff {
                        line,
                        last_line: self.line,
                    }));
                }
                ReadRecordResult::InputEmpty if consumed <= LONGEST_RECORD => {}
                ReadRecordResult::InputEmpty
                | ReadRecordResult::OutputFull
                | ReadRecordResult::OutputEndsFull => {
                    self.count = 0;
                    let last_line = self.line;
                    self.skip_line()?;
                    return Ok(Some(Record::TooLong { line, last_line }));
                }
            }
        }
    }

    /// How many fields the record has.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// A field of the record, without white space around it.
    pub(crate) fn field(&self, index: usize) -> Option<&[u8]> {
        if index >= self.count {
            return None;
        }
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..end).map(<[u8]>::trim_ascii)
    }

    /// All fields of the record.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).map_while(|index| self.field(index))
    }

    /// Goes on to the next byte that is no line break; false: there is none.
    fn skip_line_breaks(&mut self) -> io::Result<bool> {
        loop {
            let input = self.content.fill_buf()?;
            if input.is_empty() {
                return Ok(false);
            }
            let text = input.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
            let used = text.unwrap_or(input.len());
            let breaks = line_breaks(input.get(..used).unwrap_or_default());
            self.line += breaks;
            self.content.consume(used);
            if text.is_some() {
                return Ok(true);
            }
        }
    }

    /// Forgets the record that was begun, and goes on behind the next line break.
    fn skip_line(&mut self) -> io::Result<()> {
        self.parser.reset();
        loop {
            let input = self.content.fill_buf()?;
            let end = input.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(input.len(), |end| end + 1);
            self.line += u64::from(end.is_some());
            self.content.consume(used);
            if used == 0 || end.is_some() {
                return Ok(());
            }
        }
    }
}

/// How many lines end in a text.
fn line_breaks(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The character that separates the columns, by the first line: of those that stand outside quotes the one that
/// stands there most often.
pub(crate) fn delimiter_of(head: &[u8]) -> u8 {
    let mut counts = [0_usize; DELIMITERS.len()];
    let mut is_quoted = false;
    for byte in head {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\n' | b'\r' if !is_quoted => break,
            byte if !is_quoted => {
                if let Some(index) = DELIMITERS.iter().position(|delimiter| delimiter == byte)
                    && let Some(count) = counts.get_mut(index)
                {
                    *count += 1;
                }
            }
            _ => {}
        }
    }
    let mut best = (0, DELIMITERS[0]);
    for (count, delimiter) in counts.into_iter().zip(DELIMITERS) {
        if count > best.0 {
            best = (count, delimiter);
        }
    }
    best.1
}

/// What may separate columns, the usual ones first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The longest record that is taken, in bytes.
pub(crate) const LONGEST_RECORD: usize = 64 * 1024;

/// The most columns that a record may have.
pub(crate) const MOST_FIELDS: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Read};

    use super::*;

    /// The records of a text that comes in pieces of this length: line and fields, or what else they are.
    fn records(text: &[u8], piece: usize) -> Vec<Result<(u64, Vec<String>), Record>> {
        let content = BufReader::with_capacity(piece, Cursor::new(text.to_vec()));
        let mut table = Table::new(Box::new(content), b',', 0);
        let mut records = Vec::new();
        while let Some(record) = table.read().unwrap() {
            records.push(match record {
                Record::Whole { line, .. } => {
                    let fields = table
                        .fields()
                        .map(|field| String::from_utf8(field.to_vec()).unwrap());
                    Ok((line, fields.collect()))
                }
                other => Err(other),
            });
        }
        records
    }

    fn whole(line: u64, fields: &[&str]) -> Result<(u64, Vec<String>), Record> {
        Ok((
            line,
            fields.iter().map(|field| (*field).to_owned()).collect(),
        ))
    }

    #[test]
    fn records_are_the_same_however_the_text_is_cut() {
        let text = b"\r\na, b ,c\r\n\n\"x\r\ny\",\"\"\"q\"\"\",\n,\r\n=\"1\",2";
        let expected = [
            whole(2, &["a", "b", "c"]),
            whole(4, &["x\r\ny", "\"q\"", ""]),
            whole(6, &["", ""]),
            whole(7, &["=\"1\"", "2"]),
        ];
        for piece in [1, 2, 3, 5, 1_000] {
            assert_eq!(records(text, piece), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn a_record_that_ends_inside_quotes_is_told_apart_from_one_without_a_line_break() {
        // Both used to be taken for whole records.
        for piece in [1, 1_000] {
            assert_eq!(
                records(b"a,b\n1,\"2\nrest", piece),
                [
                    whole(1, &["a", "b"]),
                    Err(Record::CutOff {
                        line: 2,
                        last_line: 3
                    })
                ]
            );
            assert_eq!(records(b"1,\"2\"", piece), [whole(1, &["1", "2"])]);
            assert_eq!(
                records(b"1,\"", piece),
                [Err(Record::CutOff {
                    line: 1,
                    last_line: 1
                })]
            );
        }
        let mut table = Table::new(Box::new(Cursor::new(b"a\nb".to_vec())), b',', 0);
        let ends: Vec<_> = std::iter::from_fn(|| table.read().unwrap()).collect();
        let ended = |line, is_unended| Record::Whole { line, is_unended };
        assert_eq!(ends, [ended(1, false), ended(2, true)]);
    }

    #[test]
    fn a_record_that_is_too_long_costs_itself_and_nothing_behind_it() {
        // A line of any length used to be kept in memory as a whole.
        let long = "x".repeat(3 * LONGEST_RECORD);
        let wide = ",".repeat(MOST_FIELDS);
        let quoted = format!("\"{}", "q\n".repeat(LONGEST_RECORD));
        for text in [&long, &wide, &quoted] {
            let text = format!("a\n{text}\nb,c\n");
            for piece in [7, 100_000] {
                let records = records(text.as_bytes(), piece);
                assert_eq!(records[0], whole(1, &["a"]));
                assert!(matches!(records[1], Err(Record::TooLong { line: 2, .. })));
                let (line, fields) = records.last().unwrap().as_ref().unwrap();
                assert_eq!(fields, &["b", "c"]);
                assert_eq!(*line, text.matches('\n').count() as u64);
            }
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_record() {
        let content = BufReader::new(io::repeat(b',').take(50 << 20));
        let mut table = Table::new(Box::new(content), b',', 0);
        assert!(matches!(
            table.read().unwrap(),
            Some(Record::TooLong {
                line: 1,
                last_line: 1
            })
        ));
        assert_eq!(table.read().unwrap(), None);
        assert_eq!(table.text.len(), LONGEST_RECORD);
        assert_eq!(table.ends.len(), MOST_FIELDS);
    }

    #[test]
    fn delimiters_are_recognized_outside_quotes() {
        for (head, delimiter) in [
            ("to,from\n1;2;3;4", b','),
            ("to;from;started_at\n", b';'),
            ("to\tfrom", b'\t'),
            ("call_date|phone_number_dialed|status", b'|'),
            ("\"a;b;c;d\",\"e\"\n", b','),
            ("to", b','),
            ("", b','),
        ] {
            assert_eq!(delimiter_of(head.as_bytes()), delimiter, "{head}");
        }
    }
}
