//! What an environment knows that rows refer to: its agents by name, its numbers, and who calls from them.
//!
//! It is asked once, when the first row needs it.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use ringback_routing::{Country, E164, NumberRulesRef};
use serde_json::Value;

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
                &client.get_all(&ApiPath::new(["agents"]))?.value,
                &client.get_all(&ApiPath::new(["phone-numbers"]))?.value,
            ),
            None => Known::default(),
        };
        Ok(self.known.get_or_init(|| known))
    }
}

impl Known {
    /// From the lists of agents and numbers, as the API writes them.
    fn new(agents: &Value, numbers: &Value) -> Self {
        let mut known = Self::default();
        for number in items(numbers) {
            let Some(number) = number_of(number) else {
                continue;
            };
            known.numbers.insert(number.subscriber());
            if let Some(country) = Country::of(number)
                && !known.countries.contains(&country)
            {
                known.countries.push(country);
            }
        }
        for agent in items(agents) {
            let id = text(agent, "id");
            only(&mut known.names, text(agent, "name").to_owned(), id);
            only(&mut known.labels, text(agent, "label").to_owned(), id);
            if text(agent, "direction") == "outbound" {
                let numbers = agent.get("phone_numbers").unwrap_or(&Value::Null);
                for number in items(numbers).filter_map(number_of) {
                    only(&mut known.callers, number.subscriber(), id);
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

/// The entries of a list.
fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A text of an object.
fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The number of an object.
fn number_of(object: &Value) -> Option<E164> {
    E164::from_canonical(text(object, "number").as_bytes())
}

#[cfg(test)]
impl Environment<'_> {
    /// An environment with these agents and numbers.
    pub(super) fn of(agents: &Value, numbers: &Value) -> Self {
        Self {
            client: None,
            known: OnceCell::from(Known::new(agents, numbers)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn agents_are_found_by_name_and_by_the_number_that_they_alone_call_from() {
        let agents = json!([
            {"id": "1", "name": "Sales", "label": "Twice", "direction": "outbound",
             "phone_numbers": [{"number": "+12025550100"}, {"number": "+12025550101"}]},
            {"id": "2", "name": "Care", "label": "Twice", "direction": "outbound",
             "phone_numbers": [{"number": "+12025550101"}]},
            {"id": "3", "name": "Desk", "label": "Front", "direction": "inbound",
             "phone_numbers": [{"number": "+12025550100"}, {"number": "+12025550102"}]},
        ]);
        let numbers = json!([{"number": "+12025550100"}, {"number": "+12025550101"},
            {"number": "+12025550102"}]);
        let environment = Environment::of(&agents, &numbers);
        let named = |name| environment.agent_named(name).unwrap();
        assert_eq!(named("Sales"), Some("1"));
        assert_eq!(named("Front"), Some("3"));
        assert_eq!(named("Twice"), None);
        assert_eq!(named("Nobody"), None);
        let caller = |number| environment.caller(number).unwrap();
        for number in [
            "+12025550100",
            "12025550100",
            "2025550100",
            "(202) 555-0100",
        ] {
            assert_eq!(caller(number), Some("1"), "{number}");
        }
        assert_eq!(caller("+12025550101"), None, "two agents call from it");
        assert_eq!(caller("+12025550102"), None, "no agent calls from it");
        assert_eq!(caller("+12025550109"), None, "it is not ours");
        assert!(environment.owns("2025550102").unwrap());
        assert!(!environment.owns("5550102").unwrap(), "never by suffix");
    }
}
