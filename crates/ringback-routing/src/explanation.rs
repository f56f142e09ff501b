//! The explanation: the decision's own steps, written down.

use serde::{Deserialize, Serialize};

use crate::decision::{Observer, Place, obstacle, resolve};
use crate::{
    AgentId, ContactUnreadable, Contacts, Decision, Directory, DirectoryAgent, Outcome, Question,
    Reason, RememberedCall,
};

/// Decides as [`crate::decide`] does, and lists each rung tried, in the order tried.
///
/// # Errors
/// As [`crate::decide`].
pub fn explain<'d>(
    directory: &'d Directory,
    contacts: &impl Contacts,
    question: &Question<'_>,
) -> Result<(Decision<'d>, Vec<Step>), ContactUnreadable> {
    let mut notes = Notes::default();
    let number = question.dialed.and_then(|dialed| directory.dialed(dialed));
    let decision = resolve(directory, number, contacts, question, &mut notes)?;
    let mut steps = notes.steps;
    if decision.outcome == Outcome::Refused {
        steps.push(Step {
            rung: Rung::Refused,
            held: true,
            reason: Some(decision.reason),
            detail: "nobody takes the call".to_owned(),
            ..Step::default()
        });
    }
    Ok((decision, steps))
}

/// One rung tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The rung of the decision that was tried.
    pub rung: Rung,
    /// Whether it decided the call (for `remembered_call`: whether the call qualified).
    pub held: bool,
    /// The reason that it gave.
    pub reason: Option<Reason>,
    /// The result in a sentence for people; its wording may change.
    pub detail: String,
    /// The remembered call that was weighed.
    pub call: Option<RememberedCall>,
    /// The outbound agent of that call.
    pub source_agent: Option<NamedAgent>,
    /// The agents that could take the call on this rung.
    pub agents: Vec<Considered>,
}

/// An agent by its identifier and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAgent {
    /// Its identifier.
    pub id: AgentId,
    /// What it calls itself.
    pub name: String,
}

/// An agent that a rung looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The agent.
    pub agent: NamedAgent,
    /// Why it does not take the call; `None`: it could.
    pub obstacle: Option<Reason>,
}

impl NamedAgent {
    /// The name of an agent.
    fn of(agent: &DirectoryAgent) -> Self {
        Self {
            id: agent.record.id,
            name: agent.record.name.clone(),
        }
    }
}

impl Considered {
    /// An agent that could take the call.
    fn fit(agent: &DirectoryAgent) -> Self {
        Self {
            agent: NamedAgent::of(agent),
            obstacle: None,
        }
    }
}

/// The rungs of the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Whether the dialed number is known.
    DialedNumber,
    /// Whether anything is remembered of the caller.
    Contact,
    /// One remembered call, weighed.
    RememberedCall,
    /// The newest qualifying call from the dialed number.
    ReturnedCallSameNumber,
    /// The newest qualifying call of all.
    ReturnedCall,
    /// The number's default agent.
    Default,
    /// The environment's fallback targets.
    Fallback,
    /// No rung took the call.
    #[default]
    Refused,
}

impl Rung {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DialedNumber => "dialed_number",
            Self::Contact => "contact",
            Self::RememberedCall => "remembered_call",
            Self::ReturnedCallSameNumber => "returned_call_same_number",
            Self::ReturnedCall => "returned_call",
            Self::Default => "default",
            Self::Fallback => "fallback",
            Self::Refused => "refused",
        }
    }
}

/// Collects the steps, as the observer of a decision.
#[derive(Default)]
struct Notes {
    /// The steps so far.
    steps: Vec<Step>,
}

impl Notes {
    /// Adds a step.
    fn add(
        &mut self,
        rung: Rung,
        held: bool,
        reason: Option<Reason>,
        detail: String,
        agent: Option<&DirectoryAgent>,
    ) {
        self.steps.push(Step {
            rung,
            held,
            reason,
            detail,
            agents: agent.into_iter().map(Considered::fit).collect(),
            ..Step::default()
        });
    }
}

