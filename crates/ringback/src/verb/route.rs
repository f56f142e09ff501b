//! `ringback route`: where a call would go.

use clap::Args;
use serde_json::Value;

use crate::client::ApiPath;
use crate::exit::Failure;
use crate::output::{SessionArgs, cell, record, table};

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
fn readable(decision: &Value) -> String {
    let mut text = record(decision, FIELDS);
    let targets = decision.pointer("/targets").unwrap_or(&Value::Null);
    if targets
        .as_array()
        .is_some_and(|targets| !targets.is_empty())
    {
        text.push('\n');
        text.push_str(&table(targets, TARGETS));
    }
    if let Some(explanation) = decision.pointer("/explanation") {
        text.push('\n');
        text.push_str(&table(explanation, RUNGS));
    }
    if !decision.pointer("/call").unwrap_or(&Value::Null).is_null() {
        text.push_str(&format!(
            "\nreturns the call of {} from {} ({})\n",
            cell(decision.pointer("/call/started_at")),
            cell(decision.pointer("/call/from")),
            cell(decision.pointer("/call/status")),
        ));
    }
    text
}

/// The lines of a decision.
const FIELDS: &[(&str, &str)] = &[
    ("outcome", "/outcome"),
    ("reason", "/reason"),
    ("agent", "/agent/name"),
    ("agent id", "/agent/id"),
    ("source agent", "/source_agent/name"),
    ("source agent id", "/source_agent/id"),
];

/// The columns of the targets.
const TARGETS: &[(&str, &str)] = &[
    ("TARGET", "/uri"),
    ("PRIORITY", "/priority"),
    ("WEIGHT", "/weight"),
];

/// The columns of the explanation.
const RUNGS: &[(&str, &str)] = &[
    ("RUNG", "/rung"),
    ("HELD", "/held"),
    ("REASON", "/reason"),
    ("DETAIL", "/detail"),
];

/// Examples.
const EXAMPLES: &str = "\
Examples:
  ringback route --to +12025550100 --from +12025550142
  ringback route --to +12025550100 --from anonymous --explain

What each reason means, and what to do about it: docs/reasons.md";
