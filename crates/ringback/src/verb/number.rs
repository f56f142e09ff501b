//! `ringback number`: phone numbers and their default agents.

use clap::{Args, Subcommand};
use ringback_api::{CallingNumber, Change, PhoneNumber, PhoneNumberNew, PhoneNumberPatch};
use ringback_routing::{NumberId, Outcome};

use super::name;
use super::value::said;
use crate::client::{ApiPath, Client, ClientError};
use crate::exit::{self, Failure};
use crate::output::{Column, SessionArgs, record, table};
use crate::show::{Show, Shown};

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
    /// List the numbers that outbound calls came from in the last 30 days, and where a return to each would go now;
    /// exit code 1 if one is not owned, or nobody takes its returns
    Audit,
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
                let body = PhoneNumberNew {
                    number: number.clone(),
                    country_code: country_code.clone(),
                };
                match client.post(&ApiPath::new(["phone-numbers"]), &body) {
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
            let path = path(client, number)?;
            let agent = match agent {
                Some(agent) => Some(name::agent(client, agent)?),
                None => None,
            };
            let body = PhoneNumberPatch {
                default_agent_id: Change::of(agent, *none),
            };
            let answer = client.patch(&path, &body)?;
            session.print(&answer, |number| record(number, FIELDS))?;
        }
        Verb::Audit => {
            let answer = client.get(&ApiPath::new(["phone-numbers", "audit"]))?;
            session.print(&answer, |list: &Vec<_>| table(list, AUDITED))?;
            let is_unreached = |row: &&CallingNumber| !row.owned || row.outcome == Outcome::Refused;
            match answer.data.iter().filter(is_unreached).count() {
                0 => {}
                unreached => return Err(Failure::Unreached(unreached)),
            }
        }
        Verb::Remove { number } => {
            let answer = client.delete(&path(client, number)?)?;
            session.print(&answer, said)?;
        }
    }
    Ok(())
}

/// The identifiers of numbers that are given by id, in E.164 or as they are listed.
pub(crate) fn ids(client: &Client, numbers: &[String]) -> Result<Vec<NumberId>, ClientError> {
    let given: Option<Vec<NumberId>> = numbers.iter().map(|number| number.parse().ok()).collect();
    if let Some(ids) = given {
        return Ok(ids);
    }
    let listed: Vec<PhoneNumber> = client.get_all(&ApiPath::new(["phone-numbers"]))?.data;
    numbers
        .iter()
        .map(|number| {
            if let Ok(id) = number.parse() {
                return Ok(id);
            }
            let digits: String = number
                .chars()
                .filter(|character| !" -.()/".contains(*character))
                .collect();
            let digits = match digits.strip_prefix("00") {
                Some(rest) => format!("+{rest}"),
                None => digits,
            };
            let found = listed.iter().find(|listed| {
                listed.number.to_string() == digits || listed.formatted_number == *number
            });
            found.map(|found| found.id).ok_or_else(|| {
                ClientError::NotFound(format!("{number} is not a number of this environment"))
            })
        })
        .collect()
}

/// The path of a number that is given by id or in E.164.
fn path(client: &Client, number: &str) -> Result<ApiPath, ClientError> {
    let id = ids(client, &[number.to_owned()])?.swap_remove(0);
    Ok(ApiPath::new(["phone-numbers", &id.to_string()]))
}

/// The columns of the list.
const COLUMNS: &[Column<PhoneNumber>] = &[
    ("ID", |number| number.id.show()),
    ("NUMBER", |number| number.number.show()),
    ("COUNTRY", |number| number.country_code.show()),
    ("DEFAULT AGENT", |number| number.default_agent_id.show()),
    ("AGENTS", |number| number.agents.show()),
];

/// The columns of the audit.
const AUDITED: &[Column<CallingNumber>] = &[
    ("NUMBER", |row| row.number.show()),
    ("OWNED", |row| row.owned.show()),
    ("CALLS", |row| Shown::of(row.calls)),
    ("LAST CALL", |row| row.last_called_at.show()),
    ("A RETURN", |row| Shown::of(row.outcome.name())),
    ("REASON", |row| Shown::of(row.reason.name())),
    ("AGENT", |row| row.agent.show()),
];

/// The lines of one number.
const FIELDS: &[Column<PhoneNumber>] = &[
    ("id", |number| number.id.show()),
    ("number", |number| number.number.show()),
    ("formatted", |number| number.formatted_number.show()),
    ("country", |number| number.country_code.show()),
    ("default agent", |number| number.default_agent_id.show()),
    ("agents", |number| number.agents.show()),
    ("created", |number| number.created_at.show()),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback number add +12025550100 +12025550101
  ringback number add '(11) 98765-4321' --country-code BR
  ringback number set-default +12025550100 Desk
  ringback number audit
  ringback number remove +12025550100";
