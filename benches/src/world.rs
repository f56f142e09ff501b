//! The same contacts, agents and numbers in this process, and the call path without sockets.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use ringback_index::ContactIndex;
use ringback_routing::{
    Agent, AgentId, AgentSlot, AgentStatus, Assignment, CallStatus, CallbackRole, Caller,
    ContactKey, Decision, Direction, Directory, E164, Environment, EnvironmentId, EnvironmentSlot,
    Hours, HoursSpec, NumberForm, NumberId, NumberRules, OptOut, PhoneNumber, Placeholders,
    Question, Reason, RememberedCall, Target, Timestamp, UserSet, Week, WrittenNumber, decide,
};
use ringback_sip_proto::{
    Action, Answer, Identity, IdentitySource, Input, PreparedAnswer, PreparedTarget, Redirector,
    Reply, Settings, Transport,
};
use uuid::Uuid;

use crate::population::{self, Population};

/// The time of everything in this world.
pub const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// The environment of the small population.
pub const ENVIRONMENT: EnvironmentSlot = EnvironmentSlot(0);

/// A number that all inbound agents of the first environment own, and that no call was made from.
#[must_use]
pub fn shared_number() -> E164 {
    e164(population::number(SHARED_NUMBER))
}

/// Its index: beyond those of every population.
const SHARED_NUMBER: u64 = 1_000_000;

/// Digits as a number; all digits of the population are valid.
#[must_use]
pub fn e164(digits: u64) -> E164 {
    E164::from_digits(digits).unwrap_or_else(|| unreachable!("{digits} has 7 to 15 digits"))
}

/// The directory of a population, plus [`shared_number`].
#[must_use]
pub fn directory(population: &Population) -> Directory {
    let environment_id = |index: u64| EnvironmentId(Uuid::from_u128(1 + u128::from(index)));
    let number_id = |index: u64| NumberId(Uuid::from_u128(1 << 64 | u128::from(index)));
    let outbound = |line: u64| AgentId(Uuid::from_u128(2 << 64 | u128::from(line)));
    let inbound = |line: u64| AgentId(Uuid::from_u128(3 << 64 | u128::from(line)));
    let agent = |line: u64, direction: Direction| {
        let is_inbound = direction == Direction::Inbound;
        let shares = is_inbound && population.environment(line) == 0;
        Agent {
            id: if is_inbound {
                inbound(line)
            } else {
                outbound(line)
            },
            environment: environment_id(population.environment(line)),
            name: format!("agent-{line:03}"),
            label: format!("Agent {line}"),
            description: None,
            direction,
            status: AgentStatus::Published,
            phone_numbers: std::iter::once(number_id(population.number_index(line)))
                .chain(shares.then(|| number_id(SHARED_NUMBER)))
                .collect(),
            external_ids: BTreeMap::new(),
            targets: population
                .targets(line)
                .into_iter()
                .zip(0..)
                .filter(|_| is_inbound)
                .map(|(uri, priority)| Target {
                    uri,
                    priority,
                    weight: 0,
                })
                .collect(),
            role: is_inbound.then(|| CallbackRole {
                source_agents: vec![outbound(line)],
                recency_window_seconds: None,
                trigger_statuses: Vec::new(),
                hours: None,
                set_sequence: line + 1,
            }),
            created_at: NOW,
            updated_at: NOW,
        }
    };
    let agents = (0..population.all_lines()).flat_map(|line| {
        [
            agent(line, Direction::Outbound),
            agent(line, Direction::Inbound),
        ]
    });
    let number = |index: u64| PhoneNumber {
        id: number_id(index),
        environment: environment_id(if index == SHARED_NUMBER {
            0
        } else {
            index / population.numbers
        }),
        number: e164(population::number(index)),
        country: None,
        default_agent: None,
        created_at: NOW,
    };
    let phone_numbers = (0..population.all_numbers())
        .map(number)
        .chain([number(SHARED_NUMBER)]);
    let own = (0..population.all_lines()).flat_map(|line| {
        let number = number_id(population.number_index(line));
        [outbound(line), inbound(line)].map(|agent| Assignment { number, agent })
    });
    let shared = (0..population.lines).map(|line| Assignment {
        number: number_id(SHARED_NUMBER),
        agent: inbound(line),
    });
    let environments = (0..population.environments).map(|index| Environment {
        id: environment_id(index),
        name: format!("bench-{index}"),
        default_country: None,
        number_form: NumberForm::National,
        recency_window_seconds: Environment::DEFAULT_RECENCY_WINDOW_SECONDS,
        target_template: None,
        fallback_targets: Vec::new(),
        held_targets: Vec::new(),
        created_at: NOW,
    });
    Directory::load(
        7,
        environments,
        agents,
        phone_numbers,
        own.chain(shared),
        [],
    )
}

