//! Reading a reported call from JSON, without building a tree of values: the same for one call and
//! for each line of a batch.
//!
//! Any type is read for any field, so that a wrong one is reported under its field. Numbers in
//! canonical form and times as `2026-11-21T12:00:00Z` are read without allocation.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use ringback_engine::NewCall;
use ringback_routing::{AgentId, CallStatus, Caller, E164, NumberRulesRef, Timestamp, read_id};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::error::FieldErrors;
use crate::fields::{required, selected};
use crate::identity;
use crate::ignored::IgnoredFields;

/// The fields of a reported call, as they are written. Unknown ones are ignored, but known by name; of a
/// repeated one the last counts.
#[derive(Debug, Default)]
pub(crate) struct CallText<'a> {
    /// The agent that called.
    agent_id: Text<'a>,
    /// Whom it called.
    to: Text<'a>,
    /// The number that it called from.
    from: Text<'a>,
    /// How far it got.
    status: Text<'a>,
    /// When it started.
    started_at: Text<'a>,
    /// The call id.
    sid: Text<'a>,
    /// The first of the names of unknown fields.
    unknown: SmallVec<[Cow<'a, str>; 2]>,
}

/// Why a text is no reported call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotACall {
    /// It is no JSON.
    Malformed,
    /// It is JSON, but no object.
    NoObject,
}

impl<'a> CallText<'a> {
    /// Parses a JSON object.
    ///
    /// # Errors
    /// It is no JSON, or no object.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, NotACall> {
        serde_json::from_slice(text).map_err(|error| {
            // Fields take any type, so only the whole can be of a wrong one; what follows the place
            // where that became clear has not been looked at.
            let well_formed = error.is_data() && serde_json::from_slice::<IgnoredAny>(text).is_ok();
            if well_formed {
                NotACall::NoObject
            } else {
                NotACall::Malformed
            }
        })
    }

    /// Reads the fields; numbers by these rules. What is wrong is added to
    /// `errors`, and without errors there is a call.
    pub(crate) fn read(
        &self,
        rules: NumberRulesRef<'_>,
        errors: &mut FieldErrors,
    ) -> Option<NewCall> {
        let agent = read_agent(&self.agent_id, errors);
        let to = read_to(&self.to, rules, errors);
        let from = read_from(&self.from, rules, errors);
        let status = read_status(&self.status, errors);
        let started_at = read_started_at(&self.started_at, errors);
        let sid = read_sid(&self.sid, errors);
        if !errors.is_empty() {
            return None;
        }
        Some(NewCall {
            agent: agent?,
            to: to?,
            from,
            status,
            started_at,
            sid,
        })
    }

    /// Adds the unknown fields to those that are ignored.
    pub(crate) fn tell_unknown(&self, ignored: &IgnoredFields) {
        for name in &self.unknown {
            ignored.add(name);
        }
    }

    /// The agent and the start, as far as they can be read: to be checked along with wrong fields.
    pub(crate) fn checkable(&self) -> (Option<AgentId>, Option<Timestamp>) {
        let mut ignored = FieldErrors::default();
        (
            read_agent(&self.agent_id, &mut ignored),
            read_started_at(&self.started_at, &mut ignored),
        )
    }
}

/// Reads the agent.
fn read_agent(field: &Text<'_>, errors: &mut FieldErrors) -> Option<AgentId> {
    let text = field.required("agent_id", errors)?;
    let id = read_id(text);
    if id.is_none() {
        errors.add("agent_id", "The agent id field must be a valid UUID.");
    }
    id.map(|id: Uuid| AgentId(id))
}

/// Reads the contact.
fn read_to(field: &Text<'_>, rules: NumberRulesRef<'_>, errors: &mut FieldErrors) -> Option<E164> {
    let text = field.required("to", errors)?;
    let number = identity::read(text, rules).number();
    if number.is_none() {
        errors.add("to", "The to field must be a valid phone number.");
    }
    number
}

