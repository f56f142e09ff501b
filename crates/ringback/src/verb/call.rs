//! `ringback call`: outbound calls, one at a time.

use clap::{Args, Subcommand};
use ringback_api::{Call, CallNew};
use ringback_routing::CallStatus;

use super::name;
use super::value::call_status;
use crate::client::ApiPath;
use crate::exit::Failure;
use crate::output::{Column, SessionArgs, record};
use crate::show::Show;

/// `ringback call`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CallArgs {
    /// Server, token, output.
    #[command(flatten)]
    session: SessionArgs,
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Record one outbound call, or report a later status of it
    Record {
        /// The outbound agent, by id or name
        #[arg(long, visible_alias = "agent-id", value_name = "AGENT")]
        agent: String,
        /// Whom it called, in E.164 or as the environment's country writes it
        #[arg(long, value_name = "NUMBER")]
        to: String,
        /// The number that it called from
        #[arg(long, value_name = "NUMBER")]
        from: Option<String>,
        /// How far the call got [server default: initiated]
        #[arg(long, value_parser = call_status())]
        status: Option<CallStatus>,
        /// When it started (RFC 3339), such as 2026-01-31T12:00:00Z [server default: now]
        #[arg(long, value_name = "TIME")]
        started_at: Option<String>,
        /// The call id: the same one again updates the call [server default: a new one]
        #[arg(long)]
        sid: Option<String>,
    },
}

/// Runs the verb that was given.
pub(crate) fn run(args: &CallArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let Verb::Record {
        agent,
        to,
        from,
        status,
        started_at,
        sid,
    } = &args.verb;
    let body = CallNew {
        agent_id: name::agent(&session.client, agent)?,
        to: to.clone(),
        from: from.clone(),
        status: *status,
        started_at: started_at.clone(),
        sid: sid.clone(),
    };
    let answer = session.client.post(&ApiPath::new(["calls"]), &body)?;
    session.print(&answer, |call| record(call, FIELDS))?;
    Ok(())
}

/// The lines of one call.
const FIELDS: &[Column<Call>] = &[
    ("sid", |call| call.sid.show()),
    ("agent", |call| call.agent_id.show()),
    ("to", |call| call.to.show()),
    ("from", |call| call.from.show()),
    ("status", |call| call.status.show()),
    ("started", |call| call.started_at.show()),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback call record --agent Sales --to +12025550142 --from +12025550100
  ringback call record --agent AGENT_ID --to +12025550142 --sid a84b4c76e66710 --status no_answer
Many calls at once: see `ringback import calls --help`.";