/// The slots of the outbound agents, by line.
#[must_use]
pub fn sources(directory: &Directory) -> Vec<AgentSlot> {
    directory
        .all_agents()
        .filter(|agent| agent.record.direction == Direction::Outbound)
        .map(|agent| agent.slot)
        .collect()
}

/// The call to contact `contact`, this many seconds ago.
///
/// # Panics
/// `sources` are not those of the directory.
#[must_use]
pub fn call(
    population: &Population,
    sources: &[AgentSlot],
    contact: u64,
    ago: i64,
) -> RememberedCall {
    let line = population.line(contact);
    RememberedCall {
        source: sources[line as usize],
        from: Some(e164(population.number(line))),
        started_at: NOW.plus_millis(-ago * 1_000),
        status: CallStatus::Completed,
    }
}

/// The directory and an index with this many contacts.
#[derive(Debug)]
pub struct World {
    /// Agents, numbers and roles.
    pub directory: Directory,
    /// The contacts.
    pub index: ContactIndex,
}

impl World {
    /// The small population, with this many contacts.
    #[must_use]
    pub fn new(contacts: u64) -> Self {
        Self::of(&Population::SMALL, contacts)
    }

    /// A population, with this many contacts.
    #[must_use]
    pub fn of(population: &Population, contacts: u64) -> Self {
        let directory = directory(population);
        let sources = sources(&directory);
        let index = ContactIndex::new(7);
        for contact in 0..contacts {
            let environment = population.environment(population.line(contact));
            index.observe(
                EnvironmentSlot(environment as u16),
                e164(population::contact(contact)),
                &call(population, &sources, contact, 3_600),
            );
        }
        Self { directory, index }
    }

    /// The same world with what contacts and roles may ask for: this many strangers opted out, and every role has hours,
    /// which are open.
    #[must_use]
    pub fn with_rights(mut self, opted_out: u64) -> Self {
        let key = ContactKey([7; 16]);
        self.directory.set_contact_key(key);
        let home = self
            .directory
            .environments()
            .next()
            .map(|one| one.record.id);
        let home = home.expect("there is an environment");
        for number in 0..opted_out {
            let contact = key.hash(home, e164(population::stranger(number)));
            let opt_out = OptOut {
                reason: None,
                until: None,
                created_at: NOW,
            };
            self.directory.set_opt_out(home, contact, Some(opt_out));
        }
        let day = vec![["00:00", "24:00"].map(str::to_owned)];
        let hours = HoursSpec {
            time_zone: "America/Sao_Paulo".to_owned(),
            weekly: Week {
                mon: day.clone(),
                tue: day.clone(),
                wed: day.clone(),
                thu: day.clone(),
                fri: day.clone(),
                sat: day.clone(),
                sun: day,
            },
            except: Vec::new(),
        };
        let hours = Hours::compile(hours).expect("good hours");
        let agents: Vec<Agent> = self
            .directory
            .all_agents()
            .map(|agent| Agent::clone(&agent.record))
            .collect();
        for mut agent in agents {
            if let Some(role) = &mut agent.role {
                role.hours = Some(Box::new(hours.clone()));
                self.directory.put_agent(agent);
            }
        }
        self
    }

    /// Decides a call.
    #[must_use]
    pub fn decide(&self, dialed: E164, caller: Caller) -> Decision<'_> {
        let question = Question {
            dialed: Some(dialed),
            caller,
            is_verified: true,
            now: NOW,
            avoided: UserSet::NONE,
            usable: &|_, _| true,
        };
        decide(&self.directory, &self.index, &question).expect("the index is in memory")
    }
}

/// The call path in memory: a message comes in, the reply is appended to a buffer.
#[derive(Debug)]
pub struct CallPath {
    /// Reads requests and writes replies.
    redirector: Redirector,
    /// The rules for numbers.
    rules: NumberRules,
    /// Prepared answers, by agent, source agent and reason.
    plans: Mutex<HashMap<PlanKey, Plan>>,
}

/// The key of a prepared answer.
type PlanKey = (Option<AgentSlot>, Option<AgentSlot>, Reason);

/// A prepared answer, and its targets.
type Plan = (PreparedAnswer, Vec<PreparedTarget>);

/// Reads a number by these rules, as the server does.
pub fn read(rules: &NumberRules, identity: Identity) -> Caller {
    match identity {
        Identity::Number(digits) => rules.read(WrittenNumber {
            digits: digits.as_bytes(),
            plus: digits.has_plus(),
            context: digits.context(),
            bracketed_zero: digits.bracketed_zero(),
            may_go_on: digits.may_go_on(),
        }),
        Identity::Withheld | Identity::Nobody => Caller::Anonymous,
        Identity::Unreadable => Caller::Invalid,
    }
}

