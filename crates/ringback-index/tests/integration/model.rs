//! The rules once more, as naive as possible: lists, scans, and nothing precomputed.

use proptest::prelude::*;
use ringback_routing::{
    Agent, AgentId, AgentStatus, Assignment, CallStatus, CallbackRole, ContactKey, Direction,
    Directory, E164, Environment, EnvironmentId, Hours, HoursSpec, NumberId, OptOut, Outcome,
    PhoneNumber, Reason, SpecialDay, Target, Timestamp,
};
use uuid::Uuid;

/// A world to decide in.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) environments: Vec<Environment>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) numbers: Vec<PhoneNumber>,
    /// The numbers of agents, in the order in which they were assigned.
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) calls: Vec<ModelCall>,
    pub(crate) rights: Vec<ModelRights>,
}

/// What a contact of an environment asked for.
#[derive(Clone, Debug)]
pub(crate) struct ModelRights {
    pub(crate) environment: EnvironmentId,
    pub(crate) contact: E164,
    /// The wish not to be called, and the second at which it ends, if it ends.
    pub(crate) opt_out: Option<Option<i64>>,
    /// The second from which on calls count.
    pub(crate) counts_from: Option<i64>,
}

/// An outbound call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelCall {
    pub(crate) agent: AgentId,
    pub(crate) contact: E164,
    pub(crate) from: Option<E164>,
    pub(crate) status: CallStatus,
    pub(crate) second: i64,
}

/// What the model decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) reason: Reason,
    pub(crate) agent: Option<AgentId>,
    pub(crate) source: Option<AgentId>,
}

impl World {
    pub(crate) fn directory(&self) -> Directory {
        let mut directory = Directory::load(
            SEED,
            self.environments.clone(),
            self.agents.clone(),
            self.numbers.clone(),
            self.assignments.clone(),
            Vec::new(),
        );
        directory.set_contact_key(KEY);
        for asked in &self.rights {
            let contact = KEY.hash(asked.environment, asked.contact);
            let opt_out = asked.opt_out.map(|until| OptOut {
                reason: None,
                until: until.map(Timestamp::from_seconds),
                created_at: Timestamp::from_seconds(0),
            });
            directory.set_opt_out(asked.environment, contact, opt_out);
            if let Some(from) = asked.counts_from {
                let from = Timestamp::from_seconds(from);
                directory.set_counts_from(asked.environment, contact, from);
            }
        }
        directory
    }

    /// The agents that own a number, first assigned first.
    pub(crate) fn owners(&self, number: NumberId) -> Vec<AgentId> {
        let of_number = self.assignments.iter().filter(|one| one.number == number);
        of_number.map(|one| one.agent).collect()
    }

    /// The calls of a contact that count: the newest of each line, the newest four lines.
    pub(crate) fn remembered(&self, environment: EnvironmentId, contact: E164) -> Vec<ModelCall> {
        let mut calls: Vec<ModelCall> = self
            .calls
            .iter()
            .filter(|call| {
                call.contact == contact && self.agent(call.agent).environment == environment
            })
            .cloned()
            .collect();
        calls.sort_by_key(|call| -call.second);
        let mut kept: Vec<ModelCall> = Vec::new();
        for call in calls {
            if !kept
                .iter()
                .any(|newer| newer.agent == call.agent && newer.from == call.from)
            {
                kept.push(call);
            }
        }
        kept.truncate(4);
        kept
    }

