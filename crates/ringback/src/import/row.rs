//! Rows of a file as lines of a batch: separated values or newline-delimited JSON in, JSON objects out.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, BufRead, Read as _};

use encoding_rs::Encoding;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Format;
use super::known::Environment;
use super::position::hex;
use super::preset::{
    Cells, Column, Direction, Preset, compact, direction_named, is_compacted, is_extension,
    is_number, user_part,
};
use super::source::{Source, SourceError, Text};
use super::table::{LONGEST_RECORD, MOST_FIELDS, Record, Table, delimiter_of};
use super::time::Times;
use crate::client::ClientError;

/// How rows are read.
pub(crate) struct Settings<'a> {
    /// The format; `None`: by the first character.
    pub(crate) format: Option<Format>,
    /// The system that wrote the file.
    pub(crate) preset: Option<Preset>,
    /// Whether the first row is a call already.
    pub(crate) no_header: bool,
    /// The CSV column that holds a field: its name, or its number from 1.
    pub(crate) columns: &'a [(Column, String)],
    /// What separates CSV columns; `None`: by the first line.
    pub(crate) delimiter: Option<u8>,
    /// How characters are encoded; `None`: UTF-8, or UTF-16 where that shows.
    pub(crate) encoding: Option<&'static Encoding>,
    /// The agent of rows that name none.
    pub(crate) agent_id: Option<&'a str>,
    /// Whether a call without a start started now.
    pub(crate) started_now: bool,
    /// Reads the times at which calls started.
    pub(crate) times: Times,
}

/// The fields of a call.
pub(crate) const FIELDS: [&str; 6] = ["agent_id", "to", "from", "status", "started_at", "sid"];

/// The columns that can be named.
pub(crate) const NAMED: [Column; 7] = [
    Column::Agent,
    Column::To,
    Column::From,
    Column::Status,
    Column::StartedAt,
    Column::Sid,
    Column::Direction,
];

/// Why rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowsError {
    /// The bytes do not come, or are no text.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The CSV header lacks a column without which no row is a call.
    #[error("the CSV header has no column `{column}`; it has {header}{hint}")]
    Column {
        /// The missing column.
        column: String,
        /// The columns that are there.
        header: String,
        /// What may help.
        hint: &'static str,
    },
    /// Without a header, columns have to be numbered.
    #[error("without a header, say which column holds `{0}`: --column {0}=NUMBER")]
    Unnumbered(&'static str),
    /// The first row cannot be a header.
    #[error(
        "the CSV header is longer than {LONGEST_RECORD} bytes or {MOST_FIELDS} columns, or a quote in it is not closed"
    )]
    Header,
    /// The rows do not say when the calls were placed.
    #[error(
        "the file has no column `started_at`, and calls count by when they were placed: name the column \
         with --column started_at=COLUMN, or give --started-now if they are being placed now"
    )]
    NoStart,
    /// The file is one JSON array.
    #[error("the file is a JSON array; write one object on each line, as `jq -c '.[]'` does")]
    Array,
    /// There is nothing in the file, not even a header.
    #[error("the file is empty")]
    Empty,
    /// The server does not tell which agents and numbers there are.
    #[error(transparent)]
    Server(#[from] ClientError),
}

impl From<io::Error> for RowsError {
    fn from(error: io::Error) -> Self {
        Self::Source(SourceError::Read(error))
    }
}

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The line of the file on which it starts, from 1.
    pub(crate) line: u64,
    /// A call, a call that is skipped, or a fault.
    pub(crate) content: RowContent,
}

/// What a row is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RowContent {
    /// An outbound call, as a JSON object on one line.
    Call(String),
    /// A call that did not go out: not to be recorded.
    Skipped(Direction),
    /// Something that keeps it from being a call.
    Fault(Fault),
}

/// What keeps a row from being a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The field; empty: the row as a whole.
    pub(crate) field: &'static str,
    /// What stands there, shortened.
    pub(crate) value: String,
    /// What is wrong with it.
    pub(crate) reason: String,
}

impl Fault {
    /// This value of a field cannot be used.
    pub(crate) fn new(field: &'static str, value: &str, reason: impl Into<String>) -> Self {
        let mut value = value.to_owned();
        if let Some((end, _)) = value.char_indices().nth(LONGEST_VALUE) {
            value.truncate(end);
            value.push('…');
        }
        Self {
            field,
            value,
            reason: reason.into(),
        }
    }
}

/// The rows of a file.
pub(crate) struct Rows<'a> {
    /// Reads rows off the file.
    reader: Reader,
    /// Turns rows into calls.
    converter: Converter<'a>,
}

/// Reads rows off a file of one format.
enum Reader {
    /// Of separated values.
    Csv(Box<CsvRows>),
    /// Of newline-delimited JSON.
    Ndjson(NdjsonRows),
}

impl<'a> Rows<'a> {
    /// Recognizes the format and reads the header, if there is one.
    pub(crate) fn open(
        source: Source,
        settings: &Settings<'a>,
        environment: Environment<'a>,
    ) -> Result<Self, RowsError> {
        let text = source.into_text(settings.encoding)?;
        let first = text.head.iter().find(|byte| !byte.is_ascii_whitespace());
        let format = match (settings.format, first) {
            (_, None) => return Err(RowsError::Empty),
            (Some(format), _) => format,
            (None, Some(b'{')) => Format::Ndjson,
            (None, Some(b'[')) => return Err(RowsError::Array),
            (None, Some(_)) => Format::Csv,
        };
        let reader = match format {
            Format::Csv => Reader::Csv(Box::new(CsvRows::open(text, settings)?)),
            Format::Ndjson => Reader::Ndjson(NdjsonRows::new(text.content, settings)),
        };
        let converter = Converter {
            preset: settings.preset,
            environment,
            agent_id: settings.agent_id.map(str::to_owned),
            started_now: settings.started_now,
            times: settings.times.clone(),
            recent: Recent::default(),
        };
        Ok(Self { reader, converter })
    }

    /// The next row.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row>, RowsError> {
        match &mut self.reader {
            Reader::Csv(rows) => rows.next_row(&mut self.converter),
            Reader::Ndjson(rows) => rows.next_row(&mut self.converter),
        }
    }
}

/// The rows of separated values.
struct CsvRows {
    /// Reads records.
    table: Table,
    /// Where columns stand.
    indexes: ColumnIndexes,
    /// How many columns the header has.
    width: usize,
    /// A record that has been read already.
    pending: Option<Record>,
}

/// Where columns stand.
enum ColumnIndexes {
    /// At these indexes.
    Fixed(Vec<(Column, usize)>),
    /// Where a layout of the preset says, but for those that were named.
    Layouts {
        /// The preset.
        preset: Preset,
        /// The layout that the last row had.
        last: usize,
        /// The columns that were named.
        named: Vec<(Column, usize)>,
    },
}

