//! What client commands print: the API's own JSON, or a table for people.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use clap::Args;
use serde_json::Value;

use crate::client::{Answer, Client, ClientArgs, ClientError};
use crate::exit::Failure;

/// What every client command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct SessionArgs {
    /// Which server to ask, and as whom.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Print the `data` of the API's answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print ids alone, one a line
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

impl SessionArgs {
    /// The client and the printer.
    pub(crate) fn open(&self) -> Result<Session, ClientError> {
        Ok(Session {
            client: Client::new(&self.client)?,
            json: self.json,
            quiet: self.quiet,
        })
    }
}

/// A server to ask and a place to print to.
pub(crate) struct Session {
    /// Asks.
    pub(crate) client: Client,
    /// Whether JSON is wanted.
    pub(crate) json: bool,
    /// Whether ids alone are wanted.
    quiet: bool,
}

impl Session {
    /// Prints an answer: raw, or as `readable` writes it.
    pub(crate) fn print(
        &self,
        answer: &Answer,
        readable: impl FnOnce(&Value) -> String,
    ) -> io::Result<()> {
        if self.json {
            print(&format!("{}\n", escaped_json(answer.raw.get())))
        } else if self.quiet {
            print(&ids(&answer.value))
        } else {
            print(&readable(&answer.value))
        }
    }

    /// Asks whether to go on, where somebody sits at the terminal; a script is not asked.
    pub(crate) fn confirm(&self, yes: bool, question: &str) -> Result<(), Failure> {
        if yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(());
        }
        eprint!("{} [y/N] ", escaped(question));
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::Declined),
        }
    }
}

/// The ids in an answer, one a line.
fn ids(value: &Value) -> String {
    let one = |item: &Value| {
        ["/id", "/sid", "/agent/id", "/source_agent_id"]
            .iter()
            .find_map(|pointer| item.pointer(pointer).and_then(Value::as_str))
            .map(|id| format!("{}\n", escaped(id)))
            .unwrap_or_default()
    };
    let list = ["/calls", "/callbacks_by_source_agent"]
        .iter()
        .find_map(|pointer| value.pointer(pointer))
        .unwrap_or(value);
    match list {
        Value::Array(items) => items.iter().map(one).collect(),
        item => one(item),
    }
}

/// Says something on standard error.
pub(crate) fn notice(text: &str) {
    eprintln!("ringback: {text}");
}

/// A text whose control characters, and those that turn the direction of writing, are written out:
/// a name from elsewhere must not steer the terminal.
pub(crate) fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// The same for JSON text, which stays JSON with the same meaning: such characters stand only in its
/// strings, and line breaks between its values are kept.
pub(crate) fn escaped_json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) && !matches!(character, '\n' | '\r' | '\t') {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _infallible = write!(plain, "\\u{unit:04x}");
            }
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Whether a terminal would act on a character instead of showing it.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
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
        Value::String(text) => escaped(text),
        Value::Object(thing) => {
            if let (Some(uri), Some(priority), Some(weight)) =
                (thing.get("uri"), thing.get("priority"), thing.get("weight"))
            {
                return format!("{} (priority {priority}, weight {weight})", brief(uri));
            }
            ["name", "number", "id"]
                .iter()
                .find_map(|key| thing.get(*key))
                .map_or_else(|| escaped_json(&value.to_string()), brief)
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
    fn names_do_not_steer_the_terminal() {
        let name = "a\u{1b}[31mb\rc\u{9b}2Jd\u{7f}e\nf\u{202e}g";
        let list = json!([{"name": name, "uris": [{"uri": name, "priority": 1, "weight": 2}]}]);
        let text = table(&list, &[("NAME", "/name"), ("URIS", "/uris")])
            + &record(&list[0], &[("name", "/name"), ("all", "")]);
        assert!(!text.replace('\n', "").chars().any(is_unsafe), "{text:?}");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("a\\u{1b}[31mb\\rc\\u{9b}2Jd"), "{text}");

        let json = escaped_json(&list.to_string());
        assert!(!json.chars().any(is_unsafe), "{json:?}");
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), list);
    }

    #[test]
    fn ids_alone_are_printed_one_a_line() {
        for (value, wanted) in [
            (json!([{"id": "1"}, {"id": "2"}]), "1\n2\n"),
            (json!({"id": "1", "agent_id": "2"}), "1\n"),
            (json!({"sid": "abc", "agent_id": "2"}), "abc\n"),
            (json!({"agent": {"id": "1"}}), "1\n"),
            (
                json!({"number": "+1", "calls": [{"sid": "a"}, {"sid": "b"}]}),
                "a\nb\n",
            ),
            (json!({"success": true, "message": "done"}), ""),
        ] {
            assert_eq!(ids(&value), wanted, "{value}");
        }
    }

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