    pub(crate) fn decide(
        &self,
        dialed: E164,
        caller: Result<E164, Reason>,
        now: i64,
        unusable: &str,
    ) -> Verdict {
        let refused = |reason| Verdict {
            outcome: Outcome::Refused,
            reason,
            agent: None,
            source: None,
        };
        let Some(number) = self.numbers.iter().find(|number| number.number == dialed) else {
            return refused(Reason::NumberUnknown);
        };
        let environment = self
            .environments
            .iter()
            .find(|environment| environment.id == number.environment)
            .expect("every number has its environment");
        let usable = |targets: &[Target]| targets.iter().any(|target| target.uri != unusable);
        let agent_usable = |agent: &Agent| {
            if agent.targets.is_empty() {
                environment.target_template.is_some()
            } else {
                usable(&agent.targets)
            }
        };
        let takes = |agent: &Agent| {
            agent.status == AgentStatus::Published
                && agent.direction == Direction::Inbound
                && agent_usable(agent)
        };

        let owners = self.owners(number.id);
        let mut failure = match caller {
            Err(reason) => reason,
            Ok(_) => Reason::CallerNeverCalled,
        };
        let asked = caller.ok().and_then(|contact| {
            let mut rights = self.rights.iter();
            rights.find(|one| one.environment == environment.id && one.contact == contact)
        });
        let opted_out = asked.and_then(|asked| asked.opt_out);
        if opted_out.is_some_and(|until| until.is_none_or(|until| now < until)) {
            failure = Reason::ContactOptedOut;
        } else if let Ok(contact) = caller {
            let mut calls = self.remembered(environment.id, contact);
            let were_some = !calls.is_empty();
            let counts_from = asked.and_then(|asked| asked.counts_from);
            calls.retain(|call| counts_from.is_none_or(|from| call.second >= from));
            if were_some && calls.is_empty() {
                failure = Reason::ContactReassigned;
            }
            let verdicts: Vec<Result<AgentId, Reason>> = calls
                .iter()
                .map(|call| {
                    let mut roles: Vec<(&Agent, &CallbackRole)> = self
                        .agents
                        .iter()
                        .filter_map(|agent| Some((agent, agent.role.as_ref()?)))
                        .filter(|(_, role)| role.source_agents.contains(&call.agent))
                        .collect();
                    if roles.is_empty() {
                        return Err(Reason::SourceHasNoCallbackAgent);
                    }
                    roles.retain(|(agent, _)| owners.contains(&agent.id));
                    if roles.is_empty() {
                        return Err(Reason::CallbackAgentNotOwner);
                    }
                    roles.retain(|(agent, _)| takes(agent));
                    if roles.is_empty() {
                        return Err(Reason::CallbackAgentNotPublished);
                    }
                    roles.retain(|(_, role)| {
                        let hours = role.hours.as_deref();
                        hours.is_none_or(|hours| is_open(hours.spec(), now))
                    });
                    if roles.is_empty() {
                        return Err(Reason::CallbackAgentClosed);
                    }
                    roles.retain(|(_, role)| {
                        let window = role
                            .recency_window_seconds
                            .unwrap_or(environment.recency_window_seconds);
                        now - call.second <= i64::try_from(window).expect("windows are small")
                    });
                    if roles.is_empty() {
                        return Err(Reason::CallExpired);
                    }
                    roles.retain(|(_, role)| {
                        role.trigger_statuses.is_empty()
                            || role.trigger_statuses.contains(&call.status)
                    });
                    roles
                        .iter()
                        .max_by_key(|(_, role)| role.set_sequence)
                        .map(|(agent, _)| agent.id)
                        .ok_or(Reason::StatusNotEligible)
                })
                .collect();
            let qualifying: Vec<(&ModelCall, AgentId)> = calls
                .iter()
                .zip(&verdicts)
                .filter_map(|(call, verdict)| Some((call, *verdict.as_ref().ok()?)))
                .collect();
            let same = qualifying
                .iter()
                .find(|(call, _)| call.from == Some(dialed));
            let hit = same
                .map(|hit| (hit, Reason::ReturnedCallSameNumber))
                .or_else(|| qualifying.first().map(|hit| (hit, Reason::ReturnedCall)));
            if let Some(((call, agent), reason)) = hit {
                return Verdict {
                    outcome: Outcome::Callback,
                    reason,
                    agent: Some(*agent),
                    source: Some(call.agent),
                };
            }
            if let Some(Err(reason)) = verdicts.first() {
                failure = *reason;
            }
        }
        let candidates = number.default_agent.iter().chain(&owners);
        let default = candidates
            .filter(|id| owners.contains(id))
            .map(|id| self.agent(*id))
            .find(|agent| takes(agent));
        if let Some(agent) = default {
            let outcome = Outcome::Default;
            return Verdict {
                outcome,
                reason: failure,
                agent: Some(agent.id),
                source: None,
            };
        }
        if usable(&environment.fallback_targets) {
            return Verdict {
                outcome: Outcome::Fallback,
                reason: failure,
                agent: None,
                source: None,
            };
        }
        refused(Reason::NoAgentAvailable)
    }

