//! `ringback number`: phone numbers and their default agents.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::value::{Body, said};
use crate::client::{ApiPath, Client, ClientError};
use crate::exit::Failure;
use crate::output::{SessionArgs, record, table};

/// `ringback number`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NumberArgs {
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
    /// List the environment's numbers
    List,
    /// Enter a number
    Add {
        /// The number, in E.164 or as its country writes it
        #[arg(allow_hyphen_values = true)]
        number: String,
        /// The country in which it is read (ISO 3166-1 alpha-2) [default: the environment's]
        #[arg(long, value_name = "COUNTRY")]
        country_code: Option<String>,
    },
    /// Choose the agent that takes calls which no role claims
    SetDefault {
        /// The number, by id or in E.164
        number: String,
        /// The agent's id: published, inbound and owner of the number
        #[arg(required_unless_present = "none")]
        agent: Option<String>,
        /// Choose none: the first assigned published inbound agent counts
        #[arg(long, conflicts_with = "agent")]
        none: bool,
    },
    /// Remove a number that is assigned to no agent
    Remove {
        /// The number, by id or in E.164
        number: String,
    },
}

/// Does it.
pub(crate) fn run(args: &NumberArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let client = &session.client;
    match &args.verb {
        Verb::List => {
            let answer = client.get(&ApiPath::new(["phone-numbers"]))?;
            session.print(&answer, |list| table(list, COLUMNS))?;
        }
        Verb::Add {
            number,
            country_code,
        } => {
            let body = Body::default()
                .with("number", Some(number.as_str()))
                .with("country_code", country_code.as_deref());
            let answer = client.post(&ApiPath::new(["phone-numbers"]), &body.build())?;
            session.print(&answer, |number| record(number, FIELDS))?;
        }
        Verb::SetDefault {
            number,
            agent,
            none,
        } => {
            let id = id(client, number)?;
            let body = Body::default()
                .with("default_agent_id", agent.as_deref())
                .clear("default_agent_id", *none);
            let answer = client.patch(&ApiPath::new(["phone-numbers", &id]), &body.build())?;
            session.print(&answer, |number| record(number, FIELDS))?;
        }
        Verb::Remove { number } => {
            let id = id(client, number)?;
            let answer = client.delete(&ApiPath::new(["phone-numbers", &id]))?;
            session.print(&answer, |answer| said(answer, "Phone number removed"))?;
        }
    }
    Ok(())
}

/// The identifiers of numbers that are given by id or in E.164.
pub(crate) fn ids(client: &Client, numbers: &[String]) -> Result<Vec<String>, ClientError> {
    // Only what is written like a number needs looking up; the server judges the rest.
    if !numbers.iter().any(|number| number.starts_with('+')) {
        return Ok(numbers.to_vec());
    }
    let listed = client.get(&ApiPath::new(["phone-numbers"]))?;
    numbers
        .iter()
        .map(|number| {
            if !number.starts_with('+') {
                return Ok(number.clone());
            }
            let found = listed
                .value
                .as_array()
                .into_iter()
                .flatten()
                .find(|listed| listed.get("number").and_then(Value::as_str) == Some(number));
            found
                .and_then(|found| found.get("id").and_then(Value::as_str))
                .map(str::to_owned)
                .ok_or_else(|| {
                    ClientError::NotFound(format!("{number} is not a number of this environment"))
                })
        })
        .collect()
}

/// The identifier of a number that is given by id or in E.164.
fn id(client: &Client, number: &str) -> Result<String, ClientError> {
    Ok(ids(client, &[number.to_owned()])?.swap_remove(0))
}

/// The columns of the list.
const COLUMNS: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("NUMBER", "/number"),
    ("COUNTRY", "/country_code"),
    ("DEFAULT AGENT", "/default_agent_id"),
    ("AGENTS", "/agents"),
];

/// The lines of one number.
const FIELDS: &[(&str, &str)] = &[
    ("id", "/id"),
    ("number", "/number"),
    ("formatted", "/formatted_number"),
    ("country", "/country_code"),
    ("default agent", "/default_agent_id"),
    ("agents", "/agents"),
    ("created", "/created_at"),
];

/// Examples.
const EXAMPLES: &str = "\
Examples:
  ringback number add +12025550100
  ringback number add '(11) 98765-4321' --country-code BR
  ringback number set-default +12025550100 AGENT_ID
  ringback number remove +12025550100";
