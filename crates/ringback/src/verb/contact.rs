//! `ringback contact`: what is remembered of a contact.

use clap::{Args, Subcommand};
use ringback_api::{
    Call, Contact, ContactExport, Erased, OptOut, OptOutNew, Reassigned, ReassignedNew,
};

use crate::client::{Answer, ApiPath};
use crate::exit::Failure;
use crate::output::{Column, SessionArgs, record, table};
use crate::show::{Show, Shown};

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
    /// Print all that is known of a number, as JSON
    Export {
        /// The number
        number: String,
    },
    /// Say that the contact does not want to be called, or may be called again
    OptOut {
        /// The contact's number
        number: String,
        /// Why: 1 to 40 of a-z, 0-9, _, . and -
        #[arg(long, value_name = "WORD")]
        reason: Option<String>,
        /// Until when (RFC 3339) [default: for good]
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// It may be called again
        #[arg(long, conflicts_with_all = ["reason", "until"])]
        end: bool,
    },
    /// Say that the number was given to somebody else: calls from before that day do not count
    Reassigned {
        /// The number
        number: String,
        /// The day (UTC), such as 2026-01-31
        #[arg(long, value_name = "DAY")]
        before: String,
    },
    /// Forget the contact everywhere (erasure request)
    Forget {
        /// The contact's number
        number: String,
        /// Say, too, that it does not want to be called
        #[arg(long)]
        opt_out: bool,
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
        Verb::Export { number } => {
            let path = ApiPath::new(["contacts", number]).join("export");
            let answer: Answer<ContactExport> = session.client.get(&path)?;
            let text = serde_json::to_string_pretty(&answer.data);
            let text = text.map_err(std::io::Error::other)?;
            session.print(&answer, |_| format!("{text}\n"))?;
        }
        Verb::OptOut {
            number,
            reason,
            until,
            end,
        } => {
            let path = ApiPath::new(["opt-outs", number]);
            let answer = if *end {
                session.client.delete(&path)?
            } else {
                let body = OptOutNew {
                    reason: reason.clone(),
                    until: until.clone(),
                };
                session.client.put(&path, &body)?
            };
            session.print(&answer, |opt_out| record(opt_out, OPT_OUT))?;
        }
        Verb::Reassigned { number, before } => {
            let path = ApiPath::new(["contacts", number]).join("reassigned");
            let body = ReassignedNew {
                before: before.clone(),
            };
            let answer = session.client.post(&path, &body)?;
            session.print(&answer, |reassigned| record(reassigned, REASSIGNED))?;
        }
        Verb::Forget {
            number,
            opt_out,
            yes,
        } => {
            session.confirm(*yes, &format!("Forget {number} and all its calls?"))?;
            let path = ApiPath::new(["contacts", number]);
            let path = path.query("opt_out", opt_out.then_some("true"));
            let answer = session.client.delete(&path)?;
            session.print(&answer, |erased| record(erased, ERASED))?;
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

/// The lines of an opt-out.
const OPT_OUT: &[Column<OptOut>] = &[
    ("number", |opt_out| Shown::of(&opt_out.number)),
    ("opted out", |opt_out| opt_out.opted_out.show()),
    ("reason", |opt_out| opt_out.reason.show()),
    ("until", |opt_out| opt_out.until.show()),
    ("noted", |opt_out| opt_out.created_at.show()),
];

/// The lines of a number that was given to somebody else.
const REASSIGNED: &[Column<Reassigned>] = &[
    ("number", |reassigned| Shown::of(&reassigned.number)),
    ("before", |reassigned| Shown::of(&reassigned.before)),
];

/// The lines of a contact that was forgotten.
const ERASED: &[Column<Erased>] = &[
    ("number", |erased| Shown::of(&erased.number)),
    ("erased", |erased| erased.erased_at.show()),
    ("clean by", |erased| erased.clean_by.show()),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback contact show +12025550142
  ringback contact opt-out +12025550142 --reason sms.stop
  ringback contact export +12025550142 > contact.json
  ringback contact forget +12025550142 --opt-out";
