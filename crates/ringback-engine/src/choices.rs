//! What a command takes from chance and from the clock, chosen once for it.

use std::cell::OnceCell;

use ringback_routing::Timestamp;
use uuid::Uuid;

/// The instant and the identifiers of one command: where it is run again, it uses the same, so that it leads
/// to the same facts.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    /// When the command was first run.
    now: Timestamp,
    /// The first of its identifiers, once one was asked for.
    first_id: OnceCell<Uuid>,
}

impl Choices {
    /// Those of a command that is first run at this instant.
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self {
            now,
            first_id: OnceCell::new(),
        }
    }

    /// When the command was first run.
    pub(crate) const fn now(&self) -> Timestamp {
        self.now
    }

    /// The identifier of the thing with this index among those that the command makes, all of which are
    /// ascending, and greater than those of commands before.
    pub(crate) fn id(&self, index: usize) -> Uuid {
        // In the least bits of a UUID of version 7 there is nothing but chance; the instant and the
        // counter, by which they are sorted, stand in front.
        let first = self.first_id.get_or_init(|| {
            let id = Uuid::now_v7().as_u128();
            Uuid::from_u128(id & !ROOM)
        });
        Uuid::from_u128(first.as_u128() | (index as u128 & ROOM))
    }
}

/// The bits that tell the identifiers of one command apart: as many as a list of calls in memory can need.
const ROOM: u128 = (1 << 24) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_chosen_once_ascend_and_are_of_version_7() {
        let choices = Choices::new(Timestamp::from_seconds(1));
        let ids: Vec<Uuid> = (0..1_000).map(|index| choices.id(index)).collect();
        assert!(ids.is_sorted_by(|left, right| left < right));
        assert_eq!(choices.id(7), ids[7]);
        let later = Choices::new(Timestamp::from_seconds(1));
        assert!(later.id(0) > ids[999]);
        assert_eq!(ids[999].get_version_num(), 7);
    }
}
