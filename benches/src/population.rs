//! The synthetic contacts, agents and numbers that every server under test is loaded with.
//!
//! Contact `i` was called once, on *line* `line(i)`. Line `n` is outbound agent `n` calling from its
//! own number; inbound agent `n` holds the callback role for it, owns the same number, and has one
//! target. So the right answer to a call is known from the contact alone, whoever gives it.

use rand::Rng;
use rand::rngs::SmallRng;

/// How many lines there are.
pub const LINES: u64 = 100;

/// How many different contacts there can be.
pub const MOST_CONTACTS: u64 = 100_000_000;

/// The digits of contact `index` (below [`MOST_CONTACTS`]): a Brazilian mobile number. Different for
/// every index, in no visible order.
#[must_use]
pub const fn contact(index: u64) -> u64 {
    // A step that shares no factor with the number of contacts visits each once.
    5_511_900_000_000 + (index * 61_803_399 + 17) % MOST_CONTACTS
}

/// The digits of a number that nobody was ever called at.
#[must_use]
pub const fn stranger(index: u64) -> u64 {
    5_521_900_000_000 + (index * 61_803_399 + 17) % MOST_CONTACTS
}

/// The line that contact `index` was called on.
#[must_use]
pub const fn line(index: u64) -> u64 {
    mix(index) % LINES
}

/// The digits of the number of a line.
#[must_use]
pub const fn number(line: u64) -> u64 {
    551_130_000_000 + line
}

/// Where calls that come back to a line must go.
#[must_use]
pub fn target(line: u64) -> String {
    format!("sip:callback-{line:03}@agents.example.net:5060")
}

/// One of the first `count` contacts, at random.
pub fn random_contact(random: &mut SmallRng, count: u64) -> u64 {
    random.random_range(0..count)
}

/// SplitMix64's finalizer: scatters consecutive integers.
#[must_use]
pub const fn mix(index: u64) -> u64 {
    let mut mixed = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn contacts_differ_from_one_another_and_from_strangers() {
        let mut seen = HashSet::new();
        for index in (0..100_000).chain(MOST_CONTACTS - 100_000..MOST_CONTACTS) {
            assert!(seen.insert(contact(index)), "{index}");
            assert!(seen.insert(stranger(index)), "{index}");
        }
    }
}
