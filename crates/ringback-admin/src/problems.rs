//! What cannot route in an environment, and why: found by looking at the directory, and at the numbers that agents called from lately.

use std::collections::BTreeMap;

use ringback_api::{ObjectKind, ProblemCode, ProblemObject, RoutingProblem, Severity};
use ringback_engine::ContactView;
use ringback_routing::{
    AgentId, AgentSlot, AgentStatus, CallStatus, Caller, ContactUnreadable, Contacts, Dialect,
    Direction, Directory, DirectoryAgent, DirectoryEnvironment, DirectoryNumber, E164,
    EnvironmentSlot, Outcome, Placeholders, Question, Reason, RecentCalls, RememberedCall, Target,
    Timestamp, UserSet, decide,
};

/// Everything that is wrong: errors first, then by code, then by name.
pub(crate) fn problems(
    directory: &Directory,
    home: &DirectoryEnvironment,
    contacts: &ContactView,
    now: Timestamp,
) -> Vec<RoutingProblem> {
    let mut found = Vec::new();
    for agent in directory.agents_of(home.record.id) {
        of_agent(directory, agent, &mut found);
        without_external_id(home, agent, &mut found);
    }
    for number in directory.numbers_of(home.record.id) {
        if !has_default(directory, home, number) {
            found.push(RoutingProblem {
                code: ProblemCode::NumberWithoutDefault,
                severity: Severity::Error,
                message: "Calls to this number that no callback role claims are refused: no published inbound \
                          agent with a target owns it, and the environment has no fallback target."
                    .to_owned(),
                objects: vec![number_object(number)],
            });
        }
    }
    unrouted_returns(directory, home, contacts, now, &mut found);
    let name = |problem: &RoutingProblem| problem.objects.first().map(|first| first.name.clone());
    found.sort_by_cached_key(|problem| (problem.severity, problem.code, name(problem)));
    found
}

/// Numbers that agents called from in the last 30 days, although a call that returns to them reaches no callback agent.
fn unrouted_returns(
    directory: &Directory,
    home: &DirectoryEnvironment,
    contacts: &ContactView,
    now: Timestamp,
    found: &mut Vec<RoutingProblem>,
) {
    let mut callers: BTreeMap<E164, Vec<&DirectoryAgent>> = BTreeMap::new();
    for (source, from) in contacts.dialed_from(now.plus_millis(-LATELY_MILLIS)) {
        let agent = directory.agent(source);
        let agent = agent.filter(|agent| agent.record.environment == home.record.id);
        if let Some(agent) = agent
            && !comes_back(directory, source, from, now)
        {
            callers.entry(from).or_default().push(agent);
        }
    }
    for (from, mut agents) in callers {
        let number = directory.number(from);
        let number = number.filter(|number| number.record.environment == home.record.id);
        // Calls to a number of others do not come here at all.
        let Some(number) = number else { continue };
        agents.sort_by(|left, right| left.record.name.cmp(&right.record.name));
        let objects = std::iter::once(number_object(number));
        found.push(RoutingProblem {
            code: ProblemCode::ReturnNotRouted,
            severity: Severity::Warning,
            message: "Agents called from this number in the last 30 days, and calls that return to it do not \
                      reach a callback agent."
                .to_owned(),
            objects: objects.chain(agents.into_iter().map(agent_object)).collect(),
        });
    }
}

/// Whether a contact that this agent has just called from a number reaches a callback agent by dialing it, if the call
/// ended as the role asks for.
fn comes_back(directory: &Directory, source: AgentSlot, from: E164, now: Timestamp) -> bool {
    CallStatus::ALL.into_iter().any(|status| {
        let contacts = OneCall(RememberedCall {
            source,
            from: Some(from),
            started_at: now,
            status,
        });
        let question = Question {
            dialed: Some(from),
            caller: Caller::Number(from),
            is_verified: true,
            now,
            avoided: UserSet::NONE,
            usable: &|target: &Target, filling: &Placeholders| filling.fill(&target.uri).is_some(),
        };
        let decision = decide(directory, &contacts, &question);
        // An agent that is closed now takes it back at another time.
        decision.is_ok_and(|decision| {
            decision.outcome == Outcome::Callback || decision.reason == Reason::CallbackAgentClosed
        })
    })
}

/// Contacts of which all are remembered by the same call.
struct OneCall(RememberedCall);

impl Contacts for OneCall {
    fn calls(
        &self,
        _environment: EnvironmentSlot,
        _contact: E164,
    ) -> Result<RecentCalls, ContactUnreadable> {
        Ok(std::iter::once(self.0).collect())
    }
}