impl CallPath {
    /// A path that writes the decision on its replies.
    #[must_use]
    pub fn new() -> Self {
        Self {
            redirector: Redirector::new([7; 16]),
            rules: NumberRules::default(),
            plans: Mutex::default(),
        }
    }

    /// Handles a datagram; returns the reply, if there is one.
    pub fn handle(&self, world: &World, datagram: &[u8], out: &mut Vec<u8>) -> Option<Reply> {
        match self.redirector.handle(input(datagram), out) {
            Action::Reply(reply) => Some(reply),
            Action::Invite(invite) => {
                let read = |identity| read(&self.rules, identity);
                let dialed = read(invite.request_uri_identity(&[])).number();
                let caller = [IdentitySource::PAssertedIdentity, IdentitySource::From]
                    .into_iter()
                    .flat_map(|source| invite.caller(source))
                    .map(read)
                    .next()
                    .unwrap_or(Caller::Invalid);
                let usable =
                    |target: &Target, _: &Placeholders| !invite.points_back(target.uri.as_bytes());
                let question = Question {
                    dialed,
                    caller,
                    is_verified: true,
                    now: NOW,
                    avoided: UserSet::of_user(invite.uri().user().unwrap_or_default()),
                    usable: &usable,
                };
                let decision = decide(&world.directory, &world.index, &question)
                    .expect("the index is in memory");
                let key = (
                    decision.agent.map(|agent| agent.slot),
                    decision.source_agent.map(|agent| agent.slot),
                    decision.reason,
                );
                let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
                let (answer, targets) = plans.entry(key).or_insert_with(|| plan(&decision));
                Some(self.redirector.answer(&invite, answer, &*targets, out))
            }
            _ => None,
        }
    }
}

/// Prepares the answer of a decision, as the server does for the first call with it.
fn plan(decision: &Decision<'_>) -> Plan {
    let agent = decision.agent.map(|agent| agent.record.id.0.to_string());
    let source = decision.source_agent.map(|it| it.record.id.0.to_string());
    let answer = Answer {
        outcome: decision.outcome.name(),
        reason: decision.reason.name(),
        agent: agent.as_deref(),
        source_agent: source.as_deref(),
    };
    let settings = Settings::default();
    let target = |target: &Target| PreparedTarget::new(&target.uri, &answer, settings);
    (
        PreparedAnswer::new(&answer, settings),
        decision.targets().iter().map(target).collect(),
    )
}

impl Default for CallPath {
    fn default() -> Self {
        Self::new()
    }
}

/// A datagram from the load generator.
#[must_use]
pub fn input(datagram: &[u8]) -> Input<'_> {
    Input {
        bytes: datagram,
        source: std::net::SocketAddr::from(([127, 0, 0, 1], 41_234)),
        transport: Transport::Udp,
        draining: false,
    }
}

#[cfg(test)]
mod tests {
    use ringback_routing::Reason;

    use super::*;
    use crate::sip::{Call, Template};

    #[test]
    fn each_rung_is_reached() {
        for population in [Population::SMALL, Population::REAL] {
            let world = World::of(&population, 100);
            for contact in 0..100 {
                let caller = Caller::Number(e164(population::contact(contact)));
                let line = population.line(contact);
                let own = e164(population.number(line));
                let returned = world.decide(own, caller);
                assert_eq!(returned.reason, Reason::ReturnedCallSameNumber);
                let targets: Vec<&str> = returned
                    .targets()
                    .iter()
                    .map(|target| target.uri.as_str())
                    .collect();
                assert_eq!(targets, population.targets(line));
                let stranger = Caller::Number(e164(population::stranger(contact)));
                let unclaimed = world.decide(own, stranger);
                assert_eq!(unclaimed.reason, Reason::CallerNeverCalled);
                assert_eq!(
                    unclaimed.targets()[0].uri,
                    population::target(population.default_line(line))
                );
            }
        }
        let world = World::new(100);
        let caller = Caller::Number(e164(population::contact(7)));
        let returned = world.decide(shared_number(), caller);
        assert_eq!(returned.reason, Reason::ReturnedCall);
    }

    #[test]
    fn the_call_path_redirects_to_the_right_target() {
        let population = Population::REAL;
        let world = World::of(&population, 100);
        let mut invite = Template::invite(41_234);
        invite.set(&Call::returning(&population, 1, 42));
        let mut out = Vec::new();
        let reply = CallPath::new().handle(&world, invite.bytes(), &mut out);
        assert_eq!(reply.map(|reply| reply.status), Some(302));
        let text = String::from_utf8(out).unwrap();
        let target = population::target(population.line(42));
        assert!(text.contains(&format!("Contact: <{target}>")), "{text}");
        assert!(text.contains("X-Ringback-Reason: returned_call_same_number"));
    }
}
