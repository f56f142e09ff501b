//! `ringback callback`: who takes back whose calls.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::name;
use super::value::{Body, STATUSES, list, said, seconds};
use crate::client::{ApiPath, Client, ClientError};
use crate::exit::Failure;
use crate::output::{SessionArgs, cell, record, table};

/// `ringback callback`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CallbackArgs {
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
    /// List the agents that hold a callback role
    List,
    /// Give an inbound agent a callback role, in place of any it has
    Set {
        /// The inbound agent, by id or name
        agent: String,
        /// The role.
        #[command(flatten)]
        role: Role,
    },
    /// Replace the sources of a role; options that are left out stay
    Replace {
        /// The inbound agent, by id or name
        agent: String,
        /// The role.
        #[command(flatten)]
        role: Role,
        /// Clear the recency window: the environment's counts
        #[arg(long, conflicts_with = "recency_window")]
        no_recency_window: bool,
        /// Clear the trigger statuses: any attempt counts
        #[arg(long, conflicts_with = "trigger_status")]
        no_trigger_statuses: bool,
    },
    /// Take the role away
    Remove {
        /// The inbound agent, by id or name
        agent: String,
    },
    /// Show a callback agent, its sources and its last 30 days
    Show {
        /// The inbound agent, by id or name
        agent: String,
    },
    /// Count callbacks by source agent
    Stats {
        /// First day (UTC), as 2026-01-31 [server default: 30 days ago]
        #[arg(long, value_name = "DAY")]
        start: Option<String>,
        /// Last day (UTC), included [server default: today]
        #[arg(long, value_name = "DAY")]
        end: Option<String>,
    },
    /// List the published outbound agents, which can be sources
    Sources,
    /// Check whether a role could be set, without setting it
    Check {
        /// The agent, by id or name
        agent: String,
        /// A source agent, by id or name; repeat for several [default: those of the stored role]
        #[arg(long, value_name = "AGENT")]
        source: Vec<String>,
        /// A status that qualifies a call; repeat for several
        #[arg(long, value_name = "STATUS")]
        trigger_status: Vec<String>,
        /// Check that the agent need not be a callback agent: always valid
        #[arg(long)]
        off: bool,
    },
}

/// A callback role.
#[derive(Debug, Args)]
struct Role {
    /// An outbound agent whose calls come back here, by id or name; repeat for several
    #[arg(long, value_name = "AGENT", required = true)]
    source: Vec<String>,
    /// A status that a call must have to be returned; repeat for several [default: any]
    #[arg(long, value_name = "STATUS", value_parser = STATUSES)]
    trigger_status: Vec<String>,
    /// How old a call may be: seconds, or 90m, 12h, 30d [default: the environment's]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    recency_window: Option<u64>,
}

impl Role {
    /// The body of a request.
    fn body(&self, client: &Client) -> Result<Body, ClientError> {
        let sources = name::agents(client, &self.source)?;
        Ok(Body::default()
            .with("source_agent_ids", list(&sources))
            .with("callback_trigger_statuses", list(&self.trigger_status))
            .with("recency_window_seconds", self.recency_window))
    }
}