/// Reads the calling number; a withheld one is as good as none.
fn read_from(
    field: &Text<'_>,
    rules: NumberRulesRef<'_>,
    errors: &mut FieldErrors,
) -> Option<E164> {
    let text = field.optional("from", errors)?;
    match identity::read(text, rules) {
        Caller::Number(number) => Some(number),
        Caller::Anonymous => None,
        Caller::Invalid => {
            errors.add("from", "The from field must be a valid phone number.");
            None
        }
    }
}

/// Reads the status.
fn read_status(field: &Text<'_>, errors: &mut FieldErrors) -> Option<CallStatus> {
    let status = field.optional("status", errors)?.parse().ok();
    if status.is_none() {
        errors.add("status", selected("status"));
    }
    status
}

/// Reads the start.
fn read_started_at(field: &Text<'_>, errors: &mut FieldErrors) -> Option<Timestamp> {
    let time = read_time(field.optional("started_at", errors)?);
    if time.is_none() {
        errors.add(
            "started_at",
            "The started at field must be an RFC 3339 date and time.",
        );
    }
    time
}

/// Reads the call id.
fn read_sid(field: &Text<'_>, errors: &mut FieldErrors) -> Option<Arc<str>> {
    let text = field.optional("sid", errors)?;
    if (1..=MAX_SID_BYTES).contains(&text.len()) {
        return Some(text.into());
    }
    errors.add("sid", sid_problem());
    None
}

/// What to say of a call id that is too long or empty.
pub(crate) fn sid_problem() -> String {
    format!("The sid field must have 1 to {MAX_SID_BYTES} bytes.")
}

/// The longest call id, in bytes.
pub(crate) const MAX_SID_BYTES: usize = 255;

/// How many unknown fields of a call are known by name.
const MAX_UNKNOWN: usize = 32;

/// Reads an RFC 3339 date and time.
fn read_time(text: &str) -> Option<Timestamp> {
    read_plain_time(text.as_bytes()).or_else(|| text.parse().ok())
}

/// Reads the usual form: `2026-11-21T12:00:00`, perhaps a fraction, and `Z`.
fn read_plain_time(text: &[u8]) -> Option<Timestamp> {
    let (
        &[
            y1,
            y2,
            y3,
            y4,
            b'-',
            m1,
            m2,
            b'-',
            d1,
            d2,
            b'T',
            h1,
            h2,
            b':',
            n1,
            n2,
            b':',
            s1,
            s2,
        ],
        rest,
    ) = text.split_first_chunk::<19>()?
    else {
        return None;
    };
    let pair = |tens: u8, ones: u8| {
        (tens.is_ascii_digit() && ones.is_ascii_digit())
            .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let year = pair(y1, y2)? * 100 + pair(y3, y4)?;
    let (month, day) = (pair(m1, m2)?, pair(d1, d2)?);
    let (hour, minute, second) = (pair(h1, h2)?, pair(n1, n2)?, pair(s1, s2)?);
    // The other days and leap seconds are left to the library.
    if !(1..=12).contains(&month)
        || !(1..=28).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let millis = match rest {
        b"Z" => 0,
        [b'.', fraction @ .., b'Z'] if (1..=9).contains(&fraction.len()) => {
            let mut millis = 0;
            for index in 0..3 {
                millis = millis * 10
                    + i64::from(fraction.get(index).unwrap_or(&b'0').wrapping_sub(b'0'));
            }
            if !fraction.iter().all(u8::is_ascii_digit) {
                return None;
            }
            millis
        }
        _ => return None,
    };
    // Days since 1970-01-01, with years that begin in March so that leap days come last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era_days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = era_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp::from_millis(seconds * 1_000 + millis))
}

/// A field that should be a text.
#[derive(Debug, Default)]
enum Text<'a> {
    /// Left out, or `null`.
    #[default]
    Absent,
    /// A text.
    Given(Cow<'a, str>),
    /// A value that is no text.
    Other,
}

impl Text<'_> {
    /// The text of a field that must be there.
    fn required(&self, name: &str, errors: &mut FieldErrors) -> Option<&str> {
        match self {
            Self::Given(text) if !text.trim().is_empty() => Some(text),
            Self::Given(_) | Self::Absent => {
                errors.add(name, required(name));
                None
            }
            Self::Other => {
                errors.add(name, not_a_string(name));
                None
            }
        }
    }

    /// The text of a field that may be left out.
    fn optional(&self, name: &str, errors: &mut FieldErrors) -> Option<&str> {
        match self {
            Self::Given(text) => Some(text),
            Self::Absent => None,
            Self::Other => {
                errors.add(name, not_a_string(name));
                None
            }
        }
    }
}

