//! Two campaigns that share a number, the calls that they made, and what must come of each
//! returning call.

use ringback_engine::{Clock, SystemClock};
use serde_json::{Value, json};

use super::DemoError;
use crate::client::{Answer, ApiPath, Client, ClientError};
use crate::output::Paint;

/// The campaigns, on the server.
pub(super) struct Campaigns {
    /// Asks the server, as the environment.
    client: Client,
    /// The outbound agent of the first.
    solar: String,
}

/// A contact dials a number.
pub(super) struct ReturningCall {
    /// Who.
    pub(super) caller: String,
    /// Which number.
    pub(super) dialed: String,
    /// What came before.
    pub(super) story: &'static str,
    /// What must come of it.
    expected: Expected,
}

/// What must come of a call.
struct Expected {
    /// The status.
    status: u16,
    /// Where to.
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
        client: impl Fn(&str) -> Result<Client, ClientError>,
    ) -> Result<Self, DemoError> {
        let environment = administrator.post(
            &ApiPath::new(["environments"]),
            &json!({"name": "demo", "default_country": "US", "recency_window_seconds": 30 * DAY}),
        )?;
        let token = administrator.post(
            &ApiPath::new(["environments", text(&environment, "id")?, "tokens"]),
            &json!({"name": "demo"}),
        )?;
        let client = client(text(&token, "token")?)?;

        let number = |number: &str| {
            let answer =
                client.post(&ApiPath::new(["phone-numbers"]), &json!({"number": number}))?;
            text(&answer, "id").map(str::to_owned)
        };
        let (shared, second) = (number(SHARED)?, number(SECOND)?);
        let agent = |name: &str, direction: &str, numbers: &[&String], target: Option<&str>| {
            let targets: Vec<Value> = target.into_iter().map(|uri| json!({"uri": uri})).collect();
            let answer = client.post(
                &ApiPath::new(["agents"]),
                &json!({
                    "name": name, "label": name, "direction": direction,
                    "phone_number_ids": numbers, "targets": targets,
                }),
            )?;
            let id = text(&answer, "id")?.to_owned();
            client.post(&ApiPath::new(["agents", &id, "publish"]), &json!({}))?;
            Ok::<_, DemoError>(id)
        };
        let solar = agent("Solar sales", "outbound", &[&shared, &second], None)?;
        let internet = agent("Internet sales", "outbound", &[&shared], None)?;
        let both = [&shared, &second];
        let solar_callbacks = agent("Solar callbacks", "inbound", &both, Some(SOLAR))?;
        let internet_callbacks =
            agent("Internet callbacks", "inbound", &[&shared], Some(INTERNET))?;
        let reception = agent("Reception", "inbound", &both, Some(RECEPTION))?;
        for number in both {
            let path = ApiPath::new(["phone-numbers", number]);
            client.patch(&path, &json!({"default_agent_id": reception}))?;
        }
        for (callbacks, source) in [(solar_callbacks, &solar), (internet_callbacks, &internet)] {
            let path = ApiPath::new(["agents", &callbacks, "callback"]);
            client.post(&path, &json!({"source_agent_ids": [source]}))?;
        }

        for (agent, contact, seconds_ago) in [
            (&solar, YESTERDAY, DAY),
            (&internet, TODAY, 2 * HOUR),
            (&solar, BOTH, 7 * DAY),
            (&internet, BOTH, HOUR),
            (&solar, EXPIRED, 30 * DAY + HOUR),
        ] {
            let started_at = SystemClock.now().plus_millis(-seconds_ago * 1_000);
            let call = json!({
                "agent_id": agent, "to": contact, "from": SHARED,
                "status": "no_answer", "started_at": started_at,
            });
            client.post(&ApiPath::new(["calls"]), &call)?;
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
                ..call(YESTERDAY, UNKNOWN, "a number that is nobody's", "", "", "")
            },
        ]
    }

    /// Says what the server has counted; holds it against the calls.
    pub(super) fn count(&self, paint: Paint) -> Result<String, DemoError> {
        let answer = self
            .client
            .get(&ApiPath::new(["callback-agents", "stats"]))?;
        let count = answer
            .value
            .get("total_callbacks_received")
            .and_then(Value::as_u64);
        let count = count.ok_or(DemoError::Answer("total_callbacks_received"))?;
        let calls = self.returning_calls();
        let callbacks = calls
            .iter()
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
    pub(super) fn an_outbound_agent(&self) -> &str {
        &self.solar
    }
}

/// A text in an answer.
fn text<'a>(answer: &'a Answer, key: &'static str) -> Result<&'a str, DemoError> {
    answer
        .value
        .get(key)
        .and_then(Value::as_str)
        .ok_or(DemoError::Answer(key))
}

// Numbers between 555-0100 and 555-0199 are kept for stories.

/// The number that both campaigns call from.
pub(super) const SHARED: &str = "+12025550100";

/// Another number, which Solar owns.
const SECOND: &str = "+12025550101";

/// A number that is nobody's.
const UNKNOWN: &str = "+12025550199";

/// Called by Solar yesterday.
pub(super) const YESTERDAY: &str = "+12025550142";

/// Called by Internet today.
const TODAY: &str = "+12025550143";

/// Called by Solar a week ago and by Internet an hour ago.
const BOTH: &str = "+12025550144";

/// Called by Solar longer ago than the recency window.
const EXPIRED: &str = "+12025550145";

/// Never called.
const STRANGER: &str = "+12025550146";

/// Not called yet: for trying by hand.
pub(super) const BY_HAND: &str = "+12025550147";

/// Where Solar's returning calls go.
const SOLAR: &str = "sip:solar@agents.example.com";

/// Where Internet's returning calls go.
const INTERNET: &str = "sip:internet@agents.example.com";

/// Where other calls go.
const RECEPTION: &str = "sip:reception@agents.example.com";

/// An hour, in seconds.
const HOUR: i64 = 60 * 60;

/// A day, in seconds.
const DAY: i64 = 24 * HOUR;
