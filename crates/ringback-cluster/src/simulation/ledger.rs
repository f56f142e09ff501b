//! What clients were told, held against the log.

use std::collections::{BTreeMap, HashMap};

use super::state::{Fact, read};
use crate::Chain;
use crate::wire::{Kind, Message};

/// What the client of a command was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing, so far or ever.
    Nothing,
    /// It is done: the log must have it.
    Done,
    /// It is not done and will not be: the log must never have it.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// What clients were told, and what nodes were like.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By command.
    told: Vec<Told>,
    /// The digest of the state at each chain that a node has been at.
    states: HashMap<Chain, u64>,
    /// The chain at each sequence.
    chains: BTreeMap<u64, Chain>,
}

impl Ledger {
    /// A new command.
    pub(super) fn begin(&mut self) -> u32 {
        self.told.push(Told::Nothing);
        self.told.len() as u32 - 1
    }

    /// Tells the client of a command.
    pub(super) fn tell(&mut self, command: u32, told: Told) {
        let before = std::mem::replace(&mut self.told[command as usize], told);
        let may_follow = match before {
            Told::Nothing => true,
            Told::Unknown => told != Told::Unknown,
            Told::Done | Told::NotDone => false,
        };
        assert!(may_follow, "command {command}: {before:?}, then {told:?}");
    }

    /// How many clients were told so.
    pub(super) fn count(&self, told: Told) -> usize {
        self.told.iter().filter(|one| **one == told).count()
    }

    /// Notes a node's state behind a message. With `one_log` no two nodes may have different messages there.
    pub(super) fn note(&mut self, sequence: u64, chain: Chain, digest: u64, one_log: bool) {
        let known = *self.states.entry(chain).or_insert(digest);
        assert_eq!(known, digest, "two nodes differ at {sequence}");
        if one_log {
            let known = *self.chains.entry(sequence).or_insert(chain);
            assert_eq!(known, chain, "two logs at {sequence}");
        }
    }

    /// Holds what clients were told against a log.
    pub(super) fn check<'m>(&self, messages: impl Iterator<Item = &'m [u8]>) {
        let mut times = vec![0; self.told.len()];
        for fact in facts_of(messages) {
            let times = times.get_mut(fact.command() as usize);
            *times.expect("a fact that nobody asked for") += 1;
        }
        for (command, (times, told)) in times.into_iter().zip(&self.told).enumerate() {
            assert!(times <= 1, "command {command} is in the log {times} times");
            match told {
                Told::Done => assert_eq!(times, 1, "command {command} was done, and is lost"),
                Told::NotDone => {
                    assert_eq!(times, 0, "command {command} was refused, and is there")
                }
                Told::Nothing | Told::Unknown => {}
            }
        }
    }
}

/// The facts of a log, by a second and simpler way of reading it: a run of messages that are all the parts of one
/// append, from the first to the last.
fn facts_of<'m>(messages: impl Iterator<Item = &'m [u8]>) -> Vec<Fact> {
    let messages: Vec<Message<'_>> = messages
        .map(|bytes| Message::read(bytes).unwrap())
        .collect();
    let mut facts = Vec::new();
    for (index, last) in messages.iter().enumerate() {
        let parts = usize::from(last.parts);
        if last.kind != Kind::Facts || usize::from(last.part) + 1 != parts || index + 1 < parts {
            continue;
        }
        let run = &messages[index + 1 - parts..=index];
        let is_whole = run.iter().enumerate().all(|(part, message)| {
            message.kind == Kind::Facts
                && message.append == last.append
                && usize::from(message.part) == part
        });
        if is_whole {
            let body: Vec<u8> = run
                .iter()
                .flat_map(|message| message.body)
                .copied()
                .collect();
            facts.extend(read(&body));
        }
    }
    facts
}
