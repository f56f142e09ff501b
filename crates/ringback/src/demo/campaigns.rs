//! Two campaigns that share a number, the calls that they made, and what must come of each
//! returning call.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringback_api::{
    Agent, AgentNew, Call, CallNew, CallbackRole, CallbackRoleSet, CallbackStatistics, Change,
    Decision, Environment, EnvironmentNew, EnvironmentSettings, PhoneNumber, PhoneNumberNew,
    PhoneNumberPatch, TargetNew, TokenNew, TokenShown,
};
use ringback_engine::{Clock, SystemClock};
use ringback_routing::Direction::{Inbound, Outbound};
use ringback_routing::{AgentId, CallStatus, NumberId};

use super::DemoError;
use crate::client::{Answer, ApiPath, Client, ClientError};
use crate::output::Paint;

/// The campaigns, on the server.
pub(super) struct Campaigns {
    /// Asks the server, as the environment.
    client: Client,
    /// The outbound agent of the first.
    solar: AgentId,
}

/// A contact dials a number.
pub(super) struct ReturningCall {
    /// The caller's number.
    pub(super) caller: String,
    /// The number that is dialed.
    pub(super) dialed: String,
    /// What came before.
    pub(super) story: &'static str,
    /// What must come of it.
    expected: Expected,
}

/// What must come of a call.
struct Expected {
    /// The SIP status that must come.
    status: u16,
    /// The target that the redirect must name.
    target: &'static str,
    /// The outcome.
    outcome: &'static str,
    /// The reason.
    reason: &'static str,
}

impl ReturningCall {
    /// What must come of it, as [`super::Reply::summary`] writes it.
    pub(super) fn expected(&self) -> String {
        let Expected {
            status,
            target,
            outcome,
            reason,
        } = self.expected;
        format!("{status} to {target}, {outcome} by {reason}")
    }
}

impl Campaigns {
    /// Makes them, and records the calls that they have made.
    pub(super) fn make(
        administrator: &Client,
        field: &[String; 2],
        client: impl Fn(&str) -> Result<Client, ClientError>,
    ) -> Result<Self, DemoError> {
        let environment = EnvironmentNew {
            name: "demo".to_owned(),
            settings: EnvironmentSettings {
                default_country: Change::Set("US".to_owned()),
                recency_window_seconds: Change::Set(RECENCY_WINDOW.unsigned_abs()),
                ..EnvironmentSettings::default()
            },
        };
        let environment: Answer<Environment> =
            administrator.post(&ApiPath::new(["environments"]), &environment)?;
        let tokens = ApiPath::new(["environments", &environment.data.id.to_string(), "tokens"]);
        let token = TokenNew {
            name: Some("demo".to_owned()),
            masked: false,
        };
        let token: Answer<TokenShown> = administrator.post(&tokens, &token)?;
        let client = client(&token.data.token)?;

        let number = |number: &str| {
            let body = PhoneNumberNew {
                number: number.to_owned(),
                country_code: None,
            };
            let answer: Answer<PhoneNumber> =
                client.post(&ApiPath::new(["phone-numbers"]), &body)?;
            Ok::<_, DemoError>(answer.data.id)
        };
        let (shared, second, third) = (number(SHARED)?, number(SECOND)?, number(THIRD)?);
        let agent = |name: &str, direction, numbers: &[NumberId], targets: &[&str]| {
            let ranked = (0..).zip(targets).map(|(priority, uri)| TargetNew::Ranked {
                uri: (*uri).to_owned(),
                priority,
                weight: 0,
            });
            let body = AgentNew {
                name: name.to_owned(),
                label: name.to_owned(),
                direction,
                description: None,
                phone_number_ids: Some(numbers.to_vec()),
                targets: Some(ranked.collect()),
                external_ids: BTreeMap::new(),
            };
            let agent: Answer<Agent> = client.post(&ApiPath::new(["agents"]), &body)?;
            let id = agent.data.id;
            let publish = ApiPath::new(["agents", &id.to_string(), "publish"]);
            let _published: Answer<Agent> = client.post_nothing(&publish)?;
            Ok::<_, DemoError>(id)
        };
        let both = [shared, second];
        let solar = agent("Solar sales", Outbound, &both, &[])?;
        let internet = agent("Internet sales", Outbound, &[shared], &[])?;
        let field_sales = agent("Field sales", Outbound, &[third], &[])?;
        let solar_callbacks = agent("Solar callbacks", Inbound, &both, &[SOLAR])?;
        let internet_callbacks = agent("Internet callbacks", Inbound, &[shared], &[INTERNET])?;
        let phones = field.each_ref().map(String::as_str);
        let field_callbacks = agent("Field callbacks", Inbound, &[third], &phones)?;
        let reception = agent("Reception", Inbound, &both, &[RECEPTION])?;
        for number in both {
            let path = ApiPath::new(["phone-numbers", &number.to_string()]);
            let body = PhoneNumberPatch {
                default_agent_id: Change::Set(reception),
            };
            let _changed: Answer<PhoneNumber> = client.patch(&path, &body)?;
        }
        for (callbacks, source) in [
            (solar_callbacks, solar),
            (internet_callbacks, internet),
            (field_callbacks, field_sales),
        ] {
            let path = ApiPath::new(["agents", &callbacks.to_string(), "callback"]);
            let body = CallbackRole {
                source_agent_ids: vec![source],
                callback_trigger_statuses: Change::Keep,
                recency_window_seconds: Change::Keep,
                hours: Change::Keep,
            };
            let _set: Answer<CallbackRoleSet> = client.post(&path, &body)?;
        }

        for (agent_id, contact, seconds_ago) in [
            (solar, YESTERDAY, DAY),
            (internet, TODAY, 2 * HOUR),
            (solar, BOTH, 7 * DAY),
            (internet, BOTH, HOUR),
            (solar, EXPIRED, RECENCY_WINDOW + HOUR),
            (field_sales, FIELD, 3 * HOUR),
        ] {
            let started_at = SystemClock.now().plus_millis(-seconds_ago * 1_000);
            let call = CallNew {
                agent_id,
                to: contact.to_owned(),
                from: Some(
                    if agent_id == field_sales {
                        THIRD
                    } else {
                        SHARED
                    }
                    .to_owned(),
                ),
                status: Some(CallStatus::NoAnswer),
                started_at: Some(started_at.to_string()),
                sid: None,
            };
            let _recorded: Answer<Call> = client.post(&ApiPath::new(["calls"]), &call)?;
        }
        Ok(Self { client, solar })
    }

