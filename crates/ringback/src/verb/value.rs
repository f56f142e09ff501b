//! Values of arguments that several commands take, and the bodies made of them.

use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ringback_api::{Done, TargetNew};
use ringback_routing::{AgentStatus, CallStatus, Direction, NumberForm};

use crate::output::escaped;

/// One place that a call can be sent to: `URI [PRIORITY [WEIGHT]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetArg {
    /// A SIP URI.
    uri: String,
    /// Lower is tried first.
    priority: u16,
    /// Share within one priority.
    weight: u16,
}

impl TargetArg {
    /// As the API takes it.
    fn to_api(&self) -> TargetNew {
        TargetNew::Ranked {
            uri: self.uri.clone(),
            priority: self.priority,
            weight: self.weight,
        }
    }
}

impl FromStr for TargetArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let uri = words.next().ok_or("a SIP URI is needed")?.to_owned();
        let mut number = |what: &str| match words.next() {
            None => Ok(0),
            Some(word) => word
                .parse()
                .map_err(|_| format!("{what} `{word}` is not a number from 0 to 65535")),
        };
        let (priority, weight) = (number("priority")?, number("weight")?);
        match words.next() {
            None => Ok(Self {
                uri,
                priority,
                weight,
            }),
            Some(word) => Err(format!("`{word}` comes after URI, priority and weight")),
        }
    }
}

/// Reads a time span into seconds: `3600`, `90m`, `12h`, `30d`, `4w`.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 60 * 60),
        Some((at, 'd')) => (&text[..at], 24 * 60 * 60),
        Some((at, 'w')) => (&text[..at], 7 * 24 * 60 * 60),
        _ => (text, 1),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit))
        .ok_or_else(|| "not a time span such as 3600, 90m, 12h, 30d or 4w".to_owned())
}

/// The targets of a request: those given, or an empty list where there are to be none.
pub(crate) fn targets(given: &[TargetArg], none: bool) -> Option<Vec<TargetNew>> {
    let list: Vec<TargetNew> = given.iter().map(TargetArg::to_api).collect();
    (none || !list.is_empty()).then_some(list)
}

/// A list, where something was given.
pub(crate) fn list<T: Clone>(items: &[T]) -> Option<Vec<T>> {
    (!items.is_empty()).then(|| items.to_vec())
}

/// What the API says when there is nothing else to show.
pub(crate) fn said(answer: &Done) -> String {
    format!("{}\n", escaped(&answer.message))
}

/// Reads the direction of an agent.
pub(crate) fn direction() -> impl TypedValueParser<Value = Direction> {
    let help = |direction: &Direction| match direction {
        Direction::Inbound => "Takes calls",
        Direction::Outbound => "Makes calls",
    };
    one_of(&Direction::ALL, Direction::name, help)
}

/// Reads the status of an agent.
pub(crate) fn agent_status() -> impl TypedValueParser<Value = AgentStatus> {
    let help = |status: &AgentStatus| match status {
        AgentStatus::Draft => "Takes no part in routing",
        AgentStatus::Published => "Takes part in routing",
    };
    one_of(&AgentStatus::ALL, AgentStatus::name, help)
}

/// Reads the form of numbers without `+`.
pub(crate) fn number_form() -> impl TypedValueParser<Value = NumberForm> {
    let help = |form: &NumberForm| match form {
        NumberForm::National => "As dialed within the country",
        NumberForm::E164 => "E.164 without its plus",
    };
    one_of(&NumberForm::ALL, NumberForm::name, help)
}

/// Reads the status of a call.
pub(crate) fn call_status() -> impl TypedValueParser<Value = CallStatus> {
    let words = CallStatus::ALL.map(|status| {
        let word = PossibleValue::new(status.name());
        match status {
            CallStatus::NoAnswer => word.alias("no-answer"),
            _ => word,
        }
    });
    PossibleValuesParser::new(words).try_map(|word| word.parse::<CallStatus>())
}

/// Reads one of these values by its name.
fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    help: fn(&T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let words = all
        .iter()
        .map(|value| PossibleValue::new(name(*value)).help(help(value)));
    PossibleValuesParser::new(words).try_map(move |word| {
        let mut all = all.iter();
        let found = all.find(|value| name(**value) == word).copied();
        found.ok_or(std::fmt::Error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_read_with_their_unit() {
        assert_eq!(seconds("3600"), Ok(3600));
        assert_eq!(seconds("90m"), Ok(5400));
        assert_eq!(seconds("12h"), Ok(43_200));
        assert_eq!(seconds("30d"), Ok(2_592_000));
        assert_eq!(seconds("1w"), Ok(604_800));
        for bad in [
            "",
            "d",
            "-1",
            "1.5h",
            "1y",
            "99999999999999999999d",
            "1 d",
            "é",
        ] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_are_read_with_priority_and_weight() {
        let target: TargetArg = "sip:a@b;x=1,2 10 70".parse().unwrap();
        assert_eq!(
            target.to_api(),
            TargetNew::Ranked {
                uri: "sip:a@b;x=1,2".to_owned(),
                priority: 10,
                weight: 70
            }
        );
        let target: TargetArg = "sip:a@b".parse().unwrap();
        assert_eq!(
            target.to_api(),
            TargetNew::Ranked {
                uri: "sip:a@b".to_owned(),
                priority: 0,
                weight: 0
            }
        );
        for bad in ["", "sip:a@b x", "sip:a@b 70000", "sip:a@b 1 2 3"] {
            assert!(bad.parse::<TargetArg>().is_err(), "{bad}");
        }
    }
}
