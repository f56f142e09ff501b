//! `ringback agent`: agents, their numbers and targets.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use ringback_api::{Agent, AgentNew, AgentPatch, Calling};
use ringback_routing::{AgentStatus, Direction, NumberId};

use super::value::{TargetArg, agent_status, direction, said, targets};
use super::{name, number};
use crate::client::{Answer, ApiPath, Client, ClientError};
use crate::exit::Failure;
use crate::output::{Column, SessionArgs, record, table};
use crate::show::Show;

/// `ringback agent`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AgentArgs {
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
    /// List agents: all, or one page
    List {
        /// Only of this status
        #[arg(long, value_parser = agent_status())]
        status: Option<AgentStatus>,
        /// Only of this direction
        #[arg(long, value_parser = direction())]
        direction: Option<Direction>,
        /// Only with this text in name or label
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only this page, from 1
        #[arg(long, value_name = "N")]
        page: Option<u32>,
        /// Agents on the page, at most 100 [server default: 20]
        #[arg(long, value_name = "N", requires = "page")]
        per_page: Option<u32>,
    },
    /// Make an agent, as a draft unless told otherwise
    Create {
        /// What it calls itself
        #[arg(long)]
        name: String,
        /// What you call it [default: the name]
        #[arg(long)]
        label: Option<String>,
        /// Whether it takes or makes calls
        #[arg(long, value_parser = direction())]
        direction: Direction,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// A number that it owns, by id or in E.164; repeat for several
        #[arg(long, value_name = "NUMBER")]
        number: Vec<String>,
        /// Where its calls go, as `"URI PRIORITY WEIGHT"` (the lowest priority first, shares by
        /// weight within one); repeat for several
        #[arg(long, value_name = "TARGET")]
        target: Vec<TargetArg>,
        /// Let it take part in routing at once
        #[arg(long)]
        publish: bool,
    },
    /// Show one agent
    Show {
        /// The agent, by id or name
        id: String,
    },
    /// Change what is given, leave the rest
    Update {
        /// The agent, by id or name
        id: String,
        /// What it calls itself
        #[arg(long)]
        name: Option<String>,
        /// What you call it
        #[arg(long)]
        label: Option<String>,
        /// Whether it takes or makes calls
        #[arg(long, value_parser = direction())]
        direction: Option<Direction>,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// The numbers that it owns from now on, by id or in E.164; repeat for several
        #[arg(long, value_name = "NUMBER")]
        number: Vec<String>,
        /// Take all its numbers away
        #[arg(long, conflicts_with = "number")]
        no_numbers: bool,
        /// Where its calls go from now on, as `"URI PRIORITY WEIGHT"`; repeat for several
        #[arg(long, value_name = "TARGET")]
        target: Vec<TargetArg>,
        /// Take its own targets away: the environment's template counts
        #[arg(long, conflicts_with = "target")]
        no_targets: bool,
    },
    /// Let it take part in routing
    Publish {
        /// The agent, by id or name
        id: String,
    },
    /// Take it out of routing; its role and its calls stay
    Unpublish {
        /// The agent, by id or name
        id: String,
    },
    /// Delete an unpublished agent, with its calls
    Delete {
        /// The agent, by id or name
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Set direction and numbers in one step
    Calling {
        /// The agent, by id or name
        id: String,
        /// Whether it takes or makes calls
        #[arg(long, value_parser = direction())]
        direction: Direction,
        /// The numbers that it owns from now on, by id or in E.164; repeat for several [default:
        /// those it has]
        #[arg(long, value_name = "NUMBER")]
        number: Vec<String>,
        /// Take all its numbers away
        #[arg(long, conflicts_with = "number")]
        no_numbers: bool,
    },
}

