//! Small numbers that stand for environments and agents in the keys and values of calls.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use ringback_engine::JournalError;
use uuid::Uuid;

use crate::key;
use crate::table::Table;

/// UUIDs and their numbers, which are counted up from 0 and never reused.
#[derive(Default)]
pub(crate) struct Interner {
    /// The UUID of each number.
    ids: Vec<Uuid>,
    /// The number of each UUID.
    numbers: HashMap<Uuid, u32, RandomState>,
}

impl Interner {
    /// Reads the numbers from `state`.
    pub(crate) fn load(state: &Table) -> Result<Self, JournalError> {
        let mut interner = Self::default();
        for item in state.prefix(&[key::INTERNED]) {
            let (item_key, value) = item?;
            let number = u32::try_from(interner.ids.len()).unwrap_or(u32::MAX);
            let id = Uuid::from_slice(&value)
                .ok()
                .filter(|_| *item_key == key::interned_key(number))
                .ok_or_else(|| state.damaged())?;
            interner.extend(&[id]);
        }
        Ok(interner)
    }

    /// The number of a UUID, if it has one.
    pub(crate) fn number(&self, id: Uuid) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    /// The UUID of a number.
    pub(crate) fn id(&self, number: u32) -> Option<Uuid> {
        self.ids.get(number as usize).copied()
    }

    /// How many numbers have been given out.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Gives these UUIDs the next numbers.
    pub(crate) fn extend(&mut self, ids: &[Uuid]) {
        for id in ids {
            if let Ok(number) = u32::try_from(self.ids.len()) {
                self.ids.push(*id);
                self.numbers.insert(*id, number);
            }
        }
    }
}
