//! The settings of a connector: its options, and what it answers when nothing routes.

use ringback_routing::{Attestation, Dialect};
use serde_json::{Map, Value, json};

use crate::question::Question;

/// The settings of a connector, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The dialect.
    dialect: Dialect,
    /// The options.
    options: Options,
    /// What is answered when nothing routes.
    on_nothing: OnNothing,
}

/// The options of a connector; `None`: the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    /// Whether drachtio redirects instead of sending calls on.
    redirects: bool,
    /// FreeSWITCH: the profile that dials.
    profile: Option<String>,
    /// Text: a line, `{uri}` standing for the target.
    format: Option<String>,
    /// How long a target may ring, in seconds.
    timeout: Option<u16>,
    /// How far the caller's number must be attested; `None`: not at all.
    min_attestation: Option<Attestation>,
}

/// What is answered when nothing routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnNothing {
    /// What the dialect has for it.
    Default,
    /// A SIP status.
    Reject(u16),
    /// Another webhook is asked.
    Redirect(String),
    /// drachtio asks another application, at this URI.
    RouteUri(String),
    /// drachtio gives the call to the application with this tag.
    RouteTag(String),
    /// A text for the caller; `None`: ours.
    Error(Option<String>),
    /// An assistant of Vapi.
    Assistant(String),
}

impl OnNothing {
    /// The SIP status of a refusal.
    pub(crate) const fn status(&self) -> u16 {
        match self {
            Self::Reject(status) => *status,
            _ => NO_AGENT,
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The field: `options`, `options.timeout`, `on_nothing`.
    pub field: String,
    /// What is wrong, as a sentence.
    pub message: String,
}

impl Settings {
    /// Checks settings as they come in a request; `Null` stands for none. `ours` is our own address: nothing may
    /// redirect there.
    ///
    /// # Errors
    /// All that cannot be used.
    pub fn check(
        dialect: Dialect,
        options: &Value,
        on_nothing: &Value,
        ours: &str,
    ) -> Result<Self, Vec<SettingsProblem>> {
        let mut problems = Vec::new();
        let options = read_options(dialect, options, &mut problems);
        let on_nothing = read_on_nothing(dialect, on_nothing, ours).unwrap_or_else(|message| {
            problems.push(problem("on_nothing", message));
            OnNothing::Default
        });
        if problems.is_empty() {
            Ok(Self {
                dialect,
                options,
                on_nothing,
            })
        } else {
            Err(problems)
        }
    }

    /// The dialect.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The options as they are shown: those that are set.
    #[must_use]
    pub fn options_shown(&self) -> Value {
        let Options {
            redirects,
            profile,
            format,
            timeout,
            min_attestation,
        } = &self.options;
        let mut shown = Map::new();
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                shown.insert(name.to_owned(), value);
            }
        };
        add("action", redirects.then(|| Value::from("redirect")));
        add("profile", profile.clone().map(Value::from));
        add("format", format.clone().map(Value::from));
        add("timeout", timeout.map(Value::from));
        let least = min_attestation.map(|least| Value::from(least.to_string()));
        add("min_attestation", least);
        Value::Object(shown)
    }

    /// What is answered when nothing routes, as it is shown.
    #[must_use]
    pub fn on_nothing_shown(&self) -> Value {
        match &self.on_nothing {
            OnNothing::Default | OnNothing::Error(None) => match default_action(self.dialect) {
                Some("reject") if self.dialect == Dialect::Drachtio => {
                    json!({"action": "reject", "status": NO_AGENT})
                }
                Some(action) => json!({"action": action}),
                None => json!({}),
            },
            OnNothing::Reject(status) => json!({"action": "reject", "status": status}),
            OnNothing::Redirect(url) => json!({"action": "redirect", "url": url}),
            OnNothing::RouteUri(uri) => json!({"action": "route", "uri": uri}),
            OnNothing::RouteTag(tag) => json!({"action": "route", "tag": tag}),
            OnNothing::Error(Some(message)) => json!({"action": "error", "message": message}),
            OnNothing::Assistant(id) => json!({"action": "assistant", "assistant_id": id}),
        }
    }

    /// Whether the caller's number is attested as far as it must be.
    #[must_use]
    pub fn is_verified(&self, question: &Question) -> bool {
        // No attestation is less than any.
        question.attestation >= self.options.min_attestation
    }