/// Runs the verb that was given.
pub(crate) fn run(args: &AgentArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let client = &session.client;
    let path = |agent: &str, rest: &str| -> Result<ApiPath, ClientError> {
        Ok(ApiPath::new(["agents", &name::agent(client, agent)?.to_string()]).join(rest))
    };
    let answer: Answer<Agent> = match &args.verb {
        Verb::List {
            status,
            direction,
            search,
            page,
            per_page,
        } => {
            let path = ApiPath::new(["agents"])
                .query("status", status.map(AgentStatus::name))
                .query("direction", direction.map(Direction::name))
                .query("search", search.as_deref());
            let answer = client.list(path, *page, *per_page)?;
            session.print(&answer, |list| table(list, COLUMNS))?;
            return Ok(());
        }
        Verb::Create {
            name,
            label,
            direction,
            description,
            number,
            target,
            publish,
        } => {
            let body = AgentNew {
                name: name.clone(),
                label: label.as_ref().unwrap_or(name).clone(),
                direction: *direction,
                description: description.clone(),
                phone_number_ids: number_ids(client, number, false)?,
                targets: targets(target, false),
                external_ids: BTreeMap::new(),
            };
            let made: Answer<Agent> = client.post(&ApiPath::new(["agents"]), &body)?;
            if *publish {
                let id = made.data.id.to_string();
                client.post_nothing(&ApiPath::new(["agents", &id, "publish"]))?
            } else {
                made
            }
        }
        Verb::Show { id } => client.get(&path(id, "")?)?,
        Verb::Update {
            id,
            name,
            label,
            direction,
            description,
            number,
            no_numbers,
            target,
            no_targets,
        } => {
            let body = AgentPatch {
                name: name.clone(),
                label: label.clone(),
                direction: *direction,
                description: description.clone(),
                phone_number_ids: number_ids(client, number, *no_numbers)?,
                targets: targets(target, *no_targets),
                external_ids: BTreeMap::new(),
            };
            client.patch(&path(id, "")?, &body)?
        }
        Verb::Publish { id } => client.post_nothing(&path(id, "publish")?)?,
        Verb::Unpublish { id } => client.post_nothing(&path(id, "unpublish")?)?,
        Verb::Delete { id, yes } => {
            let path = path(id, "")?;
            session.confirm(*yes, &format!("Delete the agent {id} and all its calls?"))?;
            session.print(&client.delete(&path)?, said)?;
            return Ok(());
        }
        Verb::Calling {
            id,
            direction,
            number,
            no_numbers,
        } => {
            let body = Calling {
                direction: *direction,
                phone_number_ids: number_ids(client, number, *no_numbers)?,
            };
            client.put(&path(id, "calling")?, &body)?
        }
    };
    session.print(&answer, |agent| record(agent, FIELDS))?;
    Ok(())
}

/// The identifiers of numbers that are given by id or in E.164; `None`: nothing is given.
fn number_ids(
    client: &Client,
    numbers: &[String],
    none: bool,
) -> Result<Option<Vec<NumberId>>, ClientError> {
    if numbers.is_empty() {
        return Ok(none.then(Vec::new));
    }
    number::ids(client, numbers).map(Some)
}

/// The columns of the list.
const COLUMNS: &[Column<Agent>] = &[
    ("ID", |agent| agent.id.show()),
    ("NAME", |agent| agent.name.show()),
    ("LABEL", |agent| agent.label.show()),
    ("DIRECTION", |agent| agent.direction.show()),
    ("STATUS", |agent| agent.current_status.show()),
    ("NUMBERS", |agent| agent.phone_numbers.show()),
];

/// The lines of one agent.
const FIELDS: &[Column<Agent>] = &[
    ("id", |agent| agent.id.show()),
    ("name", |agent| agent.name.show()),
    ("label", |agent| agent.label.show()),
    ("description", |agent| agent.description.show()),
    ("direction", |agent| agent.direction.show()),
    ("status", |agent| agent.current_status.show()),
    ("numbers", |agent| agent.phone_numbers.show()),
    ("targets", |agent| agent.targets.show()),
    ("created", |agent| agent.created_at.show()),
    ("updated", |agent| agent.updated_at.show()),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback agent create --name 'Solar sales' --direction outbound --number +12025550100 --publish
  ringback agent create --name 'Solar callbacks' --direction inbound --number +12025550100 \\
    --target 'sip:solar@10.0.0.5 10 70' --target 'sip:solar@10.0.0.6 10 30'
  ringback agent publish 'Solar sales'
  ringback agent list --direction inbound --json";
