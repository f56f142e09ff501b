//! `ringback contact`: what is remembered of a contact.

use clap::{Args, Subcommand};
use ringback_api::{Call, Contact};

use super::value::said;
use crate::client::ApiPath;
use crate::exit::Failure;
use crate::output::{Column, SessionArgs, table};
use crate::show::Show;

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
            session.print(&answer, |contact: &Contact| {
                format!("{}\n\n{}", contact.number, table(&contact.calls, COLUMNS))
            })?;
        }
        Verb::Forget { number, yes } => {
            session.confirm(*yes, &format!("Forget {number} and all its calls?"))?;
            let answer = session.client.delete(&ApiPath::new(["contacts", number]))?;
            session.print(&answer, said)?;
        }
    }
    Ok(())
}

/// The columns of the calls.
const COLUMNS: &[Column<Call>] = &[
    ("STARTED", |call| call.started_at.show()),
    ("STATUS", |call| call.status.show()),
    ("FROM", |call| call.from.show()),
    ("AGENT", |call| call.agent_id.show()),
    ("SID", |call| call.sid.show()),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback contact show +12025550142
  ringback contact forget +12025550142";