    /// Whether drachtio redirects.
    pub(crate) const fn redirects(&self) -> bool {
        self.options.redirects
    }

    /// FreeSWITCH's profile.
    pub(crate) fn profile(&self) -> &str {
        self.options.profile.as_deref().unwrap_or("external")
    }

    /// The form of a line of text.
    pub(crate) fn format(&self) -> Option<&str> {
        self.options.format.as_deref()
    }

    /// How long a target may ring, in seconds.
    pub(crate) fn timeout(&self) -> u16 {
        self.options.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// What is answered when nothing routes.
    pub(crate) const fn on_nothing(&self) -> &OnNothing {
        &self.on_nothing
    }
}

/// Reads options.
fn read_options(dialect: Dialect, options: &Value, problems: &mut Vec<SettingsProblem>) -> Options {
    let mut read = Options::default();
    let options = match options {
        Value::Null => return read,
        Value::Object(options) => options,
        _ => {
            problems.push(problem("options", "The options field must be an object."));
            return read;
        }
    };
    for (name, value) in options {
        let field = format!("options.{name}");
        let mut wrong = |what: &str| {
            problems.push(problem(&field, format!("The {field} field {what}")));
        };
        match (dialect, name.as_str()) {
            (
                Dialect::Twilio | Dialect::Telnyx | Dialect::Jambonz | Dialect::RustPbx,
                "timeout",
            ) => match value.as_u64().and_then(|value| u16::try_from(value).ok()) {
                Some(seconds @ 5..=120) => read.timeout = Some(seconds),
                _ => wrong("must be a number of seconds from 5 to 120."),
            },
            (Dialect::Twilio | Dialect::Telnyx, "min_attestation") => {
                match value.as_str().and_then(|value| value.parse().ok()) {
                    Some(least) => read.min_attestation = Some(least),
                    None => wrong("must be A, B or C."),
                }
            }
            (Dialect::Drachtio, "action") => match value.as_str() {
                Some("proxy") => read.redirects = false,
                Some("redirect") => read.redirects = true,
                _ => wrong("must be proxy or redirect."),
            },
            (Dialect::FreeSwitch, "profile") => match value.as_str() {
                Some(profile) if is_word(profile, 64, b"_.-") => {
                    read.profile = Some(profile.to_owned());
                }
                _ => wrong("must be the name of a profile: letters, digits, _, . and -."),
            },
            (Dialect::Text, "format") => match value.as_str() {
                Some(format) if is_format(format) => read.format = Some(format.to_owned()),
                _ => wrong("must be one line with {uri} in it."),
            },
            _ => wrong("is no option of this dialect."),
        }
    }
    read
}

/// Reads what is answered when nothing routes; the error is a sentence.
fn read_on_nothing(dialect: Dialect, value: &Value, ours: &str) -> Result<OnNothing, String> {
    let fields = match value {
        Value::Null => return Ok(OnNothing::Default),
        Value::Object(fields) if fields.is_empty() => return Ok(OnNothing::Default),
        Value::Object(fields) => fields,
        _ => return Err("The on_nothing field must be an object.".to_owned()),
    };
    let action = fields.get("action").and_then(Value::as_str);
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let only = |allowed: &[&str]| {
        let unknown = fields
            .keys()
            .find(|name| *name != "action" && !allowed.contains(&name.as_str()));
        match unknown {
            Some(name) => Err(format!("The on_nothing field has an unknown key {name}.")),
            None => Ok(()),
        }
    };
    match (dialect, action) {
        (Dialect::Drachtio | Dialect::RustPbx, Some("reject")) => {
            only(&["status"])?;
            let status = match fields.get("status") {
                None => Some(u64::from(NO_AGENT)),
                Some(status) => status.as_u64(),
            };
            match status.and_then(|status| u16::try_from(status).ok()) {
                Some(status @ 400..=699) => Ok(OnNothing::Reject(status)),
                _ => Err("The status of on_nothing must be from 400 to 699.".to_owned()),
            }
        }
        (Dialect::Drachtio, Some("route")) => {
            only(&["uri", "tag"])?;
            match (text("uri"), text("tag")) {
                (Some(uri), None) if is_web_address(uri) => Ok(OnNothing::RouteUri(uri.to_owned())),
                (None, Some(tag)) if is_word(tag, 64, b"_.-") => {
                    Ok(OnNothing::RouteTag(tag.to_owned()))
                }
                _ => {
                    Err("The route of on_nothing needs a uri (http or https) or a tag.".to_owned())
                }
            }
        }
        (Dialect::Twilio | Dialect::Telnyx | Dialect::Jambonz, Some("redirect")) => {
            only(&["url"])?;
            match text("url") {
                Some(url) if is_web_address(url) && !is_ours(url, ours) => {
                    Ok(OnNothing::Redirect(url.to_owned()))
                }
                _ => Err(
                    "The url of on_nothing must be http or https, and not that of Ringback."
                        .to_owned(),
                ),
            }
        }
        (Dialect::Vapi, Some("error")) => {
            only(&["message"])?;
            match fields.get("message") {
                None => Ok(OnNothing::Error(None)),
                Some(Value::String(message)) if is_sentence(message) => {
                    Ok(OnNothing::Error(Some(message.clone())))
                }
                Some(_) => Err("The message of on_nothing must be a text of one line.".to_owned()),
            }
        }
        (Dialect::Vapi, Some("assistant")) => {
            only(&["assistant_id"])?;
            match text("assistant_id") {
                Some(id) if is_word(id, 128, b"_-") => Ok(OnNothing::Assistant(id.to_owned())),
                _ => Err("The assistant_id of on_nothing must be an id of Vapi.".to_owned()),
            }
        }
        (_, Some(action)) if Some(action) == default_action(dialect) => {
            only(&[])?;
            Ok(OnNothing::Default)
        }
        _ => Err("The on_nothing field has no action of this dialect.".to_owned()),
    }
}

/// The action of a dialect when nothing routes and nothing was set.
const fn default_action(dialect: Dialect) -> Option<&'static str> {
    match dialect {
        Dialect::Drachtio | Dialect::Twilio | Dialect::Telnyx | Dialect::Ultravox => Some("reject"),
        Dialect::FreeSwitch => Some("not_found"),
        Dialect::Vapi => Some("error"),
        Dialect::Jambonz => Some("decline"),
        Dialect::RustPbx => Some("not_handled"),
        Dialect::RtJson | Dialect::Retell | Dialect::ElevenLabs | Dialect::Text => None,
    }
}