impl CsvRows {
    /// Reads the header.
    fn open(text: Text, settings: &Settings<'_>) -> Result<Self, RowsError> {
        let (delimiter, skipped) = match separator_line(&text.head) {
            Some((delimiter, length)) => (settings.delimiter.unwrap_or(delimiter), length),
            None => {
                let found = || delimiter_of(&text.head);
                (settings.delimiter.unwrap_or_else(found), 0)
            }
        };
        let mut content = text.content;
        io::copy(&mut content.by_ref().take(skipped), &mut io::sink())?;
        let mut rows = Self {
            table: Table::new(content, delimiter, u64::from(skipped > 0)),
            indexes: ColumnIndexes::Fixed(Vec::new()),
            width: 0,
            pending: None,
        };
        let first = rows.table.read()?.ok_or(RowsError::Empty)?;
        let Record::Whole { .. } = first else {
            return Err(RowsError::Header);
        };
        let header: Vec<String> = rows
            .table
            .fields()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        let is_header = !settings.no_header
            && settings.preset.is_none_or(|preset| {
                let is_there = |column| {
                    let names = preset.names(column);
                    header
                        .iter()
                        .any(|name| names.contains(&compact(name).as_str()))
                };
                is_there(Column::To) && (is_there(Column::StartedAt) || is_there(Column::Status))
            });
        if is_header {
            rows.width = header.len();
            rows.indexes = ColumnIndexes::Fixed(named_indexes(&header, settings)?);
        } else {
            rows.indexes = numbered_indexes(settings)?;
            rows.pending = Some(first);
        }
        Ok(rows)
    }

    /// The next row.
    fn next_row(&mut self, converter: &mut Converter<'_>) -> Result<Option<Row>, RowsError> {
        let record = match self.pending.take() {
            Some(record) => record,
            None => match self.table.read()? {
                Some(record) => record,
                None => return Ok(None),
            },
        };
        let (line, fault) = match record {
            Record::Whole { line, is_unended } => {
                let count = self.table.len();
                let is_cut_off = is_unended && count < self.width;
                let reason = || {
                    format!(
                        "the file ends within this row: it has {count} of {} columns",
                        self.width
                    )
                };
                (line, is_cut_off.then(reason))
            }
            Record::TooLong { line, last_line } if last_line > line => {
                let reason = format!(
                    "a quoted field is not closed by line {last_line}; lines {line} to {last_line} are left out"
                );
                (line, Some(reason))
            }
            Record::TooLong { line, .. } => {
                let reason = format!(
                    "the row is longer than {LONGEST_RECORD} bytes or {MOST_FIELDS} columns"
                );
                (line, Some(reason))
            }
            Record::CutOff { line, last_line } if last_line > line => {
                let reason = format!(
                    "a quoted field is not closed by the end of the file; lines {line} to {last_line} are left out"
                );
                (line, Some(reason))
            }
            Record::CutOff { line, .. } => {
                let reason = "the file ends within a quoted field of this row".to_owned();
                (line, Some(reason))
            }
        };
        let content = match fault {
            Some(reason) => RowContent::Fault(Fault::new("", "", reason)),
            None => match self.cells(converter) {
                Ok(cells) => converter.convert(&cells)?,
                Err(fault) => RowContent::Fault(fault),
            },
        };
        Ok(Some(Row { line, content }))
    }

