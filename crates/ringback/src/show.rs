//! The values of answers as people are shown them, and what names a thing.

use std::fmt::Display;
use std::net::IpAddr;

use ringback_api as api;
use ringback_routing::{
    AgentId, AgentStatus, CallStatus, Country, Direction, E164, EnvironmentId, NumberForm,
    NumberId, Outcome, Reason, Rung, Timestamp, TokenId,
};

use crate::output::escaped;

/// A value for people: one line or, of a list, several. No character of it steers a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown(Vec<String>);

impl Shown {
    /// A value in one line.
    pub(crate) fn of(value: impl Display) -> Self {
        Self(vec![escaped(&value.to_string())])
    }

    /// What stands for a value that is missing.
    fn missing() -> Self {
        Self(vec!["-".to_owned()])
    }

    /// The lines; at least one.
    pub(crate) fn lines(&self) -> &[String] {
        &self.0
    }

    /// The same in one line.
    pub(crate) fn in_one_line(&self) -> String {
        self.0.join(", ")
    }
}

/// Something that can be shown to people.
pub(crate) trait Show {
    /// The value, as a person would write it.
    fn show(&self) -> Shown;
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> Shown {
        self.as_ref().map_or_else(Shown::missing, Show::show)
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> Shown {
        if self.is_empty() {
            return Shown::missing();
        }
        Shown(self.iter().flat_map(|item| item.show().0).collect())
    }
}

/// Implements [`Show`] for types that can be printed as they are.
macro_rules! show_printed {
    ($($name:ty),*) => {
        $(impl Show for $name {
            fn show(&self) -> Shown {
                Shown::of(self)
            }
        })*
    };
}

show_printed!(
    String,
    bool,
    f64,
    u16,
    u64,
    IpAddr,
    AgentId,
    EnvironmentId,
    NumberId,
    TokenId,
    E164,
    api::ShownNumber,
    Timestamp,
    Country,
    CallStatus
);

/// Implements [`Show`] for the words of the domain.
macro_rules! show_named {
    ($($name:ty),*) => {
        $(impl Show for $name {
            fn show(&self) -> Shown {
                Shown::of(self.name())
            }
        })*
    };
}

show_named!(
    AgentStatus,
    api::Health,
    api::StorageHealth,
    api::IndexHealth,
    api::ClusterHealth,
    api::NodeState,
    Direction,
    NumberForm,
    Outcome,
    Reason,
    Rung
);

impl Show for api::Target {
    fn show(&self) -> Shown {
        let Self {
            uri,
            priority,
            weight,
        } = self;
        Shown::of(format!("{uri} (priority {priority}, weight {weight})"))
    }
}

impl Show for api::NumberOfAgent {
    fn show(&self) -> Shown {
        self.number.show()
    }
}

impl Show for api::AgentOfNumber {
    fn show(&self) -> Shown {
        self.name.show()
    }
}

impl Show for api::AgentName {
    fn show(&self) -> Shown {
        self.name.show()
    }
}

/// What an answer names: the ids that `--quiet` prints.
pub(crate) trait Identified {
    /// The ids, in the order of the answer.
    fn ids(&self) -> Vec<String>;
}

impl<T: Identified> Identified for Vec<T> {
    fn ids(&self) -> Vec<String> {
        self.iter().flat_map(Identified::ids).collect()
    }
}

/// Implements [`Identified`] by one field.
macro_rules! identified_by {
    ($($name:ident . $field:ident),*) => {
        $(impl Identified for api::$name {
            fn ids(&self) -> Vec<String> {
                vec![self.$field.to_string()]
            }
        })*
    };
}

identified_by!(
    Agent.id,
    AgentBrief.id,
    Call.sid,
    CallbackAgent.id,
    CallbackRoleReplaced.id,
    CallbackRoleSet.id,
    CallingNumber.number,
    ContactExport.number,
    Environment.id,
    Erased.number,
    OptOut.number,
    PhoneNumber.id,
    Reassigned.number,
    SourceCount.source_agent_id,
    Token.id,
    TokenShown.id
);

impl Identified for api::CallbackAgentPage {
    fn ids(&self) -> Vec<String> {
        self.agent.ids()
    }
}

impl Identified for api::CallbackStatistics {
    fn ids(&self) -> Vec<String> {
        self.callbacks_by_source_agent.ids()
    }
}

impl Identified for api::Contact {
    fn ids(&self) -> Vec<String> {
        self.calls.ids()
    }
}

impl Identified for api::Routed {
    fn ids(&self) -> Vec<String> {
        self.agent
            .iter()
            .map(|agent| agent.id.to_string())
            .collect()
    }
}

/// Implements [`Identified`] for answers that name nothing.
macro_rules! nameless {
    ($($name:ident),*) => {
        $(impl Identified for api::$name {
            fn ids(&self) -> Vec<String> {
                Vec::new()
            }
        })*
    };
}

nameless!(Done, Reloaded, Status);

impl Identified for api::Cluster {
    fn ids(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.node.clone()).collect()
    }
}

impl Identified for api::ClusterRecovery {
    fn ids(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_missing_is_shown_as_a_dash() {
        assert_eq!(None::<String>.show().in_one_line(), "-");
        assert_eq!(Vec::<String>::new().show().in_one_line(), "-");
        let list = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(list.show().lines(), ["a", "b"]);
        assert_eq!(list.show().in_one_line(), "a, b");
    }

    #[test]
    fn an_answer_is_named_by_its_ids() {
        let call = |sid: &str| api::Call {
            sid: sid.to_owned(),
            agent_id: AgentId(Uuid::nil()),
            to: E164::from_canonical(b"+12025550142").unwrap().into(),
            from: None,
            status: CallStatus::Busy,
            started_at: Timestamp::from_millis(0),
        };
        let contact = api::Contact {
            number: E164::from_canonical(b"+12025550142").unwrap().into(),
            calls: vec![call("a"), call("b")],
        };
        assert_eq!(contact.ids(), ["a", "b"]);
        assert_eq!(vec![call("c"), call("d")].ids(), ["c", "d"]);
        assert!(api::Done::new("done").ids().is_empty());
    }
}