    /// Says what there is.
    pub(super) fn describe(&self, paint: Paint) -> String {
        let line = |agent: &str, callbacks: &str, target: &str| {
            format!(
                "  {agent:<16} {} {callbacks:<20} {}\n",
                paint.dim("→"),
                paint.dim(target)
            )
        };
        format!(
            "{}\n{}{}{}\n",
            paint.bold(&format!(
                "Two campaigns share {SHARED}; returning calls go to:"
            )),
            line("Solar sales", "Solar callbacks", SOLAR),
            line("Internet sales", "Internet callbacks", INTERNET),
            line("anyone else", "Reception", RECEPTION),
        )
    }

    /// The contacts that dial back.
    pub(super) fn returning_calls(&self) -> Vec<ReturningCall> {
        let call = |caller: &str, dialed: &str, story, target, outcome, reason| ReturningCall {
            caller: caller.to_owned(),
            dialed: dialed.to_owned(),
            story,
            expected: Expected {
                status: 302,
                target,
                outcome,
                reason,
            },
        };
        let same = "returned_call_same_number";
        vec![
            call(
                YESTERDAY,
                SHARED,
                "Solar called yesterday",
                SOLAR,
                "callback",
                same,
            ),
            call(
                TODAY,
                SHARED,
                "Internet called two hours ago",
                INTERNET,
                "callback",
                same,
            ),
            call(
                BOTH,
                SHARED,
                "Solar a week ago, Internet since",
                INTERNET,
                "callback",
                same,
            ),
            call(
                YESTERDAY,
                SECOND,
                "another number of Solar's",
                SOLAR,
                "callback",
                "returned_call",
            ),
            call(
                EXPIRED,
                SHARED,
                "Solar called 30 days and an hour ago",
                RECEPTION,
                "default",
                "call_expired",
            ),
            call(
                STRANGER,
                SHARED,
                "nobody called",
                RECEPTION,
                "default",
                "caller_never_called",
            ),
            call(
                "anonymous",
                SHARED,
                "number withheld",
                RECEPTION,
                "default",
                "caller_anonymous",
            ),
            ReturningCall {
                expected: Expected {
                    status: 404,
                    target: "nowhere",
                    outcome: "refused",
                    reason: "number_unknown",
                },
                ..call(YESTERDAY, UNKNOWN, "a number of no tenant", "", "", "")
            },
        ]
    }