    /// The cells of the record.
    fn cells(&mut self, converter: &Converter<'_>) -> Result<Cells<'_>, Fault> {
        let indexes: &[(Column, usize)] = match &mut self.indexes {
            ColumnIndexes::Fixed(indexes) => indexes,
            ColumnIndexes::Layouts {
                preset,
                last,
                named,
            } => {
                let layouts = preset.layouts();
                let fits = |index: &usize| {
                    layouts.get(*index).is_some_and(|layout| {
                        layout.least <= self.table.len()
                            && layout.indexes.iter().all(|(column, index)| {
                                *column != Column::StartedAt
                                    || cell(&self.table, *index)
                                        .is_ok_and(|text| converter.times.read(text).is_some())
                            })
                    })
                };
                if !fits(last) {
                    *last = (0..layouts.len()).find(fits).unwrap_or(*last);
                }
                let layout = layouts.get(*last);
                let least = layout.map_or(0, |layout| layout.least);
                if self.table.len() < least && named.is_empty() {
                    let reason = format!(
                        "the row has {} columns, not at least {least}",
                        self.table.len()
                    );
                    return Err(Fault::new("", "", reason));
                }
                let indexes = layout.map_or(&[][..], |layout| layout.indexes);
                let mut cells = Cells::default();
                add(&self.table, named, &mut cells, |_| true)?;
                let is_named = |column| named.iter().any(|(named, _)| *named == column);
                add(&self.table, indexes, &mut cells, |column| !is_named(column))?;
                return Ok(cells);
            }
        };
        let mut cells = Cells::default();
        add(&self.table, indexes, &mut cells, |_| true)?;
        Ok(cells)
    }
}

/// Adds the cells at these indexes.
fn add<'a>(
    table: &'a Table,
    indexes: &[(Column, usize)],
    cells: &mut Cells<'a>,
    counts: impl Fn(Column) -> bool,
) -> Result<(), Fault> {
    for (column, index) in indexes.iter().filter(|(column, _)| counts(*column)) {
        match cell(table, *index) {
            Ok("\\N" | "NULL") => {}
            Ok(text) => cells.add(*column, text),
            Err(bytes) if NAMED.contains(column) => {
                let value = bytes.escape_ascii().to_string();
                let reason = "it is not UTF-8; name the file's encoding with --encoding";
                return Err(Fault::new(column.field(), &value, reason));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// A cell of a record; empty where it has none. The bytes, if they are not UTF-8.
fn cell(table: &Table, index: usize) -> Result<&str, &[u8]> {
    let bytes = table.field(index).unwrap_or_default();
    std::str::from_utf8(bytes).map_err(|_| bytes)
}

/// The character that the first line names, as Excel writes it (`sep=;`), and how long that line is.
fn separator_line(head: &[u8]) -> Option<(u8, u64)> {
    let rest = head
        .strip_prefix(b"sep=")
        .or_else(|| head.strip_prefix(b"SEP="))?;
    let (delimiter, rest) = rest.split_first()?;
    let length = match rest {
        [b'\r', b'\n', ..] => 7,
        [b'\n' | b'\r', ..] => 6,
        _ => return None,
    };
    Some((*delimiter, length))
}

/// Where the columns stand below this header.
fn named_indexes(
    header: &[String],
    settings: &Settings<'_>,
) -> Result<Vec<(Column, usize)>, RowsError> {
    let compacted: Vec<String> = header.iter().map(|name| compact(name)).collect();
    let missing = |column: &str| RowsError::Column {
        column: column.to_owned(),
        header: summary(header),
        hint: if settings.preset.is_some() || settings.no_header {
            ""
        } else {
            HEADER_HINT
        },
    };
    let mut indexes = Vec::new();
    for column in Column::ALL {
        let chosen: Vec<&String> = settings
            .columns
            .iter()
            .filter(|(named, _)| *named == column)
            .map(|(_, name)| name)
            .collect();
        if chosen.is_empty() {
            let own = [compact(column.field())];
            let own = own
                .iter()
                .map(String::as_str)
                .filter(|_| NAMED.contains(&column));
            let names: Vec<&str> = match settings.preset {
                Some(preset) => preset.names(column).to_vec(),
                None => own.collect(),
            };
            for name in names {
                indexes.extend(
                    compacted
                        .iter()
                        .position(|known| known == name)
                        .map(|index| (column, index)),
                );
            }
            continue;
        }
        for name in chosen {
            let index = header
                .iter()
                .position(|known| known == name)
                .or_else(|| numbered(name).filter(|index| *index < header.len()))
                .ok_or_else(|| missing(name))?;
            indexes.push((column, index));
        }
    }
    let has = |column| indexes.iter().any(|(known, _)| *known == column);
    if !has(Column::To) {
        return Err(missing("to"));
    }
    if !has(Column::Agent) && !has(Column::From) && settings.agent_id.is_none() {
        return Err(missing("agent_id"));
    }
    if !has(Column::StartedAt) && !settings.started_now {
        return Err(RowsError::NoStart);
    }
    Ok(indexes)
}

/// Where the columns stand without a header.
fn numbered_indexes(settings: &Settings<'_>) -> Result<ColumnIndexes, RowsError> {
    let mut named = Vec::new();
    for (column, name) in settings.columns {
        let index = numbered(name).ok_or(RowsError::Unnumbered(column.field()))?;
        named.push((*column, index));
    }
    match settings.preset {
        Some(preset) if !preset.layouts().is_empty() => Ok(ColumnIndexes::Layouts {
            preset,
            last: 0,
            named,
        }),
        _ => {
            let has = |column| named.iter().any(|(known, _)| *known == column);
            if !has(Column::To) {
                return Err(RowsError::Unnumbered("to"));
            }
            if !has(Column::StartedAt) && !settings.started_now {
                return Err(RowsError::NoStart);
            }
            Ok(ColumnIndexes::Fixed(named))
        }
    }
}

/// The index that a number from 1 stands for.
fn numbered(name: &str) -> Option<usize> {
    name.parse::<usize>().ok()?.checked_sub(1)
}

/// The names in a header, shortened.
fn summary(header: &[String]) -> String {
    let mut names: Vec<Cow<'_, str>> = header
        .iter()
        .take(NAMES_SHOWN)
        .map(|name| match name.char_indices().nth(NAME_SHOWN) {
            Some((end, _)) => Cow::Owned(format!("{}…", name.get(..end).unwrap_or_default())),
            None => Cow::Borrowed(name.as_str()),
        })
        .collect();
    if header.len() > NAMES_SHOWN {
        names.push(Cow::Owned(format!(
            "and {} more",
            header.len() - NAMES_SHOWN
        )));
    }
    names.join(", ")
}

/// The rows of newline-delimited JSON.
struct NdjsonRows {
    /// The lines.
    content: Box<dyn BufRead + Send>,
    /// The number of the line read last, from 1.
    line: u64,
    /// The line read last, kept for its memory.
    bytes: Vec<u8>,
    /// The keys that hold a column.
    keys: Vec<(Column, String)>,
}

impl NdjsonRows {
    /// The rows of a text.
    fn new(content: Box<dyn BufRead + Send>, settings: &Settings<'_>) -> Self {
        let mut keys = Vec::new();
        for column in Column::ALL {
            let chosen = || {
                let named = settings.columns.iter();
                named.filter(move |(named, _)| *named == column)
            };
            if chosen().next().is_some() {
                keys.extend(chosen().map(|(_, name)| (column, compact(name))));
            } else if let Some(preset) = settings.preset {
                let names = preset.names(column).iter();
                keys.extend(names.map(|name| (column, (*name).to_owned())));
            } else if NAMED.contains(&column) {
                keys.push((column, compact(column.field())));
            }
        }
        Self {
            content,
            line: 0,
            bytes: Vec::new(),
            keys,
        }
    }

    /// The next row; blank lines are none.
    fn next_row(&mut self, converter: &mut Converter<'_>) -> Result<Option<Row>, RowsError> {
        loop {
            let too_long = match self.read_line()? {
                Line::End => return Ok(None),
                Line::Read => false,
                Line::TooLong => true,
            };
            self.line += 1;
            if self.bytes.trim_ascii().is_empty() && !too_long {
                continue;
            }
            let content = if too_long {
                let reason = format!("the line is longer than {LONGEST_RECORD} bytes");
                RowContent::Fault(Fault::new("", "", reason))
            } else {
                match self.values() {
                    Ok(values) => {
                        let mut cells = Cells::default();
                        for (column, value) in &values {
                            cells.add(*column, value);
                        }
                        converter.convert(&cells)?
                    }
                    Err(fault) => RowContent::Fault(fault),
                }
            };
            return Ok(Some(Row {
                line: self.line,
                content,
            }));
        }
    }

    /// What the object on the line says.
    fn values(&self) -> Result<Vec<(Column, String)>, Fault> {
        let shown = || String::from_utf8_lossy(self.bytes.trim_ascii()).into_owned();
        let object = match serde_json::from_slice(&self.bytes) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(Fault::new("", &shown(), "the line is not a JSON object")),
            Err(error) => {
                let reason = format!("the line is not JSON: {error}");
                return Err(Fault::new("", &shown(), reason));
            }
        };
        let mut values = Vec::new();
        for (column, key) in &self.keys {
            let text = match find(&object, key) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text.trim().to_owned(),
                // A fraction may have been rounded when it was read, so only a time may be one.
                Some(Value::Number(number)) if number.is_u64() || *column == Column::StartedAt => {
                    number.to_string()
                }
                Some(other) => {
                    let reason = "it must be a string";
                    return Err(Fault::new(column.field(), &other.to_string(), reason));
                }
            };
            values.push((*column, text));
        }
        Ok(values)
    }

    /// Reads a line into memory, unless it is too long.
    fn read_line(&mut self) -> io::Result<Line> {
        self.bytes.clear();
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
            let part = available.get(..end.unwrap_or(available.len()));
            let part = part.unwrap_or_default();
            too_long |= self.bytes.len() + part.len() > LONGEST_RECORD;
            if !too_long {
                self.bytes.extend_from_slice(part);
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

/// The value of a key, of the last where it is repeated; a dot steps into an object, or into the first of a list.
fn find<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let (first, rest) = match key.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (key, None),
    };
    let value = object
        .iter()
        .find(|(name, _)| is_compacted(name, first))
        .map(|(_, value)| value)?;
    let Some(rest) = rest else {
        return Some(value);
    };
    let inner = match value {
        Value::Array(items) => items.first()?,
        other => other,
    };
    find(inner.as_object()?, rest)
}

/// Makes calls of rows.
struct Converter<'a> {
    /// The system that wrote them.
    preset: Option<Preset>,
    /// What they refer to.
    environment: Environment<'a>,
    /// The agent of rows that name none.
    agent_id: Option<String>,
    /// Whether a call without a start started now.
    started_now: bool,
    /// Reads the times at which calls started.
    times: Times,
    /// The calls whose ids came last.
    recent: Recent,
}

impl Converter<'_> {
    /// What a row with these cells is.
    fn convert(&mut self, cells: &Cells<'_>) -> Result<RowContent, RowsError> {
        let direction = match self.preset {
            Some(preset) => preset.direction(cells, &self.environment)?,
            None => match cells.get(Column::Direction) {
                "" => Direction::Outbound,
                word => match direction_named(word) {
                    Some(direction) => direction,
                    None => {
                        let reason = "it is neither outbound nor inbound nor internal";
                        return Ok(RowContent::Fault(Fault::new("direction", word, reason)));
                    }
                },
            },
        };
        if direction != Direction::Outbound {
            return Ok(RowContent::Skipped(direction));
        }
        let from = self.calling_number(cells)?;
        let agent = match self.agent(cells, from)? {
            Ok(agent) => agent,
            Err(fault) => return Ok(RowContent::Fault(fault)),
        };
        let to = match self.preset {
            Some(preset) => Cow::Owned(preset.to(cells)),
            None => Cow::Borrowed(cells.get(Column::To)),
        };
        if to.is_empty() {
            return Ok(RowContent::Fault(Fault::new("to", "", "it is empty")));
        }
        let status = match self.preset {
            Some(preset) => preset.status(cells),
            None => cells.get(Column::Status),
        };
        let written = cells.get(Column::StartedAt);
        let started_at = match self.times.read(written) {
            Some(time) => time.to_string(),
            None if written.is_empty() && self.started_now => String::new(),
            None => {
                let reason = if written.is_empty() {
                    "it is empty; --started-now would count the call as placed now"
                } else {
                    "it is not a time in a known form; --time-format names another"
                };
                return Ok(RowContent::Fault(Fault::new("started_at", written, reason)));
            }
        };
        let sid = cells.get(Column::Sid);
        let sid = match self.preset {
            Some(preset) if preset.is_sid(sid) => self.recent.distinct(sid, &to, &started_at),
            Some(_) => Cow::Borrowed(""),
            None => Cow::Borrowed(sid),
        };
        let sid = if sid.is_empty() {
            let from = cells.get(Column::From);
            Cow::Owned(derived_sid([&agent, &to, from, written]))
        } else {
            sid
        };
        Ok(RowContent::Call(line([
            &agent,
            &to,
            from,
            status,
            &started_at,
            &sid,
        ])))
    }

    /// The calling number; empty where there is none that a contact could see.
    fn calling_number<'c>(&self, cells: &Cells<'c>) -> Result<&'c str, ClientError> {
        if self.preset.is_some() {
            let number = cells.all(Column::From).find(|text| is_number(text));
            return Ok(number.map(user_part).unwrap_or_default());
        }
        let from = cells.get(Column::From);
        // Six digits may be a whole number in a small country: then it is one of ours.
        if is_extension(from) && !(from.len() > 5 && self.environment.owns(from)?) {
            return Ok("");
        }
        Ok(from)
    }

    /// The agent that called.
    fn agent(&self, cells: &Cells<'_>, from: &str) -> Result<Result<String, Fault>, ClientError> {
        for name in cells.all(Column::Agent) {
            if name.parse::<Uuid>().is_ok() {
                return Ok(Ok(name.to_owned()));
            }
            if let Some(id) = self.environment.agent_named(name)? {
                return Ok(Ok(id.to_owned()));
            }
        }
        let named = cells.get(Column::Agent);
        if self.preset.is_none() && !named.is_empty() {
            let reason = "it is no agent's id, nor the name of one agent alone";
            return Ok(Err(Fault::new("agent_id", named, reason)));
        }
        if let Some(id) = &self.agent_id {
            return Ok(Ok(id.clone()));
        }
        if !from.is_empty()
            && let Some(id) = self.environment.caller(user_part(from))?
        {
            return Ok(Ok(id.to_owned()));
        }
        let reason = "the row names no agent, and no outbound agent alone owns its calling number; \
                      --agent-id names the agent of such rows";
        Ok(Err(Fault::new("from", from, reason)))
    }
}

