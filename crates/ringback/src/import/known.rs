//! What an environment knows that rows refer to: its agents by name, its numbers, and who calls from them.
//!
//! It is asked once, when the first row needs it.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use ringback_api::{Agent, PhoneNumber};
use ringback_routing::{Country, Direction, E164, NumberRulesRef};

use crate::client::{ApiPath, Client, ClientError};

/// An environment as rows need it.
pub(crate) struct Environment<'a> {
    /// Whom to ask; `None`: there is nothing to know.
    client: Option<&'a Client>,
    /// What was answered.
    known: OnceCell<Known>,
}

/// What was answered.
#[derive(Debug, Default)]
struct Known {
    /// The id of the agent with a name; `None`: several have it.
    names: HashMap<String, Option<String>>,
    /// The same by label.
    labels: HashMap<String, Option<String>>,
    /// The environment's numbers, by their subscribers.
    numbers: HashSet<E164>,
    /// The outbound agent to which a number is assigned; `None`: several are.
    callers: HashMap<E164, Option<String>>,
    /// The countries of the numbers.
    countries: Vec<Country>,
}

impl<'a> Environment<'a> {
    /// The environment to which the client's token belongs.
    pub(crate) fn new(client: &'a Client) -> Self {
        Self {
            client: Some(client),
            known: OnceCell::new(),
        }
    }

    /// The id of the only agent with this name, or else with this label.
    pub(crate) fn agent_named(&self, name: &str) -> Result<Option<&str>, ClientError> {
        let known = self.known()?;
        let found = known.names.get(name).or_else(|| known.labels.get(name));
        Ok(found.and_then(Option::as_deref))
    }

    /// The id of the outbound agent that alone owns the calling number.
    pub(crate) fn caller(&self, from: &str) -> Result<Option<&str>, ClientError> {
        let known = self.known()?;
        Ok(known
            .own(from)
            .and_then(|number| known.callers.get(&number))
            .and_then(Option::as_deref))
    }

    /// Whether a text is a number of the environment, written in full or as in the country of one of its numbers.
    pub(crate) fn owns(&self, text: &str) -> Result<bool, ClientError> {
        Ok(self.known()?.own(text).is_some())
    }

    /// What is known.
    fn known(&self) -> Result<&Known, ClientError> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let known = match self.client {
            Some(client) => Known::new(
                &client.get_all(&ApiPath::new(["agents"]))?.data,
                &client.get_all(&ApiPath::new(["phone-numbers"]))?.data,
            ),
            None => Known::default(),
        };
        Ok(self.known.get_or_init(|| known))
    }
}

impl Known {
    /// From the lists of agents and numbers.
    fn new(agents: &[Agent], numbers: &[PhoneNumber]) -> Self {
        let mut known = Self::default();
        for number in numbers.iter().map(|number| number.number) {
            known.numbers.insert(number.subscriber());
            if let Some(country) = Country::of(number)
                && !known.countries.contains(&country)
            {
                known.countries.push(country);
            }
        }
        for agent in agents {
            let id = &agent.id.to_string();
            only(&mut known.names, agent.name.clone(), id);
            only(&mut known.labels, agent.label.clone(), id);
            if agent.direction == Direction::Outbound {
                for number in &agent.phone_numbers {
                    only(&mut known.callers, number.number.subscriber(), id);
                }
            }
        }
        known
    }

    /// The subscriber of ours that a text names.
    fn own(&self, text: &str) -> Option<E164> {
        let readings = std::iter::once(None).chain(self.countries.iter().copied().map(Some));
        for country in readings {
            let rules = NumberRulesRef {
                country,
                ..NumberRulesRef::default()
            };
            if let Some(number) = ringback_admin::read_number(text, rules).number()
                && self.numbers.contains(&number.subscriber())
            {
                return Some(number.subscriber());
            }
        }
        // Digits of a full number without a plus are ours too, whatever a country reads them as.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = E164::from_digits(text.parse().ok().filter(|_| digits)?)?;
        self.numbers
            .contains(&number.subscriber())
            .then_some(number.subscriber())
    }
}

