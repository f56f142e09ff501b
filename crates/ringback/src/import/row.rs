//! Rows of a file as lines of a batch: CSV or newline-delimited JSON in, JSON objects out.

use std::io::{self, BufRead};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::Format;
use super::position::hex;
use super::source::Source;

/// How rows are read.
pub(crate) struct Settings<'a> {
    /// The format; `None`: by the first character.
    pub(crate) format: Option<Format>,
    /// The CSV column that holds a field.
    pub(crate) columns: &'a [(String, String)],
    /// What separates CSV columns.
    pub(crate) delimiter: u8,
    /// The agent of rows that name none.
    pub(crate) agent_id: Option<&'a str>,
}

/// The fields of a call.
pub(crate) const FIELDS: [&str; 6] = ["agent_id", "to", "from", "status", "started_at", "sid"];

/// Why rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowsError {
    /// The bytes do not come: the file is damaged or the disk is.
    #[error("cannot be read to the end")]
    Read(#[source] io::Error),
    /// The CSV header lacks a column without which no row is a call.
    #[error("the CSV header has no column `{column}`; it has {header}")]
    Column {
        /// The missing column.
        column: String,
        /// The columns that are there.
        header: String,
    },
    /// There is nothing in the file, not even a header.
    #[error("the file is empty")]
    Empty,
}

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The line of the file on which it starts, from 1.
    pub(crate) line: u64,
    /// The call as a JSON object on one line; or what keeps the row from being one.
    pub(crate) call: Result<String, String>,
}

/// The rows of a file.
pub(crate) enum Rows {
    /// Of CSV.
    Csv(Box<CsvRows>),
    /// Of newline-delimited JSON.
    Ndjson(NdjsonRows),
}

impl Rows {
    /// Recognizes the format and reads the header, if there is one.
    pub(crate) fn open(source: Source, settings: &Settings<'_>) -> Result<Self, RowsError> {
        let mut content = source.into_content().map_err(RowsError::Read)?;
        let first = content.fill_buf().map_err(RowsError::Read)?;
        let first = first.iter().find(|byte| !byte.is_ascii_whitespace());
        let format = match (settings.format, first) {
            (Some(format), _) => format,
            (None, None) => return Err(RowsError::Empty),
            (None, Some(b'{')) => Format::Ndjson,
            (None, Some(_)) => Format::Csv,
        };
        let agent_id = settings.agent_id.map(str::to_owned);
        Ok(match format {
            Format::Csv => Self::Csv(Box::new(CsvRows::open(content, settings, agent_id)?)),
            Format::Ndjson => Self::Ndjson(NdjsonRows {
                content,
                line: 0,
                agent_id,
            }),
        })
    }

    /// The next row.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row>, RowsError> {
        match self {
            Self::Csv(rows) => rows.next_row(),
            Self::Ndjson(rows) => rows.next_row(),
        }
    }
}

/// The rows of CSV.
pub(crate) struct CsvRows {
    /// Reads records.
    reader: csv::Reader<Box<dyn BufRead + Send>>,
    /// The record read last, kept for its memory.
    record: csv::ByteRecord,
    /// The column of each field, where there is one.
    columns: [Option<usize>; FIELDS.len()],
    /// The agent of rows that name none.
    agent_id: Option<String>,
}

