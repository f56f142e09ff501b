//! Breaks off what takes long in the background and matters less than what comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use lsm_tree::compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict};

/// Breaks off the rewriting of a part, which asks before each record; merging is left alone.
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
    pub(crate) fn begin(&self) {
        self.0.store(REWRITING, Ordering::Release);
    }

    /// Rewriting has ended.
    pub(crate) fn end(&self) {
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

/// A part is being rewritten.
const REWRITING: u8 = 1;

/// The same, and it is to end.
const BROKEN_OFF: u8 = 2;