    pub(crate) fn agent(&self, id: AgentId) -> &Agent {
        self.agents
            .iter()
            .find(|agent| agent.id == id)
            .expect("every agent is in the world")
    }
}

/// Whether hours are open: every second of the week that the wall shows is looked up by its name.
fn is_open(spec: &HoursSpec, now: i64) -> bool {
    let zone = jiff::tz::TimeZoneDatabase::bundled()
        .get(&spec.time_zone)
        .expect("a zone");
    let wall = jiff::Timestamp::from_second(now)
        .expect("an instant")
        .to_zoned(zone)
        .datetime();
    let ranges_of = |date: jiff::civil::Date| {
        let special = spec.except.iter().find(|day| day.date == date.to_string());
        let weekly = &spec.weekly;
        if let Some(day) = special {
            return &day.open;
        }
        match date.weekday() {
            jiff::civil::Weekday::Monday => &weekly.mon,
            jiff::civil::Weekday::Tuesday => &weekly.tue,
            jiff::civil::Weekday::Wednesday => &weekly.wed,
            jiff::civil::Weekday::Thursday => &weekly.thu,
            jiff::civil::Weekday::Friday => &weekly.fri,
            jiff::civil::Weekday::Saturday => &weekly.sat,
            jiff::civil::Weekday::Sunday => &weekly.sun,
        }
    };
    // Texts of times are ordered like the times.
    let time = format!("{:02}:{:02}", wall.hour(), wall.minute());
    let yesterday = wall.date().yesterday().expect("a day");
    let is_today = |[start, end]: &[String; 2]| *start <= time && (time < *end || end < start);
    let is_left_over = |[start, end]: &[String; 2]| end < start && time < *end;
    ranges_of(wall.date()).iter().any(is_today) || ranges_of(yesterday).iter().any(is_left_over)
}

pub(crate) fn agent_id(number: usize) -> AgentId {
    AgentId(Uuid::from_u128(0xa000 + number as u128))
}

pub(crate) fn number(index: usize) -> E164 {
    E164::from_digits(5_511_400_000_000 + index as u64).expect("13 digits")
}

pub(crate) fn contact(index: usize) -> E164 {
    E164::from_digits(5_511_900_000_000 + index as u64).expect("13 digits")
}

/// Time zones whose wall clocks show other days of the week, and minutes, than UTC.
const ZONES: [&str; 4] = [
    "Etc/UTC",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
];

/// Hours of these half hours of days of the week, and one day around now that is different.
fn hours_of(zone: usize, days: &[(usize, u8, u8)], special: Option<(i64, u8, u8)>) -> Hours {
    let range = |start: u8, end: u8| {
        [start, end].map(|half| format!("{:02}:{:02}", half / 2, half % 2 * 30))
    };
    let mut spec = HoursSpec {
        time_zone: ZONES[zone].to_owned(),
        ..HoursSpec::default()
    };
    let week = &mut spec.weekly;
    let ranges = [
        &mut week.mon,
        &mut week.tue,
        &mut week.wed,
        &mut week.thu,
        &mut week.fri,
        &mut week.sat,
        &mut week.sun,
    ];
    for &(day, start, end) in days.iter().filter(|(_, start, end)| start != end) {
        ranges[day].push(range(start, end));
    }
    if let Some((ahead, start, end)) = special {
        let date = jiff::Timestamp::from_second(NOW + ahead * 86_400).expect("an instant");
        spec.except.push(SpecialDay {
            date: date.strftime("%F").to_string(),
            open: (start != end)
                .then(|| range(start, end))
                .into_iter()
                .collect(),
        });
    }
    Hours::compile(spec).expect("good hours")
}

