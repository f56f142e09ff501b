//! Decisions for PBXs that ask over HTTP: `/route` and `/routed-calls`.

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_api::{self as api, Answered, RefusedCall};
use ringback_engine::{
    Call, NamedAgent, ReportAnswered, RouteCall, RoutedAnswer, RoutedDecision, SubmitError,
};
use ringback_routing::{
    CallVia, Caller, ContactUnreadable, Decision, E164, Outcome, Placeholders, Question, Step,
    Target, Timestamp, UserSet, decide, explain, order_targets,
};
use smallvec::SmallVec;

use crate::api::Api;
use crate::auth::Tenant;
use crate::body::read_fields;
use crate::call_text::{MAX_SID_BYTES, sid_problem};
use crate::error::ApiError;
use crate::fields::required;
use crate::identity;
use crate::path::{PathText, QueryText};
use crate::reply::{self, Answer};
use crate::wire;

/// `GET /route`: decides, and counts nothing.
pub(crate) async fn look_up(
    State(api): State<Api>,
    tenant: Tenant,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let rules = api.number_rules(tenant)?;
    let to = query.phone_number("to");
    if to.is_none() {
        query.errors.add("to", "The to field is required.");
    }
    let explained = query
        .read(
            "explain",
            "The explain field must be true or false.",
            |text| match text {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
        )
        .unwrap_or(false);
    let caller = identity::read(query.phone_number("from").unwrap_or_default(), rules);
    let at = query.timestamp("at");
    query.errors.into_result()?;
    let dialed = to.and_then(|to| identity::read(to, rules).number());
    let ask = Ask {
        tenant,
        dialed,
        caller,
        now: at.unwrap_or_else(|| api.engine().now()),
        explained,
    };
    if let Some(answer) = ask.answer_from_memory(&api) {
        return Ok(answer);
    }
    // A returned call is shown as it was recorded, which is read from the store.
    let looked_up = tokio::task::spawn_blocking(move || ask.answer(&api)).await;
    Ok(looked_up.map_err(|_| ApiError::Internal)??)
}

/// `POST /route`: decides and counts, once per call id.
pub(crate) async fn route(
    State(api): State<Api>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let mut fields = read_fields(request).await?;
    let to = fields.raw_text("to").unwrap_or_default();
    if to.trim().is_empty() && !fields.errors.0.contains_key("to") {
        fields.errors.add("to", required("to"));
    }
    let from = fields.raw_text("from").unwrap_or_default();
    let sid = fields.raw_text("sid");
    if sid
        .as_ref()
        .is_some_and(|sid| sid.is_empty() || sid.len() > MAX_SID_BYTES)
    {
        fields.errors.add("sid", sid_problem());
    }
    fields.finish().into_result()?;
    let rules = api.number_rules(tenant)?;
    let shown: String = to.chars().take(MAX_SHOWN_DIALED).collect();
    let dialed = identity::read(to, rules).number();
    let caller = identity::read(from, rules);
    let command = RouteCall {
        environment: tenant.environment,
        dialed,
        caller,
        is_verified: true,
        sid,
        via: CallVia::Http,
        is_anew: false,
    };
    let (answer, response) = api
        .submit(tenant, command, move |answer: &RoutedAnswer| {
            Ok(Answer::ok(routed(&answer.decision, caller, &answer.sid)))
        })
        .await?;
    if let Some((outcome, reason)) = answer.decided {
        api.metrics().count_decision(outcome, reason);
        if outcome == Outcome::Refused {
            api.refused_over_http().push(RefusedCall {
                at: api.engine().now(),
                via: Some(CallVia::Http),
                transport: None,
                peer: None,
                source: None,
                to: Some(dialed.map_or(shown, |dialed| dialed.to_string())),
                from: caller.number(),
                reason: reason.name().to_owned(),
                status: None,
                count: 1,
            });
        }
    }
    Ok(response)
}

/// `POST /routed-calls/{sid}/answered`: the callback was answered.
pub(crate) async fn answered(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let sid = path.get("sid").to_owned();
    let command = ReportAnswered {
        environment: tenant.environment,
        sid: sid.clone(),
    };
    let (_, response) = api
        .submit(tenant, command, move |_| {
            Ok(Answer::ok(Answered { sid: sid.clone() }))
        })
        .await?;
    Ok(response)
}

/// What `GET /route` asks.
#[derive(Clone, Copy)]
struct Ask {
    /// Who asks.
    tenant: Tenant,
    /// The dialed number, if it could be read.
    dialed: Option<E164>,
    /// The caller.
    caller: Caller,
    /// The time by which the call is decided.
    now: Timestamp,
    /// Whether the steps are asked for.
    explained: bool,
}

impl Ask {
    /// The answer, if it needs no look into the store.
    fn answer_from_memory(self, api: &Api) -> Option<Response> {
        if !api.engine().health().index_whole {
            return None;
        }
        let directory = api.engine().directory();
        let question = self.question(&directory);
        let (decision, steps) = self.decide(api, &directory, &question).ok()?;
        decision
            .call
            .is_none()
            .then(|| reply::ok(looked_up(&decision, &self.filling(&decision), None, steps)))
    }

    /// The answer.
    fn answer(self, api: &Api) -> Result<Response, SubmitError> {
        let directory = api.engine().directory();
        let question = self.question(&directory);
        let (decision, steps) = self
            .decide(api, &directory, &question)
            .map_err(|_| SubmitError::StorageUnavailable)?;
        let call = api.engine().matched_call(&decision, self.caller)?;
        Ok(reply::ok(looked_up(
            &decision,
            &self.filling(&decision),
            call.as_ref(),
            steps,
        )))
    }

    /// What the placeholders of targets stand for.
    fn filling(self, decision: &Decision<'_>) -> Placeholders {
        decision.placeholders(self.dialed, self.caller)
    }

    /// The question. Another tenant's number is as unknown as nobody's.
    fn question(self, directory: &ringback_routing::Directory) -> Question<'static> {
        let ours = |number: &E164| {
            directory
                .number(*number)
                .is_some_and(|number| number.record.environment == self.tenant.environment)
        };
        Question {
            dialed: self.dialed.filter(ours),
            caller: self.caller,
            is_verified: true,
            now: self.now,
            avoided: UserSet::NONE,
            usable: &|target: &Target, filling: &Placeholders| filling.fill(&target.uri).is_some(),
        }
    }

    /// Decides, and writes down the steps if they are asked for.
    fn decide<'d>(
        self,
        api: &Api,
        directory: &'d ringback_routing::Directory,
        question: &Question<'_>,
    ) -> Result<(Decision<'d>, Option<Vec<Step>>), ContactUnreadable> {
        let contacts = api.engine().contacts();
        if self.explained {
            let (decision, steps) = explain(directory, contacts, question)?;
            Ok((decision, Some(steps)))
        } else {
            Ok((decide(directory, contacts, question)?, None))
        }
    }
}

