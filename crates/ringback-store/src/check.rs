//! Looks for damage in the files of the tables, in the background: all of them after opening, once a day,
//! and when a read has met damage, because the trees never name a place; and again and again where there
//! was damage, until it is mended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::lsm_files::{Damage, check_table};

/// What is known of damage, and who looks for it when; shared by all tables.
#[derive(Default)]
pub(crate) struct Alarm {
    /// What is known.
    state: Mutex<AlarmState>,
    /// Signaled when somebody is to look.
    changed: Condvar,
}

/// What is known of damage.
#[derive(Default)]
struct AlarmState {
    /// A read has met damage since all files were looked at.
    raised: bool,
    /// Nobody shall look any more.
    closing: bool,
    /// The damaged place of each damaged file.
    damage: BTreeMap<PathBuf, Damage>,
}

impl Alarm {
    /// Tells that a read has met damage.
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

    /// Asks whoever looks to end.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }

    /// Looks at files until closed; `files` gives those of all tables, and what keeps them from being removed.
    pub(crate) fn run_checking<H>(&self, files: impl Fn() -> (H, Vec<PathBuf>)) {
        let mut looked = None;
        while let Some(all) = self.wait(looked) {
            if all {
                looked = Some(Instant::now());
            }
            let (_held, mut paths) = files();
            {
                let mut state = self.state.lock();
                // Files that were replaced are mended.
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

    /// Waits until it is time to look, and says whether at everything; none: it is time to end.
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

    /// Looks at a file; false: it is time to end.
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
                    "stored data is damaged: what cannot be read is answered with 503; stop the server and put the \
                     data directory, or this file, back from a copy"
                );
                state.damage.insert(path, damage);
            }
            None if state.damage.remove(&path).is_some() => {
                tracing::info!(file = %path.display(), "a damaged file is sound again");
            }
            _ => {}
        }
        true
    }
}

/// How often all files are looked at.
const CHECK_ALL: Duration = Duration::from_hours(24);

/// The same when a read has met damage that is not known.
const RAISED_AGAIN: Duration = Duration::from_secs(2);

/// The same when it may be known.
const KNOWN_AGAIN: Duration = Duration::from_mins(10);

/// How often damaged files are looked at.
const CHECK_AGAIN: Duration = Duration::from_secs(2);

/// After how many bytes looking pauses, so that it takes no disk from others.
const PAUSE_AFTER: u64 = 1 << 20;

/// For how long: with the reading itself, some 100 MB are read in a second.
const PAUSE: Duration = Duration::from_millis(8);