impl CsvRows {
    /// Reads the header.
    fn open(
        content: Box<dyn BufRead + Send>,
        settings: &Settings<'_>,
        agent_id: Option<String>,
    ) -> Result<Self, RowsError> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(settings.delimiter)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(content);
        let header = reader.byte_headers().map_err(unreadable)?.clone();
        let names: Vec<String> = header
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        if names.is_empty() {
            return Err(RowsError::Empty);
        }
        let mut columns = [None; FIELDS.len()];
        for (column, field) in columns.iter_mut().zip(FIELDS) {
            let chosen = settings.columns.iter().find(|(name, _)| name == field);
            let wanted = chosen.map_or(field, |(_, column)| column);
            *column = names.iter().position(|name| match chosen {
                Some(_) => name == wanted,
                None => plain(name) == wanted,
            });
            let needed =
                chosen.is_some() || field == "to" || (field == "agent_id" && agent_id.is_none());
            if column.is_none() && needed {
                return Err(RowsError::Column {
                    column: wanted.to_owned(),
                    header: names.join(", "),
                });
            }
        }
        Ok(Self {
            reader,
            record: csv::ByteRecord::new(),
            columns,
            agent_id,
        })
    }

    /// The next row.
    fn next_row(&mut self) -> Result<Option<Row>, RowsError> {
        let read = self
            .reader
            .read_byte_record(&mut self.record)
            .map_err(unreadable)?;
        if !read {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        Ok(Some(Row {
            line,
            call: self.call(),
        }))
    }

    /// The record as a call.
    fn call(&self) -> Result<String, String> {
        let mut values = [""; FIELDS.len()];
        for ((value, column), field) in values.iter_mut().zip(&self.columns).zip(FIELDS) {
            if let Some(bytes) = column.and_then(|column| self.record.get(column)) {
                *value = std::str::from_utf8(bytes)
                    .map_err(|_| format!("the column of `{field}` is not UTF-8"))?;
            }
        }
        let [agent_id, to, from, status, started_at, sid] = values;
        let agent_id = match (agent_id, &self.agent_id) {
            ("", Some(agent_id)) => agent_id,
            _ => agent_id,
        };
        let derived;
        let sid = if sid.is_empty() {
            derived = derived_sid([agent_id, to, from, started_at]);
            &derived
        } else {
            sid
        };
        // Written as it is read, without a map in between: there may be a hundred million rows.
        let mut call = Vec::with_capacity(256);
        let values = [agent_id, to, from, status, started_at, sid];
        for (field, value) in FIELDS.iter().zip(values) {
            if !value.is_empty() {
                call.push(if call.is_empty() { b'{' } else { b',' });
                call.push(b'"');
                call.extend_from_slice(field.as_bytes());
                call.extend_from_slice(b"\":");
                serde_json::to_writer(&mut call, value).map_err(|error| error.to_string())?;
            }
        }
        call.push(b'}');
        String::from_utf8(call).map_err(|error| error.to_string())
    }
}

/// The rows of newline-delimited JSON.
pub(crate) struct NdjsonRows {
    /// The lines.
    content: Box<dyn BufRead + Send>,
    /// The number of the line read last, from 1.
    line: u64,
    /// The agent of rows that name none.
    agent_id: Option<String>,
}

impl NdjsonRows {
    /// The next row; blank lines are none.
    fn next_row(&mut self) -> Result<Option<Row>, RowsError> {
        loop {
            let mut bytes = Vec::new();
            let too_long = match self.read_line(&mut bytes).map_err(RowsError::Read)? {
                Line::End => return Ok(None),
                Line::Read => false,
                Line::TooLong => true,
            };
            self.line += 1;
            if bytes.trim_ascii().is_empty() && !too_long {
                continue;
            }
            let call = if too_long {
                Err(format!("the line is longer than {LINE_LIMIT} bytes"))
            } else {
                match serde_json::from_slice(&bytes) {
                    Ok(Value::Object(call)) => finish(call, self.agent_id.as_deref()),
                    Ok(_) => Err("the line is not a JSON object".to_owned()),
                    Err(error) => Err(format!("the line is not JSON: {error}")),
                }
            };
            return Ok(Some(Row {
                line: self.line,
                call,
            }));
        }
    }

    /// Reads a line into memory, unless it is too long.
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        let mut started = false;
        let mut too_long = false;
        loop {
            let available = self.content.fill_buf()?;
            if available.is_empty() {
                return Ok(match (started, too_long) {
                    (false, _) => Line::End,
                    (true, false) => Line::Read,
                    (true, true) => Line::TooLong,
                });
            }
            started = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            too_long |= line.len() + part.len() > LINE_LIMIT;
            if !too_long {
                line.extend_from_slice(part);
            }
            let used = end.map_or(available.len(), |end| end + 1);
            self.content.consume(used);
            if end.is_some() {
                return Ok(if too_long { Line::TooLong } else { Line::Read });
            }
        }
    }
}

/// What became of reading a line.
enum Line {
    /// There was none.
    End,
    /// It is in memory.
    Read,
    /// It was skipped.
    TooLong,
}

/// Gives a call the agent and the id that it lacks, and writes it on one line.
fn finish(mut call: Map<String, Value>, agent_id: Option<&str>) -> Result<String, String> {
    let absent = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    if let Some(agent_id) = agent_id
        && absent(call.get("agent_id"))
    {
        call.insert("agent_id".to_owned(), Value::from(agent_id));
    }
    if absent(call.get("sid")) {
        let texts = ["agent_id", "to", "from", "started_at"].map(|field| match call.get(field) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        });
        let sid = derived_sid(texts.each_ref().map(String::as_str));
        call.insert("sid".to_owned(), Value::from(sid));
    }
    serde_json::to_string(&call).map_err(|error| error.to_string())
}

