//! `ringback callback`: who takes back whose calls.

use clap::{Args, Subcommand};
use ringback_api::{
    AgentBrief, CallbackAgent, CallbackAgentPage, CallbackRole, CallbackRoleReplaced,
    CallbackRoleSet, CallbackStatistics, Change, ConstraintCheck, SourceCount,
};
use ringback_routing::{CallStatus, HoursSpec};

use super::name;
use super::value::{call_status, list, said, seconds};
use crate::client::{ApiPath, Client, ClientError};
use crate::exit::Failure;
use crate::output::{Column, SessionArgs, escaped, record, table};
use crate::show::Show;

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
    /// Give an inbound agent a callback role; replaces the one it has
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
        /// Clear the hours: calls come back at any time
        #[arg(long, conflicts_with = "hours")]
        no_hours: bool,
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
        /// First day (UTC), such as 2026-01-31 [server default: 30 days ago]
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
    #[arg(long, value_name = "STATUS", value_parser = call_status())]
    trigger_status: Vec<CallStatus>,
    /// How old a call may be: seconds, or 90m, 12h, 30d [default: the environment's]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    recency_window: Option<u64>,
    /// When calls come back: JSON, as `callback_config.hours` in the API [default: at any time]
    #[arg(long, value_name = "JSON", value_parser = hours)]
    hours: Option<HoursSpec>,
}

/// Reads hours.
fn hours(text: &str) -> Result<HoursSpec, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl Role {
    /// The body of a request; what is not given stays, or is cleared.
    fn body(
        &self,
        client: &Client,
        no_recency_window: bool,
        no_trigger_statuses: bool,
        no_hours: bool,
    ) -> Result<CallbackRole, ClientError> {
        Ok(CallbackRole {
            source_agent_ids: name::agents(client, &self.source)?,
            callback_trigger_statuses: Change::of(list(&self.trigger_status), no_trigger_statuses),
            recency_window_seconds: Change::of(self.recency_window, no_recency_window),
            hours: Change::of(self.hours.clone(), no_hours),
        })
    }
}

/// Runs the verb that was given.
pub(crate) fn run(args: &CallbackArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let client = &session.client;
    let role_of = |agent: &str| -> Result<ApiPath, ClientError> {
        let id = name::agent(client, agent)?.to_string();
        Ok(ApiPath::new(["agents", &id, "callback"]))
    };
    let page_of = |agent: &str| -> Result<ApiPath, ClientError> {
        let id = name::agent(client, agent)?.to_string();
        Ok(ApiPath::new(["callback-agents", &id]))
    };
    match &args.verb {
        Verb::List => {
            let answer = client.get(&ApiPath::new(["callback-agents"]))?;
            session.print(&answer, |list: &Vec<_>| table(list, COLUMNS))?;
        }
        Verb::Set { agent, role } => {
            let path = role_of(agent)?;
            let answer = client.post(&path, &role.body(client, false, false, false)?)?;
            session.print(&answer, |agent| record(agent, FIELDS))?;
        }
        Verb::Replace {
            agent,
            role,
            no_recency_window,
            no_trigger_statuses,
            no_hours,
        } => {
            let path = role_of(agent)?;
            let body = role.body(client, *no_recency_window, *no_trigger_statuses, *no_hours)?;
            let answer = client.put(&path, &body)?;
            session.print(&answer, |agent| record(agent, REPLACED))?;
        }
        Verb::Remove { agent } => {
            session.print(&client.delete(&role_of(agent)?)?, said)?;
        }
        Verb::Show { agent } => {
            let answer = client.get(&page_of(agent)?)?;
            session.print(&answer, |page| record(page, PAGE))?;
        }
        Verb::Stats { start, end } => {
            let path = ApiPath::new(["callback-agents", "stats"])
                .query("start_date", start.as_deref())
                .query("end_date", end.as_deref());
            session.print(&client.get(&path)?, statistics)?;
        }
        Verb::Sources => {
            let answer = client.get(&ApiPath::new(["callback-agents", "source-agents"]))?;
            session.print(&answer, |list: &Vec<_>| table(list, SOURCES))?;
        }
        Verb::Check {
            agent,
            source,
            trigger_status,
            off,
        } => {
            let path = page_of(agent)?.join("check-constraints");
            let sources = name::agents(client, source)?;
            let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
            let body = ConstraintCheck {
                is_callback_agent: Some(!off),
                callback_source_agents: list(&sources),
                callback_trigger_statuses: list(trigger_status),
            };
            session.print(&client.post(&path, &body)?, said)?;
        }
    }
    Ok(())
}