/// Runs the verb that was given.
pub(crate) fn run(args: &CallbackArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let client = &session.client;
    let agent = &match &args.verb {
        Verb::List | Verb::Stats { .. } | Verb::Sources => String::new(),
        Verb::Set { agent, .. }
        | Verb::Replace { agent, .. }
        | Verb::Remove { agent }
        | Verb::Show { agent }
        | Verb::Check { agent, .. } => name::agent(client, agent)?,
    };
    match &args.verb {
        Verb::List => {
            let answer = client.get(&ApiPath::new(["callback-agents"]))?;
            session.print(&answer, |list| table(list, COLUMNS))?;
        }
        Verb::Set { role, .. } => {
            let path = ApiPath::new(["agents", agent, "callback"]);
            let answer = client.post(&path, &role.body(client)?.build())?;
            session.print(&answer, |agent| record(agent, FIELDS))?;
        }
        Verb::Replace {
            role,
            no_recency_window,
            no_trigger_statuses,
            ..
        } => {
            let body = role
                .body(client)?
                .clear("recency_window_seconds", *no_recency_window)
                .clear("callback_trigger_statuses", *no_trigger_statuses);
            let path = ApiPath::new(["agents", agent, "callback"]);
            let answer = client.put(&path, &body.build())?;
            session.print(&answer, |agent| record(agent, REPLACED))?;
        }
        Verb::Remove { .. } => {
            let answer = client.delete(&ApiPath::new(["agents", agent, "callback"]))?;
            session.print(&answer, |answer| said(answer, "Callback role removed"))?;
        }
        Verb::Show { .. } => {
            let answer = client.get(&ApiPath::new(["callback-agents", agent]))?;
            session.print(&answer, |page| record(page, PAGE))?;
        }
        Verb::Stats { start, end } => {
            let path = ApiPath::new(["callback-agents", "stats"])
                .query("start_date", start.as_deref())
                .query("end_date", end.as_deref());
            let answer = client.get(&path)?;
            session.print(&answer, statistics)?;
        }
        Verb::Sources => {
            let answer = client.get(&ApiPath::new(["callback-agents", "source-agents"]))?;
            session.print(&answer, |list| table(list, SOURCES))?;
        }
        Verb::Check {
            source,
            trigger_status,
            off,
            ..
        } => {
            let source = name::agents(client, source)?;
            let body = Body::default()
                .with("is_callback_agent", Some(json!(!off)))
                .with("callback_source_agents", list(&source))
                .with("callback_trigger_statuses", list(trigger_status));
            let path = ApiPath::new(["callback-agents", agent, "check-constraints"]);
            let answer = client.post(&path, &body.build())?;
            session.print(&answer, |answer| said(answer, "Configuration is valid"))?;
        }
    }
    Ok(())
}

/// The counts, for people.
fn statistics(counts: &Value) -> String {
    let sources = counts
        .pointer("/callbacks_by_source_agent")
        .unwrap_or(&Value::Null);
    format!(
        "{} to {} (UTC)\n\n{}\n{}",
        cell(counts.pointer("/period/start")),
        cell(counts.pointer("/period/end")),
        record(counts, COUNTS),
        table(sources, COUNTS_BY_SOURCE),
    )
}

/// The columns of the list.
const COLUMNS: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("LABEL", "/label"),
    ("STATUS", "/current_status"),
    ("SOURCE AGENTS", "/callback_config/source_agent_ids"),
];

/// The lines of a role that was set.
const FIELDS: &[(&str, &str)] = &[
    ("id", "/id"),
    ("name", "/name"),
    ("direction", "/direction"),
    ("source agents", "/callback_config/source_agent_ids"),
    (
        "trigger statuses",
        "/callback_config/callback_trigger_statuses",
    ),
    (
        "recency window (s)",
        "/callback_config/recency_window_seconds",
    ),
];

/// The lines of a role that was replaced.
const REPLACED: &[(&str, &str)] = &[
    ("id", "/id"),
    ("source agents", "/callback_config/source_agent_ids"),
    (
        "trigger statuses",
        "/callback_config/callback_trigger_statuses",
    ),
    (
        "recency window (s)",
        "/callback_config/recency_window_seconds",
    ),
];

/// The lines of a callback agent's page.
const PAGE: &[(&str, &str)] = &[
    ("id", "/agent/id"),
    ("name", "/agent/name"),
    ("direction", "/agent/direction"),
    ("status", "/agent/current_status"),
    ("source agents", "/source_agents"),
    ("callbacks received", "/stats/total_callbacks_received"),
    ("callbacks answered", "/stats/callbacks_answered"),
];

/// The columns of the list of sources.
const SOURCES: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("DIRECTION", "/direction"),
    ("STATUS", "/current_status"),
];

/// The lines of the counts.
const COUNTS: &[(&str, &str)] = &[
    ("callbacks received", "/total_callbacks_received"),
    ("callbacks answered", "/callbacks_answered"),
    ("unmatched calls", "/callbacks_unmatched"),
];

/// The columns of the counts by source.
const COUNTS_BY_SOURCE: &[(&str, &str)] = &[
    ("SOURCE AGENT", "/source_agent_id"),
    ("NAME", "/name"),
    ("CALLBACKS", "/count"),
];

/// Examples.
const EXAMPLES: &str = "\
Examples:
  ringback callback set Desk --source Sales
  ringback callback set INBOUND_AGENT_ID --source A --source B \\
    --trigger-status no_answer --recency-window 7d
  ringback callback check INBOUND_AGENT_ID --source OUTBOUND_AGENT_ID
  ringback callback stats --start 2026-01-01 --end 2026-01-31";
