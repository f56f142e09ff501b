//! The battery that every journal passes, over a stream in memory.

mod in_memory;

use ringback_testkit::{MemoryJournal, journal_battery};
use uuid::Uuid;

use crate::{ClusterJournal, Codec};
use in_memory::{DirectLink, SharedStream};

/// A node on a stream in memory.
#[derive(Default)]
struct Node {
    /// The stream.
    stream: SharedStream,
    /// The disk of the node.
    store: MemoryJournal,
    /// How often it was started.
    runs: u64,
}

impl Node {
    /// A node on another one's stream.
    fn beside(&self) -> Self {
        Self {
            stream: self.stream.clone(),
            store: MemoryJournal::default(),
            runs: 1_000,
        }
    }
}

impl ringback_testkit::battery::Rig for Node {
    type Journal = ClusterJournal<MemoryJournal, DirectLink>;

    fn open(&mut self) -> Self::Journal {
        self.runs += 1;
        let place = Self::Journal::place_of(&self.store).expect("readable");
        let link = DirectLink::new(self.stream.clone(), CLUSTER, place, self.runs);
        ClusterJournal::new(self.store.clone(), link, CODEC, CLUSTER).expect("readable")
    }

    fn crash(&mut self, journal: Self::Journal) {
        drop(journal);
    }
}

/// The cluster.
const CLUSTER: Uuid = Uuid::from_u128(3);

/// The store's way to write facts.
const CODEC: Codec = Codec {
    write: ringback_store::write_facts,
    read: ringback_store::read_facts,
};

mod in_one_node {
    use super::*;

    journal_battery!(Node::default());
}

mod between_nodes {
    use ringback_engine::{AppendError, Change, Journal, Sequence};
    use ringback_testkit::battery::{Rig, samples};

    use super::*;

    /// The facts that a journal gives out.
    fn taken(journal: &mut impl Journal) -> Vec<(u64, bool, Vec<Change>)> {
        let mut taken = Vec::new();
        while let Some(entry) = journal.committed().expect("readable") {
            taken.push((entry.sequence.0, entry.is_own, entry.facts));
        }
        taken
    }

    /// What concerns one node stays there: the counters of each follow from its own marks.
    #[test]
    fn others_get_what_concerns_all() {
        let mut first = Node::default();
        let mut second = first.beside();
        let (mut here, mut there) = (first.open(), second.open());
        let (local, shared): (Vec<_>, Vec<_>) = samples().into_iter().partition(Change::is_local);
        assert!(!local.is_empty());
        let mut facts = samples();
        here.append(Sequence(0), &mut facts).expect("appended");
        assert_eq!(taken(&mut here), [(1, true, samples())]);
        assert_eq!(taken(&mut there), [(1, false, shared)]);
    }

    #[test]
    fn of_two_nodes_that_append_on_one_state_one_has_a_conflict() {
        let mut first = Node::default();
        let mut second = first.beside();
        let (mut here, mut there) = (first.open(), second.open());
        let facts = || samples().into_iter().take(2).collect::<Vec<_>>();
        here.append(Sequence(0), &mut facts()).expect("appended");
        let mut late = facts();
        let refused = there.append(Sequence(0), &mut late);
        assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
        assert_eq!(late, facts());
        assert_eq!(taken(&mut there), [(1, false, facts())]);
        there.append(Sequence(1), &mut late).expect("appended");
        assert_eq!(taken(&mut there), [(2, true, facts())]);
        assert_eq!(taken(&mut here), [(1, true, facts()), (2, false, facts())]);
    }

    /// A change can be larger than a message: it comes whole, or not at all.
    #[test]
    fn facts_of_many_messages_are_one_entry() {
        let mut first = Node::default();
        let mut second = first.beside();
        let (mut here, mut there) = (first.open(), second.open());
        let shared = || samples().into_iter().filter(|fact| !fact.is_local());
        let many = || std::iter::repeat_with(shared).take(200).flatten();
        let mut facts: Vec<_> = many().collect();
        let sequence = here.append(Sequence(0), &mut facts).expect("appended");
        assert!(sequence.0 > 10, "{sequence:?}");
        assert_eq!(taken(&mut here).len(), 1);
        assert_eq!(taken(&mut there), [(sequence.0, false, many().collect())]);
        assert_eq!(there.position(), sequence);
    }

    /// A node that ends behind another one goes on where its store is.
    #[test]
    fn a_node_that_was_away_goes_on_where_it_stopped() {
        let mut first = Node::default();
        let mut second = first.beside();
        let (mut here, mut there) = (first.open(), second.open());
        let facts = || samples().into_iter().take(2).collect::<Vec<_>>();
        here.append(Sequence(0), &mut facts()).expect("appended");
        assert_eq!(taken(&mut there).len(), 1);
        second.crash(there);
        taken(&mut here);
        here.append(Sequence(1), &mut facts()).expect("appended");
        let mut there = second.open();
        assert_eq!(there.position(), Sequence(1));
        assert_eq!(taken(&mut there), [(2, false, facts())]);
    }

    /// Nobody knows what became of an append: then it comes, as one of this node, with what concerns this node only.
    #[test]
    fn an_append_that_was_not_confirmed_comes_or_never_comes() {
        for is_kept in [true, false] {
            let mut node = Node::default();
            let mut journal = node.open();
            let facts = || samples();
            let mut appended = facts();
            node.stream.silence(is_kept);
            let unsure = journal.append(Sequence(0), &mut appended);
            assert!(
                matches!(unsure, Err(AppendError::Unconfirmed)),
                "{unsure:?}"
            );
            assert_eq!(appended, facts(), "the caller's list is as it was");
            assert!(journal.recover().is_err(), "nobody knows yet");
            let refused = journal.append(Sequence(0), &mut appended);
            assert!(
                matches!(refused, Err(AppendError::Unreachable)),
                "{refused:?}"
            );
            node.stream.speak();
            journal.recover().expect("settled");
            if is_kept {
                assert_eq!(taken(&mut journal), [(1, true, facts())]);
            } else {
                assert_eq!(taken(&mut journal), []);
            }
            let position = journal.position();
            journal.append(position, &mut appended).expect("appended");
            assert_eq!(taken(&mut journal).len(), 1);
        }
    }
}
