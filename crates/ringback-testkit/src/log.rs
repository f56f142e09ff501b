//! The log of a server, readable while the server runs.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The log so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The lines read so far.
    read: Mutex<Lines>,
    /// Signaled when there are more lines, or when the stream has ended.
    grown: Condvar,
}

/// Lines, and whether the stream has ended.
#[derive(Debug, Default)]
struct Lines {
    /// The lines, with their ends.
    lines: Vec<String>,
    /// Whether the stream has ended.
    ended: bool,
}

impl Log {
    /// Reads a stream to its end, in a thread of its own.
    pub(crate) fn collect(stream: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let reader = Arc::clone(&log);
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).into_owned();
                reader.change(|read| read.lines.push(text));
                line.clear();
            }
            reader.change(|read| read.ended = true);
        });
        log
    }

    /// Waits for the end of the stream, and returns all of it.
    pub(crate) fn whole(&self) -> String {
        self.wait(|read| read.ended.then(|| read.lines.concat()))
            .unwrap_or_else(|so_far| so_far)
    }

    /// Waits for a line with this text.
    ///
    /// # Panics
    /// There is none in time, or the stream ends without it.
    pub(crate) fn line_with(&self, text: &str) -> String {
        let found = self.wait(|read| {
            let line = read.lines.iter().find(|line| line.contains(text)).cloned();
            line.map(Ok).or_else(|| read.ended.then_some(Err(())))
        });
        match found {
            Ok(Ok(line)) => line,
            Ok(Err(())) => panic!("the log ended without {text}:\n{}", self.whole()),
            Err(so_far) => panic!("{text} was not logged in {LIMIT:?}:\n{so_far}"),
        }
    }

    /// Waits until `find` finds something; at the limit, returns the log so far.
    fn wait<T>(&self, mut find: impl FnMut(&Lines) -> Option<T>) -> Result<T, String> {
        let mut found = None;
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, _) = self
            .grown
            .wait_timeout_while(read, LIMIT, |read| {
                found = find(read);
                found.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        found.ok_or_else(|| read.lines.concat())
    }

    /// Changes the lines and wakes all threads that wait.
    fn change(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.read.lock().unwrap_or_else(PoisonError::into_inner));
        self.grown.notify_all();
    }
}

/// How long a line may take to appear.
const LIMIT: Duration = Duration::from_secs(30);