/// A decision that counts nothing: its targets by priority, and within one the heaviest first.
fn looked_up(
    decision: &Decision<'_>,
    filling: &Placeholders,
    call: Option<&Call>,
    steps: Option<Vec<Step>>,
) -> api::Routed {
    let mut targets: SmallVec<[&Target; 8]> = decision.targets().iter().collect();
    targets.sort_by_key(|target| (target.priority, std::cmp::Reverse(target.weight)));
    let step = |step: Step| api::Step {
        rung: step.rung,
        held: step.held,
        reason: step.reason,
        detail: step.detail,
        call: step
            .call
            .zip(step.source_agent)
            .map(|(call, agent)| api::StepCall {
                agent: api::AgentName {
                    id: agent.id,
                    name: agent.name,
                },
                from: call.from.map(Into::into),
                status: call.status,
                started_at: call.started_at,
            }),
        agents: step
            .agents
            .into_iter()
            .map(|considered| api::StepAgent {
                id: considered.agent.id,
                name: considered.agent.name,
                obstacle: considered.obstacle,
            })
            .collect(),
    };
    api::Routed {
        outcome: decision.outcome,
        reason: decision.reason,
        agent: decision.agent.map(wire::agent_name),
        source_agent: decision.source_agent.map(wire::agent_name),
        call: call.map(wire::call),
        targets: filled(targets, filling),
        routed_call_sid: None,
        explanation: steps.map(|steps| steps.into_iter().map(step).collect()),
    }
}

/// A decision that was counted under this call id: its targets stand in the order drawn by the id, as
/// in SIP. `caller` is who calls by the question answered now.
fn routed(decision: &RoutedDecision, caller: Caller, sid: &str) -> api::Routed {
    let mut targets = SmallVec::new();
    order_targets(&decision.targets, sid.as_bytes(), &mut targets);
    let named = |agent: &NamedAgent| api::AgentName {
        id: agent.id,
        name: agent.name.clone(),
    };
    api::Routed {
        outcome: decision.outcome,
        reason: decision.reason,
        agent: decision.agent.as_ref().map(named),
        source_agent: decision.source_agent.as_ref().map(named),
        call: decision.call.as_ref().map(wire::call),
        targets: filled(targets, &decision.placeholders(caller)),
        routed_call_sid: Some(sid.to_owned()),
        explanation: None,
    }
}

/// Those of the targets whose placeholders something stands for, in the order given.
fn filled<'t>(
    targets: impl IntoIterator<Item = &'t Target>,
    filling: &Placeholders,
) -> Vec<api::Target> {
    let targets = targets.into_iter().filter_map(|target| {
        Some(api::Target {
            uri: filling.fill(&target.uri)?.into_owned(),
            priority: target.priority,
            weight: target.weight,
        })
    });
    targets.collect()
}

/// How much of a dialed number that cannot be read is shown to the administrator.
const MAX_SHOWN_DIALED: usize = 64;
