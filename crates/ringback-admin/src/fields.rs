//! Reading the fields of a request one by one, so that everything wrong is reported at once.
//!
//! Unknown fields are ignored and named in the answer; of a repeated one the last counts. A body that is JSON but no object
//! has no fields and an error under `body`. Where a field may be left out, `null` leaves it out too,
//! except that a `PATCH` or `PUT` takes `null` to clear what can be cleared.

use std::collections::BTreeMap;

use ringback_engine::Override;
use ringback_routing::{
    CallStatus, Country, Dialect, Hours, HoursSpec, NumberForm, SpecialDay, Target, Timestamp,
    read_id,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::FieldErrors;
use crate::ignored::IgnoredFields;

/// The fields of a request that have not been read yet, and what was wrong with those that have.
#[derive(Debug)]
pub(crate) struct Fields {
    /// The fields.
    object: Map<String, Value>,
    /// What is wrong.
    pub(crate) errors: FieldErrors,
    /// Where fields are named that nobody reads.
    ignored: IgnoredFields,
}

impl Fields {
    /// The fields of a body; those that nobody reads are added to `ignored`.
    pub(crate) fn new(body: Value, ignored: IgnoredFields) -> Self {
        let mut errors = FieldErrors::default();
        let object = match body {
            Value::Object(object) => object,
            _ => {
                errors.add("body", "The body must be a JSON object.");
                Map::new()
            }
        };
        Self {
            object,
            errors,
            ignored,
        }
    }

    /// Whether something was wrong with what has been read.
    pub(crate) fn is_misread(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Ends reading: what has not been read is ignored, and what was wrong is returned.
    pub(crate) fn finish(self) -> FieldErrors {
        for name in self.object.keys() {
            self.ignored.add(name);
        }
        self.errors
    }

    /// A name that must be there.
    pub(crate) fn required_name(&mut self, name: &str, limit: usize) -> String {
        let text = self.required_text(name, limit);
        self.printable(name, text).unwrap_or_default()
    }

    /// A text that must be there.
    pub(crate) fn required_text(&mut self, name: &str, limit: usize) -> String {
        match self.object.remove(name) {
            None | Some(Value::Null) => {
                self.errors.add(name, required(name));
                String::new()
            }
            Some(value) => self.text(name, value, limit).unwrap_or_default(),
        }
    }

    /// A name or a description that may be left out; `null` or a blank one leaves it out.
    pub(crate) fn optional_name(&mut self, name: &str, limit: usize) -> Option<String> {
        match self.object.remove(name)? {
            Value::Null => None,
            Value::String(text) if text.trim().is_empty() => None,
            value => {
                let text = self.text(name, value, limit)?;
                self.printable(name, text)
            }
        }
    }

    /// A value of any type; `Null` where it was left out.
    pub(crate) fn any(&mut self, name: &str) -> Value {
        self.object.remove(name).unwrap_or_default()
    }

    /// Whether a field is there that nobody has read yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// A text of any length, even none, that may be left out; `null` leaves it out.
    pub(crate) fn raw_text(&mut self, name: &str) -> Option<String> {
        match self.object.remove(name)? {
            Value::Null => None,
            Value::String(text) => Some(text),
            _ => {
                self.errors
                    .add(name, format!("The {} field must be a string.", words(name)));
                None
            }
        }
    }

    /// A name that may be left out but not cleared.
    pub(crate) fn kept_name(&mut self, name: &str, limit: usize) -> Option<String> {
        let value = self.object.remove(name)?;
        let text = self.text(name, value, limit)?;
        self.printable(name, text)
    }

    /// A description that `null` or a blank one clears.
    pub(crate) fn description(&mut self, name: &str, limit: usize) -> Override<String> {
        match self.override_text(name, limit) {
            Override::Set(text) => self
                .printable(name, text)
                .map_or(Override::Keep, Override::Set),
            other => other,
        }
    }

    /// A text that `null` or a blank one clears.
    fn override_text(&mut self, name: &str, limit: usize) -> Override<String> {
        match self.object.remove(name) {
            None => Override::Keep,
            Some(Value::Null) => Override::Clear,
            Some(Value::String(text)) if text.trim().is_empty() => Override::Clear,
            Some(value) => self
                .text(name, value, limit)
                .map_or(Override::Keep, Override::Set),
        }
    }

    /// One of several words that must be there.
    pub(crate) fn required_choice<T>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        if matches!(self.object.get(name), None | Some(Value::Null)) {
            self.errors.add(name, required(name));
            return None;
        }
        self.kept_choice(name, read)
    }

    /// One of several words, that may be left out but not cleared.
    pub(crate) fn kept_choice<T>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.object.remove(name)?;
        let found = value.as_str().and_then(read);
        if found.is_none() {
            self.errors.add(name, selected(name));
        }
        found
    }

    /// A country that `null` clears.
    pub(crate) fn country(&mut self, name: &str) -> Override<Country> {
        match self.object.remove(name) {
            None => Override::Keep,
            Some(Value::Null) => Override::Clear,
            Some(value) => match value.as_str().and_then(|code| code.parse().ok()) {
                Some(country) => Override::Set(country),
                None => {
                    let message = "must be an ISO 3166-1 alpha-2 country code";
                    self.errors
                        .add(name, format!("The {} field {message}.", words(name)));
                    Override::Keep
                }
            },
        }
    }

    /// A form of numbers that `null` clears.
    pub(crate) fn number_form(&mut self, name: &str) -> Override<NumberForm> {
        match self.object.remove(name) {
            None => Override::Keep,
            Some(Value::Null) => Override::Clear,
            Some(value) => {
                let known = NumberForm::ALL
                    .into_iter()
                    .find(|form| value.as_str() == Some(form.name()));
                if known.is_none() {
                    let message = "must be national or e164";
                    self.errors
                        .add(name, format!("The {} field {message}.", words(name)));
                }
                known.map_or(Override::Keep, Override::Set)
            }
        }
    }

    /// A number of seconds, at least 1, that `null` clears.
    pub(crate) fn seconds(&mut self, name: &str) -> Override<u64> {
        match self.object.remove(name) {
            None => Override::Keep,
            Some(Value::Null) => Override::Clear,
            Some(value) => match value.as_u64() {
                Some(seconds @ 1..=MAX_SECONDS) => Override::Set(seconds),
                _ => {
                    let name_in_words = words(name);
                    let message = format!(
                        "The {name_in_words} field must be an integer from 1 to {MAX_SECONDS}."
                    );
                    self.errors.add(name, message);
                    Override::Keep
                }
            },
        }
    }

    /// A time that may be left out; `null` leaves it out.
    pub(crate) fn optional_timestamp(&mut self, name: &str) -> Option<Timestamp> {
        let value = self.object.remove(name)?;
        if value.is_null() {
            return None;
        }
        let time = value.as_str().and_then(|text| text.parse().ok());
        if time.is_none() {
            let message = format!(
                "The {} field must be an RFC 3339 date and time.",
                words(name)
            );
            self.errors.add(name, message);
        }
        time
    }

    /// A flag that may be left out.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        match self.object.remove(name)? {
            Value::Null => None,
            Value::Bool(flag) => Some(flag),
            _ => {
                self.errors.add(
                    name,
                    format!("The {} field must be true or false.", words(name)),
                );
                None
            }
        }
    }

    /// An identifier that `null` clears.
    pub(crate) fn override_id(&mut self, name: &str) -> Override<Uuid> {
        match self.object.remove(name) {
            None => Override::Keep,
            Some(Value::Null) => Override::Clear,
            Some(value) => match read_id_value(&value) {
                Some(id) => Override::Set(id),
                None => {
                    let message = format!("The {} field must be a valid UUID.", words(name));
                    self.errors.add(name, message);
                    Override::Keep
                }
            },
        }
    }

    /// A list of identifiers that must be there and hold at least one; what is no identifier is
    /// `None` in it. Left out where it is wrong as a whole.
    pub(crate) fn required_ids(&mut self, name: &str) -> Option<Vec<Option<Uuid>>> {
        match self.object.remove(name) {
            None | Some(Value::Null) => {
                self.errors.add(name, required(name));
                None
            }
            Some(Value::Array(entries)) if entries.is_empty() => {
                let message = format!("The {} field must have at least 1 item.", words(name));
                self.errors.add(name, message);
                None
            }
            Some(value) => self.ids(name, value),
        }
    }

    /// A list of identifiers that may be left out.
    pub(crate) fn optional_ids(&mut self, name: &str) -> Option<Vec<Option<Uuid>>> {
        match self.object.remove(name)? {
            Value::Null => None,
            value => self.ids(name, value),
        }
    }

    /// A list of identifiers that may be left out but not cleared by `null`.
    pub(crate) fn kept_ids(&mut self, name: &str) -> Option<Vec<Option<Uuid>>> {
        let value = self.object.remove(name)?;
        self.ids(name, value)
    }

    /// A list of texts that may be left out.
    pub(crate) fn optional_texts(&mut self, name: &str) -> Option<Vec<String>> {
        match self.object.remove(name)? {
            Value::Null => None,
            value => {
                let entries = self.list(name, value, MAX_IDS)?;
                let mut texts = Vec::with_capacity(entries.len());
                for (index, entry) in entries.into_iter().enumerate() {
                    match entry {
                        Value::String(text) => texts.push(text),
                        _ => {
                            let field = format!("{name}.{index}");
                            let message = format!("The {field} field must be a string.");
                            self.errors.add(field, message);
                        }
                    }
                }
                Some(texts)
            }
        }
    }

    /// A list of call statuses that `null` clears; repeats are dropped.
    pub(crate) fn statuses(&mut self, name: &str) -> Override<Vec<CallStatus>> {
        let value = match self.object.remove(name) {
            None => return Override::Keep,
            Some(Value::Null) => return Override::Clear,
            Some(value) => value,
        };
        let Some(entries) = self.list(name, value, MAX_IDS) else {
            return Override::Keep;
        };
        let mut statuses = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            match entry.as_str().and_then(|text| text.parse().ok()) {
                Some(status) if statuses.contains(&status) => {}
                Some(status) => statuses.push(status),
                None => {
                    let field = format!("{name}.{index}");
                    let message = selected(&field);
                    self.errors.add(field, message);
                }
            }
        }
        Override::Set(statuses)
    }

    /// Hours that `null` clears.
    pub(crate) fn hours(&mut self, name: &str) -> Override<Box<Hours>> {
        let value = match self.object.remove(name) {
            None => return Override::Keep,
            Some(Value::Null) => return Override::Clear,
            Some(value) => value,
        };
        let mut spec = HoursSpec::default();
        let Value::Object(mut object) = value else {
            self.errors.add(
                name,
                format!("The {} field must be an object.", words(name)),
            );
            return Override::Keep;
        };
        let before = self.errors.clone();
        match object.remove("time_zone") {
            Some(Value::String(zone)) => spec.time_zone = zone,
            _ => {
                let field = format!("{name}.time_zone");
                let message =
                    format!("The {field} field must be a time zone, as in America/Sao_Paulo.");
                self.errors.add(field, message);
            }
        }
        match object.remove("weekly") {
            Some(Value::Object(mut days)) => {
                let week = &mut spec.weekly;
                for (day, ranges) in [
                    ("mon", &mut week.mon),
                    ("tue", &mut week.tue),
                    ("wed", &mut week.wed),
                    ("thu", &mut week.thu),
                    ("fri", &mut week.fri),
                    ("sat", &mut week.sat),
                    ("sun", &mut week.sun),
                ] {
                    if let Some(value) = days.remove(day) {
                        *ranges = self.ranges(&format!("{name}.weekly.{day}"), value);
                    }
                }
                for day in days.keys() {
                    self.ignored.add(&format!("{name}.weekly.{day}"));
                }
            }
            _ => {
                let field = format!("{name}.weekly");
                let message = format!("The {field} field must be an object of days.");
                self.errors.add(field, message);
            }
        }
        match object.remove("except") {
            None | Some(Value::Null) => {}
            Some(Value::Array(days)) => {
                // Of more than are allowed, none is looked at.
                let days = days.into_iter().take(Hours::MOST_EXCEPTIONS + 1);
                for (index, day) in days.enumerate() {
                    let day = self.special_day(&format!("{name}.except.{index}"), day);
                    spec.except.push(day);
                }
            }
            Some(_) => {
                let field = format!("{name}.except");
                let message = format!("The {field} field must be an array.");
                self.errors.add(field, message);
            }
        }
        for key in object.keys() {
            self.ignored.add(&format!("{name}.{key}"));
        }
        if self.errors != before {
            return Override::Keep;
        }
        match Hours::compile(spec) {
            Ok(hours) => Override::Set(Box::new(hours)),
            Err(problems) => {
                for (path, problem) in problems {
                    let field = format!("{name}.{path}");
                    let message = format!("The {field} field {problem}.");
                    self.errors.add(field, message);
                }
                Override::Keep
            }
        }
    }

    /// Ranges of times: an array of pairs. What is wrong is an error of the field, and left out.
    fn ranges(&mut self, field: &str, value: Value) -> Vec<[String; 2]> {
        let Value::Array(entries) = value else {
            self.errors
                .add(field, format!("The {field} field must be an array."));
            return Vec::new();
        };
        let mut ranges = Vec::new();
        let entries = entries.into_iter().take(Hours::MOST_RANGES + 1);
        for (index, entry) in entries.enumerate() {
            match serde_json::from_value(entry) {
                Ok(range) => ranges.push(range),
                Err(_) => {
                    let field = format!("{field}.{index}");
                    let message = format!(
                        "The {field} field must be a start and an end, as in [\"09:00\",\"18:00\"]."
                    );
                    self.errors.add(field, message);
                }
            }
        }
        ranges
    }

    /// A day that is different.
    fn special_day(&mut self, field: &str, value: Value) -> SpecialDay {
        let Value::Object(mut object) = value else {
            self.errors
                .add(field, format!("The {field} field must be an object."));
            return SpecialDay {
                date: String::new(),
                open: Vec::new(),
            };
        };
        let date = match object.remove("date") {
            Some(Value::String(date)) => date,
            _ => {
                let field = format!("{field}.date");
                let message = format!("The {field} field must be a day, as in 2026-12-25.");
                self.errors.add(field, message);
                String::new()
            }
        };
        let open = object.remove("open").unwrap_or(Value::Null);
        let open = self.ranges(&format!("{field}.open"), open);
        for key in object.keys() {
            self.ignored.add(&format!("{field}.{key}"));
        }
        SpecialDay { date, open }
    }

    /// A list of targets that may be left out; `null` empties it.
    pub(crate) fn targets(&mut self, name: &str) -> Option<Vec<Target>> {
        let value = match self.object.remove(name)? {
            Value::Null => return Some(Vec::new()),
            value => value,
        };
        let entries = self.list(name, value, MAX_TARGETS)?;
        let mut targets = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            targets.extend(self.target(&format!("{name}.{index}"), entry));
        }
        Some(targets)
    }

    /// Ids at platforms by dialect, of which `null` clears one, and `null` instead of the object all.
    pub(crate) fn external_ids(&mut self, name: &str) -> BTreeMap<Dialect, Option<String>> {
        let object = match self.object.remove(name) {
            None => return BTreeMap::new(),
            Some(Value::Null) => return Dialect::ALL.map(|dialect| (dialect, None)).into(),
            Some(Value::Object(object)) => object,
            Some(_) => {
                let message = format!("The {} field must be an object.", words(name));
                self.errors.add(name, message);
                return BTreeMap::new();
            }
        };
        let mut ids = BTreeMap::new();
        for (platform, value) in object {
            let field = format!("{name}.{platform}");
            let Some(dialect) = Dialect::from_name(&platform) else {
                let message = format!("The {field} field is no dialect of a connector.");
                self.errors.add(field, message);
                continue;
            };
            let id = match value {
                Value::Null => None,
                Value::String(id) if is_external_id(&id) => Some(id),
                _ => {
                    let message = format!(
                        "The {field} field must be 1 to {MAX_EXTERNAL_ID} letters, digits, dashes and underscores."
                    );
                    self.errors.add(field, message);
                    continue;
                }
            };
            ids.insert(dialect, id);
        }
        ids
    }

    /// A SIP URI with placeholders in it, as `{agent_id}`, that `null` clears.
    pub(crate) fn target_template(&mut self, name: &str) -> Override<String> {
        let template = self.override_text(name, MAX_URI);
        if let Override::Set(text) = &template
            && let Some(problem) = target_problem(text)
        {
            self.errors
                .add(name, format!("The {} field {problem}.", words(name)));
        }
        template
    }

    /// A target: an object, or its URI alone.
    fn target(&mut self, field: &str, entry: Value) -> Option<Target> {
        let mut object = match entry {
            Value::Object(object) => object,
            Value::String(uri) => Map::from_iter([("uri".to_owned(), Value::String(uri))]),
            _ => {
                self.errors
                    .add(field, format!("The {field} field must be an object."));
                return None;
            }
        };
        let uri_field = format!("{field}.uri");
        let uri = match object.remove("uri") {
            None | Some(Value::Null) => {
                self.errors.add(&uri_field, required(&uri_field));
                None
            }
            Some(value) => self.text(&uri_field, value, MAX_URI),
        };
        if let Some(problem) = uri.as_deref().and_then(target_problem) {
            self.errors
                .add(&uri_field, format!("The {uri_field} field {problem}."));
        }
        let mut number = |key: &str| match object.remove(key) {
            None | Some(Value::Null) => 0,
            Some(value) => match value.as_u64().and_then(|number| u16::try_from(number).ok()) {
                Some(number) => number,
                None => {
                    let field = format!("{field}.{key}");
                    let message = format!("The {field} field must be an integer from 0 to 65535.");
                    self.errors.add(field, message);
                    0
                }
            },
        };
        let (priority, weight) = (number("priority"), number("weight"));
        for name in object.keys() {
            self.ignored.add(&format!("{field}.{name}"));
        }
        Some(Target {
            uri: uri?,
            priority,
            weight,
        })
    }

    /// A list of identifiers.
    fn ids(&mut self, name: &str, value: Value) -> Option<Vec<Option<Uuid>>> {
        let entries = self.list(name, value, MAX_IDS)?;
        Some(entries.iter().map(read_id_value).collect())
    }

    /// A list of at most so many entries.
    fn list(&mut self, name: &str, value: Value, limit: usize) -> Option<Vec<Value>> {
        match value {
            Value::Array(entries) if entries.len() <= limit => Some(entries),
            Value::Array(_) => {
                let message = format!(
                    "The {} field must not have more than {limit} items.",
                    words(name)
                );
                self.errors.add(name, message);
                None
            }
            _ => {
                self.errors
                    .add(name, format!("The {} field must be an array.", words(name)));
                None
            }
        }
    }

    /// A text that can be shown on a terminal and in a log as it is: without C0, C1 and DEL.
    fn printable(&mut self, name: &str, text: String) -> Option<String> {
        if text.chars().any(char::is_control) {
            let message = format!(
                "The {} field must not contain control characters.",
                words(name)
            );
            self.errors.add(name, message);
            return None;
        }
        Some(text)
    }

    /// A text that is not blank and has at most so many characters.
    fn text(&mut self, name: &str, value: Value, limit: usize) -> Option<String> {
        let problem = match &value {
            Value::String(text) if text.trim().is_empty() => required(name),
            Value::String(text) if text.len() > limit && text.chars().count() > limit => {
                format!(
                    "The {} field must not be greater than {limit} characters.",
                    words(name)
                )
            }
            Value::String(_) => String::new(),
            _ => format!("The {} field must be a string.", words(name)),
        };
        match value {
            Value::String(text) if problem.is_empty() => Some(text),
            _ => {
                self.errors.add(name, problem);
                None
            }
        }
    }
}