    /// A contact whose carrier follows no redirect; the first phone of the agent is switched off.
    pub(super) fn call_over_a_carrier(&self) -> ReturningCall {
        ReturningCall {
            caller: FIELD.to_owned(),
            dialed: THIRD.to_owned(),
            story: "Field called this morning; its first phone is off",
            expected: Expected {
                status: 200,
                target: "its second phone",
                outcome: "callback",
                reason: "returned_call_same_number",
            },
        }
    }

    /// The decision on a call, once it is known which targets were tried.
    pub(super) fn wait_for_attempts(&self, call: &ReturningCall) -> Result<Decision, DemoError> {
        let path = ApiPath::new(["decisions"]);
        let begun = Instant::now();
        loop {
            let answer: Answer<Vec<Decision>> = self.client.get(&path)?;
            let is_it = |decision: &Decision| {
                decision
                    .from
                    .as_ref()
                    .is_some_and(|from| from.to_string() == call.caller)
                    && decision.attempts.len() > 1
            };
            if let Some(decision) = answer.data.into_iter().find(is_it) {
                return Ok(decision);
            }
            if begun.elapsed() > PATIENCE {
                return Err(DemoError::Unexpected {
                    caller: call.caller.clone(),
                    expected: call.expected(),
                    got: "no targets beside the decision".to_owned(),
                });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Says what the server has counted; holds it against the calls.
    pub(super) fn count(&self, paint: Paint) -> Result<String, DemoError> {
        let path = ApiPath::new(["callback-agents", "stats"]);
        let answer: Answer<CallbackStatistics> = self.client.get(&path)?;
        let count = answer.data.total_callbacks_received;
        let calls = self.returning_calls();
        let callbacks = calls
            .iter()
            .chain([&self.call_over_a_carrier()])
            .filter(|call| call.expected.outcome == "callback")
            .count();
        if count != callbacks as u64 {
            return Err(DemoError::Unexpected {
                caller: "statistics".to_owned(),
                expected: format!("{callbacks} callbacks"),
                got: format!("{count} callbacks"),
            });
        }
        Ok(format!(
            "\n{}\n",
            paint.dim(&format!("{count} callbacks counted, as expected."))
        ))
    }

    /// The environment's token.
    pub(super) fn token(&self) -> &str {
        self.client.token()
    }

    /// The id of an outbound agent.
    pub(super) fn an_outbound_agent(&self) -> AgentId {
        self.solar
    }
}

// Numbers between 555-0100 and 555-0199 are kept for stories.

/// The number that both campaigns call from.
pub(super) const SHARED: &str = "+12025550100";

/// Another number, which Solar owns.
const SECOND: &str = "+12025550101";

/// The number of Field, whose agent has two phones.
const THIRD: &str = "+12025550102";

/// A number that no environment has.
const UNKNOWN: &str = "+12025550199";

/// Called by Solar yesterday.
pub(super) const YESTERDAY: &str = "+12025550142";

/// Called by Internet today.
const TODAY: &str = "+12025550143";

/// Called by Solar a week ago and by Internet an hour ago.
const BOTH: &str = "+12025550144";

/// Called by Solar longer ago than the recency window.
const EXPIRED: &str = "+12025550145";

/// Called by Field today.
const FIELD: &str = "+12025550148";

/// A caller whom nobody has called.
const STRANGER: &str = "+12025550146";

/// Not called yet: for trying by hand.
pub(super) const BY_HAND: &str = "+12025550147";

/// Where Solar's returning calls go.
const SOLAR: &str = "sip:solar@agents.example.com";

/// Where Internet's returning calls go.
const INTERNET: &str = "sip:internet@agents.example.com";

/// Where other calls go.
const RECEPTION: &str = "sip:reception@agents.example.com";

/// How long the server may take to tell what became of a call.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(50);

/// An hour, in seconds.
const HOUR: i64 = 60 * 60;

/// A day, in seconds.
const DAY: i64 = 24 * HOUR;

/// How old a call may be and still be returned, in seconds.
const RECENCY_WINDOW: i64 = 30 * DAY;
