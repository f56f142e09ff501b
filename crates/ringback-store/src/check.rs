//! Looks for damage in the files of the tables, in the background: in all files after opening, once a day, and
//! when a read has met damage, because the trees never name the file. Damaged files are checked again and again
//! until they are sound.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::lsm_files::{Damage, check_table};

/// The known damage, and requests to look for more; shared by all tables.
#[derive(Default)]
pub(crate) struct Alarm {
    /// The state that the condition variable guards.
    state: Mutex<AlarmState>,
    /// Signaled when the checking thread should look.
    changed: Condvar,
}

/// The known damage and pending requests.
#[derive(Default)]
struct AlarmState {
    /// A read has met damage since all files were checked.
    raised: bool,
    /// The checking thread should end.
    closing: bool,
    /// The damage of each damaged file.
    damage: BTreeMap<PathBuf, Damage>,
}

impl Alarm {
    /// Reports that a read has met damage.
    pub(crate) fn raise(&self) {
        let mut state = self.state.lock();
        if !state.raised {
            state.raised = true;
            self.changed.notify_all();
        }
    }

    /// How many damaged files are known.
    pub(crate) fn damaged(&self) -> u64 {
        self.state.lock().damage.len() as u64
    }

    /// Asks the checking thread to end.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }

    /// Checks files until closed; `files` returns those of all tables, and a guard that keeps them from being
    /// removed.
    pub(crate) fn run_checking<H>(&self, files: impl Fn() -> (H, Vec<PathBuf>)) {
        let mut looked = None;
        while let Some(all) = self.wait(looked) {
            if all {
                looked = Some(Instant::now());
            }
            let (_held, mut paths) = files();
            {
                let mut state = self.state.lock();
                // A file that was replaced is no longer damaged.
                state.damage.retain(|path, _| paths.contains(path));
                if !all {
                    paths.retain(|path| state.damage.contains_key(path));
                }
            }
            for path in paths {
                if !self.check(path) {
                    return;
                }
            }
        }
    }

    /// Waits until it is time to check. Returns whether to check all files; `None`: end.
    fn wait(&self, looked: Option<Instant>) -> Option<bool> {
        let mut state = self.state.lock();
        let again = Instant::now() + CHECK_AGAIN;
        loop {
            if state.closing {
                return None;
            }
            let Some(looked) = looked else {
                return Some(true);
            };
            let now = Instant::now();
            let between = match (state.raised, state.damage.is_empty()) {
                (true, true) => RAISED_AGAIN,
                (true, false) => KNOWN_AGAIN,
                (false, _) => CHECK_ALL,
            };
            if now >= looked + between {
                state.raised = false;
                return Some(true);
            }
            let mut until = looked + between;
            if !state.damage.is_empty() {
                if now >= again {
                    return Some(false);
                }
                until = until.min(again);
            }
            self.changed.wait_until(&mut state, until);
        }
    }

    /// Checks a file; false: end.
    fn check(&self, path: PathBuf) -> bool {
        let mut since_pause = 0;
        let mut closing = false;
        let found = check_table(&path, |read| {
            since_pause += read;
            if since_pause >= PAUSE_AFTER {
                since_pause = 0;
                let mut state = self.state.lock();
                if !state.closing {
                    self.changed.wait_for(&mut state, PAUSE);
                }
                closing = state.closing;
            }
            !closing
        });
        if closing {
            return false;
        }
        let mut state = self.state.lock();
        match found {
            Some(damage) if state.damage.get(&path) != Some(&damage) => {
                tracing::error!(
                    file = %damage.path.display(),
                    byte = damage.offset,
                    found = damage.what,
                    "stored data is damaged: calls that need it are answered with 503; stop the server and restore \
                     the data directory, or this file, from a backup"
                );
                state.damage.insert(path, damage);
            }
            None if state.damage.remove(&path).is_some() => {
                tracing::info!(file = %path.display(), "a damaged file is readable again");
            }
            _ => {}
        }
        true
    }
}

/// How often all files are checked.
const CHECK_ALL: Duration = Duration::from_hours(24);

/// How soon after the last check, if a read has met damage that is not yet known.
const RAISED_AGAIN: Duration = Duration::from_secs(2);

/// How soon after the last check, if that damage may be known already.
const KNOWN_AGAIN: Duration = Duration::from_mins(10);

/// How often damaged files are checked again.
const CHECK_AGAIN: Duration = Duration::from_secs(2);

/// How many bytes are read before a pause, so that other reads get the disk.
const PAUSE_AFTER: u64 = 1 << 20;

/// The length of a pause: with the reading itself, about 100 MB are read in a second.
const PAUSE: Duration = Duration::from_millis(8);
