//! Values of arguments that several commands take, and the bodies made of them.

use std::str::FromStr;

use serde_json::{Map, Value, json};

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
    pub(crate) fn body(&self) -> Value {
        json!({"uri": self.uri, "priority": self.priority, "weight": self.weight})
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

/// A body of the fields that were given.
#[derive(Debug, Default)]
pub(crate) struct Body(Map<String, Value>);

impl Body {
    /// Adds a field, where it has a value.
    pub(crate) fn with(mut self, name: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
        self
    }

    /// Adds a field that a flag clears.
    pub(crate) fn clear(mut self, name: &str, clear: bool) -> Self {
        if clear {
            self.0.insert(name.to_owned(), Value::Null);
        }
        self
    }

    /// Adds a list of targets, where one was given.
    pub(crate) fn targets(self, name: &str, targets: &[TargetArg], clear: bool) -> Self {
        let list: Vec<Value> = targets.iter().map(TargetArg::body).collect();
        self.with(name, (clear || !list.is_empty()).then_some(list))
    }

    /// The body.
    pub(crate) fn build(self) -> Value {
        Value::Object(self.0)
    }
}

/// A list of texts, where there is one.
pub(crate) fn list(items: &[String]) -> Option<Vec<Value>> {
    (!items.is_empty()).then(|| {
        items
            .iter()
            .map(|item| Value::from(item.as_str()))
            .collect()
    })
}

/// What the API says when there is nothing else to show.
pub(crate) fn said(answer: &Value, otherwise: &str) -> String {
    let message = answer.get("message").and_then(Value::as_str);
    format!("{}\n", message.unwrap_or(otherwise))
}

/// The statuses of a call.
pub(crate) const STATUSES: [&str; 9] = [
    "initiated",
    "ringing",
    "answered",
    "completed",
    "failed",
    "busy",
    "no_answer",
    "no-answer",
    "voicemail",
];

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
            target.body(),
            json!({"uri": "sip:a@b;x=1,2", "priority": 10, "weight": 70})
        );
        let target: TargetArg = "sip:a@b".parse().unwrap();
        assert_eq!(
            target.body(),
            json!({"uri": "sip:a@b", "priority": 0, "weight": 0})
        );
        for bad in ["", "sip:a@b x", "sip:a@b 70000", "sip:a@b 1 2 3"] {
            assert!(bad.parse::<TargetArg>().is_err(), "{bad}");
        }
    }
}
