//! Rejected rows, kept in a CSV file: line, field, value, reason.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use super::row::Fault;
use crate::output::escaped;

/// A rejected row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reject {
    /// The line of the file on which it starts.
    pub(crate) line: u64,
    /// What is wrong with it.
    pub(crate) fault: Fault,
}

/// The file that keeps them.
pub(crate) struct RejectsFile {
    /// The file; buffered until rows have been added.
    file: BufWriter<File>,
    /// How long it is, in bytes.
    length: u64,
}

impl RejectsFile {
    /// Opens the file. What an import wrote behind this length is dropped: those rows come again.
    pub(crate) fn open(path: &Path, length: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        // What is shorter than it should be was written by somebody else.
        let kept = if file.metadata()?.len() >= length {
            length
        } else {
            0
        };
        file.set_len(kept)?;
        file.seek(SeekFrom::Start(kept))?;
        let mut rejects = Self {
            file: BufWriter::new(file),
            length: kept,
        };
        if kept == 0 {
            rejects.put(&["line", "field", "value", "reason"])?;
        }
        Ok(rejects)
    }

    /// Adds rows; afterwards they are with the operating system.
    pub(crate) fn add(&mut self, rejects: &[Reject]) -> io::Result<()> {
        for Reject { line, fault } in rejects {
            self.put(&[&line.to_string(), fault.field, &fault.value, &fault.reason])?;
        }
        self.file.flush()
    }

    /// How long it is, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Writes a record.
    fn put(&mut self, fields: &[&str]) -> io::Result<()> {
        let fields: Vec<String> = fields.iter().map(|field| quoted(&escaped(field))).collect();
        let record = format!("{}\n", fields.join(","));
        self.length += record.len() as u64;
        self.file.write_all(record.as_bytes())
    }
}

/// A CSV field (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(line: u64, value: &str) -> Reject {
        Reject {
            line,
            fault: Fault::new("to", value, "it is no \"number\", is it"),
        }
    }

    #[test]
    fn an_import_that_goes_on_keeps_what_counts_and_nothing_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rejects.csv");
        let mut rejects = RejectsFile::open(&path, 0).unwrap();
        rejects
            .add(&[reject(2, "a,b"), reject(3, "\u{1b}[2J\n")])
            .unwrap();
        let length = rejects.length();
        rejects.add(&[reject(4, "c")]).unwrap();
        drop(rejects);

        let mut rejects = RejectsFile::open(&path, length).unwrap();
        rejects.add(&[reject(5, "d")]).unwrap();
        let reason = "\"it is no \"\"number\"\", is it\"";
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!(
                "line,field,value,reason\n2,to,\"a,b\",{reason}\n3,to,\\u{{1b}}[2J\\n,{reason}\n5,to,d,{reason}\n"
            )
        );
        drop(rejects);
        RejectsFile::open(&path, 0).unwrap().add(&[]).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "line,field,value,reason\n"
        );
    }
}