impl Observer for Notes {
    fn number_unknown(&mut self) {
        let detail = "the dialed number belongs to no environment".to_owned();
        self.add(
            Rung::DialedNumber,
            false,
            Some(Reason::NumberUnknown),
            detail,
            None,
        );
    }

    fn nothing_remembered(&mut self, reason: Reason) {
        let detail = match reason {
            Reason::CallerAnonymous => "the caller withheld the number",
            Reason::CallerInvalid => "the caller's number cannot be read",
            Reason::CallerNotVerified => {
                "the caller's number is not attested as high as the source of the call must"
            }
            Reason::ContactOptedOut => "the caller has asked not to be called",
            Reason::ContactReassigned => {
                "every remembered call is from before the number was given to somebody else"
            }
            _ => "no outbound call to the caller is remembered",
        };
        self.add(Rung::Contact, false, Some(reason), detail.to_owned(), None);
    }

    fn call_weighed(
        &mut self,
        place: &Place<'_, '_>,
        call: &RememberedCall,
        source: &DirectoryAgent,
        result: Result<&DirectoryAgent, Reason>,
    ) {
        let from = call
            .from
            .map_or_else(|| "an unknown number".to_owned(), |from| from.to_string());
        let mut detail = format!(
            "call by {} from {from} at {} ({})",
            named(source),
            call.started_at,
            call.status
        );
        let mut agents = Vec::new();
        match result {
            Ok(agent) => {
                agents.push(Considered::fit(agent));
                detail.push_str(&format!(" comes back to {}", named(agent)));
                let passed_over = source
                    .claimed_by
                    .iter()
                    .filter(|slot| **slot != agent.slot)
                    .filter_map(|slot| place.directory.agent(*slot))
                    .filter(|other| obstacle(place, other, source, call).is_none());
                for other in passed_over {
                    agents.push(Considered::fit(other));
                    detail.push_str(&format!(
                        "; {} claims it too, by a role set earlier",
                        named(other)
                    ));
                }
            }
            Err(reason) => {
                for slot in &source.claimed_by {
                    if let Some(agent) = place.directory.agent(*slot)
                        && let Some(obstacle) = obstacle(place, agent, source, call)
                    {
                        agents.push(Considered {
                            agent: NamedAgent::of(agent),
                            obstacle: Some(obstacle),
                        });
                        detail.push_str(&format!("; {}: {}", named(agent), obstacle.name()));
                    }
                }
                if reason == Reason::SourceHasNoCallbackAgent {
                    detail.push_str("; no callback role names this agent");
                }
            }
        }
        self.steps.push(Step {
            rung: Rung::RememberedCall,
            held: result.is_ok(),
            reason: result.err(),
            detail,
            call: Some(*call),
            source_agent: Some(NamedAgent::of(source)),
            agents,
        });
    }

    fn callback(&mut self, reason: Reason, agent: Option<&DirectoryAgent>) {
        let (rung, calls) = match reason {
            Reason::ReturnedCallSameNumber => {
                (Rung::ReturnedCallSameNumber, "from the dialed number")
            }
            _ => (Rung::ReturnedCall, "from any number"),
        };
        let detail = agent.map_or_else(
            || format!("no qualifying call {calls}"),
            |agent| {
                format!(
                    "the newest qualifying call {calls} comes back to {}",
                    named(agent)
                )
            },
        );
        self.add(rung, agent.is_some(), agent.map(|_| reason), detail, agent);
    }

    fn default_agent(&mut self, agent: Option<&DirectoryAgent>) {
        let detail = agent.map_or_else(
            || {
                "no published inbound agent with a usable target is assigned to the number"
                    .to_owned()
            },
            |agent| format!("{} takes the number's calls by default", named(agent)),
        );
        self.add(Rung::Default, agent.is_some(), None, detail, agent);
    }

    fn fallback(&mut self, held: bool) {
        let detail = if held {
            "the environment's fallback targets take the call"
        } else {
            "the environment has no usable fallback target"
        };
        self.add(Rung::Fallback, held, None, detail.to_owned(), None);
    }
}

/// An agent by its name and identifier, for people.
fn named(agent: &DirectoryAgent) -> String {
    format!("agent {} ({})", agent.record.name, agent.record.id)
}
