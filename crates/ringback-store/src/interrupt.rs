//! Cancels long background work when more urgent work arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use lsm_tree::compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict};

/// Cancels the rewriting of a part, which checks this before each record. Merging is never canceled.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Cancels the rewriting in progress, if any.
    pub(crate) fn set(&self) {
        let _none =
            self.0
                .compare_exchange(REWRITING, BROKEN_OFF, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Notes that rewriting begins.
    pub(crate) fn begin(&self) {
        self.0.store(REWRITING, Ordering::Release);
    }

    /// Notes that rewriting has ended.
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// The filter that a tree calls for each record while it rewrites.
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

/// A part is being rewritten, and is to stop.
const BROKEN_OFF: u8 = 2;
