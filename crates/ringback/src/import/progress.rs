//! What a person sees of a running import: a bar on a terminal, now and then a line elsewhere.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::escaped;

/// The progress of an import, on standard error.
pub(crate) struct Progress {
    /// Length of the file in bytes as stored, where it has one.
    length: Option<u64>,
    /// How much of it has been read.
    read: Arc<AtomicU64>,
    /// The bar, on a terminal.
    bar: Option<ProgressBar>,
    /// When the last line was written.
    last_line: std::sync::Mutex<Instant>,
}

impl Progress {
    /// Starts to show.
    pub(crate) fn new(length: Option<u64>, read: Arc<AtomicU64>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let (bar, template) = match length {
                Some(length) => (ProgressBar::new(length), BAR),
                None => (ProgressBar::new_spinner(), SPINNER),
            };
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("━╸─"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            length,
            read,
            bar,
            last_line: std::sync::Mutex::new(Instant::now()),
        }
    }

    /// Shows how far it got.
    pub(crate) fn advance(&self, rows: u64, rejected: u64) {
        let read = self.read.load(Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_position(read);
            bar.set_message(counts(rows, rejected));
            return;
        }
        let Ok(mut last) = self.last_line.lock() else {
            return;
        };
        if last.elapsed() < LINES_APART {
            return;
        }
        *last = Instant::now();
        let share = self
            .length
            .filter(|length| *length > 0)
            .map(|length| format!(" ({} %)", (read.min(length) * 100) / length))
            .unwrap_or_default();
        eprintln!("{}{share}", counts(rows, rejected));
    }

    /// Says something in between.
    pub(crate) fn note(&self, text: &str) {
        let text = escaped(text);
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Ends the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How many rows there were.
fn counts(rows: u64, rejected: u64) -> String {
    match rejected {
        0 => format!("{rows} rows"),
        _ => format!("{rows} rows, {rejected} rejected"),
    }
}

/// How far apart lines are.
const LINES_APART: Duration = Duration::from_secs(5);

/// The bar of a file.
const BAR: &str = "{bar:30.cyan} {percent:>3} %  {msg}  {elapsed} elapsed, {eta} left";

/// The bar of a pipe.
const SPINNER: &str = "{spinner} {msg}  {elapsed} elapsed";