/// The calls whose ids came last, of a system that gives several calls one id: an Asterisk channel that dials
/// again goes on with its id.
#[derive(Default)]
struct Recent {
    /// Ids and what says which call it was, hashed; the oldest first.
    calls: VecDeque<(u64, u64)>,
}

impl Recent {
    /// The id of a call; another one, if the same id came with another contact or start before.
    fn distinct<'c>(&mut self, sid: &'c str, to: &str, started_at: &str) -> Cow<'c, str> {
        let (id, call) = (short_hash(&[sid]), short_hash(&[to, started_at]));
        let first = self.calls.iter().find(|(known, _)| *known == id);
        match first {
            Some((_, known)) if *known != call => Cow::Owned(format!("{sid}-{call:016x}")),
            Some(_) => Cow::Borrowed(sid),
            None => {
                if self.calls.len() >= RECENT_CALLS {
                    self.calls.pop_front();
                }
                self.calls.push_back((id, call));
                Cow::Borrowed(sid)
            }
        }
    }
}

/// A hash of texts, the same on every machine.
fn short_hash(texts: &[&str]) -> u64 {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.len().to_be_bytes());
        digest.update(text);
    }
    digest
        .finalize()
        .iter()
        .take(8)
        .fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

/// A call as a JSON object on one line; empty fields are left out.
fn line(values: [&str; FIELDS.len()]) -> String {
    // Written as it is read, without a map in between: there may be a hundred million rows.
    let mut call = String::with_capacity(256);
    for (field, value) in FIELDS.iter().zip(values) {
        if value.is_empty() {
            continue;
        }
        call.push(if call.is_empty() { '{' } else { ',' });
        call.push('"');
        call.push_str(field);
        call.push_str("\":");
        write_json(&mut call, value);
    }
    call.push('}');
    call
}

