//! The random and time values of a command, chosen once for it.

use std::cell::OnceCell;

use ringback_routing::Timestamp;
use uuid::Uuid;

/// The instant and the identifiers of one command. When the command runs again, it uses the same ones, and so
/// makes the same facts.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    /// When the command was first run.
    now: Timestamp,
    /// The first of its identifiers, once the command has used one.
    first_id: OnceCell<Uuid>,
    /// Its secret, once the command has used it.
    secret: OnceCell<[u8; 16]>,
}

impl Choices {
    /// The choices of a command that first runs at this instant.
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self {
            now,
            first_id: OnceCell::new(),
            secret: OnceCell::new(),
        }
    }

    /// When the command was first run.
    pub(crate) const fn now(&self) -> Timestamp {
        self.now
    }

    /// Bytes that nobody can guess (122 bits of them).
    pub(crate) fn secret(&self) -> [u8; 16] {
        let secret = || Uuid::new_v4().into_bytes();
        *self.secret.get_or_init(secret)
    }

    /// The identifier with this index among those that the command makes. They ascend, and are greater than those
    /// of earlier commands.
    pub(crate) fn id(&self, index: usize) -> Uuid {
        // The lowest bits of a UUID of version 7 are random; the instant and the counter, which decide its order,
        // are above them.
        let first = self.first_id.get_or_init(|| {
            let id = Uuid::now_v7().as_u128();
            Uuid::from_u128(id & !ROOM)
        });
        Uuid::from_u128(first.as_u128() | (index as u128 & ROOM))
    }
}

/// The bits that tell the identifiers of one command apart: enough for the longest list of calls that fits into
/// memory.
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
