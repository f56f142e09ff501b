//! `ringback number`: phone numbers and their default agents.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::name;
use super::value::{Body, said};
use crate::client::{ApiPath, Client, ClientError};
use crate::exit::{self, Failure};
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
    /// List the environment's numbers: all, or one page
    List {
        /// Only this page, from 1
        #[arg(long, value_name = "N")]
        page: Option<u32>,
        /// Numbers on the page, at most 100 [server default: 20]
        #[arg(long, value_name = "N", requires = "page")]
        per_page: Option<u32>,
    },
    /// Enter numbers; one that is refused does not keep the others out
    Add {
        /// The numbers, in E.164 or as their country writes them
        #[arg(required = true, value_name = "NUMBER")]
        numbers: Vec<String>,
        /// The country in which they are read (ISO 3166-1 alpha-2) [default: the environment's]
        #[arg(long, value_name = "COUNTRY")]
        country_code: Option<String>,
    },
    /// Choose the agent that takes calls which no role claims
    SetDefault {
        /// The number, by id or in E.164
        number: String,
        /// The agent, by id or name: published, inbound and owner of the number
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

/// Runs the verb that was given.
pub(crate) fn run(args: &NumberArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let client = &session.client;
    match &args.verb {
        Verb::List { page, per_page } => {
            let path = ApiPath::new(["phone-numbers"]);
            let answer = client.list(path, *page, *per_page)?;
            session.print(&answer, |list| table(list, COLUMNS))?;
        }
        Verb::Add {
            numbers,
            country_code,
        } => {
            let mut failed = None;
            for number in numbers {
                let body = Body::default()
                    .with("number", Some(number.as_str()))
                    .with("country_code", country_code.as_deref());
                match client.post(&ApiPath::new(["phone-numbers"]), &body.build()) {
                    Ok(answer) => session.print(&answer, |number| record(number, FIELDS))?,
                    Err(error @ ClientError::Refused(_)) if numbers.len() > 1 => {
                        // The last one is told when the command ends.
                        if let Some(before) = failed.replace(Failure::from(error)) {
                            exit::tell(&before, session.json);
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            return failed.map_or(Ok(()), Err);
        }
        Verb::SetDefault {
            number,
            agent,
            none,
        } => {
            let id = id(client, number)?;
            let agent = match agent {
                Some(agent) => Some(name::agent(client, agent)?),
                None => None,
            };
            let body = Body::default()
                .with("default_agent_id", agent)
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

/// The identifiers of numbers that are given by id, in E.164 or as they are listed.
pub(crate) fn ids(client: &Client, numbers: &[String]) -> Result<Vec<String>, ClientError> {
    if numbers.iter().all(|number| name::is_id(number)) {
        return Ok(numbers.to_vec());
    }
    let listed = client.get_all(&ApiPath::new(["phone-numbers"]))?;
    numbers
        .iter()
        .map(|number| {
            if name::is_id(number) {
                return Ok(number.clone());
            }
            let digits: String = number
                .chars()
                .filter(|character| !" -.()/".contains(*character))
                .collect();
            let digits = match digits.strip_prefix("00") {
                Some(rest) => format!("+{rest}"),
                None => digits,
            };
            let found = listed
                .value
                .as_array()
                .into_iter()
                .flatten()
                .find(|listed| {
                    let is = |key: &str, text: &str| {
                        listed.get(key).and_then(Value::as_str) == Some(text)
                    };
                    is("number", &digits) || is("formatted_number", number)
                });
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
  ringback number add +12025550100 +12025550101
  ringback number add '(11) 98765-4321' --country-code BR
  ringback number set-default +12025550100 Desk
  ringback number remove +12025550100";