/// What is wrong with an agent.
fn of_agent(directory: &Directory, agent: &DirectoryAgent, found: &mut Vec<RoutingProblem>) {
    let record = &agent.record;
    let is_published = record.status == AgentStatus::Published;
    let mut add = |code, severity, message: &str, others: Vec<ProblemObject>| {
        found.push(RoutingProblem {
            code,
            severity,
            message: message.to_owned(),
            objects: std::iter::once(agent_object(agent)).chain(others).collect(),
        });
    };
    if agent.has_role() {
        if !is_published {
            add(
                ProblemCode::RoleOnDraftAgent,
                Severity::Error,
                "This agent has a callback role but is a draft: calls do not come back to it.",
                Vec::new(),
            );
        }
        if record.phone_numbers.is_empty() {
            add(
                ProblemCode::CallbackAgentWithoutNumber,
                Severity::Error,
                "This agent has a callback role but owns no number: calls do not come back to it.",
                Vec::new(),
            );
        }
        if !has_target(directory.targets(agent), Some(record.id), Some(record.id)) {
            add(
                ProblemCode::CallbackAgentWithoutTarget,
                Severity::Error,
                "This agent has a callback role but no target, and the environment has no template: calls do \
                 not come back to it.",
                Vec::new(),
            );
        }
    }
    if record.direction == Direction::Outbound && is_published {
        let claimants: Vec<ProblemObject> = agent
            .claimed_by
            .iter()
            .filter_map(|slot| directory.agent(*slot))
            .map(agent_object)
            .collect();
        match claimants.len() {
            0 => add(
                ProblemCode::SourceNotTaken,
                Severity::Warning,
                "No callback role names this agent: contacts that it called reach the number's default agent.",
                Vec::new(),
            ),
            1 => {}
            _ => add(
                ProblemCode::CompetingRoles,
                Severity::Warning,
                "Several callback roles name this agent: of those that fit, the one set last takes its calls.",
                claimants,
            ),
        }
    }
}

/// Adds an agent that gets calls, but has no id at a platform that can be answered with nothing else.
fn without_external_id(
    home: &DirectoryEnvironment,
    agent: &DirectoryAgent,
    found: &mut Vec<RoutingProblem>,
) {
    let record = &agent.record;
    let lacks = |dialect: Dialect| {
        matches!(dialect, Dialect::Retell | Dialect::Ultravox)
            && !record.external_ids.contains_key(&dialect)
    };
    let gets_calls = agent.takes_calls() && !record.phone_numbers.is_empty();
    let mut connectors = home.connectors.iter();
    if gets_calls && connectors.any(|connector| lacks(connector.dialect)) {
        found.push(RoutingProblem {
            code: ProblemCode::AgentWithoutExternalId,
            severity: Severity::Warning,
            message: "A connector's platform knows agents by ids of its own, and this agent has none there: calls \
                      to it are answered as when nothing routes."
                .to_owned(),
            objects: vec![agent_object(agent)],
        });
    }
}

/// Whether some call to the number that no role claims is taken.
fn has_default(
    directory: &Directory,
    home: &DirectoryEnvironment,
    number: &DirectoryNumber,
) -> bool {
    let takes = |agent: &DirectoryAgent| {
        agent.takes_calls() && has_target(directory.targets(agent), Some(agent.record.id), None)
    };
    has_target(&home.record.fallback_targets, None, None)
        || number
            .owners()
            .filter_map(|slot| directory.agent(slot))
            .any(takes)
}

/// Whether one of the targets has a value for each of its placeholders.
fn has_target(targets: &[Target], agent: Option<AgentId>, source: Option<AgentId>) -> bool {
    let filling = Placeholders {
        agent,
        source_agent: source,
        dialed: None,
        caller: Caller::Anonymous,
    };
    targets.iter().any(|target| {
        // A call always has a dialed number.
        filling
            .fill(&target.uri.replace("{dialed}", "dialed"))
            .is_some()
    })
}

/// An agent, as something that a problem is about.
fn agent_object(agent: &DirectoryAgent) -> ProblemObject {
    ProblemObject {
        kind: ObjectKind::Agent,
        id: agent.record.id.0,
        name: agent.record.name.clone(),
    }
}

/// A number likewise.
fn number_object(number: &DirectoryNumber) -> ProblemObject {
    ProblemObject {
        kind: ObjectKind::Number,
        id: number.record.id.0,
        name: number.record.number.to_string(),
    }
}

/// For how long a number counts as called from.
const LATELY_MILLIS: i64 = 30 * 24 * 60 * 60 * 1_000;