/// The message for a field of a wrong type.
fn not_a_string(name: &str) -> String {
    format!("The {} field must be a string.", crate::fields::words(name))
}

/// A key of a reported call.
enum Key<'a> {
    /// The agent that called.
    AgentId,
    /// Whom it called.
    To,
    /// The number that it called from.
    From,
    /// How far it got.
    Status,
    /// When it started.
    StartedAt,
    /// The call id.
    Sid,
    /// Any other key, which is ignored and named in the answer.
    Other(Cow<'a, str>),
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

/// Reads a [`Key`].
struct KeyVisitor;

impl KeyVisitor {
    /// The key of this name, if it is known.
    fn known<'a>(name: &str) -> Option<Key<'a>> {
        Some(match name {
            "agent_id" => Key::AgentId,
            "to" => Key::To,
            "from" => Key::From,
            "status" => Key::Status,
            "started_at" => Key::StartedAt,
            "sid" => Key::Sid,
            _ => return None,
        })
    }
}

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key<'de>, E> {
        Ok(Self::known(name).unwrap_or(Key::Other(Cow::Borrowed(name))))
    }

    fn visit_str<E>(self, name: &str) -> Result<Key<'de>, E> {
        Ok(Self::known(name).unwrap_or_else(|| Key::Other(Cow::Owned(name.to_owned()))))
    }
}

impl<'de> Deserialize<'de> for CallText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CallVisitor)
    }
}

/// Reads an object into [`CallText`].
struct CallVisitor;