/// Keys the hashes of contacts.
const KEY: ContactKey = ContactKey([3; 16]);

/// The seed of every hash.
pub(crate) const SEED: u64 = 7;

/// Now, in the model's time.
pub(crate) const NOW: i64 = 1_800_000_000;

/// The target that the asker cannot be sent to.
pub(crate) const UNUSABLE: &str = "sip:here@router.example.com";

const AGENTS: usize = 8;
const NUMBERS: usize = 4;
const CONTACTS: usize = 3;

/// Worlds of two environments in which everything competes with everything.
pub(crate) fn world() -> impl Strategy<Value = World> {
    let environments = proptest::collection::vec(
        (
            prop_oneof![Just(10_u64), Just(50), Just(100)],
            any::<bool>(),
            0..3_usize,
        ),
        2,
    );
    let agents = proptest::collection::vec(
        (
            any::<bool>(),
            prop_oneof![3 => Just(true), 1 => Just(false)],
            0..4_usize,
            proptest::option::of((
                proptest::collection::btree_set(0..AGENTS, 1..5),
                proptest::option::of(0..120_u64),
                proptest::collection::btree_set(0..8_u8, 0..4),
                0..1_000_u64,
                proptest::option::weighted(
                    0.3,
                    (
                        0..ZONES.len(),
                        proptest::collection::vec((0..7_usize, 0..48_u8, 0..=48_u8), 0..12),
                        proptest::option::of((-1..2_i64, 0..48_u8, 0..=48_u8)),
                    ),
                ),
            )),
        ),
        AGENTS,
    );
    let numbers = proptest::collection::vec(
        (
            0..2_usize,
            proptest::collection::vec(0..AGENTS, 0..6),
            proptest::option::of(0..AGENTS),
        ),
        NUMBERS,
    );
    let calls = proptest::collection::btree_map(
        0..130_i64,
        (
            0..AGENTS,
            0..CONTACTS,
            proptest::option::of(0..NUMBERS),
            0..8_u8,
        ),
        0..24,
    );
    let rights = proptest::collection::btree_map(
        (0..2_usize, 0..CONTACTS),
        (
            proptest::option::of(proptest::option::of(-5..70_i64)),
            proptest::option::of(0..130_i64),
        ),
        0..3,
    );
    (environments, agents, numbers, calls, rights).prop_map(build)
}

type EnvironmentParts = (u64, bool, usize);
type RoleParts = (
    std::collections::BTreeSet<usize>,
    Option<u64>,
    std::collections::BTreeSet<u8>,
    u64,
    Option<HoursParts>,
);
type HoursParts = (usize, Vec<(usize, u8, u8)>, Option<(i64, u8, u8)>);
type AgentParts = (bool, bool, usize, Option<RoleParts>);
type NumberParts = (usize, Vec<usize>, Option<usize>);
type CallParts = (usize, usize, Option<usize>, u8);
type RightsParts = (Option<Option<i64>>, Option<i64>);
type WorldParts = (
    Vec<EnvironmentParts>,
    Vec<AgentParts>,
    Vec<NumberParts>,
    std::collections::BTreeMap<i64, CallParts>,
    std::collections::BTreeMap<(usize, usize), RightsParts>,
);

