//! The synthetic contacts, agents and numbers that every tested server gets.
//!
//! A *line* is an outbound agent that calls from one number of its environment, together with the inbound agent
//! that has the callback role for it, owns the same number, and takes the calls that come back. Contact `i` was
//! called once, on line `line(i)`. So the contact alone determines the right answer to a call, for every server.

use rand::Rng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

/// The size of a population.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Population {
    /// The number of tenants.
    pub environments: u64,
    /// Numbers per tenant.
    pub numbers: u64,
    /// Lines per tenant: as many outbound agents, and as many inbound agents with a role.
    pub lines: u64,
}

impl Population {
    /// A laboratory: one tenant with 100 numbers and one line on each.
    pub const SMALL: Self = Self {
        environments: 1,
        numbers: 100,
        lines: 100,
    };

    /// A hosted platform: 100 tenants with 10 numbers and 100 lines each, so 20,000 agents.
    pub const REAL: Self = Self {
        environments: 100,
        numbers: 10,
        lines: 100,
    };

    /// Lines of all tenants.
    #[must_use]
    pub const fn all_lines(&self) -> u64 {
        self.environments * self.lines
    }

    /// Numbers of all tenants.
    #[must_use]
    pub const fn all_numbers(&self) -> u64 {
        self.environments * self.numbers
    }

    /// The line that contact `index` was called on.
    #[must_use]
    pub const fn line(&self, index: u64) -> u64 {
        mix(index) % self.all_lines()
    }

    /// The tenant that a line belongs to.
    #[must_use]
    pub const fn environment(&self, line: u64) -> u64 {
        line / self.lines
    }

    /// The number that a line calls from and is called back at, as an index over all tenants.
    #[must_use]
    pub const fn number_index(&self, line: u64) -> u64 {
        self.environment(line) * self.numbers + line % self.lines % self.numbers
    }

    /// The digits of the number of a line.
    #[must_use]
    pub const fn number(&self, line: u64) -> u64 {
        number(self.number_index(line))
    }

    /// The line whose inbound agent takes calls to this line's number that no role claims: the agent that was
    /// assigned first.
    #[must_use]
    pub const fn default_line(&self, line: u64) -> u64 {
        self.environment(line) * self.lines + line % self.lines % self.numbers
    }

    /// The targets of calls that come back to a line, in order. Every fourth line of a larger population has two.
    #[must_use]
    pub fn targets(&self, line: u64) -> Vec<String> {
        let mut targets = vec![target(line)];
        if self.environments > 1 && line.is_multiple_of(4) {
            targets.push(format!("sip:callback-{line:03}@backup.example.net:5060"));
        }
        targets
    }
}

/// How callers are drawn from contacts.
#[derive(Clone, Copy, Debug)]
pub enum Callers {
    /// Each contact equally often.
    Even(u64),
    /// A few contacts often, most of them rarely: Zipf's law.
    Zipf(Zipf<f64>),
}

impl Callers {
    /// The exponent of [`Self::zipf`].
    pub const EXPONENT: f64 = 1.1;

    /// The first `count` contacts by Zipf's law.
    ///
    /// # Panics
    /// `count` is 0.
    #[must_use]
    pub fn zipf(count: u64) -> Self {
        match Zipf::new(count as f64, Self::EXPONENT) {
            Ok(zipf) => Self::Zipf(zipf),
            Err(error) => panic!("{count} contacts: {error}"),
        }
    }

    /// Draws a contact.
    pub fn draw(&self, random: &mut SmallRng) -> u64 {
        match self {
            Self::Even(count) => random_contact(random, *count),
            Self::Zipf(zipf) => zipf.sample(random) as u64 - 1,
        }
    }
}

/// The most different contacts.
pub const MOST_CONTACTS: u64 = 100_000_000;

/// The digits of contact `index` (below [`MOST_CONTACTS`]): a Brazilian mobile number. Every index has its own,
/// in no visible order.
#[must_use]
pub const fn contact(index: u64) -> u64 {
    // A step that shares no factor with the number of contacts visits each contact once.
    5_511_900_000_000 + (index * 61_803_399 + 17) % MOST_CONTACTS
}

/// The digits of a number that was never called.
#[must_use]
pub const fn stranger(index: u64) -> u64 {
    5_521_900_000_000 + (index * 61_803_399 + 17) % MOST_CONTACTS
}

/// The digits of the number with this index.
#[must_use]
pub const fn number(index: u64) -> u64 {
    551_130_000_000 + index
}

/// The first target of calls that come back to a line.
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

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn contacts_differ_from_one_another_and_from_strangers() {
        let mut seen = HashSet::new();
        for index in (0..100_000).chain(MOST_CONTACTS - 100_000..MOST_CONTACTS) {
            assert!(seen.insert(contact(index)), "{index}");
            assert!(seen.insert(stranger(index)), "{index}");
        }
    }

    #[test]
    fn every_line_has_a_number_of_its_tenant_and_every_number_lines() {
        for population in [Population::SMALL, Population::REAL] {
            let mut numbers = HashSet::new();
            for line in 0..population.all_lines() {
                let number = population.number_index(line);
                assert_eq!(number / population.numbers, population.environment(line));
                let default = population.default_line(line);
                assert_eq!(population.number_index(default), number);
                assert!(default <= line);
                numbers.insert(number);
            }
            assert_eq!(numbers.len() as u64, population.all_numbers());
        }
    }

    #[test]
    fn zipf_draws_known_contacts_and_the_first_most_often() {
        let callers = Callers::zipf(1_000);
        let mut random = SmallRng::seed_from_u64(1);
        let mut counts = vec![0_u32; 1_000];
        for _ in 0..100_000 {
            counts[callers.draw(&mut random) as usize] += 1;
        }
        assert_eq!(counts.iter().max(), counts.first());
        assert!(counts[0] > 10 * counts[99]);
    }
}