impl<'de> Visitor<'de> for CallVisitor {
    type Value = CallText<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CallText<'de>, A::Error> {
        let mut call = CallText::default();
        while let Some(key) = map.next_key::<Key>()? {
            let field = match key {
                Key::AgentId => &mut call.agent_id,
                Key::To => &mut call.to,
                Key::From => &mut call.from,
                Key::Status => &mut call.status,
                Key::StartedAt => &mut call.started_at,
                Key::Sid => &mut call.sid,
                Key::Other(name) => {
                    map.next_value::<IgnoredAny>()?;
                    if call.unknown.len() < MAX_UNKNOWN {
                        call.unknown.push(name);
                    }
                    continue;
                }
            };
            *field = map.next_value()?;
        }
        Ok(call)
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

/// Reads a value of any type into [`Text`].
struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text::Given(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text::Given(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Text<'de>, E> {
        Ok(Text::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text<'de>, E> {
        Ok(Text::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text<'de>, E> {
        Ok(Text::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text<'de>, E> {
        Ok(Text::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text<'de>, E> {
        Ok(Text::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Text<'de>, A::Error> {
        while entries.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Text<'de>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "01234567-89ab-7cde-8f01-23456789abcd";

    fn errors_of(line: &str) -> Vec<String> {
        let mut errors = FieldErrors::default();
        let call = CallText::parse(line.as_bytes())
            .unwrap()
            .read(NumberRulesRef::default(), &mut errors);
        assert_eq!(call.is_none(), !errors.is_empty());
        errors.0.into_keys().collect()
    }

    #[test]
    fn a_whole_call_is_read() {
        let line = format!(
            r#"{{"agent_id":"{AGENT}","to":"+5511987654321","from":"+551130000000","status":"no-answer","started_at":"2026-11-21T14:00:00.5+02:00","sid":"a\u0062c","other":[1,{{}}]}}"#
        );
        let mut errors = FieldErrors::default();
        let call = CallText::parse(line.as_bytes())
            .unwrap()
            .read(NumberRulesRef::default(), &mut errors)
            .unwrap();
        assert_eq!(call.agent.to_string(), AGENT);
        assert_eq!(call.to.to_string(), "+5511987654321");
        assert_eq!(call.from.unwrap().to_string(), "+551130000000");
        assert_eq!(call.status, Some(CallStatus::NoAnswer));
        assert_eq!(
            call.started_at.unwrap().to_string(),
            "2026-11-21T12:00:00.500Z"
        );
        assert_eq!(call.sid.as_deref(), Some("abc"));
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(errors_of("{}"), ["agent_id", "to"]);
        let all = ["agent_id", "from", "sid", "started_at", "status", "to"];
        assert_eq!(
            errors_of(
                r#"{"agent_id":1,"to":[2],"from":{"a":null},"status":true,"started_at":1.5,"sid":-1}"#
            ),
            all
        );
        assert_eq!(
            errors_of(
                r#"{"agent_id":"x","to":"x","from":"x","status":"x","started_at":"x","sid":""}"#
            ),
            all
        );
    }

    #[test]
    fn null_is_as_good_as_nothing_and_the_last_of_repeated_keys_counts() {
        let line = format!(
            r#"{{"agent_id":1,"agent_id":"{AGENT}","to":"+5511987654321","from":null,"status":null,"started_at":null,"sid":null}}"#
        );
        assert_eq!(errors_of(&line), Vec::<String>::new());
    }

    #[test]
    fn unknown_keys_are_known_by_name() {
        let text = br#"{"duration":[{"a":1}],"to":"x","\u0064isposition":null,"To":1}"#;
        let call = CallText::parse(text).unwrap();
        assert_eq!(call.unknown.as_slice(), ["duration", "disposition", "To"]);
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        for text in ["[]", "[1, {\"a\": 2}]", "\"x\"", "1", "null", "true"] {
            assert_eq!(
                CallText::parse(text.as_bytes()).unwrap_err(),
                NotACall::NoObject,
                "{text}"
            );
        }
        for text in [
            "",
            "[",
            "[1,",
            "{",
            "{\"a\"}",
            "nul",
            "{} {}",
            "{\"to\":\"\u{1}\"}",
        ] {
            assert_eq!(
                CallText::parse(text.as_bytes()).unwrap_err(),
                NotACall::Malformed,
                "{text}"
            );
        }
        assert_eq!(
            CallText::parse(b"{\"to\":\"\xff\"}").unwrap_err(),
            NotACall::Malformed
        );
        let deep = "[".repeat(100_000);
        assert_eq!(
            CallText::parse(deep.as_bytes()).unwrap_err(),
            NotACall::Malformed
        );
    }

    #[test]
    fn the_short_way_reads_times_as_the_library_does() {
        for text in [
            "1970-01-01T00:00:00Z",
            "1999-12-28T23:59:59.9Z",
            "2000-02-28T12:00:00.123456789Z",
            "2000-03-01T00:00:00.001Z",
            "2024-02-28T00:00:00.12Z",
            "2024-03-01T01:02:03Z",
            "2026-11-21T12:34:56.789Z",
            "2100-03-01T00:00:00Z",
        ] {
            let plain = read_plain_time(text.as_bytes()).unwrap();
            assert_eq!(plain, text.parse().unwrap(), "{text}");
        }
        for text in [
            "2026-02-29T00:00:00Z",
            "2026-11-21",
            "2026-11-21T12:00:00.Z",
            "2026-11-21T12:00:00.1xZ",
        ] {
            assert_eq!(read_time(text), None, "{text}");
        }
        assert!(read_time("2024-02-29T00:00:00Z").is_some());
        assert!(read_time("2026-11-21T12:00:00+01:00").is_some());
    }
}
