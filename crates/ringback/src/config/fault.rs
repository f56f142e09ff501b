//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use super::file::ConfigFile;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The file and, where it is known, the line, counted from 1; `None`: the fault is in no file.
    place: Option<(PathBuf, Option<usize>)>,
    /// The key with its path, such as `sip.peers[1].address[0]`; empty: it is not about a key.
    key: String,
    /// What is wrong.
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((path, line)) = &self.place {
            write!(formatter, "{}:", path.display())?;
            if let Some(line) = line {
                write!(formatter, "{line}:")?;
            }
            formatter.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Collects faults; every one is named with the line on which its key stands.
pub(super) struct Faults<'a> {
    /// The file that was read, if there is one.
    file: Option<&'a ConfigFile<'a>>,
    /// Keys that a flag or a variable has set: their values do not stand in the file.
    overridden: &'a [&'static str],
    /// What has been found.
    list: Vec<Fault>,
}

impl<'a> Faults<'a> {
    /// No faults yet, in a configuration from this file and with these keys set otherwise.
    pub(super) fn new(file: Option<&'a ConfigFile<'a>>, overridden: &'a [&'static str]) -> Self {
        Self {
            file,
            overridden,
            list: file.map(ConfigFile::faults).unwrap_or_default(),
        }
    }

    /// Adds a fault at a key.
    pub(super) fn add(&mut self, key: &str, message: impl Into<String>) {
        let mut message = message.into();
        let name = key.split('[').next().unwrap_or(key);
        let place = if self.overridden.contains(&name) {
            message.push_str(" (given on the command line or in the environment)");
            None
        } else {
            self.file
                .map(|file| (file.path().to_owned(), file.line_of(key)))
        };
        self.list.push(Fault {
            place,
            key: key.to_owned(),
            message,
        });
    }

    /// Adds a fault of something that is in no file.
    pub(super) fn add_outside(&mut self, name: &str, message: impl Into<String>) {
        self.list.push(Fault {
            place: None,
            key: name.to_owned(),
            message: message.into(),
        });
    }

    /// Everything found, in the order of the file's lines.
    pub(super) fn into_list(mut self) -> Vec<Fault> {
        self.list
            .sort_by_key(|fault| fault.place.as_ref().and_then(|(_, line)| *line));
        self.list
    }
}

impl Fault {
    /// A fault in a line of a file.
    pub(super) fn in_file(
        path: PathBuf,
        line: Option<usize>,
        key: String,
        message: String,
    ) -> Self {
        Self {
            place: Some((path, line)),
            key,
            message,
        }
    }
}