/// Enters who alone has something.
fn only<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Option<String>>, key: K, id: &str) {
    map.entry(key)
        .and_modify(|known| *known = None)
        .or_insert_with(|| Some(id.to_owned()));
}

#[cfg(test)]
impl Environment<'_> {
    /// An environment with these agents and numbers.
    pub(super) fn of(agents: &[Agent], numbers: &[PhoneNumber]) -> Self {
        Self {
            client: None,
            known: OnceCell::from(Known::new(agents, numbers)),
        }
    }
}

#[cfg(test)]
pub(super) mod samples {
    use ringback_api::NumberOfAgent;
    use ringback_routing::{AgentId, AgentStatus, NumberId, Timestamp};
    use uuid::Uuid;

    use super::*;

    /// An agent with these numbers.
    pub(crate) fn agent(
        id: u128,
        name: &str,
        label: &str,
        direction: Direction,
        numbers: &[&str],
    ) -> Agent {
        let number = |text: &&str| NumberOfAgent {
            id: NumberId(Uuid::nil()),
            number: E164::from_canonical(text.as_bytes()).unwrap(),
            country_code: None,
            formatted_number: (*text).to_owned(),
        };
        Agent {
            id: AgentId(Uuid::from_u128(id)),
            name: name.to_owned(),
            label: label.to_owned(),
            description: None,
            direction,
            current_status: AgentStatus::Published,
            phone_numbers: numbers.iter().map(number).collect(),
            targets: Vec::new(),
            external_ids: std::collections::BTreeMap::new(),
            created_at: Timestamp::from_millis(0),
            updated_at: Timestamp::from_millis(0),
        }
    }

    /// These numbers.
    pub(crate) fn numbers<const N: usize>(texts: [&str; N]) -> [PhoneNumber; N] {
        texts.map(|text| PhoneNumber {
            id: NumberId(Uuid::nil()),
            number: E164::from_canonical(text.as_bytes()).unwrap(),
            country_code: None,
            formatted_number: text.to_owned(),
            agents: Vec::new(),
            default_agent_id: None,
            created_at: Timestamp::from_millis(0),
        })
    }

    /// The id of an agent, as it is written.
    pub(crate) fn id(number: u128) -> String {
        Uuid::from_u128(number).to_string()
    }
}

#[cfg(test)]
mod tests {
    use Direction::{Inbound, Outbound};

    use super::samples::{agent, id, numbers};
    use super::*;

    #[test]
    fn agents_are_found_by_name_and_by_the_number_that_they_alone_call_from() {
        let shared = ["+12025550100", "+12025550101"];
        let environment = Environment::of(
            &[
                agent(1, "Sales", "Twice", Outbound, &shared),
                agent(2, "Care", "Twice", Outbound, &["+12025550101"]),
                agent(
                    3,
                    "Desk",
                    "Front",
                    Inbound,
                    &["+12025550100", "+12025550102"],
                ),
            ],
            &numbers(["+12025550100", "+12025550101", "+12025550102"]),
        );
        let named = |name| environment.agent_named(name).unwrap().map(str::to_owned);
        assert_eq!(named("Sales"), Some(id(1)));
        assert_eq!(named("Front"), Some(id(3)));
        assert_eq!(named("Twice"), None);
        assert_eq!(named("Nobody"), None);
        let caller = |number| environment.caller(number).unwrap().map(str::to_owned);
        for number in [
            "+12025550100",
            "12025550100",
            "2025550100",
            "(202) 555-0100",
        ] {
            assert_eq!(caller(number), Some(id(1)), "{number}");
        }
        assert_eq!(caller("+12025550101"), None, "two agents call from it");
        assert_eq!(caller("+12025550102"), None, "no agent calls from it");
        assert_eq!(caller("+12025550109"), None, "it is not ours");
        assert!(environment.owns("2025550102").unwrap());
        assert!(!environment.owns("5550102").unwrap(), "never by suffix");
    }
}
