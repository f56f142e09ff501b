//! `ringback route`: where a call would go.

use clap::Args;
use ringback_api::{AgentName, Routed, Step, Target};

use crate::client::ApiPath;
use crate::exit::Failure;
use crate::output::{Column, SessionArgs, record, table};
use crate::show::{Show, Shown};

/// `ringback route`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RouteArgs {
    /// Server, token, output.
    #[command(flatten)]
    session: SessionArgs,
    /// The dialed number
    #[arg(long, value_name = "NUMBER")]
    to: String,
    /// The caller: a number, `anonymous`, or left out for none
    #[arg(
        long,
        value_name = "CALLER",
        default_value = "",
        hide_default_value = true
    )]
    from: String,
    /// List every rung of the decision that was tried
    #[arg(long)]
    explain: bool,
}

/// Asks the server and prints its decision.
pub(crate) fn run(args: &RouteArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let path = ApiPath::new(["route"])
        .query("to", Some(&args.to))
        .query("from", Some(&args.from))
        .query("explain", args.explain.then_some("true"));
    let answer = session.client.get(&path)?;
    session.print(&answer, readable)?;
    Ok(())
}

/// A decision, for people.
fn readable(decision: &Routed) -> String {
    let mut text = record(decision, FIELDS);
    if !decision.targets.is_empty() {
        text.push('\n');
        text.push_str(&table(&decision.targets, TARGETS));
    }
    if let Some(explanation) = &decision.explanation {
        text.push('\n');
        text.push_str(&table(explanation, RUNGS));
    }
    if let Some(call) = &decision.call {
        text.push_str(&format!(
            "\nreturns the call of {} from {} ({})\n",
            call.started_at,
            call.from.show().in_one_line(),
            call.status,
        ));
    }
    text
}

/// The lines of a decision.
const FIELDS: &[Column<Routed>] = &[
    ("outcome", |decision| decision.outcome.show()),
    ("reason", |decision| decision.reason.show()),
    ("agent", |decision| decision.agent.show()),
    ("agent id", |decision| id(&decision.agent)),
    ("source agent", |decision| decision.source_agent.show()),
    ("source agent id", |decision| id(&decision.source_agent)),
];

/// The id of an agent, if there is one.
fn id(agent: &Option<AgentName>) -> Shown {
    agent.as_ref().map(|agent| agent.id).show()
}

/// The columns of the targets.
const TARGETS: &[Column<Target>] = &[
    ("TARGET", |target| target.uri.show()),
    ("PRIORITY", |target| target.priority.show()),
    ("WEIGHT", |target| target.weight.show()),
];

/// The columns of the explanation.
const RUNGS: &[Column<Step>] = &[
    ("RUNG", |step| step.rung.show()),
    ("HELD", |step| step.held.show()),
    ("REASON", |step| step.reason.show()),
    ("DETAIL", |step| step.detail.show()),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback route --to +12025550100 --from +12025550142
  ringback route --to +12025550100 --from anonymous --explain

What each reason means, and what to do about it: docs/en/reasons.md";
