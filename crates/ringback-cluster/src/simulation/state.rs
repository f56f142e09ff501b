//! What the nodes of a simulation agree on: a few numbers with owners, calls, erasures and a count.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A fact. Each names the command that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fact {
    /// A number belongs to an owner.
    Claimed { command: u32, number: u8, owner: u8 },
    /// A number belongs to nobody.
    Released { command: u32, number: u8 },
    /// A contact was called; so many erasures of it were known then.
    Called {
        command: u32,
        contact: u8,
        erasures: u8,
    },
    /// A contact was erased.
    Erased { command: u32, contact: u8 },
}

impl Fact {
    /// Its bytes: always seven.
    fn write(self, to: &mut Vec<u8>) {
        let (kind, command, first, second) = match self {
            Self::Claimed {
                command,
                number,
                owner,
            } => (1, command, number, owner),
            Self::Released { command, number } => (2, command, number, 0),
            Self::Called {
                command,
                contact,
                erasures,
            } => (3, command, contact, erasures),
            Self::Erased { command, contact } => (4, command, contact, 0),
        };
        to.push(kind);
        to.extend_from_slice(&command.to_le_bytes());
        to.extend_from_slice(&[first, second]);
    }

    /// The command that it comes from.
    pub(super) const fn command(self) -> u32 {
        match self {
            Self::Claimed { command, .. }
            | Self::Released { command, .. }
            | Self::Called { command, .. }
            | Self::Erased { command, .. } => command,
        }
    }
}

/// The bytes of facts.
pub(super) fn write(facts: &[Fact]) -> Vec<u8> {
    let mut to = Vec::new();
    facts.iter().for_each(|fact| fact.write(&mut to));
    to
}

/// Reads the bytes of facts.
pub(super) fn read(bytes: &[u8]) -> Vec<Fact> {
    assert_eq!(bytes.len() % 7, 0, "facts came out as others went in");
    let one = |bytes: &[u8]| {
        let command = u32::from_le_bytes(bytes[1..5].try_into().unwrap());
        let (first, second) = (bytes[5], bytes[6]);
        match bytes[0] {
            1 => Fact::Claimed {
                command,
                number: first,
                owner: second,
            },
            2 => Fact::Released {
                command,
                number: first,
            },
            3 => Fact::Called {
                command,
                contact: first,
                erasures: second,
            },
            4 => Fact::Erased {
                command,
                contact: first,
            },
            kind => panic!("a fact of kind {kind} was never written"),
        }
    };
    bytes.chunks(7).map(one).collect()
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    /// A number for an owner, if it is free.
    Claim { number: u8, owner: u8 },
    /// A number to be free, if it is not.
    Release { number: u8 },
    /// A call to be recorded, unless the contact was erased since: so many erasures were known.
    Call { contact: u8, erasures: u8 },
    /// A contact to be erased.
    Erase { contact: u8 },
}

/// The state that facts lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// The owners of numbers.
    owners: BTreeMap<u8, u8>,
    /// The calls to contacts.
    calls: BTreeSet<(u8, u32)>,
    /// How often contacts were erased.
    erasures: BTreeMap<u8, u8>,
    /// How many facts there were.
    count: u64,
}

impl State {
    /// How often a contact was erased.
    pub(super) fn erasures(&self, contact: u8) -> u8 {
        self.erasures.get(&contact).copied().unwrap_or(0)
    }

    /// The fact that fulfills a wish, if it is not against the rules.
    pub(super) fn check(&self, command: u32, wish: Wish) -> Option<Fact> {
        match wish {
            Wish::Claim { number, owner } => {
                (!self.owners.contains_key(&number)).then_some(Fact::Claimed {
                    command,
                    number,
                    owner,
                })
            }
            Wish::Release { number } => self
                .owners
                .contains_key(&number)
                .then_some(Fact::Released { command, number }),
            Wish::Call { contact, erasures } => {
                (self.erasures(contact) == erasures).then_some(Fact::Called {
                    command,
                    contact,
                    erasures,
                })
            }
            Wish::Erase { contact } => Some(Fact::Erased { command, contact }),
        }
    }

    /// Applies a fact without judgement; what must never be in a log ends the test.
    pub(super) fn apply(&mut self, fact: Fact) {
        self.count += 1;
        match fact {
            Fact::Claimed { number, owner, .. } => {
                let before = self.owners.insert(number, owner);
                assert_eq!(before, None, "number {number} has two owners");
            }
            Fact::Released { number, .. } => {
                let before = self.owners.remove(&number);
                assert!(before.is_some(), "number {number} was released twice");
            }
            Fact::Called {
                command,
                contact,
                erasures,
            } => {
                assert_eq!(self.erasures(contact), erasures, "an erased call is back");
                self.calls.insert((contact, command));
            }
            Fact::Erased { contact, .. } => {
                let erasures = self.erasures.entry(contact).or_default();
                *erasures = erasures.wrapping_add(1);
                self.calls.retain(|(of, _)| *of != contact);
            }
        }
    }

    /// A hash of everything.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}