/// Writes a JSON string (RFC 8259 §7).
fn write_json(text: &mut String, value: &str) {
    use std::fmt::Write as _;
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\0'..='\u{1f}' => {
                let _infallible = write!(text, "\\u{:04x}", u32::from(character));
            }
            _ => text.push(character),
        }
    }
    text.push('"');
}

/// An id made of what says which call it is: agent, contact, calling number and time, as written.
/// The status is left out: the same call may be exported again with a later one.
fn derived_sid(texts: [&str; 4]) -> String {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.len().to_be_bytes());
        digest.update(text);
    }
    let hash = digest.finalize();
    format!("import-{}", hex(hash.get(..16).unwrap_or_default()))
}

/// What may be wrong where a header lacks a column.
const HEADER_HINT: &str =
    "; name columns with --column, and files without a header with --preset or --no-header";

/// How much of a wrong value is kept, in characters.
const LONGEST_VALUE: usize = 200;

/// How many names of a header are shown.
const NAMES_SHOWN: usize = 40;

/// How much of each is shown, in characters.
const NAME_SHOWN: usize = 40;

/// How many call ids are remembered: more than calls that are under way at once in a large system.
const RECENT_CALLS: usize = 1_024;

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::super::known::samples::{self, agent, numbers};
    use super::*;

    /// The settings of most files.
    fn plain<'a>() -> Settings<'a> {
        Settings {
            format: None,
            preset: None,
            no_header: false,
            columns: &[],
            delimiter: None,
            encoding: None,
            agent_id: None,
            started_now: false,
            times: Times::new(TimeZone::UTC, None),
        }
    }

    /// One outbound agent, Sales with the first id, who calls from one number; another number is an inbound agent's.
    fn environment<'a>() -> Environment<'a> {
        use ringback_routing::Direction::{Inbound, Outbound};
        Environment::of(
            &[
                agent(1, "Sales", "Campaign", Outbound, &["+12025550100"]),
                agent(2, "Desk", "Desk", Inbound, &["+12025550101"]),
            ],
            &numbers(["+12025550100", "+12025550101"]),
        )
    }

    fn open(text: impl AsRef<[u8]>, settings: &Settings<'static>) -> Result<Vec<Row>, RowsError> {
        let bytes = io::Cursor::new(text.as_ref().to_vec());
        let source = Source::open(Box::new(bytes), None).unwrap();
        let mut rows = Rows::open(source, settings, environment())?;
        Ok(std::iter::from_fn(|| rows.next_row().unwrap()).collect())
    }

    fn read(text: impl AsRef<[u8]>, settings: &Settings<'static>) -> Vec<Row> {
        open(text, settings).unwrap()
    }

    fn preset(preset: Preset) -> Settings<'static> {
        Settings {
            preset: Some(preset),
            ..plain()
        }
    }

    fn refused(text: impl AsRef<[u8]>, settings: &Settings<'static>) -> String {
        open(text, settings).err().unwrap().to_string()
    }

    /// A row in short: the call without its id, or what else it is.
    fn brief(row: &Row) -> String {
        match &row.content {
            RowContent::Call(call) => {
                let call: Value = serde_json::from_str(call).unwrap();
                let field = |name: &str| call[name].as_str().unwrap_or("-").to_owned();
                let brief = ["agent_id", "to", "from", "status", "started_at"].map(field);
                // The sample agents are told by their numbers.
                brief.join(" ").replacen(&samples::id(1), "1", 1)
            }
            RowContent::Skipped(direction) => format!("{direction:?}"),
            RowContent::Fault(fault) => {
                format!("{} `{}` {}", fault.field, fault.value, fault.reason)
            }
        }
    }

    fn briefs(rows: &[Row]) -> Vec<String> {
        rows.iter().map(brief).collect()
    }

    fn sid(row: &Row) -> String {
        let RowContent::Call(call) = &row.content else {
            panic!("{row:?} is no call");
        };
        let call: Value = serde_json::from_str(call).unwrap();
        call["sid"].as_str().unwrap().to_owned()
    }

    #[test]
    fn csv_and_json_of_one_call_get_the_same_id() {
        let csv = read(
            "\u{feff}To, Agent-Id ,started_at,status\n+12025550142,Sales,2026-01-31T12:00:00Z,\n",
            &plain(),
        );
        let json = read(
            "\n{\"agent_id\":\"Sales\",\"to\":\"+12025550142\",\"started_at\":\"2026-01-31T12:00:00Z\",\
             \"status\":\"busy\",\"from\":null}\n",
            &plain(),
        );
        assert_eq!((csv.len(), json.len()), (1, 1));
        assert_eq!((csv[0].line, json[0].line), (2, 2));
        assert!(sid(&csv[0]).starts_with("import-"));
        assert_eq!(sid(&csv[0]), sid(&json[0]));
        assert_eq!(brief(&csv[0]), "1 +12025550142 - - 2026-01-31T12:00:00Z");
        assert_eq!(
            brief(&json[0]),
            "1 +12025550142 - busy 2026-01-31T12:00:00Z"
        );
    }

    #[test]
    fn columns_are_found_by_name_or_number_and_the_separator_by_the_first_line() {
        let columns: &[_] = &[
            (Column::To, "dst".to_owned()),
            (Column::Sid, "2".to_owned()),
            (Column::StartedAt, "when".to_owned()),
        ];
        let settings = Settings {
            columns: Box::leak(columns.to_vec().into_boxed_slice()),
            agent_id: Some("a"),
            ..plain()
        };
        for separator in [",", ";", "\t", "|"] {
            let text = "dst,uniqueid,when\r\n12025550142,x,1793534400\r\n".replace(',', separator);
            let rows = read(&text, &settings);
            assert_eq!(briefs(&rows), ["a 12025550142 - - 2026-11-01T12:00:00Z"]);
            assert_eq!(sid(&rows[0]), "x");
        }
        let rows = read(
            "sep=|\r\ndst|uniqueid|when\r\n1,2|x|1793534400\r\n",
            &settings,
        );
        assert_eq!(briefs(&rows), ["a 1,2 - - 2026-11-01T12:00:00Z"]);
        assert_eq!(rows[0].line, 3);
        let numbered: &[_] = &[
            (Column::To, "1".to_owned()),
            (Column::StartedAt, "3".to_owned()),
        ];
        let settings = Settings {
            columns: Box::leak(numbered.to_vec().into_boxed_slice()),
            no_header: true,
            ..settings
        };
        let rows = read("12025550142,x,1793534400\n", &settings);
        assert_eq!(briefs(&rows), ["a 12025550142 - - 2026-11-01T12:00:00Z"]);
    }

    #[test]
    fn utf_16_and_named_encodings_are_read() {
        let text = "to;agent_id;started_at;name\n+12025550142;Sales;2026-11-01 12:00;José\n";
        let expected = ["1 +12025550142 - - 2026-11-01T12:00:00Z"];
        let utf_16: Vec<u8> = format!("\u{feff}{text}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(briefs(&read(utf_16, &plain())), expected);
        let (latin, ..) = encoding_rs::WINDOWS_1252.encode(text);
        assert_eq!(
            briefs(&read(&latin, &plain())),
            expected,
            "no field is concerned"
        );
        let (latin, ..) =
            encoding_rs::WINDOWS_1252.encode("to,agent_id,started_at\n1,José,1793534400\n");
        assert_eq!(
            briefs(&read(&latin, &plain())),
            ["agent_id `Jos\\xe9` it is not UTF-8; name the file's encoding with --encoding"]
        );
    }

    #[test]
    fn a_start_is_asked_for() {
        // A file without starts used to count as called now, without a word.
        let error = refused("agent_id,to\nSales,+12025550142\n", &plain());
        assert!(error.contains("--started-now"), "{error}");
        let now = Settings {
            started_now: true,
            ..plain()
        };
        assert_eq!(
            briefs(&read("agent_id,to\nSales,+12025550142\n", &now)),
            ["1 +12025550142 - - -"]
        );
        let line = "{\"agent_id\":\"Sales\",\"to\":\"+12025550142\"}\n";
        assert!(brief(&read(line, &plain())[0]).contains("--started-now"));
        assert_eq!(briefs(&read(line, &now)), ["1 +12025550142 - - -"]);
        let wrong = "agent_id,to,started_at\nSales,+12025550142,11/01/2026 12:00\n";
        for settings in [&plain(), &now] {
            let told = brief(&read(wrong, settings)[0]);
            assert!(told.starts_with("started_at `11/01/2026 12:00` "), "{told}");
        }
    }

    #[test]
    fn the_agent_is_named_given_or_told_by_the_calling_number() {
        let header = "agent_id,to,from,started_at\n";
        let row =
            |agent: &str, from: &str| format!("{header}{agent},+12025550142,{from},1793534400\n");
        let call =
            |agent: &str, from: &str| format!("{agent} +12025550142 {from} - 2026-11-01T12:00:00Z");
        let given = Settings {
            agent_id: Some("9"),
            ..plain()
        };
        let id = "01900000-0000-7000-8000-000000000000";
        for (row, settings, expected) in [
            (row(id, ""), &plain(), call(id, "-")),
            (row("Campaign", ""), &plain(), call("1", "-")),
            (row("", "2025550100"), &plain(), call("1", "2025550100")),
            (row("", "2025550100"), &given, call("9", "2025550100")),
            (row("Sales", ""), &given, call("1", "-")),
        ] {
            assert_eq!(briefs(&read(row, settings)), [expected]);
        }
        let told = brief(&read(row("Nobody", ""), &given)[0]);
        assert!(told.starts_with("agent_id `Nobody` "), "{told}");
        let told = brief(&read(row("", "+12025550101"), &plain())[0]);
        assert!(told.contains("names no agent"), "{told}");
    }

    #[test]
    fn a_calling_number_that_is_an_extension_is_left_out() {
        for from in ["1001", "100", "123456", "sip:1001@pbx", "*1001"] {
            let text =
                format!("agent_id,to,from,started_at\nSales,+12025550142,{from},1793534400\n");
            assert_eq!(
                briefs(&read(text, &plain())),
                ["1 +12025550142 - - 2026-11-01T12:00:00Z"],
                "{from}"
            );
        }
    }

    #[test]
    fn rows_that_did_not_go_out_are_skipped() {
        let text = "agent_id,to,started_at,direction\n\
                    Sales,+12025550142,1793534400,outbound\n\
                    Sales,+12025550142,1793534400,Inbound\n\
                    Sales,+12025550142,1793534400,internal\n\
                    Sales,+12025550142,1793534400,sideways\n";
        assert_eq!(
            briefs(&read(text, &plain())),
            [
                "1 +12025550142 - - 2026-11-01T12:00:00Z",
                "Inbound",
                "Internal",
                "direction `sideways` it is neither outbound nor inbound nor internal"
            ]
        );
    }

    #[test]
    fn rows_that_are_cut_off_are_refused() {
        // Their numbers used to be recorded as far as they went.
        let start = "agent_id,started_at,to,note\nSales,1793534400,+12025550142,x\n";
        for (end, expected) in [
            ("Sales,1793534400,+1202555", "3 of 4 columns".to_owned()),
            (
                "Sales,1793534400,\"+12025",
                "within a quoted field".to_owned(),
            ),
            (
                "Sales,1793534400,+12025550143,\"a\nb",
                "lines 3 to 4".to_owned(),
            ),
        ] {
            let rows = read(format!("{start}{end}"), &plain());
            assert_eq!(rows.len(), 2);
            assert_eq!(rows[1].line, 3);
            assert!(brief(&rows[1]).contains(&expected), "{}", brief(&rows[1]));
        }
        assert_eq!(
            read(format!("{start}Sales,1793534400,+12025550143,y"), &plain()).len(),
            2
        );
        assert!(matches!(
            read(start, &plain())[0].content,
            RowContent::Call(_)
        ));
    }

    #[test]
    fn lines_that_are_no_calls_say_why() {
        let long = "x".repeat(LONGEST_RECORD + 1);
        let good = |to| format!("{{\"agent_id\":\"Sales\",\"to\":{to},\"started_at\":1793534400}}");
        let deep = "[".repeat(10_000);
        let text = format!(
            "{}\n[1]\n{{\n\n{long}\n{}\n{}\n{}\n{deep}\n",
            good("\"1\""),
            good("12025550142"),
            good("4.93e11"),
            good("[\"1\"]"),
        );
        let rows = read(text, &plain());
        let lines: Vec<(u64, bool)> = rows
            .iter()
            .map(|row| (row.line, matches!(row.content, RowContent::Call(_))))
            .collect();
        assert_eq!(
            lines,
            [
                (1, true),
                (2, false),
                (3, false),
                (5, false),
                (6, true),
                (7, false),
                (8, false),
                (9, false)
            ]
        );
        assert_eq!(brief(&rows[4]), "1 12025550142 - - 2026-11-01T12:00:00Z");
    }

    #[test]
    fn files_that_cannot_be_used_say_what_to_do() {
        let error = refused("agent_id,dst,started_at\n", &plain());
        assert!(error.contains("`to`") && error.contains("dst"), "{error}");
        assert!(error.contains("--preset"), "{error}");
        assert!(matches!(open("\n", &plain()), Err(RowsError::Empty)));
        assert!(matches!(open("", &plain()), Err(RowsError::Empty)));
        let error = refused("[{\"to\":\"1\"}]", &plain());
        assert!(error.contains("one object on each line"), "{error}");
        let error = refused(",".repeat(1 << 20), &plain());
        assert!(error.contains("1024 columns"), "{error}");
        let many: Vec<String> = (0..1_000).map(|index| format!("column{index}")).collect();
        let error = refused(many.join(","), &plain());
        assert!(
            error.contains("and 960 more") && error.len() < 2_000,
            "{error}"
        );
    }

    #[test]
    fn asterisk_writes_its_records_in_these_ways() {
        let row = |src: &str, dst: &str, context: &str, disposition: &str, uniqueid: &str| {
            format!(
                "\"Sales\",\"{src}\",\"{dst}\",\"{context}\",\"\"\"Ann\"\" <{src}>\",\"PJSIP/1001-00000001\",\
                 \"PJSIP/trunk-00000002\",\"Dial\",\"PJSIP/{dst}@trunk,30\",\"2026-11-01 12:00:00\",\
                 \"2026-11-01 12:00:05\",\"2026-11-01 12:01:00\",60,55,\"{disposition}\",\"DOCUMENTATION\",\
                 \"{uniqueid}\",\"\"\n"
            )
        };
        let text = [
            row(
                "1001",
                "12025550142",
                "from-internal",
                "ANSWERED",
                "1793534400.1",
            ),
            row(
                "2025550100",
                "12025550143",
                "from-internal",
                "NO ANSWER",
                "1793534400.2",
            ),
            row("1001", "1002", "from-internal", "ANSWERED", "1793534400.3"),
            row(
                "12025550142",
                "2025550101",
                "from-trunk",
                "ANSWERED",
                "1793534400.4",
            ),
        ]
        .concat();
        let outbound = [
            "1 12025550142 - ANSWERED 2026-11-01T12:00:00Z",
            "1 12025550143 2025550100 NO ANSWER 2026-11-01T12:00:00Z",
        ];
        let rows = read(&text, &preset(Preset::Asterisk));
        assert_eq!(briefs(&rows)[..2], outbound);
        assert_eq!(briefs(&rows)[2..], ["Internal", "Inbound"]);
        assert_eq!(sid(&rows[0]), "1793534400.1");
        assert_eq!(rows[0].line, 1);

        // cdr_custom's sample begins with clid and ends with accountcode, uniqueid, userfield, sequence.
        let custom = "\"\"\"Ann\"\" <+12025550100>\",\"1001\",\"12025550142\",\"from-internal\",\
             \"PJSIP/1001-1\",\"PJSIP/trunk-2\",\"Dial\",\"x\",\"2026-11-01 12:00:00\",\"\",\
             \"2026-11-01 12:00:30\",\"30\",\"0\",\"BUSY\",\"3\",\"Sales\",\"1793534400.5\",\"\",\"7\"\n";
        let rows = read(custom, &preset(Preset::Asterisk));
        assert_eq!(
            briefs(&rows),
            ["1 12025550142 +12025550100 BUSY 2026-11-01T12:00:00Z"]
        );
        assert_eq!(sid(&rows[0]), "1793534400.5");

        // Without uniqueid there are 16 columns; a row that is cut short is none of these.
        let short: String = text
            .lines()
            .map(|line| format!("{}\n", line.rsplitn(3, ',').nth(2).unwrap()))
            .collect();
        let rows = read(&short, &preset(Preset::Asterisk));
        assert_eq!(briefs(&rows)[..2], outbound);
        assert!(sid(&rows[0]).starts_with("import-"));
        let rows = read("\"\",\"1001\",\"12025550142\"\n", &preset(Preset::Asterisk));
        assert!(brief(&rows[0]).contains("3 columns, not at least 16"));
    }

    #[test]
    fn a_channel_that_dials_again_makes_two_calls() {
        let row = |dst: &str, start: &str| {
            format!(
                "Sales,1001,{dst},from-internal,x,x,x,Dial,x,{start},,,9,0,NO ANSWER,3,1793534400.1,\n"
            )
        };
        let text = [
            row("12025550142", "2026-11-01 12:00:00"),
            row("12025550142", "2026-11-01 12:00:40"),
            row("12025550142", "2026-11-01 12:00:00"),
        ]
        .concat();
        let sids: Vec<String> = read(&text, &preset(Preset::Asterisk))
            .iter()
            .map(sid)
            .collect();
        assert_eq!(sids[0], "1793534400.1");
        assert!(sids[1].starts_with("1793534400.1-"), "{}", sids[1]);
        assert_eq!(sids[2], sids[0]);
        let again: Vec<String> = read(&text, &preset(Preset::Asterisk))
            .iter()
            .map(sid)
            .collect();
        assert_eq!(sids, again);
    }

    #[test]
    fn freepbx_is_read_with_and_without_its_header() {
        let header = "calldate,clid,src,dst,dcontext,channel,dstchannel,lastapp,lastdata,duration,billsec,\
            disposition,amaflags,accountcode,uniqueid,userfield,did,recordingfile,cnum,cnam,outbound_cnum,\
            outbound_cnam,dst_cnam,linkedid,peeraccount,sequence\n";
        let row = |src: &str, dst: &str, did: &str, outbound: &str| {
            format!(
                "2026-11-01 12:00:00,\"\"\"Ann\"\" <{src}>\",{src},{dst},from-internal,PJSIP/1001-1,\
                 PJSIP/trunk-2,Dial,x,60,0,NO ANSWER,3,,1793534400.1,,{did},,{src},Ann,{outbound},,,\
                 1793534400.1,,7\n"
            )
        };
        let text = [
            row("1001", "12025550142", "", "2025550100"),
            row("12025550142", "12025550199", "12025550101", ""),
            row("1001", "1002", "", ""),
        ]
        .concat();
        let expected = [
            "1 12025550142 2025550100 NO ANSWER 2026-11-01T12:00:00Z",
            "Inbound",
            "Internal",
        ];
        let with_header = format!("{header}{text}");
        assert_eq!(briefs(&read(&text, &preset(Preset::Freepbx))), expected);
        assert_eq!(
            briefs(&read(&with_header, &preset(Preset::Freepbx))),
            expected
        );
        let tabs = with_header
            .replace("\"\"\"Ann\"\" <", "<")
            .replace(">\"", ">")
            .replace(',', "\t");
        assert_eq!(briefs(&read(&tabs, &preset(Preset::Freepbx))), expected);
    }

    #[test]
    fn freeswitch_is_read_by_both_templates_and_as_json() {
        let example = "\"Ann\",\"2025550100\",\"12025550142\",\"default\",\"2026-11-01 12:00:00\",\"\",\
            \"2026-11-01 12:00:30\",\"30\",\"0\",\"USER_BUSY\",\"0e1b-1\",\"\",\"\",\"PCMU\",\"PCMU\"\n";
        let asterisk = "\"Sales\",\"2025550100\",\"12025550142\",\"default\",\"Ann\",\"sofia/x\",\"\",\"bridge\",\"x\",\
            \"2026-11-01 12:00:00\",\"\",\"2026-11-01 12:00:30\",\"30\",\"0\",\"USER_BUSY\",\"3\",\"0e1b-1\",\"\"\n";
        let json = "{\"variables\":{\"direction\":\"inbound\",\"uuid\":\"0e1b-1\",\"start_epoch\":\"1793534400\",\
            \"hangup_cause\":\"USER_BUSY\",\"billsec\":\"0\"},\"callflow\":[{\"caller_profile\":{\
            \"caller_id_number\":\"2025550100\",\"destination_number\":\"12025550142\",\"context\":\"default\"}}]}\n";
        for text in [example, asterisk, json] {
            let rows = read(text, &preset(Preset::Freeswitch));
            assert_eq!(
                briefs(&rows),
                ["1 12025550142 2025550100 busy 2026-11-01T12:00:00Z"],
                "{text}"
            );
            assert_eq!(sid(&rows[0]), "0e1b-1");
        }
        let inbound = example.replace("default", "public");
        assert_eq!(
            briefs(&read(inbound, &preset(Preset::Freeswitch))),
            ["Inbound"]
        );
    }

    #[test]
    fn twilio_is_read_as_csv_and_as_objects_of_its_api() {
        let csv = "Call Sid,Start Time,From,To,Direction,Status\n\
            CA1,2026-11-01 12:00:00 UTC,+12025550100,+12025550142,Outgoing API,Canceled\n\
            CA2,04:00:00 PST 2026-11-01,+12025550100,+12025550143,Outgoing Dial,Completed\n\
            CA3,2026-11-01 12:00:00 UTC,+12025550142,+12025550100,Incoming,Completed\n\
            CA4,2026-11-01 12:00:00 UTC,+12025550142,client:ann,Outgoing Dial,Completed\n";
        let object = |sid: &str, to: &str, direction: &str, status: &str| {
            json!({"sid": sid, "from": "+12025550100", "to": to, "direction": direction,
                "status": status, "start_time": "Sun, 01 Nov 2026 12:00:00 +0000", "price": null})
            .to_string()
        };
        let objects = [
            object("CA1", "+12025550142", "outbound-api", "Canceled"),
            object("CA2", "+12025550143", "outbound-dial", "Completed"),
            object("CA3", "+12025550100", "inbound", "completed"),
            object("CA4", "client:ann", "outbound-dial", "completed"),
        ]
        .join("\n");
        // What names no zone is UTC, wherever this runs.
        let bulk = objects.replace("Sun, 01 Nov 2026 12:00:00 +0000", "2026-11-01T12:00:00Z");
        for text in [csv, &objects, &bulk] {
            let rows = read(text, &preset(Preset::Twilio));
            assert_eq!(
                briefs(&rows),
                [
                    "1 +12025550142 +12025550100 Canceled 2026-11-01T12:00:00Z",
                    "1 +12025550143 +12025550100 Completed 2026-11-01T12:00:00Z",
                    "Inbound",
                    "Internal",
                ]
            );
            assert_eq!(sid(&rows[0]), "CA1");
        }
    }

    #[test]
    fn vicidial_is_read_as_report_and_as_table() {
        let header = "call_date\tphone_number_dialed\tstatus\tuser\tfull_name\tcampaign_id\tvendor_lead_code\t\
            source_id\tlist_id\tgmt_offset_now\tphone_code\tphone_number\ttitle\tfirst_name\tmiddle_initial\t\
            last_name\taddress1\taddress2\taddress3\tcity\tstate\tprovince\tpostal_code\tcountry_code\tgender\t\
            date_of_birth\talt_phone\temail\tsecurity_phrase\tcomments\tlength_in_sec\tuser_group\talt_dial\t\
            rank\towner\tlead_id\tlist_name\tlist_description\tstatus_name\r\n";
        let row = |user: &str, status: &str| {
            format!(
                "2026-11-01 12:00:00\t2025550142\t{status}\t{user}\tAnn\tSales\t\t\t101\t-5.00\t1\t2025550142\t\t\t\
                 \t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t20\tADMIN\tMAIN\t0\t\t77\tList\t\tSale\r\n"
            )
        };
        let text = [row("6666", "SALE"), row("VDAD", "AA"), row("VDCL", "DROP")].concat();
        let expected = [
            "1 +12025550142 - completed 2026-11-01T12:00:00Z",
            "1 +12025550142 - voicemail 2026-11-01T12:00:00Z",
            "Inbound",
        ];
        assert_eq!(briefs(&read(&text, &preset(Preset::Vicidial))), expected);
        let with_header = format!("{header}{text}");
        assert_eq!(
            briefs(&read(with_header, &preset(Preset::Vicidial))),
            expected
        );
        let table = "1793534400.123,77,101,Sales,2026-11-01 12:00:00,1793534400,1793534420,20,SALE,1,2025550142,\
            6666,AUTO,Y,ADMIN,CALLER,MAIN,1\n";
        let rows = read(table, &preset(Preset::Vicidial));
        assert_eq!(briefs(&rows)[..], expected[..1]);
        assert_eq!(sid(&rows[0]), "1793534400.123");
    }

    #[test]
    fn local_times_are_read_in_the_zone_that_is_named() {
        let settings = Settings {
            times: Times::new(TimeZone::get("America/Sao_Paulo").unwrap(), None),
            ..plain()
        };
        let text = "agent_id,to,started_at\nSales,+12025550142,2026-11-01 09:00:00\n";
        assert_eq!(
            briefs(&read(text, &settings)),
            ["1 +12025550142 - - 2026-11-01T12:00:00Z"]
        );
        assert_eq!(settings.times.zone_assumed(), Some("America/Sao_Paulo"));
        assert_eq!(plain().times.zone_assumed(), None);
    }

    #[test]
    fn lines_for_the_server_are_json_whatever_stands_in_a_cell() {
        let odd = "a\"\\\u{1}\u{7f}\t€😀\u{2028}";
        let call: Value = serde_json::from_str(&line(["1", odd, "", "", "", "s"])).unwrap();
        assert_eq!(call, json!({"agent_id": "1", "to": odd, "sid": "s"}));
    }
}