/// The counts, for people.
fn statistics(counts: &CallbackStatistics) -> String {
    format!(
        "{} to {} (UTC)\n\n{}\n{}",
        escaped(&counts.period.start),
        escaped(&counts.period.end),
        record(counts, COUNTS),
        table(&counts.callbacks_by_source_agent, COUNTS_BY_SOURCE),
    )
}

/// The columns of the list.
const COLUMNS: &[Column<CallbackAgent>] = &[
    ("ID", |agent| agent.id.show()),
    ("NAME", |agent| agent.name.show()),
    ("LABEL", |agent| agent.label.show()),
    ("STATUS", |agent| agent.current_status.show()),
    ("SOURCE AGENTS", |agent| {
        agent.callback_config.source_agent_ids.show()
    }),
];

/// The lines of a role that was set.
const FIELDS: &[Column<CallbackRoleSet>] = &[
    ("id", |agent| agent.id.show()),
    ("name", |agent| agent.name.show()),
    ("direction", |agent| agent.direction.show()),
    ("source agents", |agent| {
        agent.callback_config.source_agent_ids.show()
    }),
    ("trigger statuses", |agent| {
        agent.callback_config.callback_trigger_statuses.show()
    }),
    ("recency window (s)", |agent| {
        agent.callback_config.recency_window_seconds.show()
    }),
];

/// The lines of a role that was replaced.
const REPLACED: &[Column<CallbackRoleReplaced>] = &[
    ("id", |agent| agent.id.show()),
    ("source agents", |agent| {
        agent.callback_config.source_agent_ids.show()
    }),
    ("trigger statuses", |agent| {
        agent.callback_config.callback_trigger_statuses.show()
    }),
    ("recency window (s)", |agent| {
        agent.callback_config.recency_window_seconds.show()
    }),
];

/// The lines of a callback agent's page.
const PAGE: &[Column<CallbackAgentPage>] = &[
    ("id", |page| page.agent.id.show()),
    ("name", |page| page.agent.name.show()),
    ("direction", |page| page.agent.direction.show()),
    ("status", |page| page.agent.current_status.show()),
    ("source agents", |page| page.source_agents.show()),
    ("callbacks received", |page| {
        page.stats.total_callbacks_received.show()
    }),
    ("callbacks answered", |page| {
        page.stats.callbacks_answered.show()
    }),
];

/// The columns of the list of sources.
const SOURCES: &[Column<AgentBrief>] = &[
    ("ID", |agent| agent.id.show()),
    ("NAME", |agent| agent.name.show()),
    ("DIRECTION", |agent| agent.direction.show()),
    ("STATUS", |agent| agent.current_status.show()),
];

/// The lines of the counts.
const COUNTS: &[Column<CallbackStatistics>] = &[
    ("callbacks received", |counts| {
        counts.total_callbacks_received.show()
    }),
    ("callbacks answered", |counts| {
        counts.callbacks_answered.show()
    }),
    ("unmatched calls", |counts| {
        counts.callbacks_unmatched.show()
    }),
];

/// The columns of the counts by source.
const COUNTS_BY_SOURCE: &[Column<SourceCount>] = &[
    ("SOURCE AGENT", |source| source.source_agent_id.show()),
    ("NAME", |source| source.name.show()),
    ("CALLBACKS", |source| source.count.show()),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback callback set Desk --source Sales
  ringback callback set INBOUND_AGENT_ID --source A --source B \\
    --trigger-status no_answer --recency-window 7d
  ringback callback check INBOUND_AGENT_ID --source OUTBOUND_AGENT_ID
  ringback callback stats --start 2026-01-01 --end 2026-01-31";
