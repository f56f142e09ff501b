//! Erased contacts leave the files: of a key that is gone, log-structured trees keep the bytes until the
//! last table that had it is merged, which may take for ever, and the log until its segment is full.
//!
//! After an erasure, and a while in which others may follow, what is in memory is written to disk and the
//! log with it, and every tree is written anew. That runs on the merging thread, beside reads and writes,
//! needs as much room on the disk as the largest tree, and gives way whenever merging is needed. A record
//! in `state` says how far it has come, so that a restart does not forget it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lsm_tree::AbstractTree;
use lsm_tree::compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict};
use parking_lot::Mutex;
use ringback_engine::JournalError;

use crate::error::unavailable;
use crate::key;
use crate::log::Log;
use crate::prepare::Writes;
use crate::tables::{Table, Tables, describe};

/// Which erasures are yet to leave the files, and when that is due.
pub(crate) struct Erasures {
    /// The latest commit that erased a contact.
    erased: AtomicU64,
    /// Up to which commit erased contacts are gone from the files.
    purged: AtomicU64,
    /// When the files are to be written anew, if at all.
    due: Mutex<Option<Instant>>,
    /// How long after an erasure that is.
    delay: Duration,
}

impl Erasures {
    /// Reads what is yet to be done.
    pub(crate) fn load(state: &Table, delay: Duration) -> Result<Self, JournalError> {
        let sequence = |kind| -> Result<u64, JournalError> {
            let value = state.get(&[kind]).map_err(|error| state.located(error))?;
            value.map_or(Ok(0), |value| {
                key::decode_sequence(&value).ok_or_else(|| state.damaged())
            })
        };
        let (erased, purged) = (sequence(key::ERASED)?, sequence(key::PURGED)?);
        Ok(Self {
            erased: AtomicU64::new(erased),
            purged: AtomicU64::new(purged),
            due: Mutex::new((erased > purged).then(|| Instant::now() + delay)),
            delay,
        })
    }

    /// Notes that the commit with this sequence erased a contact; tells whether that is news.
    pub(crate) fn add(&self, sequence: u64) -> bool {
        self.erased.fetch_max(sequence, Ordering::AcqRel);
        let mut due = self.due.lock();
        let is_news = due.is_none();
        due.get_or_insert_with(|| Instant::now() + self.delay);
        is_news
    }

    /// When the files are to be written anew.
    pub(crate) fn due(&self) -> Option<Instant> {
        *self.due.lock()
    }

    /// Whether it is time.
    pub(crate) fn are_due(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }
}

impl Tables {
    /// Removes erased contacts from the files, if it is time; later, where that cannot be done now.
    pub(crate) fn purge_if_due(&self, log: &Mutex<Log>) {
        if !self.erasures.are_due() || self.progress.lock().closing {
            return;
        }
        let began = Instant::now();
        let erased = self.erasures.erased.load(Ordering::Acquire);
        self.interrupt.begin();
        let purged = self.purge(log, erased);
        self.interrupt.end();
        let took = began.elapsed();
        let mut due = self.erasures.due.lock();
        match purged {
            Ok(()) => {
                self.erasures.purged.store(erased, Ordering::Release);
                let more = self.erasures.erased.load(Ordering::Acquire) > erased;
                // At most a twentieth of the time goes into it.
                *due = more.then(|| Instant::now() + self.erasures.delay.max(took * 20));
                drop(due);
                tracing::info!(
                    duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    "erased contacts are gone from the files"
                );
            }
            Err(error) => {
                *due = Some(Instant::now() + AGAIN.max(took * 2));
                drop(due);
                if !self.progress.lock().closing {
                    tracing::warn!(
                        error = %describe(&error),
                        "erased contacts cannot leave the files yet; it is tried again"
                    );
                }
            }
        }
    }

    /// Removes the contacts erased up to this commit from the files.
    fn purge(&self, log: &Mutex<Log>, erased: u64) -> Result<(), JournalError> {
        self.write_out(log)?;
        for table in self.in_order() {
            if table.tree.table_count() > 0 {
                table.check_room(u64::MAX)?;
                table.rewrite()?;
            }
        }
        let sequence = erased.to_be_bytes();
        self.apply_unlogged(|| {
            let writes = Writes {
                state: vec![([key::PURGED].into(), Some(sequence.as_slice().into()))],
                ..Writes::default()
            };
            Ok((writes, ()))
        })
    }

    /// Writes what is in memory to disk, and has what the log holds of it removed.
    fn write_out(&self, log: &Mutex<Log>) -> Result<(), JournalError> {
        loop {
            // No commit is between the log and the tables while its lock is held.
            let mut log = log
                .try_lock_for(LOCK_WAIT)
                .ok_or_else(|| unavailable("commits are waiting"))?;
            let mut generation = self.generation.lock();
            let mut progress = self.progress.lock();
            if progress.closing {
                return Err(unavailable("the store is closed"));
            }
            if progress.sealed.is_none() {
                self.turn_over(&mut generation, progress);
                log.turn_over();
                break;
            }
            drop((log, generation));
            self.wait_written(&mut progress)?;
        }
        self.wait_written(&mut self.progress.lock())
    }
}

/// Breaks off the rewriting of whole trees, which asks before each record; merging is left alone.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Breaks off the rewriting that is going on, if any.
    pub(crate) fn set(&self) {
        let _none =
            self.0
                .compare_exchange(REWRITING, BROKEN_OFF, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Rewriting begins.
    fn begin(&self) {
        self.0.store(REWRITING, Ordering::Release);
    }

    /// Rewriting has ended.
    fn end(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// What a tree asks.
    pub(crate) fn filters(&self) -> Arc<dyn Factory> {
        Arc::new(self.clone())
    }
}

impl Factory for Interrupt {
    fn name(&self) -> &str {
        "interrupt"
    }

    fn make_filter(&self, _context: &Context) -> Box<dyn CompactionFilter> {
        Box::new(self.clone())
    }
}

impl CompactionFilter for Interrupt {
    fn filter_item(
        &mut self,
        _item: ItemAccessor<'_>,
        _context: &Context,
    ) -> lsm_tree::Result<Verdict> {
        if self.0.load(Ordering::Relaxed) == BROKEN_OFF {
            let interrupted =
                std::io::Error::other("interrupted, because something else matters more");
            return Err(lsm_tree::Error::Io(interrupted));
        }
        Ok(Verdict::Keep)
    }
}

/// A whole tree is being rewritten.
const REWRITING: u8 = 1;

/// The same, and it is to end.
const BROKEN_OFF: u8 = 2;

/// How long after a failure to try again, at least.
const AGAIN: Duration = Duration::from_secs(10);

/// How long to wait for a commit that waits itself.
const LOCK_WAIT: Duration = Duration::from_millis(500);