/// A problem with a field.
fn problem(field: &str, message: impl Into<String>) -> SettingsProblem {
    SettingsProblem {
        field: field.to_owned(),
        message: message.into(),
    }
}

/// Whether a text has only letters, digits and these characters, and is not longer than this.
fn is_word(text: &str, longest: usize, others: &[u8]) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
    (1..=longest).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether a text is one line of at most 256 characters.
fn is_sentence(text: &str) -> bool {
    (1..=256).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// Whether a text can be the form of a line.
fn is_format(format: &str) -> bool {
    is_sentence(format) && format.contains("{uri}")
}

/// Whether a text is an absolute URL of http or https, without user information.
fn is_web_address(url: &str) -> bool {
    let printable = url.bytes().all(|byte| byte.is_ascii_graphic());
    let plain = !url.contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}', '#']);
    let host = authority(url)
        .is_some_and(|(_, host)| !host.is_empty() && !host.starts_with(':') && !host.contains('@'));
    url.len() <= 2_048 && printable && plain && host
}

/// Whether a URL leads to us: the same scheme, host and port.
fn is_ours(url: &str, ours: &str) -> bool {
    let place = |url| {
        let (scheme, host): (String, String) = authority(url)?;
        let default = if scheme == "https" { ":443" } else { ":80" };
        let host = host
            .strip_suffix(default)
            .map(str::to_owned)
            .unwrap_or(host);
        Some((scheme, host))
    };
    place(url).is_some_and(|place_of_url| Some(place_of_url) == place(ours))
}

/// The scheme of a web address, and its host and port, in lower case.
fn authority(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let host = rest.split(['/', '?', '#']).next()?;
    matches!(scheme.as_str(), "http" | "https").then(|| (scheme, host.to_ascii_lowercase()))
}

/// The SIP status where there is nobody to take the call.
const NO_AGENT: u16 = 480;

/// How long a target may ring if nothing was set, in seconds.
const DEFAULT_TIMEOUT: u16 = 20;