/// Reads an identifier.
fn read_id_value(value: &Value) -> Option<Uuid> {
    value.as_str().and_then(read_id)
}

/// Whether a text can be a platform's id of an agent: `[A-Za-z0-9_-]{1,128}`.
fn is_external_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_EXTERNAL_ID).contains(&text.len()) && text.bytes().all(fits)
}

/// What keeps a URI from being a target.
fn target_problem(uri: &str) -> Option<String> {
    ringback_sip_proto::validate_target(uri)
        .err()
        .map(|problem| match problem {
            ringback_sip_proto::TargetError::Scheme => "must be a sip: or sips: URI".to_owned(),
            ringback_sip_proto::TargetError::TransportTls => {
                "must not ask for transport=tls; write a sips: URI".to_owned()
            }
            _ => "must be a valid SIP URI".to_owned(),
        })
}

/// The message for a field that is missing.
pub(crate) fn required(name: &str) -> String {
    format!("The {} field is required.", words(name))
}

/// The message for a word that is none of those allowed.
pub(crate) fn selected(name: &str) -> String {
    format!("The selected {} is invalid.", words(name))
}

/// A field's name in words.
pub(crate) fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// The longest name and label, in characters.
pub(crate) const MAX_NAME: usize = 255;

/// The longest description, in characters.
pub(crate) const MAX_DESCRIPTION: usize = 2_000;

/// The longest target URI, in characters.
const MAX_URI: usize = 1_024;

/// The most targets of an agent or an environment.
const MAX_TARGETS: usize = 32;

/// The longest id of an agent at a platform.
const MAX_EXTERNAL_ID: usize = 128;

/// The longest list of identifiers.
const MAX_IDS: usize = 1_000;

/// The longest recency window: a hundred years.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;
