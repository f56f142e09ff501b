//! `ringback contact`: what is remembered of a contact.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::value::said;
use crate::client::ApiPath;
use crate::exit::Failure;
use crate::output::{SessionArgs, cell, table};

/// `ringback contact`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ContactArgs {
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
    /// Show the remembered calls, newest first
    Show {
        /// The contact's number
        number: String,
    },
    /// Forget the contact everywhere (erasure request)
    Forget {
        /// The contact's number
        number: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Runs the verb that was given.
pub(crate) fn run(args: &ContactArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    match &args.verb {
        Verb::Show { number } => {
            let answer = session.client.get(&ApiPath::new(["contacts", number]))?;
            session.print(&answer, |contact| {
                let calls = contact.pointer("/calls").unwrap_or(&Value::Null);
                format!(
                    "{}\n\n{}",
                    cell(contact.pointer("/number")),
                    table(calls, COLUMNS)
                )
            })?;
        }
        Verb::Forget { number, yes } => {
            session.confirm(*yes, &format!("Forget {number} and all its calls?"))?;
            let answer = session.client.delete(&ApiPath::new(["contacts", number]))?;
            session.print(&answer, |answer| said(answer, "Contact forgotten"))?;
        }
    }
    Ok(())
}

/// The columns of the calls.
const COLUMNS: &[(&str, &str)] = &[
    ("STARTED", "/started_at"),
    ("STATUS", "/status"),
    ("FROM", "/from"),
    ("AGENT", "/agent_id"),
    ("SID", "/sid"),
];

/// Examples.
const EXAMPLES: &str = "\
Examples:
  ringback contact show +12025550142
  ringback contact forget +12025550142";