fn build((environments, agents, numbers, calls, rights): WorldParts) -> World {
    let environment_id = |index: usize| EnvironmentId(Uuid::from_u128(0xe000 + index as u128));
    let home = |agent: usize| agent % 2;
    let targets = |kind: usize| -> Vec<Target> {
        let target = |uri: &str| Target {
            uri: uri.to_owned(),
            priority: 0,
            weight: 0,
        };
        match kind {
            0 => Vec::new(),
            1 => vec![target(UNUSABLE)],
            2 => vec![target(UNUSABLE), target("sip:a@b.example.com")],
            _ => vec![target("sip:a@b.example.com")],
        }
    };
    let at = Timestamp::from_seconds(NOW - 10_000);
    let environments = environments
        .into_iter()
        .enumerate()
        .map(|(index, (window, template, fallback))| Environment {
            id: environment_id(index),
            name: format!("environment {index}"),
            default_country: None,
            number_form: ringback_routing::NumberForm::National,
            recency_window_seconds: window,
            target_template: template.then(|| "sip:{agent_id}@agents.example.com".to_owned()),
            fallback_targets: targets(fallback),
            held_targets: Vec::new(),
            created_at: at,
        })
        .collect();
    let mut sequence = 0;
    let directions: Vec<bool> = agents.iter().map(|agent| agent.0).collect();
    let agents: Vec<Agent> = agents
        .into_iter()
        .enumerate()
        .map(|(index, (inbound, published, kind, role))| Agent {
            id: agent_id(index),
            environment: environment_id(home(index)),
            name: format!("agent {index}"),
            label: String::new(),
            description: None,
            direction: if inbound {
                Direction::Inbound
            } else {
                Direction::Outbound
            },
            status: if published {
                AgentStatus::Published
            } else {
                AgentStatus::Draft
            },
            phone_numbers: Vec::new(),
            targets: targets(kind),
            external_ids: std::collections::BTreeMap::new(),
            role: role
                .filter(|_| inbound)
                .and_then(|(sources, window, statuses, order, hours)| {
                    sequence += 1;
                    let source_agents: Vec<AgentId> = sources
                        .into_iter()
                        .filter(|source| home(*source) == home(index) && !directions[*source])
                        .map(agent_id)
                        .collect();
                    (!source_agents.is_empty()).then(|| CallbackRole {
                        source_agents,
                        recency_window_seconds: window,
                        trigger_statuses: statuses.into_iter().map(CallStatus::from_rank).collect(),
                        hours: hours
                            .map(|(zone, days, special)| Box::new(hours_of(zone, &days, special))),
                        set_sequence: order * 100 + sequence,
                    })
                }),
            created_at: at,
            updated_at: at,
        })
        .collect();
    let mut assignments = Vec::new();
    let numbers = numbers
        .into_iter()
        .enumerate()
        .map(|(index, (environment, owners, default))| {
            let mut unique: Vec<AgentId> = Vec::new();
            for owner in owners
                .into_iter()
                .filter(|owner| home(*owner) == environment)
            {
                if !unique.contains(&agent_id(owner)) {
                    unique.push(agent_id(owner));
                }
            }
            let id = NumberId(Uuid::from_u128(0xb000 + index as u128));
            assignments.extend(unique.iter().map(|agent| Assignment {
                number: id,
                agent: *agent,
            }));
            PhoneNumber {
                id,
                environment: environment_id(environment),
                number: number(index),
                country: None,
                default_agent: default.map(agent_id).filter(|id| unique.contains(id)),
                created_at: at,
            }
        })
        .collect();
    let calls = calls
        .into_iter()
        .map(|(age, (agent, to, from, status))| ModelCall {
            agent: agent_id(agent),
            contact: contact(to),
            from: from.map(number),
            status: CallStatus::from_rank(status),
            second: NOW - age,
        })
        .collect();
    let rights = rights
        .into_iter()
        .map(
            |((environment, of), (opt_out, reassigned_ago))| ModelRights {
                environment: environment_id(environment),
                contact: contact(of),
                opt_out: opt_out.map(|until| until.map(|ahead| NOW + ahead)),
                counts_from: reassigned_ago.map(|ago| NOW - ago),
            },
        )
        .collect();
    World {
        environments,
        agents,
        numbers,
        assignments,
        calls,
        rights,
    }
}
