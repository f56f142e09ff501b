//! Placeholders in targets: `{agent_id}`, `{source_agent_id}`, `{dialed}`, `{caller}`.
//!
//! Which URIs may hold placeholders, and where, is checked when a target is set; this module fills them in. A
//! target with a placeholder that has no value in a call is skipped for that call.

use std::borrow::Cow;
use std::fmt::Write;

use crate::{AgentId, Caller, E164};

/// The values of placeholders in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placeholders {
    /// `{agent_id}`: the agent that takes the call; a fallback target has none.
    pub agent: Option<AgentId>,
    /// `{source_agent_id}`: the outbound agent whose call is returned; only a callback has one.
    pub source_agent: Option<AgentId>,
    /// `{dialed}`: the dialed number, in E.164 with a plus sign.
    pub dialed: Option<E164>,
    /// `{caller}`: likewise; `anonymous` for a number that is withheld or cannot be read.
    pub caller: Caller,
}

impl Placeholders {
    /// The URI with every placeholder filled in; `None` if one of them has no value. A URI without placeholders
    /// is returned as it is, without allocation.
    #[must_use]
    pub fn fill<'t>(&self, uri: &'t str) -> Option<Cow<'t, str>> {
        if !Self::are_in(uri) {
            return Some(Cow::Borrowed(uri));
        }
        let mut filled = String::with_capacity(uri.len() + 64);
        let mut rest = uri;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, tail) = after.split_once('}')?;
            filled.push_str(before);
            // Writing to a string cannot fail.
            let _infallible = match name {
                AGENT => write!(filled, "{}", self.agent?.0.hyphenated()),
                SOURCE_AGENT => write!(filled, "{}", self.source_agent?.0.hyphenated()),
                DIALED => write!(filled, "{}", self.dialed?),
                CALLER => match self.caller {
                    Caller::Number(number) => write!(filled, "{number}"),
                    Caller::Anonymous | Caller::Invalid => filled.write_str("anonymous"),
                },
                _ => return None,
            };
            rest = tail;
        }
        filled.push_str(rest);
        Some(Cow::Owned(filled))
    }

    /// Whether a URI holds placeholders.
    #[must_use]
    pub fn are_in(uri: &str) -> bool {
        uri.contains('{')
    }

    /// Whether every placeholder in a URI has a value in every call to an agent.
    pub(crate) fn are_known_for_agents(uri: &str) -> bool {
        let mut names = uri.split('{').skip(1).map(|rest| rest.split_once('}'));
        names.all(|name| matches!(name, Some((AGENT | DIALED | CALLER, _))))
    }

    /// Whether the filled-in URI depends on the dialed number.
    pub(crate) fn dialed_is_in(uri: &str) -> bool {
        uri.contains("{dialed}")
    }

    /// Whether the filled-in URI depends on the caller.
    pub(crate) fn caller_is_in(uri: &str) -> bool {
        uri.contains("{caller}")
    }
}

/// The agent that takes the call.
const AGENT: &str = "agent_id";
/// The agent whose call is returned.
const SOURCE_AGENT: &str = "source_agent_id";
/// The dialed number.
const DIALED: &str = "dialed";
/// The caller.
const CALLER: &str = "caller";

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn number(text: &str) -> E164 {
        E164::from_canonical(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_placeholder_is_filled_in() {
        let all = Placeholders {
            agent: Some(AgentId(Uuid::from_u128(1))),
            source_agent: Some(AgentId(Uuid::from_u128(2))),
            dialed: Some(number("+551130000000")),
            caller: Caller::Number(number("+5511987654321")),
        };
        let uri = "sip:{agent_id}-{source_agent_id}@h;d={dialed};c={caller};d2={dialed}";
        assert_eq!(
            all.fill(uri).unwrap(),
            "sip:00000000-0000-0000-0000-000000000001-00000000-0000-0000-0000-000000000002@h\
             ;d=+551130000000;c=+5511987654321;d2=+551130000000"
        );
        for caller in [Caller::Anonymous, Caller::Invalid] {
            let withheld = Placeholders { caller, ..all };
            assert_eq!(withheld.fill("sip:{caller}@h").unwrap(), "sip:anonymous@h");
        }
        assert!(matches!(
            all.fill("sip:a@h"),
            Some(Cow::Borrowed("sip:a@h"))
        ));
    }

    #[test]
    fn a_placeholder_that_nothing_stands_for_leaves_no_uri() {
        let none = Placeholders {
            agent: None,
            source_agent: None,
            dialed: None,
            caller: Caller::Anonymous,
        };
        for uri in [
            "sip:{agent_id}@h",
            "sip:{source_agent_id}@h",
            "sip:a@h;x={dialed}",
            "sip:{other}@h",
            "sip:{}@h",
            "sip:{caller@h",
        ] {
            assert_eq!(none.fill(uri), None, "{uri}");
        }
    }
}