/// An id made of what says which call it is: agent, contact, calling number and time, as written.
/// The status is left out: the same call may be exported again with a later one.
fn derived_sid(texts: [&str; 4]) -> String {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.len().to_be_bytes());
        digest.update(text);
    }
    format!("import-{}", hex(&digest.finalize()[..16]))
}

/// A column's name as fields are written.
fn plain(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace([' ', '-'], "_")
}

/// What keeps CSV from being read.
fn unreadable(error: csv::Error) -> RowsError {
    RowsError::Read(io::Error::other(error))
}

/// The longest line that the API takes, in bytes.
const LINE_LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, columns: &[(&str, &str)], agent_id: Option<&str>) -> Vec<Row> {
        let columns: Vec<(String, String)> = columns
            .iter()
            .map(|(field, column)| ((*field).to_owned(), (*column).to_owned()))
            .collect();
        let settings = Settings {
            format: None,
            columns: &columns,
            delimiter: b',',
            agent_id,
        };
        let source = Source::open(Box::new(io::Cursor::new(text.to_owned())), None).unwrap();
        let mut rows = Rows::open(source, &settings).unwrap();
        std::iter::from_fn(|| rows.next_row().unwrap()).collect()
    }

    fn field(row: &Row, name: &str) -> String {
        let call: Value = serde_json::from_str(row.call.as_ref().unwrap()).unwrap();
        call[name].as_str().unwrap_or_default().to_owned()
    }

    #[test]
    fn csv_and_json_of_one_call_get_the_same_id() {
        let csv = rows(
            "\u{feff}To, Agent-Id ,started_at,status\n+12025550142,a,2026-01-31T12:00:00Z,\n",
            &[],
            None,
        );
        let json = rows(
            "\n{\"agent_id\":\"a\",\"to\":\"+12025550142\",\"started_at\":\"2026-01-31T12:00:00Z\",\
             \"status\":\"busy\",\"from\":null}\n",
            &[],
            None,
        );
        assert_eq!((csv.len(), json.len()), (1, 1));
        assert_eq!((csv[0].line, json[0].line), (2, 2));
        assert!(field(&csv[0], "sid").starts_with("import-"));
        assert_eq!(field(&csv[0], "sid"), field(&json[0], "sid"));
        assert_eq!(field(&csv[0], "agent_id"), "a");
    }

    #[test]
    fn own_id_agent_and_columns_are_kept() {
        let rows = rows(
            "dst,uniqueid\n1,x\n2,\n",
            &[("to", "dst"), ("sid", "uniqueid")],
            Some("a"),
        );
        assert_eq!(field(&rows[0], "sid"), "x");
        assert_eq!(field(&rows[0], "to"), "1");
        assert_eq!(field(&rows[1], "agent_id"), "a");
        assert_ne!(field(&rows[1], "sid"), "");
    }

    #[test]
    fn lines_that_are_no_calls_say_why() {
        let long = "x".repeat(LINE_LIMIT + 1);
        let text = format!("{{\"to\":\"1\"}}\n[1]\n{{\n\n{long}\n{{\"to\":\"2\"}}");
        let rows = rows(&text, &[], None);
        let lines: Vec<(u64, bool)> = rows
            .iter()
            .map(|row| (row.line, row.call.is_ok()))
            .collect();
        assert_eq!(
            lines,
            [(1, true), (2, false), (3, false), (5, false), (6, true)]
        );
    }

    #[test]
    fn header_without_the_needed_column_is_refused() {
        let settings = Settings {
            format: None,
            columns: &[],
            delimiter: b',',
            agent_id: None,
        };
        let source = Source::open(Box::new(io::Cursor::new("agent_id,dst\n")), None).unwrap();
        let error = Rows::open(source, &settings).err().unwrap().to_string();
        assert!(error.contains("`to`") && error.contains("dst"), "{error}");
        let source = Source::open(Box::new(io::Cursor::new("\n")), None).unwrap();
        assert!(matches!(
            Rows::open(source, &settings),
            Err(RowsError::Empty)
        ));
    }
}
