//! What client commands print: the API's own JSON, or a table for people.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::client::{Answer, Client, ClientArgs, ClientError};

/// What every client command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct SessionArgs {
    /// Which server to ask, and as whom.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Print the `data` of the API's answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl SessionArgs {
    /// The client and the printer.
    pub(crate) fn open(&self) -> Result<Session, ClientError> {
        Ok(Session {
            client: Client::new(&self.client)?,
            json: self.json,
        })
    }
}

/// A server to ask and a place to print to.
pub(crate) struct Session {
    /// Asks.
    pub(crate) client: Client,
    /// Whether JSON is wanted.
    json: bool,
}

impl Session {
    /// Prints an answer: raw, or as `readable` writes it.
    pub(crate) fn print(
        &self,
        answer: &Answer,
        readable: impl FnOnce(&Value) -> String,
    ) -> io::Result<()> {
        if self.json {
            self.print_raw(&answer.raw)
        } else {
            print(&readable(&answer.value))
        }
    }

    /// Prints JSON as it came.
    fn print_raw(&self, raw: &RawValue) -> io::Result<()> {
        print(&format!("{}\n", raw.get()))
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A list as a table: a column for each title and JSON pointer.
pub(crate) fn table(list: &Value, columns: &[(&str, &str)]) -> String {
    let rows: Vec<Vec<String>> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| {
            columns
                .iter()
                .map(|(_, pointer)| cell(item.pointer(pointer)))
                .collect()
        })
        .collect();
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    grid(&titles, &rows)
}

/// One thing as lines of a title and a value, for each title and JSON pointer.
pub(crate) fn record(item: &Value, fields: &[(&str, &str)]) -> String {
    let width = fields
        .iter()
        .map(|(title, _)| title.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (title, pointer) in fields {
        let lines = lines(item.pointer(pointer));
        let paint = Paint::stdout();
        for (place, line) in lines.iter().enumerate() {
            let title = if place == 0 { title } else { "" };
            let title = paint.dim(&format!("{title:<width$}"));
            let _infallible = writeln!(text, "{title}  {line}");
        }
    }
    text
}

/// Rows beneath titles.
pub(crate) fn grid(titles: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "none\n".to_owned();
    }
    let mut widths: Vec<usize> = titles.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            let _infallible = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text
    };
    let mut text = Paint::stdout().bold(&line(&mut titles.iter().copied()));
    text.push('\n');
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
        text.push('\n');
    }
    text
}

/// A value in one line.
pub(crate) fn cell(value: Option<&Value>) -> String {
    lines(value).join(", ")
}

/// A value in one line or, of a list, several.
fn lines(value: Option<&Value>) -> Vec<String> {
    match value {
        None | Some(Value::Null) => vec!["-".to_owned()],
        Some(Value::Array(items)) if items.is_empty() => vec!["-".to_owned()],
        Some(Value::Array(items)) => items.iter().map(brief).collect(),
        Some(value) => vec![brief(value)],
    }
}

/// A value as a person would write it: of a thing, what names it.
fn brief(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(thing) => {
            if let (Some(uri), Some(priority), Some(weight)) =
                (thing.get("uri"), thing.get("priority"), thing.get("weight"))
            {
                return format!("{} (priority {priority}, weight {weight})", brief(uri));
            }
            ["name", "number", "id"]
                .iter()
                .find_map(|key| thing.get(*key))
                .map_or_else(|| value.to_string(), brief)
        }
        other => other.to_string(),
    }
}

/// Paints for terminals, and for nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    /// Whether it paints.
    on: bool,
}

impl Paint {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self {
            on: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// Bold.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Less important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Good.
    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Something to look at.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    /// Neither good nor bad.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Puts the escape codes around.
    fn wrap(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn table_aligns_and_shows_what_names_a_thing() {
        let list = json!([
            {"id": "1", "name": "Sales", "phone_numbers": [{"number": "+12025550100"}], "role": null},
            {"id": "22", "name": "Ünî", "phone_numbers": [], "role": {"name": "x"}},
        ]);
        let text = table(
            &list,
            &[
                ("ID", "/id"),
                ("NAME", "/name"),
                ("NUMBERS", "/phone_numbers"),
                ("ROLE", "/role"),
            ],
        );
        assert_eq!(
            text,
            "ID  NAME   NUMBERS       ROLE\n1   Sales  +12025550100  -\n22  Ünî    -             x\n"
        );
    }
}
