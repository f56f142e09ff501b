//! `ringback agent`: agents, their numbers and targets.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::value::{Body, TargetArg, said};
use super::{name, number};
use crate::client::{ApiPath, Client, ClientError};
use crate::exit::Failure;
use crate::output::{SessionArgs, record, table};

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
        #[arg(long)]
        status: Option<Status>,
        /// Only of this direction
        #[arg(long)]
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
    /// Make an agent, as a draft
    Create {
        /// What it calls itself
        #[arg(long)]
        name: String,
        /// What you call it [default: the name]
        #[arg(long)]
        label: Option<String>,
        /// Whether it takes or makes calls
        #[arg(long)]
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
        #[arg(long)]
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
        #[arg(long)]
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

/// Whether an agent takes or makes calls.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    /// Takes calls
    Inbound,
    /// Makes calls
    Outbound,
}

impl Direction {
    /// As the API writes it.
    fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Whether an agent takes part in routing.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    /// Not yet
    Draft,
    /// Yes
    Published,
}

impl Status {
    /// As the API writes it.
    fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
        }
    }
}

/// Runs the verb that was given.
pub(crate) fn run(args: &AgentArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let client = &session.client;
    let id = &match &args.verb {
        Verb::List { .. } | Verb::Create { .. } => String::new(),
        Verb::Show { id }
        | Verb::Update { id, .. }
        | Verb::Publish { id }
        | Verb::Unpublish { id }
        | Verb::Delete { id, .. }
        | Verb::Calling { id, .. } => name::agent(client, id)?,
    };
    let answer = match &args.verb {
        Verb::List {
            status,
            direction,
            search,
            page,
            per_page,
        } => {
            let path = ApiPath::new(["agents"])
                .query("status", status.map(Status::name))
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
        } => {
            let body = Body::default()
                .with("name", Some(name.as_str()))
                .with("label", Some(label.as_ref().unwrap_or(name).as_str()))
                .with("direction", Some(direction.name()))
                .with("description", description.as_deref())
                .with("phone_number_ids", number_ids(client, number, false)?)
                .targets("targets", target, false);
            client.post(&ApiPath::new(["agents"]), &body.build())?
        }
        Verb::Show { .. } => client.get(&ApiPath::new(["agents", id]))?,
        Verb::Update {
            name,
            label,
            direction,
            description,
            number,
            no_numbers,
            target,
            no_targets,
            ..
        } => {
            let body = Body::default()
                .with("name", name.as_deref())
                .with("label", label.as_deref())
                .with("direction", direction.map(Direction::name))
                .with("description", description.as_deref())
                .with("phone_number_ids", number_ids(client, number, *no_numbers)?)
                .targets("targets", target, *no_targets);
            client.patch(&ApiPath::new(["agents", id]), &body.build())?
        }
        Verb::Publish { .. } => client.post(
            &ApiPath::new(["agents", id, "publish"]),
            &Body::default().build(),
        )?,
        Verb::Unpublish { .. } => client.post(
            &ApiPath::new(["agents", id, "unpublish"]),
            &Body::default().build(),
        )?,
        Verb::Delete { id: given, yes } => {
            let question = format!("Delete the agent {given} and all its calls?");
            session.confirm(*yes, &question)?;
            let answer = client.delete(&ApiPath::new(["agents", id]))?;
            session.print(&answer, |answer| said(answer, "Agent deleted"))?;
            return Ok(());
        }
        Verb::Calling {
            direction,
            number,
            no_numbers,
            ..
        } => {
            let body = Body::default()
                .with("direction", Some(direction.name()))
                .with("phone_number_ids", number_ids(client, number, *no_numbers)?);
            client.put(&ApiPath::new(["agents", id, "calling"]), &body.build())?
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
) -> Result<Option<Vec<Value>>, ClientError> {
    if numbers.is_empty() {
        return Ok(none.then(Vec::new));
    }
    let ids = number::ids(client, numbers)?;
    Ok(Some(ids.into_iter().map(Value::from).collect()))
}

/// The columns of the list.
const COLUMNS: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("LABEL", "/label"),
    ("DIRECTION", "/direction"),
    ("STATUS", "/current_status"),
    ("NUMBERS", "/phone_numbers"),
];

/// The lines of one agent.
const FIELDS: &[(&str, &str)] = &[
    ("id", "/id"),
    ("name", "/name"),
    ("label", "/label"),
    ("description", "/description"),
    ("direction", "/direction"),
    ("status", "/current_status"),
    ("numbers", "/phone_numbers"),
    ("targets", "/targets"),
    ("created", "/created_at"),
    ("updated", "/updated_at"),
];

/// Examples.
const EXAMPLES: &str = "\
Examples:
  ringback agent create --name 'Solar sales' --direction outbound --number +12025550100
  ringback agent create --name 'Solar callbacks' --direction inbound --number +12025550100 \\
    --target 'sip:solar@10.0.0.5 10 70' --target 'sip:solar@10.0.0.6 10 30'
  ringback agent publish 'Solar sales'
  ringback agent list --direction inbound --json";
