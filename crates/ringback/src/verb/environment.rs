//! `ringback environment`: tenants, their settings and their tokens.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::name;
use super::value::{Body, TargetArg, said, seconds};
use crate::client::ApiPath;
use crate::exit::Failure;
use crate::output::{SessionArgs, record, table};

/// `ringback environment`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EnvironmentArgs {
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
    /// List all environments
    List,
    /// Make an environment
    Create {
        /// Its name
        #[arg(long)]
        name: String,
        /// Its settings.
        #[command(flatten)]
        settings: Settings,
    },
    /// Show one environment
    Show {
        /// The environment, by id or name
        id: String,
    },
    /// Change the settings that are given, leave the others
    Update {
        /// The environment, by id or name
        id: String,
        /// The new name
        #[arg(long)]
        name: Option<String>,
        /// The settings.
        #[command(flatten)]
        settings: Settings,
        /// Forget the default country
        #[arg(long, conflicts_with = "default_country")]
        no_default_country: bool,
        /// Forget the target template
        #[arg(long, conflicts_with = "target_template")]
        no_target_template: bool,
        /// Empty the list of fallback targets
        #[arg(long, conflicts_with = "fallback_target")]
        no_fallback_targets: bool,
    },
    /// Delete an environment that has no agents and numbers left
    Delete {
        /// The environment, by id or name
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Make, list and end the environment's tokens
    Token {
        /// What to do.
        #[command(subcommand)]
        verb: TokenVerb,
    },
}

/// The settings of an environment.
#[derive(Debug, Args)]
struct Settings {
    /// Country in which numbers without + are read (ISO 3166-1 alpha-2), as `BR`
    #[arg(long, value_name = "COUNTRY")]
    default_country: Option<String>,
    /// What digits without + are: a number as dialed within the country, or E.164 [server default: national]
    #[arg(long, value_name = "FORM", value_parser = ["national", "e164"])]
    number_form: Option<String>,
    /// How old a call may be and still be returned: seconds, or 90m, 12h, 30d [server default: 30d]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    recency_window: Option<u64>,
    /// SIP URI for agents without targets of their own, as `sip:{agent_id}@agents.example.com`; also {dialed}, {caller}, {source_agent_id}
    #[arg(long, value_name = "URI")]
    target_template: Option<String>,
    /// Where calls go that no agent takes, as `"URI PRIORITY WEIGHT"`; repeat for several
    #[arg(long, value_name = "TARGET")]
    fallback_target: Vec<TargetArg>,
}

impl Settings {
    /// The body of a request.
    fn body(&self, name: Option<&str>, no_fallback_targets: bool) -> Body {
        Body::default()
            .with("name", name)
            .with("default_country", self.default_country.as_deref())
            .with("number_form", self.number_form.as_deref())
            .with("recency_window_seconds", self.recency_window)
            .with("target_template", self.target_template.as_deref())
            .targets(
                "fallback_targets",
                &self.fallback_target,
                no_fallback_targets,
            )
    }
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Make a token; it is shown this once
    Create {
        /// The environment, by id or name
        environment: String,
        /// What to call the token
        #[arg(long)]
        name: Option<String>,
    },
    /// List the tokens, without what is secret
    List {
        /// The environment, by id or name
        environment: String,
    },
    /// End a token at once
    Delete {
        /// The environment, by id or name
        environment: String,
        /// The token, by id or name
        // Not `token`: arguments with one name share one value, and `--token` is another.
        token_id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Runs the verb that was given.
pub(crate) fn run(args: &EnvironmentArgs) -> Result<(), Failure> {
    let session = args.session.open()?;
    let client = &session.client;
    match &args.verb {
        Verb::List => {
            let answer = client.get(&ApiPath::new(["environments"]))?;
            session.print(&answer, |list| table(list, COLUMNS))?;
        }
        Verb::Create { name, settings } => {
            let body = settings.body(Some(name), false).build();
            let answer = client.post(&ApiPath::new(["environments"]), &body)?;
            session.print(&answer, show)?;
        }
        Verb::Show { id } => {
            let id = &name::environment(client, id)?;
            let answer = client.get(&ApiPath::new(["environments", id]))?;
            session.print(&answer, show)?;
        }
        Verb::Update {
            id,
            name,
            settings,
            no_default_country,
            no_target_template,
            no_fallback_targets,
        } => {
            let id = &name::environment(client, id)?;
            let body = settings
                .body(name.as_deref(), *no_fallback_targets)
                .clear("default_country", *no_default_country)
                .clear("target_template", *no_target_template)
                .build();
            let answer = client.patch(&ApiPath::new(["environments", id]), &body)?;
            session.print(&answer, show)?;
        }
        Verb::Delete { id, yes } => {
            session.confirm(*yes, &format!("Delete the environment {id}?"))?;
            let id = &name::environment(client, id)?;
            let answer = client.delete(&ApiPath::new(["environments", id]))?;
            session.print(&answer, |answer| said(answer, "Environment deleted"))?;
        }
        Verb::Token {
            verb: TokenVerb::Create { environment, name },
        } => {
            let environment = &name::environment(client, environment)?;
            let body = Body::default().with("name", name.as_deref()).build();
            let path = ApiPath::new(["environments", environment, "tokens"]);
            let answer = client.post(&path, &body)?;
            session.print(&answer, |token| record(token, NEW_TOKEN))?;
        }
        Verb::Token {
            verb: TokenVerb::List { environment },
        } => {
            let environment = &name::environment(client, environment)?;
            let answer = client.get(&ApiPath::new(["environments", environment, "tokens"]))?;
            session.print(&answer, |list| table(list, TOKEN_COLUMNS))?;
        }
        Verb::Token {
            verb:
                TokenVerb::Delete {
                    environment,
                    token_id,
                    yes,
                },
        } => {
            let question = format!("End the token {token_id} of {environment} at once?");
            session.confirm(*yes, &question)?;
            let environment = &name::environment(client, environment)?;
            let token_id = &name::token(client, environment, token_id)?;
            let path = ApiPath::new(["environments", environment, "tokens", token_id]);
            let answer = client.delete(&path)?;
            session.print(&answer, |answer| said(answer, "Token deleted"))?;
        }
    }
    Ok(())
}

/// One environment, for people.
fn show(environment: &Value) -> String {
    record(environment, FIELDS)
}

/// The columns of the list.
const COLUMNS: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("COUNTRY", "/default_country"),
    ("WINDOW (S)", "/recency_window_seconds"),
    ("CREATED", "/created_at"),
];

/// The lines of one environment.
const FIELDS: &[(&str, &str)] = &[
    ("id", "/id"),
    ("name", "/name"),
    ("default country", "/default_country"),
    ("number form", "/number_form"),
    ("recency window (s)", "/recency_window_seconds"),
    ("target template", "/target_template"),
    ("fallback targets", "/fallback_targets"),
    ("created", "/created_at"),
];

/// The columns of the list of tokens.
const TOKEN_COLUMNS: &[(&str, &str)] =
    &[("ID", "/id"), ("NAME", "/name"), ("CREATED", "/created_at")];

/// The lines of a new token.
const NEW_TOKEN: &[(&str, &str)] = &[
    ("id", "/id"),
    ("name", "/name"),
    ("token (shown this once)", "/token"),
    ("created", "/created_at"),
];

/// Examples.
const EXAMPLES: &str = "\
Examples:
  export RINGBACK_TOKEN=$(cat ringback-data/admin.token)
  ringback environment create --name acme --default-country BR \\
    --target-template 'sip:{agent_id}@agents.example.com'
  ringback environment token create acme --name ci";
