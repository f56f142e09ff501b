//! What client commands print: the API's own JSON, or a table for people.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use clap::Args;

use crate::client::{Answer, Client, ClientArgs, ClientError};
use crate::exit::Failure;
use crate::show::{Identified, Shown};

/// What every client command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct SessionArgs {
    /// Which server to ask, and as whom.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Print the `data` of the API's answer as JSON
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
    /// Print ids alone, one a line
    #[arg(long, short, global = true, help_heading = "Output")]
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
    /// Sends requests to it.
    pub(crate) client: Client,
    /// Whether JSON is wanted.
    pub(crate) json: bool,
    /// Whether ids alone are wanted.
    quiet: bool,
}

impl Session {
    /// Prints an answer: raw, or as `readable` writes it.
    pub(crate) fn print<T: Identified>(
        &self,
        answer: &Answer<T>,
        readable: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        if self.json {
            print(&format!("{}\n", escaped_json(answer.raw.get())))
        } else if self.quiet {
            let ids = answer.data.ids().into_iter();
            print(&ids.map(|id| escaped(&id) + "\n").collect::<String>())
        } else {
            print(&readable(&answer.data))
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

/// Says something on standard error, in one line or several.
pub(crate) fn notice(text: &str) {
    eprintln!("ringback: {}", escaped_lines(text));
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

/// The same for a text of several lines, which stay lines.
pub(crate) fn escaped_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(escaped).collect();
    lines.join("\n")
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
            '\u{61c}'
                | '\u{200e}'
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

/// What stands under a title: how it is read off a thing.
pub(crate) type Column<T> = (&'static str, fn(&T) -> Shown);

/// A list as a table.
pub(crate) fn table<T>(list: &[T], columns: &[Column<T>]) -> String {
    let row = |item| -> Vec<String> {
        let cells = columns.iter();
        cells.map(|(_, read)| read(item).in_one_line()).collect()
    };
    let rows: Vec<Vec<String>> = list.iter().map(row).collect();
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    grid(&titles, &rows)
}

/// One thing as lines of a title and a value.
pub(crate) fn record<T>(item: &T, fields: &[Column<T>]) -> String {
    let width = fields
        .iter()
        .map(|(title, _)| title.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    let paint = Paint::stdout();
    for (title, read) in fields {
        for (index, line) in read(item).lines().iter().enumerate() {
            let title = if index == 0 { title } else { "" };
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

/// Paints for terminals, and for nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    /// Whether text is painted: on a terminal, without `NO_COLOR`.
    on: bool,
}

impl Paint {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self {
            on: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// In bold: titles of columns.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Dimmed: titles beside values.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// In green: what went well.
    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// In cyan: what the reader should look at.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    /// In yellow: what is neither good nor bad.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Puts escape codes around a text, if there are to be any.
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
    use ringback_api::Target;

    use super::*;
    use crate::show::Show;

    /// A thing with a name, a list and something that may be missing.
    struct Thing {
        name: String,
        targets: Vec<Target>,
        role: Option<String>,
    }

    const COLUMNS: &[Column<Thing>] = &[
        ("NAME", |thing| thing.name.show()),
        ("TARGETS", |thing| thing.targets.show()),
        ("ROLE", |thing| thing.role.show()),
    ];

    #[test]
    fn names_do_not_steer_the_terminal() {
        let name = "a\u{1b}[31mb\rc\u{9b}2Jd\u{7f}e\nf\u{202e}g";
        let thing = Thing {
            name: name.to_owned(),
            targets: vec![Target {
                uri: name.to_owned(),
                priority: 1,
                weight: 2,
            }],
            role: None,
        };
        let text = record(&thing, COLUMNS) + &table(&[thing], COLUMNS);
        assert!(!text.replace('\n', "").chars().any(is_unsafe), "{text:?}");
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.contains("a\\u{1b}[31mb\\rc\\u{9b}2Jd"), "{text}");

        let list = serde_json::json!([{ "name": name }]);
        let json = escaped_json(&list.to_string());
        assert!(!json.chars().any(is_unsafe), "{json:?}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read, list);
    }

    #[test]
    fn table_aligns_and_shows_what_is_missing() {
        let target = |uri: &str| Target {
            uri: uri.to_owned(),
            priority: 0,
            weight: 0,
        };
        let things = [
            Thing {
                name: "Sales".to_owned(),
                targets: vec![target("sip:a@b"), target("sip:c@d")],
                role: None,
            },
            Thing {
                name: "Ünî".to_owned(),
                targets: Vec::new(),
                role: Some("x".to_owned()),
            },
        ];
        assert_eq!(
            table(&things, COLUMNS),
            "NAME   TARGETS                                                         ROLE\n\
             Sales  sip:a@b (priority 0, weight 0), sip:c@d (priority 0, weight 0)  -\n\
             Ünî    -                                                               x\n"
        );
        assert_eq!(table::<Thing>(&[], COLUMNS), "none\n");
    }
}
